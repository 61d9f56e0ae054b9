//! `cargo xtask log`: decodes a captured serial file with the image's symbols.

use anyhow::{Context, Result};
use harness::build::Workspace;
use harness::log::{Decoder, Level, Printer};
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// The capture to decode.
#[derive(clap::Args)]
pub struct Options {
    /// A captured serial line (`nodeN.serial` of a run's directory); `-` for standard input.
    file: PathBuf,
    /// The manifest of the image that wrote it.
    #[arg(long, value_name = "TOML")]
    manifest: Option<PathBuf>,
    /// Show debug messages, too.
    #[arg(long)]
    debug: bool,
}

/// Prints the decoded capture. The symbols are those of the programs as they were last built; they are not rebuilt, since
/// other symbols than those of the image that ran would decode to nonsense.
pub fn log(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let manifest = options.manifest.clone().unwrap_or_else(|| workspace.node_manifest());
    let symbols = Arc::new(workspace.symbols(&manifest)?);
    let mut bytes = Vec::new();
    if options.file.as_os_str() == "-" {
        std::io::stdin().read_to_end(&mut bytes)?;
    } else {
        bytes = std::fs::read(&options.file).with_context(|| format!("cannot read {}", options.file.display()))?;
    }
    let name = options.file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let node = name.strip_prefix("node").and_then(|number| number.parse().ok()).unwrap_or(0);
    let mut decoder = Decoder::new(node, symbols);
    let printer = Printer::for_stdout(if options.debug { Level::Debug } else { Level::Info });
    let mut lines = decoder.push(&bytes, Duration::ZERO);
    lines.extend(decoder.finish(Duration::ZERO));
    lines.iter().for_each(|line| printer.print(line));
    Ok(ExitCode::SUCCESS)
}
