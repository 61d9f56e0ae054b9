//! `cargo xtask scenario`: one fault scenario on a fresh cluster.

use anyhow::Result;
use harness::build::Workspace;
use harness::netns;
use harness::setup::{self, Need};
use scenarios::faults;
use std::process::ExitCode;

/// Which scenario.
#[derive(clap::Args)]
pub struct Options {
    /// Its name; without one, the scenarios are listed.
    name: Option<String>,
    /// Seed of the clients and of the network's faults.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Plays the scenario; success only if everything held.
pub fn scenario(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let Some(name) = &options.name else {
        faults::ALL.iter().for_each(|scenario| println!("{:<20} {}", scenario.name, scenario.about));
        return Ok(ExitCode::SUCCESS);
    };
    let own = faults::ALL.iter().find(|scenario| scenario.name == name).and_then(|scenario| scenario.manifest);
    let manifest = own.map_or_else(|| workspace.node_manifest(), |path| workspace.root.join(path));
    if !netns::inside() {
        setup::ensure(&[Need::Targets, Need::Qemu, Need::Network])?;
        workspace.system(&manifest)?;
    }
    netns::enter()?;
    let image = workspace.built_system(&manifest)?;
    let directory = workspace.run_directory("scenario")?;
    // The scenario has told its story, and its failure as part of it.
    Ok(if faults::run(name, &image, &directory, options.seed).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
