//! Opening a store: superblock, checkpoint, log. Runs once at start, with blocking reads.

use crate::alloc_map::AllocMap;
use crate::layout::{BLOCK, Layout};
use crate::map::{BlockRef, Change, Map};
use crate::records::{Superblock, crc32c, decode_checkpoint, decode_record, record_blocks};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

/// The device failed a read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadFailed;

/// Blocking reads of the store's zone, for recovery.
pub trait BlockReader {
    /// Reads the blocks from `block` on that fill `buffer` (a multiple of the block size).
    fn read(&mut self, block: u64, buffer: &mut [u8]) -> Result<(), ReadFailed>;
}

/// Why a zone could not be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenError {
    /// The zone is too small for a store.
    TooSmall,
    /// The device failed a read.
    Device,
    /// Neither superblock is valid, and the zone has been used.
    NoSuperblock,
    /// The zone has fewer blocks than when it was formatted.
    Truncated,
    /// The checkpoint that the superblock names is damaged.
    Checkpoint,
    /// A log record does not fit the map.
    Log,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OpenError::TooSmall => "the zone is too small for a store",
            OpenError::Device => "the disk failed a read",
            OpenError::NoSuperblock => "no valid superblock: not a store, or both copies are damaged",
            OpenError::Truncated => "the disk is shorter than when it was formatted",
            OpenError::Checkpoint => "the checkpoint is damaged",
            OpenError::Log => "a log record does not fit the checkpoint",
        })
    }
}

impl From<ReadFailed> for OpenError {
    fn from(_: ReadFailed) -> Self {
        OpenError::Device
    }
}

/// What recovery found: the state that a store goes on from.
pub struct Recovery {
    pub(crate) layout: Layout,
    pub(crate) map: Map,
    pub(crate) alloc: AllocMap,
    pub(crate) superblock: Superblock,
    pub(crate) log_position: u64,
    pub(crate) log_used: u64,
    pub(crate) next_record: u64,
}

impl Recovery {
    /// Recovers the store in a zone of `zone_blocks` blocks; a zone whose slot 0 is all zeros and
    /// slot 1 invalid was never used (or its formatting was interrupted): an empty store.
    pub fn open(zone_blocks: u64, disk: &mut dyn BlockReader) -> Result<Recovery, OpenError> {
        let layout = Layout::new(zone_blocks).ok_or(OpenError::TooSmall)?;
        let Some(superblock) = newest_superblock(disk)? else { return Ok(Recovery::blank(zone_blocks, layout)) };
        if superblock.zone_blocks > zone_blocks {
            return Err(OpenError::Truncated);
        }
        // The geometry is that of formatting, so a zone that has grown is still readable.
        let layout = Layout::new(superblock.zone_blocks).ok_or(OpenError::TooSmall)?;
        let map = read_checkpoint(&superblock, &layout, disk)?;
        let mut recovery = Recovery {
            layout,
            map,
            alloc: AllocMap::new(layout.data_blocks),
            superblock,
            log_position: superblock.log_position,
            log_used: 0,
            next_record: superblock.log_record,
        };
        recovery.replay(disk)?;
        recovery.claim_blocks()?;
        Ok(recovery)
    }

    /// An empty store. `log_used` is the whole log, so the first batch writes a checkpoint, which formats the zone.
    fn blank(zone_blocks: u64, layout: Layout) -> Recovery {
        let superblock = Superblock {
            sequence: 0,
            zone_blocks,
            area: 1,
            checkpoint_len: 0,
            checkpoint_crc: 0,
            log_position: 0,
            log_record: 1,
        };
        Recovery {
            layout,
            map: Map::default(),
            alloc: AllocMap::new(layout.data_blocks),
            superblock,
            log_position: 0,
            log_used: layout.log_blocks,
            next_record: 1,
        }
    }

    /// Applies the log's records. The last one is dropped if the data that it refers to are not there.
    fn replay(&mut self, disk: &mut dyn BlockReader) -> Result<(), OpenError> {
        let mut found = self.find_record(self.log_position, self.next_record, disk)?;
        while let Some((start, blocks, changes)) = found {
            let end = start + blocks;
            let next = self.find_record(end, self.next_record + 1, disk)?;
            if next.is_none() && !self.data_present(&changes, disk)? {
                break;
            }
            let mut freed = Vec::new();
            for change in &changes {
                self.map.apply(change, &mut freed).map_err(|_| OpenError::Log)?;
            }
            self.log_used +=
                blocks + if start < self.log_position { self.layout.log_blocks - self.log_position } else { 0 };
            self.log_position = end;
            self.next_record += 1;
            found = next;
        }
        Ok(())
    }

    /// Record `number`: at `position`, or at the log's start if it did not fit there. Its start, its length in blocks, its changes.
    fn find_record(
        &self,
        position: u64,
        number: u64,
        disk: &mut dyn BlockReader,
    ) -> Result<Option<(u64, u64, Vec<Change>)>, OpenError> {
        for start in [position, 0] {
            if start >= self.layout.log_blocks {
                continue;
            }
            let mut bytes = vec![0; BLOCK];
            disk.read(self.layout.log_first + start, &mut bytes)?;
            let Some(blocks) = record_blocks(&bytes, number) else { continue };
            if start + blocks > self.layout.log_blocks {
                continue;
            }
            bytes.resize(blocks as usize * BLOCK, 0);
            disk.read(self.layout.log_first + start, &mut bytes)?;
            if let Some(changes) = decode_record(&bytes, number) {
                return Ok(Some((start, blocks, changes)));
            }
        }
        Ok(None)
    }

    fn data_present(&self, changes: &[Change], disk: &mut dyn BlockReader) -> Result<bool, OpenError> {
        let mut content = vec![0; BLOCK];
        for change in changes {
            if let Change::Block(_, _, BlockRef { disk: block, crc }) = *change {
                if block >= self.layout.data_blocks {
                    return Ok(false);
                }
                disk.read(self.layout.data_first + block, &mut content)?;
                if crc32c(&content) != crc {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn claim_blocks(&mut self) -> Result<(), OpenError> {
        for object in self.map.objects.values() {
            for block in object.blocks.values() {
                if !self.alloc.claim(block.disk) {
                    return Err(OpenError::Log);
                }
            }
        }
        Ok(())
    }
}

/// The newer of the two superblocks; `None` if the zone is blank.
fn newest_superblock(disk: &mut dyn BlockReader) -> Result<Option<Superblock>, OpenError> {
    let mut newest: Option<Superblock> = None;
    let mut unused = false;
    let mut block = vec![0; BLOCK];
    for slot in 0..2 {
        disk.read(slot, &mut block)?;
        unused |= slot == 0 && block.iter().all(|b| *b == 0);
        let valid = Superblock::decode(&block).filter(|s| s.slot() == slot);
        newest = match (newest, valid) {
            (Some(a), Some(b)) if a.sequence > b.sequence => Some(a),
            (old, None) => old,
            (_, new) => new,
        };
    }
    if newest.is_none() && !unused { Err(OpenError::NoSuperblock) } else { Ok(newest) }
}

fn read_checkpoint(s: &Superblock, layout: &Layout, disk: &mut dyn BlockReader) -> Result<Map, OpenError> {
    let blocks = s.checkpoint_len.div_ceil(BLOCK as u64);
    if blocks > layout.area_blocks || s.log_position > layout.log_blocks {
        return Err(OpenError::Checkpoint);
    }
    let mut bytes = vec![0; blocks as usize * BLOCK];
    disk.read(layout.area(s.area), &mut bytes)?;
    bytes.truncate(s.checkpoint_len as usize);
    if crc32c(&bytes) != s.checkpoint_crc {
        return Err(OpenError::Checkpoint);
    }
    decode_checkpoint(&bytes).ok_or(OpenError::Checkpoint)
}
