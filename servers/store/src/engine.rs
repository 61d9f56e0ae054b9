//! The store at work: batches of commits, reads, checkpoints. See the crate's documentation for why it is safe.

use crate::alloc_map::AllocMap;
use crate::layout::{BLOCK, Layout};
use crate::map::{BlockRef, Change, Map, ObjectInfo};
use crate::records::{MAX_RECORD_BLOCKS, Superblock, crc32c, encode_checkpoint, encode_record};
use crate::recover::Recovery;
use crate::{Attr, MAX_OBJECT, Mutation, StoreError};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec;
use alloc::vec::Vec;
use smi_cluster::Vid;

/// The most bytes that one commit may write, and one read may ask for.
pub const MAX_COMMIT_BYTES: usize = 1 << 20;
/// The most mutations in a commit.
const MAX_COMMIT_OPS: usize = 1024;
/// A batch takes commits until it holds this many bytes.
const BATCH_BYTES: usize = 1 << 20;
/// ... or this many commits.
const BATCH_COMMITS: usize = 64;
/// Last blocks of objects that are kept in memory, so that an append need not read.
const CACHE_BLOCKS: usize = 64;
/// The longest single I/O, in blocks.
const MAX_IO_BLOCKS: usize = 64;
/// Upper bounds of what an object and a block take in a checkpoint, in bytes.
const OBJECT_COST: u64 = 72;
const BLOCK_COST: u64 = 16;

/// Names an I/O until its completion.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct IoId(pub u64);

/// A request to the block device. Block numbers are within the store's zone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum IoKind {
    /// Read `count` blocks.
    Read {
        /// First block.
        block: u64,
        /// How many.
        count: u32,
    },
    /// Write whole blocks.
    Write {
        /// First block.
        block: u64,
        /// A multiple of the block size.
        bytes: Vec<u8>,
    },
    /// Make all completed writes durable.
    Flush,
}

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Apply these mutations, all or none, durably.
    Commit {
        /// Comes back in [`Action::Committed`].
        token: u64,
        /// What to do, in order.
        ops: Vec<Mutation>,
    },
    /// Read bytes of an object as of the last durable commit.
    Read {
        /// Comes back in [`Action::ReadDone`].
        token: u64,
        /// The object.
        vid: Vid,
        /// From where, in bytes.
        offset: u64,
        /// How many bytes; fewer come back at the object's end.
        len: u32,
    },
    /// An I/O completed; for a read with its bytes. `Err` means that the device failed it.
    Io {
        /// Which.
        id: IoId,
        /// How.
        result: Result<Vec<u8>, ()>,
    },
}

/// Something to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Give this to the block device.
    Io {
        /// Answer with this id.
        id: IoId,
        /// What.
        kind: IoKind,
    },
    /// A commit is durable, or failed without effect.
    Committed {
        /// The commit's token.
        token: u64,
        /// How it went.
        result: Result<(), StoreError>,
    },
    /// A read is done.
    ReadDone {
        /// The read's token.
        token: u64,
        /// The bytes.
        result: Result<Vec<u8>, StoreError>,
    },
}

struct Commit {
    token: u64,
    ops: Vec<Mutation>,
}

/// An object as the batch in the making sees it.
struct Staged {
    alive: bool,
    len: u64,
    attr: Attr,
    /// Base blocks from here on are hidden (truncated or of a deleted predecessor).
    base_blocks: u64,
    /// The object was created in this batch.
    created: bool,
    /// New contents.
    blocks: BTreeMap<u64, Vec<u8>>,
}

/// What the batch in flight waits for.
enum Phase {
    /// Old contents of blocks that are overwritten in part.
    Gather { waiting: usize },
    /// The checkpoint's area, its flush, its superblock, its flush: 0 to 3.
    Checkpoint { step: u8, waiting: usize, superblock: Superblock },
    /// Data and log record.
    Write { waiting: usize },
    /// The flush.
    Flush,
}

struct Batch {
    phase: Phase,
    commits: Vec<Commit>,
    old: BTreeMap<(Vid, u64), Result<Vec<u8>, StoreError>>,
    changes: Vec<Change>,
    contents: Vec<(u64, Vec<u8>)>,
    tails: Vec<((Vid, u64), Vec<u8>)>,
    record: Vec<u8>,
}

struct Reading {
    token: u64,
    offset: u64,
    len: usize,
    waiting: usize,
    error: Option<StoreError>,
    first_index: u64,
    bytes: Vec<u8>,
}

enum Owner {
    /// A batch's read of one old block.
    Gather(Vid, u64, BlockRef),
    /// A batch's write or flush.
    Batch,
    /// Part of a read: the blocks' indices within the object and what they must be.
    Read(u64, Vec<(u64, BlockRef)>),
}

/// The local store.
pub struct Store {
    layout: Layout,
    map: Map,
    map_blocks: u64,
    alloc: AllocMap,
    superblock: Superblock,
    log_position: u64,
    log_used: u64,
    next_record: u64,
    queue: VecDeque<Commit>,
    batch: Option<Batch>,
    reads: BTreeMap<u64, Reading>,
    next_read: u64,
    io: BTreeMap<IoId, Owner>,
    next_io: u64,
    cache: BTreeMap<(Vid, u64), Vec<u8>>,
    cache_order: VecDeque<(Vid, u64)>,
    dead: bool,
}

impl Store {
    /// A store that goes on from what recovery found.
    pub fn new(recovery: Recovery) -> Store {
        let Recovery { layout, map, alloc, superblock, log_position, log_used, next_record } = recovery;
        let map_blocks = map.objects.values().map(|o| o.blocks.len() as u64).sum();
        Store {
            layout,
            map,
            map_blocks,
            alloc,
            superblock,
            log_position,
            log_used,
            next_record,
            queue: VecDeque::new(),
            batch: None,
            reads: BTreeMap::new(),
            next_read: 0,
            io: BTreeMap::new(),
            next_io: 0,
            cache: BTreeMap::new(),
            cache_order: VecDeque::new(),
            dead: false,
        }
    }

    /// What is durably known of an object.
    pub fn info(&self, vid: Vid) -> Option<ObjectInfo> {
        self.map.objects.get(&vid).map(|o| ObjectInfo { len: o.len, attr: o.attr })
    }

    /// All objects, in order of VID.
    pub fn objects(&self) -> impl Iterator<Item = (Vid, ObjectInfo)> + '_ {
        self.map.objects.iter().map(|(vid, o)| (*vid, ObjectInfo { len: o.len, attr: o.attr }))
    }

    /// Free and total data space, in bytes.
    pub fn space(&self) -> (u64, u64) {
        (self.alloc.free() * BLOCK as u64, self.layout.data_blocks * BLOCK as u64)
    }

    /// Whether the device has failed a write, after which nothing more is accepted.
    pub fn is_dead(&self) -> bool {
        self.dead
    }

    /// Commits waiting or in flight.
    pub fn pending_commits(&self) -> usize {
        self.queue.len() + self.batch.as_ref().map_or(0, |b| b.commits.len())
    }

    /// Takes one event; what is to be done is appended to `out`.
    pub fn step(&mut self, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Commit { token, ops } => self.on_commit(token, ops, out),
            Event::Read { token, vid, offset, len } => self.on_read(token, vid, offset, len, out),
            Event::Io { id, result } => self.on_io(id, result, out),
        }
        if self.batch.is_none() && !self.queue.is_empty() {
            self.start_batch(out);
        }
    }

    // ---- commits ----

    fn on_commit(&mut self, token: u64, ops: Vec<Mutation>, out: &mut Vec<Action>) {
        let bytes: usize =
            ops.iter().map(|op| if let Mutation::Write { bytes, .. } = op { bytes.len() } else { 0 }).sum();
        let refusal = if self.dead {
            Some(StoreError::Device)
        } else if ops.len() > MAX_COMMIT_OPS || bytes > MAX_COMMIT_BYTES {
            Some(StoreError::TooLarge)
        } else {
            None
        };
        match refusal {
            Some(error) => out.push(Action::Committed { token, result: Err(error) }),
            None => self.queue.push_back(Commit { token, ops }),
        }
    }

    /// Takes commits off the queue and asks for the old blocks that they change in part.
    fn start_batch(&mut self, out: &mut Vec<Action>) {
        let mut commits = Vec::new();
        let mut bytes = 0;
        while commits.len() < BATCH_COMMITS && bytes < BATCH_BYTES {
            let Some(commit) = self.queue.pop_front() else { break };
            bytes += commit.ops.iter().map(write_len).sum::<usize>();
            commits.push(commit);
        }
        let mut batch = Batch {
            phase: Phase::Gather { waiting: 0 },
            old: BTreeMap::new(),
            changes: Vec::new(),
            contents: Vec::new(),
            tails: Vec::new(),
            record: Vec::new(),
            commits,
        };
        let wanted: BTreeSet<(Vid, u64)> =
            batch.commits.iter().flat_map(|c| &c.ops).flat_map(|op| self.partial_blocks(op)).collect();
        let mut waiting = 0;
        for key in wanted {
            if let Some(content) = self.cache.get(&key) {
                batch.old.insert(key, Ok(content.clone()));
            } else if let Some(block) = self.base_block(key) {
                let kind = IoKind::Read { block: self.layout.data_first + block.disk, count: 1 };
                self.issue(kind, Owner::Gather(key.0, key.1, block), out);
                waiting += 1;
            }
        }
        batch.phase = Phase::Gather { waiting };
        self.batch = Some(batch);
        if waiting == 0 {
            self.build_batch(out);
        }
    }

    fn base_block(&self, (vid, index): (Vid, u64)) -> Option<BlockRef> {
        self.map.objects.get(&vid)?.blocks.get(&index).copied()
    }

    /// Blocks of which `op` changes only a part.
    fn partial_blocks(&self, op: &Mutation) -> Vec<(Vid, u64)> {
        let block = BLOCK as u64;
        match op {
            Mutation::Write { vid, offset, bytes } if !bytes.is_empty() => {
                let Some(end) = offset.checked_add(bytes.len() as u64) else { return Vec::new() };
                let mut partial = Vec::new();
                if !offset.is_multiple_of(block) {
                    partial.push((*vid, offset / block));
                }
                if !end.is_multiple_of(block) {
                    partial.push((*vid, end / block));
                }
                partial
            }
            Mutation::SetLen { vid, len } if !len.is_multiple_of(block) => vec![(*vid, len / block)],
            _ => Vec::new(),
        }
    }

    /// All old blocks are here: check each commit, stage what is right, and write.
    fn build_batch(&mut self, out: &mut Vec<Action>) {
        let Some(mut batch) = self.batch.take() else { return };
        let mut staged: BTreeMap<Vid, Staged> = BTreeMap::new();
        let mut blocks_left = self.alloc.free();
        let mut cost = self.map.objects.len() as u64 * OBJECT_COST + self.map_blocks * BLOCK_COST;
        let mut good = Vec::new();
        for commit in core::mem::take(&mut batch.commits) {
            match self.check(&commit.ops, &staged, &batch.old, blocks_left, &mut cost) {
                Ok(blocks) => {
                    blocks_left -= blocks;
                    for op in &commit.ops {
                        self.stage(op, &mut staged, &batch.old);
                    }
                    good.push(commit);
                }
                Err(error) => out.push(Action::Committed { token: commit.token, result: Err(error) }),
            }
        }
        if good.is_empty() {
            return;
        }
        batch.commits = good;
        self.place(staged, &mut batch);
        let Some(record) = encode_record(self.next_record, &batch.changes) else {
            // Bounded by MAX_COMMIT_OPS and BATCH_BYTES to far less than a record holds, but a refusal is still the right answer.
            return self.refuse_batch(batch, StoreError::TooLarge, out);
        };
        batch.record = record;
        let blocks = (batch.record.len() / BLOCK) as u64;
        let skip = if self.log_position + blocks > self.layout.log_blocks {
            self.layout.log_blocks - self.log_position
        } else {
            0
        };
        if self.log_used + skip + blocks + MAX_RECORD_BLOCKS > self.layout.log_blocks {
            self.start_checkpoint(batch, out);
        } else {
            self.write_batch(batch, out);
        }
    }

    fn refuse_batch(&mut self, batch: Batch, error: StoreError, out: &mut Vec<Action>) {
        for (block, _) in &batch.contents {
            self.alloc.give_back(*block);
        }
        out.extend(batch.commits.iter().map(|c| Action::Committed { token: c.token, result: Err(error) }));
    }

    /// Whether a commit can be applied on top of what is staged; the data blocks that it needs at most.
    fn check(
        &self,
        ops: &[Mutation],
        staged: &BTreeMap<Vid, Staged>,
        old: &BTreeMap<(Vid, u64), Result<Vec<u8>, StoreError>>,
        blocks_left: u64,
        cost: &mut u64,
    ) -> Result<u64, StoreError> {
        let mut alive: BTreeMap<Vid, bool> = BTreeMap::new();
        let mut exists = |vid: Vid| {
            *alive.entry(vid).or_insert_with(|| match staged.get(&vid) {
                Some(s) => s.alive,
                None => self.map.objects.contains_key(&vid),
            })
        };
        let mut changed = BTreeMap::new();
        let (mut blocks, mut more_cost) = (0u64, 0u64);
        for op in ops {
            let vid = op.vid();
            let there = changed.get(&vid).copied().unwrap_or_else(|| exists(vid));
            match op {
                Mutation::Ensure { .. } if there => {}
                Mutation::Ensure { .. } => {
                    more_cost += OBJECT_COST;
                    changed.insert(vid, true);
                }
                Mutation::Delete { .. } => {
                    changed.insert(vid, false);
                }
                _ if !there => return Err(StoreError::NotFound),
                Mutation::Write { offset, bytes, .. } => {
                    let end = offset.checked_add(bytes.len() as u64).ok_or(StoreError::TooLarge)?;
                    if end > MAX_OBJECT {
                        return Err(StoreError::TooLarge);
                    }
                    if !bytes.is_empty() {
                        blocks += (end - 1) / BLOCK as u64 - offset / BLOCK as u64 + 1;
                    }
                }
                Mutation::SetLen { len, .. } if *len > MAX_OBJECT => return Err(StoreError::TooLarge),
                Mutation::SetLen { .. } => blocks += 1,
                Mutation::SetAttr { .. } => {}
            }
            for key in self.partial_blocks(op) {
                if let Some(Err(error)) = old.get(&key) {
                    return Err(*error);
                }
            }
        }
        more_cost += blocks * BLOCK_COST;
        if blocks > blocks_left || *cost + more_cost + BLOCK as u64 > self.layout.area_blocks * BLOCK as u64 {
            return Err(StoreError::NoSpace);
        }
        *cost += more_cost;
        Ok(blocks)
    }

    /// Applies a checked mutation to the staged objects.
    fn stage(
        &self,
        op: &Mutation,
        staged: &mut BTreeMap<Vid, Staged>,
        old: &BTreeMap<(Vid, u64), Result<Vec<u8>, StoreError>>,
    ) {
        let vid = op.vid();
        let s = staged.entry(vid).or_insert_with(|| match self.map.objects.get(&vid) {
            Some(o) => Staged {
                alive: true,
                len: o.len,
                attr: o.attr,
                base_blocks: u64::MAX,
                created: false,
                blocks: BTreeMap::new(),
            },
            None => Staged {
                alive: false,
                len: 0,
                attr: Attr::default(),
                base_blocks: 0,
                created: false,
                blocks: BTreeMap::new(),
            },
        });
        match op {
            Mutation::Ensure { .. } if s.alive => {}
            Mutation::Ensure { attr, .. } => {
                *s =
                    Staged { alive: true, len: 0, attr: *attr, base_blocks: 0, created: true, blocks: BTreeMap::new() };
            }
            Mutation::Delete { .. } => {
                *s = Staged {
                    alive: false,
                    len: 0,
                    attr: Attr::default(),
                    base_blocks: 0,
                    created: false,
                    blocks: BTreeMap::new(),
                };
            }
            Mutation::SetAttr { attr, .. } => s.attr = *attr,
            Mutation::SetLen { len, .. } => {
                if *len < s.len {
                    let keep = len.div_ceil(BLOCK as u64);
                    s.base_blocks = s.base_blocks.min(keep);
                    s.blocks.split_off(&keep);
                    let within = (len % BLOCK as u64) as usize;
                    if within != 0 {
                        let index = len / BLOCK as u64;
                        if let Some(content) = self.content(s, vid, index, old) {
                            content[within..].fill(0);
                        }
                    }
                }
                s.len = *len;
            }
            Mutation::Write { offset, bytes, .. } => {
                let mut at = *offset;
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let within = (at % BLOCK as u64) as usize;
                    let n = rest.len().min(BLOCK - within);
                    let index = at / BLOCK as u64;
                    if n == BLOCK {
                        s.blocks.insert(index, rest[..n].to_vec());
                    } else {
                        if self.content(s, vid, index, old).is_none() {
                            s.blocks.insert(index, vec![0; BLOCK]);
                        }
                        if let Some(content) = s.blocks.get_mut(&index) {
                            content[within..within + n].copy_from_slice(&rest[..n]);
                        }
                    }
                    at += n as u64;
                    rest = &rest[n..];
                }
                s.len = s.len.max(*offset + bytes.len() as u64);
            }
        }
    }

    /// The staged content of a block, brought in from the old one if need be; `None` if the block is a hole.
    fn content<'s>(
        &self,
        s: &'s mut Staged,
        vid: Vid,
        index: u64,
        old: &BTreeMap<(Vid, u64), Result<Vec<u8>, StoreError>>,
    ) -> Option<&'s mut Vec<u8>> {
        if !s.blocks.contains_key(&index) {
            if index >= s.base_blocks || self.base_block((vid, index)).is_none() {
                return None;
            }
            let bytes = old.get(&(vid, index)).and_then(|r| r.as_ref().ok());
            s.blocks.insert(index, bytes.expect("partly changed blocks were gathered").clone());
        }
        s.blocks.get_mut(&index)
    }

    /// Gives disk blocks to the staged contents and lists the map's changes.
    fn place(&mut self, staged: BTreeMap<Vid, Staged>, batch: &mut Batch) {
        for (vid, s) in staged {
            let base = self.map.objects.get(&vid);
            if base.is_some() && (!s.alive || s.created) {
                batch.changes.push(Change::Delete(vid));
            }
            if !s.alive {
                continue;
            }
            if s.created {
                batch.changes.push(Change::Create(vid, s.attr));
                batch.changes.push(Change::Len(vid, s.len));
            } else if let Some(base) = base {
                if s.attr != base.attr {
                    batch.changes.push(Change::Attr(vid, s.attr));
                }
                if s.base_blocks < u64::MAX {
                    batch.changes.push(Change::Len(vid, (s.base_blocks * BLOCK as u64).min(base.len)));
                }
                if s.len != base.len || s.base_blocks < u64::MAX {
                    batch.changes.push(Change::Len(vid, s.len));
                }
            }
            let last = s.blocks.keys().next_back().copied();
            for (index, content) in s.blocks {
                let disk = self.alloc.take().expect("space was checked");
                let block = BlockRef { disk, crc: crc32c(&content) };
                batch.changes.push(Change::Block(vid, index, block));
                if Some(index) == last {
                    batch.tails.push(((vid, index), content.clone()));
                }
                batch.contents.push((disk, content));
            }
        }
    }

    fn write_batch(&mut self, mut batch: Batch, out: &mut Vec<Action>) {
        let blocks = (batch.record.len() / BLOCK) as u64;
        if self.log_position + blocks > self.layout.log_blocks {
            self.log_used += self.layout.log_blocks - self.log_position;
            self.log_position = 0;
        }
        let at = self.layout.log_first + self.log_position;
        let mut waiting = 1;
        self.issue(IoKind::Write { block: at, bytes: core::mem::take(&mut batch.record) }, Owner::Batch, out);
        self.log_position += blocks;
        self.log_used += blocks;
        batch.contents.sort_by_key(|(disk, _)| *disk);
        let mut run: Option<(u64, Vec<u8>)> = None;
        for (disk, content) in core::mem::take(&mut batch.contents) {
            match &mut run {
                Some((first, bytes))
                    if *first + (bytes.len() / BLOCK) as u64 == disk && bytes.len() < MAX_IO_BLOCKS * BLOCK =>
                {
                    bytes.extend_from_slice(&content);
                }
                _ => {
                    if let Some((first, bytes)) = run.replace((disk, content)) {
                        self.issue_data(first, bytes, out);
                        waiting += 1;
                    }
                }
            }
        }
        if let Some((first, bytes)) = run {
            self.issue_data(first, bytes, out);
            waiting += 1;
        }
        batch.phase = Phase::Write { waiting };
        self.batch = Some(batch);
    }

    fn issue_data(&mut self, first: u64, bytes: Vec<u8>, out: &mut Vec<Action>) {
        self.issue(IoKind::Write { block: self.layout.data_first + first, bytes }, Owner::Batch, out);
    }

    /// The record and its data are durable: the batch happened.
    fn finish_batch(&mut self, batch: Batch, out: &mut Vec<Action>) {
        let record = self.next_record;
        self.next_record += 1;
        let mut freed = Vec::new();
        for change in &batch.changes {
            let added = matches!(change, Change::Block(..)) as u64;
            let before = freed.len();
            self.map.apply(change, &mut freed).expect("changes were made from this very map");
            self.map_blocks = self.map_blocks + added - (freed.len() - before) as u64;
            match *change {
                Change::Delete(vid) => self.uncache(vid, 0),
                Change::Len(vid, len) => self.uncache(vid, len / BLOCK as u64),
                Change::Block(vid, index, _) => {
                    self.cache.remove(&(vid, index));
                }
                Change::Create(..) | Change::Attr(..) => {}
            }
        }
        for block in freed {
            self.alloc.retire(block, record, self.next_read);
        }
        self.release();
        for (key, content) in batch.tails {
            self.remember(key, content);
        }
        out.extend(batch.commits.iter().map(|c| Action::Committed { token: c.token, result: Ok(()) }));
    }

    fn uncache(&mut self, vid: Vid, from: u64) {
        let stale: Vec<_> = self.cache.range((vid, from)..=(vid, u64::MAX)).map(|(k, _)| *k).collect();
        for key in stale {
            self.cache.remove(&key);
        }
    }

    fn remember(&mut self, key: (Vid, u64), content: Vec<u8>) {
        if self.cache.insert(key, content).is_none() {
            self.cache_order.push_back(key);
        }
        while self.cache_order.len() > CACHE_BLOCKS {
            if let Some(old) = self.cache_order.pop_front() {
                // A key that was forgotten and remembered again may be listed twice; dropping it early only costs a read.
                self.cache.remove(&old);
            }
        }
    }

    fn release(&mut self) {
        let oldest = self.reads.keys().next().copied().unwrap_or(self.next_read);
        self.alloc.release(self.next_record - 1, oldest);
    }

    // ---- checkpoints ----

    fn start_checkpoint(&mut self, mut batch: Batch, out: &mut Vec<Action>) {
        let encoded = encode_checkpoint(&self.map);
        let Some((bytes, len)) = encoded.filter(|(b, _)| b.len() as u64 <= self.layout.area_blocks * BLOCK as u64)
        else {
            return self.refuse_batch(batch, StoreError::NoSpace, out);
        };
        let superblock = Superblock {
            sequence: self.superblock.sequence + 1,
            area: self.superblock.area ^ 1,
            checkpoint_len: len,
            checkpoint_crc: crc32c(&bytes[..len as usize]),
            log_position: self.log_position,
            log_record: self.next_record,
            ..self.superblock
        };
        let first = self.layout.area(superblock.area);
        let mut waiting = 0;
        for (i, piece) in bytes.chunks(MAX_IO_BLOCKS * BLOCK).enumerate() {
            let block = first + (i * MAX_IO_BLOCKS) as u64;
            self.issue(IoKind::Write { block, bytes: piece.to_vec() }, Owner::Batch, out);
            waiting += 1;
        }
        batch.phase = Phase::Checkpoint { step: 0, waiting, superblock };
        self.batch = Some(batch);
    }

    /// The checkpoint's next step, or the batch's writes after the last.
    fn checkpoint_step(&mut self, mut batch: Batch, step: u8, superblock: Superblock, out: &mut Vec<Action>) {
        let kind = match step {
            1 | 3 => IoKind::Flush,
            2 => IoKind::Write { block: superblock.slot(), bytes: superblock.encode() },
            // Formatting writes both slots before anything is acknowledged: from then on a blank slot 0 means "never used".
            4 if superblock.sequence == 1 => {
                return self.checkpoint_step(batch, 2, Superblock { sequence: 2, ..superblock }, out);
            }
            _ => {
                self.superblock = superblock;
                self.log_used = 0;
                return self.write_batch(batch, out);
            }
        };
        self.issue(kind, Owner::Batch, out);
        batch.phase = Phase::Checkpoint { step, waiting: 1, superblock };
        self.batch = Some(batch);
    }

    // ---- reads ----

    fn on_read(&mut self, token: u64, vid: Vid, offset: u64, len: u32, out: &mut Vec<Action>) {
        let object = match self.map.objects.get(&vid) {
            _ if self.dead => Err(StoreError::Device),
            _ if len as usize > MAX_COMMIT_BYTES => Err(StoreError::TooLarge),
            None => Err(StoreError::NotFound),
            Some(object) => Ok(object),
        };
        let object = match object {
            Ok(object) => object,
            Err(error) => return out.push(Action::ReadDone { token, result: Err(error) }),
        };
        let len = object.len.saturating_sub(offset).min(len as u64) as usize;
        if len == 0 {
            return out.push(Action::ReadDone { token, result: Ok(Vec::new()) });
        }
        let block = BLOCK as u64;
        let (first, last) = (offset / block, (offset + len as u64 - 1) / block);
        let refs: Vec<(u64, BlockRef)> = object.blocks.range(first..=last).map(|(i, b)| (*i, *b)).collect();
        let number = self.next_read;
        self.next_read += 1;
        let mut reading = Reading {
            token,
            offset,
            len,
            waiting: 0,
            error: None,
            first_index: first,
            bytes: vec![0; (last - first + 1) as usize * BLOCK],
        };
        for run in runs(&refs) {
            let kind = IoKind::Read { block: self.layout.data_first + run[0].1.disk, count: run.len() as u32 };
            self.issue(kind, Owner::Read(number, run.to_vec()), out);
            reading.waiting += 1;
        }
        if reading.waiting == 0 {
            finish_read(reading, out);
        } else {
            self.reads.insert(number, reading);
        }
    }

    fn on_read_part(
        &mut self,
        number: u64,
        refs: &[(u64, BlockRef)],
        result: Result<Vec<u8>, ()>,
        out: &mut Vec<Action>,
    ) {
        let Some(reading) = self.reads.get_mut(&number) else { return };
        match result {
            Err(()) => reading.error = Some(StoreError::Device),
            Ok(bytes) if bytes.len() != refs.len() * BLOCK => reading.error = Some(StoreError::Device),
            Ok(bytes) => {
                for ((index, block), content) in refs.iter().zip(bytes.chunks(BLOCK)) {
                    if crc32c(content) != block.crc {
                        reading.error = Some(StoreError::Corrupt);
                    }
                    let at = (index - reading.first_index) as usize * BLOCK;
                    reading.bytes[at..at + BLOCK].copy_from_slice(content);
                }
            }
        }
        reading.waiting -= 1;
        if reading.waiting == 0
            && let Some(reading) = self.reads.remove(&number)
        {
            finish_read(reading, out);
            self.release();
        }
    }

    // ---- I/O ----

    fn issue(&mut self, kind: IoKind, owner: Owner, out: &mut Vec<Action>) {
        let id = IoId(self.next_io);
        self.next_io += 1;
        self.io.insert(id, owner);
        out.push(Action::Io { id, kind });
    }

    fn on_io(&mut self, id: IoId, result: Result<Vec<u8>, ()>, out: &mut Vec<Action>) {
        match self.io.remove(&id) {
            None => {}
            Some(Owner::Read(number, refs)) => self.on_read_part(number, &refs, result, out),
            Some(Owner::Gather(vid, index, block)) => {
                let content = match result {
                    Ok(bytes) if bytes.len() == BLOCK && crc32c(&bytes) == block.crc => Ok(bytes),
                    Ok(bytes) if bytes.len() == BLOCK => Err(StoreError::Corrupt),
                    _ => Err(StoreError::Device),
                };
                self.on_gathered((vid, index), content, out);
            }
            Some(Owner::Batch) if result.is_err() => self.die(out),
            Some(Owner::Batch) => self.on_batch_io(out),
        }
    }

    fn on_gathered(&mut self, key: (Vid, u64), content: Result<Vec<u8>, StoreError>, out: &mut Vec<Action>) {
        let Some(batch) = &mut self.batch else { return };
        batch.old.insert(key, content);
        if let Phase::Gather { waiting } = &mut batch.phase {
            *waiting -= 1;
            if *waiting == 0 {
                self.build_batch(out);
            }
        }
    }

    fn on_batch_io(&mut self, out: &mut Vec<Action>) {
        let Some(mut batch) = self.batch.take() else { return };
        match &mut batch.phase {
            Phase::Write { waiting } | Phase::Checkpoint { waiting, .. } if *waiting > 1 => {
                *waiting -= 1;
                self.batch = Some(batch);
            }
            Phase::Checkpoint { step, superblock, .. } => {
                let (step, superblock) = (*step + 1, *superblock);
                self.checkpoint_step(batch, step, superblock, out);
            }
            Phase::Write { .. } => {
                self.issue(IoKind::Flush, Owner::Batch, out);
                batch.phase = Phase::Flush;
                self.batch = Some(batch);
            }
            Phase::Flush => self.finish_batch(batch, out),
            Phase::Gather { .. } => self.batch = Some(batch),
        }
    }

    /// The device failed a write or flush: what is on it is unknown, so nothing more is promised until it is opened anew.
    fn die(&mut self, out: &mut Vec<Action>) {
        self.dead = true;
        let waiting = self.batch.take().into_iter().flat_map(|b| b.commits).chain(self.queue.drain(..));
        out.extend(waiting.map(|c| Action::Committed { token: c.token, result: Err(StoreError::Device) }));
    }
}

fn write_len(op: &Mutation) -> usize {
    if let Mutation::Write { bytes, .. } = op { bytes.len() } else { 0 }
}

/// Splits blocks into runs that are next to each other in the object and on the disk.
fn runs(refs: &[(u64, BlockRef)]) -> impl Iterator<Item = &[(u64, BlockRef)]> {
    refs.chunk_by(|a, b| a.0 + 1 == b.0 && a.1.disk + 1 == b.1.disk).flat_map(|run| run.chunks(MAX_IO_BLOCKS))
}

fn finish_read(reading: Reading, out: &mut Vec<Action>) {
    let Reading { token, offset, len, error, mut bytes, .. } = reading;
    let result = match error {
        Some(error) => Err(error),
        None => {
            let within = (offset % BLOCK as u64) as usize;
            bytes.truncate(within + len);
            bytes.drain(..within);
            Ok(bytes)
        }
    };
    out.push(Action::ReadDone { token, result });
}
