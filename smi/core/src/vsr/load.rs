//! Reads the zone after a start, and decides what this voter still knows.
//!
//! The rule is: whoever cannot show that it remembers everything it acknowledged counts as having lost its state. What was being
//! written when the power went was never acknowledged and is simply not there (see `disk`).

use super::disk::{AREAS, Checkpoint, LOG, LOG_SLOTS, META_BLOCKS, Mode, Opened, SUPER_COPIES, Seal, Slot, Superblock};
use super::entry::Entry;
use super::state::State;
use crate::hash::checksum;
use crate::io::Action;
use crate::plant::{Plant, planted};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use smi_cluster::layout::BLOCK_SIZE;

/// Blocks in one read.
const READ_BLOCKS: u32 = 20;

/// What the zone holds.
pub(crate) enum Loaded {
    /// Nothing was ever written (or not even the first formatting was finished).
    Blank,
    /// Formatted for a new cluster.
    Formatted(Superblock),
    /// Something is missing. The sequence number of the last superblock that could be read.
    Lost(u64),
    /// Everything.
    Running(Box<Memory>),
}

/// What a voter remembers.
pub(crate) struct Memory {
    pub(crate) superblock: Superblock,
    /// The snapshot (the empty state without one) and its encoding.
    pub(crate) state: State,
    pub(crate) snapshot: Vec<u8>,
    /// The log after the snapshot, and whether both copies of each entry are good.
    pub(crate) entries: Vec<(Entry, bool)>,
    /// How far the log is known to be committed.
    pub(crate) commit: u64,
}

/// What a log slot holds.
#[derive(Clone)]
enum Found {
    /// Damaged. Also when blank: formatting leaves no slot blank.
    Bad,
    /// As formatted.
    Empty,
    Good(Box<Slot>),
}

/// The reader: one read at a time.
pub(crate) struct Loader {
    seal: Seal,
    token: u64,
    reading: (u32, u32),
    copies: [Option<Superblock>; SUPER_COPIES as usize],
    blank_copies: [bool; SUPER_COPIES as usize],
    slots: [Vec<Found>; 2],
    snapshot: Vec<u8>,
    /// Set when all of superblock and log is read.
    superblock: Option<Superblock>,
}

impl Loader {
    pub(crate) fn new(seal: Seal) -> Loader {
        let empty = vec![Found::Bad; LOG_SLOTS as usize];
        Loader {
            seal,
            token: 0,
            reading: (0, 0),
            copies: [None; SUPER_COPIES as usize],
            blank_copies: [false; SUPER_COPIES as usize],
            slots: [empty.clone(), empty],
            snapshot: Vec::new(),
            superblock: None,
        }
    }

    /// Asks for the first blocks.
    pub(crate) fn start(&mut self, out: &mut Vec<Action>) {
        self.read(0, META_BLOCKS, out);
    }

    fn read(&mut self, block: u32, end: u32, out: &mut Vec<Action>) {
        let count = READ_BLOCKS.min(end - block);
        self.token += 1;
        self.reading = (block, count);
        out.push(Action::Read { token: self.token, block, count });
    }

    /// Takes what was read; `None` until all is.
    pub(crate) fn read_back(&mut self, token: u64, data: Option<&[u8]>, out: &mut Vec<Action>) -> Option<Loaded> {
        let (block, count) = self.reading;
        if token != self.token || count == 0 {
            return None;
        }
        let data = data.filter(|d| d.len() == count as usize * BLOCK_SIZE);
        self.reading = (0, 0);
        if self.superblock.is_some() {
            self.snapshot_part(block + count, data, out)
        } else {
            self.meta(block, count, data, out)
        }
    }

    fn meta(&mut self, block: u32, count: u32, data: Option<&[u8]>, out: &mut Vec<Action>) -> Option<Loaded> {
        if let Some(data) = data {
            for (i, bytes) in data.chunks_exact(BLOCK_SIZE).enumerate() {
                self.meta_block(block + i as u32, bytes);
            }
        }
        if block + count < META_BLOCKS {
            self.read(block + count, META_BLOCKS, out);
            return None;
        }
        self.choose(out)
    }

    fn meta_block(&mut self, block: u32, bytes: &[u8]) {
        let opened = self.seal.open(block, bytes);
        if block < SUPER_COPIES {
            self.blank_copies[block as usize] = opened == Opened::Blank;
            if let Opened::Good(content) = opened {
                self.copies[block as usize] = Superblock::decode(content).ok();
            }
            return;
        }
        let copy = usize::from(block >= LOG[1]);
        self.slots[copy][(block - LOG[copy]) as usize] = match opened {
            Opened::Blank | Opened::Bad => Found::Bad,
            Opened::Good([]) => Found::Empty,
            Opened::Good(content) => Slot::decode(content).map_or(Found::Bad, |s| Found::Good(Box::new(s))),
        };
    }

    /// All of superblock and log is read: what is this?
    fn choose(&mut self, out: &mut Vec<Action>) -> Option<Loaded> {
        let Some(superblock) = self.copies.iter().flatten().max_by_key(|s| s.sequence).copied() else {
            // The later copies are written when the first are durable: still blank, so formatting never finished. Should more have been
            // here, the other voters know, for then they are not blank.
            let untouched = self.blank_copies[SUPER_COPIES as usize / 2..].iter().all(|b| *b);
            let no_entries = !self.slots.iter().flatten().any(|s| matches!(s, Found::Good(_)));
            return Some(if untouched && no_entries { Loaded::Blank } else { Loaded::Lost(0) });
        };
        match superblock.mode {
            Mode::Recovering => return Some(Loaded::Lost(superblock.sequence)),
            Mode::Formatted => return Some(Loaded::Formatted(superblock)),
            Mode::Running => {}
        }
        self.superblock = Some(superblock);
        if superblock.checkpoint.op == 0 {
            return Some(self.finish(superblock, State::default()));
        }
        self.read_snapshot(&superblock.checkpoint, out);
        None
    }

    fn read_snapshot(&mut self, checkpoint: &Checkpoint, out: &mut Vec<Action>) {
        let first = AREAS[usize::from(checkpoint.area)];
        let done = (self.snapshot.len() / BLOCK_SIZE) as u32;
        let blocks = checkpoint.len.div_ceil(BLOCK_SIZE as u32);
        self.read(first + done, first + blocks, out);
    }

    fn snapshot_part(&mut self, next: u32, data: Option<&[u8]>, out: &mut Vec<Action>) -> Option<Loaded> {
        let superblock = self.superblock?;
        let Some(data) = data else { return Some(Loaded::Lost(superblock.sequence)) };
        self.snapshot.extend_from_slice(data);
        let checkpoint = superblock.checkpoint;
        let end = AREAS[usize::from(checkpoint.area)] + checkpoint.len.div_ceil(BLOCK_SIZE as u32);
        if next < end {
            self.read_snapshot(&checkpoint, out);
            return None;
        }
        self.snapshot.truncate(checkpoint.len as usize);
        let state = State::decode(&self.snapshot).ok();
        let good = checksum(&self.snapshot) == checkpoint.hash;
        match state.filter(|s| good && s.op() == checkpoint.op) {
            Some(state) => Some(self.finish(superblock, state)),
            None => Some(Loaded::Lost(superblock.sequence)),
        }
    }

    /// Walks the log from the snapshot on.
    fn finish(&mut self, superblock: Superblock, state: State) -> Loaded {
        let mut entries = Vec::new();
        let mut commit = state.op();
        let mut parent = state.last_hash;
        for op in state.op() + 1..=state.op() + LOG_SLOTS {
            let (slot, whole) = match self.slot(op) {
                Place::Entry(slot, whole) => (slot, whole),
                // Everything up to the head was durable when the superblock said so.
                Place::Empty if op > superblock.head => break,
                _ if planted(Plant::DamagedIsMissing) => break,
                Place::Empty | Place::Unreadable => return Loaded::Lost(superblock.sequence),
            };
            // Another view's entry beyond the head: truncated, or an unfinished adoption. Likewise where the chain breaks.
            let live = op <= superblock.head || slot.entry.view == superblock.log_view;
            if slot.entry.parent != parent || !(live || planted(Plant::ResurrectTruncated)) {
                break;
            }
            parent = slot.entry.hash();
            commit = commit.max(slot.commit);
            entries.push((slot.entry, whole));
        }
        let snapshot = core::mem::take(&mut self.snapshot);
        Loaded::Running(Box::new(Memory { superblock, state, snapshot, entries, commit }))
    }

    /// What the two copies together say about the entry with this op number.
    fn slot(&self, op: u64) -> Place {
        let index = (op % LOG_SLOTS) as usize;
        let [first, second] = [&self.slots[0][index], &self.slots[1][index]];
        let of = |found: &Found| match found {
            Found::Good(slot) if slot.entry.op == op => Some((**slot).clone()),
            _ => None,
        };
        match (of(first), of(second)) {
            // If the copies differ, a replacement was cut off between them: the first is the newer one.
            (Some(a), b) => return Place::Entry(a.clone(), b == Some(a)),
            (None, Some(b)) => return Place::Entry(b, false),
            (None, None) => {}
        }
        if matches!((first, second), (Found::Bad, Found::Bad)) { Place::Unreadable } else { Place::Empty }
    }
}

enum Place {
    /// It is there; whether both copies are good.
    Entry(Slot, bool),
    /// Never written, or its writing was cut off.
    Empty,
    /// It may have been acknowledged.
    Unreadable,
}
