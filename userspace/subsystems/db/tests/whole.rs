//! Everything but the machine: a TCP client, router, stack, socket server, interfaces, service, engine, file interfaces, files.
//! The file server here is a fake that can lose answers, run out of room and be fenced.

#[path = "../../../../smi/socket/tests/common/mod.rs"]
mod host;

use db::engine::Config;
use db::files::{Files, FilesError, IpcFiles};
use db::service::{End, Service};
use db::sockets::{IpcSockets, SocketsLost};
use db::way::Way;
use host::{CLIENT, Client, MS, Rng, SERVICE};
use ipc_api::{file, filesystem, socket};
use ipc_wire::{
    Answer, CallError, Caller, Cap, Dispatched, InWindow, Incoming, LinkError, MAX_PAYLOAD, OutWindow, RawCap, Reply,
    Request, Session, Transport,
};
use smi_cluster::identity::External;
use smi_cluster::{GroupId, NodeId, Vid};
use smi_core::table::{Kind, Name, Op, Table};
use smi_port::ToServer;
use smi_socket::desk::Desk;
use smi_socket::directory::Directory;
use smi_socket::server::{Effects, Proposal, ServerConfig, SocketServer};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;
use smoltcp::wire::EthernetAddress;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

const BADGE: u64 = 7;
const PORT: u16 = 6379;
const SERVICE_VID: Vid = Vid(0x1234);

// ---- files ----

#[derive(Default)]
struct FakeFiles {
    names: BTreeMap<String, u64>,
    bytes: BTreeMap<u64, Vec<u8>>,
    /// Open file by badge object.
    open: BTreeMap<u64, u64>,
    next: u64,
    /// Every so manyth change answers `Timeout`: in turn before and after it was done. 0: never.
    timeouts: u64,
    changes: u64,
    room: usize,
    fenced: bool,
    writes: u64,
}

impl FakeFiles {
    /// Whether this change is to be left undone, and whether its answer is to be lost.
    fn fate(&mut self) -> (bool, bool) {
        self.changes += 1;
        if self.timeouts == 0 || !self.changes.is_multiple_of(self.timeouts) {
            return (false, false);
        }
        let undone = (self.changes / self.timeouts).is_multiple_of(2);
        (undone, true)
    }

    fn used(&self) -> usize {
        self.bytes.values().map(Vec::len).sum()
    }

    fn of(&self, caller: Caller) -> Result<u64, file::Error> {
        if self.fenced {
            return Err(file::Error::Fenced);
        }
        let id = self.open.get(&(caller.badge >> 16)).ok_or(file::Error::NotFound)?;
        if self.bytes.contains_key(id) { Ok(*id) } else { Err(file::Error::NotFound) }
    }

    fn handed_out(&mut self, id: u64) -> Cap<file::Protocol> {
        self.next += 1;
        self.open.insert(self.next, id);
        Cap::new(RawCap(self.next << 16 | BADGE))
    }
}

impl filesystem::Server for FakeFiles {
    fn create(&mut self, _: Caller, name: &str, group: u32) -> Answer<Cap<file::Protocol>, filesystem::Error> {
        assert_eq!(group, 5);
        if self.names.contains_key(name) {
            return Err(filesystem::Error::Exists.into());
        }
        let (undone, lost) = self.fate();
        if !undone {
            self.next += 1;
            self.names.insert(name.into(), self.next);
            self.bytes.insert(self.next, Vec::new());
        }
        if lost { Err(filesystem::Error::Timeout.into()) } else { Ok(self.handed_out(self.names[name])) }
    }

    fn open(&mut self, _: Caller, name: &str, bound: bool) -> Answer<Cap<file::Protocol>, filesystem::Error> {
        assert!(bound);
        if self.fenced {
            return Err(filesystem::Error::Fenced.into());
        }
        let id = *self.names.get(name).ok_or(filesystem::Error::NotFound)?;
        Ok(self.handed_out(id))
    }

    fn remove(&mut self, _: Caller, name: &str) -> Answer<(), filesystem::Error> {
        let (undone, lost) = self.fate();
        if !undone {
            let id = self.names.remove(name).ok_or(filesystem::Error::NotFound)?;
            self.bytes.remove(&id);
        }
        if lost { Err(filesystem::Error::Timeout.into()) } else { Ok(()) }
    }

    fn rename(&mut self, _: Caller, from: &str, to: &str) -> Answer<(), filesystem::Error> {
        let (undone, lost) = self.fate();
        if !undone {
            let id = self.names.remove(from).ok_or(filesystem::Error::NotFound)?;
            if let Some(old) = self.names.insert(to.into(), id) {
                self.bytes.remove(&old);
            }
        }
        if lost { Err(filesystem::Error::Timeout.into()) } else { Ok(()) }
    }

    fn space(&mut self, _: Caller) -> Answer<filesystem::Space, filesystem::Error> {
        Ok(filesystem::Space { free: self.room as u64, total: self.room as u64 })
    }
}

impl file::Server for FakeFiles {
    fn size(&mut self, caller: Caller) -> Answer<u64, file::Error> {
        Ok(self.bytes[&self.of(caller)?].len() as u64)
    }

    fn read(&mut self, caller: Caller, offset: u64, data: OutWindow<'_>) -> Answer<u32, file::Error> {
        let bytes = &self.bytes[&self.of(caller)?];
        assert!(data.len() <= file::IO_MAX as usize);
        let part = &bytes[(offset as usize).min(bytes.len())..];
        let part = &part[..part.len().min(data.len())];
        data.write(0, part)?;
        Ok(part.len() as u32)
    }

    fn write(&mut self, caller: Caller, offset: u64, data: InWindow<'_>) -> Answer<(), file::Error> {
        let id = self.of(caller)?;
        if data.len() > file::IO_MAX as usize {
            return Err(file::Error::TooLarge.into());
        }
        if self.used() + data.len() > self.room {
            return Err(file::Error::NoSpace.into());
        }
        let (undone, lost) = self.fate();
        if !undone {
            let mut bytes = vec![0; data.len()];
            data.read(0, &mut bytes)?;
            let file = self.bytes.get_mut(&id).unwrap();
            let end = offset as usize + bytes.len();
            file.resize(file.len().max(end), 0);
            file[offset as usize..end].copy_from_slice(&bytes);
            self.writes += 1;
        }
        if lost { Err(file::Error::Timeout.into()) } else { Ok(()) }
    }

    fn truncate(&mut self, caller: Caller, len: u64) -> Answer<(), file::Error> {
        let id = self.of(caller)?;
        self.bytes.get_mut(&id).unwrap().resize(len as usize, 0);
        Ok(())
    }

    fn close(&mut self, caller: Caller) -> Answer<(), file::Error> {
        self.open.remove(&(caller.badge >> 16));
        Ok(())
    }
}

// ---- the transports ----

struct World {
    server: SocketServer,
    directory: Directory,
    table: Table,
    files: FakeFiles,
    now: u64,
    /// Capabilities that the service holds now.
    held: i64,
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Socket,
    File,
}

#[derive(Clone)]
struct Buffer(Rc<[Cell<u8>]>);

impl Session for Buffer {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn read(&self, offset: usize, out: &mut [u8]) -> Result<(), LinkError> {
        let cells = self.0.get(offset..offset + out.len()).ok_or(LinkError::BadMessage)?;
        out.iter_mut().zip(cells).for_each(|(to, from)| *to = from.get());
        Ok(())
    }

    fn write(&self, offset: usize, data: &[u8]) -> Result<(), LinkError> {
        let cells = self.0.get(offset..offset + data.len()).ok_or(LinkError::BadMessage)?;
        cells.iter().zip(data).for_each(|(to, from)| to.set(*from));
        Ok(())
    }
}

struct HostWay {
    world: Rc<RefCell<World>>,
    side: Side,
    badge: u64,
    buffer: Buffer,
}

impl Transport for HostWay {
    fn call(&mut self, request: Request<'_>, reply: &mut [u8]) -> Result<Reply, LinkError> {
        let world = &mut *self.world.borrow_mut();
        let incoming = Incoming {
            from: Caller { badge: self.badge, token: 1 },
            label: request.label,
            bytes: request.bytes,
            caps: request.caps,
            session: &self.buffer,
        };
        let mut out = vec![0; MAX_PAYLOAD];
        let dispatched = match (self.side, self.badge >> 16) {
            (Side::File, 0) => filesystem::dispatch(&mut world.files, &incoming, &mut out),
            (Side::File, _) => file::dispatch(&mut world.files, &incoming, &mut out),
            (Side::Socket, _) => {
                let mut mint = |object, client| Some(RawCap(object << 16 | client));
                let mut scratch = Vec::new();
                let mut desk = Desk {
                    server: &mut world.server,
                    directory: &world.directory,
                    now: world.now,
                    mint: &mut mint,
                    scratch: &mut scratch,
                };
                desk.dispatch(&incoming, &mut out)
            }
        };
        let Dispatched::Reply(answer) = dispatched else { panic!("nothing here waits") };
        world.held += answer.caps.as_slice().len() as i64;
        if answer.label >= 0x100 {
            return Err(LinkError::from_label(answer.label).unwrap());
        }
        reply[..answer.len].copy_from_slice(&out[..answer.len]);
        Ok(answer)
    }

    fn session(&self) -> &dyn Session {
        &self.buffer
    }
}

impl Way for HostWay {
    fn again(&self) -> Self {
        HostWay { world: self.world.clone(), side: self.side, badge: self.badge, buffer: self.buffer.clone() }
    }

    fn to(&self, cap: RawCap) -> Self {
        HostWay { badge: cap.0, ..self.again() }
    }

    fn release(&self, _: RawCap) {
        self.world.borrow_mut().held -= 1;
    }
}

// ---- the machine around them ----

type TheService = Service<IpcSockets<HostWay>, IpcFiles<HostWay>>;

struct Machine {
    world: Rc<RefCell<World>>,
    service: Option<TheService>,
    client: Client,
    config: Config,
    ended: Option<End>,
}

impl Machine {
    fn new(config: Config) -> Machine {
        let external =
            External { service: SERVICE.octets(), prefix: 24, gateway: [0; 4], virtual_mac: [0, 0, 0x5e, 0, 1, 0x4d] };
        let server = SocketServer::new(ServerConfig { me: NodeId(1), external, secret: [3, 4], max_connections: 64 });
        let world = World {
            server,
            directory: Directory::new(),
            table: Table::new(),
            files: FakeFiles { room: 10 << 20, ..FakeFiles::default() },
            now: MS,
            held: 0,
        };
        let client = Client::on_ethernet(CLIENT, EthernetAddress([2, 0, 0, 0, 0, 1]), 9);
        let mut m = Machine { world: Rc::new(RefCell::new(world)), service: None, client, config, ended: None };
        m.record(ToServer::Hello { node: NodeId(1), incarnation: 11 });
        m.snapshot();
        let program = Name::new("db").unwrap();
        m.commit(Op::NodeUp { node: NodeId(1), incarnation: 1, boot: 11, store: 1, external: true });
        m.commit(Op::CreateGroup { group: GroupId(5), degree: 1 });
        let name = Name::new("db").ok();
        m.commit(Op::Create { vid: SERVICE_VID, kind: Kind::Process { program }, group: Some(GroupId(5)), name });
        m
    }

    fn record(&mut self, record: ToServer<'_>) {
        let world = &mut *self.world.borrow_mut();
        if world.directory.take(&record) {
            let view = world.directory.view().unwrap();
            world.server.view(world.now, view);
        }
    }

    fn snapshot(&mut self) {
        let bytes = self.world.borrow().table.encode();
        let (a, b) = bytes.split_at(bytes.len() / 2);
        self.record(ToServer::Snapshot { op_number: 0, more: true, bytes: a });
        self.record(ToServer::Snapshot { op_number: 0, more: false, bytes: b });
    }

    fn commit(&mut self, op: Op) {
        let (op_number, bytes) = {
            let world = &mut *self.world.borrow_mut();
            world.table.apply(&op).unwrap();
            (world.table.op_number(), op.encode())
        };
        self.record(ToServer::Committed { op_number, bytes: &bytes });
    }

    fn way(&self, side: Side) -> HostWay {
        let buffer = Buffer((0..256 << 10).map(|_| Cell::new(0)).collect());
        HostWay { world: self.world.clone(), side, badge: BADGE, buffer }
    }

    /// As `main` does it.
    fn start(&mut self) {
        self.service = None;
        self.world.borrow_mut().held = 0;
        let socket = IpcSockets::open(&self.way(Side::Socket), SERVICE_VID.0).unwrap();
        let mut files = IpcFiles::new(self.way(Side::File), "db", 5);
        let recovered = files.recover().unwrap();
        let sockets = IpcSockets::listen(socket, PORT, 16).unwrap();
        let clock = self.world.borrow().now / MS;
        let mut service = Service::new(sockets, files, self.config.clone(), recovered, clock);
        service.turn(clock).unwrap();
        self.service = Some(service);
    }

    fn step(&mut self) {
        let mut effects = Effects::default();
        let now = {
            let world = &mut *self.world.borrow_mut();
            world.now += MS / 4;
            let frames: Vec<_> = self.client.wire.tx.drain(..).collect();
            frames.iter().for_each(|f| world.server.frame(world.now, f, &mut effects));
            world.server.flush(world.now, &mut effects);
            world.now
        };
        let due = self.service.as_ref().and_then(TheService::deadline_ms).is_some_and(|at| at * MS <= now);
        if !effects.signals.is_empty() || due {
            if let Some(service) = &mut self.service
                && let Err(end) = service.turn(now / MS)
            {
                self.ended = Some(end);
                self.service = None;
            }
            let world = &mut *self.world.borrow_mut();
            world.server.flush(now, &mut effects);
        }
        for p in std::mem::take(&mut effects.proposals) {
            let Proposal::Listen { port, vid } = p else { panic!("{p:?}") };
            if self.world.borrow().table.listener(port).is_none() {
                self.commit(Op::Listen { port, vid });
            }
        }
        self.client.wire.rx.extend(effects.frames);
        self.client.poll(now);
    }

    fn run_until(&mut self, what: &str, mut done: impl FnMut(&mut Machine) -> bool) {
        for _ in 0..100_000 {
            if done(self) {
                return;
            }
            self.step();
        }
        panic!("timed out: {what}; ended: {:?}", self.ended);
    }

    fn connect(&mut self) -> SocketHandle {
        let h = self.client.connect(PORT);
        self.run_until("connect", |m| m.client.socket(h).state() == State::Established);
        h
    }

    /// Sends bytes and waits for so many, or for the end of the stream.
    fn exchange(&mut self, h: SocketHandle, request: &[u8], len: usize) -> Vec<u8> {
        let (mut sent, mut got) = (0, Vec::new());
        self.run_until("answer", |m| {
            let s = m.client.socket(h);
            if sent < request.len() && s.can_send() {
                sent += s.send_slice(&request[sent..]).unwrap();
            }
            while s.can_recv() {
                s.recv(|b| {
                    got.extend_from_slice(b);
                    (b.len(), ())
                })
                .unwrap();
            }
            got.len() >= len || !s.may_recv()
        });
        got
    }

    fn ask(&mut self, h: SocketHandle, line: &str, answer: &str) {
        let got = self.exchange(h, format!("{line}\r\n").as_bytes(), answer.len());
        assert_eq!(String::from_utf8_lossy(&got), answer, "{line}");
    }
}

#[test]
fn serves_pipelines_and_large_values_and_keeps_them_over_a_restart() {
    let mut m = Machine::new(Config { compact_from: 100_000, ..Config::default() });
    m.start();
    let h = m.connect();
    m.ask(h, "PING", "+PONG\r\n");
    m.ask(h, "SET a 1", "+OK\r\n");
    // A thousand requests at once: far more replies than the socket takes in one piece.
    let many = "INCR n\r\n".repeat(1000);
    let expected: String = (1..=1000).map(|i| format!(":{i}\r\n")).collect();
    assert_eq!(m.exchange(h, many.as_bytes(), expected.len()), expected.as_bytes());
    // A value larger than all buffers on its way.
    let value = Rng(4).bytes(400_000);
    let mut set = b"*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$400000\r\n".to_vec();
    set.extend(&value);
    set.extend(b"\r\n");
    assert_eq!(m.exchange(h, &set, 5), b"+OK\r\n");
    for _ in 0..4 {
        let got = m.exchange(h, b"GET big\r\nGET big\r\n", 2 * (400_000 + 11));
        assert!(got[9..400_009] == value[..] && got.len() == 800_022);
    }
    // Its program dies and is started again: the old connection is reset, the data is there.
    m.start();
    m.run_until("reset", |m| {
        let _ = m.client.socket(h).send_slice(b"PING\r\n");
        m.client.socket(h).state() == State::Closed
    });
    let h = m.connect();
    m.ask(h, "GET n", "$4\r\n1000\r\n");
    m.ask(h, "STRLEN big", ":400000\r\n");
    m.ask(h, "QUIT", "+OK\r\n");
    m.run_until("closed by the service", |m| !m.client.socket(h).may_recv());
}

#[test]
fn many_clients_share_appends_and_no_capability_leaks() {
    let mut m = Machine::new(Config::default());
    m.start();
    let held = m.world.borrow().held;
    let clients: Vec<_> = (0..40).map(|_| m.connect()).collect();
    m.run_until("all accepted", |m| m.world.borrow().held == held + 40);
    let before = m.world.borrow().files.writes;
    for round in 0..10 {
        for (i, h) in clients.iter().enumerate() {
            m.client.socket(*h).send_slice(format!("SET k{i} {round}\r\n").as_bytes()).unwrap();
        }
        for h in &clients {
            assert_eq!(m.exchange(*h, b"", 5), b"+OK\r\n");
        }
    }
    let appends = m.world.borrow().files.writes - before;
    assert!(appends <= 60, "{appends} appends for 400 writes");
    for h in &clients {
        m.client.socket(*h).close();
    }
    m.run_until("all closed", |m| m.world.borrow().held == held);
    for _ in 0..120_000 {
        m.step();
    }
    assert_eq!(m.world.borrow().server.counters().2, 0);
}

#[test]
fn lost_answers_of_the_file_server_change_nothing() {
    let mut m = Machine::new(Config { compact_from: 3000, compact_piece: 300, ..Config::default() });
    m.world.borrow_mut().files.timeouts = 3;
    m.start();
    let h = m.connect();
    for i in 0..300 {
        m.ask(h, &format!("APPEND k{} {i:03}", i % 7), &format!(":{}\r\n", 3 * (i / 7 + 1)));
    }
    assert!(m.service.as_ref().unwrap().db().stats().compactions >= 2);
    m.start();
    let h = m.connect();
    m.ask(h, "STRLEN k0", ":129\r\n");
    m.ask(h, "GETRANGE k6 0 8", "$9\r\n006013020\r\n");
}

#[test]
fn a_full_disk_closes_who_wrote_and_keeps_what_was_acknowledged() {
    let mut m = Machine::new(Config::default());
    m.start();
    let h = m.connect();
    m.ask(h, "SET kept 1", "+OK\r\n");
    m.world.borrow_mut().files.room = 0;
    assert_eq!(m.exchange(h, b"SET lost 1\r\n", 1), b"", "closed without an answer");
    let h = m.connect();
    m.ask(h, "GET kept", "$1\r\n1\r\n");
    m.ask(h, "EXISTS lost", ":0\r\n");
    let refused = m.exchange(h, b"SET a 1\r\n", 20);
    assert!(refused.starts_with(b"-MISCONF"), "{refused:?}");
    m.world.borrow_mut().files.room = 10 << 20;
    for _ in 0..12_000 {
        m.step();
    }
    m.ask(h, "SET a 1", "+OK\r\n");
}

#[test]
fn a_service_whose_group_moved_ends_at_once() {
    let mut m = Machine::new(Config::default());
    m.start();
    let h = m.connect();
    m.world.borrow_mut().files.fenced = true;
    assert_eq!(m.exchange(h, b"PING\r\n", 7), b"+PONG\r\n");
    m.client.socket(h).send_slice(b"SET a 1\r\n").unwrap();
    m.run_until("its end", |m| m.ended.is_some());
    assert_eq!(m.ended, Some(End::Files(FilesError::Fenced)));
    assert!(!m.client.socket(h).can_recv(), "nothing was promised");

    let mut m = Machine::new(Config::default());
    m.start();
    m.connect();
    m.commit(Op::NodeUp { node: NodeId(2), incarnation: 1, boot: 1, store: 1, external: false });
    m.commit(Op::NodeDown { node: NodeId(1), incarnation: 1 });
    m.run_until("its end", |m| m.ended.is_some());
    assert_eq!(m.ended, Some(End::Sockets(SocketsLost::NotHere)));
    let again = IpcSockets::open(&m.way(Side::Socket), SERVICE_VID.0);
    assert!(matches!(again.err(), Some(CallError::Server(socket::Error::NotHere))));
}

#[test]
fn keys_end_though_nobody_asks() {
    let mut m = Machine::new(Config::default());
    m.start();
    let h = m.connect();
    m.ask(h, "SET a 1 PX 50", "+OK\r\n");
    m.run_until("the key's end", |m| m.service.as_ref().unwrap().db().keys().is_empty());
    m.ask(h, "DBSIZE", ":0\r\n");
}

#[test]
fn noise_on_capabilities_is_answered() {
    let mut m = Machine::new(Config::default());
    m.start();
    let way = m.way(Side::Socket);
    let mut rng = Rng(8);
    let labels: Vec<u64> = [socket::label::OPEN, socket::label::LISTEN, socket::label::POLL, socket::label::STATS]
        .into_iter()
        .chain([ipc_api::listener::label::ACCEPT, ipc_api::listener::label::CLOSE])
        .chain([ipc_api::stream::label::RECV, ipc_api::stream::label::SEND, ipc_api::stream::label::CLOSE])
        .collect();
    let h = m.connect();
    for _ in 0..20_000 {
        let object = rng.below(6) << if rng.below(50) == 0 { 40 } else { 0 };
        // Another client: nothing that it does may disturb the first.
        let mut to = way.to(RawCap(object << 16 | 9));
        if (1..=3).contains(&object) {
            continue;
        }
        let len = [0, 4, 8, 16][rng.below(4) as usize];
        let bytes = rng.bytes(len);
        let label = labels[rng.below(labels.len() as u64) as usize];
        let _ = to.call(Request { label, bytes: &bytes, caps: &[] }, &mut [0; MAX_PAYLOAD]);
    }
    m.ask(h, "PING", "+PONG\r\n");
}
