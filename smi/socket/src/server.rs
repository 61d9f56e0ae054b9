//! The socket server without its I/O: clients' calls, the stacks of the groups this node is primary of, and the router.
//!
//! The shell (`main.rs`) tells it what happened ([`SocketServer::frame`], [`SocketServer::peer`], [`SocketServer::view`], the
//! clients' calls) and at the end of each round calls [`SocketServer::flush`]; what is to be done comes out in [`Effects`].
//!
//! Clients get readiness as *level*: something stays in a client's ready list while it can be acted upon, and the client's signal is
//! given when something new is in it. So a client that polls, works and waits misses nothing, and one that is slow is not flooded.
//!
//! What always holds: a stack exists only while this node is primary of its group; an object (listener or stream) belongs to one
//! client and dies with its stack; the table is asked for every port that a client listens on until it has it.

use crate::Nanos;
use crate::peer::{self, Direction, Message};
use crate::recent::Recent;
use crate::router::{Frame, Output, Router};
use crate::siphash::siphash24;
use crate::stack::{Answer, Config, ConnId, Input, ListenerId, Packet, Stack, StackError, Touched};
use crate::view::{Reigns, View};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::net::Ipv4Addr;
use smi_cluster::identity::External;
use smi_cluster::{GroupId, NodeId, Vid};

/// Most clients at a time.
pub const MAX_CLIENTS: usize = 64;
/// A listener that the directory has not taken up is proposed again after this long.
const PROPOSE_EVERY: Nanos = 500_000_000;

/// A client: the badge of its channel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ClientId(pub u64);

/// A listener or stream as clients name it. Never reused while the server lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Handle(pub u32);

/// What can be done with an object now; see the flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ready {
    /// The object.
    pub handle: Handle,
    /// Some of [`Ready::ACCEPT`], [`Ready::READ`], [`Ready::WRITE`], [`Ready::CLOSED`].
    pub flags: u32,
}

impl Ready {
    /// A connection can be accepted.
    pub const ACCEPT: u32 = 1;
    /// Bytes or the end of the stream can be read.
    pub const READ: u32 = 2;
    /// There is room again after a short write.
    pub const WRITE: u32 = 4;
    /// The object is dead: the stream was reset, or the port belongs to somebody else.
    pub const CLOSED: u32 = 8;
}

/// A new stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// The stream.
    pub handle: Handle,
    /// The peer's address.
    pub address: Ipv4Addr,
    /// The peer's port.
    pub port: u16,
}

/// Why a call was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallError {
    /// Wait for readiness.
    WouldBlock,
    /// No such object, or it does not understand this.
    BadObject,
    /// The port is taken, or zero.
    PortInUse,
    /// A bound of the server or the stack.
    TooMany,
    /// The stream was reset.
    Reset,
    /// Our direction was already closed.
    Finished,
    /// This node does not carry the client's group (any more).
    NotHere,
}

impl From<StackError> for CallError {
    fn from(error: StackError) -> CallError {
        match error {
            StackError::WouldBlock => CallError::WouldBlock,
            StackError::Unknown => CallError::BadObject,
            StackError::BadPort | StackError::PortInUse => CallError::PortInUse,
            StackError::TooManyListeners => CallError::TooMany,
            StackError::Reset => CallError::Reset,
            StackError::Finished => CallError::Finished,
        }
    }
}

/// A change that the server wants in the directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Proposal {
    /// Direct connections to `port` to the group of `vid`.
    Listen {
        /// The port.
        port: u16,
        /// The listening resource.
        vid: Vid,
    },
    /// No longer.
    Unlisten {
        /// The port.
        port: u16,
    },
}

/// What is to be done. The shell takes it out; what it cannot place (a full ring) it may drop: TCP repairs it.
#[derive(Default, Debug)]
pub struct Effects {
    /// Frames for the external NIC.
    pub frames: Vec<Frame>,
    /// Messages for the socket servers of other nodes.
    pub peers: Vec<(NodeId, Vec<u8>)>,
    /// Directory operations to propose.
    pub proposals: Vec<Proposal>,
    /// Clients to signal.
    pub signals: BTreeSet<ClientId>,
}

/// What was dropped and why; for statistics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Peer messages that could not be read.
    pub malformed: u64,
    /// Packets of another reign of their group, or while this node was fenced.
    pub stale: u64,
    /// Packets for a group whose stack is not here (yet).
    pub no_stack: u64,
    /// Packets sent on to other nodes.
    pub forwarded: u64,
}

/// Parameters of a server.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// This node.
    pub me: NodeId,
    /// The external addresses.
    pub external: External,
    /// Key of initial sequence numbers.
    pub secret: [u64; 2],
    /// Most connections of a stack.
    pub max_connections: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Kind {
    Listener(ListenerId),
    Stream(ConnId),
}

struct Object {
    client: ClientId,
    group: GroupId,
    kind: Kind,
    /// The listener's port; 0 for a stream.
    port: u16,
    /// The listener's port turned out to be somebody else's.
    usurped: bool,
}

struct Client {
    vid: Vid,
    group: GroupId,
    /// What is ready, and whether the client has been told.
    ready: BTreeMap<Handle, bool>,
    /// Where the next poll begins, so that everybody's turn comes.
    cursor: Handle,
}

/// See the module's documentation.
pub struct SocketServer {
    config: ServerConfig,
    view: View,
    fenced: bool,
    reigns: Reigns,
    router: Router,
    stacks: BTreeMap<GroupId, Stack>,
    clients: BTreeMap<ClientId, Client>,
    objects: BTreeMap<Handle, Object>,
    by_kind: BTreeMap<(GroupId, Kind), Handle>,
    next_handle: u32,
    propose_at: Option<Nanos>,
    proposals: Vec<Proposal>,
    signals: BTreeSet<ClientId>,
    /// What the stacks want sent; collected until the flush.
    outward: Vec<(GroupId, Packet)>,
    /// At the router: what was handed inward. At a primary: what came before its service was ready.
    recent: Recent,
    /// Groups whose recent packets are to be given again at the flush.
    again: BTreeSet<GroupId>,
    counters: Counters,
}

impl SocketServer {
    /// A server that knows no table yet and is silent.
    pub fn new(config: ServerConfig) -> SocketServer {
        SocketServer {
            view: View::empty(config.me),
            fenced: false,
            reigns: Reigns::default(),
            router: Router::new(&config.external, config.me.0),
            stacks: BTreeMap::new(),
            clients: BTreeMap::new(),
            objects: BTreeMap::new(),
            by_kind: BTreeMap::new(),
            next_handle: 1,
            propose_at: None,
            proposals: Vec::new(),
            signals: BTreeSet::new(),
            outward: Vec::new(),
            recent: Recent::default(),
            again: BTreeSet::new(),
            counters: Counters::default(),
            config,
        }
    }

    // ---- what happens ----

    /// The directory's table has changed.
    pub fn view(&mut self, now: Nanos, view: View) {
        assert_eq!(view.me, self.config.me);
        self.again.extend(self.reigns.update(&view));
        self.view = view;
        let me = self.config.me;
        let gone: Vec<GroupId> = self.stacks.keys().copied().filter(|g| self.view.primary(*g) != Some(me)).collect();
        for group in gone {
            self.tear_down(group);
        }
        self.router.set_active(now, self.view.routing() && !self.fenced);
        self.reconcile(now);
    }

    /// Whether this node is out of touch with the quorum; it must not speak then.
    pub fn fenced(&mut self, now: Nanos, fenced: bool) {
        self.fenced = fenced;
        self.router.set_active(now, self.view.routing() && !fenced);
    }

    /// A frame from the external NIC.
    pub fn frame(&mut self, now: Nanos, frame: &[u8], effects: &mut Effects) {
        let mut output = Output::default();
        self.router.frame(now, frame, &self.view, &mut output);
        effects.frames.append(&mut output.frames);
        for (group, packet) in output.inward {
            self.recent.note(now, group, &packet);
            self.hand_in(now, group, packet, effects);
        }
    }

    /// Gives a packet from outside to the group's primary.
    fn hand_in(&mut self, now: Nanos, group: GroupId, packet: Packet, effects: &mut Effects) {
        match self.view.primary(group) {
            Some(node) if node == self.config.me => self.inward(now, group, &packet),
            Some(node) => {
                self.counters.forwarded += 1;
                self.to_peer(node, Direction::Inward, group, &[packet], effects);
            }
            None => {}
        }
    }

    /// A message from another node's socket server.
    pub fn peer(&mut self, now: Nanos, from: NodeId, bytes: &[u8], effects: &mut Effects) {
        let Ok(message) = Message::decode(bytes) else {
            self.counters.malformed += 1;
            return;
        };
        match message.direction {
            Direction::Inward => message.packets().for_each(|p| self.inward(now, message.group, p)),
            Direction::Outward if self.reigns.current(message.group, from, message.epoch) && self.router.active() => {
                let mut output = Output::default();
                message.packets().for_each(|p| self.router.send(now, p.to_vec(), &mut output));
                effects.frames.append(&mut output.frames);
            }
            Direction::Outward => self.counters.stale += 1,
        }
    }

    /// Ends a round: sends what is due and reports what has changed.
    pub fn flush(&mut self, now: Nanos, effects: &mut Effects) {
        if self.propose_at.is_some_and(|at| at <= now) {
            self.reconcile(now);
        }
        for group in core::mem::take(&mut self.again) {
            self.recent.take(now, group).into_iter().for_each(|p| self.hand_in(now, group, p, effects));
        }
        let due: Vec<GroupId> =
            self.stacks.iter().filter(|(_, s)| s.deadline().is_some_and(|at| at <= now)).map(|(g, _)| *g).collect();
        for group in due {
            // A stack without clients to answer has no errors either: `Poll` cannot fail.
            let _ = self.step(now, group, Input::Poll);
            self.observe(group, true);
        }
        self.send_outward(now, effects);
        if self.router.deadline().is_some_and(|at| at <= now) {
            let mut output = Output::default();
            self.router.tick(now, &mut output);
            effects.frames.append(&mut output.frames);
        }
        effects.proposals.append(&mut self.proposals);
        effects.signals.append(&mut self.signals);
    }

    /// When [`SocketServer::flush`] is due if nothing else happens.
    pub fn deadline(&self) -> Option<Nanos> {
        let stacks = self.stacks.values().filter_map(Stack::deadline).min();
        [stacks, self.router.deadline(), self.propose_at].into_iter().flatten().min()
    }

    // ---- clients' calls ----

    /// A client says who it is. Whatever an earlier life of it had open is closed: its connections are reset.
    ///
    /// `group` is the group of `vid` in the directory's table.
    pub fn open(&mut self, now: Nanos, client: ClientId, vid: Vid, group: GroupId) -> Result<(), CallError> {
        self.forget_client(now, client);
        if self.view.primary(group) != Some(self.config.me) {
            return Err(CallError::NotHere);
        }
        if self.clients.len() >= MAX_CLIENTS {
            return Err(CallError::TooMany);
        }
        self.clients.insert(client, Client { vid, group, ready: BTreeMap::new(), cursor: Handle(0) });
        Ok(())
    }

    /// Opens a port of the service address.
    pub fn listen(&mut self, now: Nanos, client: ClientId, port: u16, backlog: usize) -> Result<Handle, CallError> {
        let c = self.clients.get(&client).ok_or(CallError::NotHere)?;
        let (vid, group) = (c.vid, c.group);
        let epoch =
            self.view.groups.get(&group).filter(|g| g.primary == Some(self.config.me)).ok_or(CallError::NotHere)?.epoch;
        if self.view.ports.get(&port).is_some_and(|p| p.vid != vid) {
            return Err(CallError::PortInUse);
        }
        if !self.stacks.contains_key(&group) {
            let mut salt = group.0.to_le_bytes().to_vec();
            salt.extend_from_slice(&epoch.0.to_le_bytes());
            let [a, b] = self.config.secret;
            let seed = [siphash24([a, b], &salt), siphash24([b, a], &salt)];
            let external = &self.config.external;
            let mut config = Config::new(external.service.into(), external.prefix, seed);
            config.max_connections = self.config.max_connections;
            self.stacks.insert(group, Stack::new(config, now));
        }
        let Answer::Listener(id) = self.step(now, group, Input::Listen { port, backlog })? else {
            return Err(CallError::BadObject);
        };
        let handle = self.add(client, group, Kind::Listener(id), port);
        self.again.insert(group);
        self.reconcile(now);
        Ok(handle)
    }

    /// Takes the next connection of a listener.
    pub fn accept(&mut self, now: Nanos, listener: Handle) -> Result<Accepted, CallError> {
        let (client, group, id) = self.listener(listener)?;
        let answer = self.step(now, group, Input::Accept(id));
        let result = match answer? {
            Answer::Accepted { conn, address, port } => {
                Ok(Accepted { handle: self.add(client, group, Kind::Stream(conn), 0), address, port })
            }
            _ => Err(CallError::BadObject),
        };
        self.observe(group, false);
        result
    }

    /// Reads from a stream; 0 is its end.
    pub fn recv(&mut self, now: Nanos, stream: Handle, buffer: &mut [u8]) -> Result<usize, CallError> {
        self.count(now, stream, |id| Input::Recv(id, buffer))
    }

    /// Writes to a stream; gives how many bytes were taken.
    pub fn send(&mut self, now: Nanos, stream: Handle, data: &[u8]) -> Result<usize, CallError> {
        self.count(now, stream, |id| Input::Send(id, data))
    }

    /// Ends our direction of a stream.
    pub fn shutdown(&mut self, now: Nanos, stream: Handle) -> Result<(), CallError> {
        self.count(now, stream, Input::Shutdown).map(drop)
    }

    /// Closes a listener or a stream. A stream's bytes are still delivered.
    pub fn close(&mut self, now: Nanos, handle: Handle) -> Result<(), CallError> {
        let object = self.objects.get(&handle).ok_or(CallError::BadObject)?;
        let (group, port) = (object.group, object.port);
        let input = match object.kind {
            Kind::Listener(id) => Input::Unlisten(id),
            Kind::Stream(id) => Input::Close(id),
        };
        let mine = self.clients.get(&object.client).map(|c| c.vid);
        if port != 0 && self.view.ports.get(&port).map(|p| p.vid) == mine {
            self.proposals.push(Proposal::Unlisten { port });
        }
        self.forget(handle);
        self.step(now, group, input)?;
        self.observe(group, false);
        Ok(())
    }

    /// Fills `events` with what is ready for the client, in turn; gives how many.
    pub fn poll(&mut self, client: ClientId, events: &mut [Ready]) -> Result<usize, CallError> {
        let c = self.clients.get(&client).ok_or(CallError::NotHere)?;
        let after = (c.cursor.0.saturating_add(1))..;
        let turn: Vec<Handle> = (c.ready.range(Handle(after.start)..).chain(c.ready.range(..Handle(after.start))))
            .map(|(h, _)| *h)
            .collect();
        let mut count = 0;
        for handle in turn {
            let Some(slot) = events.get_mut(count) else { break };
            let flags = self.flags(handle);
            let c = self.clients.get_mut(&client).expect("looked up above");
            if flags == 0 {
                c.ready.remove(&handle);
                continue;
            }
            c.ready.insert(handle, true);
            c.cursor = handle;
            *slot = Ready { handle, flags };
            count += 1;
        }
        Ok(count)
    }

    // ---- inside ----

    /// Router counters, own counters, connections: for the log.
    pub fn counters(&self) -> (crate::router::Counters, Counters, usize) {
        (self.router.counters(), self.counters, self.stacks.values().map(Stack::connections).sum())
    }

    /// Whether this node is the active router now.
    pub fn routing(&self) -> bool {
        self.router.active()
    }

    /// Whether the object is a listener that exists.
    pub fn is_listener(&self, handle: Handle) -> bool {
        self.objects.get(&handle).is_some_and(|o| matches!(o.kind, Kind::Listener(_)))
    }

    /// Whether the object is a stream that exists.
    pub fn is_stream(&self, handle: Handle) -> bool {
        self.objects.get(&handle).is_some_and(|o| matches!(o.kind, Kind::Stream(_)))
    }

    fn inward(&mut self, now: Nanos, group: GroupId, packet: &[u8]) {
        if self.fenced || self.view.primary(group) != Some(self.config.me) {
            self.counters.stale += 1;
        } else if self.stacks.contains_key(&group) {
            let _ = self.step(now, group, Input::Packet(packet));
            self.observe(group, true);
        } else {
            // The service is still starting here.
            self.counters.no_stack += 1;
            self.recent.note(now, group, packet);
        }
    }

    fn step(&mut self, now: Nanos, group: GroupId, input: Input<'_>) -> Result<Answer, CallError> {
        let stack = self.stacks.get_mut(&group).ok_or(CallError::NotHere)?;
        let mut out = Vec::new();
        let answer = stack.step(now, input, &mut out);
        self.outward.extend(out.into_iter().map(|p| (group, p)));
        Ok(answer?)
    }

    fn send_outward(&mut self, now: Nanos, effects: &mut Effects) {
        let packets = core::mem::take(&mut self.outward);
        if self.fenced {
            self.counters.stale += packets.len() as u64;
        } else if self.router.active() {
            let mut output = Output::default();
            packets.into_iter().for_each(|(_, p)| self.router.send(now, p, &mut output));
            effects.frames.append(&mut output.frames);
        } else if let Some(router) = self.view.router.filter(|r| *r != self.config.me) {
            let mut by_group: BTreeMap<GroupId, Vec<Packet>> = BTreeMap::new();
            packets.into_iter().for_each(|(g, p)| by_group.entry(g).or_default().push(p));
            for (group, packets) in by_group {
                self.to_peer(router, Direction::Outward, group, &packets, effects);
            }
        }
    }

    fn to_peer(&self, to: NodeId, direction: Direction, group: GroupId, packets: &[Packet], effects: &mut Effects) {
        let epoch = self.view.groups.get(&group).map_or_else(Default::default, |g| g.epoch);
        effects.peers.extend(peer::encode(direction, group, epoch, packets).into_iter().map(|m| (to, m)));
    }

    /// Asks the directory for what clients listen on, and finds out whose ports it gave to others.
    fn reconcile(&mut self, now: Nanos) {
        self.propose_at = None;
        for (handle, object) in self.objects.iter_mut().filter(|(_, o)| o.port != 0) {
            let Some(client) = self.clients.get_mut(&object.client) else { continue };
            match self.view.ports.get(&object.port) {
                None => {
                    self.proposals.push(Proposal::Listen { port: object.port, vid: client.vid });
                    self.propose_at = Some(now + PROPOSE_EVERY);
                }
                Some(port) if port.vid != client.vid && !object.usurped => {
                    object.usurped = true;
                    client.ready.insert(*handle, false);
                    self.signals.insert(object.client);
                }
                Some(_) => {}
            }
        }
    }

    /// Brings the clients' ready lists up to date with what a stack says has changed.
    fn observe(&mut self, group: GroupId, from_outside: bool) {
        while let Some(touched) = self.stacks.get_mut(&group).and_then(Stack::take_touched) {
            let kind = match touched {
                Touched::Listener(id) => Kind::Listener(id),
                Touched::Conn(id) => Kind::Stream(id),
            };
            let Some(&handle) = self.by_kind.get(&(group, kind)) else { continue };
            let flags = self.flags(handle);
            let id = self.objects[&handle].client;
            let Some(client) = self.clients.get_mut(&id) else { continue };
            if flags == 0 {
                client.ready.remove(&handle);
                continue;
            }
            let told = client.ready.get(&handle).copied();
            // The client's own reading must not wake it; news from outside must, if it has seen the list since.
            if told.is_none() || (from_outside && told == Some(true)) {
                client.ready.insert(handle, false);
                self.signals.insert(id);
            }
        }
    }

    fn flags(&self, handle: Handle) -> u32 {
        let Some(object) = self.objects.get(&handle) else { return 0 };
        let Some(stack) = self.stacks.get(&object.group) else { return Ready::CLOSED };
        match object.kind {
            Kind::Listener(_) if object.usurped => Ready::CLOSED,
            Kind::Listener(id) if stack.acceptable(id) => Ready::ACCEPT,
            Kind::Listener(_) => 0,
            Kind::Stream(id) => {
                let r = stack.readiness(id);
                let flag = |set: bool, bit: u32| if set { bit } else { 0 };
                flag(r.readable, Ready::READ) | flag(r.writable, Ready::WRITE) | flag(r.closed, Ready::CLOSED)
            }
        }
    }

    fn listener(&self, handle: Handle) -> Result<(ClientId, GroupId, ListenerId), CallError> {
        match self.objects.get(&handle) {
            Some(&Object { client, group, kind: Kind::Listener(id), usurped: false, .. }) => Ok((client, group, id)),
            Some(Object { usurped: true, .. }) => Err(CallError::PortInUse),
            _ => Err(CallError::BadObject),
        }
    }

    fn count<'a>(
        &mut self,
        now: Nanos,
        stream: Handle,
        input: impl FnOnce(ConnId) -> Input<'a>,
    ) -> Result<usize, CallError> {
        let (group, id) = match self.objects.get(&stream) {
            Some(&Object { group, kind: Kind::Stream(id), .. }) => (group, id),
            _ => return Err(CallError::BadObject),
        };
        let answer = self.step(now, group, input(id));
        self.observe(group, false);
        match answer? {
            Answer::Count(n) => Ok(n),
            _ => Ok(0),
        }
    }

    fn add(&mut self, client: ClientId, group: GroupId, kind: Kind, port: u16) -> Handle {
        let handle = Handle(self.next_handle);
        self.next_handle += 1;
        self.objects.insert(handle, Object { client, group, kind, port, usurped: false });
        self.by_kind.insert((group, kind), handle);
        handle
    }

    fn forget(&mut self, handle: Handle) {
        let Some(object) = self.objects.remove(&handle) else { return };
        self.by_kind.remove(&(object.group, object.kind));
        if let Some(client) = self.clients.get_mut(&object.client) {
            client.ready.remove(&handle);
        }
    }

    fn forget_client(&mut self, now: Nanos, client: ClientId) {
        let mine: Vec<Handle> = self.objects.iter().filter(|(_, o)| o.client == client).map(|(h, _)| *h).collect();
        for handle in mine {
            let object = &self.objects[&handle];
            let (group, input) = match object.kind {
                Kind::Listener(id) => (object.group, Input::Unlisten(id)),
                Kind::Stream(id) => (object.group, Input::Abort(id)),
            };
            self.forget(handle);
            // Its stack may be gone, which is as good as closed.
            let _ = self.step(now, group, input);
        }
        self.clients.remove(&client);
    }

    /// The group moved away, or lost this node: its stack and everything in it is gone. Clients learn it at their next call.
    fn tear_down(&mut self, group: GroupId) {
        self.stacks.remove(&group);
        self.outward.retain(|(g, _)| *g != group);
        let dead: Vec<Handle> = self.objects.iter().filter(|(_, o)| o.group == group).map(|(h, _)| *h).collect();
        dead.into_iter().for_each(|h| self.forget(h));
        let orphans: Vec<ClientId> = self.clients.iter().filter(|(_, c)| c.group == group).map(|(id, _)| *id).collect();
        for id in orphans {
            self.clients.remove(&id);
            self.signals.insert(id);
        }
    }
}
