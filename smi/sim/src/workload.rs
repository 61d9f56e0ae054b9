//! What clients ask of the directory. Every operation that a client proposes is unlike any other, so its place in the log is known.

use crate::prng::Prng;
use smi_cluster::{GroupId, NodeId, Vid};
use smi_core::table::{Kind, Name, Op, Table};

/// Names that all clients fight for. They are only created, deleted and probed, so their histories can be checked one by one.
pub const CONTESTED: u64 = 3;
/// Names that are also renamed to.
const POOL: u64 = 6;
/// Most groups.
const MAX_GROUPS: u32 = 10;
/// VIDs that nobody looks after any more are forgotten beyond this number.
const MAX_OWNED: usize = 64;

/// The name number `i` of those that clients fight for.
pub fn contested(i: u64) -> Name {
    Name::new(&format!("contested-{i}")).expect("a short name")
}

fn pool(i: u64) -> Name {
    Name::new(&format!("pool-{i}")).expect("a short name")
}

fn unique(vid: Vid) -> Name {
    Name::new(&format!("unique-{vid}")).expect("a short name")
}

/// What the contested names stand for in a table: the VID's counter and whether there is one.
pub fn probe_names(table: &Table) -> Vec<(u64, bool)> {
    let found = |i| table.lookup(contested(i).as_str());
    (0..CONTESTED).map(|i| found(i).map_or((0, false), |vid| (vid.0 as u64, true))).collect()
}

/// Makes operations.
#[derive(Debug, Default)]
pub struct Workload {
    counter: u64,
    groups: u32,
    /// Named uniquely, to be renamed.
    fresh: Vec<Vid>,
    /// Can be deleted.
    owned: Vec<Vid>,
    /// Sockets to listen with.
    sockets: Vec<Vid>,
}

impl Workload {
    /// The next operation of a client on this node.
    pub fn next(&mut self, node: NodeId, rng: &mut Prng) -> Op {
        match rng.below(20) {
            0 | 1 if self.groups < MAX_GROUPS => self.create_group(rng),
            _ if self.groups == 0 => self.create_group(rng),
            0..=4 => self.create(node, Kind::File, Some(contested(rng.below(CONTESTED))), rng),
            5 | 6 => Op::Noop,
            7..=9 => self.create(node, Kind::File, Some(pool(rng.below(POOL))), rng),
            10 | 11 => self.create_unique(node, rng),
            12 | 13 => self.rename(node, rng),
            14 => self.create_socket(node, rng),
            15 => self.listen(node, rng),
            _ => self.delete(node, rng),
        }
    }

    fn create_group(&mut self, rng: &mut Prng) -> Op {
        self.groups += 1;
        Op::CreateGroup { group: GroupId(self.groups), degree: rng.between(1, 3) as u8 }
    }

    fn create(&mut self, node: NodeId, kind: Kind, name: Option<Name>, rng: &mut Prng) -> Op {
        self.counter += 1;
        let vid = Vid::new(node, 1, self.counter);
        let group = GroupId(rng.between(1, u64::from(self.groups)) as u32);
        self.owned.push(vid);
        if self.owned.len() > MAX_OWNED {
            let i = rng.below(self.owned.len() as u64) as usize;
            self.owned.swap_remove(i);
        }
        Op::Create { vid, kind, group: Some(group), name }
    }

    fn create_unique(&mut self, node: NodeId, rng: &mut Prng) -> Op {
        let vid = Vid::new(node, 1, self.counter + 1);
        self.fresh.push(vid);
        self.create(node, Kind::File, Some(unique(vid)), rng)
    }

    fn rename(&mut self, node: NodeId, rng: &mut Prng) -> Op {
        match self.fresh.pop() {
            Some(vid) => Op::Rename { from: unique(vid), to: pool(rng.below(POOL)) },
            None => self.create_unique(node, rng),
        }
    }

    fn create_socket(&mut self, node: NodeId, rng: &mut Prng) -> Op {
        let port = rng.between(1, 9) as u16;
        let op = self.create(node, Kind::Socket { port }, None, rng);
        if let Op::Create { vid, .. } = op {
            self.sockets.push(vid);
        }
        op
    }

    fn listen(&mut self, node: NodeId, rng: &mut Prng) -> Op {
        match self.sockets.pop() {
            Some(vid) => Op::Listen { port: rng.between(1, 9) as u16, vid },
            None => self.create_socket(node, rng),
        }
    }

    fn delete(&mut self, node: NodeId, rng: &mut Prng) -> Op {
        if self.owned.is_empty() {
            return self.create_unique(node, rng);
        }
        let i = rng.below(self.owned.len() as u64) as usize;
        Op::Delete { vid: self.owned.swap_remove(i) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_operation_is_proposed_twice() {
        let (mut workload, mut rng) = (Workload::default(), Prng::new(5));
        let mut seen = BTreeSet::new();
        for i in 0..3_000 {
            let op = workload.next(NodeId(1 + i % 3), &mut rng);
            assert!(op == Op::Noop || seen.insert(op.encode()), "{op:?}");
        }
        assert!(seen.len() > 2_000);
    }
}
