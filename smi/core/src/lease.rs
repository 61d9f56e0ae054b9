//! Leases: how long this node may act without further proof that the cluster counts on it (DESIGN 6.2).
//!
//! A proof is the return of a time stamp of this node's own clock, so only rates of clocks matter, not their readings:
//! * the directory's primary holds a lease while time stamps of its heartbeats come back from a quorum. A voter that returns one stays in
//!   the view for longer than the lease, so no other primary is at work meanwhile;
//! * any other node holds one while the primary, itself holding one, returns the node's time stamp. A primary declares a node
//!   dead only after a longer silence, and a new primary waits that long before it declares anybody dead (but its
//!   predecessor, whose lease has run out by then).

use crate::config::Timing;
use crate::plant::{Plant, planted};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use smi_cluster::NodeId;

#[derive(Default)]
pub(crate) struct Lease {
    /// Our last time stamp that a primary with a lease has returned.
    returned: Option<u64>,
    /// The view that `echoes` are of.
    view: u64,
    /// While primary: the last of our time stamps that each voter has returned.
    echoes: BTreeMap<NodeId, u64>,
}

impl Lease {
    /// A primary that holds a lease has returned our time stamp.
    pub(crate) fn returned(&mut self, stamp: u64, now: u64) {
        if stamp <= now {
            self.returned = self.returned.max(Some(stamp));
        }
    }

    /// A voter of the view that we lead has returned our time stamp.
    pub(crate) fn echoed(&mut self, voter: NodeId, view: u64, stamp: u64, now: u64) {
        if view != self.view {
            self.view = view;
            self.echoes.clear();
        }
        if stamp <= now {
            let last = self.echoes.entry(voter).or_default();
            *last = stamp.max(*last);
        }
    }

    /// As primary of `view`: when a quorum (this node counts as present) was last proved to be in touch.
    pub(crate) fn quorum_contact(&self, view: u64, now: u64, quorum: usize) -> Option<u64> {
        if quorum == 1 {
            return Some(now);
        }
        let mut stamps: Vec<u64> = if view == self.view { self.echoes.values().copied().collect() } else { Vec::new() };
        stamps.sort_unstable_by(|a, b| b.cmp(a));
        stamps.get(quorum - 2).copied()
    }

    /// When the lease ends (0: there is none), given the quorum contact if we are primary.
    pub(crate) fn until(&self, contact: Option<u64>, timing: &Timing) -> u64 {
        if planted(Plant::LeaseForever) {
            return u64::MAX;
        }
        self.returned.max(contact).map_or(0, |stamp| stamp + timing.lease_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Timing = Timing::QEMU;

    #[test]
    fn the_slowest_voter_of_the_best_quorum_counts() {
        let mut lease = Lease::default();
        assert_eq!(lease.quorum_contact(3, 1000, 3), None);
        lease.echoed(NodeId(2), 3, 500, 1000);
        assert_eq!(lease.quorum_contact(3, 1000, 3), None);
        lease.echoed(NodeId(3), 3, 700, 1000);
        lease.echoed(NodeId(4), 3, 600, 1000);
        // Quorum of five: this node, 3 and 4.
        assert_eq!(lease.quorum_contact(3, 1000, 3), Some(600));
        // Late and impossible stamps change nothing.
        lease.echoed(NodeId(4), 3, 100, 1000);
        lease.echoed(NodeId(2), 3, 2000, 1000);
        assert_eq!(lease.quorum_contact(3, 1000, 3), Some(600));
        // Another view starts from nothing.
        assert_eq!(lease.quorum_contact(4, 1000, 3), None);
        assert_eq!(lease.quorum_contact(4, 1000, 1), Some(1000));
    }

    #[test]
    fn a_lease_runs_from_the_stamp_not_from_its_return() {
        let mut lease = Lease::default();
        assert_eq!(lease.until(None, &T), 0);
        lease.returned(100, 5000);
        assert_eq!(lease.until(None, &T), 100 + T.lease_ns);
        lease.returned(50, 6000);
        assert_eq!(lease.until(None, &T), 100 + T.lease_ns);
        lease.returned(9000, 6000);
        assert_eq!(lease.until(Some(200), &T), 200 + T.lease_ns);
    }
}
