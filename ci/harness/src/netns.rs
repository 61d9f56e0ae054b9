//! The network namespace in which a whole run lives: QEMUs, switches, TAP and clients. It has no route to anywhere, so
//! nothing that a run does can reach a real network, and runs side by side cannot meet.
//!
//! A command that needs it calls [`enter`] first thing: the program starts itself again through `unshare(1)` inside a new
//! namespace (with a user namespace around it when the user is not root), then finds itself inside and goes on.

use crate::process;
use crate::setup;
use crate::tap::Tap;
use anyhow::{Context, Result, bail};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Set in the environment of the program when it runs inside.
const INSIDE: &str = "SMI_INSIDE_NETNS";

/// The host's address on the external segment.
pub const HOST_ADDRESS: &str = "10.77.0.1";
/// Prefix length of the external segment.
pub const HOST_PREFIX: u8 = 24;
/// The name of the host's TAP device.
pub const TAP_NAME: &str = "smi0";

/// Makes sure that this process runs in a network namespace of its own. Returns inside; otherwise replaces this program by
/// itself inside (so it returns only to report an error). Call before starting threads or children.
pub fn enter() -> Result<()> {
    if inside() {
        return process::run(Command::new(ip()?).args(["link", "set", "lo", "up"]));
    }
    let unshare = setup::find("unshare").context("`unshare` (package util-linux) is not installed")?;
    let plain: &[&str] = &["--net"];
    let as_user: &[&str] = &["--user", "--map-root-user", "--net"];
    let works = |flags: &[&str]| {
        let mut probe = Command::new(&unshare);
        probe.args(flags).arg("true").stdout(Stdio::null()).stderr(Stdio::null());
        probe.status().is_ok_and(|status| status.success())
    };
    let flags = if works(plain) {
        plain
    } else if works(as_user) {
        as_user
    } else {
        bail!(
            "cannot make a network namespace, which keeps a run away from your real network.\n\
             As a user: allow user namespaces (`sysctl kernel.unprivileged_userns_clone=1` or \
             `sysctl kernel.apparmor_restrict_unprivileged_userns=0`).\n\
             In a container: run it with CAP_SYS_ADMIN and CAP_NET_ADMIN, or as root."
        );
    };
    let exe = std::env::current_exe().context("the path of this program")?;
    let error =
        Command::new(unshare).args(flags).arg("--").arg(exe).args(std::env::args_os().skip(1)).env(INSIDE, "1").exec();
    Err(error).context("starting again inside a network namespace")
}

/// Whether this process was started inside by [`enter`].
pub fn inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Creates the host's TAP on the external segment and gives it [`HOST_ADDRESS`]. Only inside a namespace of our own.
pub fn host_tap() -> Result<Tap> {
    if !inside() {
        bail!("refusing to create a network device outside a namespace of our own");
    }
    let tap = Tap::open(TAP_NAME)?;
    // Without this the host's kernel sends router solicitations into the cluster; if it is not ours to set, no harm.
    let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{TAP_NAME}/disable_ipv6"), "1");
    let address = format!("{HOST_ADDRESS}/{HOST_PREFIX}");
    process::run(Command::new(ip()?).args(["address", "add", &address, "dev", TAP_NAME]))?;
    process::run(Command::new(ip()?).args(["link", "set", TAP_NAME, "up"]))?;
    Ok(tap)
}

fn ip() -> Result<std::path::PathBuf> {
    setup::find("ip").context("`ip` (package iproute2) is not installed")
}
