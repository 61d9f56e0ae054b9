//! Contiguous runs of slots: data slots of a channel, buffers of the driver.

/// Words of the bitmap.
const WORDS: usize = 16;

/// First-fit allocator of runs among at most [`Spans::MAX`] slots.
#[derive(Clone, Debug)]
pub struct Spans {
    used: [u64; WORDS],
    count: u32,
}

impl Spans {
    /// Most slots it manages; more are left unused.
    pub const MAX: u32 = 64 * WORDS as u32;

    /// `count` free slots.
    pub fn new(count: usize) -> Self {
        Self { used: [0; WORDS], count: u32::try_from(count).unwrap_or(u32::MAX).min(Self::MAX) }
    }

    /// Slots, free or not.
    pub fn count(&self) -> u32 {
        self.count
    }

    fn is_used(&self, slot: u32) -> bool {
        self.used[slot as usize / 64] >> (slot % 64) & 1 != 0
    }

    fn set(&mut self, first: u32, len: u32, used: bool) {
        for slot in first..first + len {
            let bit = 1 << (slot % 64);
            let word = &mut self.used[slot as usize / 64];
            *word = if used { *word | bit } else { *word & !bit };
        }
    }

    /// The first slot of `len` free ones in a row, now taken; `None` if there are none.
    pub fn take(&mut self, len: u32) -> Option<u32> {
        let mut run = 0;
        for slot in 0..self.count {
            run = if self.is_used(slot) { 0 } else { run + 1 };
            if len > 0 && run == len {
                let first = slot + 1 - len;
                self.set(first, len, true);
                return Some(first);
            }
        }
        None
    }

    /// Gives back what [`take`](Self::take) gave.
    pub fn free(&mut self, first: u32, len: u32) {
        assert!(first.checked_add(len).is_some_and(|end| end <= self.count), "slots that were never taken");
        self.set(first, len, false);
    }

    /// Free slots.
    pub fn available(&self) -> u32 {
        (0..self.count).filter(|slot| !self.is_used(*slot)).count() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_do_not_overlap() {
        let mut spans = Spans::new(130);
        assert_eq!(spans.take(0), None);
        let a = spans.take(64).expect("room");
        let b = spans.take(60).expect("room");
        assert_eq!((a, b, spans.available()), (0, 64, 6));
        assert_eq!(spans.take(7), None);
        spans.free(10, 7);
        assert_eq!(spans.take(7), Some(10));
        assert_eq!(spans.take(6), Some(124));
        assert_eq!(spans.available(), 0);
    }

    #[test]
    fn the_count_is_bounded() {
        assert_eq!(Spans::new(1 << 20).count(), Spans::MAX);
    }
}
