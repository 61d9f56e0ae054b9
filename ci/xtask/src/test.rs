//! `cargo xtask test`: every test, fast ones first, and a count at the end.

use anyhow::{Result, bail};
use harness::build::Workspace;
use harness::setup::{self, Need};
use scenarios::suite;
use std::process::ExitCode;

/// Which tests to run.
#[derive(clap::Args)]
pub struct Options {
    /// Only tests whose names contain this.
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
    /// Only list the tests' names.
    #[arg(long)]
    list: bool,
}

/// Runs the tests; success only if none failed and at least one passed.
pub fn test(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let cases = suite::cases(workspace)?;
    if !cases.iter().any(|case| case.name().contains(&options.filter)) {
        let names: Vec<&str> = cases.iter().map(suite::Case::name).collect();
        bail!("no test's name contains '{}'; the tests are: {}", options.filter, names.join(", "));
    }
    if options.list {
        cases.iter().filter(|case| case.name().contains(&options.filter)).for_each(|case| println!("{}", case.name()));
        return Ok(ExitCode::SUCCESS);
    }
    setup::ensure(&[Need::Targets, Need::Qemu, Need::Network, Need::Redis])?;
    let summary = suite::run(cases, &options.filter, workspace)?;
    println!("\n{}", summary.line());
    let good = summary.tally.failed.is_empty() && summary.tally.passed > 0;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
