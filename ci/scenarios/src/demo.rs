//! The demonstration: three nodes serve an unmodified Redis client through one address; one is killed while clients write.
//!
//! What must hold: every acknowledged write is still there, the service came back on the survivors, the lost copies were made
//! again, and the killed node rejoins. What clients see decides; the nodes' status lines only add times to the story.

use crate::watch;
use anyhow::{Context, Result, bail};
use harness::cluster::{self, Cluster, Image, Membership};
use harness::load::{self, Load, Spec};
use harness::process;
use harness::rng::Rng;
use harness::timeline::Timeline;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// How the demonstration is run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Number of nodes.
    pub nodes: u16,
    /// Seed of the clients and the network.
    pub seed: u64,
    /// Which node is killed.
    pub kill: Kill,
}

/// Which node is killed, and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kill {
    /// The one that runs the database, once writes are under way.
    Primary,
    /// This one, once writes are under way.
    Node(u16),
    /// Any, at any moment of the next two seconds, as the seed says.
    Random,
}

/// From power-on until the service answers.
const BOOT_LIMIT: Duration = Duration::from_secs(60);
/// From the kill until the survivors have noticed, and until clients can write again.
const TAKEOVER_LIMIT: Duration = Duration::from_secs(30);
/// Until every copy exists again, and until a node that was started again has joined.
const REPAIR_LIMIT: Duration = Duration::from_secs(60);
/// For reading every acknowledged write back.
const VERIFY_LIMIT: Duration = Duration::from_secs(120);
/// Writes that must be acknowledged before the kill, after it, and after the node's return.
const WRITES_EACH: usize = 200;

/// What a run of the demonstration found.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The figures, as an object.
    pub figures: Value,
    /// What did not hold, in words. Empty means success.
    pub failures: Vec<String>,
}

/// Runs the demonstration once. `Err` means that it could not be run; a run that went wrong is an [`Outcome`] with failures.
pub fn run(image: &Image, directory: &Path, options: &Options) -> Result<Outcome> {
    let cluster = Cluster::new(image, Membership::new(options.nodes)?, directory, options.seed)?;
    cluster.capture(directory)?;
    let mut demo = Demo {
        cluster,
        timeline: Timeline::new(),
        options: *options,
        figures: json!({ "nodes": options.nodes, "seed": options.seed }),
        failures: Vec::new(),
        victim: 0,
        survivors: Vec::new(),
    };
    if let Err(error) = demo.play() {
        demo.fail(format!("{error:#}"));
    }
    demo.report();
    Ok(Outcome { figures: demo.figures, failures: demo.failures })
}

struct Demo {
    cluster: Cluster,
    timeline: Timeline,
    options: Options,
    figures: Value,
    failures: Vec<String>,
    victim: u16,
    survivors: Vec<u16>,
}

impl Demo {
    /// The acts in their order. The first that cannot go on ends the play.
    fn play(&mut self) -> Result<()> {
        self.boot()?;
        self.greet("greeting", "hello from before the failure")?;
        let load = self.start_clients()?;
        let mut visits = Visits::start()?;
        let killed = self.kill(&load)?;
        let back = self.take_over(&load, killed)?;
        self.read_greeting("greeting", "hello from before the failure")?;
        self.rejoin(&load)?;
        self.benchmark()?;
        self.count(load, &mut visits, killed, back)
    }

    fn boot(&mut self) -> Result<()> {
        let nodes = self.options.nodes;
        self.timeline.say(format!("{nodes} machines are switched on; each boots the kernel and the SMI servers."));
        self.cluster.start()?;
        let took = self.cluster.wait_for_service(&[], BOOT_LIMIT)?;
        self.figures["boot_ms"] = millis(took);
        self.timeline.say(format!(
            "The cluster is one machine now: it answers at {}. ({} ms after power-on)",
            cluster::service(),
            took.as_millis()
        ));
        let all: Vec<u16> = (1..=nodes).collect();
        if !watch::wait_redundant(&self.cluster.log, &all, REPAIR_LIMIT) {
            bail!("not every group had all its replicas within {} s of power-on", REPAIR_LIMIT.as_secs());
        }
        Ok(())
    }

    /// An unmodified client writes a value.
    fn greet(&mut self, key: &str, value: &str) -> Result<()> {
        let answer = redis(&["set", key, value])?;
        self.timeline.say(format!("redis-cli, unmodified: set {key} \"{value}\" -> {answer}"));
        if answer != "OK" {
            bail!("redis-cli could not write: {answer}");
        }
        Ok(())
    }

    fn read_greeting(&mut self, key: &str, expected: &str) -> Result<()> {
        let answer = redis(&["get", key])?;
        self.timeline.say(format!("redis-cli: get {key} -> \"{answer}\""));
        if answer != expected {
            self.fail(format!("redis-cli read \"{answer}\" where \"{expected}\" was written"));
        }
        Ok(())
    }

    fn start_clients(&mut self) -> Result<Load> {
        let load = Load::start(Spec::new(cluster::service(), self.options.seed))?;
        let acks = load.wait_for_acks(Duration::ZERO, WRITES_EACH, TAKEOVER_LIMIT)?;
        let writers = load.spec().writers;
        self.timeline.say(format!("{writers} clients write all the time; {acks} writes are acknowledged so far."));
        Ok(load)
    }

    /// Kills a node; returns when, on the clock of the clients.
    fn kill(&mut self, load: &Load) -> Result<Moment> {
        let serving = watch::service_node(&self.cluster.log, "db");
        self.victim = match self.options.kill {
            Kill::Primary => serving.unwrap_or(1),
            Kill::Node(node) => node,
            Kill::Random => {
                let mut rng = Rng::new(self.options.seed);
                std::thread::sleep(Duration::from_millis(rng.draw() % 2000));
                1 + (rng.draw() % u64::from(self.options.nodes)) as u16
            }
        };
        self.survivors = (1..=self.options.nodes).filter(|node| *node != self.victim).collect();
        let role =
            if serving == Some(self.victim) { "which runs the database" } else { "which does not run the database" };
        let mark = self.cluster.log.mark();
        let acked = load.history().acks.len();
        let moment =
            Moment { load: load.elapsed(), log: self.cluster.log.elapsed(), story: self.timeline.elapsed(), mark };
        self.cluster.machine(self.victim)?.kill()?;
        self.figures["killed_node"] = json!(self.victim);
        self.figures["killed_the_primary"] = json!(serving == Some(self.victim));
        self.timeline.say(format!(
            "Node {} ({role}) is killed with SIGKILL, in the middle of writes; {acked} are acknowledged.",
            self.victim
        ));
        Ok(moment)
    }

    /// The survivors notice, go on, and make the lost copies again; returns when clients could write again, on their clock.
    fn take_over(&mut self, load: &Load, killed: Moment) -> Result<Duration> {
        let victim = u64::from(self.victim);
        let (log, survivors) = (&self.cluster.log, &self.survivors);
        let wait = |limit, word, values: &[(&str, u64)]| {
            let at = watch::wait_for(log, killed.mark, survivors, limit, word, values)?;
            Some(at.saturating_sub(killed.log))
        };
        let noticed = wait(TAKEOVER_LIMIT, "node-down", &[("node", victim)]);
        let noticed = noticed.context("no survivor reported that the node is dead")?;
        load.wait_for_acks(killed.load + noticed, WRITES_EACH, TAKEOVER_LIMIT).context("after the failure")?;
        // A node without copies of anything takes none with it.
        let lost = wait(Duration::from_millis(100), "redundancy-lost", &[]).is_some();
        let restored = if lost { wait(REPAIR_LIMIT, "redundancy-restored", &[]) } else { Some(Duration::ZERO) };
        let restored = restored.context("the lost copies were not made again")?;
        let copies = if lost { "Every lost copy has been made again on the survivors." } else { "It held no copies." };
        let history = load.history();
        let (gap_start, outage) = history.longest_gap(killed.load).context("no writes on both sides of the failure")?;
        let back = gap_start + outage;
        for (key, time) in [("detection_ms", noticed), ("outage_ms", outage), ("redundancy_restored_ms", restored)] {
            self.figures[key] = millis(time);
        }
        let mut events = [
            (noticed, format!("The survivors agree that node {victim} is dead.")),
            (
                back.saturating_sub(killed.load),
                format!(
                    "Service is back on the survivors. (pause between two acknowledgements: {} ms)",
                    outage.as_millis()
                ),
            ),
            (restored, copies.into()),
        ];
        events.sort();
        for (after, text) in events {
            self.timeline.say_at(killed.story + after, format!("+{} ms: {text}", after.as_millis()));
        }
        Ok(back)
    }

    fn rejoin(&mut self, load: &Load) -> Result<()> {
        self.figures["rejoined"] = json!(false);
        let mark = self.cluster.log.mark();
        let (started, story, at_load) = (self.cluster.log.elapsed(), self.timeline.elapsed(), load.elapsed());
        self.cluster.machine(self.victim)?.start()?;
        self.timeline.say(format!("Node {} is switched on again, with the disk that it had.", self.victim));
        let victim = u64::from(self.victim);
        let log = &self.cluster.log;
        let joined = watch::wait_for(log, mark, &self.survivors, REPAIR_LIMIT, "node-up", &[("node", victim)]);
        let joined = joined.with_context(|| format!("node {victim} did not rejoin"))?.saturating_sub(started);
        self.figures["rejoin_ms"] = millis(joined);
        self.timeline.say_at(story + joined, format!("Node {victim} has rejoined. ({} ms)", joined.as_millis()));
        load.wait_for_acks(at_load + joined, WRITES_EACH, TAKEOVER_LIMIT).context("after the node's return")?;
        let all: Vec<u16> = (1..=self.options.nodes).collect();
        if !watch::wait_redundant(&self.cluster.log, &all, REPAIR_LIMIT) {
            bail!("not every group had all its replicas after node {victim} rejoined");
        }
        self.figures["rejoined"] = json!(true);
        Ok(())
    }

    /// The unmodified benchmark, for the figure and for its complaints.
    fn benchmark(&mut self) -> Result<()> {
        let said = client("redis-benchmark", &["-t", "set,get", "-n", "500", "-c", "4", "-q"])?;
        // It redraws its line with carriage returns; the last drawing counts.
        let lines: Vec<&str> =
            said.lines().filter_map(|line| line.rsplit('\r').find(|part| !part.trim().is_empty())).collect();
        self.timeline.say("redis-benchmark, unmodified, against the whole cluster again:");
        self.timeline.detail(&lines.join("\n"));
        Ok(())
    }

    /// Every acknowledged write is read back.
    fn count(&mut self, load: Load, visits: &mut Visits, killed: Moment, back: Duration) -> Result<()> {
        let spec = load.spec();
        let history = load.stop();
        let during = history.acks.iter().filter(|ack| ack.sent <= killed.load && ack.acked > killed.load).count();
        let figures = &mut self.figures;
        figures["acknowledged_writes"] = json!(history.acks.len());
        figures["acknowledged_after_failure"] = json!(history.acks_since(back));
        figures["under_way_at_failure_and_acknowledged"] = json!(during);
        figures["unknown_writes"] = json!(history.unknown);
        figures["refused_writes"] = json!(history.refused);
        figures["broken_connections"] = json!(history.broken);
        let waited = history.longest_wait(spec.writers, killed.load).map(millis);
        figures["longest_wait_of_a_client_ms"] = waited.unwrap_or_default();
        figures["reads"] = json!(history.reads);
        figures["wrong_reads"] = json!(history.wrong_reads.len());
        self.timeline.say(format!(
            "{} of {} connections had to be made anew; no client waited longer than {} ms.",
            history.broken, spec.writers, self.figures["longest_wait_of_a_client_ms"]
        ));
        let verdict = load::verify(&spec, &history, VERIFY_LIMIT)?;
        self.figures["lost_writes"] = json!(verdict.lost.len());
        self.timeline.say(format!(
            "All {} acknowledged writes were read back: {} lost. {} reads in between: {} wrong.",
            verdict.checked,
            verdict.lost.len(),
            history.reads,
            history.wrong_reads.len()
        ));
        for (what, found) in [("lost", &verdict.lost), ("wrong read", &history.wrong_reads)] {
            if let Some(first) = found.first() {
                self.fail(format!("{} {what}, the first: {first}", found.len()));
            }
        }
        self.read_visits(visits)
    }

    /// A redis-cli counted through the failure: the counter must have reached at least the last number that it was told.
    fn read_visits(&mut self, visits: &mut Visits) -> Result<()> {
        let told = visits.stop();
        let stored: i64 = redis(&["get", "visits"])?.parse().context("the counter is no number")?;
        self.figures["counter_told"] = json!(told);
        self.figures["counter_stored"] = json!(stored);
        self.timeline
            .say(format!("A redis-cli that counted through all of it was told {told} last; stored is {stored}."));
        if told == 0 || stored < told {
            self.fail(format!("the counter was told {told} and holds {stored}"));
        }
        Ok(())
    }

    fn fail(&mut self, what: String) {
        self.timeline.say(format!("FAILED: {what}"));
        self.failures.push(what);
    }

    fn report(&mut self) {
        let directory = self.cluster.directory().display().to_string();
        if self.failures.is_empty() {
            self.timeline.say("Everything held: no acknowledged write was lost, service and redundancy came back.");
        } else {
            for alarm in self.cluster.log.since(Default::default(), |line| line.level == harness::log::Level::Error) {
                self.timeline.detail(&harness::log::Printer { colour: false, least: alarm.level }.format(&alarm));
            }
        }
        println!("             Consoles and network captures: {directory}");
        self.figures["ok"] = json!(self.failures.is_empty());
        self.figures["failures"] = json!(self.failures);
        let events: Vec<Value> =
            self.timeline.events().iter().map(|e| json!({ "ms": e.at.as_millis() as u64, "text": e.text })).collect();
        self.figures["timeline"] = json!(events);
    }
}

/// One moment on three clocks: the clients', the log's and the story's.
#[derive(Clone, Copy, Debug)]
struct Moment {
    load: Duration,
    log: Duration,
    story: Duration,
    mark: harness::log::Mark,
}

fn millis(time: Duration) -> Value {
    json!(time.as_millis() as u64)
}

/// Runs an unmodified client program at the service address and returns what it printed, trimmed.
fn client(program: &str, words: &[&str]) -> Result<String> {
    let mut command = client_command(program);
    command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("starting {program}"))?;
    if process::wait_until(&mut child, Instant::now() + TAKEOVER_LIMIT)?.is_none() {
        let _ = child.kill();
        let _ = child.wait();
        bail!("{program} {} did not end within {} s", words.join(" "), TAKEOVER_LIMIT.as_secs());
    }
    let mut said = String::new();
    child.stdout.take().context("stdout")?.read_to_string(&mut said)?;
    child.stderr.take().context("stderr")?.read_to_string(&mut said)?;
    Ok(said.trim().to_owned())
}

fn redis(words: &[&str]) -> Result<String> {
    client("redis-cli", words)
}

fn client_command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.args(["-h", &cluster::SERVICE.to_string(), "-p", &cluster::SERVICE_PORT.to_string()]);
    process::die_with_us(&mut command);
    command
}

/// A redis-cli that increments a counter, over and over, from before the failure until it is stopped.
struct Visits {
    client: Child,
    /// The last number that it was told.
    told: Arc<AtomicI64>,
}

impl Visits {
    /// Starts it; returns once it has been told its first number, so that a failure always finds it counting.
    fn start() -> Result<Visits> {
        let mut command = client_command("redis-cli");
        command.args(["-r", "1000", "-i", "0.1", "incr", "visits"]);
        let mut client = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().context("starting redis-cli")?;
        let told = Arc::new(AtomicI64::new(0));
        if let Some(stdout) = client.stdout.take() {
            let told = told.clone();
            std::thread::spawn(move || {
                let numbers = BufReader::new(stdout).lines().map_while(Result::ok);
                numbers.filter_map(|line| line.trim().parse().ok()).for_each(|n| told.store(n, Ordering::SeqCst));
            });
        }
        let visits = Visits { client, told };
        let limit = Instant::now() + TAKEOVER_LIMIT;
        while visits.told() == 0 {
            if Instant::now() > limit {
                bail!("redis-cli, counting, had no answer within {} s", TAKEOVER_LIMIT.as_secs());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(visits)
    }

    /// The last number that it was told, 0 if none.
    fn told(&self) -> i64 {
        self.told.load(Ordering::SeqCst)
    }

    /// Ends it; returns the last number that it was told.
    fn stop(&mut self) -> i64 {
        let _ = self.client.kill();
        let _ = self.client.wait();
        self.told()
    }
}

impl Drop for Visits {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The figures of several runs as one object: the worst of each, and the runs themselves.
pub fn summary(runs: &[Value]) -> Value {
    let Some(first) = runs.first() else { return json!({}) };
    let numbers = |key: &str| runs.iter().filter_map(|run| run[key].as_u64()).collect::<Vec<_>>();
    let mut summary = json!({ "nodes": first["nodes"], "runs": runs });
    for key in
        ["boot_ms", "detection_ms", "outage_ms", "longest_wait_of_a_client_ms", "redundancy_restored_ms", "rejoin_ms"]
    {
        let mut sorted = numbers(key);
        sorted.sort_unstable();
        summary[key] = json!(sorted.last());
        summary[format!("{key}_median")] = json!(sorted.get(sorted.len() / 2));
    }
    for key in ["acknowledged_writes", "lost_writes", "unknown_writes", "broken_connections", "wrong_reads"] {
        summary[key] = json!(numbers(key).iter().sum::<u64>());
    }
    for key in ["rejoined", "ok"] {
        summary[key] = json!(runs.iter().all(|run| run[key] == json!(true)));
    }
    summary
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_runs_are_summed_up_by_their_worst() {
        let run = |outage: u64, lost: u64, rejoined: bool| json!({ "nodes": 3, "outage_ms": outage, "lost_writes": lost, "rejoined": rejoined, "ok": lost == 0 });
        let all = summary(&[run(300, 0, true), run(900, 1, true), run(400, 0, false)]);
        assert_eq!((&all["nodes"], &all["outage_ms"], &all["outage_ms_median"]), (&json!(3), &json!(900), &json!(400)));
        assert_eq!((&all["lost_writes"], &all["rejoined"], &all["ok"]), (&json!(1), &json!(false), &json!(false)));
        assert_eq!(all["runs"].as_array().map(Vec::len), Some(3));
        assert_eq!(summary(&[]), json!({}));
    }
}
