//! Faults other than the demonstration's, each on a fresh cluster: `cargo xtask scenario NAME`. A scenario is a list of faults
//! between "clients write" and "every acknowledged write is read back"; or a node that must be refused, loudly, while the
//! rest works.

use crate::watch;
use anyhow::{Context, Result, bail, ensure};
use harness::cluster::{self, Cluster, DISK_BLOCKS, Image, Membership, format_disk, write_identity};
use harness::load::{self, Load, Spec};
use harness::log::{Line, Mark};
use harness::switch::Rule;
use harness::timeline::Timeline;
use std::path::Path;
use std::time::Duration;

/// A scenario: its name, what it shows, and how it is played.
pub struct Scenario {
    /// The name on the command line.
    pub name: &'static str,
    /// What must hold, in a sentence.
    pub about: &'static str,
    /// The manifest of the nodes' image, if it is not the usual one.
    pub manifest: Option<&'static str>,
    play: fn(&mut Stage) -> Result<()>,
}

/// All scenarios.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "each-node-in-turn",
        about: "every node dies once and comes back; what the last original copy held was copied in time",
        manifest: None,
        play: each_node_in_turn,
    },
    Scenario {
        name: "paused-primary",
        about: "the database's node is stopped for 5 s and then goes on, believing nothing happened",
        manifest: None,
        play: paused_primary,
    },
    Scenario {
        name: "cut-off-primary",
        about: "the database's node loses the internal network only, so clients can still reach it",
        manifest: None,
        play: cut_off_primary,
    },
    Scenario {
        name: "bad-network",
        about: "the internal network loses, duplicates and reorders frames while the database's node dies",
        manifest: None,
        play: bad_network,
    },
    Scenario {
        name: "truncated-disk",
        about: "a node whose disk image was cut short is refused and says so; the others serve",
        manifest: None,
        play: truncated_disk,
    },
    Scenario {
        name: "foreign-disk",
        about: "a node with a disk of another cluster is not let in; the others serve",
        manifest: None,
        play: foreign_disk,
    },
    Scenario {
        name: "wrong-key",
        about: "a node with the wrong cluster key is not let in; the others serve",
        manifest: None,
        play: wrong_key,
    },
    Scenario {
        name: "server-moves",
        about: "programs of all nodes call a server by its name; when its node dies, another has the name",
        manifest: Some("images/apps.toml"),
        play: server_moves,
    },
];

const NODES: u16 = 3;
const BOOT_LIMIT: Duration = Duration::from_secs(60);
const LIMIT: Duration = Duration::from_secs(60);
const VERIFY_LIMIT: Duration = Duration::from_secs(120);
const WRITES_EACH: usize = 100;

/// Plays the scenario of this name on a cluster in `directory`.
pub fn run(name: &str, image: &Image, directory: &Path, seed: u64) -> Result<()> {
    let scenario = ALL.iter().find(|scenario| scenario.name == name).with_context(|| {
        let names: Vec<&str> = ALL.iter().map(|scenario| scenario.name).collect();
        format!("there is no scenario '{name}'; there are: {}", names.join(", "))
    })?;
    let cluster = Cluster::new(image, Membership::new(NODES)?, directory, seed)?;
    cluster.capture(directory)?;
    let mut stage = Stage { cluster, timeline: Timeline::new(), seed };
    stage.timeline.say(format!("{}: {}.", scenario.name, scenario.about));
    let played = (scenario.play)(&mut stage);
    match &played {
        Ok(()) => stage.timeline.say("It held."),
        Err(error) => {
            stage.timeline.say(format!("FAILED: {error:#}"));
            stage.timeline.say(format!("Consoles and network captures: {}", directory.display()));
        }
    }
    played
}

/// A cluster on which a scenario is played.
struct Stage {
    cluster: Cluster,
    timeline: Timeline,
    seed: u64,
}

impl Stage {
    fn all(&self) -> Vec<u16> {
        (1..=NODES).collect()
    }

    /// Switches all nodes on and waits for the service and for all replicas.
    fn boot(&mut self) -> Result<()> {
        self.cluster.start()?;
        let took = self.cluster.wait_for_service(&[], BOOT_LIMIT)?;
        ensure!(watch::wait_redundant(&self.cluster.log, &self.all(), LIMIT), "not all replicas exist after the start");
        self.timeline.say(format!("{NODES} nodes serve after {} ms.", took.as_millis()));
        Ok(())
    }

    fn clients(&mut self) -> Result<Load> {
        let load = Load::start(Spec::new(cluster::service(), self.seed))?;
        load.wait_for_acks(Duration::ZERO, WRITES_EACH, LIMIT)?;
        Ok(load)
    }

    /// More writes must be acknowledged from now on.
    fn writes_go_on(&mut self, load: &Load, when: &str) -> Result<()> {
        load.wait_for_acks(load.elapsed(), WRITES_EACH, LIMIT).with_context(|| when.to_owned())?;
        self.timeline.say(format!("Clients write {when}."));
        Ok(())
    }

    fn database_node(&self) -> Result<u16> {
        watch::service_node(&self.cluster.log, "db").context("no node reported that it runs the database")
    }

    /// Every acknowledged write must be there, and no read in between may have missed one.
    fn nothing_lost(&mut self, load: Load) -> Result<()> {
        let spec = load.spec();
        let history = load.stop();
        let verdict = load::verify(&spec, &history, VERIFY_LIMIT)?;
        let pause = history.longest_gap(Duration::ZERO).map_or(0, |(_, gap)| gap.as_millis());
        self.timeline.say(format!(
            "{} acknowledged writes read back, {} lost; {} reads in between, {} wrong; longest pause {pause} ms.",
            verdict.checked,
            verdict.lost.len(),
            history.reads,
            history.wrong_reads.len()
        ));
        ensure!(verdict.lost.is_empty(), "lost: {}", verdict.lost.join("; "));
        ensure!(history.wrong_reads.is_empty(), "wrong reads: {}", history.wrong_reads.join("; "));
        Ok(())
    }

    fn say(&mut self, text: String) {
        self.timeline.say(text);
    }
}

fn each_node_in_turn(stage: &mut Stage) -> Result<()> {
    stage.boot()?;
    let load = stage.clients()?;
    for node in stage.all() {
        let mark = stage.cluster.log.mark();
        let survivors: Vec<u16> = stage.all().into_iter().filter(|other| *other != node).collect();
        stage.cluster.machine(node)?.kill()?;
        stage.say(format!("Node {node} is killed."));
        stage.writes_go_on(&load, &format!("without node {node}"))?;
        ensure!(watch::wait_redundant(&stage.cluster.log, &survivors, LIMIT), "copies were not made again");
        stage.cluster.machine(node)?.start()?;
        let up = [("node", u64::from(node))];
        let joined = watch::wait_for(&stage.cluster.log, mark, &survivors, LIMIT, "node-up", &up);
        joined.with_context(|| format!("node {node} did not rejoin"))?;
        ensure!(watch::wait_redundant(&stage.cluster.log, &stage.all(), LIMIT), "copies were not made again");
        stage.writes_go_on(&load, &format!("after node {node} rejoined"))?;
    }
    stage.nothing_lost(load)
}

/// Waits until the visitors of `nodes` were greeted since `mark`.
fn greeted(stage: &Stage, mark: Mark, nodes: &[u16]) -> Result<()> {
    for node in nodes {
        let hello = |line: &Line| line.node == *node && line.source == "visitor" && line.text.starts_with("Hello");
        let line = stage.cluster.log.wait(mark, LIMIT, hello);
        line.with_context(|| format!("the visitor of node {node} was not greeted"))?;
    }
    Ok(())
}

fn server_moves(stage: &mut Stage) -> Result<()> {
    stage.cluster.start()?;
    greeted(stage, Mark::default(), &stage.all())?;
    for _ in 0..2 {
        let exported = |line: &Line| line.source == "greeter" && line.text.starts_with("exported");
        let log = stage.cluster.log.clone();
        let last = log.since(Mark::default(), exported).pop().context("no greeter said that it has the name")?;
        let survivors: Vec<u16> = stage.all().into_iter().filter(|other| *other != last.node).collect();
        stage.say(format!("The greeter of node {} greets the visitors of all nodes.", last.node));
        let mark = log.mark();
        stage.cluster.machine(last.node)?.kill()?;
        stage.say(format!("Node {} is killed.", last.node));
        let next = log.wait(mark, LIMIT, exported).context("no other greeter took the name")?;
        ensure!(next.node != last.node, "a dead node took the name");
        greeted(stage, log.mark(), &survivors)?;
        stage.say(format!("The greeter of node {} greets the others.", next.node));
        let mark = log.mark();
        stage.cluster.machine(last.node)?.start()?;
        greeted(stage, mark, &[last.node])?;
        stage.say(format!("Node {} is back, and its visitor is greeted.", last.node));
    }
    Ok(())
}

fn paused_primary(stage: &mut Stage) -> Result<()> {
    stage.boot()?;
    let load = stage.clients()?;
    let node = stage.database_node()?;
    stage.cluster.machine(node)?.pause()?;
    stage.say(format!("Node {node}, which runs the database, is stopped in its tracks."));
    stage.writes_go_on(&load, "while it stands still")?;
    std::thread::sleep(Duration::from_secs(5));
    stage.cluster.machine(node)?.resume()?;
    stage.say(format!("Node {node} goes on."));
    stage.writes_go_on(&load, "after it went on")?;
    ensure!(watch::wait_redundant(&stage.cluster.log, &stage.all(), LIMIT), "copies were not made again");
    stage.nothing_lost(load)
}

fn cut_off_primary(stage: &mut Stage) -> Result<()> {
    stage.boot()?;
    let load = stage.clients()?;
    let node = stage.database_node()?;
    let all = stage.all();
    stage.cluster.internal.rules(|rules| rules.partition(&[node], &all));
    stage.say(format!("Node {node}, which runs the database, is cut off from the other nodes, not from the clients."));
    stage.writes_go_on(&load, "on the majority's side")?;
    std::thread::sleep(Duration::from_secs(2));
    stage.cluster.internal.rules(|rules| rules.clear());
    stage.say("The network is healed.".into());
    stage.writes_go_on(&load, "after the healing")?;
    ensure!(watch::wait_redundant(&stage.cluster.log, &stage.all(), LIMIT), "copies were not made again");
    stage.nothing_lost(load)
}

fn bad_network(stage: &mut Stage) -> Result<()> {
    stage.boot()?;
    let load = stage.clients()?;
    let bad = Rule {
        drop_percent: 2.0,
        duplicate_percent: 1.0,
        reorder_percent: 2.0,
        delay: Duration::from_millis(1),
        jitter: Duration::from_millis(2),
        ..Rule::default()
    };
    stage.cluster.internal.rules(|rules| rules.set_default(bad));
    stage.say("The internal network loses 2 % of its frames, duplicates 1 %, reorders 2 %.".into());
    stage.writes_go_on(&load, "over the bad network")?;
    let node = stage.database_node()?;
    stage.cluster.machine(node)?.kill()?;
    stage.say(format!("Node {node}, which runs the database, is killed."));
    stage.writes_go_on(&load, "on the survivors")?;
    stage.nothing_lost(load)
}

/// Starts a node again whose disk `spoil` has changed meanwhile. The node must not be let in: some console line for which
/// `told` holds must say why. The others must go on, and nothing may be lost. (The cluster is formed before: a new one first
/// starts with all its voters.)
fn refused(stage: &mut Stage, spoil: fn(&Cluster, u16) -> Result<()>, told: fn(&Line) -> bool) -> Result<()> {
    let bad = NODES;
    let others: Vec<u16> = (1..bad).collect();
    stage.boot()?;
    let load = stage.clients()?;
    stage.cluster.machine(bad)?.kill()?;
    stage.writes_go_on(&load, &format!("without node {bad}"))?;
    spoil(&stage.cluster, bad)?;
    let mark = stage.cluster.log.mark();
    stage.cluster.machine(bad)?.start()?;
    stage.say(format!("Node {bad} is switched on with another disk."));
    let line = stage.cluster.log.wait(mark, LIMIT, told).context("no console said why the node is refused")?;
    let source = if line.source.is_empty() { "console" } else { &line.source };
    stage.say(format!("Node {}'s {source} says: {}", line.node, line.text));
    stage.writes_go_on(&load, "on the other nodes, undisturbed")?;
    std::thread::sleep(Duration::from_secs(3));
    stage.writes_go_on(&load, "still")?;
    let up = [("node", u64::from(bad))];
    let joined = watch::wait_for(&stage.cluster.log, mark, &others, Duration::ZERO, "node-up", &up);
    ensure!(joined.is_none(), "node {bad} was let in");
    stage.nothing_lost(load)
}

/// Whether a line says that node 3 is turned away at the link.
fn says_link_refused(line: &Line) -> bool {
    let refused = watch::Status::of(line).filter(|status| status.word == "link-refused");
    line.node != NODES && refused.is_some_and(|status| status.number("node") == Some(NODES.into()))
}

fn truncated_disk(stage: &mut Stage) -> Result<()> {
    let spoil = |cluster: &Cluster, node: u16| {
        let file = std::fs::OpenOptions::new().write(true).open(cluster.disk(node))?;
        Ok(file.set_len(DISK_BLOCKS * 4096 / 2)?)
    };
    refused(stage, spoil, |line| line.node == NODES && line.text.contains("truncated"))
}

fn foreign_disk(stage: &mut Stage) -> Result<()> {
    let spoil = |cluster: &Cluster, node: u16| {
        let other = Membership::new(NODES)?;
        format_disk(&cluster.disk(node), &other.identity(node, DISK_BLOCKS)?)
    };
    refused(stage, spoil, says_link_refused)
}

fn wrong_key(stage: &mut Stage) -> Result<()> {
    let spoil = |cluster: &Cluster, node: u16| {
        let mut other = cluster.membership.clone();
        other.key[0] ^= 1;
        if other.key == cluster.membership.key {
            bail!("the key is unchanged");
        }
        write_identity(&cluster.disk(node), &other.identity(node, DISK_BLOCKS)?)
    };
    refused(stage, spoil, says_link_refused)
}
