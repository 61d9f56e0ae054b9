//! Structural check of a flattened device tree: before anything is read from it, every offset, token, string and
//! length in it is shown to lie inside the blob (Devicetree Specification v0.4, chapter 5).
//!
//! One pass over the structure block, no recursion, no allocation. What passes is well-formed: balanced nodes no deeper
//! than [`MAX_DEPTH`], properties before children, NUL-terminated UTF-8 names, one root, nothing after the end token.

use crate::region::Region;

/// Deepest nesting of nodes accepted (the root is depth 1).
pub const MAX_DEPTH: usize = 12;
/// Largest blob accepted, in bytes (arm64 boot protocol limit).
pub const MAX_SIZE: usize = 2 << 20;
/// Length of the header this module reads (version 17), in bytes.
pub const HEADER_SIZE: usize = 40;
/// First word of every device tree blob, big endian.
pub const MAGIC: u32 = 0xd00d_feed;

const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;

/// What is wrong with a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobError {
    /// Shorter than a header, or than the header says, or longer than [`MAX_SIZE`].
    Size,
    /// The first word is not the device tree magic.
    Magic,
    /// A version this reader does not understand.
    Version,
    /// A block lies outside the blob or is misaligned.
    Block,
    /// The structure block ends in the middle of something.
    Truncated,
    /// An unknown token at this byte offset of the structure block.
    Token(u32),
    /// Nodes nest deeper than [`MAX_DEPTH`].
    Depth,
    /// Nodes do not balance, a property follows a child node, or there is not exactly one root.
    Nesting,
    /// A node or property name is not a NUL-terminated UTF-8 string.
    Name,
    /// The memory reservation block is not terminated or holds an impossible range.
    Reservation,
}

impl core::fmt::Display for BlobError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Size => f.write_str("its size is impossible"),
            Self::Magic => f.write_str("no device tree magic"),
            Self::Version => f.write_str("unknown device tree version"),
            Self::Block => f.write_str("a block lies outside the blob"),
            Self::Truncated => f.write_str("the structure block is cut off"),
            Self::Token(at) => write!(f, "unknown token at structure offset {at:#x}"),
            Self::Depth => f.write_str("nodes nest too deeply"),
            Self::Nesting => f.write_str("nodes and properties are not nested properly"),
            Self::Name => f.write_str("a name is not a terminated string"),
            Self::Reservation => f.write_str("the memory reservation block is broken"),
        }
    }
}

/// A device tree blob whose structure has been checked.
#[derive(Debug, Clone, Copy)]
pub struct Blob<'a> {
    bytes: &'a [u8],
    reservations: usize,
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let w = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(w.try_into().ok()?))
}

fn double(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from(word(bytes, at)?) << 32 | u64::from(word(bytes, at.checked_add(4)?)?))
}

/// Total size in bytes claimed by the header in `header`, if it is a device tree header and the size is acceptable.
/// For callers that hold only a pointer and must learn how many bytes to look at.
pub fn claimed_size(header: &[u8]) -> Result<usize, BlobError> {
    if word(header, 0).ok_or(BlobError::Size)? != MAGIC {
        return Err(BlobError::Magic);
    }
    let size = word(header, 4).ok_or(BlobError::Size)? as usize;
    if (HEADER_SIZE..=MAX_SIZE).contains(&size) { Ok(size) } else { Err(BlobError::Size) }
}

/// The sub-slice of `size` bytes at `offset`.
fn block(bytes: &[u8], offset: u32, size: u32) -> Result<&[u8], BlobError> {
    let end = offset.checked_add(size).ok_or(BlobError::Block)?;
    bytes.get(offset as usize..end as usize).ok_or(BlobError::Block)
}

/// Length of the UTF-8 string at the start of `bytes`, without its NUL.
fn string_len(bytes: &[u8]) -> Result<usize, BlobError> {
    let len = bytes.iter().position(|&b| b == 0).ok_or(BlobError::Name)?;
    core::str::from_utf8(&bytes[..len]).map_err(|_| BlobError::Name)?;
    Ok(len)
}

impl<'a> Blob<'a> {
    /// Checks `bytes` (which may be longer than the blob) and returns the blob found at its start.
    pub fn new(bytes: &'a [u8]) -> Result<Self, BlobError> {
        let size = claimed_size(bytes)?;
        let bytes = bytes.get(..size).ok_or(BlobError::Size)?;
        let header = |index: usize| word(bytes, index * 4).ok_or(BlobError::Size);
        let (off_struct, off_strings, off_reserve) = (header(2)?, header(3)?, header(4)?);
        let (version, compatible) = (header(5)?, header(6)?);
        let (size_strings, size_struct) = (header(8)?, header(9)?);
        if version < 17 || compatible > 17 {
            return Err(BlobError::Version);
        }
        if off_struct % 4 != 0 || size_struct % 4 != 0 || off_reserve % 8 != 0 {
            return Err(BlobError::Block);
        }
        let strings = block(bytes, off_strings, size_strings)?;
        check_structure(block(bytes, off_struct, size_struct)?, strings)?;
        let reservations = count_reservations(bytes, off_reserve as usize)?;
        Ok(Self { bytes, reservations })
    }

    /// The whole blob.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// How many bytes from the start are in use: producers often leave room at the end for later additions.
    pub fn used_size(&self) -> usize {
        let end =
            |offset: usize, size: usize| Some(word(self.bytes, offset)?.checked_add(word(self.bytes, size)?)? as usize);
        let reserve = word(self.bytes, 16).unwrap_or(0) as usize + (self.reservations + 1) * 16;
        reserve.max(end(8, 36).unwrap_or(0)).max(end(12, 32).unwrap_or(0)).min(self.bytes.len())
    }

    /// The memory reservation block: ranges the firmware asks to leave alone.
    pub fn reservations(&self) -> impl Iterator<Item = Region> + '_ {
        let start = word(self.bytes, 16).unwrap_or(0) as usize;
        (0..self.reservations).filter_map(move |i| {
            let at = start + i * 16;
            Region::from_size(double(self.bytes, at)?, double(self.bytes, at + 8)?)
        })
    }
}

/// Counts the entries of the reservation block at `start`, up to its all-zero terminator.
fn count_reservations(bytes: &[u8], start: usize) -> Result<usize, BlobError> {
    let mut count = 0;
    loop {
        let at = start.checked_add(count * 16).ok_or(BlobError::Reservation)?;
        let address = double(bytes, at).ok_or(BlobError::Reservation)?;
        let size = double(bytes, at + 8).ok_or(BlobError::Reservation)?;
        if (address, size) == (0, 0) {
            return Ok(count);
        }
        Region::from_size(address, size).ok_or(BlobError::Reservation)?;
        count += 1;
    }
}

/// Walks the structure block once.
fn check_structure(structure: &[u8], strings: &[u8]) -> Result<(), BlobError> {
    let mut at = 0;
    let mut depth = 0;
    let mut roots = 0;
    // Whether the open node has had a child already: then properties are over.
    let mut properties_over = false;
    loop {
        let token = word(structure, at).ok_or(BlobError::Truncated)?;
        let here = at;
        at += 4;
        match token {
            BEGIN_NODE => {
                roots += usize::from(depth == 0);
                depth += 1;
                properties_over = false;
                let len = string_len(structure.get(at..).ok_or(BlobError::Truncated)?)?;
                at = (at + len + 1).next_multiple_of(4);
            }
            END_NODE if depth > 0 => {
                depth -= 1;
                properties_over = true;
            }
            PROP if depth > 0 && !properties_over => at = check_property(structure, strings, at)?,
            NOP => {}
            END if depth == 0 && roots == 1 => {
                return if at == structure.len() { Ok(()) } else { Err(BlobError::Nesting) };
            }
            END_NODE | PROP | END => return Err(BlobError::Nesting),
            _ => return Err(BlobError::Token(here as u32)),
        }
        if depth > MAX_DEPTH {
            return Err(BlobError::Depth);
        }
        if roots > 1 {
            return Err(BlobError::Nesting);
        }
    }
}

/// Checks the property whose length word is at `at`; returns the offset behind it.
fn check_property(structure: &[u8], strings: &[u8], at: usize) -> Result<usize, BlobError> {
    let len = word(structure, at).ok_or(BlobError::Truncated)? as usize;
    let name = word(structure, at + 4).ok_or(BlobError::Truncated)? as usize;
    string_len(strings.get(name..).ok_or(BlobError::Name)?)?;
    let value = at + 8;
    let end = value.checked_add(len).ok_or(BlobError::Truncated)?;
    structure.get(value..end).ok_or(BlobError::Truncated)?;
    Ok(end.next_multiple_of(4))
}
