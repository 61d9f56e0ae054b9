//! One member's part in the protocol: a voter or a learner. This file holds the state, the timers and the dispatch.

use super::adopt::Adoption;
use super::checkpoint::Snapshot;
use super::disk::{Mode, Seal, Slot, Superblock};
use super::entry::Entry;
use super::journal::{Done, Journal};
use super::load::{Loaded, Loader, Memory};
use super::log::Log;
use super::message::{Message, PIPELINE};
use super::normal::{Following, Lead};
use super::recovery::Asking;
use super::state::State;
use super::transfer::Fetch;
use super::view_change::Leaving;
use crate::config::{Config, Timing, voters};
use crate::io::Action;
use crate::plant::{Plant, planted};
use alloc::vec::Vec;
use core::fmt;
use smi_cluster::NodeId;

/// First token of the journal's reads and writes; the loader's are below.
const JOURNAL_TOKENS: u64 = 1 << 32;

/// What a replica is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// Reading its zone.
    Loading,
    /// A voter with a blank zone: part of a new cluster, or a replaced disk.
    Blank,
    /// A voter of a new cluster that waits until all the others have formatted.
    Formatted,
    /// A voter that has lost its state and takes no part until it has it back.
    Recovering,
    /// A voter between views.
    ViewChange,
    /// A voter in a view.
    Normal,
    /// Does not vote (or not any more, after a disk error).
    Learner,
}

/// Counters for oracles and operators.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Messages that were malformed or came from who may not send them.
    pub refused: u64,
    /// Entries that contradict what this replica knows to be ordered: never in a sound cluster.
    pub conflicts: u64,
    /// Views entered.
    pub views: u64,
    /// Snapshots made.
    pub checkpoints: u64,
    /// Snapshots taken over from another replica.
    pub installs: u64,
    /// Times that lost state was recovered.
    pub recoveries: u64,
}

pub(crate) struct Replica {
    pub(super) id: NodeId,
    pub(super) voters: Vec<NodeId>,
    pub(super) quorum: usize,
    pub(super) timing: Timing,
    pub(super) boot: u64,
    pub(super) now: u64,
    pub(super) status: Status,
    pub(super) loader: Option<Loader>,

    /// The view it is in, or moving to.
    pub(super) view: u64,
    /// The last view in which it was normal.
    pub(super) log_view: u64,
    pub(super) log: Log,
    /// How far the log is known to be committed; may be ahead of the log.
    pub(super) commit_max: u64,
    pub(super) state: State,
    pub(super) snapshot: Snapshot,

    pub(super) journal: Journal,
    /// As it was last handed to the journal.
    pub(super) superblock: Superblock,
    /// As it is durable.
    pub(super) durable: Superblock,
    /// A snapshot is being written, or the superblock that names it.
    pub(super) snapshotting: bool,

    /// When the view's primary was last heard (as a primary).
    pub(super) heard_primary: u64,
    /// Until when it stays in its view, because a lease may build on that.
    pub(super) promised: u64,
    /// A primary that must not go on in its view (it was restarted, or is out of touch).
    pub(super) abdicating: bool,
    pub(super) leaving: Leaving,
    pub(super) lead: Lead,
    pub(super) following: Following,
    pub(super) adoption: Option<Adoption>,
    pub(super) fetch: Fetch,
    pub(super) asking: Asking,

    pub(super) stats: Stats,
    pub(super) out: Vec<Action>,
}

impl Replica {
    /// A replica that has not read its zone yet. The configuration has been checked.
    pub(crate) fn new(config: &Config) -> Replica {
        let voters = voters(&config.members).to_vec();
        let seal = Seal::new(config.cluster, config.node);
        let votes = voters.contains(&config.node);
        Replica {
            id: config.node,
            quorum: voters.len() / 2 + 1,
            voters,
            timing: config.timing,
            boot: config.boot,
            now: 0,
            status: if votes { Status::Loading } else { Status::Learner },
            loader: votes.then(|| Loader::new(seal)),
            view: 0,
            log_view: 0,
            log: Log::new(0, 0),
            commit_max: 0,
            state: State::default(),
            snapshot: Snapshot::default(),
            journal: Journal::new(seal, JOURNAL_TOKENS),
            superblock: Superblock::new(Mode::Formatted),
            durable: Superblock::new(Mode::Formatted),
            snapshotting: false,
            heard_primary: 0,
            promised: 0,
            abdicating: false,
            leaving: Leaving::default(),
            lead: Lead::default(),
            following: Following::default(),
            adoption: None,
            fetch: Fetch::default(),
            asking: Asking::default(),
            stats: Stats::default(),
            out: Vec::new(),
        }
    }

    /// Begins to read the zone (learners have none).
    pub(crate) fn start(&mut self, now: u64) {
        self.now = now;
        self.hear_primary();
        if let Some(loader) = &mut self.loader {
            loader.start(&mut self.out);
        }
    }

    // ---- what others may know ----

    pub(crate) fn status(&self) -> Status {
        self.status
    }

    pub(crate) fn view(&self) -> u64 {
        self.view
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn stats(&self) -> Stats {
        self.stats
    }

    pub(crate) fn voters(&self) -> &[NodeId] {
        &self.voters
    }

    pub(crate) fn quorum(&self) -> usize {
        self.quorum
    }

    /// Op number up to which the log is applied (and committed).
    pub(crate) fn commit(&self) -> u64 {
        self.state.op()
    }

    /// Op number up to which this voter would have everything after a restart.
    pub(crate) fn durable_op(&self) -> u64 {
        if planted(Plant::AckBeforeDurable) {
            return self.log.op();
        }
        if self.base_is_durable() { self.log.durable() } else { self.durable.checkpoint.op }
    }

    /// Whether what the log builds on is durable: not so while a snapshot from another replica is being written.
    pub(super) fn base_is_durable(&self) -> bool {
        self.log.base() <= self.durable.checkpoint.op || planted(Plant::AckBeforeBase)
    }

    /// Whether it is the primary of its view.
    pub(crate) fn is_primary(&self) -> bool {
        self.status == Status::Normal && self.primary_of(self.view) == self.id
    }

    /// The primary of a view.
    pub(crate) fn primary_of(&self, view: u64) -> NodeId {
        self.voters[(view % self.voters.len() as u64) as usize]
    }

    pub(crate) fn is_voter(&self, node: NodeId) -> bool {
        self.voters.contains(&node)
    }

    pub(crate) fn take_out(&mut self) -> Vec<Action> {
        core::mem::take(&mut self.out)
    }

    // ---- helpers of all parts ----

    /// Whether it takes part in views.
    pub(super) fn votes(&self) -> bool {
        matches!(self.status, Status::Normal | Status::ViewChange)
    }

    pub(super) fn send(&mut self, to: NodeId, message: &Message) {
        debug_assert!(to != self.id);
        self.out.push(Action::Send { to, bytes: message.encode() });
    }

    /// Sends to all other voters.
    pub(super) fn broadcast(&mut self, message: &Message) {
        let bytes = message.encode();
        for i in 0..self.voters.len() {
            let to = self.voters[i];
            if to != self.id {
                self.out.push(Action::Send { to, bytes: bytes.clone() });
            }
        }
    }

    /// Whether the log has room on disk for this entry without overwriting one that a restart needs.
    pub(super) fn has_room(&self, op: u64) -> bool {
        op <= self.durable.checkpoint.op + super::disk::LOG_SLOTS
    }

    /// Appends an entry to the log and has it written.
    pub(super) fn append(&mut self, entry: Entry) {
        assert!(self.has_room(entry.op), "a needed log slot is never overwritten");
        assert!(entry.op <= self.commit() + PIPELINE as u64, "the pipeline is bounded");
        let commit = self.commit().min(entry.op);
        let hash = self.log.push(entry.clone());
        self.journal.entry(&Slot { commit, entry }, hash);
    }

    /// Applies what is in the log and committed.
    pub(super) fn apply_ready(&mut self) {
        while self.commit() < self.commit_max.min(self.log.op()) {
            let Some(entry) = self.log.entry(self.commit() + 1).cloned() else { unreachable!("the log has no gaps") };
            self.apply(&entry);
        }
    }

    /// Applies the next committed entry and tells the users.
    pub(super) fn apply(&mut self, entry: &Entry) {
        let applied = self.state.apply(entry);
        let op_number = self.state.op();
        self.out.push(Action::Applied { op_number, op: applied.op, result: applied.result });
    }

    /// Hands the superblock to the journal.
    pub(super) fn write_superblock(&mut self) {
        self.superblock.sequence += 1;
        self.superblock.view = self.view.max(self.superblock.view);
        let superblock = self.superblock;
        self.journal.superblock(&superblock);
    }

    // ---- inputs ----

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: u64) {
        self.now = now.max(self.now);
    }

    /// A message from another member (which sent it as itself).
    pub(crate) fn message(&mut self, from: NodeId, message: Message) {
        let from_voter = self.is_voter(from);
        match message {
            Message::GetCommitted { after } => self.on_get_committed(from, after),
            Message::Request { .. } | Message::Heartbeat { .. } | Message::Beat(_) => {}
            Message::GetSnapshot { op, offset } => self.on_get_snapshot(from, op, offset),
            _ if !from_voter => self.stats.refused += 1,
            Message::Learn { commit, entries } => self.on_learn(from, commit, entries),
            Message::Snapshot { op, hash, total, offset, bytes } => {
                self.on_snapshot(from, op, hash, total, offset, &bytes);
            }
            Message::Hello { nonce } => self.on_hello(from, nonce),
            Message::HelloReply { nonce, standing } => self.on_hello_reply(from, nonce, standing),
            other if self.votes() => self.voter_message(from, other),
            _ => {}
        }
    }

    fn voter_message(&mut self, from: NodeId, message: Message) {
        match message {
            Message::Prepare { view, commit, entries } => self.on_prepare(from, view, commit, entries),
            Message::PrepareOk { view, op } => self.on_prepare_ok(from, view, op),
            Message::Commit { view, commit } => self.on_commit(from, view, commit),
            Message::Suspect { view } => self.on_suspect(from, view),
            Message::StartViewChange { view, busy } => self.on_start_view_change(from, view, busy),
            Message::DoViewChange { view, log_view, tail } => self.on_do_view_change(from, view, log_view, tail),
            Message::StartView { view, tail } => self.on_start_view(from, view, tail),
            Message::GetLog { view, after } => self.on_get_log(from, view, after),
            // Handled in `message`.
            _ => {}
        }
    }

    pub(crate) fn read_back(&mut self, token: u64, data: Option<&[u8]>) {
        let Some(loader) = &mut self.loader else { return };
        let Some(loaded) = loader.read_back(token, data, &mut self.out) else { return };
        self.loader = None;
        self.heard_primary = self.now;
        match loaded {
            Loaded::Blank => self.on_blank_zone(),
            Loaded::Formatted(superblock) => {
                (self.superblock, self.durable) = (superblock, superblock);
                self.status = Status::Formatted;
            }
            Loaded::Lost(sequence) => self.lose_state(sequence),
            Loaded::Running(memory) => self.resume(*memory),
        }
    }

    /// Goes on from what the zone holds: between views, until it hears from a primary.
    fn resume(&mut self, memory: Memory) {
        let s = memory.superblock;
        (self.superblock, self.durable) = (s, s);
        (self.view, self.log_view) = (s.view, s.log_view);
        self.log = Log::new(memory.state.op(), memory.state.last_hash);
        for (entry, whole) in memory.entries {
            let op = entry.op;
            let slot = Slot { commit: memory.commit.min(op), entry: entry.clone() };
            let hash = self.log.push(entry);
            if whole {
                self.log.mark_durable(op, hash);
            } else {
                // It counts as durable when it is repaired.
                self.journal.entry(&slot, hash);
            }
        }
        self.snapshot = Snapshot { op: s.checkpoint.op, hash: s.checkpoint.hash, bytes: memory.snapshot };
        self.state = memory.state;
        self.commit_max = memory.commit;
        self.out.push(Action::Installed);
        self.apply_ready();
        self.status = Status::ViewChange;
        self.resume_view();
    }

    pub(crate) fn written(&mut self, token: u64) {
        self.journal.written(token, &mut self.out);
    }

    pub(crate) fn flushed(&mut self, token: u64) {
        match self.journal.flushed(token, &mut self.out) {
            None | Some(Done::Format) => {}
            Some(Done::Log(entries)) => entries.iter().for_each(|(op, hash)| self.log.mark_durable(*op, *hash)),
            Some(Done::Super(superblock)) => self.on_superblock(superblock),
            Some(Done::Snapshot(checkpoint)) => self.on_snapshot_durable(checkpoint),
        }
    }

    fn on_superblock(&mut self, superblock: Superblock) {
        let checkpointed = superblock.checkpoint.op != self.durable.checkpoint.op;
        self.durable = superblock;
        if checkpointed {
            self.on_checkpoint_durable();
        }
    }

    /// The disk has failed: it can promise nothing any more, so it stops voting.
    pub(crate) fn io_failed(&mut self, token: u64) {
        if self.journal.knows(token) && self.status != Status::Learner {
            self.status = Status::Learner;
            self.adoption = None;
            self.fetch = Fetch::default();
        }
    }

    // ---- what follows ----

    /// Does everything that has become possible or due. Called after every input.
    pub(crate) fn progress(&mut self) {
        match self.status {
            Status::Loading => return,
            Status::Blank | Status::Formatted | Status::Recovering => self.ask(),
            Status::Learner => {}
            Status::ViewChange | Status::Normal => self.watch_primary(),
        }
        self.adopt();
        match self.status {
            Status::ViewChange => self.change_view(),
            Status::Normal if self.is_primary() => self.lead(),
            Status::Normal => self.follow(),
            _ => {}
        }
        self.fetch_more();
        if self.status != Status::Learner {
            self.checkpoint_if_due();
            self.journal.pump(&mut self.out);
        }
        self.check();
    }

    fn check(&self) {
        assert!(self.log.base() <= self.commit() || self.status == Status::Learner, "what is missing is applied");
        assert!(self.log_view <= self.view, "a view is entered before it is normal");
        assert!(self.durable.sequence <= self.superblock.sequence, "durable is what was written");
        if self.votes() {
            assert!(self.log.op() <= self.commit() + PIPELINE as u64, "the pipeline is bounded");
        }
    }
}

/// One line for logs and traces.
impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} view {} (log {}, durable {}) op {} (base {}, durable {}) commit {}/{} checkpoint {} (durable {}{})",
            self.status,
            self.view,
            self.log_view,
            self.durable.view,
            self.log.op(),
            self.log.base(),
            self.log.durable(),
            self.commit(),
            self.commit_max,
            self.superblock.checkpoint.op,
            self.durable.checkpoint.op,
            if self.snapshotting { ", writing" } else { "" },
        )?;
        if let Some(adoption) = &self.adoption {
            write!(f, " adopting {adoption:?}")?;
        }
        write!(f, "{}{:?}", if self.abdicating { " abdicating " } else { " " }, self.leaving)
    }
}
