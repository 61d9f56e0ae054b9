//! One QEMU `virt` machine: its description, its command line, and its life.

use crate::log::{Decoder, Log, Symbols};
use crate::{process, setup};
use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;

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
    /// Two more NICs, wired to each other.
    pub wired: bool,
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
            wired: false,
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
        if self.wired {
            for id in ["h0", "h1"] {
                push(&["-netdev", &format!("hubport,id={id},hubid=0")]);
                push(&["-device", &format!("virtio-net-device,netdev={id}")]);
            }
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

/// Whether a machine runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Not started, killed, or powered off by itself.
    Off,
    /// Running.
    On,
    /// Stopped in its tracks by [`Machine::pause`]; it will not know.
    Paused,
}

/// A node: a machine with a number, whose serial line is captured and decoded. Dropping it kills the machine.
pub struct Machine {
    /// The node's id.
    pub node: u16,
    spec: Spec,
    capture: PathBuf,
    symbols: Arc<Symbols>,
    log: Log,
    running: Option<Running>,
}

struct Running {
    child: Child,
    reader: Option<JoinHandle<()>>,
    paused: bool,
}

impl Machine {
    /// A node that is switched off. Its serial line is appended to `capture` and decoded into `log`.
    pub fn new(node: u16, spec: Spec, capture: &Path, symbols: Arc<Symbols>, log: Log) -> Machine {
        Machine { node, spec, capture: capture.to_owned(), symbols, log, running: None }
    }

    /// The machine's description; a change takes effect at the next start.
    pub fn spec_mut(&mut self) -> &mut Spec {
        &mut self.spec
    }

    /// The file that captures the serial line.
    pub fn capture(&self) -> &Path {
        &self.capture
    }

    /// Switches the machine on. It dies with the calling thread (see [`process::die_with_us`]).
    pub fn start(&mut self) -> Result<()> {
        if self.state() != State::Off {
            bail!("node {} is already on", self.node);
        }
        self.running = None;
        let mut command = self.spec.command()?;
        command.args(["-serial", "stdio"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own: an interrupt typed at the terminal is for us, not for QEMU.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().context("starting QEMU")?;
        let file = OpenOptions::new().create(true).append(true).open(&self.capture);
        let file = file.with_context(|| self.capture.display().to_string())?;
        let serial = child.stdout.take().context("QEMU's standard output")?;
        let mut errors = child.stderr.take().context("QEMU's standard error")?;
        let decoder = Decoder::new(self.node, self.symbols.clone());
        let (log, node) = (self.log.clone(), self.node);
        let reader = std::thread::Builder::new().name(format!("serial-{node}")).spawn(move || {
            read_serial(serial, file, decoder, &log);
            let mut said = String::new();
            let _ = errors.read_to_string(&mut said);
            if !said.trim().is_empty() {
                eprintln!("node {node}: QEMU says: {}", said.trim());
            }
        })?;
        self.running = Some(Running { child, reader: Some(reader), paused: false });
        Ok(())
    }

    /// Whether it runs now.
    pub fn state(&mut self) -> State {
        let Some(running) = &mut self.running else { return State::Off };
        match running.child.try_wait() {
            Ok(None) if running.paused => State::Paused,
            Ok(None) => State::On,
            Ok(Some(_)) | Err(_) => State::Off,
        }
    }

    /// QEMU's exit status, once the machine has powered itself off or was killed.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.running.as_mut()?.child.try_wait().ok().flatten()
    }

    /// Kills the machine with SIGKILL, as a power cut would: nothing in it gets a chance to do anything.
    pub fn kill(&mut self) -> Result<()> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        let killed = running.child.kill().with_context(|| format!("killing node {}", self.node));
        let _ = running.child.wait();
        if let Some(reader) = running.reader.take() {
            let _ = reader.join();
        }
        killed
    }

    /// Stops the machine in its tracks (SIGSTOP).
    pub fn pause(&mut self) -> Result<()> {
        self.signal(Signal::SIGSTOP, true)
    }

    /// Lets a paused machine go on, as if no time had passed (SIGCONT).
    pub fn resume(&mut self) -> Result<()> {
        self.signal(Signal::SIGCONT, false)
    }

    fn signal(&mut self, signal: Signal, paused: bool) -> Result<()> {
        if self.state() == State::Off {
            bail!("node {} is off", self.node);
        }
        let Some(running) = &mut self.running else { bail!("node {} is off", self.node) };
        process::signal(&running.child, signal)?;
        running.paused = paused;
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Copies the serial line to the capture file and decodes it, until the machine is gone.
fn read_serial(mut serial: ChildStdout, mut capture: File, mut decoder: Decoder, log: &Log) {
    let mut buffer = [0; 4096];
    loop {
        match serial.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => {
                // A full disk costs the capture, not the run.
                let _ = capture.write_all(&buffer[..length]);
                log.add(decoder.push(&buffer[..length], log.elapsed()));
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    log.add(decoder.finish(log.elapsed()));
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
