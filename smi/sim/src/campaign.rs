//! One seed: a cluster, clients, faults, oracles; then healing, after which everything must be well again.

use crate::chaos::{Chaos, DiskFault, Fault, network};
use crate::directory::{Directory, Observation, Propose};
use crate::engine::{DiskModel, MS, NetModel, SEC, US, World};
use crate::oracle::{Oracles, liveness};
use crate::prng::Prng;
use crate::workload::Workload;
use smi_cluster::{NodeId, PortId};
use smi_core::config::voters;
use smi_core::plant::{self, Plant};
use smi_core::table::Op;
use smi_core::vsr::{Stats, Status};
use smi_core::{Config, Timing};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

const PORT: PortId = PortId::MANAGER;
/// Virtual time after healing by which all must be well.
const HEALING_TIME: u64 = 30 * SEC;

/// How closely a run with ambushes is watched.
const SLICE: u64 = 500 * US;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// The seed.
    pub seed: u64,
    /// Nodes; 0 lets the seed choose.
    pub nodes: u16,
    /// Virtual time with faults, ns.
    pub duration: u64,
    /// A bug to switch on.
    pub plant: Option<Plant>,
    /// Print what happens.
    pub trace: bool,
}

/// What happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Nodes in the cluster.
    pub nodes: u16,
    /// Virtual time, ns.
    pub virtual_time: u64,
    /// Inputs handled by all nodes.
    pub steps: u64,
    /// Operations in the log.
    pub operations: u64,
    /// Client operations with a known outcome.
    pub decided: u64,
    /// Client operations without.
    pub undecided: u64,
    /// Histories of names that were too long to decide.
    pub gave_up: u64,
    /// Time from healing until all was well, ns.
    pub healing: u64,
    /// Faults by name.
    pub faults: BTreeMap<&'static str, u64>,
    /// Sums over all lives of all nodes.
    pub stats: Stats,
}

/// A violated property.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The run.
    pub seed: u64,
    /// True time, ns.
    pub at: u64,
    /// The oracle and what it saw.
    pub what: String,
}

/// Runs one seed.
pub fn run(setup: Setup) -> Result<Report, Violation> {
    plant::set(setup.plant);
    let mut campaign = Campaign::new(setup);
    let outcome = catch_unwind(AssertUnwindSafe(|| campaign.run()));
    plant::set(None);
    let what = match outcome {
        Ok(Ok(())) => return Ok(campaign.report),
        Ok(Err(what)) => what,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            format!("assertion: {}", text.unwrap_or("of unknown text"))
        }
    };
    campaign.describe();
    Err(Violation { seed: setup.seed, at: campaign.world.now(), what })
}

struct Campaign {
    setup: Setup,
    world: World<Observation>,
    oracles: Oracles,
    /// Draws faults and operations, so that the world's chance does not depend on how often it is asked.
    rng: Prng,
    workload: Workload,
    members: Vec<NodeId>,
    /// Which content of a store each node has.
    stores: BTreeMap<NodeId, u64>,
    /// Voters that have lost, or may have lost, their memory and do not vote again yet.
    amnesiacs: BTreeSet<NodeId>,
    /// When nodes that are off start again.
    restarts: BTreeMap<NodeId, u64>,
    /// Nodes about to be crashed.
    ambushes: Vec<(u64, NodeId)>,
    next_token: u64,
    report: Report,
}

impl Campaign {
    fn new(setup: Setup) -> Campaign {
        let mut rng = Prng::new(setup.seed ^ 0x5eed);
        let sizes = [3, 3, 3, 1, 2, 3, 4, 5, 5, 7];
        let drawn = *rng.pick(&sizes).unwrap_or(&3);
        let count = if setup.nodes == 0 { drawn } else { setup.nodes };
        let members: Vec<NodeId> = (1..=count).map(NodeId).collect();
        let mut world = World::new(setup.seed, NetModel::GOOD);
        for node in &members {
            let drift = rng.between(0, 600) as i64 - 300;
            world.add_machine(*node, drift);
        }
        Campaign {
            oracles: Oracles::new(setup.trace),
            setup,
            world,
            rng,
            workload: Workload::default(),
            stores: members.iter().map(|n| (*n, 1)).collect(),
            members,
            amnesiacs: BTreeSet::new(),
            restarts: BTreeMap::new(),
            ambushes: Vec::new(),
            next_token: 0,
            report: Report { nodes: count, ..Report::default() },
        }
    }

    fn run(&mut self) -> Result<(), String> {
        for node in self.members.clone() {
            let delay = self.rng.exponential(200 * MS);
            self.restarts.insert(node, delay);
        }
        let chaos = Chaos::draw(&self.members, &mut self.rng);
        self.world.net.model = network(&mut self.rng);
        let load = self.rng.between(5, 300) * MS;
        let end = self.setup.duration;
        let (mut next_fault, mut next_op) = (self.rng.exponential(chaos.period), 0);
        while self.world.now() < end {
            let next_start = self.restarts.values().min().copied().unwrap_or(end);
            let next = next_fault.min(next_op).min(next_start).min(end).max(self.world.now());
            self.run_to(if chaos.ambush > 0 { next.min(self.world.now() + SLICE) } else { next })?;
            self.start_due();
            self.ambush(chaos.ambush);
            if self.world.now() >= next_op {
                next_op = self.world.now() + self.rng.exponential(load);
                self.ask();
            }
            if self.world.now() >= next_fault {
                next_fault = self.world.now() + self.rng.exponential(chaos.period);
                if let Some(fault) = chaos.next(&mut self.rng) {
                    self.strike(fault);
                }
            }
        }
        self.heal()?;
        self.finish()
    }

    fn run_to(&mut self, time: u64) -> Result<(), String> {
        self.world.run_until(time, &mut self.oracles)
    }

    // ---- nodes ----

    fn start_due(&mut self) {
        let now = self.world.now();
        let due: Vec<NodeId> = self.restarts.iter().filter(|(_, at)| **at <= now).map(|(n, _)| *n).collect();
        for node in due {
            self.restarts.remove(&node);
            self.start(node);
        }
    }

    fn start(&mut self, node: NodeId) {
        self.oracles.say(self.world.now(), || format!("node {node} starts"));
        let config = Config {
            cluster: *b"simulated       ",
            node,
            members: self.members.clone(),
            boot: self.rng.bits(),
            store: self.stores[&node],
            external: node.0 <= 2,
            timing: Timing::QEMU,
        };
        self.world.start(node, vec![(PORT, Box::new(Directory::new(config)))]);
    }

    fn add_stats(&mut self, node: NodeId) {
        let Some(directory) = self.world.actor::<Directory>(node, PORT) else { return };
        let (s, sum) = (directory.node.stats(), &mut self.report.stats);
        sum.refused += s.refused;
        sum.views += s.views;
        sum.checkpoints += s.checkpoints;
        sum.installs += s.installs;
        sum.recoveries += s.recoveries;
    }

    // ---- clients ----

    fn ask(&mut self) {
        let Some(node) = self.rng.pick(&self.members).copied() else { return };
        let op = self.workload.next(node, &mut self.rng);
        let patience = self.rng.between(1, 5) * SEC;
        self.propose(node, op, patience);
    }

    fn propose(&mut self, node: NodeId, op: Op, patience: u64) {
        if !self.world.machine(node).is_on() {
            return;
        }
        self.next_token += 1;
        let token = self.next_token;
        self.oracles.asked(self.world.now(), node, token, &op);
        self.world.local(node, PORT, Rc::new(Propose { token, op, patience }));
    }

    // ---- faults ----

    fn strike(&mut self, fault: Fault) {
        let name = fault.name();
        if self.inflict(fault.clone()) {
            *self.report.faults.entry(name).or_default() += 1;
            self.oracles.say(self.world.now(), || format!("fault: {fault:?}"));
        }
    }

    /// False if the fault does not apply now.
    fn inflict(&mut self, fault: Fault) -> bool {
        let now = self.world.now();
        match fault {
            Fault::Crash { node, off, disk } => return self.crash(node, off, disk),
            Fault::PowerCut { off } => {
                for node in self.members.clone() {
                    let extra = self.rng.below(SEC);
                    self.crash(node, off + extra, DiskFault::Keep);
                }
            }
            Fault::Pause { node, time } => self.world.pause(node, now + time),
            Fault::Cut { directions, time } => {
                directions.iter().for_each(|(from, to)| self.world.net.cut(*from, *to, now + time));
            }
            Fault::Network(model) => self.world.net.model = model,
            Fault::Disks(model) => self.world.set_disks(model),
            Fault::Garbage { from, to, bytes } => self.world.inject(from, to, PORT, bytes),
        }
        true
    }

    /// Crashes nodes in the middle of a view change, for a moment. Then cut links may be whole again, so that who was left is there.
    fn ambush(&mut self, per_mille: u64) {
        for node in core::mem::take(&mut self.oracles.view_changes) {
            if !self.rng.chance(per_mille) {
                continue;
            }
            if self.rng.chance(500) {
                self.world.net.heal();
            }
            self.ambushes.push((self.world.now() + self.rng.exponential(3 * MS), node));
        }
        let now = self.world.now();
        for (_, node) in self.ambushes.extract_if(.., |(at, _)| *at <= now).collect::<Vec<_>>() {
            let off = self.rng.between(1, 40) * MS;
            self.strike(Fault::Crash { node, off, disk: DiskFault::Keep });
        }
    }

    fn crash(&mut self, node: NodeId, off: u64, disk: DiskFault) -> bool {
        let harms = disk != DiskFault::Keep && voters(&self.members).contains(&node);
        if !self.world.machine(node).is_on() || (harms && !self.may_forget(node)) {
            return false;
        }
        self.add_stats(node);
        self.describe();
        self.world.crash(node);
        self.oracles.say(self.world.now(), || format!("node {node} is off"));
        self.oracles.stopped(node);
        self.restarts.insert(node, self.world.now() + off);
        if harms {
            self.amnesiacs.insert(node);
        }
        let mut rng = Prng::new(self.rng.bits());
        let zone = self.world.disk(node, PORT, DiskModel::GOOD);
        match disk {
            DiskFault::Keep => {}
            DiskFault::Damage(per_mille) => zone.damage(per_mille, &mut rng),
            DiskFault::Wipe => {
                zone.wipe();
                *self.stores.entry(node).or_default() += 1;
            }
        }
        true
    }

    /// Whether this voter may lose its memory too: no more than the faults that the cluster tolerates (none of two or one).
    fn may_forget(&mut self, node: NodeId) -> bool {
        let remembers = |n: &NodeId| {
            let status = self.world.actor::<Directory>(*n, PORT).map(|d| d.node.status());
            matches!(status, Some(Status::Normal | Status::ViewChange))
        };
        let back: Vec<NodeId> = self.amnesiacs.iter().copied().filter(remembers).collect();
        back.iter().for_each(|n| {
            self.amnesiacs.remove(n);
        });
        let count = voters(&self.members).len();
        let tolerated = (count - 1) / 2;
        self.amnesiacs.contains(&node) || self.amnesiacs.len() < tolerated
    }

    // ---- the end ----

    fn heal(&mut self) -> Result<(), String> {
        let healed = self.world.now();
        self.oracles.say(healed, || "all faults are over".into());
        self.world.net.heal();
        self.world.net.model = NetModel::GOOD;
        self.world.set_disks(DiskModel::GOOD);
        for node in self.members.clone() {
            self.world.pause(node, 0);
            if !self.world.machine(node).is_on() {
                self.start(node);
            }
        }
        self.restarts.clear();
        self.until_well(healed + HEALING_TIME)?;
        self.report.healing = self.world.now() - healed;
        // Now every node gets an operation through in reasonable time.
        let before = self.oracles.acknowledged.undecided;
        for node in self.members.clone() {
            let op = self.workload.next(node, &mut self.rng);
            self.propose(node, op, 2 * SEC);
        }
        self.run_to(self.world.now() + 3 * SEC)?;
        if self.oracles.acknowledged.undecided > before {
            return Err("liveness: a healthy cluster does not answer".into());
        }
        self.until_well(self.world.now() + SEC)
    }

    fn until_well(&mut self, limit: u64) -> Result<(), String> {
        loop {
            self.run_to(self.world.now() + 100 * MS)?;
            match liveness::ailment(&self.world, self.oracles.agreement.op()) {
                None => return Ok(()),
                Some(what) if self.world.now() >= limit => return Err(format!("liveness: {what}")),
                Some(_) => {}
            }
        }
    }

    /// Says in the trace what state every node is in.
    fn describe(&self) {
        for node in &self.members {
            let Some(directory) = self.world.actor::<Directory>(*node, PORT) else { continue };
            self.oracles.say(self.world.now(), || format!("node {node}: {:?}", directory.node));
        }
    }

    fn finish(&mut self) -> Result<(), String> {
        for node in self.members.clone() {
            self.add_stats(node);
        }
        if self.oracles.acknowledged.open() > 0 {
            return Err(format!("bounds: {} questions were never answered", self.oracles.acknowledged.open()));
        }
        self.report.gave_up = self.oracles.names.check()?;
        self.report.virtual_time = self.world.now();
        self.report.steps = self.world.steps;
        self.report.operations = self.oracles.agreement.op();
        self.report.decided = self.oracles.acknowledged.decided;
        self.report.undecided = self.oracles.acknowledged.undecided;
        Ok(())
    }
}
