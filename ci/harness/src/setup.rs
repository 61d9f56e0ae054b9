//! What the host must have: checked before each command, installed where we know how (Debian), named where we do not.
//!
//! A second run finds everything present, so it needs no network and changes nothing.

use crate::process;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names another QEMU binary than the one in `PATH`.
pub const QEMU_VARIABLE: &str = "QEMU_SYSTEM_AARCH64";

/// The oldest QEMU that the harness is used with (`-netdev stream` and GICv3 details).
pub const QEMU_MAJOR: u32 = 9;

/// A group of things that a command needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// The bare-metal Rust targets.
    Targets,
    /// QEMU for AArch64.
    Qemu,
    /// `ip`, `unshare` and a TAP device: the host's side of the external segment.
    Network,
    /// `redis-cli` and `redis-benchmark`: the unmodified clients of the demonstration.
    Redis,
}

/// Makes sure that all `needs` are there: installs what is missing where that is possible (and says so on standard error),
/// otherwise fails with what to install.
pub fn ensure(needs: &[Need]) -> Result<()> {
    let mut packages = Vec::new();
    for need in needs {
        match need {
            Need::Targets => ensure_targets()?,
            Need::Qemu => {
                if let Err(missing) = qemu() {
                    // A binary that the user named is theirs to mend.
                    if std::env::var_os(QEMU_VARIABLE).is_some() {
                        return Err(missing);
                    }
                    packages.push("qemu-system-arm");
                }
            }
            Need::Network => {
                if find("ip").is_none() {
                    packages.push("iproute2");
                }
                if find("unshare").is_none() {
                    packages.push("util-linux");
                }
            }
            Need::Redis => {
                if find("redis-cli").is_none() || find("redis-benchmark").is_none() {
                    packages.push("redis-tools");
                }
            }
        }
    }
    if !packages.is_empty() {
        install(&packages)?;
    }
    if needs.contains(&Need::Qemu) {
        qemu()?;
    }
    if needs.contains(&Need::Network) { tun_device(Path::new("/dev/net/tun")) } else { Ok(()) }
}

/// Checks that the device behind TAPs is there and may be opened.
fn tun_device(device: &Path) -> Result<()> {
    if !device.exists() {
        bail!(
            "{} is missing: the host's side of the cluster's network is a TAP device.\n\
             Load the module (`modprobe tun`), or in a container pass the device through (`--device /dev/net/tun`).",
            device.display()
        );
    }
    std::fs::OpenOptions::new().read(true).write(true).open(device).with_context(|| {
        format!("{0} may not be opened by this user; run as root, or allow it (`chmod 666 {0}`)", device.display())
    })?;
    Ok(())
}

/// The QEMU binary to use, after checking that it runs and is new enough.
pub fn qemu() -> Result<PathBuf> {
    let path = match std::env::var_os(QEMU_VARIABLE) {
        Some(path) => PathBuf::from(path),
        None => find("qemu-system-aarch64").context(
            "qemu-system-aarch64 is not installed (Debian: package qemu-system-arm; macOS: `brew install qemu`; or set \
             QEMU_SYSTEM_AARCH64 to the binary)",
        )?,
    };
    let banner = process::output(Command::new(&path).arg("--version"))
        .with_context(|| format!("{} does not run as QEMU", path.display()))?;
    let major = qemu_major(&banner).with_context(|| format!("{} does not say its version", path.display()))?;
    if major < QEMU_MAJOR {
        bail!(
            "{} is QEMU {major}; at least {QEMU_MAJOR} is needed (Debian 12: from bookworm-backports)",
            path.display()
        );
    }
    Ok(path)
}

/// The major version in the first line of `qemu --version`.
fn qemu_major(banner: &str) -> Option<u32> {
    let version = banner.split("version ").nth(1)?;
    version.split('.').next()?.trim().parse().ok()
}

/// A program in `PATH` or where administrators' tools live.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|candidate| candidate.is_file())
}

fn ensure_targets() -> Result<()> {
    for target in [crate::build::USER_TARGET, crate::build::KERNEL_TARGET] {
        let dir = process::output(Command::new("rustc").args(["--print", "target-libdir", "--target", target]))?;
        if Path::new(dir.trim()).is_dir() {
            continue;
        }
        eprintln!("setup: installing the Rust target {target}");
        if find("rustup").is_none() {
            bail!(
                "the Rust target {target} is missing and rustup is not installed; install rustup (https://rustup.rs)"
            );
        }
        process::run(Command::new("rustup").args(["target", "add", target]))?;
    }
    Ok(())
}

/// Installs Debian packages, as root or with `sudo`; elsewhere says what to install.
fn install(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if find("apt-get").is_none() {
        bail!("missing: {list} (Debian package names). Install the equivalents of your system and try again.");
    }
    let root = nix::unistd::geteuid().is_root();
    if !root && find("sudo").is_none() {
        bail!("missing: {list}. Install them as root: apt-get install {list}");
    }
    eprintln!("setup: installing {list} with apt-get");
    apt(root, &["update", "-qq"])?;
    if packages.contains(&"qemu-system-arm") && candidate_major("qemu-system-arm") < Some(QEMU_MAJOR) {
        add_backports(root)?;
        apt(root, &["install", "-y", "-qq", "--no-install-recommends", "-t", "bookworm-backports", "qemu-system-arm"])?;
    }
    let mut args = vec!["install", "-y", "-qq", "--no-install-recommends"];
    args.extend(packages);
    apt(root, &args)
}

fn apt(root: bool, args: &[&str]) -> Result<()> {
    let mut command = as_root(root, "apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args(args).stdout(std::io::stderr());
    process::run(&mut command)
}

fn as_root(root: bool, program: &str) -> Command {
    if root {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg(program);
    command
}

/// The major version that apt would install, if it knows the package.
fn candidate_major(package: &str) -> Option<u32> {
    let policy = process::output(Command::new("apt-cache").args(["policy", package])).ok()?;
    let version = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate:"))?.trim();
    let upstream = version.split_once(':').map_or(version, |(_, rest)| rest);
    upstream.split('.').next()?.parse().ok()
}

/// Debian 12 has QEMU 7.2; its backports have a current one. The mirror is the one that this system already uses.
fn add_backports(root: bool) -> Result<()> {
    let os = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    if !os.lines().any(|line| line == "VERSION_CODENAME=bookworm") {
        bail!(
            "the QEMU of this system's packages is older than {QEMU_MAJOR}; install a newer one and set {QEMU_VARIABLE}"
        );
    }
    let mirror = debian_mirror().context("no Debian mirror in the apt sources; add bookworm-backports by hand")?;
    let line = format!("deb {mirror} bookworm-backports main\n");
    eprintln!("setup: adding the apt source: {}", line.trim_end());
    let file = "/etc/apt/sources.list.d/bookworm-backports.list";
    let staged = std::env::temp_dir().join(format!("smi-backports-{}", std::process::id()));
    std::fs::write(&staged, line)?;
    let copied = process::run(as_root(root, "install").args(["-m", "644"]).arg(&staged).arg(file));
    let _ = std::fs::remove_file(&staged);
    copied?;
    apt(root, &["update", "-qq"])
}

/// The first mirror that the apt sources name for Debian's main archive.
fn debian_mirror() -> Option<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    let listed = std::fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten();
    files.extend(listed.map(|entry| entry.path()));
    files.iter().filter_map(|file| std::fs::read_to_string(file).ok()).find_map(|text| mirror_in(&text))
}

/// Finds the mirror in one sources file, of the one-line or the deb822 form.
fn mirror_in(text: &str) -> Option<String> {
    let is_debian = |word: &&str| word.starts_with("http") && word.trim_end_matches('/').ends_with("/debian");
    let mut lines = text.lines().map(str::trim).filter(|line| line.starts_with("deb ") || line.starts_with("URIs:"));
    lines.find_map(|line| line.split_whitespace().find(is_debian).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_banner() {
        assert_eq!(qemu_major("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright"), Some(10));
        assert_eq!(qemu_major("QEMU emulator version 7.2.11"), Some(7));
        assert_eq!(qemu_major("something else"), None);
    }

    #[test]
    fn a_missing_tun_device_is_explained() {
        let error = tun_device(Path::new("/nonexistent/net/tun")).unwrap_err().to_string();
        assert!(error.contains("is missing") && error.contains("modprobe tun"), "{error}");
        assert!(tun_device(Path::new("/dev/null")).is_ok());
    }

    #[test]
    fn mirrors_are_found_in_both_forms_of_sources() {
        let deb822 = "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\n";
        assert_eq!(mirror_in(deb822).as_deref(), Some("http://mirror.example/debian"));
        let one_line = "# comment http://no.example/debian\ndeb [arch=amd64] http://m.example/debian/ bookworm main\n";
        assert_eq!(mirror_in(one_line).as_deref(), Some("http://m.example/debian/"));
        assert_eq!(mirror_in("deb http://m.example/debian-security bookworm-security main"), None);
    }
}
