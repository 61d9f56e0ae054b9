//! Taking over the log of a view: by a new primary, by a backup that is told it, or by a voter that recovers.
//!
//! First everything committed up to the start of the given tail is applied (fetched if need be), then the tail replaces what
//! differs, then the superblock says that the log is of this view. Until that is durable the voter counts as being in its
//! old log view. A crash in between leaves a mixed log, which is as good as the old one: an entry is replaced only by what the
//! later view has in its place, so the replaced one was never committed.

use super::disk::Mode;
use super::entry::Entry;
use super::message::Tail;
use super::replica::{Replica, Status};
use core::fmt;
use smi_cluster::NodeId;

pub(crate) struct Adoption {
    view: u64,
    pub(super) source: NodeId,
    tail: Tail,
    since: u64,
    /// The log is in place, and the superblock that says so is being written.
    placed: bool,
}

impl Adoption {
    pub(super) fn new(view: u64, source: NodeId, tail: Tail, now: u64) -> Adoption {
        Adoption { view, source, tail, since: now, placed: false }
    }

    /// Up to where committed entries are needed.
    pub(super) fn commit(&self) -> u64 {
        self.tail.commit
    }

    /// Since when it is under way.
    pub(super) fn since(&self) -> u64 {
        self.since
    }
}

impl Replica {
    /// Takes the next steps of an adoption.
    pub(super) fn adopt(&mut self) {
        let Some(adoption) = self.adoption.take() else { return };
        if adoption.placed {
            if self.durable.log_view == adoption.view && self.durable.mode == Mode::Running {
                self.finish_adoption(adoption.view);
            } else {
                self.adoption = Some(adoption);
            }
            return;
        }
        if !self.reach(&adoption.tail) {
            self.adoption = Some(adoption);
            return;
        }
        match self.place(&adoption.tail) {
            Some(true) => {
                self.superblock.mode = Mode::Running;
                self.view = adoption.view;
                self.superblock.log_view = adoption.view;
                self.superblock.head = self.log.op();
                self.write_superblock();
                self.adoption = Some(Adoption { placed: true, ..adoption });
            }
            Some(false) => self.adoption = Some(adoption),
            // It contradicts what is committed: the view has been left by others meanwhile.
            None => {}
        }
    }

    /// Applies up to the tail's commit number. False while something is missing.
    fn reach(&mut self, tail: &Tail) -> bool {
        if self.commit() < tail.commit && self.log.hash_at(tail.commit) == Some(tail.commit_hash) {
            self.commit_max = self.commit_max.max(tail.commit);
            self.apply_ready();
        }
        self.commit() >= tail.commit && self.base_is_durable()
    }

    /// Makes the log end like the tail. `Some(false)` if there is no room yet, `None` if it contradicts what is applied.
    fn place(&mut self, tail: &Tail) -> Option<bool> {
        if tail.op() < self.commit() {
            return None;
        }
        for entry in &tail.entries {
            let hash = entry.hash();
            if self.log.hash_at(entry.op) == Some(hash) || entry.op < self.log.base() {
                continue;
            }
            if entry.op <= self.commit() {
                return None;
            }
            if entry.parent != self.log.hash_at(entry.op - 1)? {
                return None;
            }
            if !self.has_room(entry.op) {
                return Some(false);
            }
            self.replace(entry);
        }
        self.log.truncate(tail.op());
        Some(true)
    }

    /// Puts an entry in its place and removes what followed there.
    pub(super) fn replace(&mut self, entry: &Entry) {
        self.log.truncate(entry.op - 1);
        self.append(entry.clone());
    }

    fn finish_adoption(&mut self, view: u64) {
        if self.status == Status::Recovering {
            self.stats.recoveries += 1;
        }
        self.log_view = view;
        self.status = Status::Normal;
        self.begin_follow();
        if self.primary_of(view) == self.id {
            self.begin_lead();
        }
    }
}

impl fmt::Debug for Adoption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tail, placed) = (&self.tail, if self.placed { ", placed" } else { "" });
        write!(f, "view {} from {} ({}..{}{placed})", self.view, self.source, tail.commit, tail.op())
    }
}
