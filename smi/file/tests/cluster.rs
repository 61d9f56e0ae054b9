//! Whole clusters of file servers under a seed: crashes, lost sessions, stale tables, torn disks. Checked: a byte that was acknowledged is there ever after,
//! reads are never older than what was acknowledged, replicas become equal, redundancy returns.

use smi_cluster::{GroupId, NodeId, Vid};
use smi_core::table::{Name, Op, ProposeError, Table, encode_proposed};
use smi_file::{Action, ClientOp, Event, FileCore, FileError, Request, Response};
use smi_port::ToServer;
use smi_store::layout::BLOCK;
use smi_store::{BlockReader, IoId, IoKind, ReadFailed, Recovery, Store};
use std::collections::{BTreeMap, VecDeque};

const MS: u64 = 1_000_000;
const GROUP: GroupId = GroupId(1);
const FILES: usize = 3;
const SLOTS: usize = 6;
/// Slots are spread so that they share blocks with each other and cross block bounds.
const SLOT_STRIDE: u64 = 2730;

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[derive(Clone)]
struct Disk {
    durable: Vec<u8>,
    cached: Vec<(u64, Vec<u8>)>,
}

impl Disk {
    fn new() -> Disk {
        Disk { durable: vec![0; 1024 * BLOCK], cached: Vec::new() }
    }
    fn flush(&mut self) {
        for (b, bytes) in std::mem::take(&mut self.cached) {
            self.durable[b as usize * BLOCK..][..bytes.len()].copy_from_slice(&bytes);
        }
    }
    fn crash(&mut self, rng: &mut Rng) {
        for (b, bytes) in std::mem::take(&mut self.cached) {
            if rng.chance(50) {
                self.durable[b as usize * BLOCK..][..bytes.len()].copy_from_slice(&bytes);
            }
        }
    }
}

impl BlockReader for Disk {
    fn read(&mut self, block: u64, buffer: &mut [u8]) -> Result<(), ReadFailed> {
        for (i, piece) in buffer.chunks_mut(BLOCK).enumerate() {
            let at = block + i as u64;
            piece.copy_from_slice(&self.durable[at as usize * BLOCK..][..BLOCK]);
            for (first, bytes) in &self.cached {
                let n = (bytes.len() / BLOCK) as u64;
                if (*first..*first + n).contains(&at) {
                    piece.copy_from_slice(&bytes[(at - first) as usize * BLOCK..][..BLOCK]);
                }
            }
        }
        Ok(())
    }
}

/// What is under way to a node.
enum Item {
    Peer(NodeId, Vec<u8>),
    PeerUp(NodeId),
    PeerDown(NodeId),
    Committed(u64, Vec<u8>),
    Proposed(u64, Vec<u8>),
    Io(IoId, Result<Vec<u8>, ()>),
    Client(u64, ClientOp),
}

struct Node {
    core: Option<FileCore>,
    disk: Disk,
    boot: u64,
}

/// The directory as one place: what VSR makes of it is tested elsewhere.
struct Sim {
    rng: Rng,
    now: u64,
    nodes: BTreeMap<NodeId, Node>,
    table: Table,
    log: Vec<Vec<u8>>,
    /// (when, sequence, to, incarnation, item). FIFO per source is kept by `lanes`.
    queue: BTreeMap<(u64, u64), (NodeId, u64, Item)>,
    sequence: u64,
    lanes: BTreeMap<(u64, NodeId), u64>,
    detections: VecDeque<(u64, NodeId, u64)>,
    replies: BTreeMap<u64, Result<Response, FileError>>,
    next_request: u64,
    incarnation: u64,
    /// A planted fault: disks say that they flushed, and do not.
    lying_disks: bool,
}

const SOURCE_DIRECTORY: u64 = 1000;
const SOURCE_DISK: u64 = 2000;

impl Sim {
    fn new(seed: u64, nodes: u16) -> Sim {
        let mut sim = Sim {
            rng: Rng(seed),
            now: 1,
            nodes: BTreeMap::new(),
            table: Table::new(),
            log: Vec::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            lanes: BTreeMap::new(),
            detections: VecDeque::new(),
            replies: BTreeMap::new(),
            next_request: 0,
            incarnation: 0,
            lying_disks: false,
        };
        for n in 1..=nodes {
            sim.nodes.insert(NodeId(n), Node { core: None, disk: Disk::new(), boot: 0 });
            sim.start(NodeId(n));
        }
        sim
    }

    fn post(&mut self, source: u64, to: NodeId, delay: u64, item: Item) {
        let at = (self.now + delay).max(self.lanes.get(&(source, to)).copied().unwrap_or(0));
        self.lanes.insert((source, to), at);
        self.sequence += 1;
        let boot = self.nodes[&to].boot;
        self.queue.insert((at, self.sequence), (to, boot, item));
    }

    fn commit(&mut self, op: Op) -> smi_core::table::Proposed {
        let result = self.table.apply(&op).map_err(ProposeError::Refused);
        let bytes = op.encode();
        self.log.push(bytes.clone());
        let number = self.log.len() as u64;
        let all: Vec<NodeId> = self.nodes.keys().copied().collect();
        for node in all {
            if self.nodes[&node].core.is_some() {
                let delay = self.rng.below(20) * MS;
                self.post(SOURCE_DIRECTORY, node, delay, Item::Committed(number, bytes.clone()));
            }
        }
        result
    }

    /// Boots a node: recovery, then the manager's hello and snapshot, sessions, and `NodeUp` in the directory.
    fn start(&mut self, id: NodeId) {
        self.incarnation += 1;
        let incarnation = self.incarnation;
        let node = self.nodes.get_mut(&id).unwrap();
        node.boot = incarnation;
        let recovery = Recovery::open(1024, &mut node.disk).expect("store opens");
        node.core = Some(FileCore::new(Store::new(recovery), self.now));
        let (snapshot, op_number) = (self.table.encode(), self.table.op_number());
        self.lanes.retain(|(_, to), _| *to != id);
        self.give(id, Event::Port(ToServer::Hello { node: id, incarnation }));
        self.give(id, Event::Port(ToServer::Snapshot { op_number, more: false, bytes: &snapshot }));
        let others: Vec<NodeId> = self.alive().into_iter().filter(|n| *n != id).collect();
        for other in others {
            self.lanes.remove(&(id.0 as u64, other));
            self.post(id.0 as u64, other, MS, Item::PeerUp(id));
            self.post(other.0 as u64, id, MS, Item::PeerUp(other));
        }
        let _ =
            self.commit(Op::NodeUp { node: id, incarnation, boot: incarnation, store: id.0 as u64, external: true });
    }

    fn alive(&self) -> Vec<NodeId> {
        self.nodes.iter().filter(|(_, n)| n.core.is_some()).map(|(id, _)| *id).collect()
    }

    /// Power fails. The directory notices later.
    fn crash(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(&id).unwrap();
        node.core = None;
        node.disk.crash(&mut self.rng);
        let incarnation = node.boot;
        self.queue.retain(|_, (to, _, item)| *to != id && !matches!(item, Item::Peer(from, _) if *from == id));
        let detect = self.now + (50 + self.rng.below(100)) * MS;
        self.detections.push_back((detect, id, incarnation));
        for other in self.alive() {
            self.post(id.0 as u64, other, 30 * MS, Item::PeerDown(id));
        }
    }

    /// Only the file server's process dies; the node and its disk's cache live on.
    fn restart_server(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(&id).unwrap();
        let recovery = Recovery::open(1024, &mut node.disk).expect("store opens");
        self.now += 1;
        node.core = Some(FileCore::new(Store::new(recovery), self.now));
        let incarnation = node.boot;
        // Answers to its predecessor's requests and messages reach nobody.
        self.queue.retain(|_, (to, _, item)| *to != id || matches!(item, Item::PeerUp(_) | Item::PeerDown(_)));
        let (snapshot, op_number) = (self.table.encode(), self.table.op_number());
        self.give(id, Event::Port(ToServer::Hello { node: id, incarnation }));
        self.give(id, Event::Port(ToServer::Snapshot { op_number, more: false, bytes: &snapshot }));
        for other in self.alive() {
            if other != id {
                self.give(id, Event::Port(ToServer::PeerUp { node: other, incarnation: self.nodes[&other].boot }));
            }
        }
    }

    /// A session breaks and comes back: what was in flight between the two is lost.
    fn break_session(&mut self, a: NodeId, b: NodeId) {
        self.queue.retain(|_, (to, _, item)| {
            !matches!(item, Item::Peer(from, _) if (*from == a && *to == b) || (*from == b && *to == a))
        });
        for (x, y) in [(a, b), (b, a)] {
            self.post(x.0 as u64, y, MS, Item::PeerDown(x));
            self.post(x.0 as u64, y, MS, Item::PeerUp(x));
        }
    }

    fn give(&mut self, id: NodeId, event: Event) {
        let mut out = Vec::new();
        let now = self.now;
        let Some(core) = self.nodes.get_mut(&id).and_then(|n| n.core.as_mut()) else { return };
        core.step(now, event, &mut out);
        for action in out {
            self.act(id, action);
        }
    }

    fn act(&mut self, id: NodeId, action: Action) {
        match action {
            Action::Send { to, bytes, .. } => {
                if self.nodes[&to].core.is_some() {
                    let delay = self.rng.below(5) * MS;
                    self.post(id.0 as u64, to, delay, Item::Peer(id, bytes));
                }
            }
            Action::Propose { token, op } => {
                let result = if self.rng.chance(5) { Err(ProposeError::NoQuorum) } else { self.commit(op) };
                let delay = self.rng.below(10) * MS;
                self.post(SOURCE_DIRECTORY, id, delay, Item::Proposed(token, encode_proposed(&result)));
            }
            Action::Io { id: io, kind } => {
                let delay = self.rng.below(3) * MS;
                let disk = &mut self.nodes.get_mut(&id).unwrap().disk;
                let result = match kind {
                    IoKind::Read { block, count } => {
                        let mut bytes = vec![0; count as usize * BLOCK];
                        BlockReader::read(disk, block, &mut bytes).unwrap();
                        Ok(bytes)
                    }
                    IoKind::Write { block, bytes } => {
                        disk.cached.push((block, bytes));
                        Ok(Vec::new())
                    }
                    IoKind::Flush => {
                        if !self.lying_disks {
                            disk.flush();
                        }
                        Ok(Vec::new())
                    }
                };
                self.post(SOURCE_DISK, id, delay, Item::Io(io, result));
            }
            Action::Reply { id, result } => {
                assert!(self.replies.insert(id, result).is_none(), "a request is answered once");
            }
        }
    }

    fn request(&mut self, node: NodeId, op: ClientOp) -> u64 {
        self.next_request += 1;
        let id = self.next_request;
        self.post(SOURCE_DISK + 1, node, 0, Item::Client(id, op));
        id
    }

    /// Runs to a time.
    fn run_until(&mut self, end: u64) {
        let mut tick = self.now;
        while self.now < end {
            if let Some((at, node, incarnation)) = self.detections.front().copied()
                && at <= self.now
            {
                self.detections.pop_front();
                let _ = self.commit(Op::NodeDown { node, incarnation });
            }
            let next = self.queue.keys().next().map_or(u64::MAX, |k| k.0);
            if next > tick {
                self.now = self.now.max(tick).max(1);
                if self.now >= end {
                    break;
                }
                for id in self.alive() {
                    self.give(id, Event::Tick);
                }
                tick = self.now + 100 * MS;
                continue;
            }
            let ((at, _), (to, boot, item)) = self.queue.pop_first().unwrap();
            self.now = self.now.max(at);
            if self.nodes[&to].boot != boot {
                continue;
            }
            match item {
                Item::Peer(from, bytes) => {
                    self.give(to, Event::Port(ToServer::Peer { from, lane: smi_cluster::Lane::Log, bytes: &bytes }));
                }
                Item::PeerUp(node) => {
                    let incarnation = self.nodes[&node].boot;
                    self.give(to, Event::Port(ToServer::PeerUp { node, incarnation }));
                }
                Item::PeerDown(node) => self.give(to, Event::Port(ToServer::PeerDown { node })),
                Item::Committed(op_number, bytes) => {
                    self.give(to, Event::Port(ToServer::Committed { op_number, bytes: &bytes }));
                }
                Item::Proposed(token, bytes) => {
                    self.give(to, Event::Port(ToServer::Proposed { token, bytes: &bytes }));
                }
                Item::Io(id, result) => self.give(to, Event::Io { id, result }),
                Item::Client(id, op) => self.give(to, Event::Client { id, op }),
            }
        }
    }

    fn ask(&mut self, node: NodeId, op: ClientOp) -> Result<Response, FileError> {
        let id = self.request(node, op);
        for _ in 0..2000 {
            self.run_until(self.now + 10 * MS);
            if let Some(result) = self.replies.remove(&id) {
                return result;
            }
        }
        panic!("no answer within 20 s");
    }

    fn settle(&mut self) {
        self.run_until(self.now + 12_000 * MS);
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn file(request: Request) -> ClientOp {
    ClientOp::File { request, term: 0 }
}

/// One slot of one file: a register that one client writes with rising values.
#[derive(Default)]
struct Slot {
    issued: u64,
    acknowledged: u64,
    /// (request, value, node)
    waiting: Option<(u64, u64, NodeId)>,
    /// (request, the least value that it may return, node)
    reading: Option<(u64, u64, NodeId)>,
}

struct Load {
    vids: Vec<Vid>,
    slots: BTreeMap<(usize, usize), Slot>,
    acknowledged: u64,
    reads: u64,
}

impl Load {
    fn new(sim: &mut Sim, degree: u8) -> Load {
        sim.commit(Op::CreateGroup { group: GROUP, degree }).unwrap();
        sim.settle();
        let vids = (0..FILES)
            .map(|i| match sim.ask(NodeId(1), ClientOp::Create { name: name(&format!("f{i}")), group: GROUP }) {
                Ok(Response::File { vid, .. }) => vid,
                other => panic!("{other:?}"),
            })
            .collect();
        let slots = (0..FILES).flat_map(|f| (0..SLOTS).map(move |s| ((f, s), Slot::default()))).collect();
        Load { vids, slots, acknowledged: 0, reads: 0 }
    }

    fn write_op(&self, f: usize, s: usize, value: u64) -> ClientOp {
        let bytes = value.to_le_bytes().repeat(4);
        file(Request::Write { vid: self.vids[f], offset: s as u64 * SLOT_STRIDE, bytes })
    }

    fn read_op(&self, f: usize, s: usize) -> ClientOp {
        file(Request::Read { vid: self.vids[f], offset: s as u64 * SLOT_STRIDE, len: 32 })
    }

    /// Takes in answers and issues new requests.
    fn turn(&mut self, sim: &mut Sim) {
        let alive = sim.alive();
        for f in 0..FILES {
            for s in 0..SLOTS {
                let slot = self.slots.get_mut(&(f, s)).unwrap();
                if let Some((id, value, node)) = slot.waiting {
                    match sim.replies.remove(&id) {
                        Some(Ok(_)) => {
                            slot.acknowledged = slot.acknowledged.max(value);
                            self.acknowledged += 1;
                            slot.waiting = None;
                        }
                        Some(Err(FileError::Deadline)) => slot.waiting = None,
                        Some(Err(error)) => panic!("write: {error:?}"),
                        None if !alive.contains(&node) || sim.nodes[&node].boot == 0 => slot.waiting = None,
                        None => {}
                    }
                }
                if let Some((id, least, node)) = slot.reading {
                    match sim.replies.remove(&id) {
                        Some(Ok(Response::Bytes(bytes))) => {
                            let value = check_value(&bytes);
                            assert!(value >= least, "file {f} slot {s}: read {value} after {least} was acknowledged");
                            assert!(value <= slot.issued, "file {f} slot {s}: read {value}, issued {}", slot.issued);
                            slot.acknowledged = slot.acknowledged.max(value);
                            self.reads += 1;
                            slot.reading = None;
                        }
                        Some(Err(FileError::Deadline)) => slot.reading = None,
                        Some(other) => panic!("read: {other:?}"),
                        None if !alive.contains(&node) => slot.reading = None,
                        None => {}
                    }
                }
            }
        }
        for _ in 0..3 {
            let key = (sim.rng.below(FILES as u64) as usize, sim.rng.below(SLOTS as u64) as usize);
            if alive.is_empty() {
                return;
            }
            let node = alive[sim.rng.below(alive.len() as u64) as usize];
            let (write, value) = {
                let slot = self.slots.get_mut(&key).unwrap();
                let write = sim.rng.chance(60);
                if write && slot.waiting.is_some() || !write && slot.reading.is_some() {
                    continue;
                }
                slot.issued += write as u64;
                (write, slot.issued)
            };
            let op = if write { self.write_op(key.0, key.1, value) } else { self.read_op(key.0, key.1) };
            let id = sim.request(node, op);
            let slot = self.slots.get_mut(&key).unwrap();
            if write {
                slot.waiting = Some((id, value, node));
            } else {
                slot.reading = Some((id, slot.acknowledged, node));
            }
        }
    }

    /// A restarted or crashed server has forgotten its clients' requests.
    fn forget(&mut self, node: NodeId) {
        for slot in self.slots.values_mut() {
            slot.waiting.take_if(|w| w.2 == node);
            slot.reading.take_if(|r| r.2 == node);
        }
    }

    /// After healing: everything acknowledged is readable on every node, and the replicas are equal.
    fn check_all(&mut self, sim: &mut Sim) {
        for node in sim.alive() {
            for f in 0..FILES {
                for s in 0..SLOTS {
                    let Ok(Response::Bytes(bytes)) = sim.ask(node, self.read_op(f, s)) else { panic!("read failed") };
                    let (value, slot) = (check_value(&bytes), &self.slots[&(f, s)]);
                    assert!(value >= slot.acknowledged, "file {f} slot {s}: {value} < {}", slot.acknowledged);
                    assert!(value <= slot.issued);
                }
            }
        }
        let group = sim.table.group(GROUP).unwrap().clone();
        let copies: Vec<_> = group.members.iter().map(|m| contents(sim, *m)).collect();
        assert!(copies.windows(2).all(|w| w[0] == w[1]), "replicas differ");
    }
}

fn check_value(bytes: &[u8]) -> u64 {
    if bytes.is_empty() {
        return 0;
    }
    let words: Vec<u64> = bytes.chunks(8).map(|c| u64::from_le_bytes(c.try_into().unwrap())).collect();
    assert!(words.iter().all(|w| *w == words[0]), "a write was torn: {words:?}");
    words[0]
}

/// All files of the group in a node's store, read from its disk.
fn contents(sim: &mut Sim, node: NodeId) -> BTreeMap<Vid, Vec<u8>> {
    let mut disk = sim.nodes[&node].disk.clone();
    disk.flush();
    let mut store = Store::new(Recovery::open(1024, &mut disk).unwrap());
    let files: Vec<_> = store.objects().filter(|(_, i)| i.attr.kind == 2).collect();
    let mut all = BTreeMap::new();
    for (vid, info) in files {
        let mut out = Vec::new();
        store.step(smi_store::Event::Read { token: 1, vid, offset: 0, len: info.len as u32 }, &mut out);
        while let Some(action) = out.pop() {
            match action {
                smi_store::Action::Io { id, kind: IoKind::Read { block, count } } => {
                    let mut bytes = vec![0; count as usize * BLOCK];
                    BlockReader::read(&mut disk, block, &mut bytes).unwrap();
                    store.step(smi_store::Event::Io { id, result: Ok(bytes) }, &mut out);
                }
                smi_store::Action::ReadDone { result, .. } => {
                    all.insert(vid, result.unwrap());
                }
                other => panic!("{other:?}"),
            }
        }
    }
    all
}

/// One seed: load, faults, healing, check. Returns (acknowledged, reads, faults).
fn run(seed: u64, nodes: u16, degree: u8, lying_disks: bool) -> (u64, u64, u64) {
    let mut sim = Sim::new(seed, nodes);
    let mut load = Load::new(&mut sim, degree);
    sim.lying_disks = lying_disks;
    let mut faults = 0;
    let mut down: Vec<NodeId> = Vec::new();
    for _ in 0..400 {
        let pause = (1 + sim.rng.below(30)) * MS;
        sim.run_until(sim.now + pause);
        load.turn(&mut sim);
        match sim.rng.below(60) {
            0 if down.is_empty() => {
                let alive = sim.alive();
                let id = alive[sim.rng.below(alive.len() as u64) as usize];
                sim.crash(id);
                load.forget(id);
                down.push(id);
                faults += 1;
            }
            1..=4 if !down.is_empty() => {
                let id = down.pop().unwrap();
                sim.start(id);
            }
            5 => {
                let alive = sim.alive();
                let id = alive[sim.rng.below(alive.len() as u64) as usize];
                sim.restart_server(id);
                load.forget(id);
                faults += 1;
            }
            6 | 7 => {
                let alive = sim.alive();
                if alive.len() > 1 {
                    let a = sim.rng.below(alive.len() as u64) as usize;
                    let b = (a + 1 + sim.rng.below(alive.len() as u64 - 1) as usize) % alive.len();
                    sim.break_session(alive[a], alive[b]);
                    faults += 1;
                }
            }
            _ => {}
        }
    }
    for id in down {
        sim.start(id);
    }
    sim.settle();
    load.turn(&mut sim);
    let group = sim.table.group(GROUP).unwrap();
    assert_eq!(group.members.len(), degree as usize, "redundancy returns: {group:?}");
    load.check_all(&mut sim);
    (load.acknowledged, load.reads, faults)
}

#[test]
fn seeds_lose_nothing() {
    let mut total = (0, 0, 0);
    for seed in 0..60 {
        let (nodes, degree) = [(3, 2), (3, 3), (4, 2), (3, 1)][seed as usize % 4];
        let one = run(seed, nodes, degree, false);
        total = (total.0 + one.0, total.1 + one.1, total.2 + one.2);
    }
    println!("{} acknowledged writes, {} reads, {} faults", total.0, total.1, total.2);
    assert!(total.0 > 5_000 && total.1 > 3_000 && total.2 > 500, "{total:?}");
}

#[test]
fn the_checker_catches_disks_that_lie_about_flushes() {
    let caught = (0..12).filter(|seed| std::panic::catch_unwind(|| run(*seed, 3, 1, true)).is_err()).count();
    assert!(caught >= 6, "caught in {caught} of 12 seeds");
}

#[test]
fn files_are_created_opened_renamed_and_removed() {
    let mut sim = Sim::new(7, 3);
    sim.commit(Op::CreateGroup { group: GROUP, degree: 2 }).unwrap();
    let create = |n: &str| ClientOp::Create { name: name(n), group: GROUP };
    let Ok(Response::File { vid: a, .. }) = sim.ask(NodeId(3), create("a")) else { panic!() };
    assert_eq!(sim.ask(NodeId(1), create("a")), Err(FileError::Exists));
    assert_eq!(sim.ask(NodeId(2), ClientOp::Open { name: name("none"), bound: false }), Err(FileError::NotFound));
    let Ok(Response::File { vid: b, .. }) = sim.ask(NodeId(2), create("b")) else { panic!() };
    let write = |vid, text: &[u8]| file(Request::Write { vid, offset: 0, bytes: text.to_vec() });
    assert_eq!(sim.ask(NodeId(2), write(a, b"old")), Ok(Response::Done));
    assert_eq!(sim.ask(NodeId(3), write(b, b"new and longer")), Ok(Response::Done));
    assert_eq!(sim.ask(NodeId(1), ClientOp::Rename { from: name("b"), to: name("a") }), Ok(Response::Done));
    let Ok(Response::File { vid, .. }) = sim.ask(NodeId(2), ClientOp::Open { name: name("a"), bound: false }) else {
        panic!()
    };
    assert_eq!(vid, b);
    assert_eq!(sim.ask(NodeId(3), file(Request::Size { vid })), Ok(Response::Size(14)));
    assert_eq!(sim.ask(NodeId(1), file(Request::Truncate { vid, len: 3 })), Ok(Response::Done));
    let read = file(Request::Read { vid, offset: 0, len: 100 });
    assert_eq!(sim.ask(NodeId(2), read), Ok(Response::Bytes(b"new".to_vec())));
    sim.settle();
    assert_eq!(sim.ask(NodeId(1), write(a, b"gone")), Err(FileError::NotFound), "replaced files are gone");
    assert_eq!(sim.ask(NodeId(1), ClientOp::Remove { name: name("a") }), Ok(Response::Done));
    assert_eq!(sim.ask(NodeId(3), ClientOp::Remove { name: name("a") }), Err(FileError::NotFound));
    sim.settle();
    for node in 1..=3 {
        assert!(contents(&mut sim, NodeId(node)).is_empty(), "node {node} has freed the space");
    }
}

#[test]
fn a_bound_caller_is_fenced_when_its_group_moves() {
    let mut sim = Sim::new(8, 3);
    sim.commit(Op::CreateGroup { group: GROUP, degree: 2 }).unwrap();
    sim.settle();
    let primary = sim.table.group(GROUP).unwrap().primary().unwrap();
    sim.ask(primary, ClientOp::Create { name: name("log"), group: GROUP }).unwrap();
    let open = ClientOp::Open { name: name("log"), bound: true };
    let Ok(Response::File { vid, term }) = sim.ask(primary, open.clone()) else { panic!() };
    assert_ne!(term, 0);
    let write = ClientOp::File { request: Request::Write { vid, offset: 0, bytes: vec![1] }, term };
    assert_eq!(sim.ask(primary, write.clone()), Ok(Response::Done));
    let record = sim.table.group(GROUP).unwrap().clone();
    let backup = record.members[1];
    assert_eq!(sim.ask(backup, open), Err(FileError::Fenced), "only where the primary is");
    sim.commit(Op::Promote { group: GROUP, epoch: record.epoch, node: backup }).unwrap();
    sim.settle();
    assert_eq!(sim.ask(primary, write), Err(FileError::Fenced));
}

#[test]
fn large_files_reach_a_replacement() {
    let mut sim = Sim::new(9, 3);
    sim.commit(Op::CreateGroup { group: GROUP, degree: 2 }).unwrap();
    sim.settle();
    let Ok(Response::File { vid, .. }) = sim.ask(NodeId(1), ClientOp::Create { name: name("big"), group: GROUP })
    else {
        panic!()
    };
    for i in 0..20u64 {
        let bytes = vec![i as u8 + 1; 30_000];
        sim.ask(NodeId(1), file(Request::Write { vid, offset: i * 45_000, bytes })).unwrap();
    }
    let members = sim.table.group(GROUP).unwrap().members.clone();
    sim.crash(members[0]);
    sim.settle();
    let now = sim.table.group(GROUP).unwrap().members.clone();
    assert_eq!(now.len(), 2);
    assert!(!now.contains(&members[0]));
    let (a, b) = (contents(&mut sim, now[0]), contents(&mut sim, now[1]));
    assert_eq!(a, b);
    let big = &a[&vid];
    assert_eq!(big.len(), 19 * 45_000 + 30_000);
    assert!((0..20).all(|i| big[i * 45_000..][..30_000].iter().all(|x| *x == i as u8 + 1)));
    assert!(big[30_000..45_000].iter().all(|x| *x == 0));
}
