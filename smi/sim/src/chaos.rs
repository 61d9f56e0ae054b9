//! Faults. Each seed draws a few kinds and how often they come, so that some runs have many of one kind and none of another.
//!
//! What a cluster is not built for is left out: at no time do more voters lack their memory than a quorum can make up for.

use crate::engine::{DiskModel, MS, NetModel, SEC};
use crate::prng::Prng;
use smi_cluster::NodeId;

/// What happens to a disk while its node is off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskFault {
    /// Nothing but what a crash does.
    Keep,
    /// Another, blank disk.
    Wipe,
    /// So many of 1000 blocks are damaged, at least one.
    Damage(u64),
}

/// One fault.
#[derive(Clone, Debug)]
pub enum Fault {
    /// A node loses power for a time.
    Crash {
        /// Which.
        node: NodeId,
        /// For how long, ns.
        off: u64,
        /// Its disk.
        disk: DiskFault,
    },
    /// All nodes lose power.
    PowerCut {
        /// For how long, ns.
        off: u64,
    },
    /// A node stops and goes on without knowing.
    Pause {
        /// Which.
        node: NodeId,
        /// For how long, ns.
        time: u64,
    },
    /// Directions that are cut for a time.
    Cut {
        /// Which.
        directions: Vec<(NodeId, NodeId)>,
        /// For how long, ns.
        time: u64,
    },
    /// All links behave otherwise.
    Network(NetModel),
    /// All disks behave otherwise.
    Disks(DiskModel),
    /// Bytes that no node sent.
    Garbage {
        /// Alleged sender.
        from: NodeId,
        /// Victim.
        to: NodeId,
        /// The bytes.
        bytes: Vec<u8>,
    },
}

impl Fault {
    /// The kind's name.
    pub fn name(&self) -> &'static str {
        match self {
            Fault::Crash { disk: DiskFault::Keep, .. } => "crash",
            Fault::Crash { disk: DiskFault::Wipe, .. } => "lost disk",
            Fault::Crash { disk: DiskFault::Damage(_), .. } => "damaged disk",
            Fault::PowerCut { .. } => "power cut",
            Fault::Pause { .. } => "pause",
            Fault::Cut { .. } => "cut",
            Fault::Network(_) => "network",
            Fault::Disks(_) => "disks",
            Fault::Garbage { .. } => "garbage",
        }
    }
}

const KINDS: usize = 9;

/// The faults of one seed.
#[derive(Clone, Debug)]
pub struct Chaos {
    nodes: Vec<NodeId>,
    weights: [u64; KINDS],
    /// Mean time between faults, ns.
    pub period: u64,
    /// How often a node that enters a view is made to crash soon after, in 1000.
    pub ambush: u64,
}

impl Chaos {
    /// Draws which kinds come how often.
    pub fn draw(nodes: &[NodeId], rng: &mut Prng) -> Chaos {
        let mut weights = [0; KINDS];
        for weight in &mut weights {
            *weight = if rng.chance(600) { rng.between(1, 10) } else { 0 };
        }
        // All lights out is rare.
        weights[3] = weights[3].min(1);
        let ambush = if rng.chance(300) { rng.between(50, 400) } else { 0 };
        Chaos { nodes: nodes.to_vec(), weights, period: rng.between(100, 3_000) * MS, ambush }
    }

    /// The next fault, if the draw gives one.
    pub fn next(&self, rng: &mut Prng) -> Option<Fault> {
        let mut point = rng.below(self.weights.iter().sum::<u64>().max(1));
        let kind = self.weights.iter().position(|w| {
            let hit = point < *w;
            point = point.saturating_sub(*w);
            hit
        })?;
        let node = *rng.pick(&self.nodes)?;
        Some(match kind {
            0 => Fault::Crash { node, off: duration(rng), disk: DiskFault::Keep },
            1 => Fault::Crash { node, off: duration(rng), disk: DiskFault::Wipe },
            2 => Fault::Crash { node, off: duration(rng), disk: DiskFault::Damage(rng.below(200)) },
            3 => Fault::PowerCut { off: duration(rng) },
            4 => Fault::Pause { node, time: duration(rng) },
            5 => Fault::Cut { directions: self.cut(node, rng), time: duration(rng) },
            6 => Fault::Network(network(rng)),
            7 => Fault::Disks(if rng.chance(500) { DiskModel::SLOW } else { DiskModel::GOOD }),
            _ => {
                let bytes = (0..rng.between(0, 40)).map(|i| if i == 0 { 1 } else { rng.bits() as u8 }).collect();
                Fault::Garbage { from: *rng.pick(&self.nodes)?, to: node, bytes }
            }
        })
    }

    /// Directions of a partition: a side against the rest, one node, one way only, or any.
    fn cut(&self, node: NodeId, rng: &mut Prng) -> Vec<(NodeId, NodeId)> {
        let side: Vec<NodeId> = match rng.below(3) {
            0 => vec![node],
            _ => self.nodes.iter().copied().filter(|_| rng.chance(500)).collect(),
        };
        let style = rng.below(4);
        let mut directions = Vec::new();
        for a in &self.nodes {
            for b in &self.nodes {
                let (from_side, to_side) = (side.contains(a), side.contains(b));
                let cut = match style {
                    0 => from_side != to_side,
                    1 => from_side && !to_side,
                    2 => !from_side && to_side,
                    _ => rng.chance(250),
                };
                if cut && a != b {
                    directions.push((*a, *b));
                }
            }
        }
        directions
    }
}

/// A time from milliseconds to several seconds.
fn duration(rng: &mut Prng) -> u64 {
    match rng.below(4) {
        0 => rng.between(1, 300) * MS,
        1 | 2 => rng.between(300, 2_000) * MS,
        _ => rng.between(2, 8) * SEC,
    }
}

/// Good, slow, or bad links.
pub fn network(rng: &mut Prng) -> NetModel {
    match rng.below(4) {
        0 => NetModel::GOOD,
        1 => NetModel { mean_delay: rng.between(1, 60) * MS, ..NetModel::GOOD },
        2 => NetModel {
            loss: rng.below(100),
            repeat: rng.below(100),
            mean_delay: rng.between(1, 20) * MS,
            ..NetModel::GOOD
        },
        _ => NetModel {
            mean_delay: rng.between(1, 100) * MS / 10,
            loss: rng.below(300),
            repeat: rng.below(300),
            stray: rng.below(50),
            stray_delay: rng.between(1, 5) * SEC,
            ..NetModel::GOOD
        },
    }
}
