//! The composition: one event in, all its consequences through link, core, calls and ports, actions out.

use crate::calls::{Answer, Calls, Invocation, Output, Place};
use crate::exports::{Exports, Step};
use crate::imports::Imports;
use crate::ports::{Blocked, PortConfig, PortIndex, Ports};
use crate::services::{self, Service};
use crate::status::{Status, Watch};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use ipc_wire::LinkError;
use smi_cluster::identity::{External, Identity};
use smi_cluster::{Lane, NodeId, PortId, Vid};
use smi_core::Node;
use smi_core::config::Timing;
use smi_core::io;
use smi_core::table::{self, Name, NodeState, Op, ProposeError, Proposed, Table};
use smi_link::{DATAGRAM_MAX, Link, Receipt};
use smi_port::{ToManager, ToServer};

/// Time after which a proposal counts as failed for want of a quorum.
const PROPOSE_NS: u64 = 5_000_000_000;
/// How long a new leader waits for the missing nodes before it founds services with fewer.
const FOUND_NS: u64 = 5_000_000_000;
/// Pause before what failed is tried again: a proposal, a request to the supervisor.
const RETRY_NS: u64 = 1_000_000_000;

/// First byte of a message between managers: who it is for.
mod tag {
    pub const DIRECTORY: u8 = 0;
    pub const CALLS: u8 = 1;
}

/// What a manager is told before it starts.
pub struct Config<'a> {
    /// The node's identity.
    pub identity: &'a Identity,
    /// This boot's number.
    pub boot: u64,
    /// Whether the node has a NIC on the external segment.
    pub external: bool,
    /// Periods of the directory.
    pub timing: Timing,
    /// The services of the cluster.
    pub services: Vec<Service>,
    /// Ports of local servers.
    pub ports: &'a [PortConfig],
    /// Seed of all random choices; never the same twice.
    pub seed: [u8; 32],
}

/// What happens to a manager.
pub enum Event<'a> {
    /// A frame arrived on the internal segment.
    Frame(&'a [u8]),
    /// Time has passed, or a batch of events is over.
    Tick,
    /// A server has attached (again) to its port.
    Attached(PortIndex),
    /// A record from a server's ring. Only while [`Ports::may_send`].
    Record(PortIndex, &'a [u8]),
    /// A client calls through an imported capability.
    Invoke {
        /// Object number in the capability's badge.
        object: u64,
        /// The call.
        call: Invocation<'a>,
    },
    /// Completion of disk I/O that [`Action::Disk`] asked for.
    Disk(io::Event<'a>),
    /// The supervisor has dealt with [`Action::Start`] or [`Action::Stop`].
    Supervised {
        /// The program.
        program: &'a Name,
        /// Whether it runs now.
        running: bool,
        /// Whether the request succeeded.
        ok: bool,
    },
}

/// What has to be done for a manager.
#[derive(Debug)]
pub enum Action {
    /// Put this frame on the internal segment.
    Frame(Vec<u8>),
    /// Answer a call through an imported capability.
    Answer(Answer),
    /// Answer a call of `manager.export`.
    Exported {
        /// The call.
        token: u64,
        /// Its outcome.
        result: Result<Vid, ExportError>,
    },
    /// Read, write or flush the directory zone (only those three).
    Disk(io::Action),
    /// Have the supervisor start a program.
    Start(Name),
    /// Have the supervisor stop a program.
    Stop(Name),
    /// Tell the operator.
    Status(Status),
}

/// Why an export failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExportError {
    /// Another server has the name.
    Taken,
    /// The directory is out of reach.
    NoQuorum,
}

/// Who waits for a proposal.
enum Proposer {
    /// The server behind a port, with its own token.
    Server(PortIndex, u64),
    /// The export of a name.
    Export(Name),
    /// Withdrawal of a name; nobody waits.
    Withdrawal,
    /// Service records.
    Services,
}

/// State of a program that this node runs or should run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Running {
    Asked,
    Yes,
    Failed { retry_ns: u64 },
}

/// One node's manager.
pub struct Manager {
    node: NodeId,
    boot: u64,
    cluster: [u8; 16],
    external: External,
    /// Behind [`Manager::random`], with the number of draws.
    secret: ([u8; 32], u64),
    link: Link,
    core: Node,
    ports: Ports,
    calls: Calls,
    pub(crate) imports: Imports,
    pub(crate) exports: Exports,
    services: Vec<Service>,
    programs: BTreeMap<Name, Running>,
    watch: Watch,
    /// Whether this boot of the node was a member after the last operation that was looked at.
    joined: bool,
    proposers: BTreeMap<u64, Proposer>,
    next_token: u64,
    /// When this node began to lead the directory.
    leads_since: Option<u64>,
    /// Service records are not proposed before this: a proposal has failed.
    found_again_ns: u64,
    leader: Option<NodeId>,
    fenced: bool,
    /// Boots of peers, as of their last session.
    boots: BTreeMap<NodeId, u64>,
    /// Call messages that the link had no room for.
    outbox: BTreeMap<NodeId, VecDeque<Vec<u8>>>,
    /// The table has changed since exports, services and calls were last compared with it.
    table_changed: bool,
    /// What one step still has to deal with.
    todo: VecDeque<Todo>,
}

/// A consequence that is not dealt with yet.
enum Todo {
    Link(smi_link::Action),
    Core(io::Action),
    Calls(Output),
}

impl Manager {
    /// A manager that starts to join its cluster at the first [`Event::Tick`]. `None` if the configuration makes no sense.
    pub fn new(config: Config<'_>) -> Option<Manager> {
        let identity = config.identity;
        let node = identity.node;
        let link = Link::new(&smi_link::Config {
            cluster: identity.cluster,
            key: identity.key,
            node,
            incarnation: config.boot,
            members: identity.members(),
            seed: config.seed,
        });
        let core = Node::new(smi_core::config::Config {
            cluster: identity.cluster,
            node,
            members: identity.members().iter().map(|m| m.node).collect(),
            boot: config.boot,
            store: identity.format,
            external: config.external,
            timing: config.timing,
        })
        .ok()?;
        Some(Manager {
            node,
            boot: config.boot,
            cluster: identity.cluster,
            external: identity.external,
            secret: (smi_link::seed(&config.seed, &[b"random"]), 0),
            link,
            core,
            ports: Ports::new(config.ports),
            calls: Calls::new(),
            imports: Imports::new(config.boot),
            exports: Exports::new(node, config.boot),
            services: config.services,
            programs: BTreeMap::new(),
            watch: Watch::new(node),
            joined: false,
            proposers: BTreeMap::new(),
            next_token: 1,
            leads_since: None,
            found_again_ns: 0,
            leader: None,
            fenced: true,
            boots: BTreeMap::new(),
            outbox: BTreeMap::new(),
            table_changed: false,
            todo: VecDeque::new(),
        })
    }

    /// Handles `event` at time `now_ns` and appends what has to be done to `out`.
    pub fn step(&mut self, now_ns: u64, event: Event<'_>, out: &mut Vec<Action>) {
        match event {
            Event::Frame(bytes) => self.link_step(now_ns, smi_link::Event::FrameIn(bytes)),
            Event::Tick => self.tick(now_ns),
            Event::Attached(port) => self.attached(now_ns, port),
            Event::Record(port, bytes) => self.on_record(now_ns, port, bytes),
            Event::Invoke { object, call } => self.invoke(now_ns, object, &call, out),
            Event::Disk(event) => self.core_step(now_ns, event),
            Event::Supervised { program, running, ok } => self.supervised(now_ns, program, running, ok, out),
        }
        self.settle(now_ns, out);
        if matches!(event, Event::Tick) {
            // Last of all, so that frames carry everything that this batch brought about.
            self.link_step(now_ns, smi_link::Event::Tick);
            self.settle(now_ns, out);
        }
    }

    /// When the manager wants [`Event::Tick`] at the latest; 0 means at once.
    pub fn deadline_ns(&self) -> Option<u64> {
        let retry = self.programs.values().filter_map(|r| match r {
            Running::Failed { retry_ns } => Some(*retry_ns),
            _ => None,
        });
        let parts = [self.link.deadline_ns(), Some(self.core.next_deadline()), self.calls.deadline_ns()];
        let paused = [self.exports.deadline_ns().filter(|_| self.may_propose()), self.found_at_ns()];
        parts.into_iter().chain(paused).flatten().chain(retry).min()
    }

    /// Whether proposals of this node make sense now.
    fn may_propose(&self) -> bool {
        self.is_member() && !self.fenced
    }

    /// The rings to local servers, for the shell to move records.
    pub fn ports(&self) -> &Ports {
        &self.ports
    }

    /// The first record that waits for `port` is in the ring now.
    pub fn record_taken(&mut self, now_ns: u64, port: PortIndex) {
        if let Some(receipt) = self.ports.record_taken(port) {
            self.consumed(now_ns, receipt);
        }
    }

    /// This node's copy of the directory.
    pub fn table(&self) -> &Table {
        self.core.table()
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The cluster's id.
    pub fn cluster(&self) -> [u8; 16] {
        self.cluster
    }

    /// Addresses of the external network.
    pub fn external(&self) -> External {
        self.external
    }

    /// Unpredictable bytes, different at every call.
    pub fn random(&mut self) -> [u8; 32] {
        let (secret, draws) = &mut self.secret;
        *draws += 1;
        smi_link::seed(secret, &[&draws.to_le_bytes()])
    }

    /// Who leads the directory, as far as is known here.
    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// View of the directory.
    pub fn view(&self) -> u64 {
        self.core.view()
    }

    /// Whether this node must not speak for any resource.
    pub fn fenced(&self) -> bool {
        self.fenced
    }

    /// The membership epoch (see [`Watch::epoch`]).
    pub fn epoch(&self) -> u64 {
        self.watch.epoch()
    }

    /// Whether there is a session with `node`.
    pub fn is_linked(&self, node: NodeId) -> bool {
        node == self.node || self.link.is_up(node)
    }

    /// Where a resource is served now.
    pub fn place_of(&self, vid: Vid) -> Option<Place> {
        let (node, _) = self.table().home(vid)?;
        Some(Place { node, generation: self.table().vid(vid)?.generation })
    }

    /// Wants `name` in the directory for the server behind `port`; answered by [`Action::Exported`] with `token`.
    pub fn export(&mut self, name: &Name, port: PortIndex, token: u64) -> Result<(), crate::exports::Full> {
        self.exports.want(name, port, false, Some(token))?;
        self.table_changed = true;
        Ok(())
    }

    /// As [`Manager::export`] for a name from the manifest: nobody waits for the answer, and the name is taken whenever it is free.
    pub fn export_always(&mut self, name: &Name, port: PortIndex) -> Result<(), crate::exports::Full> {
        self.exports.want(name, port, true, None)?;
        self.table_changed = true;
        Ok(())
    }

    /// Takes a name back.
    pub fn withdraw(&mut self, now_ns: u64, name: &Name) {
        if let Some(vid) = self.exports.drop_name(name)
            && self.table().vid(vid).is_some()
        {
            self.propose(now_ns, Proposer::Withdrawal, &Op::Delete { vid });
        }
    }

    // -- plumbing: every part's outputs are collected and dealt with in order --

    fn link_step(&mut self, now: u64, event: smi_link::Event<'_>) {
        let mut out = Vec::new();
        self.link.step(now, event, &mut out);
        self.todo.extend(out.into_iter().map(Todo::Link));
    }

    fn core_step(&mut self, now: u64, event: io::Event<'_>) {
        let out = self.core.step(now, event);
        self.todo.extend(out.into_iter().map(Todo::Core));
    }

    fn calls_step(&mut self, act: impl FnOnce(&mut Calls, &mut Vec<Output>)) {
        let mut out = Vec::new();
        act(&mut self.calls, &mut out);
        self.todo.extend(out.into_iter().map(Todo::Calls));
    }

    /// Deals with consequences until there are none. Ends: every part answers a bounded number of times, and only the
    /// loop-back of calls to this node feeds itself, at most twice a call.
    fn settle(&mut self, now: u64, out: &mut Vec<Action>) {
        loop {
            while let Some(todo) = self.todo.pop_front() {
                match todo {
                    Todo::Link(action) => self.on_link(now, action, out),
                    Todo::Core(action) => self.on_core(now, action, out),
                    Todo::Calls(output) => self.on_calls(now, output, out),
                }
            }
            if !core::mem::take(&mut self.table_changed) {
                return;
            }
            self.compare_with_table(now, out);
        }
    }

    fn tick(&mut self, now: u64) {
        self.core_step(now, io::Event::Tick);
        self.calls_step(|calls, out| calls.tick(now, out));
        self.retry_blocked(now);
        self.flush_outbox(now);
        for port in self.ports.stale() {
            self.snapshot_to(port);
        }
        let due = self.programs.values().any(|r| matches!(r, Running::Failed { retry_ns } if *retry_ns <= now));
        let paused = [self.exports.deadline_ns(), self.found_at_ns()];
        self.table_changed |= due || paused.into_iter().flatten().any(|at| at <= now);
    }

    fn consumed(&mut self, now: u64, receipt: Receipt) {
        self.link_step(now, smi_link::Event::Consumed(receipt));
    }

    // -- link --

    fn on_link(&mut self, now: u64, action: smi_link::Action, out: &mut Vec<Action>) {
        use smi_link::Action as A;
        match action {
            A::FrameOut(frame) => out.push(Action::Frame(frame)),
            A::Deliver { from, port: PortId::MANAGER, receipt, bytes, .. } => {
                self.on_message(now, from, &bytes);
                self.consumed(now, receipt);
            }
            A::Deliver { from, port, lane, receipt, bytes } => {
                let record = ToServer::Peer { from, lane, bytes: &bytes };
                let unread = match self.ports.by_id(port) {
                    Some(port) => self.ports.push(port, &record, Some(receipt)),
                    None => Some(receipt),
                };
                if let Some(receipt) = unread {
                    self.consumed(now, receipt);
                }
            }
            A::DeliverDatagram { from, port, bytes } => {
                if port == PortId::MANAGER {
                    self.on_message(now, from, &bytes);
                }
            }
            A::PeerUp { node, incarnation } => self.peer_up(node, incarnation, out),
            A::PeerDown { node, reason, .. } => {
                self.outbox.remove(&node);
                self.ports.push_all(&ToServer::PeerDown { node });
                out.push(Action::Status(Status::LinkDown { node, reason }));
            }
            A::Refused(refused) => out.push(Action::Status(Status::Refused(refused))),
            // Directory messages may be lost; requests are sent again with the next session.
            A::Unsent { .. } => {}
        }
    }

    fn peer_up(&mut self, node: NodeId, boot: u64, out: &mut Vec<Action>) {
        out.push(Action::Status(Status::LinkUp { node }));
        self.ports.push_all(&ToServer::PeerUp { node, incarnation: boot });
        let before = self.boots.insert(node, boot);
        self.calls_step(|calls, out| match before {
            Some(before) if before != boot => calls.node_rebooted(node, out),
            _ => calls.session_replaced(node, out),
        });
    }

    fn on_message(&mut self, now: u64, from: NodeId, bytes: &[u8]) {
        match bytes.split_first() {
            Some((&tag::DIRECTORY, bytes)) => self.core_step(now, io::Event::Message { from, bytes }),
            Some((&tag::CALLS, bytes)) => {
                let boot = self.link.incarnation(from).unwrap_or(0);
                self.calls_step(|calls, out| calls.on_message(from, boot, bytes, out));
            }
            _ => {}
        }
    }

    fn send_directory(&mut self, now: u64, to: NodeId, message: &[u8]) {
        let bytes = tagged(tag::DIRECTORY, message);
        let port = PortId::MANAGER;
        if bytes.len() <= DATAGRAM_MAX {
            self.link_step(now, smi_link::Event::Datagram { to, port, bytes: &bytes });
        } else if self.link.has_room(to, port, Lane::Control, bytes.len()) {
            self.link_step(now, smi_link::Event::Send { to, port, lane: Lane::Control, bytes: &bytes });
        }
    }

    fn flush_outbox(&mut self, now: u64) {
        for to in self.outbox.keys().copied().collect::<Vec<_>>() {
            while let Some(bytes) = self.next_outgoing(to) {
                let (port, lane) = (PortId::MANAGER, Lane::Log);
                self.link_step(now, smi_link::Event::Send { to, port, lane, bytes: &bytes });
            }
        }
        self.outbox.retain(|_, queue| !queue.is_empty());
    }

    fn next_outgoing(&mut self, to: NodeId) -> Option<Vec<u8>> {
        let queue = self.outbox.get_mut(&to)?;
        let len = queue.front()?.len();
        if self.link.has_room(to, PortId::MANAGER, Lane::Log, len) { queue.pop_front() } else { None }
    }

    // -- core --

    fn on_core(&mut self, now: u64, action: io::Action, out: &mut Vec<Action>) {
        match action {
            io::Action::Send { to, bytes } => self.send_directory(now, to, &bytes),
            io::Action::Read { .. } | io::Action::Write { .. } | io::Action::Flush { .. } => {
                out.push(Action::Disk(action));
            }
            io::Action::Applied { op_number, op, result } => self.applied(now, op_number, &op, result.is_ok(), out),
            io::Action::Installed => self.installed(now, out),
            io::Action::Proposed { token, result } => self.proposed(now, token, &result, out),
            io::Action::Fenced(fenced) => {
                self.fenced = fenced;
                self.table_changed = true;
                self.ports.push_all(&ToServer::Fenced { fenced });
                out.push(Action::Status(Status::Fenced { fenced }));
            }
            io::Action::Primary(leader) => self.new_leader(now, leader, out),
        }
    }

    fn new_leader(&mut self, now: u64, leader: Option<NodeId>, out: &mut Vec<Action>) {
        self.leader = leader;
        self.leads_since = (leader == Some(self.node)).then_some(now);
        self.table_changed = true;
        if let Some(leader) = leader {
            out.push(Action::Status(Status::View { view: self.core.view(), leader }));
        }
    }

    fn applied(&mut self, now: u64, op_number: u64, op: &Op, ok: bool, out: &mut Vec<Action>) {
        self.ports.committed(op_number, &op.encode());
        if !ok {
            return;
        }
        match op {
            Op::NodeUp { node, boot, .. } if *node == self.node => self.joined = *boot == self.boot,
            Op::NodeDown { node, .. } if *node == self.node => self.joined = false,
            _ => {}
        }
        let mut lines = Vec::new();
        self.watch.applied(op_number, op, self.core.table(), &mut lines);
        self.tell(lines, out);
        self.link_step(now, smi_link::Event::Epoch(self.watch.epoch()));
        if let Op::NodeDown { node, .. } = op {
            self.expel(now, *node);
        }
        self.table_changed = true;
    }

    /// Ends the session with the incarnation of `node` that the directory has declared dead. A newer one keeps its session.
    fn expel(&mut self, now: u64, node: NodeId) {
        let dead = self.table().node(node).filter(|n| n.state == NodeState::Down).map(|n| n.boot);
        if dead.is_some() && self.link.incarnation(node) == dead {
            self.link_step(now, smi_link::Event::Expel(node));
        }
    }

    fn installed(&mut self, now: u64, out: &mut Vec<Action>) {
        for port in self.ports.indices() {
            self.snapshot_to(port);
        }
        self.joined = self.is_member();
        let mut lines = Vec::new();
        self.watch.replaced(self.core.table(), &mut lines);
        self.tell(lines, out);
        self.link_step(now, smi_link::Event::Epoch(self.watch.epoch()));
        self.table_changed = true;
    }

    /// Tells of changes in the directory; not of old ones, which a node sees again while it catches up to join.
    fn tell(&self, lines: Vec<Status>, out: &mut Vec<Action>) {
        if self.joined {
            out.extend(lines.into_iter().map(Action::Status));
        }
    }

    fn snapshot_to(&mut self, port: PortIndex) {
        if self.ports.is_attached(port) {
            let table = self.core.table();
            self.ports.snapshot(port, table.op_number(), &table.encode());
        }
    }

    fn propose(&mut self, now: u64, proposer: Proposer, op: &Op) {
        let token = self.next_token;
        self.next_token += 1;
        self.proposers.insert(token, proposer);
        self.core_step(now, io::Event::Propose { token, op, deadline: now + PROPOSE_NS });
    }

    fn proposed(&mut self, now: u64, token: u64, result: &Proposed, out: &mut Vec<Action>) {
        match self.proposers.remove(&token) {
            Some(Proposer::Server(port, token)) => {
                let bytes = table::encode_proposed(result);
                self.ports.push(port, &ToServer::Proposed { token, bytes: &bytes }, None);
            }
            Some(Proposer::Export(name)) => {
                self.exports.settled(&name, if result.is_ok() { 0 } else { now + RETRY_NS });
                if matches!(result, Err(ProposeError::NoQuorum | ProposeError::Busy)) {
                    let result = Err(ExportError::NoQuorum);
                    let waiting = self.exports.give_up(&name).into_iter();
                    out.extend(waiting.map(|token| Action::Exported { token, result }));
                }
                self.table_changed = true;
            }
            Some(Proposer::Services) => {
                if result.is_err() {
                    self.found_again_ns = now + RETRY_NS;
                }
                self.table_changed = true;
            }
            Some(Proposer::Withdrawal) | None => {}
        }
    }

    // -- ports --

    fn attached(&mut self, now: u64, port: PortIndex) {
        for receipt in self.ports.attach(port) {
            self.consumed(now, receipt);
        }
        let exports = &self.exports;
        let mut lost = Vec::new();
        self.calls.server_lost(|vid| exports.port_of(vid) == Some(port), &mut lost);
        self.todo.extend(lost.into_iter().map(Todo::Calls));
        self.ports.push(port, &ToServer::Hello { node: self.node, incarnation: self.boot }, None);
        self.ports.push(port, &ToServer::Fenced { fenced: self.fenced }, None);
        self.snapshot_to(port);
        for (node, boot) in &self.boots {
            if self.link.is_up(*node) {
                self.ports.push(port, &ToServer::PeerUp { node: *node, incarnation: *boot }, None);
            }
        }
    }

    fn on_record(&mut self, now: u64, port: PortIndex, bytes: &[u8]) {
        match ToManager::decode(bytes) {
            Ok(ToManager::Peer { to, lane, bytes }) => self.send_for(now, port, to, lane, bytes),
            Ok(ToManager::Propose { token, bytes }) => match Op::decode(bytes) {
                Ok(op) => self.propose(now, Proposer::Server(port, token), &op),
                Err(_) => {
                    let refused = table::encode_proposed(&Err(ProposeError::Busy));
                    self.ports.push(port, &ToServer::Proposed { token, bytes: &refused }, None);
                }
            },
            Ok(ToManager::Reply { call, label, payload, window }) => {
                self.calls_step(|calls, out| calls.on_reply(call, label, payload, window, out));
            }
            Err(_) => {}
        }
    }

    /// Sends a server's message to the same-named server of another node (or of this one), or keeps it until there is room.
    fn send_for(&mut self, now: u64, port: PortIndex, to: NodeId, lane: Lane, bytes: &[u8]) {
        let Some(id) = self.ports.id(port) else { return };
        if to == self.node {
            self.ports.push(port, &ToServer::Peer { from: to, lane, bytes }, None);
        } else if self.link.has_room(to, id, lane, bytes.len()) {
            self.link_step(now, smi_link::Event::Send { to, port: id, lane, bytes });
        } else if self.link.is_up(to) && bytes.len() <= smi_port::MAX_MESSAGE {
            self.ports.block(port, Blocked { to, lane, bytes: bytes.to_vec() });
        }
    }

    fn retry_blocked(&mut self, now: u64) {
        for port in self.ports.indices() {
            if let Some(b) = self.ports.take_blocked(port) {
                self.send_for(now, port, b.to, b.lane, &b.bytes);
            }
        }
    }

    // -- calls --

    fn invoke(&mut self, now: u64, object: u64, call: &Invocation<'_>, out: &mut Vec<Action>) {
        let vid = self.imports.imported(object);
        let place = vid.and_then(|vid| self.place_of(vid));
        let result = match vid {
            None => Err(LinkError::Revoked),
            Some(vid) => {
                let mut outputs = Vec::new();
                let result = self.calls.invoke(now, vid, place, call, &mut outputs);
                self.todo.extend(outputs.into_iter().map(Todo::Calls));
                result
            }
        };
        if let Err(error) = result {
            out.push(Action::Answer(Answer {
                token: call.token,
                badge: call.badge,
                label: error.label(),
                payload: Vec::new(),
                request_label: call.label,
                request: Vec::new(),
                window: Vec::new(),
            }));
        }
    }

    fn on_calls(&mut self, now: u64, output: Output, out: &mut Vec<Action>) {
        match output {
            Output::Answer(answer) => out.push(Action::Answer(answer)),
            Output::Send { to, bytes } if to == self.node => {
                let (node, boot) = (self.node, self.boot);
                self.calls_step(|calls, out| calls.on_message(node, boot, &bytes, out));
            }
            Output::Send { to, bytes } => {
                // Without a session there is nothing to wait for: requests are sent again when one begins.
                if self.link.is_up(to) {
                    self.outbox.entry(to).or_default().push_back(tagged(tag::CALLS, &bytes));
                    self.flush_outbox(now);
                }
            }
            Output::Execute { call, from, vid, generation, label, payload, window } => {
                let known = self.table().vid(vid).is_none_or(|record| record.generation == generation);
                let port = self.exports.port_of(vid).filter(|port| self.ports.is_attached(*port));
                match port {
                    _ if !known => self.calls_step(|calls, out| calls.refuse(call, LinkError::Revoked, out)),
                    None => self.calls_step(|calls, out| calls.refuse(call, LinkError::NoPeer, out)),
                    Some(port) => {
                        let record = ToServer::Call { call, from, label, payload: &payload, window: &window };
                        self.ports.push(port, &record, None);
                    }
                }
            }
        }
    }

    // -- what follows from the table --

    /// Whether this node is a member of the cluster now, as far as it knows.
    pub fn is_member(&self) -> bool {
        self.core.has_joined()
    }

    fn compare_with_table(&mut self, now: u64, out: &mut Vec<Action>) {
        let places: BTreeMap<Vid, Place> =
            self.calls.vids().into_iter().filter_map(|vid| Some((vid, self.place_of(vid)?))).collect();
        self.calls_step(|calls, out| calls.places_changed(|vid| places.get(&vid).copied(), out));
        let table = self.core.table();
        self.imports.release(|vid| table.vid(vid).is_some());
        self.pursue_exports(now, out);
        self.found_services(now);
        self.place_services(now, out);
    }

    fn pursue_exports(&mut self, now: u64, out: &mut Vec<Action>) {
        let may_propose = self.may_propose();
        for step in self.exports.pursue(now, self.core.table(), may_propose) {
            match step {
                Step::Propose(name, op) => self.propose(now, Proposer::Export(name), &op),
                Step::Won(name) => out.push(Action::Status(Status::Exported { name })),
                Step::Held(vid, tokens) => {
                    out.extend(tokens.into_iter().map(|token| Action::Exported { token, result: Ok(vid) }));
                }
                Step::Taken(tokens) => {
                    let result = Err(ExportError::Taken);
                    out.extend(tokens.into_iter().map(|token| Action::Exported { token, result }));
                }
            }
        }
    }

    /// When this node, as leader, should make the records of services that lack some: at once if all nodes that they need are there,
    /// after a while with fewer. `None` if there is nothing to do or it is being done.
    fn found_at_ns(&self) -> Option<u64> {
        let since = self.leads_since?;
        let under_way = self.proposers.values().any(|p| matches!(p, Proposer::Services));
        if under_way || !self.may_propose() || services::missing(self.table(), &self.services).is_empty() {
            return None;
        }
        let enough = services::enough_nodes(self.table(), &self.services);
        Some(if enough { since } else { since + FOUND_NS }.max(self.found_again_ns))
    }

    fn found_services(&mut self, now: u64) {
        if self.found_at_ns().is_some_and(|at| at <= now) {
            for op in services::missing(self.table(), &self.services) {
                self.propose(now, Proposer::Services, &op);
            }
        }
    }

    /// Starts and stops programs so that those run here whose group this node leads.
    fn place_services(&mut self, now: u64, out: &mut Vec<Action>) {
        let wanted = if self.is_member() { services::to_run(self.table(), self.node) } else { BTreeSet::new() };
        for program in &wanted {
            let start = match self.programs.get(program) {
                None => true,
                Some(Running::Failed { retry_ns }) => *retry_ns <= now,
                Some(Running::Asked | Running::Yes) => false,
            };
            if start {
                self.programs.insert(program.clone(), Running::Asked);
                out.push(Action::Start(program.clone()));
            }
        }
        let unwanted: Vec<Name> = self.programs.keys().filter(|p| !wanted.contains(*p)).cloned().collect();
        for program in unwanted {
            if self.programs.remove(&program).is_some_and(|r| !matches!(r, Running::Failed { .. })) {
                out.push(Action::Stop(program));
            }
        }
    }

    fn supervised(&mut self, now: u64, program: &Name, running: bool, ok: bool, out: &mut Vec<Action>) {
        let program = program.clone();
        out.push(Action::Status(match (running, ok) {
            (true, true) => Status::ServiceStarted { program: program.clone() },
            (false, true) => Status::ServiceStopped { program: program.clone() },
            (_, false) => Status::ServiceFailed { program: program.clone() },
        }));
        if running && let Some(state) = self.programs.get_mut(&program) {
            *state = if ok { Running::Yes } else { Running::Failed { retry_ns: now + RETRY_NS } };
        }
    }
}

fn tagged(tag: u8, message: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + message.len());
    bytes.push(tag);
    bytes.extend_from_slice(message);
    bytes
}
