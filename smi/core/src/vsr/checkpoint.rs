//! Checkpoints: the state as a snapshot, so that the log before it can go.

use super::disk::Checkpoint;
use super::log::Log;
use super::replica::{Replica, Status};
use super::state::State;
use crate::hash::checksum;
use crate::io::Action;
use crate::plant::{Plant, planted};
use alloc::vec::Vec;

/// A snapshot is made every so many operations.
pub const CHECKPOINT_EVERY: u64 = 32;
/// Entries before the snapshot that are kept in memory for replicas that are a little behind.
const KEEP: u64 = 32;

// The log on disk has room for what comes until the next snapshot is durable, and some.
const _: () = assert!(2 * CHECKPOINT_EVERY + super::message::PIPELINE as u64 <= super::disk::LOG_SLOTS);

/// The last snapshot, for replicas that ask for it. Committed, but not necessarily durable here yet.
#[derive(Default)]
pub(crate) struct Snapshot {
    pub(super) op: u64,
    pub(super) hash: u64,
    pub(super) bytes: Vec<u8>,
}

impl Replica {
    /// Makes a snapshot if enough was applied since the last.
    pub(super) fn checkpoint_if_due(&mut self) {
        let due = self.commit() >= self.superblock.checkpoint.op + CHECKPOINT_EVERY;
        if !due || self.snapshotting || !(self.votes() || self.adoption.is_some()) {
            return;
        }
        let bytes = self.state.encode();
        self.stats.checkpoints += 1;
        self.write_snapshot(Snapshot { op: self.commit(), hash: checksum(&bytes), bytes });
    }

    fn write_snapshot(&mut self, snapshot: Snapshot) {
        let area = 1 - self.superblock.checkpoint.area;
        let len = snapshot.bytes.len() as u32;
        let checkpoint = Checkpoint { op: snapshot.op, area, len, hash: snapshot.hash };
        if planted(Plant::CheckpointEarly) {
            self.superblock.checkpoint = checkpoint;
            self.write_superblock();
        }
        self.journal.snapshot(checkpoint, &snapshot.bytes);
        self.snapshot = snapshot;
        self.snapshotting = true;
    }

    /// The snapshot is durable: now the superblock may name it.
    pub(super) fn on_snapshot_durable(&mut self, checkpoint: Checkpoint) {
        self.superblock.checkpoint = checkpoint;
        self.write_superblock();
    }

    /// The superblock that names it is durable: the log before it can go.
    pub(super) fn on_checkpoint_durable(&mut self) {
        self.snapshotting = false;
        self.log.drop_prefix(self.durable.checkpoint.op.saturating_sub(KEEP));
    }

    /// Takes over a committed state that is ahead of everything this replica has applied.
    pub(super) fn install(&mut self, state: State, hash: u64, bytes: Vec<u8>) {
        assert!(state.op() > self.commit(), "the state only advances");
        let (op, last_hash) = (state.op(), state.last_hash);
        self.state = state;
        self.stats.installs += 1;
        self.commit_max = self.commit_max.max(op);
        self.out.push(Action::Installed);
        if self.status == Status::Learner {
            return;
        }
        // Entries of our own after it stay only if they continue it. If they do not they were never committed.
        if self.log.hash_at(op) != Some(last_hash) {
            self.log = Log::new(op, last_hash);
        }
        self.write_snapshot(Snapshot { op, hash, bytes });
        self.apply_ready();
    }
}
