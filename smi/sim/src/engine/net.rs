//! The network: when, and how often, a message arrives.

use super::US;
use crate::prng::Prng;
use smi_cluster::NodeId;
use std::collections::BTreeMap;

/// How all links behave.
#[derive(Clone, Copy, Debug)]
pub struct NetModel {
    /// Least delay, ns.
    pub min_delay: u64,
    /// Mean of the exponential part of the delay, ns. Messages overtake each other when it is large.
    pub mean_delay: u64,
    /// Lost messages, in 1000.
    pub loss: u64,
    /// Messages that arrive twice, in 1000.
    pub repeat: u64,
    /// Messages that are delayed by up to `stray_delay`, in 1000.
    pub stray: u64,
    /// Longest delay of such a message, ns.
    pub stray_delay: u64,
}

impl NetModel {
    /// A good local network.
    pub const GOOD: NetModel =
        NetModel { min_delay: 50 * US, mean_delay: 50 * US, loss: 0, repeat: 0, stray: 0, stray_delay: 0 };
}

/// The network's state: its model, which directions are cut, and what passed.
#[derive(Debug)]
pub struct Net {
    /// How links behave now.
    pub model: NetModel,
    /// Directions that are cut, and until when.
    cut: BTreeMap<(NodeId, NodeId), u64>,
    /// Messages that were sent.
    pub sent: u64,
    /// Messages that were lost on the way or cut off.
    pub lost: u64,
}

impl Net {
    /// A network without cuts.
    pub fn new(model: NetModel) -> Net {
        Net { model, cut: BTreeMap::new(), sent: 0, lost: 0 }
    }

    /// Cuts the direction `from` to `to` until a time.
    pub fn cut(&mut self, from: NodeId, to: NodeId, until: u64) {
        self.cut.insert((from, to), until);
    }

    /// Joins everything again.
    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// Whether a message could pass now.
    pub fn is_open(&self, from: NodeId, to: NodeId, now: u64) -> bool {
        self.cut.get(&(from, to)).is_none_or(|until| now >= *until)
    }

    /// Delays after which copies of a message arrive.
    pub fn route(&mut self, from: NodeId, to: NodeId, now: u64, rng: &mut Prng) -> Vec<u64> {
        self.sent += 1;
        if !self.is_open(from, to, now) || rng.chance(self.model.loss) {
            self.lost += 1;
            return Vec::new();
        }
        let copies = if rng.chance(self.model.repeat) { 2 } else { 1 };
        (0..copies).map(|_| self.delay(rng)).collect()
    }

    fn delay(&self, rng: &mut Prng) -> u64 {
        let m = &self.model;
        let stray = if rng.chance(m.stray) { rng.below(m.stray_delay + 1) } else { 0 };
        m.min_delay + rng.exponential(m.mean_delay) + stray
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_have_a_direction_and_an_end() {
        let (a, b) = (NodeId(1), NodeId(2));
        let mut net = Net::new(NetModel::GOOD);
        net.cut(a, b, 100);
        assert!(!net.is_open(a, b, 99) && net.is_open(a, b, 100) && net.is_open(b, a, 0));
        let mut rng = Prng::new(1);
        assert!(net.route(a, b, 50, &mut rng).is_empty());
        assert_eq!(net.route(b, a, 50, &mut rng).len(), 1);
        net.heal();
        assert!(net.is_open(a, b, 0));
        assert_eq!((net.sent, net.lost), (2, 1));
    }

    #[test]
    fn loss_and_repetition_are_as_asked() {
        let mut net = Net::new(NetModel { loss: 300, repeat: 100, ..NetModel::GOOD });
        let mut rng = Prng::new(1);
        let arrivals: usize = (0..10_000).map(|_| net.route(NodeId(1), NodeId(2), 0, &mut rng).len()).sum();
        assert!((7_500..7_900).contains(&arrivals), "{arrivals}");
    }
}
