//! All tests, fast ones first: style, host tests, simulator seeds, kernel tests in machines, whole clusters.
//!
//! Every test is a program run by this one with its output captured, so that each has its own processes, files and network
//! namespace, and none depends on another or on a free port. What is skipped is said and is not counted as passed.

use crate::faults;
use crate::tally::{Tally, said};
use anyhow::{Context, Result};
use harness::build::{KERNEL_TARGET, USER_TARGET, Workspace};
use harness::process;
use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Lines of a failed test's output that are shown; all of it stays in a file.
const SHOWN_LINES: usize = 80;

/// One program to run.
pub struct Case {
    name: String,
    limit: Duration,
    command: Command,
    verdict: Verdict,
}

/// How a program's end is judged.
enum Verdict {
    /// It passed if its exit status says so.
    Status,
    /// It reports tests by name. If `closing` is given, a line that begins so must end the report: without it, the program
    /// did not get to its end.
    Tests { closing: Option<&'static str> },
}

/// What a suite came to.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// All results together.
    pub tally: Tally,
}

impl Summary {
    /// The last line: `N passed, N failed`, and what was skipped.
    pub fn line(&self) -> String {
        let skipped = match self.tally.skipped.len() {
            0 => String::new(),
            n => format!(", {n} skipped"),
        };
        format!("{} passed, {} failed{skipped}", self.tally.passed, self.tally.failed.len())
    }
}

/// The suite of a workspace. `xtask` is the program that runs machines and clusters: this one.
pub fn cases(workspace: &Workspace) -> Result<Vec<Case>> {
    let xtask = std::env::current_exe().context("the path of this program")?;
    let suite = Suite { workspace, xtask };
    let mut cases = suite.style()?;
    cases.extend(suite.host());
    cases.extend(suite.simulator());
    cases.extend(suite.machines());
    cases.extend(suite.clusters());
    Ok(cases)
}

struct Suite<'a> {
    workspace: &'a Workspace,
    xtask: PathBuf,
}

/// Seeds that the suite simulates.
const SIMULATOR_SEEDS: &str = "150";

const MINUTE: Duration = Duration::from_secs(60);

impl Suite<'_> {
    fn cargo(&self, name: &str, words: &[&str], verdict: Verdict) -> Case {
        let mut command = self.workspace.cargo();
        command.args(words);
        Case { name: name.to_owned(), limit: 30 * MINUTE, command, verdict }
    }

    fn xtask(&self, name: String, minutes: u32, words: &[&str], verdict: Verdict) -> Case {
        let mut command = Command::new(&self.xtask);
        command.current_dir(&self.workspace.root).args(words);
        Case { name, limit: minutes * MINUTE, command, verdict }
    }

    fn style(&self) -> Result<Vec<Case>> {
        let mut programs = Vec::new();
        for manifest in self.workspace.manifests()? {
            programs.extend(image_builder::programs(&manifest)?);
        }
        let mut user = vec!["clippy", "--release", "--quiet", "--target", USER_TARGET, "-p", "root", "-p", "testroot"];
        user.extend(programs.iter().flat_map(|program| ["-p", program]));
        user.extend(["--", "-D", "warnings"]);
        let kernel =
            ["clippy", "--release", "--quiet", "--target", KERNEL_TARGET, "-p", "kernel", "--", "-D", "warnings"];
        let mut clippy_user = self.cargo("style/clippy-user", &user, Verdict::Status);
        // The root task embeds an archive; for reading its source any file is as good as the real one.
        clippy_user.command.env("SMI_BOOT_ARCHIVE", self.workspace.root.join("Cargo.toml"));
        Ok(vec![
            self.cargo("style/format", &["fmt", "--all", "--check"], Verdict::Status),
            self.cargo(
                "style/clippy-host",
                &["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"],
                Verdict::Status,
            ),
            self.cargo("style/clippy-kernel", &kernel, Verdict::Status),
            clippy_user,
        ])
    }

    fn host(&self) -> Vec<Case> {
        let tests = Verdict::Tests { closing: None };
        vec![self.cargo("host", &["test", "--profile", "tool", "--workspace", "--no-fail-fast"], tests)]
    }

    /// The simulator: fixed seeds, so that a failure is the change's and not the day's.
    fn simulator(&self) -> Vec<Case> {
        vec![self.xtask("sim/seeds".into(), 15, &["sim", "--seeds", SIMULATOR_SEEDS], Verdict::Status)]
    }

    /// The kernel's own tests, on every kind of machine that a node may be.
    fn machines(&self) -> Vec<Case> {
        let machines = [
            ("gic2-a53", &["--gic", "2", "--cpu", "a53"][..]),
            ("gic3-a72", &["--gic", "3", "--cpu", "a72"]),
            ("gic3-a72-el2", &["--gic", "3", "--cpu", "a72", "--el2"]),
            ("gic2-a72-smp4", &["--gic", "2", "--cpu", "a72", "--smp", "4"]),
        ];
        let case = |(name, machine): (&str, &[&str])| {
            let mut words = vec!["boot", "--root-task", "testroot", "--timeout", "240"];
            words.extend(machine);
            let tests = Verdict::Tests { closing: Some("testroot:") };
            self.xtask(format!("machine/{name}"), 10, &words, tests)
        };
        let mut cases: Vec<Case> = machines.map(case).into();
        let selftest = ["boot", "--manifest", "images/selftest.toml", "--timeout", "120"];
        let tests = Verdict::Tests { closing: Some("selftest: PASS") };
        cases.push(self.xtask("machine/selftest".into(), 10, &selftest, tests));
        let drivers =
            ["boot", "--manifest", "images/drivertest.toml", "--scratch-disk", "64", "--wired", "--timeout", "300"];
        let tests = Verdict::Tests { closing: Some("drivertest: PASS") };
        cases.push(self.xtask("machine/drivers".into(), 15, &drivers, tests));
        cases
    }

    fn clusters(&self) -> Vec<Case> {
        let mut cases = vec![self.xtask("cluster/demo".into(), 15, &["demo"], Verdict::Status)];
        cases.extend(faults::ALL.iter().map(|scenario| {
            self.xtask(format!("cluster/{}", scenario.name), 10, &["scenario", scenario.name], Verdict::Status)
        }));
        cases
    }
}

impl Case {
    /// Its name; a filter selects cases whose names contain it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs the program and judges its end. The output is captured in `file`.
    fn run(&mut self, file: &PathBuf) -> Result<(Tally, String)> {
        let capture = File::create(file).with_context(|| file.display().to_string())?;
        self.command.stdin(Stdio::null()).stdout(capture.try_clone()?).stderr(capture).process_group(0);
        process::die_with_us(&mut self.command);
        let mut child = self.command.spawn().with_context(|| format!("starting {:?}", self.command.get_program()))?;
        let status = process::wait_until(&mut child, Instant::now() + self.limit)?;
        if status.is_none() {
            process::kill_group(&child)?;
            child.wait()?;
        }
        let output = String::from_utf8_lossy(&std::fs::read(file)?).into_owned();
        let mut tally = Tally::default();
        let mut complaint = match status {
            None => Some(format!("still running after {} s", self.limit.as_secs())),
            Some(status) if !status.success() => Some(status.to_string()),
            Some(_) => None,
        };
        match self.verdict {
            Verdict::Status => tally.passed = usize::from(complaint.is_none()),
            Verdict::Tests { closing } => {
                tally = Tally::of(&output);
                let closed = closing.is_none_or(|word| output.lines().any(|line| said(line).starts_with(word)));
                if complaint.is_none() && (!closed || tally.passed == 0) {
                    complaint = Some("ended without a report".into());
                }
                // Named failures say it better than the exit status that follows from them.
                if closed && !tally.failed.is_empty() {
                    complaint = None;
                }
                for name in tally.failed.iter_mut().chain(&mut tally.skipped) {
                    *name = format!("{}/{name}", self.name);
                }
            }
        }
        if let Some(complaint) = complaint {
            tally.failed.push(format!("{} ({complaint})", self.name));
        }
        Ok((tally, output))
    }
}

/// Runs the cases whose names contain `filter`, in order, and prints each with its result.
pub fn run(cases: Vec<Case>, filter: &str, workspace: &Workspace) -> Result<Summary> {
    let directory = workspace.run_directory("test")?;
    let mut summary = Summary::default();
    for mut case in cases.into_iter().filter(|case| case.name.contains(filter)) {
        print!("{} ... ", case.name);
        std::io::stdout().flush()?;
        let start = Instant::now();
        let file = directory.join(format!("{}.log", case.name.replace('/', "-")));
        let (tally, output) = match case.run(&file) {
            Ok(done) => done,
            Err(error) => (Tally { failed: vec![case.name.clone()], ..Tally::default() }, format!("{error:#}")),
        };
        let seconds = start.elapsed().as_secs_f64();
        if tally.failed.is_empty() {
            println!("ok ({} passed, {seconds:.1} s)", tally.passed);
        } else {
            println!("FAILED ({} passed, {} failed, {seconds:.1} s)", tally.passed, tally.failed.len());
            show(&output);
            println!("    whole output: {}", file.display());
        }
        tally.skipped.iter().for_each(|name| println!("    skipped: {name}"));
        summary.tally.add(tally);
    }
    if !summary.tally.failed.is_empty() {
        println!("\nfailed:");
        summary.tally.failed.iter().for_each(|name| println!("    {name}"));
    }
    Ok(summary)
}

/// Shows the end of a failed test's output, and before it the lines that name failures.
fn show(output: &str) {
    let lines: Vec<&str> = output.lines().filter(|line| !line.ends_with(" ... ok")).collect();
    let skipped = lines.len().saturating_sub(SHOWN_LINES);
    let named = |line: &&&str| line.contains("FAILED") || line.contains("panicked at") || line.starts_with("error");
    for line in lines[..skipped].iter().filter(named).take(SHOWN_LINES) {
        println!("    | {line}");
    }
    if skipped > 0 {
        println!("    | ... {skipped} lines before ...");
    }
    lines[skipped..].iter().for_each(|line| println!("    | {line}"));
}
