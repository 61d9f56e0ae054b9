//! Normal operation: the primary orders operations, the backups make them durable, a quorum commits them.

use super::clients::Verdict;
use super::entry::{Entry, RequestId};
use super::message::{Message, PIPELINE};
use super::replica::{Replica, Status};
use crate::plant::{Plant, planted};
use crate::table::Op;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use smi_cluster::NodeId;

/// Most operations that wait for a place in the pipeline. More are dropped; their proposers ask again.
pub const MAX_QUEUE: usize = 64;

/// What a primary keeps for its view.
#[derive(Default)]
pub(crate) struct Lead {
    /// Since when it leads.
    pub(super) since: u64,
    /// Op number of the log's end when it began to lead.
    start: u64,
    /// The primary of the last view before this one that was normal.
    pub(super) previous: Option<NodeId>,
    /// How far each voter's log is durable in this view.
    acked: BTreeMap<NodeId, u64>,
    queue: VecDeque<(Option<RequestId>, Op)>,
    /// The commit number that the others were told.
    announced: u64,
    next_resend: u64,
    /// Learners that were heard lately, and when.
    learners: BTreeMap<NodeId, u64>,
}

/// What a backup keeps.
#[derive(Default)]
pub(crate) struct Following {
    /// What it has acknowledged in this view.
    acked: u64,
    /// It has noticed that entries are missing.
    gap: bool,
    next_ask: u64,
}

impl Replica {
    // ---- primary ----

    /// Begins to lead the view that it has just become normal in.
    pub(super) fn begin_lead(&mut self) {
        let previous = self.lead.previous;
        let (since, start) = (self.now, self.log.op());
        self.lead = Lead { since, start, previous, announced: self.commit(), ..Lead::default() };
        let start = Message::StartView { view: self.view, tail: self.tail() };
        self.broadcast(&start);
    }

    /// Since when it leads, and who led before.
    pub(crate) fn lead_since(&self) -> (u64, Option<NodeId>) {
        (self.lead.since, self.lead.previous)
    }

    /// Whether it has applied all that earlier primaries may have committed: only then does it know who is a member.
    pub(crate) fn is_settled(&self) -> bool {
        self.commit() >= self.lead.start
    }

    /// How many operations wait for a place in the pipeline.
    pub(crate) fn queued(&self) -> usize {
        self.lead.queue.len()
    }

    /// Operations that are ordered or about to be, and not applied yet.
    pub(crate) fn unapplied(&self) -> impl Iterator<Item = &Op> {
        let ordered = self.log.after(self.commit()).map(|e| &e.body);
        ordered.chain(self.lead.queue.iter().map(|(_, op)| op))
    }

    /// A learner is alive: it is told what is committed.
    pub(crate) fn note_learner(&mut self, node: NodeId) {
        self.lead.learners.insert(node, self.now);
    }

    /// Orders an operation, or lets it wait. Does nothing unless primary, or if it is a request that is known already.
    pub(crate) fn propose(&mut self, request: Option<RequestId>, op: Op) {
        if !self.is_primary() || self.abdicating || request.is_some_and(|r| !self.is_new(&r)) {
            return;
        }
        if self.lead.queue.len() < MAX_QUEUE || planted(Plant::UnboundedQueue) {
            self.lead.queue.push_back((request, op));
        }
    }

    fn is_new(&self, r: &RequestId) -> bool {
        let same = |other: &RequestId| (other.node, other.session, other.number) == (r.node, r.session, r.number);
        let waits = self.lead.queue.iter().any(|(other, _)| other.as_ref().is_some_and(same));
        let ordered = self.log.after(self.commit()).any(|e| e.request.as_ref().is_some_and(same));
        let known = (waits || ordered) && !planted(Plant::DoubleApply);
        !known && self.state.clients.check(r) == Verdict::Execute
    }

    /// Everything a primary does after an input.
    pub(super) fn lead(&mut self) {
        if self.abdicating {
            // Whoever hears nothing from it looks for another.
            return;
        }
        self.order_queued();
        self.advance_commit();
        self.order_queued();
        self.announce();
        if self.now >= self.lead.next_resend {
            self.lead.next_resend = self.now + self.timing.heartbeat_ns;
            self.resend();
        }
    }

    fn order_queued(&mut self) {
        let first = self.log.op() + 1;
        while self.log.op() < self.commit() + PIPELINE as u64 && self.has_room(self.log.op() + 1) {
            let Some((request, body)) = self.lead.queue.pop_front() else { break };
            let entry = Entry { op: self.log.op() + 1, view: self.view, parent: self.log.head_hash(), request, body };
            self.append(entry);
        }
        if self.log.op() >= first {
            let prepare = self.prepare_from(first);
            self.broadcast(&prepare);
        }
    }

    fn prepare_from(&self, first: u64) -> Message {
        Message::Prepare { view: self.view, commit: self.commit(), entries: self.log.run(first, PIPELINE) }
    }

    fn advance_commit(&mut self) {
        self.lead.acked.insert(self.id, self.durable_op());
        let mut acked: Vec<u64> = self.lead.acked.values().copied().collect();
        acked.sort_unstable_by(|a, b| b.cmp(a));
        let quorum = if planted(Plant::CommitWithoutQuorum) { 1 } else { self.quorum };
        if let Some(op) = acked.get(quorum - 1) {
            self.commit_max = self.commit_max.max(*op);
            self.apply_ready();
        }
    }

    /// Tells everybody what is newly committed.
    fn announce(&mut self) {
        let commit = self.commit();
        if commit <= self.lead.announced {
            return;
        }
        self.broadcast(&Message::Commit { view: self.view, commit });
        let horizon = self.now.saturating_sub(2 * self.timing.detect_ns);
        self.lead.learners.retain(|_, heard| *heard >= horizon);
        let learners: Vec<NodeId> = self.lead.learners.keys().copied().collect();
        let mut first = (self.lead.announced + 1).max(self.log.base() + 1);
        self.lead.announced = commit;
        while first <= commit && !learners.is_empty() {
            let count = (commit - first + 1).min(PIPELINE as u64);
            let learn = Message::Learn { commit, entries: self.log.run(first, count as usize) };
            learners.iter().for_each(|node| self.send(*node, &learn));
            first += count;
        }
    }

    /// Sends every voter again what it has not acknowledged.
    fn resend(&mut self) {
        for i in 0..self.voters.len() {
            let to = self.voters[i];
            let acked = self.lead.acked.get(&to).copied().unwrap_or(self.commit()).max(self.log.base());
            if to != self.id && acked < self.log.op() {
                let prepare = self.prepare_from(acked + 1);
                self.send(to, &prepare);
            }
        }
    }

    pub(super) fn on_prepare_ok(&mut self, from: NodeId, view: u64, op: u64) {
        if !self.is_primary() || view != self.view {
            return;
        }
        if op > self.log.op() {
            self.stats.conflicts += 1;
            return;
        }
        let acked = self.lead.acked.entry(from).or_default();
        *acked = op.max(*acked);
    }

    /// What a voter's heartbeat says about its log in this view.
    pub(crate) fn note_durable(&mut self, from: NodeId, view: u64, op: u64) {
        if self.is_voter(from) {
            self.on_prepare_ok(from, view, op);
        }
    }

    // ---- backup ----

    /// The primary of a view says how far it is committed. Also from heartbeats, and to learners.
    pub(crate) fn on_commit(&mut self, from: NodeId, view: u64, commit: u64) {
        match self.status {
            Status::Learner => self.commit_max = self.commit_max.max(commit),
            _ if self.votes() => self.on_prepare(from, view, commit, Vec::new()),
            _ => {}
        }
    }

    pub(super) fn on_prepare(&mut self, from: NodeId, view: u64, commit: u64, entries: Vec<Entry>) {
        if from != self.primary_of(view) || from == self.id {
            self.stats.refused += 1;
            return;
        }
        if view > self.view {
            // Its log comes as the answer to our `StartViewChange`.
            self.enter_view(view);
            return;
        }
        if view < self.view {
            return;
        }
        self.hear_primary();
        if !self.is_in_view() {
            return;
        }
        let before = self.log.op();
        self.commit_max = self.commit_max.max(commit);
        for entry in entries {
            self.apply_ready();
            if !self.take_entry(entry) {
                break;
            }
        }
        self.apply_ready();
        if self.log.op() > before {
            // If that was not all, the rest can be asked for at once.
            self.following.next_ask = self.now;
        }
    }

    /// Whether it is normal in its view. A voter that was restarted in a view that it had taken over before is, as soon as it hears
    /// from the primary.
    fn is_in_view(&mut self) -> bool {
        if self.status == Status::ViewChange && self.log_view == self.view && !self.abdicating {
            self.begin_follow();
        }
        self.status == Status::Normal
    }

    pub(super) fn begin_follow(&mut self) {
        self.status = Status::Normal;
        self.following = Following::default();
        self.hear_primary();
        self.leaving.failed = 0;
    }

    /// Appends an entry if it is the next. False if the following ones are of no use either.
    fn take_entry(&mut self, entry: Entry) -> bool {
        if entry.op <= self.log.op() {
            let known = self.log.hash_at(entry.op);
            if known.is_some_and(|hash| hash != entry.hash()) {
                self.stats.conflicts += 1;
                return false;
            }
            return true;
        }
        if entry.op > self.log.op() + 1 {
            self.following.gap = true;
            return false;
        }
        if entry.parent != self.log.head_hash() {
            self.stats.conflicts += 1;
            return false;
        }
        if !self.has_room(entry.op) || entry.op > self.commit() + PIPELINE as u64 {
            return false;
        }
        self.append(entry);
        true
    }

    /// Everything a backup does after an input.
    pub(super) fn follow(&mut self) {
        let primary = self.primary_of(self.view);
        let op = self.durable_op();
        if op > self.following.acked {
            self.following.acked = op;
            self.send(primary, &Message::PrepareOk { view: self.view, op });
        }
        let behind = self.commit_max > self.log.op() || self.following.gap;
        if behind && self.now >= self.following.next_ask {
            self.following.gap = false;
            self.following.next_ask = self.now + self.timing.heartbeat_ns / 2;
            self.send(primary, &Message::GetLog { view: self.view, after: self.log.op() });
        }
    }
}
