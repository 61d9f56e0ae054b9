//! The directory zone of a node's disk: where things are, and how a block proves what it holds.
//!
//! ```text
//! block 0..4      superblock, four copies
//! block 4..132    log, first copy:  the entry with op number n is in slot n mod 128
//! block 132..260  log, second copy
//! block 260..642  snapshot area 0
//! block 642..1024 snapshot area 1
//! ```
//!
//! Every block but those of a snapshot is sealed: magic, length, checksum over cluster, node, block number, length and content. So a
//! block of another disk or another place reads as damaged. A snapshot's hash is in the superblock.
//!
//! Formatting fills the log with sealed empty slots, so a blank one is a damaged one.
//!
//! An entry's first copy is durable before its second is written, and it is acknowledged when both are. After a crash that
//! tells what else looks alike: if the first copy is unreadable and the second is an older entry, the write was cut off and
//! never acknowledged; if both are unreadable, an acknowledged entry may be lost.

use super::entry::Entry;
use super::message::MAX_SNAPSHOT_BYTES;
use crate::hash::checksum_of;
use crate::table::{BadEncoding, decode, encode};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use smi_cluster::NodeId;
use smi_cluster::layout::{BLOCK_SIZE, DIRECTORY};

/// Copies of the superblock.
pub(crate) const SUPER_COPIES: u32 = 4;
/// Slots of the log.
pub(crate) const LOG_SLOTS: u64 = 128;
/// First blocks of the log's copies.
pub(crate) const LOG: [u32; 2] = [SUPER_COPIES, SUPER_COPIES + LOG_SLOTS as u32];
/// End of superblock and log.
pub(crate) const META_BLOCKS: u32 = LOG[1] + LOG_SLOTS as u32;
/// Blocks of a snapshot area.
pub(crate) const AREA_BLOCKS: u32 = (DIRECTORY.blocks as u32 - META_BLOCKS) / 2;
/// First blocks of the snapshot areas.
pub(crate) const AREAS: [u32; 2] = [META_BLOCKS, META_BLOCKS + AREA_BLOCKS];

const _: () = assert!(MAX_SNAPSHOT_BYTES <= AREA_BLOCKS as usize * BLOCK_SIZE);
const _: () = assert!(AREAS[1] as u64 + AREA_BLOCKS as u64 <= DIRECTORY.blocks);

const MAGIC: [u8; 4] = *b"SMIV";
const HEADER: usize = 16;

/// The block of a log slot in one of the two copies.
pub(crate) fn slot_block(copy: usize, op: u64) -> u32 {
    LOG[copy] + (op % LOG_SLOTS) as u32
}

/// What a block turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opened<'a> {
    /// All zero: never written.
    Blank,
    /// Damaged, or not of this place.
    Bad,
    /// The content.
    Good(&'a [u8]),
}

/// Seals and opens the blocks of one node of one cluster.
#[derive(Clone, Copy)]
pub(crate) struct Seal {
    cluster: [u8; 16],
    node: NodeId,
}

impl Seal {
    pub(crate) fn new(cluster: [u8; 16], node: NodeId) -> Seal {
        Seal { cluster, node }
    }

    fn checksum(&self, block: u32, content: &[u8]) -> u64 {
        let len = content.len() as u32;
        checksum_of(&[&self.cluster, &self.node.0.to_le_bytes(), &block.to_le_bytes(), &len.to_le_bytes(), content])
    }

    /// A whole block with this content.
    pub(crate) fn close(&self, block: u32, content: &[u8]) -> Vec<u8> {
        assert!(content.len() <= BLOCK_SIZE - HEADER, "content fits a block");
        let mut bytes = Vec::with_capacity(BLOCK_SIZE);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&(content.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&self.checksum(block, content).to_le_bytes());
        bytes.extend_from_slice(content);
        bytes.resize(BLOCK_SIZE, 0);
        bytes
    }

    /// The content of a block that was read from this place.
    pub(crate) fn open<'a>(&self, block: u32, bytes: &'a [u8]) -> Opened<'a> {
        if bytes.iter().all(|b| *b == 0) {
            return Opened::Blank;
        }
        self.content(block, bytes).map_or(Opened::Bad, Opened::Good)
    }

    fn content<'a>(&self, block: u32, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let (sum, rest) = rest.split_first_chunk::<8>()?;
        let content = rest.get(..u32::from_le_bytes(*len) as usize)?;
        let good = *magic == MAGIC && u64::from_le_bytes(*sum) == self.checksum(block, content);
        good.then_some(content)
    }
}

/// What a voter's zone is in the middle of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Mode {
    /// Part of a new cluster that has not started.
    Formatted,
    /// In use.
    Running,
    /// State was lost and is being fetched: log and snapshot say nothing yet.
    Recovering,
}

/// Where a durable snapshot is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    /// Last operation in it; 0 for the empty state, which needs no snapshot.
    pub(crate) op: u64,
    /// Which area.
    pub(crate) area: u8,
    /// Bytes.
    pub(crate) len: u32,
    /// Their hash.
    pub(crate) hash: u64,
}

/// What a voter must never forget.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Superblock {
    /// Counts the writes of the superblock.
    pub(crate) sequence: u64,
    pub(crate) mode: Mode,
    /// The view it is in or moving to.
    pub(crate) view: u64,
    /// The last view in which it was normal: the log is of that view.
    pub(crate) log_view: u64,
    /// Op number of the log's end when it took that view's log over. What comes later was prepared in that view.
    pub(crate) head: u64,
    pub(crate) checkpoint: Checkpoint,
}

impl Superblock {
    /// That of a zone on which nothing has happened.
    pub(crate) fn new(mode: Mode) -> Superblock {
        Superblock { sequence: 0, mode, view: 0, log_view: 0, head: 0, checkpoint: Checkpoint::default() }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads one copy's content.
    pub(crate) fn decode(content: &[u8]) -> Result<Superblock, BadEncoding> {
        let s: Superblock = decode(content)?;
        let sane = s.checkpoint.area < 2 && s.checkpoint.len as usize <= MAX_SNAPSHOT_BYTES && s.log_view <= s.view;
        if sane { Ok(s) } else { Err(BadEncoding) }
    }
}

/// Content of a log slot.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Slot {
    /// Op number up to which this voter had applied the log when it wrote the slot.
    pub(crate) commit: u64,
    pub(crate) entry: Entry,
}

impl Slot {
    pub(crate) fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    pub(crate) fn decode(content: &[u8]) -> Result<Slot, BadEncoding> {
        let slot: Slot = decode(content)?;
        if slot.entry.is_sane() && slot.commit <= slot.entry.op { Ok(slot) } else { Err(BadEncoding) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_proves_its_place_and_owner() {
        let seal = Seal::new([1; 16], NodeId(2));
        let block = seal.close(7, b"content");
        assert_eq!(block.len(), BLOCK_SIZE);
        assert_eq!(seal.open(7, &block), Opened::Good(b"content"));
        assert_eq!(seal.open(8, &block), Opened::Bad);
        assert_eq!(Seal::new([1; 16], NodeId(3)).open(7, &block), Opened::Bad);
        assert_eq!(Seal::new([2; 16], NodeId(2)).open(7, &block), Opened::Bad);
        assert_eq!(seal.open(7, &[0; BLOCK_SIZE]), Opened::Blank);
        for i in 0..HEADER + 7 {
            let mut bad = block.clone();
            bad[i] ^= 1;
            assert_eq!(seal.open(7, &bad), Opened::Bad, "byte {i}");
        }
    }

    #[test]
    fn a_superblock_is_checked() {
        let mut s = Superblock { view: 3, log_view: 2, ..Superblock::new(Mode::Running) };
        assert_eq!(Superblock::decode(&s.encode()), Ok(s));
        s.log_view = 4;
        assert_eq!(Superblock::decode(&s.encode()), Err(BadEncoding));
        s.log_view = 2;
        s.checkpoint.area = 2;
        assert_eq!(Superblock::decode(&s.encode()), Err(BadEncoding));
    }
}
