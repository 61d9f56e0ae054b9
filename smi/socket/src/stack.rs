//! One TCP/IP instance of one failover group: a deterministic function of (virtual time, packets, calls).
//!
//! The protocol is smoltcp's. This module owns what smoltcp leaves open: which connection a packet belongs to (an ordered map,
//! so the cost of a packet does not grow with the number of connections), when a listener grows a socket (at the SYN, within its
//! backlog), which timers are due, and what a client may observe. Every connection has a smoltcp interface of its own, seeded by a
//! keyed hash of its 4-tuple, so that initial sequence numbers tell nothing about those of others (RFC 6528). Two stacks with the same [`Config`] that are given the same
//! sequence of [`Stack::step`]s emit the same packets and answers, byte for byte; the tests hold it to that. Therefore nothing
//! in here may depend on a clock, on hash order or on how full somebody else's queue is: the transmit queue never refuses.
//!
//! What always holds (checked by `Stack::check`): a connection is in the 4-tuple map exactly while it is in the table; a
//! connection that waits for `accept` is in its listener's queue; the number of connections and of bytes buffered is bounded by
//! the configuration.

use crate::Nanos;
use crate::siphash::siphash24;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv4Addr;
use smoltcp::iface::{Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpListenEndpoint, IpProtocol, Ipv4Packet, TcpPacket};

/// An IPv4 packet.
pub type Packet = Vec<u8>;

/// The most listening ports of one stack.
pub const MAX_LISTENERS: usize = 32;
/// The most connections a configuration may allow.
pub const MAX_CONNECTIONS: usize = 4096;
/// Packets that one connection may emit in one poll: more than its whole window, so the bound is never felt.
const MAX_BURST: usize = 512;
/// A connection whose timer is overdue without anything to send is looked at again after this long.
const IDLE_RETRY: Duration = Duration::from_millis(1);
/// How long a peer may be silent after we closed.
const LINGER: Duration = Duration::from_secs(30);
/// How long a handshake may take before its slot is given back.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Parameters of a stack. Both replicas of a group are built from equal ones.
#[derive(Clone, Debug)]
pub struct Config {
    /// The stack's address: the service address.
    pub address: Ipv4Addr,
    /// Prefix length of its network; packets from the network's broadcast address are refused.
    pub prefix: u8,
    /// Largest IP packet in bytes.
    pub mtu: usize,
    /// Key of initial sequence numbers. A secret: whoever knows it can guess them.
    pub seed: [u64; 2],
    /// Most connections at a time, in whatever state; at most [`MAX_CONNECTIONS`].
    pub max_connections: usize,
    /// Receive buffer of a connection in bytes.
    pub receive_buffer: usize,
    /// Send buffer of a connection in bytes.
    pub send_buffer: usize,
    /// Silence after which the peer is asked for a sign of life.
    pub keep_alive_ms: u64,
    /// Silence after which a connection is given up. Longer than any take-over.
    pub dead_after_ms: u64,
}

impl Config {
    /// The defaults for `address`, with initial sequence numbers drawn from `seed`.
    pub fn new(address: Ipv4Addr, prefix: u8, seed: [u64; 2]) -> Config {
        Config {
            address,
            prefix,
            mtu: 1500,
            seed,
            max_connections: 256,
            receive_buffer: 16 * 1024,
            send_buffer: 32 * 1024,
            keep_alive_ms: 30_000,
            dead_after_ms: 150_000,
        }
    }
}

/// A listener of one stack; never reused while the stack lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ListenerId(pub u32);

/// A connection of one stack; never reused while the stack lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ConnId(pub u64);

/// Something whose readiness may have changed, see [`Stack::take_touched`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Touched {
    /// A listener.
    Listener(ListenerId),
    /// An accepted connection.
    Conn(ConnId),
}

/// What may be done with a connection now without being told to wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Readiness {
    /// `Recv` gives bytes or the end of the stream.
    pub readable: bool,
    /// `Send` takes bytes.
    pub writable: bool,
    /// The connection is gone (reset or given up); only `Close` makes sense.
    pub closed: bool,
}

/// One input of a stack.
#[derive(Debug)]
pub enum Input<'a> {
    /// An IPv4 packet from outside.
    Packet(&'a [u8]),
    /// Time has passed: send what is due. Ends every batch of other inputs.
    Poll,
    /// Opens a port. `backlog` bounds connections that nobody has accepted yet.
    Listen {
        /// TCP port.
        port: u16,
        /// Most connections in handshake or not yet accepted; at least 1.
        backlog: usize,
    },
    /// Closes a port; its connections that nobody accepted are reset.
    Unlisten(ListenerId),
    /// Takes the next established connection.
    Accept(ListenerId),
    /// Reads bytes.
    Recv(ConnId, &'a mut [u8]),
    /// Writes bytes.
    Send(ConnId, &'a [u8]),
    /// Ends our direction of the stream; the other goes on.
    Shutdown(ConnId),
    /// Lets go of a connection: what was sent is still delivered, then it ends.
    Close(ConnId),
    /// Resets a connection.
    Abort(ConnId),
}

/// Answer to an input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Done.
    Done,
    /// To `Listen`.
    Listener(ListenerId),
    /// To `Accept`.
    Accepted {
        /// The connection.
        conn: ConnId,
        /// Its peer's address.
        address: Ipv4Addr,
        /// Its peer's port.
        port: u16,
    },
    /// To `Recv` and `Send`: so many bytes. Zero from a `Recv` with room is the end of the stream.
    Count(usize),
}

/// Why an input was refused. Nothing has changed then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StackError {
    /// Nothing to accept or read, or no room to write: wait for readiness.
    WouldBlock,
    /// No such listener or connection (any more).
    Unknown,
    /// The port is zero.
    BadPort,
    /// Another listener has the port.
    PortInUse,
    /// [`MAX_LISTENERS`] are open.
    TooManyListeners,
    /// The connection was reset or given up.
    Reset,
    /// Our direction was already closed.
    Finished,
}

/// What was dropped and why; for statistics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Packets that were not valid IPv4 + TCP for this address.
    pub malformed: u64,
    /// SYNs refused because the backlog or the table was full.
    pub refused: u64,
    /// Unfinished or closing connections given up in favour of new ones.
    pub evicted: u64,
    /// Connections established.
    pub established: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Handshake under way.
    Embryonic(ListenerId),
    /// Established, not accepted.
    Queued(ListenerId),
    /// A client holds it.
    Open,
    /// The client let go; TCP has still to finish.
    Closing,
}

type FourTuple = (Ipv4Addr, u16, u16);

struct Conn {
    iface: Interface,
    set: SocketSet<'static>,
    handle: SocketHandle,
    key: FourTuple,
    phase: Phase,
    /// The client was told that there is no room, and wants to know when there is.
    wants_room: bool,
    /// Its entry in `timers`.
    due: Option<Instant>,
}

struct Listener {
    port: u16,
    backlog: usize,
    /// Handshakes under way, oldest first.
    embryonic: VecDeque<ConnId>,
    /// Established and not accepted, oldest first.
    queue: VecDeque<ConnId>,
}

/// See the module's documentation.
pub struct Stack {
    config: Config,
    conns: BTreeMap<ConnId, Conn>,
    by_tuple: BTreeMap<FourTuple, ConnId>,
    listeners: BTreeMap<ListenerId, Listener>,
    ports: BTreeMap<u16, ListenerId>,
    /// Connections that must be polled.
    dirty: BTreeSet<ConnId>,
    timers: BTreeSet<(Instant, ConnId)>,
    touched: BTreeSet<Touched>,
    /// Answers packets that belong to no connection (with a reset).
    nobody: (Interface, SocketSet<'static>),
    next_listener: u32,
    next_conn: u64,
    now: Instant,
    counters: Counters,
}

/// The device that smoltcp sees for the length of one input: at most one packet in, any number out.
struct Wire<'a> {
    mtu: usize,
    rx: Option<&'a [u8]>,
    tx: &'a mut Vec<Packet>,
}

struct Rx<'a>(&'a [u8]);
struct Tx<'a>(&'a mut Vec<Packet>);

impl RxToken for Rx<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push(packet);
        result
    }
}

impl Device for Wire<'_> {
    type RxToken<'t>
        = Rx<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Tx<'t>
    where
        Self: 't;

    fn receive(&mut self, _now: Instant) -> Option<(Rx<'_>, Tx<'_>)> {
        let packet = self.rx.take()?;
        Some((Rx(packet), Tx(self.tx)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Tx<'_>> {
        Some(Tx(self.tx))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut caps = DeviceCapabilities::default();
        caps.medium = Medium::Ip;
        caps.max_transmission_unit = self.mtu;
        caps
    }
}

/// What a packet's headers say, as far as finding its connection needs it.
struct Segment {
    key: FourTuple,
    opens: bool,
}

fn parse(packet: &[u8], address: Ipv4Addr) -> Option<Segment> {
    let ip = Ipv4Packet::new_checked(packet).ok()?;
    if ip.next_header() != IpProtocol::Tcp || ip.dst_addr() != address || ip.more_frags() || ip.frag_offset() != 0 {
        return None;
    }
    let tcp = TcpPacket::new_checked(ip.payload()).ok()?;
    Some(Segment {
        key: (ip.src_addr(), tcp.src_port(), tcp.dst_port()),
        opens: tcp.syn() && !tcp.ack() && !tcp.rst() && !tcp.fin(),
    })
}

/// An IP-medium interface with the stack's address.
fn interface(config: &Config, now: Instant, seed: u64) -> Interface {
    let mut out = Vec::new();
    let mut wire = Wire { mtu: config.mtu, rx: None, tx: &mut out };
    let mut setup = smoltcp::iface::Config::new(HardwareAddress::Ip);
    setup.random_seed = seed;
    let mut iface = Interface::new(setup, &mut wire, now);
    iface.update_ip_addrs(|a| {
        // The list is empty and has room for two.
        let _ = a.push(IpCidr::new(IpAddress::Ipv4(config.address), config.prefix));
    });
    // On an IP medium the gateway is never used; without a route, packets off the network would be dropped.
    let _ = iface.routes_mut().add_default_ipv4_route(config.address);
    iface
}

/// The seed of the `serial`th connection: unguessable, and different for each.
fn seed_of(config: &Config, key: FourTuple, serial: u64) -> u64 {
    let mut data = [0; 16];
    data[..4].copy_from_slice(&key.0.octets());
    data[4..6].copy_from_slice(&key.1.to_le_bytes());
    data[6..8].copy_from_slice(&key.2.to_le_bytes());
    data[8..].copy_from_slice(&serial.to_le_bytes());
    siphash24(config.seed, &data)
}

fn instant(now: Nanos) -> Instant {
    Instant::from_micros((now / 1000) as i64)
}

impl Stack {
    /// An empty stack whose time begins at `now`.
    ///
    /// # Panics
    /// If the configuration is out of its documented bounds: it is the program's own.
    pub fn new(config: Config, now: Nanos) -> Stack {
        assert!((1..=MAX_CONNECTIONS).contains(&config.max_connections));
        assert!(config.receive_buffer >= 2048 && config.send_buffer >= 2048);
        assert!((576..=9000).contains(&config.mtu) && config.prefix <= 32);
        Stack {
            nobody: (interface(&config, instant(now), 0), SocketSet::new(Vec::new())),
            conns: BTreeMap::new(),
            by_tuple: BTreeMap::new(),
            listeners: BTreeMap::new(),
            ports: BTreeMap::new(),
            dirty: BTreeSet::new(),
            timers: BTreeSet::new(),
            touched: BTreeSet::new(),
            next_listener: 1,
            next_conn: 1,
            now: instant(now),
            counters: Counters::default(),
            config,
        }
    }

    /// Feeds one input at virtual time `now`; packets to send are appended to `out`.
    ///
    /// Time that goes back is taken as no time having passed.
    pub fn step(&mut self, now: Nanos, input: Input<'_>, out: &mut Vec<Packet>) -> Result<Answer, StackError> {
        self.now = self.now.max(instant(now));
        match input {
            Input::Packet(packet) => {
                self.packet(packet, out);
                Ok(Answer::Done)
            }
            Input::Poll => {
                self.poll(out);
                Ok(Answer::Done)
            }
            Input::Listen { port, backlog } => self.listen(port, backlog),
            Input::Unlisten(id) => self.unlisten(id),
            Input::Accept(id) => self.accept(id),
            Input::Recv(id, buffer) => self.recv(id, buffer),
            Input::Send(id, data) => self.send(id, data),
            Input::Shutdown(id) => self.with_open(id, |socket| socket.close()),
            Input::Close(id) => {
                self.with_open(id, |socket| socket.close())?;
                self.let_go(id);
                Ok(Answer::Done)
            }
            Input::Abort(id) => {
                self.with_open(id, |socket| socket.abort())?;
                self.let_go(id);
                Ok(Answer::Done)
            }
        }
    }

    /// When the next [`Input::Poll`] is due, or `None` while only packets and calls can change anything.
    pub fn deadline(&self) -> Option<Nanos> {
        if !self.dirty.is_empty() {
            return Some(self.now.total_micros() as u64 * 1000);
        }
        self.timers.first().map(|&(at, _)| at.total_micros().max(0) as u64 * 1000)
    }

    /// Takes the next listener or connection whose readiness may have changed since it was last taken.
    pub fn take_touched(&mut self) -> Option<Touched> {
        self.touched.pop_first()
    }

    /// Whether `Accept` on the listener would give a connection.
    pub fn acceptable(&self, id: ListenerId) -> bool {
        self.listeners.get(&id).is_some_and(|l| !l.queue.is_empty())
    }

    /// What can be done with an accepted connection.
    pub fn readiness(&self, id: ConnId) -> Readiness {
        let Some(conn) = self.conns.get(&id) else { return Readiness { closed: true, ..Readiness::default() } };
        let socket = conn.socket();
        Readiness {
            readable: socket.can_recv() || conn.at_end(),
            writable: conn.wants_room && socket.can_send() && socket.send_queue() <= socket.send_capacity() / 2,
            closed: socket.state() == tcp::State::Closed,
        }
    }

    /// How many connections exist in whatever state.
    pub fn connections(&self) -> usize {
        self.conns.len()
    }

    /// What was dropped and done so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    // ---- packets and time ----

    fn packet(&mut self, packet: &[u8], out: &mut Vec<Packet>) {
        let Some(segment) = parse(packet, self.config.address) else {
            self.counters.malformed += 1;
            return;
        };
        let conn = match self.by_tuple.get(&segment.key) {
            // A new connection may reuse the 4-tuple of one that only waits for stray segments (RFC 9293, 3.6.1).
            Some(&id) if segment.opens && self.conns[&id].socket().state() == tcp::State::TimeWait => {
                self.remove(id);
                None
            }
            found => found.copied(),
        };
        let conn = match (conn, self.ports.get(&segment.key.2)) {
            (Some(id), _) => Some(id),
            (None, Some(&listener)) if segment.opens => match self.arm(listener, segment.key) {
                Some(id) => Some(id),
                None => {
                    self.counters.refused += 1;
                    return;
                }
            },
            _ => None,
        };
        let (iface, set) = match conn {
            Some(id) => {
                let conn = self.conns.get_mut(&id).expect("in by_tuple");
                (&mut conn.iface, &mut conn.set)
            }
            None => (&mut self.nobody.0, &mut self.nobody.1),
        };
        let mut wire = Wire { mtu: self.config.mtu, rx: Some(packet), tx: out };
        iface.poll_ingress_single(self.now, &mut wire, set);
        if let Some(id) = conn {
            self.dirty.insert(id);
            self.settle(id);
        }
    }

    fn poll(&mut self, out: &mut Vec<Packet>) {
        while let Some(&(at, id)) = self.timers.first() {
            if at > self.now {
                break;
            }
            self.timers.pop_first();
            if let Some(conn) = self.conns.get_mut(&id) {
                conn.due = None;
            }
            self.dirty.insert(id);
        }
        while let Some(id) = self.dirty.pop_first() {
            self.poll_conn(id, out);
        }
        self.check();
    }

    fn poll_conn(&mut self, id: ConnId, out: &mut Vec<Packet>) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let mut wire = Wire { mtu: self.config.mtu, rx: None, tx: out };
        for _ in 0..MAX_BURST {
            if conn.iface.poll_egress(self.now, &mut wire, &mut conn.set) == PollResult::None {
                break;
            }
        }
        let due = conn.iface.poll_at(self.now, &conn.set).map(|at| at.max(self.now + IDLE_RETRY));
        if let Some(old) = conn.due.take() {
            self.timers.remove(&(old, id));
        }
        if let Some(at) = due {
            conn.due = Some(at);
            self.timers.insert((at, id));
        }
        self.settle(id);
    }

    /// Makes our records agree with the state that TCP has reached.
    fn settle(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let state = conn.socket().state();
        match conn.phase {
            // Still listening: the segment that armed it was no good, or its peer thought better of it.
            Phase::Embryonic(_) if matches!(state, tcp::State::Listen | tcp::State::Closed) => self.remove(id),
            Phase::Embryonic(listener) if state != tcp::State::SynReceived => {
                conn.phase = Phase::Queued(listener);
                let (keep, dead) = (self.config.keep_alive_ms, self.config.dead_after_ms);
                let socket = conn.socket_mut();
                socket.set_keep_alive(Some(Duration::from_millis(keep)));
                socket.set_timeout(Some(Duration::from_millis(dead)));
                let l = self.listeners.get_mut(&listener).expect("closing it removes its connections");
                l.embryonic.retain(|c| *c != id);
                l.queue.push_back(id);
                self.counters.established += 1;
                self.touched.insert(Touched::Listener(listener));
            }
            Phase::Embryonic(_) => {}
            Phase::Queued(_) | Phase::Closing if state == tcp::State::Closed => self.remove(id),
            Phase::Queued(_) | Phase::Closing => {}
            Phase::Open => {
                self.touched.insert(Touched::Conn(id));
            }
        }
    }

    /// A listening socket for the SYN that has just come, if there is room.
    fn arm(&mut self, listener: ListenerId, key: FourTuple) -> Option<ConnId> {
        self.make_room(listener)?;
        let mut socket = tcp::Socket::new(
            tcp::SocketBuffer::new(vec![0; self.config.receive_buffer]),
            tcp::SocketBuffer::new(vec![0; self.config.send_buffer]),
        );
        socket.set_nagle_enabled(false);
        socket.set_timeout(Some(HANDSHAKE_TIMEOUT));
        let endpoint = IpListenEndpoint { addr: Some(IpAddress::Ipv4(self.config.address)), port: key.2 };
        socket.listen(endpoint).ok()?;
        let id = ConnId(self.next_conn);
        self.next_conn += 1;
        let iface = interface(&self.config, self.now, seed_of(&self.config, key, id.0));
        let mut set = SocketSet::new(Vec::new());
        let handle = set.add(socket);
        let conn = Conn { iface, set, handle, key, phase: Phase::Embryonic(listener), wants_room: false, due: None };
        self.conns.insert(id, conn);
        self.by_tuple.insert(key, id);
        self.listeners.get_mut(&listener).expect("looked up above").embryonic.push_back(id);
        Some(id)
    }

    /// Room for one more connection of the listener, at the cost of one that nobody will miss if need be.
    fn make_room(&mut self, listener: ListenerId) -> Option<()> {
        let l = &self.listeners[&listener];
        let waiting = l.queue.len() + l.embryonic.len();
        let victim = if l.queue.len() >= l.backlog {
            return None;
        } else if waiting >= l.backlog {
            // Under a flood of SYNs the oldest unfinished handshake is the least likely to be a real one.
            *l.embryonic.front()?
        } else if self.conns.len() >= self.config.max_connections {
            let closing = || self.conns.iter().find(|(_, c)| c.phase == Phase::Closing).map(|(id, _)| *id);
            l.embryonic.front().copied().or_else(closing)?
        } else {
            return Some(());
        };
        self.counters.evicted += 1;
        self.remove(victim);
        Some(())
    }

    /// Forgets a connection and everything that refers to it.
    fn remove(&mut self, id: ConnId) {
        let Some(conn) = self.conns.remove(&id) else { return };
        self.by_tuple.remove(&conn.key);
        if let Some(at) = conn.due {
            self.timers.remove(&(at, id));
        }
        self.dirty.remove(&id);
        self.touched.remove(&Touched::Conn(id));
        if let Phase::Embryonic(listener) | Phase::Queued(listener) = conn.phase {
            let l = self.listeners.get_mut(&listener).expect("closing it removes its connections");
            l.embryonic.retain(|c| *c != id);
            l.queue.retain(|c| *c != id);
            self.touched.insert(Touched::Listener(listener));
        }
    }

    // ---- calls ----

    fn listen(&mut self, port: u16, backlog: usize) -> Result<Answer, StackError> {
        if port == 0 {
            return Err(StackError::BadPort);
        }
        if self.ports.contains_key(&port) {
            return Err(StackError::PortInUse);
        }
        if self.listeners.len() >= MAX_LISTENERS {
            return Err(StackError::TooManyListeners);
        }
        let id = ListenerId(self.next_listener);
        self.next_listener += 1;
        self.ports.insert(port, id);
        let backlog = backlog.clamp(1, self.config.max_connections);
        self.listeners.insert(id, Listener { port, backlog, embryonic: VecDeque::new(), queue: VecDeque::new() });
        Ok(Answer::Listener(id))
    }

    fn unlisten(&mut self, id: ListenerId) -> Result<Answer, StackError> {
        let listener = self.listeners.get_mut(&id).ok_or(StackError::Unknown)?;
        let port = listener.port;
        let orphans: Vec<ConnId> = listener.embryonic.drain(..).chain(listener.queue.drain(..)).collect();
        for conn in orphans {
            let c = self.conns.get_mut(&conn).expect("listed by its listener");
            c.phase = Phase::Closing;
            c.socket_mut().abort();
            self.dirty.insert(conn);
        }
        self.ports.remove(&port);
        self.listeners.remove(&id);
        self.touched.remove(&Touched::Listener(id));
        Ok(Answer::Done)
    }

    fn accept(&mut self, id: ListenerId) -> Result<Answer, StackError> {
        let listener = self.listeners.get_mut(&id).ok_or(StackError::Unknown)?;
        let conn = listener.queue.pop_front().ok_or(StackError::WouldBlock)?;
        let c = self.conns.get_mut(&conn).expect("queued connections exist");
        c.phase = Phase::Open;
        let (address, port, _) = c.key;
        // Its first bytes may have come before anybody held it.
        self.touched.insert(Touched::Conn(conn));
        self.touched.insert(Touched::Listener(id));
        Ok(Answer::Accepted { conn, address, port })
    }

    fn recv(&mut self, id: ConnId, buffer: &mut [u8]) -> Result<Answer, StackError> {
        let conn = self.open(id)?;
        let answer = match conn.socket_mut().recv_slice(buffer) {
            Ok(0) => Err(StackError::WouldBlock),
            Ok(n) => Ok(Answer::Count(n)),
            Err(tcp::RecvError::Finished) => Ok(Answer::Count(0)),
            Err(tcp::RecvError::InvalidState) => Err(StackError::Reset),
        };
        // Room in the window may have to be announced.
        self.dirty.insert(id);
        self.touched.insert(Touched::Conn(id));
        answer
    }

    fn send(&mut self, id: ConnId, data: &[u8]) -> Result<Answer, StackError> {
        let conn = self.open(id)?;
        if conn.socket().state() == tcp::State::Closed {
            return Err(StackError::Reset);
        }
        let sent = conn.socket_mut().send_slice(data).map_err(|_| StackError::Finished)?;
        conn.wants_room = sent < data.len();
        if sent == 0 && !data.is_empty() {
            return Err(StackError::WouldBlock);
        }
        self.dirty.insert(id);
        Ok(Answer::Count(sent))
    }

    fn with_open(&mut self, id: ConnId, f: impl FnOnce(&mut tcp::Socket<'static>)) -> Result<Answer, StackError> {
        f(self.open(id)?.socket_mut());
        self.dirty.insert(id);
        Ok(Answer::Done)
    }

    fn open(&mut self, id: ConnId) -> Result<&mut Conn, StackError> {
        self.conns.get_mut(&id).filter(|c| c.phase == Phase::Open).ok_or(StackError::Unknown)
    }

    fn let_go(&mut self, id: ConnId) {
        self.touched.remove(&Touched::Conn(id));
        let conn = self.conns.get_mut(&id).expect("was open");
        conn.phase = Phase::Closing;
        // Nobody reads any more: a peer that does not finish soon is not waited for.
        conn.socket_mut().set_keep_alive(None);
        conn.socket_mut().set_timeout(Some(LINGER));
    }

    /// The invariants of the module's documentation; cheap enough to be always on.
    fn check(&self) {
        assert_eq!(self.conns.len(), self.by_tuple.len(), "one 4-tuple for each connection");
        assert_eq!(self.listeners.len(), self.ports.len(), "one port for each listener");
        assert!(self.conns.len() <= self.config.max_connections);
        assert!(self.timers.len() <= self.conns.len(), "at most one timer for each connection");
        assert!(self.dirty.is_empty(), "a poll leaves nothing undone");
    }
}

impl Conn {
    fn socket(&self) -> &tcp::Socket<'static> {
        self.set.get(self.handle)
    }

    fn socket_mut(&mut self) -> &mut tcp::Socket<'static> {
        self.set.get_mut(self.handle)
    }

    /// Whether a read would now give the end of the stream or a reset.
    fn at_end(&self) -> bool {
        use tcp::State::*;
        !self.socket().can_recv() && matches!(self.socket().state(), CloseWait | LastAck | Closing | TimeWait | Closed)
    }
}
