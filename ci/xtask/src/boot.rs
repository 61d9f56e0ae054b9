//! `cargo xtask boot`: one machine, any root task, serial line on the terminal. A root task of our own image has its servers'
//! logs decoded; a foreign one gets the raw line, both ways.

use anyhow::{Result, bail};
use harness::build::Workspace;
use harness::log::{Level, Line, Log, Mark, Printer};
use harness::machine::{Machine, Spec, State};
use harness::process;
use harness::setup::{self, Need};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use std::time::{Duration, Instant};

/// The machine to boot.
#[derive(clap::Args)]
pub struct Options {
    /// The root task: an ELF file, or the name of a package of this workspace (built first), e.g. `testroot`.
    #[arg(long, value_name = "ELF|PACKAGE", required_unless_present = "manifest", conflicts_with = "manifest")]
    root_task: Option<PathBuf>,
    /// Instead of a root task: the manifest of an image of our own.
    #[arg(long, value_name = "TOML")]
    manifest: Option<PathBuf>,
    /// A ready kernel image instead of the one built from this workspace.
    #[arg(long, value_name = "IMAGE")]
    kernel: Option<PathBuf>,
    /// Number of CPUs.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=8))]
    smp: u8,
    /// Version of the interrupt controller.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=3))]
    gic: u8,
    /// CPU model.
    #[arg(long, default_value = "a72", value_parser = ["a53", "a72"])]
    cpu: String,
    /// Enter the kernel at EL2 instead of EL1.
    #[arg(long)]
    el2: bool,
    /// Memory in MiB.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(64..=8192))]
    memory: u32,
    /// Let user-level threads read the counters.
    #[arg(long)]
    user_counters: bool,
    /// Size of the root task's CNode, as a power of two.
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u8).range(4..=24))]
    cnode_bits: Option<u8>,
    /// Turn the domain scheduler on.
    #[arg(long)]
    domains: bool,
    /// A further boot argument for the kernel; may be given several times.
    #[arg(long, value_name = "ARGUMENT")]
    append: Vec<String>,
    /// A raw disk image for the machine.
    #[arg(long, value_name = "FILE")]
    disk: Option<PathBuf>,
    /// Give the machine an empty disk of so many MiB, which is thrown away.
    #[arg(long, value_name = "MIB", conflicts_with = "disk")]
    scratch_disk: Option<u64>,
    /// Give the machine two NICs that are wired to each other.
    #[arg(long)]
    wired: bool,
    /// End the machine, with success, when a decoded line contains this; needs `--manifest`.
    #[arg(long, value_name = "TEXT", requires = "manifest")]
    until: Option<String>,
    /// End the machine after so many seconds and fail.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
}

impl Options {
    fn spec(&self, workspace: &Workspace) -> Result<Spec> {
        let kernel = match &self.kernel {
            Some(image) => image.clone(),
            None => workspace.kernel()?,
        };
        let root_task = match (&self.manifest, &self.root_task) {
            (Some(manifest), _) => workspace.system(manifest)?.root_task,
            (None, Some(named)) => match named.to_str().filter(|name| !name.contains('/') && !named.exists()) {
                Some(package) => workspace.root_task(package)?,
                None => named.clone(),
            },
            (None, None) => bail!("name a root task or a manifest"),
        };
        let mut spec = Spec::new(kernel, root_task);
        spec.gic = self.gic;
        spec.cpu = format!("cortex-{}", self.cpu);
        spec.cpus = self.smp;
        spec.memory_mib = self.memory;
        spec.el2 = self.el2;
        spec.disk.clone_from(&self.disk);
        if let Some(mib) = self.scratch_disk {
            let file = workspace.run_directory("scratch")?.join("disk.img");
            std::fs::File::create(&file)?.set_len(mib << 20)?;
            spec.disk = Some(file);
        }
        spec.wired = self.wired;
        if self.user_counters {
            spec.arguments.push("kernel.user_counters=1".into());
        }
        if let Some(bits) = self.cnode_bits {
            spec.arguments.push(format!("kernel.root_cnode_bits={bits}"));
        }
        if self.domains {
            spec.arguments.push("kernel.domains=1".into());
        }
        spec.arguments.extend(self.append.iter().cloned());
        Ok(spec)
    }
}

/// Boots the machine and returns when it powers itself off, with QEMU's exit status.
pub fn boot(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    setup::ensure(&[Need::Targets, Need::Qemu])?;
    let spec = options.spec(workspace)?;
    let limit = options.timeout.map(Duration::from_secs);
    let deadline = limit.map(|limit| Instant::now() + limit);
    let status = match &options.manifest {
        Some(manifest) => match decoded(workspace, spec, manifest, options.until.as_deref(), deadline)? {
            End::Said => return Ok(ExitCode::SUCCESS),
            End::Off(status) => status,
        },
        None => raw(&spec, deadline)?,
    };
    let Some(status) = status else {
        eprintln!(
            "\nboot: the machine was still running after {} s and was ended",
            limit.unwrap_or_default().as_secs()
        );
        return Ok(ExitCode::FAILURE);
    };
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the machine with its serial line on our standard streams; `None` if it still ran at the deadline.
fn raw(spec: &Spec, deadline: Option<Instant>) -> Result<Option<ExitStatus>> {
    let mut child = spec.command()?.args(["-serial", "stdio"]).spawn()?;
    let Some(deadline) = deadline else { return Ok(Some(child.wait()?)) };
    let status = process::wait_until(&mut child, deadline)?;
    if status.is_none() {
        child.kill()?;
        child.wait()?;
    }
    Ok(status)
}

/// How a machine with decoded logs ended.
enum End {
    /// It said what it was to say.
    Said,
    /// It powered itself off; `None` if it still ran at the deadline.
    Off(Option<ExitStatus>),
}

/// Runs the machine with its logs decoded, until it ends or a line contains `until`.
fn decoded(
    workspace: &Workspace,
    spec: Spec,
    manifest: &Path,
    until: Option<&str>,
    deadline: Option<Instant>,
) -> Result<End> {
    let symbols = workspace.built_system(manifest)?.symbols;
    let log = Log::default();
    log.print(Printer::for_stdout(Level::Debug));
    let capture = workspace.run_directory("boot")?.join("node0.serial");
    let mut machine = Machine::new(0, spec, &capture, symbols, log.clone());
    let said = |wanted: &dyn Fn(&Line) -> bool| !log.since(Mark::default(), wanted).is_empty();
    machine.start()?;
    while machine.state() != State::Off {
        if said(&|line| line.source.is_empty() && line.text == "node halted") {
            bail!("the kernel panicked");
        }
        if until.is_some_and(|text| said(&|line| line.text.contains(text))) {
            return Ok(End::Said);
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(End::Off(None));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let status = machine.exit_status();
    // Also waits for the last of the serial line.
    machine.kill()?;
    Ok(End::Off(status))
}
