//! One QEMU `virt` machine: its description, its command line, and its life.

use crate::{process, setup};
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

/// A NIC of a machine, joined to a port of a switch.
#[derive(Clone, Debug)]
pub struct Nic {
    /// The unix socket on which the switch listens for this port.
    pub socket: PathBuf,
    /// The NIC's MAC address.
    pub mac: [u8; 6],
}

/// What a machine is made of.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The kernel image (raw, with arm64 header).
    pub kernel: PathBuf,
    /// The root task's ELF.
    pub root_task: PathBuf,
    /// GIC version: 2 or 3.
    pub gic: u8,
    /// QEMU's name of the CPU model.
    pub cpu: String,
    /// Number of CPUs.
    pub cpus: u8,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Enter the kernel at EL2 instead of EL1.
    pub el2: bool,
    /// The kernel's boot arguments.
    pub arguments: Vec<String>,
    /// Raw disk image, if the machine has a disk.
    pub disk: Option<PathBuf>,
    /// NICs in the order in which the nodes number them.
    pub nics: Vec<Nic>,
}

impl Spec {
    /// The machine that nodes are by default: one Cortex-A72, GICv3, 256 MiB, no disk, no NICs.
    pub fn new(kernel: PathBuf, root_task: PathBuf) -> Spec {
        Spec {
            kernel,
            root_task,
            gic: 3,
            cpu: "cortex-a72".into(),
            cpus: 1,
            memory_mib: 256,
            el2: false,
            arguments: Vec::new(),
            disk: None,
            nics: Vec::new(),
        }
    }

    /// The arguments for QEMU, without those that say where the serial line goes.
    pub fn qemu_arguments(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = Vec::new();
        let mut push = |words: &[&str]| args.extend(words.iter().map(OsString::from));
        let machine = format!("virt,gic-version={}{}", self.gic, if self.el2 { ",virtualization=on" } else { "" });
        push(&["-M", &machine, "-cpu", &self.cpu, "-smp", &self.cpus.to_string()]);
        push(&["-m", &format!("{}M", self.memory_mib)]);
        push(&["-display", "none", "-monitor", "none", "-no-reboot", "-nodefaults"]);
        push(&["-global", "virtio-mmio.force-legacy=false"]);
        push(&["-kernel", &self.kernel.to_string_lossy(), "-initrd", &self.root_task.to_string_lossy()]);
        if !self.arguments.is_empty() {
            push(&["-append", &self.arguments.join(" ")]);
        }
        if let Some(disk) = &self.disk {
            // A comma in a QEMU option value is written twice.
            let file = disk.to_string_lossy().replace(',', ",,");
            push(&["-drive", &format!("file={file},format=raw,if=none,id=d0")]);
            push(&["-device", "virtio-blk-device,drive=d0"]);
        }
        for (i, nic) in self.nics.iter().enumerate() {
            let socket = nic.socket.to_string_lossy().replace(',', ",,");
            let mac = nic.mac.map(|byte| format!("{byte:02x}")).join(":");
            push(&["-netdev", &format!("stream,id=n{i},server=off,addr.type=unix,addr.path={socket}")]);
            push(&["-device", &format!("virtio-net-device,netdev=n{i},mac={mac}")]);
        }
        args
    }

    /// A QEMU command for this machine, not yet started; the caller says where the serial line goes.
    pub fn command(&self) -> Result<Command> {
        for file in [&self.kernel, &self.root_task].into_iter().chain(&self.disk) {
            std::fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?;
        }
        let mut command = Command::new(setup::qemu()?);
        command.args(self.qemu_arguments());
        process::die_with_us(&mut command);
        Ok(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_named_before_qemu_starts() {
        let spec = Spec::new("/nonexistent/kernel.img".into(), "/nonexistent/root.elf".into());
        let error = format!("{:#}", spec.command().unwrap_err());
        assert!(error.contains("/nonexistent/kernel.img"), "{error}");
    }

    #[test]
    fn nics_keep_their_order_and_commas_are_escaped() {
        let mut spec = Spec::new("k".into(), "r".into());
        spec.disk = Some("a,b.img".into());
        for last in [1, 2] {
            spec.nics.push(Nic { socket: format!("/s{last}").into(), mac: [0x52, 0x53, 0x4d, 0, 0, last] });
        }
        let line = spec.qemu_arguments().join(std::ffi::OsStr::new(" ")).to_string_lossy().into_owned();
        assert!(line.contains("file=a,,b.img"), "{line}");
        assert!(line.find("mac=52:53:4d:00:00:01").unwrap() < line.find("mac=52:53:4d:00:00:02").unwrap());
    }
}
