//! Catching up: committed entries, or a snapshot when the entries are gone. For learners, for adoptions, for backups far behind.

use super::entry::Entry;
use super::message::{CHUNK_BYTES, Message, PIPELINE};
use super::replica::{Replica, Status};
use super::state::State;
use crate::hash::checksum;
use alloc::vec::Vec;
use smi_cluster::NodeId;

/// Tries to get the next part of a snapshot before starting over elsewhere.
const MAX_TRIES: u32 = 5;

/// What is being fetched.
#[derive(Default)]
pub(crate) struct Fetch {
    next: u64,
    /// Rotates among the voters.
    turn: usize,
    partial: Option<Partial>,
}

/// A snapshot of which some is here.
struct Partial {
    from: NodeId,
    op: u64,
    hash: u64,
    total: u32,
    bytes: Vec<u8>,
    tries: u32,
}

impl Replica {
    // ---- asking ----

    /// Asks for what is missing, and again if the answer is overdue.
    pub(super) fn fetch_more(&mut self) {
        let needed = self.needs_committed();
        let behind_base = self.status == Status::Normal && self.fetch.partial.is_some();
        if !needed && !behind_base {
            self.fetch.partial = None;
            return;
        }
        if self.now < self.fetch.next {
            return;
        }
        self.fetch.next = self.now + self.timing.heartbeat_ns;
        if let Some(partial) = &mut self.fetch.partial {
            partial.tries += 1;
            if partial.tries <= MAX_TRIES {
                let (to, op, offset) = (partial.from, partial.op, partial.bytes.len() as u32);
                self.send(to, &Message::GetSnapshot { op, offset });
                return;
            }
            self.fetch.partial = None;
        }
        if needed && let Some(to) = self.fetch_target() {
            self.send(to, &Message::GetCommitted { after: self.commit() });
        }
    }

    fn needs_committed(&self) -> bool {
        match &self.adoption {
            Some(adoption) => self.commit() < adoption.commit(),
            None => self.status == Status::Learner && self.commit() < self.commit_max,
        }
    }

    fn fetch_target(&mut self) -> Option<NodeId> {
        if let Some(adoption) = &self.adoption {
            return Some(adoption.source).filter(|to| *to != self.id);
        }
        self.fetch.turn = (self.fetch.turn + 1) % self.voters.len();
        Some(self.voters[self.fetch.turn]).filter(|to| *to != self.id)
    }

    // ---- answering ----

    pub(super) fn on_get_log(&mut self, from: NodeId, view: u64, after: u64) {
        if !self.is_primary() || self.abdicating || view != self.view || after >= self.log.op() {
            return;
        }
        if after >= self.log.base() {
            let entries = self.log.run(after + 1, PIPELINE);
            self.send(from, &Message::Prepare { view, commit: self.commit(), entries });
        } else {
            self.send_snapshot_part(from, 0);
        }
    }

    pub(super) fn on_get_committed(&mut self, from: NodeId, after: u64) {
        if after >= self.commit() || self.status == Status::Learner {
            return;
        }
        if after >= self.log.base() {
            let count = (self.commit() - after).min(PIPELINE as u64) as usize;
            let entries = self.log.run(after + 1, count);
            self.send(from, &Message::Learn { commit: self.commit(), entries });
        } else {
            self.send_snapshot_part(from, 0);
        }
    }

    pub(super) fn on_get_snapshot(&mut self, from: NodeId, op: u64, offset: u32) {
        // If it is not the one that we have any more, ours from its start.
        self.send_snapshot_part(from, if op == self.snapshot.op { offset as usize } else { 0 });
    }

    fn send_snapshot_part(&mut self, to: NodeId, offset: usize) {
        let snapshot = &self.snapshot;
        let Some(rest) = snapshot.bytes.get(offset..).filter(|r| !r.is_empty()) else { return };
        let bytes = rest[..rest.len().min(CHUNK_BYTES)].to_vec();
        let total = snapshot.bytes.len() as u32;
        let part = Message::Snapshot { op: snapshot.op, hash: snapshot.hash, total, offset: offset as u32, bytes };
        self.send(to, &part);
    }

    // ---- taking ----

    pub(super) fn on_learn(&mut self, from: NodeId, commit: u64, entries: Vec<Entry>) {
        let limit = match (&self.adoption, self.status) {
            (Some(adoption), _) => adoption.commit(),
            (None, Status::Learner) => u64::MAX,
            _ => return,
        };
        if self.status == Status::Learner {
            self.commit_max = self.commit_max.max(commit);
        }
        let before = self.commit();
        for entry in entries {
            if entry.op != self.commit() + 1 || entry.op > limit {
                continue;
            }
            if entry.parent != self.state.last_hash {
                self.stats.conflicts += 1;
                return;
            }
            if !self.learn(&entry) {
                break;
            }
        }
        // If that was an answer, the next question is due at once.
        if self.commit() > before && from != self.id {
            self.fetch.next = self.now;
        }
    }

    /// Takes over the next committed entry. False if there is no room for it yet.
    fn learn(&mut self, entry: &Entry) -> bool {
        if self.status == Status::Learner {
            self.apply(entry);
            return true;
        }
        if self.log.hash_at(entry.op) != Some(entry.hash()) {
            if !self.has_room(entry.op) {
                return false;
            }
            self.replace(entry);
        }
        self.commit_max = self.commit_max.max(entry.op);
        self.apply_ready();
        true
    }

    fn wants_snapshot(&self, from: NodeId, op: u64) -> bool {
        let far_behind = self.status == Status::Normal && from == self.primary_of(self.view) && op > self.log.op();
        op > self.commit() && (self.needs_committed() || far_behind)
    }

    pub(super) fn on_snapshot(&mut self, from: NodeId, op: u64, hash: u64, total: u32, offset: u32, bytes: &[u8]) {
        if !self.wants_snapshot(from, op) {
            return;
        }
        let same = |p: &Partial| (p.from, p.op, p.hash, p.total) == (from, op, hash, total);
        if offset == 0 && !self.fetch.partial.as_ref().is_some_and(same) {
            self.fetch.partial = Some(Partial { from, op, hash, total, bytes: Vec::new(), tries: 0 });
        }
        let Some(partial) = self.fetch.partial.as_mut().filter(|p| same(p)) else { return };
        if offset as usize != partial.bytes.len() {
            return;
        }
        partial.bytes.extend_from_slice(bytes);
        partial.tries = 0;
        self.fetch.next = self.now;
        if partial.bytes.len() == total as usize
            && let Some(partial) = self.fetch.partial.take()
        {
            self.take_snapshot(partial);
        }
    }

    fn take_snapshot(&mut self, partial: Partial) {
        let state = State::decode(&partial.bytes).ok().filter(|s| s.op() == partial.op);
        match state {
            Some(state) if checksum(&partial.bytes) == partial.hash => {
                // While another snapshot is being written there is no place for this one: it is fetched again.
                if !self.snapshotting {
                    self.install(state, partial.hash, partial.bytes);
                }
            }
            _ => self.stats.refused += 1,
        }
    }
}
