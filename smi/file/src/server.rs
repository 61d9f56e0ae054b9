//! The file server: directory table, groups, store, and clients' requests brought together.

use crate::group::{CommitFor, Ctx, Group, Want, objects_of, with_ensure};
use crate::proto::{FileError, MAX_WRITE, Message, Request, Response};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use smi_cluster::{GroupId, Lane, NodeId, Vid};
use smi_core::table::{Kind, Name, Op, OpError, ProposeError, Proposed, Table, decode_proposed};
use smi_port::ToServer;
use smi_store::{IoId, IoKind, MAX_OBJECT, Mutation, Store, StoreError};

/// A request that is not done by then fails with [`FileError::Deadline`], in nanoseconds.
const DEADLINE: u64 = 15_000_000_000;
/// A forwarded request or a directory proposal without an answer is tried again after this, in nanoseconds.
const RETRY: u64 = 1_000_000_000;
/// Space that is kept back, in bytes, so that all replicas refuse a write before one of them fails it.
const RESERVE: u64 = 1 << 20;
/// Requests that may be under way.
pub const MAX_REQUESTS: usize = 1024;

/// Whose request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ReqId {
    /// A client of this node, by the shell's number.
    Local(u64),
    /// Forwarded by another node, by that node's number.
    Remote(NodeId, u64),
}

/// What a client of this node asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClientOp {
    /// Make a file in a group, and open it.
    Create {
        /// Its name.
        name: Name,
        /// Its group.
        group: GroupId,
    },
    /// Open a file. `bound`: the caller is the group's own process, and must be where the primary is.
    Open {
        /// Its name.
        name: Name,
        /// Whether the caller is bound to the group.
        bound: bool,
    },
    /// Remove a file.
    Remove {
        /// Its name.
        name: Name,
    },
    /// Give a file another name, atomically replacing the one that had it.
    Rename {
        /// The present name.
        from: Name,
        /// The new one.
        to: Name,
    },
    /// An operation on an open file. `term`: as of [`Response::File`] for a bound caller, else 0.
    File {
        /// What.
        request: Request,
        /// The bound caller's term.
        term: u64,
    },
}

/// Something that happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// A record from the manager.
    Port(ToServer<'a>),
    /// A client's request.
    Client {
        /// Comes back in [`Action::Reply`].
        id: u64,
        /// What.
        op: ClientOp,
    },
    /// The block device answered.
    Io {
        /// Which.
        id: IoId,
        /// How.
        result: Result<Vec<u8>, ()>,
    },
    /// Time passes; at least every 100 ms.
    Tick,
}

/// Something to do.
#[derive(Debug)]
pub enum Action {
    /// To the file server of another node.
    Send {
        /// Which.
        to: NodeId,
        /// On which lane.
        lane: Lane,
        /// What.
        bytes: Vec<u8>,
    },
    /// Propose to the directory.
    Propose {
        /// Comes back in [`ToServer::Proposed`].
        token: u64,
        /// What.
        op: Op,
    },
    /// To the block device.
    Io {
        /// Answer with this.
        id: IoId,
        /// What.
        kind: IoKind,
    },
    /// A client's request is done.
    Reply {
        /// Whose.
        id: u64,
        /// How.
        result: Result<Response, FileError>,
    },
}

/// Where a request is.
enum State {
    /// To be looked at (again).
    Idle,
    /// At its group, on this node.
    AtGroup,
    /// Being read.
    Reading,
    /// With the primary's node.
    Forwarded { to: NodeId, at: u64 },
    /// With the directory.
    Proposed { token: u64, at: u64 },
    /// Waiting for the directory to confirm that this node's table is current.
    Syncing { token: u64, at: u64 },
}

struct Pending {
    op: ClientOp,
    deadline: u64,
    state: State,
    /// The directory has been asked since the request came, so what the table says is current.
    synced: bool,
    /// The VID that a creation or renaming is about.
    vid: Option<Vid>,
}

/// What a store request is for.
enum StoreFor {
    Group(GroupId, u64, CommitFor),
    Feed(GroupId, u64, Vid, u64),
    Client(ReqId),
    Nothing,
}

struct Me {
    node: NodeId,
    boot: u64,
}

/// A file server, without its I/O.
pub struct FileCore {
    me: Option<Me>,
    life: u64,
    now: u64,
    fenced: bool,
    table: Table,
    snapshot: Vec<u8>,
    has_table: bool,
    store: Store,
    groups: BTreeMap<GroupId, (u64, Group)>,
    next_group: u64,
    requests: BTreeMap<ReqId, Pending>,
    store_waits: BTreeMap<u64, StoreFor>,
    next_token: u64,
    next_vid: u64,
    peers: BTreeMap<NodeId, u64>,
}

impl FileCore {
    /// A file server on an opened store. `life` differs between starts of the server (the clock will do).
    pub fn new(store: Store, life: u64) -> FileCore {
        FileCore {
            me: None,
            life,
            now: life,
            fenced: false,
            table: Table::new(),
            snapshot: Vec::new(),
            has_table: false,
            store,
            groups: BTreeMap::new(),
            next_group: 0,
            requests: BTreeMap::new(),
            store_waits: BTreeMap::new(),
            next_token: 1,
            next_vid: 0,
            peers: BTreeMap::new(),
        }
    }

    /// The directory's table as this node has seen it.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The local store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Requests under way; beyond [`MAX_REQUESTS`] the shell must refuse new ones as busy.
    pub fn pending(&self) -> usize {
        self.requests.len()
    }

    /// Takes one event at time `now` (nanoseconds, never going back); what is to be done is appended to `out`.
    pub fn step(&mut self, now: u64, event: Event, out: &mut Vec<Action>) {
        self.now = self.now.max(now);
        match event {
            Event::Port(record) => self.on_port(record, out),
            Event::Client { id, op } => self.on_client(ReqId::Local(id), op, out),
            Event::Io { id, result } => {
                let mut queue = VecDeque::from([smi_store::Event::Io { id, result }]);
                self.run_store(&mut queue, out);
                // What waited for room in a group's window may go on now.
                self.review(out);
            }
            Event::Tick => self.on_tick(out),
        }
    }

    // ---- the manager's records ----

    fn on_port(&mut self, record: ToServer, out: &mut Vec<Action>) {
        match record {
            ToServer::Hello { node, incarnation } => {
                self.me = Some(Me { node, boot: incarnation });
                self.refresh(out);
            }
            ToServer::Snapshot { more, bytes, .. } => {
                self.snapshot.extend_from_slice(bytes);
                if !more {
                    let bytes = core::mem::take(&mut self.snapshot);
                    if let Ok(table) = Table::decode(&bytes) {
                        self.table = table;
                        self.has_table = true;
                        self.refresh(out);
                    }
                }
            }
            ToServer::Committed { op_number, bytes } => {
                if self.has_table
                    && op_number == self.table.op_number() + 1
                    && let Ok(op) = Op::decode(bytes)
                {
                    // A refused operation changes nothing but its number.
                    let _ = self.table.apply(&op);
                    self.refresh(out);
                }
            }
            ToServer::Proposed { token, bytes } => {
                if let Ok(result) = decode_proposed(bytes) {
                    self.on_proposed(token, result, out);
                }
            }
            ToServer::Peer { from, bytes, .. } => {
                if let Some(message) = Message::decode(bytes) {
                    self.on_message(from, message, out);
                }
            }
            ToServer::PeerUp { node, .. } => {
                self.peers.remove(&node);
                self.send(node, &Message::Hello { life: self.life, answer: true }, out);
                self.peer_reset(node, out);
            }
            ToServer::PeerDown { node } => {
                self.peers.remove(&node);
                self.peer_lost(node, out);
            }
            ToServer::Fenced { fenced } => {
                self.fenced = fenced;
                self.review(out);
            }
            // Files are not reached through exported interfaces.
            ToServer::Call { .. } => {}
        }
    }

    fn send(&self, to: NodeId, message: &Message, out: &mut Vec<Action>) {
        out.push(Action::Send { to, lane: Lane::Log, bytes: message.encode() });
    }

    /// Whether the table speaks of this life of this node.
    fn is_current(&self) -> bool {
        let Some(me) = &self.me else { return false };
        self.has_table && self.table.is_up(me.node) && self.table.node(me.node).is_some_and(|n| n.boot == me.boot)
    }

    /// The table has changed: enter, follow and leave groups, then look at waiting requests again.
    fn refresh(&mut self, out: &mut Vec<Action>) {
        let Some(node) = self.me.as_ref().filter(|_| self.is_current()).map(|me| me.node) else { return };
        let left: Vec<GroupId> =
            self.groups.keys().filter(|g| self.table.group(**g).is_none_or(|r| !r.involves(node))).copied().collect();
        for id in left {
            if let Some((_, mut group)) = self.groups.remove(&id) {
                self.requeue(group.take_requests());
            }
        }
        let mine: Vec<GroupId> = self.table.groups_of(node).map(|(id, _)| id).collect();
        for id in mine {
            let known = self.groups.contains_key(&id);
            if !known {
                self.enter(id, out);
            } else {
                let term = self.groups.get(&id).map(|(_, g)| g.term());
                self.with_group(id, out, |group, record, ctx| {
                    group.follow(record, ctx);
                    group.collect(ctx);
                });
                // Whoever was bound to the old primary must not have its requests done by the new one.
                if let Some((_, group)) = self.groups.get_mut(&id)
                    && Some(group.term()) != term
                {
                    let requests = group.take_requests();
                    self.requeue(requests);
                }
            }
        }
        self.drop_stale_copies(node, out);
        self.review(out);
    }

    fn enter(&mut self, id: GroupId, out: &mut Vec<Action>) {
        let (Some(me), Some(record)) = (&self.me, self.table.group(id)) else { return };
        let mut wants = Vec::new();
        let mut ctx = Ctx { me: me.node, now: self.now, table: &self.table, store: &self.store, wants: &mut wants };
        let group = Group::enter(id, record, &mut ctx);
        self.next_group += 1;
        self.groups.insert(id, (self.next_group, group));
        self.carry_out(id, wants, out);
    }

    /// Runs `f` on a group with its record and surroundings, then does what it wants.
    fn with_group(
        &mut self,
        id: GroupId,
        out: &mut Vec<Action>,
        f: impl FnOnce(&mut Group, &smi_core::table::GroupRecord, &mut Ctx),
    ) {
        let mut wants = Vec::new();
        if let (Some(me), Some((_, group)), Some(record)) = (&self.me, self.groups.get_mut(&id), self.table.group(id)) {
            let mut ctx = Ctx { me: me.node, now: self.now, table: &self.table, store: &self.store, wants: &mut wants };
            f(group, record, &mut ctx);
        }
        self.carry_out(id, wants, out);
    }

    /// Deletes copies of groups that live elsewhere now. A group that lost all members keeps its last holder's copy.
    fn drop_stale_copies(&mut self, node: NodeId, out: &mut Vec<Action>) {
        let mut stale: Vec<u32> = self.store.objects().map(|(_, info)| info.attr.group).collect();
        stale.dedup();
        stale.sort_unstable();
        stale.dedup();
        stale.retain(|g| match self.table.group(GroupId(*g)) {
            None => true,
            Some(record) => !record.involves(node) && !record.members.is_empty(),
        });
        for group in stale {
            for step in objects_of(&self.store, GroupId(group)).chunks(500) {
                let ops = step.iter().map(|vid| Mutation::Delete { vid: *vid }).collect();
                let token = self.token(StoreFor::Nothing);
                self.run_store(&mut VecDeque::from([smi_store::Event::Commit { token, ops }]), out);
            }
        }
    }

    // ---- what groups want ----

    fn carry_out(&mut self, id: GroupId, wants: Vec<Want>, out: &mut Vec<Action>) {
        let mut queue = VecDeque::new();
        self.carry_out_into(id, wants, &mut queue, out);
        self.run_store(&mut queue, out);
    }

    fn carry_out_into(
        &mut self,
        id: GroupId,
        wants: Vec<Want>,
        queue: &mut VecDeque<smi_store::Event>,
        out: &mut Vec<Action>,
    ) {
        let Some((life, epoch)) = self.groups.get(&id).map(|(life, g)| (*life, g.epoch())) else { return };
        for want in wants {
            match want {
                Want::Send(to, body) => self.send(to, &Message::Group { group: id, epoch, body }, out),
                Want::Commit(what, ops) => {
                    let token = self.token(StoreFor::Group(id, life, what));
                    queue.push_back(smi_store::Event::Commit { token, ops });
                }
                Want::FeedRead(vid, offset, len) => {
                    let token = self.token(StoreFor::Feed(id, life, vid, offset));
                    queue.push_back(smi_store::Event::Read { token, vid, offset, len });
                }
                Want::ClientRead(req) => self.start_read(req, queue, out),
                Want::Answer(req, result) => self.finish(req, result, out),
                Want::Propose(op) => {
                    let token = self.next_token;
                    self.next_token += 1;
                    out.push(Action::Propose { token, op });
                }
            }
        }
    }

    fn token(&mut self, what: StoreFor) -> u64 {
        let token = self.next_token;
        self.next_token += 1;
        self.store_waits.insert(token, what);
        token
    }

    /// Feeds events to the store until nothing more follows from them.
    fn run_store(&mut self, queue: &mut VecDeque<smi_store::Event>, out: &mut Vec<Action>) {
        while let Some(event) = queue.pop_front() {
            let mut actions = Vec::new();
            self.store.step(event, &mut actions);
            for action in actions {
                match action {
                    smi_store::Action::Io { id, kind } => out.push(Action::Io { id, kind }),
                    smi_store::Action::Committed { token, result } => self.on_committed(token, result, queue, out),
                    smi_store::Action::ReadDone { token, result } => self.on_read_done(token, result, queue, out),
                }
            }
        }
    }

    fn on_committed(
        &mut self,
        token: u64,
        result: Result<(), StoreError>,
        queue: &mut VecDeque<smi_store::Event>,
        out: &mut Vec<Action>,
    ) {
        if let Some(StoreFor::Group(id, life, what)) = self.store_waits.remove(&token) {
            self.group_event(id, life, queue, out, |group, ctx| group.committed(what, result, ctx));
        }
    }

    fn on_read_done(
        &mut self,
        token: u64,
        result: Result<Vec<u8>, StoreError>,
        queue: &mut VecDeque<smi_store::Event>,
        out: &mut Vec<Action>,
    ) {
        match self.store_waits.remove(&token) {
            Some(StoreFor::Feed(id, life, vid, offset)) => {
                self.group_event(id, life, queue, out, |group, ctx| group.feed_read(vid, offset, result, ctx));
            }
            Some(StoreFor::Client(req)) => {
                let result = match result {
                    Ok(bytes) => Ok(Response::Bytes(bytes)),
                    // Known to the directory, never written: empty.
                    Err(StoreError::NotFound) => Ok(Response::Bytes(Vec::new())),
                    Err(StoreError::Corrupt) => Err(FileError::Corrupt),
                    Err(StoreError::TooLarge) => Err(FileError::TooLarge),
                    Err(_) => Err(FileError::Device),
                };
                self.finish(req, result, out);
            }
            _ => {}
        }
    }

    fn group_event(
        &mut self,
        id: GroupId,
        life: u64,
        queue: &mut VecDeque<smi_store::Event>,
        out: &mut Vec<Action>,
        f: impl FnOnce(&mut Group, &mut Ctx),
    ) {
        let mut wants = Vec::new();
        if let (Some(me), Some((current, group))) = (&self.me, self.groups.get_mut(&id))
            && *current == life
        {
            let mut ctx = Ctx { me: me.node, now: self.now, table: &self.table, store: &self.store, wants: &mut wants };
            f(group, &mut ctx);
        }
        self.carry_out_into(id, wants, queue, out);
    }

    // ---- peers ----

    fn on_message(&mut self, from: NodeId, message: Message, out: &mut Vec<Action>) {
        match message {
            Message::Hello { life, answer } => {
                if answer {
                    self.send(from, &Message::Hello { life: self.life, answer: false }, out);
                }
                if self.peers.insert(from, life).is_some_and(|before| before != life) {
                    self.peer_lost(from, out);
                    self.peer_reset(from, out);
                }
            }
            Message::Group { group, epoch, body } => {
                self.with_group(group, out, |group, _, ctx| group.on_body(from, epoch, body, ctx));
            }
            Message::Forward { id, request } => {
                let op = ClientOp::File { request, term: 0 };
                self.on_client(ReqId::Remote(from, id), op, out);
            }
            Message::Answer { id, result } => self.on_answer(from, id, result, out),
        }
    }

    fn peer_reset(&mut self, node: NodeId, out: &mut Vec<Action>) {
        let ids: Vec<GroupId> = self.groups.keys().copied().collect();
        for id in ids {
            self.with_group(id, out, |group, _, ctx| group.peer_reset(node, ctx));
        }
    }

    /// Requests that a peer has forwarded are its own again; those forwarded to it are to be tried again.
    fn peer_lost(&mut self, node: NodeId, out: &mut Vec<Action>) {
        self.requests.retain(|req, _| !matches!(req, ReqId::Remote(from, _) if *from == node));
        for pending in self.requests.values_mut() {
            if matches!(pending.state, State::Forwarded { to, .. } if to == node) {
                pending.state = State::Idle;
            }
        }
        self.review(out);
    }

    fn on_answer(&mut self, from: NodeId, id: u64, result: Option<Result<Response, FileError>>, out: &mut Vec<Action>) {
        let req = ReqId::Local(id);
        let Some(pending) = self.requests.get_mut(&req) else { return };
        if !matches!(pending.state, State::Forwarded { to, .. } if to == from) {
            return;
        }
        match result {
            Some(result) => self.finish(req, result, out),
            // Not the primary (yet, or any more): the table will change, or the next tick tries again.
            None => pending.state = State::Forwarded { to: from, at: self.now },
        }
    }

    // ---- requests ----

    fn on_client(&mut self, req: ReqId, op: ClientOp, out: &mut Vec<Action>) {
        if self.requests.len() >= MAX_REQUESTS || self.requests.contains_key(&req) {
            return;
        }
        let pending = Pending { op, deadline: self.now + DEADLINE, state: State::Idle, synced: false, vid: None };
        self.requests.insert(req, pending);
        self.consider(req, out);
    }

    fn requeue(&mut self, requests: Vec<ReqId>) {
        for req in requests {
            if let Some(pending) = self.requests.get_mut(&req) {
                pending.state = State::Idle;
            }
        }
    }

    /// Looks at all idle requests again.
    fn review(&mut self, out: &mut Vec<Action>) {
        let idle: Vec<ReqId> =
            self.requests.iter().filter(|(_, p)| matches!(p.state, State::Idle)).map(|(req, _)| *req).collect();
        for req in idle {
            self.consider(req, out);
        }
    }

    fn finish(&mut self, req: ReqId, result: Result<Response, FileError>, out: &mut Vec<Action>) {
        if self.requests.remove(&req).is_none() {
            return;
        }
        match req {
            ReqId::Local(id) => out.push(Action::Reply { id, result }),
            ReqId::Remote(node, id) => self.send(node, &Message::Answer { id, result: Some(result) }, out),
        }
    }

    /// Moves an idle request on, as far as the table allows now.
    fn consider(&mut self, req: ReqId, out: &mut Vec<Action>) {
        if !self.is_current() || self.fenced {
            return;
        }
        let Some(pending) = self.requests.get(&req) else { return };
        match pending.op.clone() {
            ClientOp::File { request, term } => self.consider_file(req, request, term, out),
            ClientOp::Open { name, bound } => self.consider_open(req, &name, bound, out),
            ClientOp::Create { name, group } => {
                let vid = pending.vid.unwrap_or_else(|| self.new_vid());
                self.ask_directory(
                    req,
                    Op::Create { vid, kind: Kind::File, group: Some(group), name: Some(name) },
                    out,
                );
                self.remember_vid(req, Some(vid));
            }
            ClientOp::Remove { name } => match self.file_named(&name) {
                Some(vid) => self.ask_directory(req, Op::Delete { vid }, out),
                None => self.sync_or_fail(req, FileError::NotFound, out),
            },
            ClientOp::Rename { from, to } => {
                let vid = pending.vid.or_else(|| self.file_named(&from));
                self.ask_directory(req, Op::Rename { from, to }, out);
                self.remember_vid(req, vid);
            }
        }
    }

    /// Keeps what a proposal is about, so that a repetition of one that did happen is recognised.
    fn remember_vid(&mut self, req: ReqId, vid: Option<Vid>) {
        if let Some(pending) = self.requests.get_mut(&req) {
            pending.vid = vid;
        }
    }

    fn new_vid(&mut self) -> Vid {
        let node = self.me.as_ref().map_or(NodeId(0), |me| me.node);
        self.next_vid += 1;
        // The server's life tells apart the counters of its starts: its low half counts in this start only.
        Vid(Vid::new(node, 0, self.next_vid).0 | ((self.life as u128 & 0xffff_ffff_ffff) << 32))
    }

    fn file_named(&self, name: &Name) -> Option<Vid> {
        let vid = self.table.lookup(name.as_str())?;
        self.table.vid(vid).filter(|v| v.kind == Kind::File).map(|_| vid)
    }

    fn ask_directory(&mut self, req: ReqId, op: Op, out: &mut Vec<Action>) {
        let token = self.next_token;
        self.next_token += 1;
        if let Some(pending) = self.requests.get_mut(&req) {
            pending.state = State::Proposed { token, at: self.now };
            out.push(Action::Propose { token, op });
        }
    }

    /// What this node's table says may be old: fail only once the directory has confirmed it.
    fn sync_or_fail(&mut self, req: ReqId, error: FileError, out: &mut Vec<Action>) {
        match self.requests.get(&req) {
            Some(pending) if pending.synced => return self.finish(req, Err(error), out),
            Some(_) => self.ask_directory(req, Op::Noop, out),
            None => return,
        }
        if let Some(pending) = self.requests.get_mut(&req)
            && let State::Proposed { token, at } = pending.state
        {
            pending.state = State::Syncing { token, at };
        }
    }

    fn primary_term(&self, group: GroupId) -> Option<u64> {
        let me = self.me.as_ref()?.node;
        self.groups.get(&group).map(|(_, g)| g).filter(|g| g.is_primary(me)).map(Group::term)
    }

    fn consider_open(&mut self, req: ReqId, name: &Name, bound: bool, out: &mut Vec<Action>) {
        let Some(vid) = self.file_named(name) else { return self.sync_or_fail(req, FileError::NotFound, out) };
        let group = self.table.vid(vid).and_then(|v| v.group);
        match group.and_then(|g| self.primary_term(g)) {
            Some(term) => self.finish(req, Ok(Response::File { vid, term }), out),
            None if bound => self.sync_or_fail(req, FileError::Fenced, out),
            None => self.finish(req, Ok(Response::File { vid, term: 0 }), out),
        }
    }

    fn consider_file(&mut self, req: ReqId, request: Request, term: u64, out: &mut Vec<Action>) {
        let vid = request.vid();
        let record = self.table.vid(vid).filter(|v| v.kind == Kind::File);
        let Some(group) = record.and_then(|v| v.group) else {
            return self.sync_or_fail(req, FileError::NotFound, out);
        };
        let here = self.primary_term(group);
        if term != 0 && here != Some(term) {
            return self.finish(req, Err(FileError::Fenced), out);
        }
        if here.is_some() {
            return self.at_group(req, group, request, out);
        }
        match (req, self.table.group(group).and_then(|g| g.primary())) {
            (ReqId::Remote(node, id), _) => {
                self.requests.remove(&req);
                self.send(node, &Message::Answer { id, result: None }, out);
            }
            (ReqId::Local(id), Some(to)) if self.me.as_ref().is_some_and(|me| me.node != to) => {
                if let Some(pending) = self.requests.get_mut(&req) {
                    pending.state = State::Forwarded { to, at: self.now };
                }
                self.send(to, &Message::Forward { id, request }, out);
            }
            // All replicas are lost for now, or this node has yet to enter the group: wait.
            _ => {}
        }
    }

    /// This node is the primary: check, then do.
    fn at_group(&mut self, req: ReqId, group: GroupId, request: Request, out: &mut Vec<Action>) {
        let ops = match self.check(&request) {
            Err(error) => return self.finish(req, Err(error), out),
            Ok(None) => None,
            Ok(Some(op)) => Some(with_ensure(group, op)),
        };
        if ops.is_some() && !self.groups.get(&group).is_some_and(|(_, g)| g.has_room()) {
            return; // stays idle; the next commit or tick looks again
        }
        if let Some(pending) = self.requests.get_mut(&req) {
            pending.state = State::AtGroup;
        }
        self.with_group(group, out, |group, _, ctx| match ops {
            Some(ops) => group.submit(ops, req, ctx),
            None => group.read(req, ctx),
        });
    }

    /// The mutation that a request is, if it is one; or why it cannot be done.
    fn check(&self, request: &Request) -> Result<Option<Mutation>, FileError> {
        if self.store.is_dead() {
            return Err(FileError::Device);
        }
        match request {
            Request::Size { .. } => Ok(None),
            Request::Read { len, .. } if *len as usize > MAX_WRITE => Err(FileError::TooLarge),
            Request::Read { .. } => Ok(None),
            Request::Write { vid, offset, bytes } => {
                let end = offset.checked_add(bytes.len() as u64).ok_or(FileError::TooLarge)?;
                if bytes.len() > MAX_WRITE || end > MAX_OBJECT {
                    return Err(FileError::TooLarge);
                }
                if self.store.space().0 < RESERVE + bytes.len() as u64 {
                    return Err(FileError::NoSpace);
                }
                Ok(Some(Mutation::Write { vid: *vid, offset: *offset, bytes: bytes.clone() }))
            }
            Request::Truncate { len, .. } if *len > MAX_OBJECT => Err(FileError::TooLarge),
            Request::Truncate { vid, len } => Ok(Some(Mutation::SetLen { vid: *vid, len: *len })),
        }
    }

    /// All changes before a read are committed: read.
    fn start_read(&mut self, req: ReqId, queue: &mut VecDeque<smi_store::Event>, out: &mut Vec<Action>) {
        let Some(pending) = self.requests.get_mut(&req) else { return };
        let ClientOp::File { request, .. } = &pending.op else { return };
        match *request {
            Request::Read { vid, offset, len } => {
                pending.state = State::Reading;
                let token = self.token(StoreFor::Client(req));
                queue.push_back(smi_store::Event::Read { token, vid, offset, len });
            }
            Request::Size { vid } => {
                let len = self.store.info(vid).map_or(0, |o| o.len);
                self.finish(req, Ok(Response::Size(len)), out);
            }
            Request::Write { .. } | Request::Truncate { .. } => {}
        }
    }

    fn on_proposed(&mut self, token: u64, result: Proposed, out: &mut Vec<Action>) {
        let found = self
            .requests
            .iter()
            .find(|(_, p)| matches!(p.state, State::Proposed { token: t, .. } | State::Syncing { token: t, .. } if t == token))
            .map(|(req, _)| *req);
        let Some(req) = found else { return };
        let Some(pending) = self.requests.get_mut(&req) else { return };
        let outcome = match result {
            // Not known to have happened. Asked again at a later tick, until the deadline.
            Err(ProposeError::NoQuorum | ProposeError::Busy) => {
                pending.state = State::Proposed { token: 0, at: self.now };
                return;
            }
            Err(ProposeError::Refused(OpError::Exists)) => Err(FileError::Exists),
            Err(ProposeError::Refused(OpError::NotFound)) => Err(FileError::NotFound),
            Err(ProposeError::Refused(_)) => Err(FileError::Refused),
            Ok(_) => Ok(()),
        };
        if matches!(pending.state, State::Syncing { .. }) {
            pending.synced = true;
            pending.state = State::Idle;
            return self.consider(req, out);
        }
        match (&pending.op, outcome) {
            (ClientOp::Create { group, .. }, outcome) => {
                let (group, vid) = (*group, pending.vid.unwrap_or(Vid(0)));
                let happened = outcome.is_ok() || (outcome == Err(FileError::Exists) && self.table.vid(vid).is_some());
                let term = self.primary_term(group).unwrap_or(0);
                let result = if happened { Ok(Response::File { vid, term }) } else { outcome.map(|()| Response::Done) };
                self.finish(req, result, out);
            }
            (ClientOp::Rename { to, .. }, outcome) => {
                let named = self.table.lookup(to.as_str());
                let happened = outcome == Err(FileError::NotFound) && pending.vid.is_some() && pending.vid == named;
                let outcome = if happened { Ok(()) } else { outcome };
                self.finish(req, outcome.map(|()| Response::Done), out);
            }
            (ClientOp::Remove { .. }, outcome) => self.finish(req, outcome.map(|()| Response::Done), out),
            // These only ever sync.
            (ClientOp::Open { .. } | ClientOp::File { .. }, _) => {}
        }
    }

    // ---- time ----

    fn on_tick(&mut self, out: &mut Vec<Action>) {
        let now = self.now;
        let late: Vec<ReqId> = self.requests.iter().filter(|(_, p)| p.deadline <= now).map(|(req, _)| *req).collect();
        for req in late {
            self.finish(req, Err(FileError::Deadline), out);
        }
        for pending in self.requests.values_mut() {
            if let State::Forwarded { at, .. } | State::Proposed { at, .. } | State::Syncing { at, .. } = pending.state
                && now.saturating_sub(at) > RETRY
            {
                pending.state = State::Idle;
            }
        }
        let ids: Vec<GroupId> = self.groups.keys().copied().collect();
        for id in ids {
            self.with_group(id, out, |group, _, ctx| group.tick(ctx));
        }
        self.review(out);
    }
}
