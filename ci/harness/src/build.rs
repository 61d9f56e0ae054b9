//! Builds what a node boots, incrementally, by asking cargo for each step in the order that the parts need each other:
//! server ELFs, the boot archive made of them, the root task that embeds the archive, and the kernel image.

use crate::cluster::Image;
use crate::log::Symbols;
use crate::process;
use anyhow::{Context, Result, bail};
use object::elf;
use object::read::elf::{FileHeader, ProgramHeader};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// The target of user-level programs.
pub const USER_TARGET: &str = "aarch64-unknown-none";
/// The target of the kernel: no floating-point registers.
pub const KERNEL_TARGET: &str = "aarch64-unknown-none-softfloat";

/// No kernel image is larger than this; a flattened ELF that would be has a stray load address.
const MAX_IMAGE_BYTES: u64 = 64 << 20;

/// The workspace: where its sources are and where cargo puts what it builds.
#[derive(Clone, Debug)]
pub struct Workspace {
    /// The directory of the workspace's `Cargo.toml`.
    pub root: PathBuf,
    /// Cargo's target directory.
    pub target: PathBuf,
}

impl Workspace {
    /// Finds the workspace around the current directory, or else the one that this program was built from.
    pub fn find() -> Result<Workspace> {
        let here = std::env::current_dir().context("the current directory")?;
        let built_from = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = here
            .ancestors()
            .chain(built_from.ancestors())
            .find(|dir| dir.join("ci/xtask/Cargo.toml").is_file() && dir.join("kernel/abi/Cargo.toml").is_file())
            .context("not inside the SMI Kernel workspace")?
            .to_owned();
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => root.join(dir),
            None => root.join("target"),
        };
        Ok(Workspace { root, target })
    }

    /// Where our own products go: images, archives, runs.
    pub fn smi_dir(&self) -> PathBuf {
        self.target.join("smi")
    }

    /// An empty directory for one run's disks, captures and consoles, named after the run and this process. Directories of
    /// runs whose process is gone are removed, so there is at most one per kind of run besides those still running.
    pub fn run_directory(&self, name: &str) -> Result<PathBuf> {
        let prefix = format!("{name}-");
        for entry in std::fs::read_dir(self.smi_dir()).into_iter().flatten().flatten() {
            let file_name = entry.file_name().to_string_lossy().into_owned();
            let process = file_name.strip_prefix(&prefix).and_then(|rest| rest.parse::<u32>().ok());
            if process.is_some_and(|id| id == std::process::id() || !Path::new("/proc").join(id.to_string()).exists()) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        let directory = self.smi_dir().join(format!("{prefix}{}", std::process::id()));
        std::fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        Ok(directory)
    }

    /// The release ELF of a package's binary for a bare-metal target.
    pub fn elf(&self, target: &str, binary: &str) -> PathBuf {
        self.target.join(target).join("release").join(binary)
    }

    /// A cargo command in the workspace. The variables that `cargo xtask` itself runs under are kept out, since they would
    /// make a nested cargo believe that it builds something else.
    pub fn cargo(&self) -> Command {
        let mut command = Command::new("cargo");
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            let own = name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") || name == "CARGO_BIN_NAME";
            if own || name == "CARGO" || name == "RUSTUP_TOOLCHAIN" && self.root.join("rust-toolchain.toml").exists() {
                command.env_remove(&name);
            }
        }
        command
    }

    /// Builds packages in release mode for a bare-metal target; `environment` is added for the build.
    pub fn build_bare(&self, target: &str, packages: &[&str], environment: &[(&str, &Path)]) -> Result<()> {
        let mut command = self.cargo();
        command.args(["build", "--release", "--quiet", "--target", target]);
        for package in packages {
            command.args(["-p", package]);
        }
        if std::env::var_os("DEFMT_LOG").is_none() {
            command.env("DEFMT_LOG", "info");
        }
        for (name, value) in environment {
            command.env(name, value);
        }
        // Quiet unless it fails: rustc warns about the target features of every crate (see `.cargo/config.toml`).
        process::output(&mut command).map(drop)
    }

    /// Builds the kernel and flattens it to the raw image that boot loaders and QEMU take; returns the image's path.
    pub fn kernel(&self) -> Result<PathBuf> {
        self.build_bare(KERNEL_TARGET, &["kernel"], &[])?;
        let elf_path = self.elf(KERNEL_TARGET, "kernel");
        let mut image = flatten(&std::fs::read(&elf_path).with_context(|| elf_path.display().to_string())?)
            .with_context(|| format!("making an image of {}", elf_path.display()))?;
        // QEMU's machine is the only board whose kernel is booted from here.
        image_builder::kernel_image::set_early_console(&mut image, bsp_qemu_virt::EARLY_CONSOLE)?;
        let path = self.kernel_image();
        write_if_changed(&path, &image)?;
        Ok(path)
    }

    /// Builds everything that a node boots: the kernel, the manifest's servers, the boot archive of them, and the root task
    /// with the archive inside. A mistake in the manifest is reported with its file and line.
    pub fn system(&self, manifest: &Path) -> Result<Image> {
        let programs = image_builder::programs(manifest)?;
        let packages: Vec<&str> = programs.iter().map(String::as_str).collect();
        let known = self.packages()?;
        for program in &packages {
            if !known.iter().any(|package| package == program) {
                bail!("{}: there is no program '{program}' in this workspace", manifest.display());
            }
        }
        self.build_bare(USER_TARGET, &packages, &[])?;
        let elf_dir = self.target.join(USER_TARGET).join("release");
        let archive = image_builder::build_archive(manifest, &elf_dir)?;
        let directory = self.image_dir(manifest)?;
        let archive_path = directory.join("boot.archive");
        write_if_changed(&archive_path, &archive)?;
        self.build_bare(USER_TARGET, &["root"], &[("SMI_BOOT_ARCHIVE", &archive_path)])?;
        let root_task = directory.join("root.elf");
        let built = self.elf(USER_TARGET, "root");
        write_if_changed(&root_task, &std::fs::read(&built).with_context(|| built.display().to_string())?)?;
        self.kernel()?;
        self.built_system(manifest)
    }

    /// What [`Workspace::system`] built last for this manifest.
    pub fn built_system(&self, manifest: &Path) -> Result<Image> {
        let root_task = self.image_dir(manifest)?.join("root.elf");
        Ok(Image { kernel: self.kernel_image(), root_task, symbols: Arc::new(self.symbols(manifest)?) })
    }

    /// Where an image's parts go: named after its manifest.
    fn image_dir(&self, manifest: &Path) -> Result<PathBuf> {
        Ok(self.smi_dir().join(manifest.file_stem().context("the manifest has no name")?))
    }

    fn kernel_image(&self) -> PathBuf {
        self.smi_dir().join("kernel.img")
    }

    /// The log symbols of a manifest's servers as they were last built. A server's index in the manifest is its source id.
    pub fn symbols(&self, manifest: &Path) -> Result<Symbols> {
        let mut symbols = Symbols::default();
        for (index, server) in image_builder::archive::read_manifest(manifest)?.manifest.servers.iter().enumerate() {
            symbols.add(index as u8, &server.name, &self.elf(USER_TARGET, &server.program))?;
        }
        symbols.programs.add("kernel", self.elf(KERNEL_TARGET, "kernel"));
        symbols.programs.add("root", self.image_dir(manifest)?.join("root.elf"));
        Ok(symbols)
    }

    /// The manifest of a full node.
    pub fn node_manifest(&self) -> PathBuf {
        self.root.join("images/node.toml")
    }

    /// All manifests in `images/`, in alphabetic order.
    pub fn manifests(&self) -> Result<Vec<PathBuf>> {
        let images = self.root.join("images");
        let entries = std::fs::read_dir(&images).with_context(|| images.display().to_string())?;
        let mut manifests: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        manifests.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
        manifests.sort();
        Ok(manifests)
    }

    /// The names of the workspace's packages.
    fn packages(&self) -> Result<Vec<String>> {
        let mut command = self.cargo();
        command.args(["metadata", "--format-version", "1", "--no-deps", "--offline", "--quiet"]);
        let metadata: serde_json::Value = serde_json::from_str(&process::output(&mut command)?)?;
        let packages = metadata["packages"].as_array().context("cargo's list of packages")?;
        Ok(packages.iter().filter_map(|package| package["name"].as_str().map(str::to_owned)).collect())
    }

    /// Builds a root task that is a plain package of ours (the kernel's test root, for example); returns its ELF.
    pub fn root_task(&self, package: &str) -> Result<PathBuf> {
        self.build_bare(USER_TARGET, &[package], &[])?;
        Ok(self.elf(USER_TARGET, package))
    }
}

/// Writes a file unless it already has these contents, so that what depends on it is not rebuilt for nothing.
pub fn write_if_changed(path: &Path, contents: &[u8]) -> Result<()> {
    if std::fs::read(path).is_ok_and(|old| old == contents) {
        return Ok(());
    }
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    }
    std::fs::write(path, contents).with_context(|| path.display().to_string())
}

/// The loadable segments of an AArch64 ELF as one flat image, from its lowest load (physical) address on. Zero-initialised
/// tails are left out at the end: the kernel's header says how much memory it needs.
pub fn flatten(file: &[u8]) -> Result<Vec<u8>> {
    let header = elf::FileHeader64::<object::Endianness>::parse(file).context("not a 64-bit ELF")?;
    let endian = header.endian().context("ELF byte order")?;
    if header.e_machine(endian) != elf::EM_AARCH64 {
        bail!("not an AArch64 ELF");
    }
    let mut segments = Vec::new();
    for segment in header.program_headers(endian, file).context("program headers")? {
        if segment.p_type(endian) != elf::PT_LOAD || segment.p_filesz(endian) == 0 {
            continue;
        }
        let data = segment.data(endian, file).map_err(|()| anyhow::anyhow!("a segment lies outside the file"))?;
        segments.push((segment.p_paddr(endian), data));
    }
    let Some(base) = segments.iter().map(|(address, _)| *address).min() else {
        bail!("no loadable segments");
    };
    let mut image = Vec::new();
    for (address, data) in segments {
        let start = address - base;
        let end = start.checked_add(data.len() as u64).filter(|end| *end <= MAX_IMAGE_BYTES);
        let Some(end) = end else {
            bail!("a segment loads {start:#x} bytes above the image's start; the load addresses are wrong");
        };
        if image.len() < end as usize {
            image.resize(end as usize, 0);
        }
        image[start as usize..end as usize].copy_from_slice(data);
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A minimal AArch64 ELF with these (load address, bytes) segments.
    fn tiny_elf(segments: &[(u64, &[u8])]) -> Vec<u8> {
        let mut file = vec![0u8; 64 + 56 * segments.len()];
        file[..8].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0]);
        file[16..18].copy_from_slice(&2u16.to_le_bytes());
        file[18..20].copy_from_slice(&elf::EM_AARCH64.0.to_le_bytes());
        file[20..24].copy_from_slice(&1u32.to_le_bytes());
        file[32..40].copy_from_slice(&64u64.to_le_bytes());
        file[52..54].copy_from_slice(&64u16.to_le_bytes());
        file[54..56].copy_from_slice(&56u16.to_le_bytes());
        file[56..58].copy_from_slice(&(segments.len() as u16).to_le_bytes());
        for (i, (address, data)) in segments.iter().enumerate() {
            let offset = file.len() as u64;
            file.extend_from_slice(data);
            let header = &mut file[64 + 56 * i..64 + 56 * (i + 1)];
            header[..4].copy_from_slice(&1u32.to_le_bytes());
            header[8..16].copy_from_slice(&offset.to_le_bytes());
            header[16..24].copy_from_slice(&(address | 0xffff_ff80_0000_0000).to_le_bytes());
            header[24..32].copy_from_slice(&address.to_le_bytes());
            header[32..40].copy_from_slice(&(data.len() as u64).to_le_bytes());
            header[40..48].copy_from_slice(&(data.len() as u64).to_le_bytes());
        }
        file
    }

    #[test]
    fn segments_land_at_their_load_addresses() {
        let image = flatten(&tiny_elf(&[(0x4008_0010, b"data"), (0x4008_0000, b"text")])).unwrap();
        assert_eq!(image, b"text\0\0\0\0\0\0\0\0\0\0\0\0data");
    }

    #[test]
    fn stray_segments_and_other_files_are_refused() {
        assert!(flatten(&tiny_elf(&[(0x1000, b"a"), (0xffff_0000_0000, b"b")])).is_err());
        assert!(flatten(&tiny_elf(&[])).is_err());
        assert!(flatten(b"not an ELF at all, just text that is long enough to be read as a header").is_err());
    }
}
