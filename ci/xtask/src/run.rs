//! `cargo xtask run`: a development cluster on one console.

use anyhow::{Context, Result, bail};
use harness::build::Workspace;
use harness::cluster::{self, Cluster, Membership};
use harness::log::{Level, Printer};
use harness::machine::State;
use harness::setup::{self, Need};
use harness::switch::{Port, Rule};
use harness::{netns, process};
use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

/// The cluster to run.
#[derive(clap::Args)]
pub struct Options {
    /// Number of nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=16))]
    nodes: u16,
    /// The manifest of the nodes' image.
    #[arg(long, value_name = "TOML")]
    manifest: Option<PathBuf>,
    /// Keep the nodes' disks and captures in this directory, and use the disks that are there.
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,
    /// Capture both segments into this directory.
    #[arg(long, value_name = "DIRECTORY")]
    pcap: Option<PathBuf>,
    /// Percentage of frames that the internal network loses.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    net_loss: f64,
    /// Delay of every internal frame in milliseconds.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 0)]
    net_delay: u64,
    /// Further random delay, up to so many milliseconds.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 0)]
    net_jitter: u64,
    /// Seed of the network's faults.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Show debug messages of the nodes.
    #[arg(long)]
    debug: bool,
    /// Do not show the nodes' messages (they are captured all the same).
    #[arg(long)]
    quiet: bool,
}

const HELP: &str = "\
kill N | start N | restart N     switch a node off (SIGKILL), on, or off and on
pause N | resume N               stop a node in its tracks, let it go on
cut A B | heal A B | heal        cut or heal the network between two nodes (0 is the host); heal everything
loss PERCENT                     lose so many of the internal frames
status                           the nodes, the networks, the service
redis WORD...                    redis-cli at the service address, e.g. `redis set greeting hello`
client PROGRAM WORD...           any program of this host, in the cluster's network
wait SECONDS                     for scripts
await-service SECONDS            wait until the service answers, fail if it does not
quit                             end the cluster";

/// Runs the cluster until `quit`, the end of the input, or an interrupt.
pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let manifest = options.manifest.clone().unwrap_or_else(|| workspace.node_manifest());
    if !netns::inside() {
        setup::ensure(&[Need::Targets, Need::Qemu, Need::Network])?;
        workspace.system(&manifest)?;
    }
    netns::enter()?;
    let image = workspace.built_system(&manifest)?;
    let directory = match &options.dir {
        Some(directory) => directory.clone(),
        None => workspace.run_directory("run")?,
    };
    let mut cluster = Cluster::new(&image, Membership::new(options.nodes)?, &directory, options.seed)?;
    if let Some(directory) = &options.pcap {
        cluster.capture(directory)?;
    }
    cluster.internal.rules(|rules| {
        rules.set_default(Rule {
            drop_percent: options.net_loss,
            delay: Duration::from_millis(options.net_delay),
            jitter: Duration::from_millis(options.net_jitter),
            ..Rule::default()
        });
    });
    if !options.quiet {
        cluster.log.print(Printer::for_stdout(if options.debug { Level::Debug } else { Level::Info }));
    }
    println!("{} nodes; service address {}; files in {}", options.nodes, cluster::service(), directory.display());
    cluster.start()?;
    console(&mut cluster)
}

/// Reads and carries out commands. In a script (input that is no terminal) the first error ends the run.
fn console(cluster: &mut Cluster) -> Result<ExitCode> {
    let interactive = std::io::stdin().is_terminal();
    if interactive {
        println!("Type `help` for the commands.");
    }
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        if !interactive && !words.is_empty() {
            println!("> {line}");
        }
        match carry_out(cluster, &words) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) if interactive => println!("error: {error:#}"),
            Err(error) => return Err(error),
        }
        let _ = std::io::stdout().flush();
    }
    Ok(ExitCode::SUCCESS)
}

/// Carries out one command; `false` means the end.
fn carry_out(cluster: &mut Cluster, words: &[&str]) -> Result<bool> {
    match words {
        [] => {}
        [comment, ..] if comment.starts_with('#') => {}
        ["help"] => println!("{HELP}"),
        ["quit" | "exit"] => return Ok(false),
        ["kill", node] => cluster.machine(number(node)?)?.kill()?,
        ["start", node] => cluster.machine(number(node)?)?.start()?,
        ["restart", node] => {
            let machine = cluster.machine(number(node)?)?;
            machine.kill()?;
            machine.start()?;
        }
        ["pause", node] => cluster.machine(number(node)?)?.pause()?,
        ["resume", node] => cluster.machine(number(node)?)?.resume()?,
        ["cut", a, b] => set_cut(cluster, a, b, true)?,
        ["heal", a, b] => set_cut(cluster, a, b, false)?,
        ["heal"] => cluster.rules(|rules| rules.clear()),
        ["loss", percent] => {
            let drop_percent =
                percent.parse().ok().filter(|p| (0.0..=100.0).contains(p)).context("loss is 0 to 100")?;
            cluster.internal.rules(|rules| rules.set_default(Rule { drop_percent, ..Rule::default() }));
        }
        ["status"] => status(cluster),
        ["redis", rest @ ..] => {
            let (host, port) = (cluster::SERVICE.to_string(), cluster::SERVICE_PORT.to_string());
            setup::ensure(&[Need::Redis])?;
            process::run(Command::new("redis-cli").args(["-h", &host, "-p", &port]).args(rest))?;
        }
        ["client", program, rest @ ..] => process::run(Command::new(program).args(rest))?,
        ["wait", seconds] => std::thread::sleep(seconds_of(seconds)?),
        ["await-service", seconds] => {
            let took = cluster.wait_for_service(&[], seconds_of(seconds)?)?;
            println!("the service answers after {} ms", took.as_millis());
        }
        [unknown, ..] => bail!("unknown or incomplete command '{unknown}'; the commands are:\n{HELP}"),
    }
    Ok(true)
}

fn number(word: &str) -> Result<Port> {
    word.parse().with_context(|| format!("'{word}' is not a node's number"))
}

fn seconds_of(word: &str) -> Result<Duration> {
    let seconds: f64 = word.parse().with_context(|| format!("'{word}' is not a number of seconds"))?;
    Duration::try_from_secs_f64(seconds).context("seconds")
}

fn set_cut(cluster: &mut Cluster, a: &str, b: &str, cut: bool) -> Result<()> {
    let (a, b) = (number(a)?, number(b)?);
    for node in [a, b].into_iter().filter(|node| *node != 0) {
        cluster.machine(node)?;
    }
    cluster.rules(|rules| rules.set_cut(a, b, cut));
    Ok(())
}

fn status(cluster: &mut Cluster) {
    for (node, state) in cluster.states() {
        let state = match state {
            State::On => "on",
            State::Off => "off",
            State::Paused => "paused",
        };
        println!("node {node}: {state}");
    }
    for (name, switch) in [("internal", &cluster.internal), ("external", &cluster.external)] {
        let counters = switch.counters();
        let (delivered, dropped, overflowed) = (counters.delivered, counters.dropped, counters.overflowed);
        println!("{name} network: {delivered} frames delivered, {dropped} dropped by rules, {overflowed} not taken");
    }
    let answers = if cluster::answers(Duration::from_secs(1)) { "answers" } else { "does not answer" };
    println!("service {}: {answers}", cluster::service());
}
