//! Three managers in one process over a simulated wire, with servers at their ports: formation, a name exported on one node and
//! called from another, loss and return of a node, a foreign node.

use std::collections::BTreeMap;

use ipc_api::greeter;
use ipc_api::manager::{self as api, Server as _};
use ipc_wire::{Answer as WireAnswer, Caller, CellSession, Dispatched, Incoming, LinkError, NoSession, RawCap, Str};
use smi_cluster::identity::{External, Identity, Member};
use smi_cluster::layout::BLOCK_SIZE;
use smi_cluster::{Lane, NodeId, PortId};
use smi_core::config::Timing;
use smi_core::io;
use smi_core::table::{Name, Op, Table};
use smi_manager::calls::Invocation;
use smi_manager::desk::{self, Desk};
use smi_manager::ports::{PortConfig, PortIndex};
use smi_manager::services::Service;
use smi_manager::{Action, Config, Event, Manager};
use smi_port::{ToManager, ToServer};

const MS: u64 = 1_000_000;
const FILE: PortIndex = PortIndex(0);
const GREETER: PortIndex = PortIndex(1);
const CLIENT_BADGE: u64 = 77;

fn mac(n: u16) -> [u8; 6] {
    [0x52, 0x53, 0x4d, 0, 0, n as u8]
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// A file server that follows the directory and reports groups that it was to join as synced.
#[derive(Default)]
struct FileServer {
    table: Table,
    pieces: Vec<u8>,
    mail: Vec<(NodeId, Vec<u8>)>,
    peers: BTreeMap<NodeId, u64>,
    answers: Vec<u64>,
    out: Vec<Vec<u8>>,
}

impl FileServer {
    fn take(&mut self, me: NodeId, record: &[u8]) {
        match ToServer::decode(record).unwrap() {
            ToServer::Snapshot { more, bytes, .. } => {
                self.pieces.extend_from_slice(bytes);
                if !more {
                    self.table = Table::decode(&std::mem::take(&mut self.pieces)).unwrap();
                }
            }
            ToServer::Committed { op_number, bytes } => {
                let _ = self.table.apply(&Op::decode(bytes).unwrap());
                assert_eq!(self.table.op_number(), op_number, "an operation was left out");
            }
            ToServer::Peer { from, bytes, .. } => self.mail.push((from, bytes.to_vec())),
            ToServer::PeerUp { node, incarnation } => drop(self.peers.insert(node, incarnation)),
            ToServer::PeerDown { node } => drop(self.peers.remove(&node)),
            ToServer::Proposed { token, .. } => self.answers.push(token),
            _ => {}
        }
        let joins: Vec<_> =
            self.table.groups().filter(|(_, g)| g.joining == Some(me)).map(|(id, g)| (id, g.epoch)).collect();
        for (group, epoch) in joins {
            let op = Op::Synced { group, epoch, node: me }.encode();
            self.out.push(ToManager::Propose { token: 1, bytes: &op }.encode().parts().concat());
        }
    }
}

/// The example server, reached by records only.
struct Greeter {
    node: NodeId,
    calls: usize,
    deaf: bool,
}

impl greeter::Server for Greeter {
    fn greet(&mut self, _: Caller, name: &str) -> WireAnswer<Str<64>, greeter::Error> {
        self.calls += 1;
        if name.is_empty() {
            return Err(greeter::Error::Nameless.into());
        }
        Ok(Str::format(format_args!("hello {name} from node {}", self.node)))
    }
}

impl Greeter {
    fn take(&mut self, record: &[u8]) -> Option<Vec<u8>> {
        let ToServer::Call { call, label, payload, window, .. } = ToServer::decode(record).unwrap() else {
            return None;
        };
        if self.deaf {
            return None;
        }
        let mut memory = window.to_vec();
        let session = CellSession::new(&mut memory);
        let from = Caller { badge: 0, token: call };
        let incoming = Incoming { from, label, bytes: payload, caps: &[], session: &session };
        let mut buffer = [0; ipc_wire::MAX_PAYLOAD];
        let Dispatched::Reply(reply) = greeter::dispatch(self, &incoming, &mut buffer) else { panic!() };
        let reply = ToManager::Reply { call, label: reply.label, payload: &buffer[..reply.len], window: &[] };
        Some(reply.encode().parts().concat())
    }
}

struct Machine {
    identity: Identity,
    boot: u64,
    manager: Option<Manager>,
    disk: Vec<[u8; BLOCK_SIZE]>,
    file: FileServer,
    greeter: Greeter,
    /// Answers to calls through imports: token -> (label, payload).
    answers: BTreeMap<u64, (u64, Vec<u8>)>,
    exported: BTreeMap<u64, Result<smi_cluster::Vid, smi_manager::manager::ExportError>>,
    running: Vec<String>,
    lines: Vec<String>,
}

struct Net {
    now: u64,
    rng: u64,
    machines: Vec<Machine>,
    wire: BTreeMap<(u64, u64), (usize, Vec<u8>)>,
    cut: Vec<(usize, usize)>,
    sequence: u64,
    loss_percent: u64,
    next_token: u64,
}

fn identity(node: u16, key: u8) -> Identity {
    let members: Vec<Member> = (1..=3).map(|n| Member { node: NodeId(n), internal_mac: mac(n) }).collect();
    let external =
        External { service: [10, 77, 0, 100], prefix: 24, gateway: [0; 4], virtual_mac: [0, 0, 0x5e, 0, 1, 0x4d] };
    Identity::new([7; 16], NodeId(node), 4096, u64::from(node), [key; 32], external, &members).unwrap()
}

impl Machine {
    fn new(node: u16, key: u8) -> Machine {
        Machine {
            identity: identity(node, key),
            boot: 0,
            manager: None,
            disk: vec![[0; BLOCK_SIZE]; smi_cluster::layout::DIRECTORY.blocks as usize],
            file: FileServer::default(),
            greeter: Greeter { node: NodeId(node), calls: 0, deaf: false },
            answers: BTreeMap::new(),
            exported: BTreeMap::new(),
            running: vec![],
            lines: vec![],
        }
    }
}

impl Net {
    fn new(seed: u64) -> Net {
        let machines = (1..=3).map(|n| Machine::new(n, 1)).collect();
        let (wire, cut) = (BTreeMap::new(), vec![]);
        Net { now: 0, rng: seed, machines, wire, cut, sequence: 0, loss_percent: 2, next_token: 100 }
    }

    /// Powers a machine up: memory is new, the disk is not.
    fn boot(&mut self, i: usize) {
        let m = &mut self.machines[i];
        m.boot += 1;
        m.file = FileServer::default();
        m.greeter.calls = 0;
        m.running.clear();
        m.lines.clear();
        let ports = [
            PortConfig { name: "file".into(), id: PortId::FILE, badge: 11 },
            PortConfig { name: "greeter".into(), id: PortId(16), badge: 12 },
        ];
        let services = vec![Service { name: name("db"), program: name("dbms"), degree: 2, port: 6379 }];
        let seed = smi_link::seed(&m.identity.key, &[&m.identity.node.0.to_le_bytes(), &m.boot.to_le_bytes()]);
        m.manager = Manager::new(Config {
            identity: &m.identity,
            boot: m.boot,
            external: true,
            timing: Timing::QEMU,
            services,
            ports: &ports,
            seed,
        });
        assert!(m.manager.is_some());
        for port in [FILE, GREETER] {
            self.step(i, Event::Attached(port));
        }
    }

    fn random(&mut self) -> u64 {
        self.rng = self.rng.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.rng >> 33
    }

    fn transmit(&mut self, from: usize, frame: Vec<u8>) {
        let to = (frame[5] - 1) as usize;
        if self.cut.contains(&(from, to)) || self.random() % 100 < self.loss_percent {
            return;
        }
        let at = self.now + 100_000 + self.random() % (2 * MS);
        self.sequence += 1;
        self.wire.insert((at, self.sequence), (to, frame));
    }

    fn step(&mut self, i: usize, event: Event<'_>) {
        let mut out = Vec::new();
        let now = self.now;
        let Some(manager) = &mut self.machines[i].manager else { return };
        manager.step(now, event, &mut out);
        self.carry_out(i, out);
        self.serve_ports(i);
    }

    fn carry_out(&mut self, i: usize, actions: Vec<Action>) {
        for action in actions {
            let m = &mut self.machines[i];
            match action {
                Action::Frame(frame) => self.transmit(i, frame),
                Action::Answer(a) => drop(m.answers.insert(a.token, (a.label, a.payload))),
                Action::Exported { token, result } => drop(m.exported.insert(token, result)),
                Action::Disk(action) => self.disk(i, action),
                Action::Start(program) => {
                    m.running.push(program.as_str().into());
                    self.step(i, Event::Supervised { program: &program, running: true, ok: true });
                }
                Action::Stop(program) => {
                    m.running.retain(|p| p != program.as_str());
                    self.step(i, Event::Supervised { program: &program, running: false, ok: true });
                }
                Action::Status(status) => m.lines.push(desk::line(&status)),
            }
        }
    }

    fn disk(&mut self, i: usize, action: io::Action) {
        let disk = &mut self.machines[i].disk;
        match action {
            io::Action::Read { token, block, count } => {
                let data = disk[block as usize..(block + count) as usize].concat();
                self.step(i, Event::Disk(io::Event::ReadBack { token, data: Some(&data) }));
            }
            io::Action::Write { token, block, bytes } => {
                disk[block as usize].copy_from_slice(&bytes);
                self.step(i, Event::Disk(io::Event::Written { token }));
            }
            io::Action::Flush { token } => self.step(i, Event::Disk(io::Event::Flushed { token })),
            other => panic!("not for the disk: {other:?}"),
        }
    }

    fn serve_ports(&mut self, i: usize) {
        for port in [FILE, GREETER] {
            loop {
                let m = &mut self.machines[i];
                let Some(manager) = &mut m.manager else { return };
                let Some(record) = manager.ports().next_record(port).map(<[u8]>::to_vec) else { break };
                manager.record_taken(self.now, port);
                if port == FILE {
                    m.file.take(m.identity.node, &record);
                } else if let Some(reply) = m.greeter.take(&record) {
                    self.step(i, Event::Record(GREETER, &reply));
                }
            }
        }
        for record in std::mem::take(&mut self.machines[i].file.out) {
            self.step(i, Event::Record(FILE, &record));
        }
    }

    fn run_for(&mut self, ns: u64) {
        let end = self.now + ns;
        while self.now < end {
            let frame_at = self.wire.first_key_value().map(|((at, _), _)| *at);
            let managers = self.machines.iter().filter_map(|m| m.manager.as_ref());
            let timer = managers.filter_map(|m| m.deadline_ns()).min();
            let next = [frame_at, timer, Some(end)].into_iter().flatten().min().unwrap();
            // A machine needs some time for anything.
            self.now = next.max(self.now + 10_000).min(end);
            while let Some(entry) = self.wire.first_entry() {
                if entry.key().0 > self.now {
                    break;
                }
                let (to, frame) = entry.remove();
                self.step(to, Event::Frame(&frame));
            }
            for i in 0..self.machines.len() {
                if self.machines[i].manager.as_ref().is_some_and(|m| m.deadline_ns().is_some_and(|d| d <= self.now)) {
                    self.step(i, Event::Tick);
                }
            }
        }
    }

    /// Runs until `done`, at most `limit_ms`; returns whether it came true.
    fn run_until(&mut self, limit_ms: u64, done: impl Fn(&Net) -> bool) -> bool {
        let end = self.now + limit_ms * MS;
        while self.now < end && !done(self) {
            self.run_for(5 * MS);
        }
        done(self)
    }

    fn table(&self, i: usize) -> &Table {
        self.machines[i].manager.as_ref().unwrap().table()
    }

    fn formed(&self, nodes: &[u16]) -> bool {
        let alive = self.machines.iter().enumerate().filter(|(_, m)| m.manager.is_some());
        alive.map(|(i, _)| self.table(i)).all(|t| t.up_nodes().map(|n| n.0).eq(nodes.iter().copied()))
    }

    fn desk<R>(&mut self, i: usize, serve: impl FnOnce(&mut Desk<'_>) -> R) -> R {
        let manager = self.machines[i].manager.as_mut().unwrap();
        serve(&mut Desk { manager, now_ns: self.now, mint: &mut |object, _| Some(RawCap(object)) })
    }

    fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    fn export(&mut self, i: usize, text: &str) -> u64 {
        let token = self.token();
        let pending = self.desk(i, |d| d.export(Caller { badge: 12, token }, text));
        assert_eq!(pending, Err(ipc_wire::Refusal::Pending));
        self.step(i, Event::Tick);
        token
    }

    fn resolve(&mut self, i: usize, text: &str) -> Result<u64, ipc_wire::Refusal<api::Error>> {
        self.desk(i, |d| d.resolve(Caller { badge: CLIENT_BADGE, token: 0 }, text)).map(|cap| cap.raw().0)
    }

    /// Calls `greet` through an imported capability; the answer comes later.
    fn greet(&mut self, i: usize, object: u64, who: &str) -> u64 {
        let token = self.token();
        let (_, method) = ipc_api::find(greeter::label::GREET).unwrap();
        let mut payload = vec![0; method.request.size];
        payload[..2].copy_from_slice(&(who.len() as u16).to_le_bytes());
        payload[2..2 + who.len()].copy_from_slice(who.as_bytes());
        let call = Invocation {
            token,
            badge: CLIENT_BADGE,
            label: greeter::label::GREET,
            payload: &payload,
            has_caps: false,
            session: &NoSession,
        };
        self.step(i, Event::Invoke { object, call });
        self.step(i, Event::Tick);
        token
    }

    fn answer(&mut self, i: usize, token: u64, limit_ms: u64) -> Option<(u64, String)> {
        self.run_until(limit_ms, |n| n.machines[i].answers.contains_key(&token));
        let (label, payload) = self.machines[i].answers.remove(&token)?;
        let text = match label {
            0 => String::from_utf8(payload[2..2 + payload[0] as usize].to_vec()).unwrap(),
            _ => String::new(),
        };
        Some((label, text))
    }

    fn line(&self, i: usize, starts: &str) -> bool {
        self.machines[i].lines.iter().any(|l| l.starts_with(starts))
    }
}

fn formed(seed: u64) -> Net {
    let mut net = Net::new(seed);
    (0..3).for_each(|i| net.boot(i));
    assert!(net.run_until(20_000, |n| n.formed(&[1, 2, 3])), "seed {seed}: no cluster");
    let has_service = |n: &Net| (0..3).all(|i| n.table(i).listener(6379).is_some());
    assert!(net.run_until(20_000, has_service), "seed {seed}: no service");
    net
}

#[test]
fn three_nodes_form_a_cluster_and_run_the_service_once() {
    for seed in 1..=20 {
        let mut net = formed(seed);
        net.run_for(1000 * MS);
        let running: Vec<usize> = (0..3).filter(|i| net.machines[*i].running == ["dbms"]).collect();
        assert_eq!(running.len(), 1, "seed {seed}");
        let home = net.table(0).home(net.table(0).lookup("db").unwrap()).unwrap().0;
        assert_eq!(running[0] + 1, usize::from(home.0));
        for i in 0..3 {
            let m = &net.machines[i];
            assert_eq!(&m.file.table, net.table(i), "seed {seed}: a server's copy of the directory differs");
            assert_eq!(m.file.peers.len(), 2);
            assert!(net.line(i, &format!("node-up node={}", i + 1)), "{:?}", m.lines);
        }
        assert!(net.line(running[0], "service-started program=dbms"));
        let process = net.desk(2, |d| d.process(Caller { badge: 1, token: 1 }, "db")).unwrap();
        assert_eq!((process.node, process.group), (home.0, 1));
    }
}

#[test]
fn a_name_exported_on_one_node_is_called_from_another_and_locally() {
    for seed in 1..=20 {
        let mut net = formed(seed);
        let token = net.export(0, "greeter");
        assert!(net.run_until(5000, |n| n.machines[0].exported.contains_key(&token)));
        let vid = net.machines[0].exported[&token].unwrap();
        assert!(net.run_until(5000, |n| n.table(2).vid(vid).is_some()));
        for client in [2, 0] {
            let object = net.resolve(client, "greeter").unwrap();
            let call = net.greet(client, object, "Ada");
            assert_eq!(net.answer(client, call, 3000), Some((0, "hello Ada from node 1".into())), "seed {seed}");
            let nameless = net.greet(client, object, "");
            assert_eq!(net.answer(client, nameless, 3000).unwrap().0, 1);
        }
        assert_eq!(net.machines[0].greeter.calls, 4);
        // Another server cannot have the name, and a capability that was never given denotes nothing.
        let second = net.export(1, "greeter");
        assert!(net.run_until(5000, |n| n.machines[1].exported.contains_key(&second)));
        assert_eq!(net.machines[1].exported[&second], Err(smi_manager::manager::ExportError::Taken));
        let forged = net.greet(2, 0xbad, "Eve");
        assert_eq!(net.answer(2, forged, 10).unwrap().0, LinkError::Revoked.label());
        assert!(net.resolve(2, "nobody").is_err());
    }
}

#[test]
fn calls_are_executed_once_even_when_the_session_breaks() {
    for seed in 1..=20 {
        let mut net = formed(seed);
        let token = net.export(0, "greeter");
        assert!(net.run_until(5000, |n| n.machines[0].exported.contains_key(&token)));
        assert!(net.run_until(5000, |n| n.table(2).lookup("greeter").is_some()));
        let object = net.resolve(2, "greeter").unwrap();
        net.loss_percent = 30;
        let calls: Vec<u64> = (0..50).map(|n| net.greet(2, object, &format!("n{n}"))).collect();
        for (n, call) in calls.into_iter().enumerate() {
            let answer = net.answer(2, call, 5000).unwrap();
            assert_eq!(answer, (0, format!("hello n{n} from node 1")), "seed {seed}");
        }
        assert_eq!(net.machines[0].greeter.calls, 50, "seed {seed}");
    }
}

#[test]
fn the_death_of_a_node_moves_its_service_fails_its_calls_and_its_return_restores_redundancy() {
    for seed in 1..=20 {
        let mut net = formed(seed);
        let home = net.table(0).home(net.table(0).lookup("db").unwrap()).unwrap().0;
        let (dies, others) = (usize::from(home.0) - 1, (0..3).filter(|i| *i + 1 != usize::from(home.0)));
        let others: Vec<usize> = others.collect();
        let token = net.export(dies, "greeter");
        assert!(net.run_until(5000, |n| n.machines[dies].exported.contains_key(&token)));
        assert!(net.run_until(5000, |n| n.table(others[0]).lookup("greeter").is_some()));
        let object = net.resolve(others[0], "greeter").unwrap();
        net.machines[dies].greeter.deaf = true;
        let call = net.greet(others[0], object, "Ada");
        net.run_for(20 * MS);
        net.machines[dies].manager = None;
        let survivors: Vec<u16> = others.iter().map(|i| *i as u16 + 1).collect();
        assert!(net.run_until(10_000, |n| n.formed(&survivors)), "seed {seed}: the death was not noticed");
        assert_eq!(net.answer(others[0], call, 100).unwrap().0, LinkError::Restarted.label(), "seed {seed}");
        let again = net.greet(others[0], object, "Ada");
        assert_eq!(net.answer(others[0], again, 100).unwrap().0, LinkError::Revoked.label());
        assert!(net.resolve(others[0], "greeter").is_err());
        // The service runs on a survivor, and once the other survivor has joined its group, it is redundant again.
        let runs = |n: &Net| others.iter().filter(|i| n.machines[**i].running == ["dbms"]).count();
        assert!(net.run_until(1000, |n| runs(n) == 1), "seed {seed}: the service did not move");
        let down = format!("node-down node={home} ");
        assert!(others.iter().all(|i| net.line(*i, &down)));
        assert!(others.iter().any(|i| net.line(*i, "promoted groups=1 first=1 ")));
        assert!(net.run_until(5000, |n| others.iter().all(|i| n.line(*i, "redundancy-restored "))), "seed {seed}");
        // It comes back as a new incarnation, without its old exports, and may export again.
        net.machines[dies].greeter.deaf = false;
        net.boot(dies);
        assert!(net.run_until(20_000, |n| n.formed(&[1, 2, 3])), "seed {seed}: it did not return");
        assert!(net.machines[dies].running.is_empty());
        let token = net.export(dies, "greeter");
        assert!(net.run_until(5000, |n| n.machines[dies].exported.contains_key(&token)), "seed {seed}");
        assert!(net.run_until(5000, |n| n.table(others[1]).lookup("greeter").is_some()));
        let object = net.resolve(others[1], "greeter").unwrap();
        let call = net.greet(others[1], object, "Bob");
        assert_eq!(net.answer(others[1], call, 3000), Some((0, format!("hello Bob from node {home}"))));
    }
}

#[test]
fn servers_of_the_same_name_talk_to_each_other() {
    let mut net = formed(3);
    let before = net.machines[2].file.mail.len();
    for n in 0..100u32 {
        let bytes = vec![n as u8; 1 + (n as usize * 997) % smi_port::MAX_MESSAGE];
        let record = ToManager::Peer { to: NodeId(3), lane: Lane::Repair, bytes: &bytes }.encode().parts().concat();
        assert!(net.run_until(5000, |n| n.machines[0].manager.as_ref().unwrap().ports().may_send(FILE)));
        net.step(0, Event::Record(FILE, &record));
        net.step(0, Event::Tick);
    }
    assert!(net.run_until(30_000, |n| n.machines[2].file.mail.len() == before + 100));
    let mail = &net.machines[2].file.mail[before..];
    assert!(mail.iter().enumerate().all(|(n, (from, bytes))| *from == NodeId(1) && bytes[0] == n as u8));
}

#[test]
fn a_node_with_another_key_stays_outside() {
    let mut net = Net::new(9);
    net.machines[2] = Machine::new(3, 66);
    (0..3).for_each(|i| net.boot(i));
    net.run_for(10_000 * MS);
    for i in 0..2 {
        assert!(net.table(i).up_nodes().all(|n| n != NodeId(3)));
        assert!(net.line(i, "link-refused node=3 reason=wrong-key"), "{:?}", net.machines[i].lines);
    }
    assert!(net.line(2, "link-refused "));
    assert!(net.table(2).up_nodes().next().is_none());
}
