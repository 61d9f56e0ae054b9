//! Free capability slots: a bitmap over a range of slot numbers.

/// Most slots that are managed.
pub const MAX_SLOTS: usize = 4096;
const WORDS: usize = MAX_SLOTS / 64;

/// A set of free slots. Allocation takes the lowest.
pub struct Slots {
    first: u64,
    free: [u64; WORDS],
    /// All words below are empty.
    hint: usize,
}

impl Slots {
    /// No slots.
    pub const fn empty() -> Slots {
        Slots { first: 0, free: [0; WORDS], hint: 0 }
    }

    /// Starts over with `range`; slots beyond [`MAX_SLOTS`] are left unused.
    pub fn reset(&mut self, range: core::ops::Range<u64>) {
        *self = Slots::empty();
        self.first = range.start;
        let count = range.end.saturating_sub(range.start).min(MAX_SLOTS as u64);
        (0..count as usize).for_each(|i| self.free[i / 64] |= 1 << (i % 64));
    }

    /// Takes a free slot.
    pub fn alloc(&mut self) -> Option<u64> {
        let word = (self.hint..WORDS).find(|w| self.free[*w] != 0)?;
        self.hint = word;
        let bit = self.free[word].trailing_zeros() as usize;
        self.free[word] &= !(1 << bit);
        Some(self.first + (word * 64 + bit) as u64)
    }

    /// Gives a slot back; it must be empty again. Slots that were never handed out are ignored (returns false).
    pub fn release(&mut self, slot: u64) -> bool {
        let Some(index) = slot.checked_sub(self.first).filter(|i| *i < MAX_SLOTS as u64) else { return false };
        let (word, bit) = (index as usize / 64, index % 64);
        if self.free[word] & (1 << bit) != 0 {
            return false;
        }
        self.free[word] |= 1 << bit;
        self.hint = self.hint.min(word);
        true
    }

    /// Number of free slots.
    pub fn available(&self) -> usize {
        self.free.iter().map(|w| w.count_ones() as usize).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_is_given_once_and_can_come_back() {
        let mut slots = Slots::empty();
        assert_eq!(slots.alloc(), None);
        slots.reset(100..300);
        let mut given: Vec<u64> = std::iter::from_fn(|| slots.alloc()).collect();
        assert_eq!(given, (100..300).collect::<Vec<_>>());
        given.sort_by_key(|s| s % 7);
        for slot in &given {
            assert!(slots.release(*slot));
            assert!(!slots.release(*slot), "double release is refused");
        }
        assert_eq!(slots.available(), 200);
        assert!(!slots.release(99));
        assert_eq!(slots.alloc(), Some(100));
    }
}
