//! A sliding window over frame counters: which of the last `64 * N` were seen.
//!
//! Used twice for each session: as replay window (a counter is accepted once) and as the set of frames to acknowledge.

/// The set of seen counters among the newest `64 * N`.
pub(crate) struct Window<const N: usize> {
    /// The largest counter seen.
    largest: Option<u64>,
    /// Bit `i` of the whole: `largest - i` was seen.
    bits: [u64; N],
}

impl<const N: usize> Window<N> {
    const BITS: u64 = 64 * N as u64;

    pub fn new() -> Window<N> {
        Window { largest: None, bits: [0; N] }
    }

    /// The largest counter seen.
    pub fn largest(&self) -> Option<u64> {
        self.largest
    }

    /// True if `counter` was not seen and is not too old to tell.
    pub fn is_fresh(&self, counter: u64) -> bool {
        let Some(largest) = self.largest else { return true };
        match largest.checked_sub(counter) {
            None => true,
            Some(age) => age < Self::BITS && !self.bit(age),
        }
    }

    /// Marks `counter` as seen; too old ones are ignored.
    pub fn mark(&mut self, counter: u64) {
        match self.largest {
            Some(largest) if counter <= largest => self.set(largest - counter),
            Some(largest) => self.advance(counter, counter - largest),
            None => self.advance(counter, Self::BITS),
        }
    }

    /// The bits of the `64 * M` counters before the largest (bit 0 = `largest - 1`).
    pub fn before<const M: usize>(&self) -> [u64; M] {
        core::array::from_fn(|word| {
            (0..64).filter(|bit| self.bit(word as u64 * 64 + bit + 1)).fold(0, |bits, bit| bits | 1 << bit)
        })
    }

    fn bit(&self, age: u64) -> bool {
        age < Self::BITS && self.bits[(age / 64) as usize] >> (age % 64) & 1 == 1
    }

    fn set(&mut self, age: u64) {
        if age < Self::BITS {
            self.bits[(age / 64) as usize] |= 1 << (age % 64);
        }
    }

    fn advance(&mut self, counter: u64, by: u64) {
        let (words, bits) = ((by / 64) as usize, (by % 64) as u32);
        self.bits = core::array::from_fn(|i| {
            let high = i.checked_sub(words).map_or(0, |j| self.bits[j] << bits);
            let carry = if bits == 0 { None } else { i.checked_sub(words + 1) };
            high | carry.map_or(0, |j| self.bits[j] >> (64 - bits))
        });
        self.largest = Some(counter);
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn agrees_with_a_set_that_remembers_everything() {
        let mut window = Window::<4>::new();
        let (mut seen, mut largest, mut x) = (BTreeSet::new(), 0u64, 12345u64);
        for _ in 0..20_000 {
            x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let jump = if x >> 60 == 0 { 500 } else { 20 };
            let counter = (largest + (x >> 33) % jump).saturating_sub(if x & 1 == 0 { 0 } else { 300 });
            let fresh = !seen.contains(&counter) && counter + 256 > largest;
            assert_eq!(window.is_fresh(counter), fresh, "{counter} at {largest}");
            window.mark(counter);
            seen.insert(counter);
            largest = largest.max(counter);
        }
        let before: [u64; 3] = window.before();
        for i in 0..192 {
            assert_eq!(before[i / 64] >> (i % 64) & 1 == 1, seen.contains(&(largest - 1 - i as u64)));
        }
    }
}
