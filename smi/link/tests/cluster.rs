//! Two and three links over a simulated wire that loses, repeats, reorders and forges. Every run is a function of its seed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use smi_cluster::identity::Member;
use smi_cluster::{Lane, NodeId, PortId};
use smi_link::{Action, Config, DATAGRAM_MAX, Event, Link, MESSAGE_MAX, Receipt, Refusal, UnsentReason};

const MS: u64 = 1_000_000;
const KEY: [u8; 32] = [0x42; 32];

/// What the wire does to frames.
#[derive(Clone, Copy, Default)]
struct Faults {
    loss_percent: u64,
    repeat_percent: u64,
    jitter_ns: u64,
}

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    fn percent(&mut self, p: u64) -> bool {
        self.below(100) < p
    }
}

struct Node {
    link: Link,
    /// Delivered messages, by (sender, port, lane as told in the first byte).
    inbox: Vec<(NodeId, PortId, Vec<u8>)>,
    datagrams: Vec<(NodeId, Vec<u8>)>,
    /// PeerUp (true) and PeerDown (false), refusals, in order.
    ups: Vec<(NodeId, bool, u64)>,
    refused: Vec<(NodeId, Refusal)>,
    unsent: Vec<UnsentReason>,
    receipts: VecDeque<Receipt>,
    /// Give receipts back at once.
    prompt: bool,
    alive: bool,
}

struct Net {
    now: u64,
    rng: Rng,
    faults: Faults,
    nodes: Vec<Node>,
    /// Frames under way: (arrival, tie-break) -> (index of receiver, bytes).
    wire: BTreeMap<(u64, u64), (usize, Vec<u8>)>,
    cut: BTreeSet<(usize, usize)>,
    sequence: u64,
    recorded: Vec<(usize, Vec<u8>)>,
}

fn mac(n: u16) -> [u8; 6] {
    [0x52, 0x53, 0x4d, 0, 0, n as u8]
}

fn members(n: u16) -> Vec<Member> {
    (1..=n).map(|i| Member { node: NodeId(i), internal_mac: mac(i) }).collect()
}

fn link(node: u16, of: u16, incarnation: u64, key: [u8; 32]) -> Link {
    let seed = smi_link::seed(&key, &[&node.to_le_bytes(), &incarnation.to_le_bytes()]);
    let members = members(of);
    Link::new(&Config { cluster: [7; 16], key, node: NodeId(node), incarnation, members: &members, seed })
}

fn node(link: Link) -> Node {
    Node {
        link,
        inbox: vec![],
        datagrams: vec![],
        ups: vec![],
        refused: vec![],
        unsent: vec![],
        receipts: VecDeque::new(),
        prompt: true,
        alive: true,
    }
}

impl Net {
    fn new(n: u16, seed: u64, faults: Faults) -> Net {
        let nodes = (1..=n).map(|i| node(link(i, n, 1, KEY))).collect();
        let (wire, cut) = (BTreeMap::new(), BTreeSet::new());
        Net { now: 0, rng: Rng(seed), faults, nodes, wire, cut, sequence: 0, recorded: vec![] }
    }

    fn put(&mut self, to: usize, at: u64, bytes: Vec<u8>) {
        self.sequence += 1;
        self.wire.insert((at, self.sequence), (to, bytes));
    }

    fn transmit(&mut self, from: usize, bytes: Vec<u8>) {
        assert!(bytes.len() <= 14 + smi_link::MTU);
        let to = (bytes[5] - 1) as usize;
        self.recorded.push((to, bytes.clone()));
        if self.cut.contains(&(from, to)) || self.rng.percent(self.faults.loss_percent) {
            return;
        }
        let copies = if self.rng.percent(self.faults.repeat_percent) { 2 } else { 1 };
        for _ in 0..copies {
            let at = self.now + 100_000 + self.rng.below(self.faults.jitter_ns + 1);
            self.put(to, at, bytes.clone());
        }
    }

    fn step(&mut self, i: usize, event: Event<'_>) {
        let mut out = Vec::new();
        self.nodes[i].link.step(self.now, event, &mut out);
        for action in out {
            let node = &mut self.nodes[i];
            match action {
                Action::FrameOut(bytes) => self.transmit(i, bytes),
                Action::Deliver { from, port, receipt, bytes, .. } => {
                    node.inbox.push((from, port, bytes));
                    node.receipts.push_back(receipt);
                }
                Action::DeliverDatagram { from, bytes, .. } => node.datagrams.push((from, bytes)),
                Action::PeerUp { node: peer, incarnation } => node.ups.push((peer, true, incarnation)),
                Action::PeerDown { node: peer, incarnation, .. } => node.ups.push((peer, false, incarnation)),
                Action::Refused(r) => node.refused.push((r.claims, r.reason)),
                Action::Unsent { reason, .. } => node.unsent.push(reason),
            }
        }
        while self.nodes[i].prompt
            && let Some(receipt) = self.nodes[i].receipts.pop_front()
        {
            self.step(i, Event::Consumed(receipt));
        }
    }

    fn send(&mut self, from: usize, to: usize, port: u16, lane: Lane, bytes: &[u8]) {
        self.step(from, Event::Send { to: NodeId(to as u16 + 1), port: PortId(port), lane, bytes });
        self.step(from, Event::Tick);
    }

    /// Runs until virtual time `end`.
    fn run_until(&mut self, end: u64) {
        while self.now < end {
            let frame_at = self.wire.first_key_value().map(|((at, _), _)| *at);
            let alive = self.nodes.iter().filter(|n| n.alive);
            let timer = alive.filter_map(|n| n.link.deadline_ns()).min();
            let next = [frame_at, timer, Some(end)].into_iter().flatten().min().unwrap();
            self.now = self.now.max(next);
            while let Some(entry) = self.wire.first_entry() {
                if entry.key().0 > self.now {
                    break;
                }
                let (to, bytes) = entry.remove();
                if self.nodes[to].alive {
                    self.step(to, Event::FrameIn(&bytes));
                    self.step(to, Event::Tick);
                }
            }
            for i in 0..self.nodes.len() {
                if self.nodes[i].alive && self.nodes[i].link.deadline_ns().is_some_and(|d| d <= self.now) {
                    self.step(i, Event::Tick);
                }
            }
        }
    }

    fn run_for(&mut self, ns: u64) {
        self.run_until(self.now + ns);
    }

    fn all_up(&self) -> bool {
        let ids: Vec<NodeId> = (1..=self.nodes.len() as u16).map(NodeId).collect();
        self.nodes.iter().enumerate().all(|(i, n)| ids.iter().enumerate().all(|(j, id)| i == j || n.link.is_up(*id)))
    }
}

const LOSSY: Faults = Faults { loss_percent: 10, repeat_percent: 10, jitter_ns: 5 * MS };

/// A message that says who sent it where, and which one it is; the rest is a function of that.
fn message(from: usize, lane: Lane, number: u32, len: usize) -> Vec<u8> {
    let mut m = vec![from as u8, lane as u8];
    m.extend_from_slice(&number.to_le_bytes());
    m.extend((m.len()..len).map(|i| (i as u32 ^ number) as u8));
    m
}

#[test]
fn all_messages_arrive_once_and_in_order_over_a_bad_wire() {
    for seed in 0..20 {
        let mut net = Net::new(3, seed, LOSSY);
        net.run_for(5000 * MS);
        assert!(net.all_up(), "seed {seed}");
        net.nodes.iter_mut().for_each(|n| n.ups.clear());
        let mut expected: BTreeMap<(usize, usize, u16, u8), Vec<Vec<u8>>> = BTreeMap::new();
        for number in 0..200 {
            let (from, to) = (net.rng.below(3) as usize, net.rng.below(3) as usize);
            if from == to {
                continue;
            }
            let (port, lane) = (net.rng.below(3) as u16, Lane::ALL[net.rng.below(4) as usize]);
            let len = [6, 100, 1376, 1377, 20_000, 120_000][net.rng.below(6) as usize];
            let m = message(from, lane, number, len);
            net.send(from, to, port, lane, &m);
            expected.entry((from, to, port, lane as u8)).or_default().push(m);
            let pause = net.rng.below(20 * MS);
            net.run_for(pause);
        }
        net.run_for(60_000 * MS);
        let mut got: BTreeMap<(usize, usize, u16, u8), Vec<Vec<u8>>> = BTreeMap::new();
        for (to, node) in net.nodes.iter().enumerate() {
            assert!(node.unsent.is_empty(), "seed {seed}: {:?}", node.unsent);
            assert!(node.ups.is_empty(), "seed {seed}: a session was lost");
            for (from, port, m) in &node.inbox {
                got.entry((from.0 as usize - 1, to, port.0, m[1])).or_default().push(m.clone());
            }
        }
        assert!(got == expected, "seed {seed}");
    }
}

#[test]
fn the_longest_message_passes_and_a_longer_one_is_refused() {
    let mut net = Net::new(2, 1, Faults { loss_percent: 2, ..LOSSY });
    net.run_for(2000 * MS);
    net.send(0, 1, 1, Lane::Clone, &vec![5; MESSAGE_MAX + 1]);
    net.send(0, 1, 1, Lane::Clone, &vec![6; MESSAGE_MAX]);
    net.send(0, 1, 1, Lane::Clone, &[]);
    net.run_for(20_000 * MS);
    let lens: Vec<usize> = net.nodes[1].inbox.iter().map(|(_, _, m)| m.len()).collect();
    assert_eq!(lens, [MESSAGE_MAX, 0]);
    assert_eq!(net.nodes[0].unsent, [UnsentReason::TooLong]);
}

#[test]
fn an_urgent_message_overtakes_bulk() {
    let mut net = Net::new(2, 3, Faults::default());
    net.run_for(1000 * MS);
    for _ in 0..4 {
        for port in 1..5 {
            net.send(0, 1, port, Lane::Clone, &vec![1; 250_000]);
        }
    }
    net.run_for(MS);
    let before = net.nodes[1].inbox.len();
    net.send(0, 1, 0, Lane::Control, b"urgent");
    net.run_for(MS / 2);
    let news: Vec<_> = net.nodes[1].inbox[before..].iter().filter(|(_, port, _)| *port == PortId(0)).collect();
    assert_eq!(news.len(), 1, "a control message must not wait behind megabytes");
    net.run_for(5000 * MS);
    assert_eq!(net.nodes[1].inbox.len(), 17);
}

#[test]
fn a_node_with_another_key_is_refused_and_disturbs_nobody() {
    let mut net = Net::new(3, 4, Faults::default());
    net.nodes[2] = node(link(3, 3, 1, [0x66; 32]));
    net.run_for(10_000 * MS);
    for i in 0..2 {
        let other = NodeId(2 - i as u16);
        assert_eq!(net.nodes[i].ups, [(other, true, 1)]);
        assert!(net.nodes[i].refused.contains(&(NodeId(3), Refusal::WrongKey)));
        assert!(net.nodes[i].refused.len() <= 3, "reports are limited: {:?}", net.nodes[i].refused);
    }
    assert!(net.nodes[2].ups.is_empty());
    assert!(!net.nodes[2].refused.is_empty(), "the odd one out says so itself, too");
    net.send(0, 1, 1, Lane::Log, b"undisturbed");
    net.run_for(10 * MS);
    assert_eq!(net.nodes[1].inbox.len(), 1);
}

#[test]
fn strangers_are_named() {
    let mut net = Net::new(3, 5, Faults::default());
    // Node 1 knows only itself and node 2; node 2 belongs to another cluster.
    let two = members(2);
    net.nodes[0] = node(Link::new(&Config {
        cluster: [7; 16],
        key: KEY,
        node: NodeId(1),
        incarnation: 1,
        members: &two,
        seed: [1; 32],
    }));
    net.nodes[1].alive = false;
    net.run_for(1000 * MS);
    assert_eq!(net.nodes[0].refused, [(NodeId(3), Refusal::NotAMember)]);

    let mut net = Net::new(2, 5, Faults::default());
    net.nodes[1] = node(Link::new(&Config {
        cluster: [8; 16],
        key: KEY,
        node: NodeId(2),
        incarnation: 1,
        members: &two,
        seed: [1; 32],
    }));
    net.run_for(1000 * MS);
    assert_eq!(net.nodes[0].refused, [(NodeId(2), Refusal::WrongCluster)]);
}

#[test]
fn a_reboot_starts_a_new_session_and_drops_the_old_one() {
    for seed in 0..10 {
        let mut net = Net::new(2, seed, LOSSY);
        net.run_for(5000 * MS);
        net.nodes[0].inbox.clear();
        for n in 0..50 {
            net.send(0, 1, 1, Lane::Log, &message(0, Lane::Log, n, 5000));
        }
        // Whichever end dies, the other keeps its half of the old session until the new handshake.
        let dies = seed as usize % 2;
        let stays = 1 - dies;
        net.nodes[dies] = node(link(dies as u16 + 1, 2, 2, KEY));
        net.run_for(10_000 * MS);
        let (peer, me) = (NodeId(dies as u16 + 1), NodeId(stays as u16 + 1));
        assert_eq!(net.nodes[stays].ups, [(peer, true, 1), (peer, false, 1), (peer, true, 2)], "seed {seed}");
        assert_eq!(net.nodes[dies].ups, [(me, true, 1)], "seed {seed}");
        if dies == 1 {
            assert!(net.nodes[1].inbox.is_empty(), "seed {seed}: a message of the old session came through");
        }
        net.nodes[1].inbox.clear();
        net.send(0, 1, 1, Lane::Log, b"new");
        net.run_for(1000 * MS);
        assert_eq!(net.nodes[1].inbox.len(), 1, "seed {seed}");
    }
}

#[test]
fn both_ends_rebooting_or_expelling_at_once_meet_again() {
    for seed in 0..10 {
        let mut net = Net::new(2, seed, LOSSY);
        net.run_for(3000 * MS);
        net.step(0, Event::Expel(NodeId(2)));
        assert!(!net.nodes[0].link.is_up(NodeId(2)));
        if seed % 2 == 0 {
            net.step(1, Event::Expel(NodeId(1)));
        }
        net.run_for(5000 * MS);
        assert!(net.all_up(), "seed {seed}");
        net.send(0, 1, 1, Lane::Log, b"there");
        net.send(1, 0, 1, Lane::Log, b"back");
        net.run_for(1000 * MS);
        assert!(net.nodes.iter().all(|n| n.inbox.len() == 1), "seed {seed}");
    }
}

#[test]
fn a_cut_wire_loses_no_message_of_the_session() {
    let mut net = Net::new(2, 9, LOSSY);
    net.run_for(3000 * MS);
    net.cut.insert((0, 1));
    net.run_for(100 * MS);
    for n in 0..100 {
        net.send(0, 1, 1, Lane::Log, &message(0, Lane::Log, n, 1000));
    }
    net.cut.insert((1, 0));
    net.run_for(30_000 * MS);
    assert!(net.nodes[1].inbox.is_empty());
    net.cut.clear();
    net.run_for(5000 * MS);
    let numbers: Vec<u8> = net.nodes[1].inbox.iter().map(|(_, _, m)| m[2]).collect();
    assert_eq!(numbers, (0..100).collect::<Vec<u8>>());
    assert!(net.nodes.iter().all(|n| n.ups.len() == 1));
}

#[test]
fn garbage_and_forgeries_have_no_effect_and_cost_bounded_work() {
    let mut net = Net::new(2, 10, Faults::default());
    net.run_for(1000 * MS);
    net.send(0, 1, 1, Lane::Log, &message(0, Lane::Log, 0, 3000));
    net.run_for(100 * MS);
    let recorded = net.recorded.clone();
    let handshakes = net.nodes[1].link.stats().handshakes;
    for round in 0..20_000u64 {
        let mut bytes = match round % 3 {
            // A real frame with some bytes changed, a real frame cut short, noise under our EtherType.
            0 | 1 => recorded[net.rng.below(recorded.len() as u64) as usize].1.clone(),
            _ => (0..net.rng.below(1600))
                .map(|i| {
                    if i == 12 {
                        0x88
                    } else if i == 13 {
                        0xb5
                    } else {
                        net.rng.next() as u8
                    }
                })
                .collect(),
        };
        if round % 3 == 0 {
            for _ in 0..1 + net.rng.below(4) {
                let at = 14 + net.rng.below(bytes.len() as u64 - 14) as usize;
                bytes[at] ^= 1 + net.rng.below(255) as u8;
            }
        } else if round % 3 == 1 {
            bytes.truncate(net.rng.below(bytes.len() as u64) as usize);
        }
        net.step(1, Event::FrameIn(&bytes));
        net.now += MS / 100;
    }
    // 0.2 s of flood: the burst of eight, two refills.
    assert!(net.nodes[1].link.stats().handshakes - handshakes <= 12, "{:?}", net.nodes[1].link.stats());
    assert_eq!(net.nodes[1].inbox.len(), 1);
    assert!(net.nodes[1].ups.iter().all(|(_, up, _)| *up));
    assert!(net.nodes[1].refused.len() <= 2, "{:?}", net.nodes[1].refused);
    net.send(0, 1, 1, Lane::Log, b"still fine");
    net.send(1, 0, 1, Lane::Log, b"both ways");
    net.run_for(1000 * MS);
    assert_eq!((net.nodes[0].inbox.len(), net.nodes[1].inbox.len()), (1, 2));
}

#[test]
fn replayed_frames_are_not_delivered_again() {
    let mut net = Net::new(2, 11, Faults::default());
    net.run_for(1000 * MS);
    for n in 0..200 {
        net.send(0, 1, 1, Lane::Log, &message(0, Lane::Log, n, 2000));
        net.step(0, Event::Datagram { to: NodeId(2), port: PortId(0), bytes: b"beat" });
    }
    net.run_for(1000 * MS);
    let beats = net.nodes[1].datagrams.len();
    let recorded = std::mem::take(&mut net.recorded);
    for (to, bytes) in recorded {
        net.step(to, Event::FrameIn(&bytes));
        net.step(to, Event::Tick);
    }
    net.run_for(5000 * MS);
    assert_eq!(net.nodes[1].inbox.len(), 200);
    assert_eq!(net.nodes[1].datagrams.len(), beats);
    assert!(net.nodes.iter().all(|n| n.ups.len() == 1 && n.refused.is_empty()));
    net.send(0, 1, 1, Lane::Log, b"next");
    net.run_for(100 * MS);
    assert_eq!(net.nodes[1].inbox.len(), 201);
}

#[test]
fn a_user_that_does_not_consume_stops_its_own_stream_only() {
    let mut net = Net::new(2, 12, Faults::default());
    net.nodes[1].prompt = false;
    net.run_for(1000 * MS);
    let mut sent = 0;
    while net.nodes[0].link.has_room(NodeId(2), PortId(1), Lane::Log, 10_000) {
        net.send(0, 1, 1, Lane::Log, &message(0, Lane::Log, sent, 10_000));
        net.run_for(10 * MS);
        sent += 1;
        assert!(sent < 1000, "nothing stops the sender");
    }
    let delivered = net.nodes[1].inbox.len() * 10_000;
    assert!(delivered < 600_000, "{delivered} bytes were forced on a user that does not read");
    net.send(0, 1, 1, Lane::Log, &vec![0; 10_000]);
    assert_eq!(net.nodes[0].unsent, [UnsentReason::Full]);
    net.send(0, 1, 2, Lane::Log, b"another port");
    net.run_for(100 * MS);
    assert_eq!(net.nodes[1].inbox.last().unwrap().1, PortId(2));
    net.nodes[1].prompt = true;
    net.step(1, Event::Tick);
    net.run_for(5000 * MS);
    assert_eq!(net.nodes[1].inbox.len(), sent as usize + 1);
}

#[test]
fn datagrams_pass_at_once_and_need_a_session() {
    let mut net = Net::new(2, 13, Faults::default());
    net.step(0, Event::Datagram { to: NodeId(2), port: PortId(0), bytes: b"early" });
    net.run_for(1000 * MS);
    let big = vec![3; DATAGRAM_MAX];
    net.step(0, Event::Datagram { to: NodeId(2), port: PortId(0), bytes: &big });
    net.step(0, Event::Tick);
    net.run_for(MS);
    assert_eq!(net.nodes[1].datagrams, [(NodeId(1), big)]);
    net.step(0, Event::Datagram { to: NodeId(2), port: PortId(0), bytes: &[0; DATAGRAM_MAX + 1] });
    assert_eq!(net.nodes[0].unsent, [UnsentReason::TooLong]);
}

#[test]
fn frames_of_an_older_membership_epoch_are_dropped() {
    let mut net = Net::new(2, 14, Faults::default());
    net.run_for(1000 * MS);
    // A frame of epoch 0 is held back by the wire while the sender moves to epoch 5.
    net.cut.insert((0, 1));
    net.step(0, Event::Datagram { to: NodeId(2), port: PortId(0), bytes: b"old" });
    net.step(0, Event::Tick);
    let old = net.recorded.last().unwrap().1.clone();
    net.cut.clear();
    net.step(0, Event::Epoch(5));
    net.send(0, 1, 1, Lane::Log, b"new");
    net.run_for(10 * MS);
    net.step(1, Event::FrameIn(&old));
    assert!(net.nodes[1].datagrams.is_empty());
    assert_eq!(net.nodes[1].link.stats().stale, 1);
    assert_eq!(net.nodes[1].inbox.len(), 1);
}
