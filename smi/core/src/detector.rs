//! The failure detector: who has been silent for too long. Any message counts as a sign of life.
//!
//! The limit is the configured detection time, raised for nodes whose messages come irregularly (mean gap plus four deviations, as
//! TCP does for its retransmission timer, RFC 6298), at most fourfold. It never goes below the configured time, because leases
//! are shorter than that.

use crate::config::Timing;
use alloc::collections::BTreeMap;
use smi_cluster::NodeId;

/// How far the limit may grow.
const MAX_GROWTH: u64 = 4;

#[derive(Clone, Copy)]
struct Heard {
    last: u64,
    mean_gap: u64,
    deviation: u64,
}

pub(crate) struct Detector {
    timing: Timing,
    heard: BTreeMap<NodeId, Heard>,
}

impl Detector {
    pub(crate) fn new(timing: Timing) -> Detector {
        Detector { timing, heard: BTreeMap::new() }
    }

    /// A message came from this node. (The map is bounded by the number of node ids.)
    pub(crate) fn heard(&mut self, node: NodeId, now: u64) {
        let first = Heard { last: now, mean_gap: self.timing.heartbeat_ns, deviation: 0 };
        let h = self.heard.entry(node).or_insert(first);
        let gap = now.saturating_sub(h.last);
        // A gap that was a death says nothing about jitter, and a burst of messages neither.
        let telling = gap >= self.timing.heartbeat_ns / 2 && gap < MAX_GROWTH * self.timing.detect_ns;
        if telling {
            let error = gap.abs_diff(h.mean_gap);
            h.deviation = h.deviation - h.deviation / 4 + error / 4;
            h.mean_gap = h.mean_gap - h.mean_gap / 8 + gap / 8;
        }
        h.last = now;
    }

    /// When the node was last heard; 0 for never.
    pub(crate) fn last(&self, node: NodeId) -> u64 {
        self.heard.get(&node).map_or(0, |h| h.last)
    }

    /// Silence after which the node counts as dead, ns.
    pub(crate) fn limit(&self, node: NodeId) -> u64 {
        let base = self.timing.detect_ns;
        let Some(h) = self.heard.get(&node) else { return base };
        (h.mean_gap + 4 * h.deviation + self.timing.heartbeat_ns).clamp(base, MAX_GROWTH * base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn the_limit_follows_the_jitter_within_bounds() {
        let mut d = Detector::new(Timing::QEMU);
        let node = NodeId(1);
        assert_eq!((d.limit(node), d.last(node)), (500 * MS, 0));
        (1..100).for_each(|i| d.heard(node, i * 100 * MS));
        assert_eq!((d.limit(node), d.last(node)), (500 * MS, 9900 * MS));
        // Gaps of 50 and 450 ms.
        let mut now = 9900 * MS;
        for i in 0..100 {
            now += if i % 2 == 0 { 50 * MS } else { 450 * MS };
            d.heard(node, now);
        }
        let wide = d.limit(node);
        assert!(wide > 900 * MS && wide <= 2000 * MS, "{wide}");
        // Regular again: back to the configured time.
        for _ in 0..100 {
            now += 100 * MS;
            d.heard(node, now);
        }
        assert_eq!(d.limit(node), 500 * MS);
        // A long death does not widen it.
        d.heard(node, now + 60_000 * MS);
        assert_eq!(d.limit(node), 500 * MS);
    }
}
