//! One failover group on one node: its place in the chain, the operations under way, and feeding or being fed.
//!
//! Numbers, each at most the one before: `received` (taken in, in order) >= `next` (given to the store and passed on) >= `durable` (in the store)
//! and `next` >= `done` (acknowledged upwards, or answered by the primary). The window holds everything above the least of what the successor
//! and the joining node have acknowledged, so whatever they miss can be sent again.

use crate::proto::{Body, FEED_BYTES, FileError, Response};
use crate::server::ReqId;
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use smi_cluster::{Epoch, GroupId, NodeId, Vid};
use smi_core::table::{GroupRecord, Op, Table};
use smi_store::{Attr, Mutation, Store, StoreError};

/// Operations that may be under way in a group.
const MAX_WINDOW: u64 = 512;
/// A feed whose target falls this many operations behind is given up; the target starts again.
const MAX_BEHIND: usize = 4096;
/// A joining node that hears nothing for this long asks again, in nanoseconds.
const JOIN_PATIENCE: u64 = 5_000_000_000;
/// How often an unanswered proposal is repeated, in nanoseconds.
const PROPOSE_AGAIN: u64 = 1_000_000_000;
/// Objects deleted in one commit when old copies are wiped.
const WIPE_STEP: usize = 500;
/// `Attr::kind` of a group's own record, and of files.
const KIND_GROUP: u32 = 1;
pub const KIND_FILE: u32 = 2;

/// The object in which a node keeps how far it is in a group. Node 0 creates no VIDs, so no file has such a name.
fn group_record(group: GroupId) -> Vid {
    Vid(group.0 as u128)
}

/// What a commit to the store is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommitFor {
    /// Operation `n`.
    Op(u64),
    /// A step of being fed.
    Piece(u64),
    /// Wiping old copies.
    Wipe,
    /// Deleting what is no longer wanted.
    Garbage,
}

/// What a group wants done.
pub enum Want {
    Send(NodeId, Body),
    Commit(CommitFor, Vec<Mutation>),
    /// Read for the feed.
    FeedRead(Vid, u64, u32),
    /// Read for a client, now that all changes before it are committed.
    ClientRead(ReqId),
    Answer(ReqId, Result<Response, FileError>),
    Propose(Op),
}

/// What a group sees of its surroundings.
pub struct Ctx<'a> {
    pub me: NodeId,
    pub now: u64,
    pub table: &'a Table,
    pub store: &'a Store,
    pub wants: &'a mut Vec<Want>,
}

struct Entry {
    n: u64,
    table_op: u64,
    ops: Vec<Mutation>,
    req: Option<ReqId>,
}

/// Received, but not to be acted on yet.
enum Held {
    Op(Entry),
    Piece { step: u64, table_op: u64, vid: Vid, offset: u64, bytes: Vec<u8>, len: Option<u64> },
    End { step: u64 },
}

enum FeedPhase {
    /// New operations wait until all earlier ones are durable.
    Drain,
    /// A piece is being read from the store.
    Read,
    /// The target has not confirmed the last step yet.
    Await,
    /// Everything is over there; from now on nothing is acknowledged without the target.
    CatchUp,
    /// `Synced` is proposed.
    Proposed { at: u64 },
}

/// Bringing a joining node up to date; only the chain's last member does.
struct Feed {
    node: NodeId,
    started: bool,
    phase: FeedPhase,
    step: u64,
    /// Operations that the target has confirmed.
    acked: u64,
    todo: VecDeque<Vid>,
    cursor: Option<(Vid, u64)>,
    last: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Member,
    /// Deleting old copies before being fed.
    Wiping,
    /// Waiting for the feed's base.
    Asking,
    /// Being fed.
    Fed,
}

/// A group in which this node is a member or joining.
pub struct Group {
    id: GroupId,
    epoch: Epoch,
    members: Vec<NodeId>,
    joining: Option<NodeId>,
    /// Epoch since which the present primary is it, as far as this node has seen.
    term: Epoch,
    role: Role,
    received: u64,
    next: u64,
    durable: u64,
    acked: u64,
    done: u64,
    window: VecDeque<Entry>,
    /// Up to where the successor has been sent operations; `None` until it has said where it is.
    successor_at: Option<u64>,
    held: VecDeque<Held>,
    holding: bool,
    feed: Option<Feed>,
    heard: u64,
    wiping: usize,
    reads: VecDeque<(u64, ReqId)>,
    /// Messages of an epoch that this node has not seen yet: the last of each peer.
    early: Vec<(NodeId, Epoch, Body)>,
    /// The local store failed an operation: nothing is acknowledged any more.
    broken: Option<u64>,
}

impl Group {
    /// Enters a group that the table says this node is in.
    pub fn enter(id: GroupId, record: &GroupRecord, ctx: &mut Ctx) -> Group {
        let n = ctx.store.info(group_record(id)).map_or(0, |o| o.attr.words[1]);
        let mut group = Group {
            id,
            epoch: record.epoch,
            members: record.members.clone(),
            joining: record.joining,
            term: record.epoch,
            role: Role::Member,
            received: n,
            next: n,
            durable: n,
            acked: 0,
            done: 0,
            window: VecDeque::new(),
            successor_at: None,
            held: VecDeque::new(),
            holding: false,
            feed: None,
            heard: ctx.now,
            wiping: 0,
            reads: VecDeque::new(),
            early: Vec::new(),
            broken: None,
        };
        group.take_place(ctx);
        group
    }

    /// Whether this node is the primary.
    pub fn is_primary(&self, me: NodeId) -> bool {
        self.members.first() == Some(&me)
    }

    /// The primary's term, as this node counts it.
    pub fn term(&self) -> u64 {
        self.term.0
    }

    /// The epoch.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The table has changed. Returns false if this node is no longer in the group.
    pub fn follow(&mut self, record: &GroupRecord, ctx: &mut Ctx) -> bool {
        if !record.involves(ctx.me) {
            return false;
        }
        if record.epoch != self.epoch {
            let was_primary = self.members.first().copied();
            self.epoch = record.epoch;
            self.members = record.members.clone();
            self.joining = record.joining;
            if self.members.first().copied() != was_primary {
                self.term = record.epoch;
            }
            self.take_place(ctx);
        }
        self.pump(ctx);
        true
    }

    /// A new epoch: find out where neighbours are.
    fn take_place(&mut self, ctx: &mut Ctx) {
        self.successor_at = None;
        self.stop_feed();
        if self.joining == Some(ctx.me) {
            self.begin_join(ctx);
        } else if self.role == Role::Member || self.role == Role::Fed {
            self.role = Role::Member;
            self.report(ctx);
            // Whichever of two neighbours sees the epoch later speaks to one that has seen it.
            if let Some(down) = self.successor(ctx.me) {
                self.send(down, Body::Where, ctx);
            }
        } else {
            // A member that never finished joining cannot be: the directory makes members only of nodes that were fed.
            self.expel(ctx.me, ctx);
        }
        let early = core::mem::take(&mut self.early);
        for (from, epoch, body) in early {
            self.on_body(from, epoch, body, ctx);
        }
        self.advance(ctx);
    }

    fn place(&self, node: NodeId) -> Option<usize> {
        self.members.iter().position(|m| *m == node)
    }

    fn predecessor(&self, me: NodeId) -> Option<NodeId> {
        self.place(me).filter(|p| *p > 0).map(|p| self.members[p - 1])
    }

    fn successor(&self, me: NodeId) -> Option<NodeId> {
        self.place(me).and_then(|p| self.members.get(p + 1)).copied()
    }

    fn send(&self, to: NodeId, body: Body, ctx: &mut Ctx) {
        ctx.wants.push(Want::Send(to, body));
    }

    /// Tells the predecessor where this node is.
    fn report(&mut self, ctx: &mut Ctx) {
        if let Some(up) = self.predecessor(ctx.me) {
            self.send(up, Body::Position { received: self.received }, ctx);
            self.send(up, Body::Ack { n: self.done }, ctx);
        }
    }

    fn expel(&mut self, node: NodeId, ctx: &mut Ctx) {
        ctx.wants.push(Want::Propose(Op::Expel { group: self.id, epoch: self.epoch, node }));
    }

    /// A peer's file server or the session with it started anew: what was in flight is lost.
    pub fn peer_reset(&mut self, peer: NodeId, ctx: &mut Ctx) {
        if self.predecessor(ctx.me) == Some(peer) {
            self.report(ctx);
        }
        if self.successor(ctx.me) == Some(peer) {
            self.successor_at = None;
        }
        if self.feed.as_ref().is_some_and(|f| f.node == peer) {
            self.stop_feed();
            self.pump(ctx);
        }
        if self.role != Role::Member && self.members.last() == Some(&peer) {
            self.begin_join(ctx);
        }
    }

    /// Time passes.
    pub fn tick(&mut self, ctx: &mut Ctx) {
        if matches!(self.role, Role::Asking | Role::Fed) && ctx.now.saturating_sub(self.heard) > JOIN_PATIENCE {
            self.begin_join(ctx);
        }
        if let Some(Feed { node, phase: FeedPhase::Proposed { at }, .. }) = &mut self.feed
            && ctx.now.saturating_sub(*at) > PROPOSE_AGAIN
        {
            *at = ctx.now;
            let op = Op::Synced { group: self.id, epoch: self.epoch, node: *node };
            ctx.wants.push(Want::Propose(op));
        }
        if let Some(at) = &mut self.broken
            && ctx.now.saturating_sub(*at) > PROPOSE_AGAIN
        {
            *at = ctx.now;
            self.expel(ctx.me, ctx);
        }
    }

    // ---- clients (primary) ----

    /// Whether the primary can take another operation now.
    pub fn has_room(&self) -> bool {
        self.received - self.done < MAX_WINDOW
    }

    /// The primary takes in a change.
    pub fn submit(&mut self, ops: Vec<Mutation>, req: ReqId, ctx: &mut Ctx) {
        self.received += 1;
        let entry = Entry { n: self.received, table_op: ctx.table.op_number(), ops, req: Some(req) };
        self.held.push_back(Held::Op(entry));
        self.pump(ctx);
    }

    /// The primary lets a read go once everything taken in before it is committed.
    pub fn read(&mut self, req: ReqId, ctx: &mut Ctx) {
        self.reads.push_back((self.received, req));
        self.release_reads(ctx);
    }

    fn release_reads(&mut self, ctx: &mut Ctx) {
        while self.reads.front().is_some_and(|(after, _)| *after <= self.done) {
            if let Some((_, req)) = self.reads.pop_front() {
                ctx.wants.push(Want::ClientRead(req));
            }
        }
    }

    /// Requests that wait here, when the group is left or served elsewhere.
    pub fn take_requests(&mut self) -> Vec<ReqId> {
        let mut all: Vec<ReqId> = self.window.iter_mut().filter_map(|e| e.req.take()).collect();
        for held in &mut self.held {
            if let Held::Op(entry) = held {
                all.extend(entry.req.take());
            }
        }
        all.extend(self.reads.drain(..).map(|(_, req)| req));
        all
    }

    // ---- the stream of operations ----

    /// Acts on what is held, as far as that is right now.
    fn pump(&mut self, ctx: &mut Ctx) {
        while !self.holding {
            let ready = match self.held.front() {
                Some(Held::Op(Entry { table_op, .. }) | Held::Piece { table_op, .. }) => {
                    *table_op <= ctx.table.op_number()
                }
                Some(Held::End { .. }) => true,
                None => false,
            };
            if !ready {
                break;
            }
            match self.held.pop_front() {
                Some(Held::Op(entry)) => self.accept(entry, ctx),
                Some(Held::Piece { step, vid, offset, bytes, len, .. }) => {
                    self.store_piece(step, vid, offset, bytes, len, ctx)
                }
                Some(Held::End { step }) => self.store_end(step, ctx),
                None => break,
            }
        }
        self.drive_feed(ctx);
    }

    /// Gives an operation to the store and passes it on.
    fn accept(&mut self, entry: Entry, ctx: &mut Ctx) {
        assert_eq!(entry.n, self.next + 1, "operations are taken in order");
        self.next = entry.n;
        // A file that the directory has deleted meanwhile is gone here too, or about to be.
        let mut ops: Vec<Mutation> = entry.ops.iter().filter(|op| ctx.table.vid(op.vid()).is_some()).cloned().collect();
        ops.extend(self.record_progress(entry.n));
        ctx.wants.push(Want::Commit(CommitFor::Op(entry.n), ops));
        if let Some(feed) = self.feed.as_ref().filter(|f| f.started) {
            let body = Body::Append { n: entry.n, table_op: entry.table_op, ops: entry.ops.clone() };
            self.send(feed.node, body, ctx);
        }
        if self.role == Role::Member {
            self.window.push_back(entry);
            self.forward(ctx);
            if self.window.len() > MAX_BEHIND {
                self.stop_feed();
                self.trim();
            }
        }
    }

    /// Mutations that note that this node has operation `n`.
    fn record_progress(&self, n: u64) -> [Mutation; 2] {
        let vid = group_record(self.id);
        let attr = Attr { group: self.id.0, kind: KIND_GROUP, words: [self.epoch.0, n] };
        [Mutation::Ensure { vid, attr }, Mutation::SetAttr { vid, attr }]
    }

    /// Sends the successor what it does not have.
    fn forward(&mut self, ctx: &mut Ctx) {
        let (Some(to), Some(mut at)) = (self.successor(ctx.me), self.successor_at) else { return };
        let first = self.window.front().map_or(self.next + 1, |e| e.n);
        if at + 1 < first || at > self.next {
            // It misses what is no longer kept here, or it has what this node (restarted) has lost: it needs a new copy.
            self.successor_at = None;
            return self.expel(to, ctx);
        }
        while at < self.next {
            let entry = &self.window[(at + 1 - first) as usize];
            let body = Body::Append { n: entry.n, table_op: entry.table_op, ops: entry.ops.clone() };
            self.send(to, body, ctx);
            at += 1;
        }
        self.successor_at = Some(at);
    }

    /// Answers and acknowledges what has become committed.
    fn advance(&mut self, ctx: &mut Ctx) {
        if self.role != Role::Member || self.broken.is_some() {
            return;
        }
        let mut level = self.durable;
        if self.successor(ctx.me).is_some() {
            level = level.min(self.acked);
        }
        if let Some(feed) = self.feed.as_ref()
            && matches!(feed.phase, FeedPhase::CatchUp | FeedPhase::Proposed { .. })
        {
            level = level.min(feed.acked);
        }
        if level > self.done {
            for entry in self.window.iter_mut().filter(|e| e.n > self.done && e.n <= level) {
                if let Some(req) = entry.req.take() {
                    ctx.wants.push(Want::Answer(req, Ok(Response::Done)));
                }
            }
            self.done = level;
            if let Some(up) = self.predecessor(ctx.me) {
                self.send(up, Body::Ack { n: level }, ctx);
            }
        }
        self.trim();
        self.release_reads(ctx);
        self.drive_feed(ctx);
    }

    /// Forgets operations that nobody can miss any more.
    fn trim(&mut self) {
        let mut keep = self.done;
        if let Some(feed) = self.feed.as_ref().filter(|f| f.started) {
            keep = keep.min(feed.acked);
        }
        while self.window.front().is_some_and(|e| e.n <= keep) {
            self.window.pop_front();
        }
    }

    /// A commit to the store is done.
    pub fn committed(&mut self, what: CommitFor, result: Result<(), StoreError>, ctx: &mut Ctx) {
        match (what, result) {
            // The file was deleted between checking and storing: nothing of it is wanted.
            (CommitFor::Op(n), Ok(()) | Err(StoreError::NotFound)) => self.durable = self.durable.max(n),
            (CommitFor::Piece(step), Ok(()) | Err(StoreError::NotFound)) => {
                if self.role == Role::Fed
                    && let Some(tail) = self.members.last()
                {
                    self.send(*tail, Body::PieceDone { step }, ctx);
                }
            }
            (CommitFor::Wipe, Ok(())) => {
                self.wiping = self.wiping.saturating_sub(1);
                if self.wiping == 0 && self.role == Role::Wiping {
                    self.ask(ctx);
                }
            }
            (CommitFor::Garbage, _) => {}
            (_, Err(_)) => {
                // This copy is incomplete from now on. The others go on without it.
                self.broken = Some(ctx.now);
                self.expel(ctx.me, ctx);
                for req in self.take_requests() {
                    ctx.wants.push(Want::Answer(req, Err(FileError::Device)));
                }
            }
        }
        if self.role == Role::Fed
            && let (CommitFor::Op(_), Some(tail)) = (what, self.members.last())
        {
            self.send(*tail, Body::Ack { n: self.durable }, ctx);
        }
        self.advance(ctx);
    }

    // ---- messages ----

    /// A message from another member's file server.
    pub fn on_body(&mut self, from: NodeId, epoch: Epoch, body: Body, ctx: &mut Ctx) {
        if epoch > self.epoch {
            // The sender has seen an epoch that is still on its way to us. Only where it stands matters until then.
            if matches!(body, Body::Position { .. } | Body::Ready | Body::Ack { .. }) {
                let kind = core::mem::discriminant(&body);
                self.early.retain(|(f, _, b)| *f != from || core::mem::discriminant(b) != kind);
                self.early.push((from, epoch, body));
            }
            return;
        }
        if epoch < self.epoch {
            return;
        }
        let me = ctx.me;
        match body {
            Body::Where if self.role == Role::Member && self.predecessor(me) == Some(from) => self.report(ctx),
            Body::Position { received } if self.successor(me) == Some(from) => {
                self.successor_at = Some(received);
                self.forward(ctx);
            }
            Body::Ack { n } if self.successor(me) == Some(from) && n <= self.next => {
                self.acked = self.acked.max(n);
                self.advance(ctx);
            }
            Body::Ack { n } => {
                let next = self.next;
                if let Some(feed) = self.feed.as_mut().filter(|f| f.node == from && n <= next) {
                    feed.acked = feed.acked.max(n);
                    self.advance(ctx);
                }
            }
            Body::Append { n, table_op, ops } if self.accepts_from(from, me) => {
                self.heard = ctx.now;
                if n == self.received + 1 {
                    self.received = n;
                    self.held.push_back(Held::Op(Entry { n, table_op, ops, req: None }));
                    self.pump(ctx);
                }
            }
            Body::Ready if self.joining == Some(from) && self.members.last() == Some(&me) => self.start_feed(from, ctx),
            Body::PieceDone { step } => self.on_piece_done(from, step, ctx),
            Body::Base { n } if self.role == Role::Asking && self.members.last() == Some(&from) => {
                self.heard = ctx.now;
                self.role = Role::Fed;
                (self.received, self.next, self.durable, self.done, self.acked) = (n, n, n, n, n);
            }
            Body::Piece { step, table_op, vid, offset, bytes, len } if self.is_fed_by(from) => {
                self.heard = ctx.now;
                self.held.push_back(Held::Piece { step, table_op, vid, offset, bytes, len });
                self.pump(ctx);
            }
            Body::End { step } if self.is_fed_by(from) => {
                self.heard = ctx.now;
                self.held.push_back(Held::End { step });
                self.pump(ctx);
            }
            _ => {}
        }
    }

    fn is_fed_by(&self, from: NodeId) -> bool {
        self.role == Role::Fed && self.members.last() == Some(&from)
    }

    fn accepts_from(&self, from: NodeId, me: NodeId) -> bool {
        self.is_fed_by(from) || (self.role == Role::Member && self.predecessor(me) == Some(from))
    }

    // ---- joining ----

    /// Starts (again) to join: old copies go first, so that nothing of them survives.
    fn begin_join(&mut self, ctx: &mut Ctx) {
        if self.role == Role::Wiping {
            return;
        }
        self.role = Role::Wiping;
        self.held.clear();
        self.window.clear();
        self.broken = None;
        self.heard = ctx.now;
        let old = objects_of(ctx.store, self.id);
        self.wiping = old.chunks(WIPE_STEP).count();
        for step in old.chunks(WIPE_STEP) {
            let ops = step.iter().map(|vid| Mutation::Delete { vid: *vid }).collect();
            ctx.wants.push(Want::Commit(CommitFor::Wipe, ops));
        }
        if self.wiping == 0 {
            self.ask(ctx);
        }
    }

    fn ask(&mut self, ctx: &mut Ctx) {
        self.role = Role::Asking;
        self.heard = ctx.now;
        if let Some(tail) = self.members.last() {
            self.send(*tail, Body::Ready, ctx);
        }
    }

    fn store_piece(&mut self, step: u64, vid: Vid, offset: u64, bytes: Vec<u8>, len: Option<u64>, ctx: &mut Ctx) {
        let mut ops = Vec::new();
        if ctx.table.vid(vid).is_some() {
            let attr = file_attr(self.id);
            ops.push(Mutation::Ensure { vid, attr });
            // A piece of zeros is a hole: what is not there reads as zeros.
            if bytes.iter().any(|b| *b != 0) {
                ops.push(Mutation::Write { vid, offset, bytes });
            }
            ops.extend(len.map(|len| Mutation::SetLen { vid, len }));
        }
        ctx.wants.push(Want::Commit(CommitFor::Piece(step), ops));
    }

    fn store_end(&mut self, step: u64, ctx: &mut Ctx) {
        let ops = self.record_progress(self.next).to_vec();
        ctx.wants.push(Want::Commit(CommitFor::Piece(step), ops));
    }

    // ---- feeding ----

    fn start_feed(&mut self, node: NodeId, ctx: &mut Ctx) {
        self.stop_feed();
        self.holding = true;
        self.feed = Some(Feed {
            node,
            started: false,
            phase: FeedPhase::Drain,
            step: 0,
            acked: 0,
            todo: VecDeque::new(),
            cursor: None,
            last: false,
        });
        self.drive_feed(ctx);
    }

    fn stop_feed(&mut self) {
        self.feed = None;
        self.holding = false;
    }

    /// Takes the feed's next step if it is time for it.
    fn drive_feed(&mut self, ctx: &mut Ctx) {
        let (next, durable, done) = (self.next, self.durable, self.done);
        let Some(feed) = &mut self.feed else { return };
        match feed.phase {
            FeedPhase::Drain if durable == next => {}
            FeedPhase::CatchUp if feed.acked >= done => {
                feed.phase = FeedPhase::Proposed { at: ctx.now };
                let op = Op::Synced { group: self.id, epoch: self.epoch, node: feed.node };
                return ctx.wants.push(Want::Propose(op));
            }
            _ => return,
        }
        let node = feed.node;
        if !feed.started {
            feed.started = true;
            feed.acked = next;
            let files = objects_of(ctx.store, self.id);
            feed.todo = files.into_iter().filter(|vid| *vid != group_record(self.id)).collect();
            ctx.wants.push(Want::Send(node, Body::Base { n: next }));
        }
        if feed.cursor.is_none() {
            feed.cursor = core::iter::from_fn(|| feed.todo.pop_front())
                .find(|vid| ctx.table.vid(*vid).is_some() && ctx.store.info(*vid).is_some())
                .map(|vid| (vid, 0));
        }
        if let Some((vid, offset)) = feed.cursor {
            feed.phase = FeedPhase::Read;
            return ctx.wants.push(Want::FeedRead(vid, offset, FEED_BYTES));
        }
        feed.step += 1;
        feed.last = true;
        feed.phase = FeedPhase::Await;
        let step = feed.step;
        ctx.wants.push(Want::Send(node, Body::End { step }));
        self.holding = false;
        self.pump(ctx);
    }

    /// The store has read a piece for the feed.
    pub fn feed_read(&mut self, vid: Vid, offset: u64, result: Result<Vec<u8>, StoreError>, ctx: &mut Ctx) {
        let Some(feed) = self.feed.as_mut() else { return };
        if !matches!(feed.phase, FeedPhase::Read) || feed.cursor != Some((vid, offset)) {
            return;
        }
        match result {
            Ok(bytes) => {
                let total = ctx.store.info(vid).map_or(0, |o| o.len);
                let end = offset + bytes.len() as u64;
                let len = (end >= total || bytes.is_empty()).then_some(total);
                feed.cursor = if len.is_some() { None } else { Some((vid, end)) };
                feed.step += 1;
                feed.phase = FeedPhase::Await;
                let (node, step, table_op) = (feed.node, feed.step, ctx.table.op_number());
                self.send(node, Body::Piece { step, table_op, vid, offset, bytes, len }, ctx);
                self.holding = false;
                self.pump(ctx);
            }
            Err(StoreError::NotFound) => {
                feed.cursor = None;
                feed.phase = FeedPhase::Drain;
                self.drive_feed(ctx);
            }
            Err(_) => {
                // This copy is damaged. Another member's, if there is one, must feed.
                self.stop_feed();
                if self.members.len() > 1 {
                    self.expel(ctx.me, ctx);
                }
                self.pump(ctx);
            }
        }
    }

    fn on_piece_done(&mut self, from: NodeId, step: u64, ctx: &mut Ctx) {
        let Some(feed) = self.feed.as_mut() else { return };
        if feed.node != from || feed.step != step || !matches!(feed.phase, FeedPhase::Await) {
            return;
        }
        if feed.last {
            feed.phase = FeedPhase::CatchUp;
        } else {
            feed.phase = FeedPhase::Drain;
            self.holding = true;
        }
        self.drive_feed(ctx);
    }

    // ---- garbage ----

    /// Deletes local files of the group that the directory no longer knows.
    pub fn collect(&mut self, ctx: &mut Ctx) {
        if self.role != Role::Member {
            return;
        }
        let record = group_record(self.id);
        let gone: Vec<Mutation> = objects_of(ctx.store, self.id)
            .into_iter()
            .filter(|vid| *vid != record && ctx.table.vid(*vid).is_none())
            .map(|vid| Mutation::Delete { vid })
            .collect();
        for step in gone.chunks(WIPE_STEP) {
            ctx.wants.push(Want::Commit(CommitFor::Garbage, step.to_vec()));
        }
    }
}

/// Attributes of a file's object.
pub fn file_attr(group: GroupId) -> Attr {
    Attr { group: group.0, kind: KIND_FILE, words: [0; 2] }
}

/// All of the group's objects in the store.
pub fn objects_of(store: &Store, group: GroupId) -> Vec<Vid> {
    store.objects().filter(|(_, info)| info.attr.group == group.0).map(|(vid, _)| vid).collect()
}

/// The mutations of a write or truncation of a file, which comes into being with its first change.
pub fn with_ensure(group: GroupId, op: Mutation) -> Vec<Mutation> {
    vec![Mutation::Ensure { vid: op.vid(), attr: file_attr(group) }, op]
}
