//! The switch without its sockets: learns where addresses are, applies the rules, keeps delayed frames until they are due.
//! Time comes in as nanoseconds; randomness comes from the seed.

use super::rules::{Port, Rules};
use crate::rng::Rng;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

/// Delayed frames kept at once; more are dropped.
const MAX_DELAYED: usize = 16 * 1024;
/// Addresses remembered; a flood of forged ones makes the switch flood, not grow.
const MAX_ADDRESSES: usize = 1024;
/// The shortest frame that has addresses and a type.
const MIN_FRAME: usize = 14;

/// What a switch did with frames, counted once for every destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Handed to the destination.
    pub delivered: u64,
    /// Lost because a rule said so.
    pub dropped: u64,
    /// Lost because the destination took nothing more, or too many were delayed.
    pub overflowed: u64,
}

/// A frame for one port.
pub type Delivery = (Port, Arc<[u8]>);

/// When a frame is due, the order of its arrival, and where it goes.
type Delayed = (u64, u64, Port, Arc<[u8]>);

/// Forwarding state of one switch.
#[derive(Debug)]
pub struct Fabric {
    ports: BTreeSet<Port>,
    learned: BTreeMap<[u8; 6], Port>,
    /// The network's faults; change them at any time.
    pub rules: Rules,
    /// What happened so far.
    pub counters: Counters,
    rng: Rng,
    /// Ordered by time due, then by arrival.
    delayed: BinaryHeap<Reverse<Delayed>>,
    arrivals: u64,
}

impl Fabric {
    /// A switch with these ports.
    pub fn new(ports: &[Port], seed: u64) -> Fabric {
        Fabric {
            ports: ports.iter().copied().collect(),
            learned: BTreeMap::new(),
            rules: Rules::default(),
            counters: Counters::default(),
            rng: Rng::new(seed),
            delayed: BinaryHeap::new(),
            arrivals: 0,
        }
    }

    /// Takes a frame from a port; what is to be delivered at once goes to `out`. Frames too short to have addresses are
    /// ignored.
    pub fn ingress(&mut self, now_ns: u64, from: Port, frame: &[u8], out: &mut Vec<Delivery>) {
        if frame.len() < MIN_FRAME {
            return;
        }
        let destination: [u8; 6] = frame[..6].try_into().expect("six bytes");
        let source: [u8; 6] = frame[6..12].try_into().expect("six bytes");
        let multicast = |mac: [u8; 6]| mac[0] & 1 != 0;
        if !multicast(source) && (self.learned.len() < MAX_ADDRESSES || self.learned.contains_key(&source)) {
            self.learned.insert(source, from);
        }
        let shared: Arc<[u8]> = frame.into();
        match self.learned.get(&destination) {
            Some(&to) if !multicast(destination) => {
                if to != from {
                    self.forward(now_ns, from, to, &shared, out);
                }
            }
            _ => {
                let others: Vec<Port> = self.ports.iter().copied().filter(|port| *port != from).collect();
                for to in others {
                    self.forward(now_ns, from, to, &shared, out);
                }
            }
        }
    }

    fn forward(&mut self, now_ns: u64, from: Port, to: Port, frame: &Arc<[u8]>, out: &mut Vec<Delivery>) {
        let fate = self.rules.of(from, to).fate(&mut self.rng);
        let mut arrives = false;
        for delay in fate.copies() {
            arrives = true;
            if delay.is_zero() {
                out.push((to, frame.clone()));
            } else if self.delayed.len() < MAX_DELAYED {
                self.arrivals += 1;
                let due = now_ns.saturating_add(delay.as_nanos() as u64);
                self.delayed.push(Reverse((due, self.arrivals, to, frame.clone())));
            } else {
                self.counters.overflowed += 1;
            }
        }
        if !arrives {
            self.counters.dropped += 1;
        }
    }

    /// When the next delayed frame is due.
    pub fn next_due_ns(&self) -> Option<u64> {
        self.delayed.peek().map(|Reverse((due, ..))| *due)
    }

    /// Moves the delayed frames that are due to `out`.
    pub fn due(&mut self, now_ns: u64, out: &mut Vec<Delivery>) {
        while self.next_due_ns().is_some_and(|due| due <= now_ns) {
            if let Some(Reverse((_, _, to, frame))) = self.delayed.pop() {
                out.push((to, frame));
            }
        }
    }

    /// Forgets what was learned about a port: its machine is gone.
    pub fn forget(&mut self, port: Port) {
        self.learned.retain(|_, learned| *learned != port);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::switch::rules::Rule;
    use std::time::Duration;

    fn frame(to: u8, from: u8) -> Vec<u8> {
        let mut frame = vec![0x52, 0, 0, 0, 0, to, 0x52, 0, 0, 0, 0, from, 0x88, 0xb5];
        if to == 0xff {
            frame[..6].fill(0xff);
        }
        frame.push(from);
        frame
    }

    fn ports_of(out: &[Delivery]) -> Vec<Port> {
        out.iter().map(|(port, _)| *port).collect()
    }

    fn ingress(fabric: &mut Fabric, from: Port, frame: &[u8]) -> Vec<Port> {
        let mut out = Vec::new();
        fabric.ingress(0, from, frame, &mut out);
        ports_of(&out)
    }

    #[test]
    fn unknown_and_broadcast_are_flooded_and_learned_addresses_are_not() {
        let mut fabric = Fabric::new(&[0, 1, 2], 1);
        assert_eq!(ingress(&mut fabric, 1, &frame(2, 1)), [0, 2]);
        assert_eq!(ingress(&mut fabric, 2, &frame(1, 2)), [1]);
        assert_eq!(ingress(&mut fabric, 2, &frame(0xff, 2)), [0, 1]);
        // A station that talks to itself reaches nobody.
        assert_eq!(ingress(&mut fabric, 1, &frame(1, 1)), [0; 0]);
        fabric.forget(1);
        assert_eq!(ingress(&mut fabric, 2, &frame(1, 2)), [0, 1]);
        assert_eq!(ingress(&mut fabric, 1, &[0xff; 13]), [0; 0], "too short to be a frame");
    }

    #[test]
    fn an_address_follows_its_last_speaker() {
        // What gratuitous ARP relies on when the virtual MAC moves to another node.
        let mut fabric = Fabric::new(&[0, 1, 2], 1);
        ingress(&mut fabric, 1, &frame(0xff, 9));
        assert_eq!(ingress(&mut fabric, 0, &frame(9, 8)), [1]);
        ingress(&mut fabric, 2, &frame(0xff, 9));
        assert_eq!(ingress(&mut fabric, 0, &frame(9, 8)), [2]);
    }

    #[test]
    fn a_cut_can_be_one_way_and_a_partition_separates_sides_only() {
        let mut fabric = Fabric::new(&[1, 2, 3], 1);
        fabric.rules.set(1, 2, Rule { cut: true, ..Rule::default() });
        assert_eq!(ingress(&mut fabric, 1, &frame(0xff, 1)), [3]);
        assert_eq!(ingress(&mut fabric, 2, &frame(0xff, 2)), [1, 3]);
        fabric.rules.clear();
        fabric.rules.partition(&[3], &[1, 2, 3]);
        assert_eq!(ingress(&mut fabric, 3, &frame(0xff, 3)), [0; 0]);
        assert_eq!(ingress(&mut fabric, 1, &frame(0xff, 1)), [2]);
        assert_eq!(fabric.counters.dropped, 4);
        fabric.rules.set_cut(3, 1, false);
        assert_eq!(ingress(&mut fabric, 3, &frame(0xff, 3)), [1]);
    }

    #[test]
    fn delayed_frames_come_in_order_of_their_time() {
        let mut fabric = Fabric::new(&[1, 2], 1);
        let mut out = Vec::new();
        for (i, ms) in [30u64, 10, 20].into_iter().enumerate() {
            fabric.rules.set(1, 2, Rule { delay: Duration::from_millis(ms), ..Rule::default() });
            fabric.ingress(0, 1, &frame(0xff, i as u8), &mut out);
        }
        assert!(out.is_empty());
        assert_eq!(fabric.next_due_ns(), Some(10_000_000));
        fabric.due(9_999_999, &mut out);
        assert!(out.is_empty());
        fabric.due(25_000_000, &mut out);
        let order: Vec<u8> = out.iter().map(|(_, frame)| frame[14]).collect();
        assert_eq!(order, [1, 2]);
    }

    #[test]
    fn loss_and_duplication_follow_the_seed() {
        let run = |seed| {
            let mut fabric = Fabric::new(&[1, 2], seed);
            fabric.rules.set_default(Rule { drop_percent: 30.0, duplicate_percent: 10.0, ..Rule::default() });
            (0..1000).map(|_| ingress(&mut fabric, 1, &frame(0xff, 1)).len()).collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        let lost = run(7).iter().filter(|n| **n == 0).count();
        let twice = run(7).iter().filter(|n| **n == 2).count();
        assert!((220..380).contains(&lost) && (30..120).contains(&twice), "{lost} lost, {twice} twice");
    }

    #[test]
    fn a_flood_of_delayed_frames_is_bounded() {
        let mut fabric = Fabric::new(&[1, 2], 1);
        fabric.rules.set_default(Rule { delay: Duration::from_secs(1), ..Rule::default() });
        for _ in 0..MAX_DELAYED + 10 {
            ingress(&mut fabric, 1, &frame(0xff, 1));
        }
        assert_eq!(fabric.counters.overflowed, 10);
    }
}
