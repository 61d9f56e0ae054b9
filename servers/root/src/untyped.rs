//! Physical memory as the root task hands it out: power-of-two pieces of untyped memory, split in halves as needed.
//!
//! Pieces are never merged: a server keeps its pieces for life (a restart revokes and reuses them).

use alloc::vec::Vec;
use smi_env::CPtr;

/// An unused piece of untyped memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Capability to it, without children.
    pub cap: CPtr,
    /// Physical address.
    pub paddr: u64,
    /// log2 of its bytes.
    pub bits: u32,
}

/// The kernel's part: makes two halves out of a piece.
pub trait Split {
    /// What can go wrong.
    type Error;
    /// The capabilities of the lower and the upper half of `piece`, which is used up.
    fn split(&mut self, piece: Piece) -> Result<(CPtr, CPtr), Self::Error>;
}

/// No memory was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AllocError<E> {
    /// No piece is large enough, or none covers the address.
    Exhausted,
    /// The kernel refused to split.
    Split(E),
}

/// Smallest piece worth keeping: 16 bytes, the kernel's own limit.
pub const MIN_BITS: u32 = 4;

/// Unused pieces.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    free: Vec<Piece>,
}

impl Memory {
    /// Adds a piece.
    pub fn add(&mut self, piece: Piece) {
        self.free.push(piece);
    }

    /// Bytes in all pieces.
    pub fn available(&self) -> u64 {
        self.free.iter().map(|p| 1u64 << p.bits).sum()
    }

    /// A piece of exactly `bits`: the smallest that is large enough, lowest address first, split as often as needed.
    pub fn alloc<S: Split>(&mut self, bits: u32, splitter: &mut S) -> Result<Piece, AllocError<S::Error>> {
        let best = (0..self.free.len())
            .filter(|i| self.free[*i].bits >= bits)
            .min_by_key(|i| (self.free[*i].bits, self.free[*i].paddr))
            .ok_or(AllocError::Exhausted)?;
        self.carve(best, bits, 0, splitter)
    }

    /// The piece of exactly `bits` at `paddr` (a multiple of its size): for device registers.
    pub fn alloc_at<S: Split>(
        &mut self,
        paddr: u64,
        bits: u32,
        splitter: &mut S,
    ) -> Result<Piece, AllocError<S::Error>> {
        let covers = |p: &Piece| p.bits >= bits && paddr >= p.paddr && paddr - p.paddr < 1 << p.bits;
        let at = self.free.iter().position(covers).ok_or(AllocError::Exhausted)?;
        let offset = paddr - self.free[at].paddr;
        self.carve(at, bits, offset, splitter)
    }

    /// Splits piece `index` down to `bits`, following `offset`; the other halves stay free.
    fn carve<S: Split>(
        &mut self,
        index: usize,
        bits: u32,
        offset: u64,
        splitter: &mut S,
    ) -> Result<Piece, AllocError<S::Error>> {
        let mut piece = self.free.swap_remove(index);
        while piece.bits > bits {
            let (low, high) = splitter.split(piece).map_err(AllocError::Split)?;
            let half = piece.bits - 1;
            let low = Piece { cap: low, paddr: piece.paddr, bits: half };
            let high = Piece { cap: high, paddr: piece.paddr + (1 << half), bits: half };
            let upper = offset & (1 << half) != 0;
            self.free.push(if upper { low } else { high });
            piece = if upper { high } else { low };
        }
        Ok(piece)
    }
}

/// The pieces (log2 sizes, descending) that `bytes` of objects need when the largest are placed first: since all sizes
/// are powers of two and descend, no byte is lost between them. Rounded up to whole pieces of `granule_bits`.
pub fn pieces_for(bytes: u64, granule_bits: u32) -> Vec<u32> {
    let total = bytes.next_multiple_of(1 << granule_bits);
    (0..63).rev().filter(|bit| total & (1 << bit) != 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives out capability numbers and remembers the splits.
    struct Counter(u64);

    impl Split for Counter {
        type Error = ();
        fn split(&mut self, piece: Piece) -> Result<(CPtr, CPtr), ()> {
            if piece.bits <= MIN_BITS {
                return Err(());
            }
            self.0 += 2;
            Ok((CPtr(self.0), CPtr(self.0 + 1)))
        }
    }

    fn memory(pieces: &[(u64, u32)]) -> Memory {
        let mut memory = Memory::default();
        for (i, (paddr, bits)) in pieces.iter().enumerate() {
            memory.add(Piece { cap: CPtr(i as u64 + 1), paddr: *paddr, bits: *bits });
        }
        memory
    }

    #[test]
    fn pieces_are_disjoint_aligned_and_add_up() {
        let mut memory = memory(&[(0x4000_0000, 26), (0x4800_0000, 16), (0x4801_0000, 12)]);
        let total = memory.available();
        let mut splitter = Counter(100);
        let mut given: Vec<Piece> = Vec::new();
        for bits in [12, 21, 12, 16, 20, 12, 25, 4] {
            given.push(memory.alloc(bits, &mut splitter).unwrap());
        }
        assert_eq!(memory.available() + given.iter().map(|p| 1 << p.bits).sum::<u64>(), total);
        given.sort_by_key(|p| p.paddr);
        for pair in given.windows(2) {
            assert!(pair[0].paddr + (1 << pair[0].bits) <= pair[1].paddr);
        }
        assert!(given.iter().all(|p| p.paddr.is_multiple_of(1 << p.bits)));
        assert_eq!(memory.alloc(26, &mut splitter), Err(AllocError::Exhausted));
    }

    #[test]
    fn small_requests_leave_large_pieces_whole() {
        let mut memory = memory(&[(0x4000_0000, 26), (0x100_0000, 12)]);
        assert_eq!(memory.alloc(12, &mut Counter(9)).unwrap().paddr, 0x100_0000);
    }

    #[test]
    fn registers_are_found_by_address() {
        let mut memory = memory(&[(0, 27), (0xa00_0000, 25)]);
        let mut splitter = Counter(100);
        let frame = memory.alloc_at(0xa00_3000, 12, &mut splitter).unwrap();
        assert_eq!((frame.paddr, frame.bits), (0xa00_3000, 12));
        assert_eq!(memory.alloc_at(0xa00_3000, 12, &mut splitter), Err(AllocError::Exhausted), "given away");
        assert_eq!(memory.alloc_at(0xa00_2000, 12, &mut splitter).unwrap().paddr, 0xa00_2000);
        assert_eq!(memory.alloc_at(1 << 40, 12, &mut splitter), Err(AllocError::Exhausted));
    }

    #[test]
    fn pools_have_no_waste_beyond_the_granule() {
        assert_eq!(pieces_for(5 << 20, 16), [22, 20]);
        assert_eq!(pieces_for(1, 16), [16]);
        assert_eq!(pieces_for((2 << 20) + 1, 16), [21, 16]);
    }
}
