//! A disk with a volatile write cache, a reference model of objects, and a driver that runs a store on them.
#![allow(dead_code)]

use smi_cluster::Vid;
use smi_store::layout::BLOCK;
use smi_store::{Action, BlockReader, Event, IoId, IoKind, Mutation, ReadFailed, Recovery, Store, StoreError};
use std::collections::{BTreeMap, VecDeque};

pub const SECTOR: usize = 512;

/// Durable blocks, and writes that a flush has not made durable yet.
#[derive(Clone)]
pub struct Disk {
    pub durable: Vec<u8>,
    /// Single-block writes since the last flush, in order.
    pub cached: Vec<(u64, Vec<u8>)>,
}

impl Disk {
    pub fn new(blocks: u64) -> Disk {
        Disk { durable: vec![0; blocks as usize * BLOCK], cached: Vec::new() }
    }

    pub fn blocks(&self) -> u64 {
        (self.durable.len() / BLOCK) as u64
    }

    fn put(&mut self, block: u64, bytes: &[u8]) {
        let at = block as usize * BLOCK;
        self.durable[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub fn write(&mut self, block: u64, bytes: &[u8]) {
        for (i, piece) in bytes.chunks(BLOCK).enumerate() {
            assert!(block + (i as u64) < self.blocks(), "write past the zone");
            self.cached.push((block + i as u64, piece.to_vec()));
        }
    }

    pub fn flush(&mut self) {
        for (block, bytes) in std::mem::take(&mut self.cached) {
            self.put(block, &bytes);
        }
    }

    pub fn read(&self, block: u64, buffer: &mut [u8]) {
        for (i, piece) in buffer.chunks_mut(BLOCK).enumerate() {
            let at = block + i as u64;
            piece.copy_from_slice(&self.durable[at as usize * BLOCK..(at as usize + 1) * BLOCK]);
            for (b, bytes) in &self.cached {
                if *b == at {
                    piece.copy_from_slice(bytes);
                }
            }
        }
    }

    /// What a power failure leaves: for each cached write, `keep` says how many of its sectors reached the disk, from which end.
    pub fn crash(&self, mut keep: impl FnMut(usize) -> Survives) -> Disk {
        let mut after = Disk { durable: self.durable.clone(), cached: Vec::new() };
        for (i, (block, bytes)) in self.cached.iter().enumerate() {
            let at = *block as usize * BLOCK;
            let range = match keep(i) {
                Survives::Nothing => 0..0,
                Survives::All => 0..BLOCK,
                Survives::Head(n) => 0..n * SECTOR,
                Survives::Tail(n) => BLOCK - n * SECTOR..BLOCK,
            };
            after.durable[at + range.start..at + range.end].copy_from_slice(&bytes[range.clone()]);
        }
        after
    }
}

/// How much of a cached write survives a crash.
#[derive(Clone, Copy, Debug)]
pub enum Survives {
    Nothing,
    All,
    Head(usize),
    Tail(usize),
}

impl BlockReader for Disk {
    fn read(&mut self, block: u64, buffer: &mut [u8]) -> Result<(), ReadFailed> {
        Disk::read(self, block, buffer);
        Ok(())
    }
}

/// What objects should contain.
pub type Model = BTreeMap<Vid, Vec<u8>>;

/// Applies a mutation to the model; false if it must be refused.
pub fn apply(model: &mut Model, op: &Mutation) -> bool {
    match op {
        Mutation::Ensure { vid, .. } => {
            model.entry(*vid).or_default();
            true
        }
        Mutation::Delete { vid } => {
            model.remove(vid);
            true
        }
        Mutation::SetAttr { vid, .. } => model.contains_key(vid),
        Mutation::SetLen { vid, len } => model.get_mut(vid).is_some_and(|o| {
            o.resize(*len as usize, 0);
            true
        }),
        Mutation::Write { vid, offset, bytes } => model.get_mut(vid).is_some_and(|o| {
            let end = *offset as usize + bytes.len();
            if o.len() < end {
                o.resize(end, 0);
            }
            o[*offset as usize..end].copy_from_slice(bytes);
            true
        }),
    }
}

/// A commit's effect on the model, all or none.
pub fn apply_all(model: &Model, ops: &[Mutation]) -> Option<Model> {
    let mut after = model.clone();
    ops.iter().all(|op| apply(&mut after, op)).then_some(after)
}

/// A store on a disk, with its I/O waiting to be done.
pub struct Rig {
    pub store: Store,
    pub disk: Disk,
    pub pending: VecDeque<(IoId, IoKind)>,
    pub done: Vec<(u64, Result<(), StoreError>)>,
    pub read: Vec<(u64, Result<Vec<u8>, StoreError>)>,
}

impl Rig {
    pub fn open(mut disk: Disk) -> Rig {
        let recovery = Recovery::open(disk.blocks(), &mut disk).expect("opens");
        Rig { store: Store::new(recovery), disk, pending: VecDeque::new(), done: Vec::new(), read: Vec::new() }
    }

    pub fn step(&mut self, event: Event) {
        let mut out = Vec::new();
        self.store.step(event, &mut out);
        for action in out {
            match action {
                Action::Io { id, kind } => self.pending.push_back((id, kind)),
                Action::Committed { token, result } => self.done.push((token, result)),
                Action::ReadDone { token, result } => self.read.push((token, result)),
            }
        }
    }

    /// Carries out the `n`-th waiting I/O. A flush covers what was written before.
    pub fn io(&mut self, n: usize) {
        let (id, kind) = self.pending.remove(n).expect("an I/O waits");
        let result = match kind {
            IoKind::Read { block, count } => {
                let mut bytes = vec![0; count as usize * BLOCK];
                self.disk.read(block, &mut bytes);
                Ok(bytes)
            }
            IoKind::Write { block, bytes } => {
                self.disk.write(block, &bytes);
                Ok(Vec::new())
            }
            IoKind::Flush => {
                self.disk.flush();
                Ok(Vec::new())
            }
        };
        self.step(Event::Io { id, result });
    }

    pub fn settle(&mut self) {
        while !self.pending.is_empty() {
            self.io(0);
        }
    }

    pub fn commit(&mut self, token: u64, ops: Vec<Mutation>) -> Result<(), StoreError> {
        self.step(Event::Commit { token, ops });
        self.settle();
        self.done.iter().rev().find(|d| d.0 == token).expect("answered").1
    }

    pub fn read(&mut self, vid: Vid, offset: u64, len: u32) -> Result<Vec<u8>, StoreError> {
        self.step(Event::Read { token: u64::MAX, vid, offset, len });
        self.settle();
        self.read.pop().expect("answered").1
    }

    /// Everything in the store, read back through it.
    pub fn contents(&mut self) -> Model {
        let objects: Vec<_> = self.store.objects().collect();
        objects
            .into_iter()
            .map(|(vid, info)| {
                let mut bytes = Vec::new();
                while (bytes.len() as u64) < info.len {
                    let piece = self.read(vid, bytes.len() as u64, 1 << 20).expect("reads back");
                    assert!(!piece.is_empty());
                    bytes.extend(piece);
                }
                (vid, bytes)
            })
            .collect()
    }
}

pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}
