//! View changes: suspicion with a quorum, then the paper's protocol. The next primary is the next voter.

use super::adopt::Adoption;
use super::message::{Message, PIPELINE, Tail};
use super::replica::{Replica, Status};
use crate::plant::{Plant, planted};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::fmt;
use smi_cluster::NodeId;

/// Most detection times that a view is given for its new primary to collect the log.
const MAX_PATIENCE: u64 = 10;

/// What a voter keeps while it suspects its primary or changes views.
#[derive(Default)]
pub(crate) struct Leaving {
    /// When it entered the view.
    since: u64,
    /// Views entered since it was last normal; each makes it more patient.
    pub(super) failed: u64,
    /// Voters that suspect the primary of a view, and until when that counts.
    suspects: BTreeMap<NodeId, (u64, u64)>,
    next_suspect: u64,
    /// Voters that have entered this view.
    entered: BTreeSet<NodeId>,
    /// The logs that a new primary was sent, each with its log view.
    logs: BTreeMap<NodeId, (u64, Tail)>,
    next_send: u64,
}

impl Replica {
    // ---- suspicion ----

    /// Silence of the primary after which a voter suspects it. Longer after views that failed.
    fn patience(&self) -> u64 {
        self.timing.detect_ns * (1 + self.leaving.failed.min(MAX_PATIENCE))
    }

    fn suspects_primary(&self) -> bool {
        if self.is_primary() {
            return self.abdicating;
        }
        self.abdicating || self.now >= self.heard_primary + self.patience()
    }

    /// A primary that is out of touch gives up (it stays until a quorum leaves its view).
    pub(crate) fn abdicate(&mut self) {
        self.abdicating = true;
    }

    /// Whether it has given up.
    pub(crate) fn is_abdicating(&self) -> bool {
        self.abdicating
    }

    /// Says so while it suspects the primary; leaves the view with a quorum.
    pub(super) fn watch_primary(&mut self) {
        if !self.suspects_primary() {
            return;
        }
        if self.now >= self.leaving.next_suspect {
            self.leaving.next_suspect = self.now + self.timing.heartbeat_ns;
            self.broadcast(&Message::Suspect { view: self.view });
        }
        let (view, now) = (self.view, self.now);
        let others = self.leaving.suspects.values().filter(|(v, until)| *v == view && *until > now).count();
        if others + 1 >= self.quorum && self.may_leave() {
            self.enter_view(self.view + 1);
        }
    }

    /// Whether no primary may still hold a lease that counts on this voter to stay in the view. A voter that was just started
    /// does not remember what it promised.
    fn may_leave(&self) -> bool {
        self.now >= self.promised || self.is_primary() || self.quorum == 1 || planted(Plant::IgnorePromise)
    }

    /// Follows others into a view that is being prepared.
    fn leave_for(&mut self, view: u64) {
        if view > self.view && self.may_leave() {
            self.enter_view(view);
        }
    }

    /// The primary was heard as such: this voter stays in the view for longer than any lease that builds on it.
    pub(super) fn hear_primary(&mut self) {
        self.heard_primary = self.now;
        self.promise();
    }

    pub(super) fn promise(&mut self) {
        self.promised = self.now + (self.timing.lease_ns + self.timing.detect_ns) / 2;
    }

    pub(super) fn on_suspect(&mut self, from: NodeId, view: u64) {
        self.leave_for(view);
        if view == self.view {
            self.leaving.suspects.insert(from, (view, self.now + self.timing.detect_ns));
        } else if view < self.view {
            self.help_behind(from);
        }
    }

    /// Somebody is in an older view, or has not taken this one over.
    fn help_behind(&mut self, to: NodeId) {
        if self.is_primary() && !self.abdicating {
            let start = Message::StartView { view: self.view, tail: self.tail() };
            self.send(to, &start);
        }
    }

    // ---- the change ----

    /// Leaves all views before `view`.
    pub(super) fn enter_view(&mut self, view: u64) {
        assert!(view > self.view && self.votes(), "views only rise");
        self.view = view;
        self.status = Status::ViewChange;
        self.adoption = None;
        self.abdicating = false;
        self.lead = super::normal::Lead::default();
        // What was promised for the old view says nothing about the log of the new one.
        self.commit_max = self.commit();
        let failed = self.leaving.failed + 1;
        self.leaving = Leaving { since: self.now, failed, ..Leaving::default() };
        self.heard_primary = self.now;
        self.stats.views += 1;
        if !planted(Plant::ForgetView) {
            self.write_superblock();
        }
    }

    /// After a restart: between views. A primary of old must not go on.
    pub(super) fn resume_view(&mut self) {
        self.leaving = Leaving { since: self.now, ..Leaving::default() };
        self.abdicating = self.log_view == self.view && self.primary_of(self.view) == self.id;
        if self.abdicating && planted(Plant::ResumePrimary) {
            self.abdicating = false;
            self.status = Status::Normal;
            self.begin_lead();
        }
    }

    /// The end of this voter's log.
    pub(super) fn tail(&self) -> Tail {
        let entries = self.log.run(self.commit() + 1, PIPELINE);
        Tail { commit: self.commit(), commit_hash: self.state.last_hash, entries }
    }

    /// What a voter between views does after an input.
    pub(super) fn change_view(&mut self) {
        // Nothing is said about a view before it is persisted. A voter that was restarted in a view that it had taken over waits for
        // that view's primary.
        let persisted = self.durable.view >= self.view || planted(Plant::ForgetView);
        if !persisted || self.log_view == self.view {
            return;
        }
        let primary = self.primary_of(self.view);
        self.leaving.entered.insert(self.id);
        let due = self.now >= self.leaving.next_send;
        if due {
            self.leaving.next_send = self.now + self.timing.heartbeat_ns;
            let busy = primary == self.id && self.adoption.is_some();
            self.broadcast(&Message::StartViewChange { view: self.view, busy });
        }
        if self.leaving.entered.len() < self.quorum || self.adoption.is_some() {
            return;
        }
        let tail = self.tail();
        if primary == self.id {
            self.leaving.logs.insert(self.id, (self.log_view, tail));
            self.choose_log();
        } else if due || self.leaving.logs.is_empty() {
            // The own log stands for "sent once".
            let message = Message::DoViewChange { view: self.view, log_view: self.log_view, tail: tail.clone() };
            self.leaving.logs.insert(self.id, (self.log_view, tail));
            self.send(primary, &message);
        }
    }

    pub(super) fn on_start_view_change(&mut self, from: NodeId, view: u64, busy: bool) {
        self.leave_for(view);
        if view > self.view {
            return;
        }
        if view < self.view || self.status == Status::Normal {
            self.help_behind(from);
            return;
        }
        self.leaving.entered.insert(from);
        let patient = self.now < self.leaving.since + MAX_PATIENCE * self.timing.detect_ns;
        if busy && from == self.primary_of(view) && patient {
            self.heard_primary = self.now;
        }
    }

    pub(super) fn on_do_view_change(&mut self, from: NodeId, view: u64, log_view: u64, tail: Tail) {
        if log_view >= view || self.primary_of(view) != self.id {
            self.stats.refused += 1;
            return;
        }
        self.leave_for(view);
        if view > self.view {
            return;
        }
        if view < self.view || self.status == Status::Normal {
            self.help_behind(from);
            return;
        }
        self.leaving.entered.insert(from);
        // The primary of a view that it had taken over before a restart does not start it again.
        if self.log_view < view {
            self.leaving.logs.insert(from, (log_view, tail));
        }
    }

    /// With logs from a quorum, the new primary takes over the best one: of the latest view, the longest.
    fn choose_log(&mut self) {
        let logs = &self.leaving.logs;
        if logs.len() < self.quorum {
            return;
        }
        let rank = |node: &&NodeId| logs.get(node).map(|(log_view, tail)| (*log_view, tail.op()));
        let best = if planted(Plant::WorstLog) { logs.keys().min_by_key(rank) } else { logs.keys().max_by_key(rank) };
        let Some((source, (log_view, tail))) = best.and_then(|n| Some((*n, logs.get(n)?.clone()))) else { return };
        let commit = logs.values().map(|(_, t)| t.commit).max().unwrap_or(0);
        if commit > tail.op() {
            // Committed entries are in every best log. Wait for another log rather than lose one.
            self.stats.conflicts += 1;
            return;
        }
        self.lead.previous = Some(self.primary_of(log_view));
        self.adoption = Some(Adoption::new(self.view, source, tail, self.now));
    }

    pub(super) fn on_start_view(&mut self, from: NodeId, view: u64, tail: Tail) {
        if from != self.primary_of(view) || from == self.id {
            self.stats.refused += 1;
            return;
        }
        if view > self.view {
            self.enter_view(view);
        }
        if view < self.view || self.status != Status::ViewChange {
            return;
        }
        self.hear_primary();
        if self.log_view == view {
            // It had taken this view's log over before: what it has is part of it, and may be more than this message knows.
            self.on_prepare(from, view, tail.commit, tail.entries);
        } else if self.adoption.is_none() {
            self.adoption = Some(Adoption::new(view, from, tail, self.now));
        }
    }
}

impl fmt::Debug for Leaving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let logs = self.logs.iter().map(|(n, (view, tail))| (n.0, *view, tail.op()));
        let logs: Vec<(u16, u64, u64)> = logs.collect();
        let suspects: Vec<(u16, u64)> = self.suspects.iter().map(|(n, (view, _))| (n.0, *view)).collect();
        write!(f, "failed {} entered {:?} logs {logs:?} suspects {suspects:?}", self.failed, self.entered)
    }
}
