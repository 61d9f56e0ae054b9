//! Orders the disk writes: jobs run one after another, each in stages, and a stage is durable before the next begins.
//!
//! Always: a job is done only when everything queued before it is durable. The queue is short, for log jobs are merged and a newer
//! superblock replaces one that still waits.

use super::disk::{AREAS, Checkpoint, LOG, META_BLOCKS, SUPER_COPIES, Seal, Slot, Superblock, slot_block};
use crate::io::Action;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use smi_cluster::layout::BLOCK_SIZE;

/// Blocks written together, then flushed.
type Stage = BTreeMap<u32, Vec<u8>>;

/// A job that is durable now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Done {
    /// These entries (op number, hash).
    Log(Vec<(u64, u64)>),
    /// This superblock, in all copies.
    Super(Superblock),
    /// A snapshot; the superblock does not name it yet.
    Snapshot(Checkpoint),
    /// All slots of the log.
    Format,
}

struct Job {
    stages: VecDeque<Stage>,
    done: Done,
}

struct Running {
    job: Job,
    writes: BTreeSet<u64>,
    flush: Option<u64>,
}

pub(crate) struct Journal {
    seal: Seal,
    queue: VecDeque<Job>,
    running: Option<Running>,
    next_token: u64,
}

/// Most blocks in a stage of a large job.
const STAGE_BLOCKS: usize = 32;

/// Jobs that can wait: log, snapshot, log, superblock, log.
const MAX_JOBS: usize = 8;

impl Journal {
    pub(crate) fn new(seal: Seal, first_token: u64) -> Journal {
        Journal { seal, queue: VecDeque::new(), running: None, next_token: first_token }
    }

    /// Writes a log entry, first copy before second.
    pub(crate) fn entry(&mut self, slot: &Slot, hash: u64) {
        if !matches!(self.queue.back(), Some(Job { done: Done::Log(_), .. })) {
            self.push(Job { stages: VecDeque::from([Stage::new(), Stage::new()]), done: Done::Log(Vec::new()) });
        }
        let Some(Job { stages, done: Done::Log(entries) }) = self.queue.back_mut() else { return };
        let (op, content) = (slot.entry.op, slot.encode());
        // An entry that is replaced before it was written is not written at all.
        entries.retain(|(other, _)| *other != op);
        entries.push((op, hash));
        for (copy, stage) in stages.iter_mut().enumerate() {
            let block = slot_block(copy, op);
            stage.insert(block, self.seal.close(block, &content));
        }
    }

    /// Writes the superblock, two copies before the other two.
    pub(crate) fn superblock(&mut self, superblock: &Superblock) {
        self.queue.retain(|job| !matches!(job.done, Done::Super(_)));
        self.merge_logs();
        let content = superblock.encode();
        let half = |copies: core::ops::Range<u32>| copies.map(|b| (b, self.seal.close(b, &content))).collect();
        let stages = VecDeque::from([half(0..SUPER_COPIES / 2), half(SUPER_COPIES / 2..SUPER_COPIES)]);
        self.push(Job { stages, done: Done::Super(*superblock) });
    }

    /// Writes empty slots to the whole log, so that a blank one can be told from one that was never used.
    pub(crate) fn format(&mut self) {
        let blocks = (LOG[0]..META_BLOCKS).map(|block| (block, self.seal.close(block, &[])));
        let stages = in_stages(blocks);
        self.push(Job { stages, done: Done::Format });
    }

    /// Writes a snapshot to its area.
    pub(crate) fn snapshot(&mut self, checkpoint: Checkpoint, bytes: &[u8]) {
        let first = AREAS[usize::from(checkpoint.area)];
        let block = |chunk: &[u8]| {
            let mut block = chunk.to_vec();
            block.resize(BLOCK_SIZE, 0);
            block
        };
        let blocks = bytes.chunks(BLOCK_SIZE).enumerate().map(|(i, c)| (first + i as u32, block(c)));
        let stages = in_stages(blocks);
        self.push(Job { stages, done: Done::Snapshot(checkpoint) });
    }

    fn push(&mut self, job: Job) {
        self.queue.push_back(job);
        assert!(self.queue.len() <= MAX_JOBS, "the disk queue is bounded");
    }

    /// Two log jobs that have become neighbours become one.
    fn merge_logs(&mut self) {
        let mut i = 1;
        while i < self.queue.len() {
            let both_logs = matches!((&self.queue[i - 1].done, &self.queue[i].done), (Done::Log(_), Done::Log(_)));
            if !both_logs {
                i += 1;
                continue;
            }
            if let Some(later) = self.queue.remove(i) {
                merge(&mut self.queue[i - 1], later);
            }
        }
    }

    /// Whether nothing is under way or waits.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        self.running.is_none() && self.queue.is_empty()
    }

    fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    /// Starts the next job if none is running.
    pub(crate) fn pump(&mut self, out: &mut Vec<Action>) {
        if self.running.is_some() {
            return;
        }
        let Some(job) = self.queue.pop_front() else { return };
        self.start_stage(job, out);
    }

    fn start_stage(&mut self, mut job: Job, out: &mut Vec<Action>) {
        let stage = job.stages.pop_front().unwrap_or_default();
        let mut writes = BTreeSet::new();
        for (block, bytes) in stage {
            let token = self.token();
            writes.insert(token);
            out.push(Action::Write { token, block, bytes });
        }
        assert!(!writes.is_empty(), "a stage writes something");
        self.running = Some(Running { job, writes, flush: None });
    }

    /// A write was taken. After the last one of a stage comes the flush.
    pub(crate) fn written(&mut self, token: u64, out: &mut Vec<Action>) {
        let flush = self.next_token + 1;
        let Some(running) = &mut self.running else { return };
        if running.writes.remove(&token) && running.writes.is_empty() {
            running.flush = Some(flush);
            self.next_token = flush;
            out.push(Action::Flush { token: flush });
        }
    }

    /// A flush has finished: on to the next stage, or the job is done.
    pub(crate) fn flushed(&mut self, token: u64, out: &mut Vec<Action>) -> Option<Done> {
        let running = self.running.take_if(|r| r.flush == Some(token))?;
        if running.job.stages.is_empty() {
            return Some(running.job.done);
        }
        self.start_stage(running.job, out);
        None
    }

    /// Whether the token belongs to something under way.
    pub(crate) fn knows(&self, token: u64) -> bool {
        self.running.as_ref().is_some_and(|r| r.flush == Some(token) || r.writes.contains(&token))
    }
}

/// Splits much to write into stages, so that the disk and the caller's memory take it in pieces.
fn in_stages(blocks: impl Iterator<Item = (u32, Vec<u8>)>) -> VecDeque<Stage> {
    let mut stages = VecDeque::from([Stage::new()]);
    for (block, bytes) in blocks {
        if stages.back().is_some_and(|stage| stage.len() == STAGE_BLOCKS) {
            stages.push_back(Stage::new());
        }
        if let Some(stage) = stages.back_mut() {
            stage.insert(block, bytes);
        }
    }
    stages
}

/// Adds the log job `later` to the log job `job`.
fn merge(job: &mut Job, later: Job) {
    if let (Done::Log(entries), Done::Log(new)) = (&mut job.done, later.done) {
        entries.retain(|(op, _)| new.iter().all(|(other, _)| other != op));
        entries.extend(new);
        for (stage, more) in job.stages.iter_mut().zip(later.stages) {
            stage.extend(more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Op;
    use crate::vsr::disk::Mode;
    use crate::vsr::entry::Entry;
    use alloc::vec;
    use smi_cluster::NodeId;

    fn slot(op: u64) -> Slot {
        Slot { commit: 0, entry: Entry { op, view: 0, parent: 0, request: None, body: Op::Noop } }
    }

    /// Answers everything; returns the jobs in the order in which they finished, and the blocks in the order of writing, with `None`
    /// for a flush.
    fn run(journal: &mut Journal) -> (Vec<Done>, Vec<Option<u32>>) {
        let (mut done, mut trace) = (vec![], vec![]);
        let mut out = vec![];
        loop {
            journal.pump(&mut out);
            if out.is_empty() {
                return (done, trace);
            }
            for action in core::mem::take(&mut out) {
                match action {
                    Action::Write { token, block, .. } => {
                        trace.push(Some(block));
                        journal.written(token, &mut out);
                    }
                    Action::Flush { token } => {
                        trace.push(None);
                        done.extend(journal.flushed(token, &mut out));
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    #[test]
    fn second_copies_wait_for_the_first() {
        let mut journal = Journal::new(Seal::new([0; 16], NodeId(1)), 0);
        journal.entry(&slot(1), 11);
        journal.entry(&slot(2), 22);
        let (done, trace) = run(&mut journal);
        assert_eq!(done, [Done::Log(vec![(1, 11), (2, 22)])]);
        let copies = |copy| [Some(slot_block(copy, 1)), Some(slot_block(copy, 2)), None];
        assert_eq!(trace, [copies(0), copies(1)].concat());
        assert!(journal.is_idle());
    }

    #[test]
    fn a_superblock_comes_after_the_log_and_the_last_one_wins() {
        let mut journal = Journal::new(Seal::new([0; 16], NodeId(1)), 0);
        let mut s = Superblock::new(Mode::Running);
        journal.entry(&slot(1), 1);
        journal.superblock(&s);
        journal.entry(&slot(2), 2);
        s.view = 1;
        journal.superblock(&s);
        let (done, trace) = run(&mut journal);
        assert_eq!(done, [Done::Log(vec![(1, 1), (2, 2)]), Done::Super(s)]);
        assert_eq!(trace[6..], [Some(0), Some(1), None, Some(2), Some(3), None]);
    }

    #[test]
    fn a_replaced_entry_is_written_once() {
        let mut journal = Journal::new(Seal::new([0; 16], NodeId(1)), 0);
        journal.entry(&slot(1), 1);
        journal.entry(&slot(1), 2);
        assert_eq!(run(&mut journal).0, [Done::Log(vec![(1, 2)])]);
    }

    #[test]
    fn strange_tokens_change_nothing() {
        let mut journal = Journal::new(Seal::new([0; 16], NodeId(1)), 0);
        let mut out = vec![];
        journal.written(7, &mut out);
        assert_eq!(journal.flushed(7, &mut out), None);
        journal.entry(&slot(1), 1);
        journal.pump(&mut out);
        out.clear();
        journal.written(99, &mut out);
        assert_eq!(journal.flushed(99, &mut out), None);
        assert!(out.is_empty() && !journal.is_idle());
    }
}
