//! `cargo xtask demo`: the demonstration, once or several times.

use anyhow::{Context, Result};
use harness::build::Workspace;
use harness::netns;
use harness::setup::{self, Need};
use scenarios::demo::{self, Kill};
use std::path::PathBuf;
use std::process::ExitCode;

/// How to run the demonstration.
#[derive(clap::Args)]
pub struct Options {
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Seed of the clients and of the network's faults; each further run uses the next one.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of runs.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// The node that is killed: `auto` is the one that runs the database, `random` any one at any moment (by the seed).
    #[arg(long, value_name = "auto|random|N", default_value = "auto", value_parser = victim)]
    kill_node: Kill,
}

/// Number of nodes of the demonstration.
const NODES: u16 = 3;

fn victim(word: &str) -> Result<Kill, String> {
    match word {
        "auto" => Ok(Kill::Primary),
        "random" => Ok(Kill::Random),
        _ => {
            let node = word.parse().ok().filter(|node| (1..=NODES).contains(node));
            node.map(Kill::Node).ok_or_else(|| format!("expected `auto`, `random` or a node, 1 to {NODES}"))
        }
    }
}

/// Runs the demonstration; success only if everything held in every run.
pub fn demo(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let manifest = workspace.node_manifest();
    if !netns::inside() {
        setup::ensure(&[Need::Targets, Need::Qemu, Need::Network, Need::Redis])?;
        eprintln!("Building the kernel, the servers and the boot image (minutes the first time, seconds afterwards).");
        workspace.system(&manifest)?;
    }
    netns::enter()?;
    let image = workspace.built_system(&manifest)?;
    let mut runs = Vec::new();
    let mut failures = 0;
    for run in 0..options.runs {
        if options.runs > 1 {
            println!("\nrun {} of {}, seed {}", run + 1, options.runs, options.seed + u64::from(run));
        }
        let directory = workspace.run_directory("demo")?;
        let one = demo::Options { nodes: NODES, seed: options.seed + u64::from(run), kill: options.kill_node };
        let outcome = demo::run(&image, &directory, &one)?;
        failures += usize::from(!outcome.failures.is_empty());
        runs.push(outcome.figures);
    }
    let figures = if runs.len() == 1 { runs.remove(0) } else { demo::summary(&runs) };
    if let Some(file) = &options.json {
        let text = format!("{:#}\n", figures);
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if options.runs > 1 {
        println!("\n{} of {} runs succeeded", options.runs as usize - failures, options.runs);
    }
    Ok(if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
