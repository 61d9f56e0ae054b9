//! The boot archive: the manifest and the servers' ELF files in one piece, checksummed.
//!
//! Layout, little-endian: [`Head`], then [`Entry`] × count, then the contents, each at a multiple of [`ALIGN`] from the archive's start.
//! The head's checksum covers everything after it; a truncated or damaged archive is refused as a whole.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// "SMIBOOT" and the version of this layout.
pub const MAGIC: [u8; 8] = *b"SMIBOOT\x01";
/// Contents start at multiples of this.
pub const ALIGN: usize = 16;
/// Longest name of an entry, bytes.
pub const NAME_LEN: usize = 32;
/// Name of the manifest's entry; programs cannot have it.
pub const MANIFEST: &str = "#manifest";

const CRC: crc::Crc<u32, crc::Table<16>> = crc::Crc::<u32, crc::Table<16>>::new(&crc::CRC_32_ISCSI);

/// Start of the archive.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct Head {
    magic: [u8; 8],
    /// Bytes of the whole archive.
    len: [u8; 4],
    /// CRC-32C of everything after this head.
    crc: [u8; 4],
    /// Entries.
    count: [u8; 4],
    _zero: [u8; 4],
}

/// One content.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct Entry {
    name: [u8; NAME_LEN],
    offset: [u8; 4],
    len: [u8; 4],
}

/// Why bytes are not a boot archive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ArchiveError {
    /// Not an archive of this version.
    BadMagic,
    /// Shorter than it says.
    Truncated,
    /// The checksum does not match.
    Damaged,
    /// An entry points outside, or has no proper name.
    BadEntry,
    /// There is no entry of that name.
    Missing,
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ArchiveError::BadMagic => "not a boot archive of this version",
            ArchiveError::Truncated => "the boot archive is cut off",
            ArchiveError::Damaged => "the boot archive's checksum does not match",
            ArchiveError::BadEntry => "the boot archive's table is broken",
            ArchiveError::Missing => "no such file in the boot archive",
        })
    }
}

/// A checked archive.
#[derive(Clone, Copy)]
pub struct Archive<'a> {
    bytes: &'a [u8],
    entries: &'a [Entry],
}

impl<'a> Archive<'a> {
    /// Checks the whole archive.
    pub fn check(bytes: &'a [u8]) -> Result<Archive<'a>, ArchiveError> {
        let (head, _) = Head::ref_from_prefix(bytes).map_err(|_| ArchiveError::Truncated)?;
        if head.magic != MAGIC {
            return Err(ArchiveError::BadMagic);
        }
        let bytes = bytes.get(..u32::from_le_bytes(head.len) as usize).ok_or(ArchiveError::Truncated)?;
        let body = bytes.get(size_of::<Head>()..).ok_or(ArchiveError::Truncated)?;
        if CRC.checksum(body) != u32::from_le_bytes(head.crc) {
            return Err(ArchiveError::Damaged);
        }
        let count = u32::from_le_bytes(head.count) as usize;
        let (entries, _) = <[Entry]>::ref_from_prefix_with_elems(body, count).map_err(|_| ArchiveError::BadEntry)?;
        let archive = Archive { bytes, entries };
        for entry in entries {
            archive.content(entry)?;
            name_of(entry).ok_or(ArchiveError::BadEntry)?;
        }
        Ok(archive)
    }

    /// The content with this name.
    pub fn get(&self, name: &str) -> Result<&'a [u8], ArchiveError> {
        let entry = self.entries.iter().find(|e| name_of(e) == Some(name)).ok_or(ArchiveError::Missing)?;
        self.content(entry)
    }

    /// Names and contents, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a, '_> {
        self.entries.iter().filter_map(|e| Some((name_of(e)?, self.content(e).ok()?)))
    }

    fn content(&self, entry: &Entry) -> Result<&'a [u8], ArchiveError> {
        let start = u32::from_le_bytes(entry.offset) as usize;
        let end = start.checked_add(u32::from_le_bytes(entry.len) as usize).ok_or(ArchiveError::BadEntry)?;
        self.bytes.get(start..end).ok_or(ArchiveError::BadEntry)
    }
}

fn name_of(entry: &Entry) -> Option<&str> {
    smi_env::layout::text(&entry.name).filter(|name| !name.is_empty())
}

/// A content cannot be packed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PackError {
    /// The name is empty or longer than [`NAME_LEN`].
    BadName,
    /// The archive would be larger than 4 GiB.
    TooLarge,
}

/// Packs contents in the given order.
pub fn pack(contents: &[(&str, &[u8])]) -> Result<Vec<u8>, PackError> {
    let mut out = vec![0; size_of::<Head>() + contents.len() * size_of::<Entry>()];
    let mut table = Vec::new();
    for (name, content) in contents {
        out.resize(out.len().next_multiple_of(ALIGN), 0);
        let mut entry = Entry { name: [0; NAME_LEN], offset: to_u32(out.len())?, len: to_u32(content.len())? };
        smi_env::layout::set_text(&mut entry.name, name).filter(|()| !name.is_empty()).ok_or(PackError::BadName)?;
        table.extend_from_slice(entry.as_bytes());
        out.extend_from_slice(content);
    }
    out[size_of::<Head>()..size_of::<Head>() + table.len()].copy_from_slice(&table);
    let crc = CRC.checksum(&out[size_of::<Head>()..]);
    let head = Head {
        magic: MAGIC,
        len: to_u32(out.len())?,
        crc: crc.to_le_bytes(),
        count: to_u32(contents.len())?,
        _zero: [0; 4],
    };
    out[..size_of::<Head>()].copy_from_slice(head.as_bytes());
    Ok(out)
}

fn to_u32(value: usize) -> Result<[u8; 4], PackError> {
    u32::try_from(value).map(u32::to_le_bytes).map_err(|_| PackError::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        pack(&[("#manifest", b"abc"), ("timer", b"\x7fELF..."), ("empty", b"")]).unwrap()
    }

    #[test]
    fn contents_come_back() {
        let mut bytes = sample();
        bytes.extend_from_slice(&[0xee; 7]); // what follows in the image
        let archive = Archive::check(&bytes).unwrap();
        assert_eq!(archive.get("#manifest").unwrap(), b"abc");
        assert_eq!(archive.get("timer").unwrap(), b"\x7fELF...");
        assert_eq!(archive.get("empty").unwrap(), b"");
        assert_eq!(archive.get("none"), Err(ArchiveError::Missing));
        assert_eq!(archive.iter().count(), 3);
    }

    #[test]
    fn any_damage_is_noticed() {
        let bytes = sample();
        for len in 0..bytes.len() {
            assert!(Archive::check(&bytes[..len]).is_err(), "cut at {len}");
        }
        for i in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[i] ^= 0x10;
            let zero = size_of::<Head>() - 4..size_of::<Head>();
            assert!(zero.contains(&i) || Archive::check(&bad).is_err(), "byte {i}");
        }
    }

    #[test]
    fn an_entry_that_points_outside_is_refused_even_with_a_good_checksum() {
        let mut bytes = sample();
        let at = size_of::<Head>() + NAME_LEN;
        bytes[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        let crc = CRC.checksum(&bytes[size_of::<Head>()..]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Archive::check(&bytes).err(), Some(ArchiveError::BadEntry));
    }
}
