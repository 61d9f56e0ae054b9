//! The one entry point: `cargo xtask demo | test | run | scenario | sim | boot | build | log`.
//!
//! Thin on purpose: options are parsed here and handed to the library crates `harness` and `scenarios`.
#![forbid(unsafe_code)]

mod boot;
mod demo;
mod log;
mod run;
mod scenario;
mod test;

use anyhow::Result;
use clap::{Parser, Subcommand};
use harness::build::Workspace;
use harness::setup::{self, Need};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Builds, runs and tests the SMI Kernel.")]
#[command(disable_help_subcommand = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show a cluster that loses a node while clients write, and nothing else.
    Demo(demo::Options),
    /// Build the kernel image, the servers, the boot archive and the root task.
    Build {
        /// The manifest of the nodes' image.
        #[arg(long, value_name = "TOML")]
        manifest: Option<std::path::PathBuf>,
    },
    /// Run every test.
    Test(test::Options),
    /// Run a development cluster on one console.
    Run(run::Options),
    /// Play one fault scenario on a fresh cluster; without a name, list them.
    Scenario(scenario::Options),
    /// Decode a captured serial line.
    Log(log::Options),
    /// Run the simulator of whole clusters under seeds; `sim --help` tells its options.
    #[command(disable_help_flag = true)]
    Sim {
        /// Options of the simulator.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Check that clusters can have a network here, and nothing else.
    NamespaceCheck,
    /// Boot the kernel with any root task on one QEMU machine, its serial line on this terminal.
    Boot(boot::Options),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            // Help and version are answers, not errors. For an unknown command, say which ones there are.
            if error.kind() == clap::error::ErrorKind::InvalidSubcommand {
                eprintln!("\nvalid commands: {}", command_names().join(", "));
            }
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match execute(cli.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command_names() -> Vec<String> {
    use clap::CommandFactory;
    Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect()
}

fn execute(command: Command) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    match command {
        Command::Demo(options) => demo::demo(&workspace, &options),
        Command::Build { manifest } => {
            setup::ensure(&[Need::Targets])?;
            let image = workspace.system(&manifest.unwrap_or_else(|| workspace.node_manifest()))?;
            println!("kernel image: {}\nroot task:    {}", image.kernel.display(), image.root_task.display());
            Ok(ExitCode::SUCCESS)
        }
        Command::Test(options) => test::test(&workspace, &options),
        Command::Run(options) => run::run(&workspace, &options),
        Command::Scenario(options) => scenario::scenario(&workspace, &options),
        Command::Log(options) => log::log(&workspace, &options),
        Command::Sim { arguments } => Ok(smi_sim::run_cli(arguments)),
        Command::NamespaceCheck => {
            harness::netns::enter()?;
            harness::netns::host_tap()?;
            println!("a network namespace with a TAP device can be made");
            Ok(ExitCode::SUCCESS)
        }
        Command::Boot(options) => boot::boot(&workspace, &options),
    }
}
