//! Programs: the loadable segments of a static AArch64 ELF, checked.
//!
//! What holds of a [`Program`]: segments lie in the image part of the address space, start on pages of their own, do not share a page, none is
//! both writable and executable, file contents lie in the file, and the entry point is in an executable one.

use alloc::vec::Vec;
use core::fmt;
use smi_env::map;

const PAGE: u64 = 4096;
const HEADER_LEN: usize = 64;
const PROGRAM_HEADER_LEN: usize = 56;
const MACHINE_AARCH64: u16 = 183;
const TYPE_EXECUTABLE: u16 = 2;
const PT_LOAD: u32 = 1;
/// Most program headers that are looked at.
const MAX_HEADERS: usize = 32;

/// What a segment's memory may be used for, beside reading.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Nothing.
    Read,
    /// Writing.
    Write,
    /// Executing.
    Execute,
}

/// A loadable segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment<'a> {
    /// First address, page aligned.
    pub vaddr: u64,
    /// Bytes in memory; beyond `data` they are zero.
    pub len: u64,
    /// Contents from the file.
    pub data: &'a [u8],
    /// Use.
    pub access: Access,
}

impl Segment<'_> {
    /// Number of pages.
    pub fn pages(&self) -> u64 {
        self.len.div_ceil(PAGE)
    }
}

/// A checked program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program<'a> {
    /// First instruction.
    pub entry: u64,
    /// Segments, ascending.
    pub segments: Vec<Segment<'a>>,
}

/// Why a file is not a program for this system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ElfError {
    /// Not a 64-bit little-endian ELF.
    NotElf,
    /// For another machine, or not a static executable.
    WrongKind,
    /// A header or content lies outside the file.
    Truncated,
    /// A segment starts inside a page.
    Misaligned,
    /// A segment lies outside the image part of the address space, or is empty of sense (more bytes in the file than in memory).
    BadRange,
    /// Two segments share a page.
    Overlap,
    /// A segment is writable and executable.
    WritableCode,
    /// The entry point is not in an executable segment.
    BadEntry,
}

impl fmt::Display for ElfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ElfError::NotElf => "not a 64-bit little-endian ELF file",
            ElfError::WrongKind => "not a static AArch64 executable",
            ElfError::Truncated => "the ELF file is cut off",
            ElfError::Misaligned => "a segment does not start on a page of its own",
            ElfError::BadRange => "a segment lies outside of 0x400000..0x60000000",
            ElfError::Overlap => "two segments share a page",
            ElfError::WritableCode => "a segment is both writable and executable",
            ElfError::BadEntry => "the entry point is not in an executable segment",
        })
    }
}

impl<'a> Program<'a> {
    /// Reads and checks a file.
    pub fn parse(file: &'a [u8]) -> Result<Program<'a>, ElfError> {
        let header = file.get(..HEADER_LEN).ok_or(ElfError::NotElf)?;
        if header[..6] != [0x7f, b'E', b'L', b'F', 2, 1] {
            return Err(ElfError::NotElf);
        }
        if u16_at(header, 16) != TYPE_EXECUTABLE || u16_at(header, 18) != MACHINE_AARCH64 {
            return Err(ElfError::WrongKind);
        }
        let (table, size, count) = (u64_at(header, 32), u16_at(header, 54), u16_at(header, 56) as usize);
        if size as usize != PROGRAM_HEADER_LEN || count > MAX_HEADERS {
            return Err(ElfError::WrongKind);
        }
        let mut segments = Vec::new();
        for i in 0..count {
            let header = slice(file, table.saturating_add((i * PROGRAM_HEADER_LEN) as u64), PROGRAM_HEADER_LEN as u64)?;
            if u32_at(header, 0) == PT_LOAD && u64_at(header, 40) > 0 {
                segments.push(segment(file, header)?);
            }
        }
        segments.sort_by_key(|s: &Segment<'_>| s.vaddr);
        if segments.windows(2).any(|w| w[0].vaddr + w[0].pages() * PAGE > w[1].vaddr) {
            return Err(ElfError::Overlap);
        }
        let entry = u64_at(header, 24);
        let holds = |s: &Segment<'_>| s.access == Access::Execute && (s.vaddr..s.vaddr + s.len).contains(&entry);
        if !segments.iter().any(holds) {
            return Err(ElfError::BadEntry);
        }
        Ok(Program { entry, segments })
    }
}

fn segment<'a>(file: &'a [u8], header: &[u8]) -> Result<Segment<'a>, ElfError> {
    let (flags, vaddr) = (u32_at(header, 4), u64_at(header, 16));
    let (file_len, len) = (u64_at(header, 32), u64_at(header, 40));
    let access = match (flags & 2 != 0, flags & 1 != 0) {
        (true, true) => return Err(ElfError::WritableCode),
        (true, false) => Access::Write,
        (false, true) => Access::Execute,
        (false, false) => Access::Read,
    };
    if !vaddr.is_multiple_of(PAGE) {
        return Err(ElfError::Misaligned);
    }
    let end = vaddr.checked_add(len).ok_or(ElfError::BadRange)?;
    if vaddr < map::IMAGE || end > map::IMAGE_END || file_len > len {
        return Err(ElfError::BadRange);
    }
    Ok(Segment { vaddr, len, data: slice(file, u64_at(header, 8), file_len)?, access })
}

fn slice(file: &[u8], start: u64, len: u64) -> Result<&[u8], ElfError> {
    let end = start.checked_add(len).ok_or(ElfError::Truncated)?;
    file.get(start as usize..end as usize).ok_or(ElfError::Truncated)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// (flags, vaddr, bytes in memory, contents)
    pub(crate) type Spec<'a> = (u32, u64, u64, &'a [u8]);

    pub(crate) fn elf(entry: u64, segments: &[Spec<'_>]) -> Vec<u8> {
        let mut file = vec![0u8; HEADER_LEN + segments.len() * PROGRAM_HEADER_LEN];
        file[..8].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0]);
        file[16..18].copy_from_slice(&TYPE_EXECUTABLE.to_le_bytes());
        file[18..20].copy_from_slice(&MACHINE_AARCH64.to_le_bytes());
        file[24..32].copy_from_slice(&entry.to_le_bytes());
        file[32..40].copy_from_slice(&(HEADER_LEN as u64).to_le_bytes());
        file[54..56].copy_from_slice(&(PROGRAM_HEADER_LEN as u16).to_le_bytes());
        file[56..58].copy_from_slice(&(segments.len() as u16).to_le_bytes());
        for (i, (flags, vaddr, len, data)) in segments.iter().enumerate() {
            let at = HEADER_LEN + i * PROGRAM_HEADER_LEN;
            let offset = file.len() as u64;
            file.extend_from_slice(data);
            file[at..at + 4].copy_from_slice(&PT_LOAD.to_le_bytes());
            file[at + 4..at + 8].copy_from_slice(&flags.to_le_bytes());
            file[at + 8..at + 16].copy_from_slice(&offset.to_le_bytes());
            file[at + 16..at + 24].copy_from_slice(&vaddr.to_le_bytes());
            file[at + 32..at + 40].copy_from_slice(&(data.len() as u64).to_le_bytes());
            file[at + 40..at + 48].copy_from_slice(&len.to_le_bytes());
        }
        file
    }

    const TEXT: Spec<'static> = (5, 0x40_0000, 8, b"01234567");

    #[test]
    fn a_program_has_its_segments() {
        let file = elf(0x40_0004, &[(6, 0x40_2000, 0x3001, b"data"), TEXT, (4, 0x40_1000, 2, b"ro")]);
        let program = Program::parse(&file).unwrap();
        assert_eq!(program.entry, 0x40_0004);
        let got: Vec<_> = program.segments.iter().map(|s| (s.vaddr, s.pages(), s.access, s.data.len())).collect();
        let want =
            [(0x40_0000, 1, Access::Execute, 8), (0x40_1000, 1, Access::Read, 2), (0x40_2000, 4, Access::Write, 4)];
        assert_eq!(got, want);
    }

    #[test]
    fn bad_programs_are_refused() {
        let refuse = |entry, segments: &[Spec<'_>]| Program::parse(&elf(entry, segments)).unwrap_err();
        assert_eq!(Program::parse(b"#!/bin/sh"), Err(ElfError::NotElf));
        assert_eq!(refuse(0x40_0000, &[(7, 0x40_0000, 8, b"01234567")]), ElfError::WritableCode);
        assert_eq!(refuse(0x40_0000, &[(5, 0x40_0008, 8, b"01234567")]), ElfError::Misaligned);
        assert_eq!(refuse(0x1000, &[(5, 0x1000, 8, b"01234567")]), ElfError::BadRange);
        assert_eq!(refuse(0x40_0000, &[(5, 0x40_0000, u64::MAX - 0x40_0000, b"")]), ElfError::BadRange);
        assert_eq!(refuse(0x40_0000, &[(5, 0x40_0000, 4, b"01234567")]), ElfError::BadRange);
        assert_eq!(refuse(0x40_0000, &[(5, 0x40_0000, 0x1001, b"x"), (4, 0x40_1000, 1, b"y")]), ElfError::Overlap);
        assert_eq!(refuse(0x40_1000, &[TEXT, (4, 0x40_1000, 1, b"y")]), ElfError::BadEntry);
        let mut file = elf(0x40_0000, &[TEXT]);
        file[18] = 62;
        assert_eq!(Program::parse(&file), Err(ElfError::WrongKind));
    }

    #[test]
    fn no_damage_makes_it_panic() {
        let file = elf(0x40_0000, &[TEXT, (6, 0x40_1000, 0x2000, b"data")]);
        for len in 0..file.len() {
            let _ = Program::parse(&file[..len]);
        }
        for i in 0..HEADER_LEN + 2 * PROGRAM_HEADER_LEN {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bad = file.clone();
                bad[i] = value;
                let _ = Program::parse(&bad);
            }
        }
    }
}
