//! The root task's ELF file: what to load where, checked before anything is copied (System V ABI, ELF-64, AArch64 supplement).
//!
//! Always holds for a [`Program`]: segments lie inside the file, inside user space, do not overlap, are ascending; the entry
//! point is in one of them. Only static executables are accepted.

use bsp_board::{List, Region};

/// Most loadable segments.
pub const MAX_SEGMENTS: usize = 16;
/// First address that is not a user's.
pub const USER_END: u64 = 1 << 47;
const PAGE: u64 = 4096;

const MACHINE_AARCH64: u16 = 183;
const TYPE_EXECUTABLE: u16 = 2;
const SEGMENT_LOAD: u32 = 1;
const HEADER_SIZE: usize = 64;
const PROGRAM_HEADER_SIZE: usize = 56;

/// What is wrong with the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElfError {
    /// Not an ELF file.
    Magic,
    /// Not 64-bit little endian.
    Format,
    /// Not for this processor.
    Machine,
    /// Not a static executable.
    Type,
    /// A header or segment lies outside the file.
    Truncated,
    /// More segments than this loader takes.
    TooManySegments,
    /// No loadable segment.
    Empty,
    /// A segment's file part is larger than its memory, or it is not in user space, or segments overlap or are out of order.
    Segment,
    /// The entry point is in no segment.
    Entry,
}

impl core::fmt::Display for ElfError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Magic => "it is not an ELF file",
            Self::Format => "it is not a 64-bit little-endian ELF file",
            Self::Machine => "it is not for AArch64",
            Self::Type => "it is not a static executable",
            Self::Truncated => "it is cut off: a header or segment lies outside the file",
            Self::TooManySegments => "it has too many segments",
            Self::Empty => "it has nothing to load",
            Self::Segment => "a segment makes no sense (size, address or order)",
            Self::Entry => "its entry point is outside its segments",
        })
    }
}

/// A piece of the file and where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Offset in the file.
    pub offset: usize,
    /// Bytes in the file.
    pub file_size: usize,
    /// Where it goes (virtual); its memory may be longer than its file part, the rest is zero.
    pub memory: Region,
}

/// A program that can be loaded.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// Its segments, ascending by address.
    pub segments: List<Segment, MAX_SEGMENTS>,
    /// Entry point (virtual).
    pub entry: u64,
    /// Whole pages from the first to the last segment (virtual).
    pub image: Region,
}

fn array<const N: usize>(file: &[u8], at: usize) -> Result<[u8; N], ElfError> {
    let end = at.checked_add(N).ok_or(ElfError::Truncated)?;
    file.get(at..end).and_then(|b| b.try_into().ok()).ok_or(ElfError::Truncated)
}

fn half(file: &[u8], at: usize) -> Result<u16, ElfError> {
    Ok(u16::from_le_bytes(array(file, at)?))
}

fn word(file: &[u8], at: usize) -> Result<u32, ElfError> {
    Ok(u32::from_le_bytes(array(file, at)?))
}

fn double(file: &[u8], at: usize) -> Result<u64, ElfError> {
    Ok(u64::from_le_bytes(array(file, at)?))
}

/// Reads and checks the program's headers.
pub fn parse(file: &[u8]) -> Result<Program, ElfError> {
    check_header(file)?;
    let table = usize::try_from(double(file, 32)?).map_err(|_| ElfError::Truncated)?;
    let (entry_size, count) = (usize::from(half(file, 54)?), usize::from(half(file, 56)?));
    if entry_size < PROGRAM_HEADER_SIZE {
        return Err(ElfError::Truncated);
    }
    let mut segments = List::new();
    let mut free_from = 0;
    for index in 0..count {
        let at = table.checked_add(index * entry_size).ok_or(ElfError::Truncated)?;
        if word(file, at)? != SEGMENT_LOAD || double(file, at + 40)? == 0 {
            continue;
        }
        let segment = read_segment(file, at)?;
        if segment.memory.start < free_from {
            return Err(ElfError::Segment);
        }
        free_from = segment.memory.end;
        segments.push(segment).map_err(|_| ElfError::TooManySegments)?;
    }
    let entry = double(file, 24)?;
    let first = segments.get(0).ok_or(ElfError::Empty)?;
    if !segments.iter().any(|s| (s.memory.start..s.memory.end).contains(&entry)) {
        return Err(ElfError::Entry);
    }
    Ok(Program { segments, entry, image: Region { start: first.memory.start, end: free_from }.grow_to(PAGE) })
}

fn check_header(file: &[u8]) -> Result<(), ElfError> {
    if file.len() < HEADER_SIZE || file[..4] != *b"\x7fELF" {
        return Err(ElfError::Magic);
    }
    if file[4] != 2 || file[5] != 1 {
        return Err(ElfError::Format);
    }
    if half(file, 18)? != MACHINE_AARCH64 {
        return Err(ElfError::Machine);
    }
    if half(file, 16)? != TYPE_EXECUTABLE { Err(ElfError::Type) } else { Ok(()) }
}

fn read_segment(file: &[u8], at: usize) -> Result<Segment, ElfError> {
    let size = |at| usize::try_from(double(file, at)?).map_err(|_| ElfError::Truncated);
    let (offset, file_size) = (size(at + 8)?, size(at + 32)?);
    let memory = Region::from_size(double(file, at + 16)?, double(file, at + 40)?).ok_or(ElfError::Segment)?;
    let end = offset.checked_add(file_size).ok_or(ElfError::Truncated)?;
    if end > file.len() {
        return Err(ElfError::Truncated);
    }
    if file_size as u64 > memory.size() || memory.end > USER_END {
        return Err(ElfError::Segment);
    }
    Ok(Segment { offset, file_size, memory })
}

/// Copies the program into `target`, which is as long as `program.image`; everything between segments becomes zero.
pub fn load(program: &Program, file: &[u8], target: &mut [u8]) {
    target.fill(0);
    for s in program.segments.iter() {
        let at = (s.memory.start - program.image.start) as usize;
        target[at..at + s.file_size].copy_from_slice(&file[s.offset..s.offset + s.file_size]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An executable with the given (vaddr, bytes, memory size) segments.
    fn elf(entry: u64, segments: &[(u64, &[u8], u64)]) -> Vec<u8> {
        let mut file = vec![0u8; HEADER_SIZE];
        file[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
        file[16..18].copy_from_slice(&TYPE_EXECUTABLE.to_le_bytes());
        file[18..20].copy_from_slice(&MACHINE_AARCH64.to_le_bytes());
        file[24..32].copy_from_slice(&entry.to_le_bytes());
        file[32..40].copy_from_slice(&(HEADER_SIZE as u64).to_le_bytes());
        file[54..56].copy_from_slice(&(PROGRAM_HEADER_SIZE as u16).to_le_bytes());
        file[56..58].copy_from_slice(&(segments.len() as u16).to_le_bytes());
        let mut offset = HEADER_SIZE + segments.len() * PROGRAM_HEADER_SIZE;
        for (vaddr, bytes, memory) in segments {
            let mut header = vec![0u8; PROGRAM_HEADER_SIZE];
            header[..4].copy_from_slice(&SEGMENT_LOAD.to_le_bytes());
            header[8..16].copy_from_slice(&(offset as u64).to_le_bytes());
            header[16..24].copy_from_slice(&vaddr.to_le_bytes());
            header[32..40].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
            header[40..48].copy_from_slice(&memory.to_le_bytes());
            file.extend(header);
            offset += bytes.len();
        }
        segments.iter().for_each(|(_, bytes, _)| file.extend(*bytes));
        file
    }

    #[test]
    fn loads_segments_and_zeroes_the_rest() {
        let file = elf(0x40_0010, &[(0x40_0010, b"code", 4), (0x40_2000, b"data", 0x1001)]);
        let program = parse(&file).unwrap();
        assert_eq!(program.image, Region { start: 0x40_0000, end: 0x40_4000 });
        assert_eq!(program.entry, 0x40_0010);
        let mut memory = vec![0xaa; 0x4000];
        load(&program, &file, &mut memory);
        assert_eq!(&memory[0x10..0x14], b"code");
        assert_eq!(&memory[0x2000..0x2004], b"data");
        assert_eq!(memory.iter().filter(|&&b| b != 0).count(), 8);
    }

    #[test]
    fn says_what_is_wrong() {
        let good = elf(0x1000, &[(0x1000, b"x", 1)]);
        let error = |file: &[u8]| parse(file).unwrap_err();
        assert_eq!(error(b""), ElfError::Magic);
        assert_eq!(error(b"#!/bin/sh"), ElfError::Magic);
        let changed = |at: usize, value: u8| {
            let mut file = good.clone();
            file[at] = value;
            file
        };
        assert_eq!(error(&changed(4, 1)), ElfError::Format);
        assert_eq!(error(&changed(18, 62)), ElfError::Machine);
        assert_eq!(error(&changed(16, 3)), ElfError::Type);
        assert_eq!(error(&good[..good.len() - 1]), ElfError::Truncated);
        assert_eq!(error(&good[..80]), ElfError::Truncated);
        assert_eq!(error(&elf(0, &[])), ElfError::Empty);
        assert_eq!(error(&elf(0x2000, &[(0x1000, b"x", 1)])), ElfError::Entry);
        assert_eq!(error(&elf(0x1000, &[(0x1000, b"xy", 1)])), ElfError::Segment);
        assert_eq!(error(&elf(0x1000, &[(0x1000, b"x", USER_END)])), ElfError::Segment);
        assert_eq!(error(&elf(0x1000, &[(0x1000, b"x", u64::MAX)])), ElfError::Segment);
        assert_eq!(error(&elf(0x2000, &[(0x2000, b"x", 1), (0x1000, b"x", 1)])), ElfError::Segment);
        let many = [(0x1000u64, &b""[..], 0x10u64); 17];
        let many: Vec<_> = many.iter().enumerate().map(|(i, s)| (s.0 + i as u64 * 0x10, s.1, s.2)).collect();
        assert_eq!(error(&elf(0x1000, &many)), ElfError::TooManySegments);
    }

    #[test]
    fn survives_any_single_byte_change() {
        let good = elf(0x1000, &[(0x1000, b"text", 4), (0x2000, b"data", 64)]);
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut file = good.clone();
                file[at] = value;
                if let Ok(program) = parse(&file)
                    && program.image.size() < 1 << 20
                {
                    load(&program, &file, &mut vec![0; program.image.size() as usize]);
                }
            }
        }
    }
}
