//! The structures on disk that are not data: superblocks, log records, checkpoints. All little-endian and checksummed; decoding checks everything.

use crate::layout::BLOCK;
use crate::map::{Change, Map};
use alloc::vec;
use alloc::vec::Vec;
use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);
const SUPER_MAGIC: [u8; 8] = *b"SMISTOR\x01";
const RECORD_MAGIC: [u8; 4] = *b"SLOG";

/// CRC-32C.
pub fn crc32c(bytes: &[u8]) -> u32 {
    CRC.checksum(bytes)
}

/// Names the current checkpoint and where the log goes on from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Superblock {
    /// Rises with every checkpoint; the higher valid slot counts.
    pub sequence: u64,
    /// Blocks of the zone at formatting.
    pub zone_blocks: u64,
    /// Which checkpoint area.
    pub area: u8,
    /// Bytes of the checkpoint.
    pub checkpoint_len: u64,
    /// CRC-32C of the checkpoint.
    pub checkpoint_crc: u32,
    /// Block within the log of the first record after the checkpoint.
    pub log_position: u64,
    /// Number of that record.
    pub log_record: u64,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawSuper {
    magic: [u8; 8],
    sequence: U64,
    zone_blocks: U64,
    checkpoint_len: U64,
    log_position: U64,
    log_record: U64,
    checkpoint_crc: U32,
    area: u8,
    reserved: [u8; 7],
    crc: U32,
}

impl Superblock {
    /// The slot that it goes to.
    pub fn slot(&self) -> u64 {
        self.sequence & 1
    }

    /// As a block.
    pub fn encode(&self) -> Vec<u8> {
        let mut raw = RawSuper {
            magic: SUPER_MAGIC,
            sequence: U64::new(self.sequence),
            zone_blocks: U64::new(self.zone_blocks),
            checkpoint_len: U64::new(self.checkpoint_len),
            log_position: U64::new(self.log_position),
            log_record: U64::new(self.log_record),
            checkpoint_crc: U32::new(self.checkpoint_crc),
            area: self.area,
            reserved: [0; 7],
            crc: U32::new(0),
        };
        raw.crc = U32::new(crc32c(&raw.as_bytes()[..size_of::<RawSuper>() - 4]));
        let mut block = vec![0; BLOCK];
        block[..size_of::<RawSuper>()].copy_from_slice(raw.as_bytes());
        block
    }

    /// From a block; `None` if it is not a valid superblock.
    pub fn decode(block: &[u8]) -> Option<Superblock> {
        let (raw, _) = RawSuper::read_from_prefix(block).ok()?;
        let sum = crc32c(&raw.as_bytes()[..size_of::<RawSuper>() - 4]);
        (raw.magic == SUPER_MAGIC && raw.crc.get() == sum && raw.area < 2).then_some(Superblock {
            sequence: raw.sequence.get(),
            zone_blocks: raw.zone_blocks.get(),
            area: raw.area,
            checkpoint_len: raw.checkpoint_len.get(),
            checkpoint_crc: raw.checkpoint_crc.get(),
            log_position: raw.log_position.get(),
            log_record: raw.log_record.get(),
        })
    }
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy)]
#[repr(C)]
struct RawRecord {
    magic: [u8; 4],
    len: U32,
    number: U64,
    crc: U32,
    reserved: U32,
}

/// Bytes in front of a record's changes.
const RECORD_HEADER: usize = size_of::<RawRecord>();
/// The longest record, in blocks.
pub const MAX_RECORD_BLOCKS: u64 = 32;
/// The longest encoded sequence of changes in one record.
pub const MAX_RECORD_BYTES: usize = MAX_RECORD_BLOCKS as usize * BLOCK - RECORD_HEADER;

/// A log record: the map changes of one batch, as whole blocks.
pub fn encode_record(number: u64, changes: &[Change]) -> Option<Vec<u8>> {
    let mut bytes = vec![0; RECORD_HEADER];
    bytes = postcard::to_extend(changes, bytes).ok()?;
    let len = bytes.len() - RECORD_HEADER;
    if len > MAX_RECORD_BYTES {
        return None;
    }
    let mut raw = RawRecord {
        magic: RECORD_MAGIC,
        len: U32::new(len as u32),
        number: U64::new(number),
        crc: U32::new(0),
        reserved: U32::new(0),
    };
    raw.crc = U32::new(record_crc(&raw, &bytes[RECORD_HEADER..]));
    bytes[..RECORD_HEADER].copy_from_slice(raw.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    Some(bytes)
}

fn record_crc(raw: &RawRecord, body: &[u8]) -> u32 {
    let mut clean = *raw;
    clean.crc = U32::new(0);
    let mut digest = CRC.digest();
    digest.update(clean.as_bytes());
    digest.update(body);
    digest.finalize()
}

/// How many blocks the record that starts with this block takes, if it is record `number`.
pub fn record_blocks(first: &[u8], number: u64) -> Option<u64> {
    let (raw, _) = RawRecord::read_from_prefix(first).ok()?;
    let blocks = (RECORD_HEADER as u64 + raw.len.get() as u64).div_ceil(BLOCK as u64);
    (raw.magic == RECORD_MAGIC && raw.number.get() == number && blocks <= MAX_RECORD_BLOCKS).then_some(blocks)
}

/// Decodes record `number`; `None` if these bytes are not that record, whole and undamaged.
pub fn decode_record(bytes: &[u8], number: u64) -> Option<Vec<Change>> {
    record_blocks(bytes, number)?;
    let (raw, rest) = RawRecord::read_from_prefix(bytes).ok()?;
    let body = rest.get(..raw.len.get() as usize)?;
    if raw.crc.get() != record_crc(&raw, body) {
        return None;
    }
    postcard::from_bytes(body).ok()
}

/// The map as a checkpoint's bytes, padded to whole blocks, with the unpadded length.
pub fn encode_checkpoint(map: &Map) -> Option<(Vec<u8>, u64)> {
    let mut bytes = postcard::to_allocvec(map).ok()?;
    let len = bytes.len() as u64;
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    Some((bytes, len))
}

/// The map of a checkpoint's bytes (unpadded).
pub fn decode_checkpoint(bytes: &[u8]) -> Option<Map> {
    postcard::from_bytes(bytes).ok()
}
