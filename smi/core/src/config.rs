//! What a node must be told before it starts.

use alloc::vec::Vec;
use smi_cluster::{MAX_NODES, NodeId};

const MS: u64 = 1_000_000;

/// Periods and timeouts, in nanoseconds. All nodes of a cluster should have the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// Period of heartbeats, and of sending again what was not answered.
    pub heartbeat_ns: u64,
    /// Silence after which a node counts as dead, and the directory's primary as failed. Grows with the observed jitter.
    pub detect_ns: u64,
    /// How long a node may act on one proof of contact with a quorum. Shorter than `detect_ns`, by enough for clocks that run
    /// at different rates: whoever is declared dead has stopped before.
    pub lease_ns: u64,
}

impl Timing {
    /// Heartbeats every `heartbeat_ms` ms, `multiplier` of them missing mean death; the lease is three quarters of that.
    pub const fn new(heartbeat_ms: u64, multiplier: u64) -> Timing {
        let detect_ns = heartbeat_ms * MS * multiplier;
        Timing { heartbeat_ns: heartbeat_ms * MS, detect_ns, lease_ns: detect_ns / 4 * 3 }
    }

    /// For emulated nodes on a busy host: 100 ms x 5.
    pub const QEMU: Timing = Timing::new(100, 5);
    /// For boards (DESIGN 6.1): 10 ms x 3.
    pub const BOARD: Timing = Timing::new(10, 3);
}

/// A node's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster's id: a zone of another cluster reads as damaged.
    pub cluster: [u8; 16],
    /// This node.
    pub node: NodeId,
    /// The configured members, in ascending order, this node among them. The first 1, 2, 3 or 5 of them vote; see
    /// [`voters`].
    pub members: Vec<NodeId>,
    /// Differs between boots of this node (random, or from a counter that survives).
    pub boot: u64,
    /// Differs between contents of this node's store of files; see [`crate::table::Op::NodeUp`].
    pub store: u64,
    /// Whether this node has a NIC on the external segment.
    pub external: bool,
    /// Periods and timeouts.
    pub timing: Timing,
}

/// A configuration that makes no sense.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfigError {
    /// The member list is empty, too long, not ascending, or has an id out of range.
    Members,
    /// This node is not a member.
    Node,
    /// Not 0 < heartbeat < lease < detection.
    Timing,
}

impl Config {
    /// Checks everything that can be wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        let m = &self.members;
        let in_range = m.iter().all(|n| n.0 >= 1 && usize::from(n.0) <= MAX_NODES);
        if m.is_empty() || !in_range || m.windows(2).any(|w| w[0] >= w[1]) {
            return Err(ConfigError::Members);
        }
        if !m.contains(&self.node) {
            return Err(ConfigError::Node);
        }
        let t = self.timing;
        if t.heartbeat_ns == 0 || t.lease_ns <= t.heartbeat_ns || t.detect_ns <= t.lease_ns {
            return Err(ConfigError::Timing);
        }
        Ok(())
    }
}

/// The voters among the configured members: one of one, both of two (either alone stops: policy `stop`), three of three or four,
/// five from five on. All others are learners.
pub fn voters(members: &[NodeId]) -> &[NodeId] {
    let count = match members.len() {
        n @ 0..=3 => n,
        4 => 3,
        _ => 5,
    };
    &members[..count]
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn config(node: u16, members: &[u16]) -> Config {
        Config {
            cluster: [0; 16],
            node: NodeId(node),
            members: members.iter().map(|n| NodeId(*n)).collect(),
            boot: 1,
            store: 1,
            external: false,
            timing: Timing::QEMU,
        }
    }

    #[test]
    fn odd_numbers_vote_except_two() {
        let members: Vec<NodeId> = (1..=7).map(NodeId).collect();
        let counts: Vec<usize> = (1..=7).map(|n| voters(&members[..n]).len()).collect();
        assert_eq!(counts, vec![1, 2, 3, 3, 5, 5, 5]);
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(config(2, &[1, 2, 3]).check(), Ok(()));
        assert_eq!(config(4, &[1, 2, 3]).check(), Err(ConfigError::Node));
        for members in [&[][..], &[2, 1], &[1, 1], &[0, 1], &[1, 65]] {
            assert_eq!(config(1, members).check(), Err(ConfigError::Members));
        }
        let mut c = config(1, &[1]);
        c.timing.lease_ns = c.timing.detect_ns;
        assert_eq!(c.check(), Err(ConfigError::Timing));
    }
}
