//! The simulator's only source of randomness: xoshiro256** (Blackman and Vigna 2018), seeded by SplitMix64.

/// A seeded generator. Equal seeds give equal runs.
#[derive(Clone, Debug)]
pub struct Prng([u64; 4]);

impl Prng {
    /// The generator of this seed.
    pub fn new(seed: u64) -> Prng {
        let mut x = seed;
        let mut split_mix = || {
            x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        Prng([split_mix(), split_mix(), split_mix(), split_mix()])
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number below `n` (0 if `n` is 0). The bias is below n / 2^64.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True with probability `per_mille` / 1000.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// An exponentially distributed number with this mean, at most twenty times the mean.
    pub fn exponential(&mut self, mean: u64) -> u64 {
        let unit = (self.bits() >> 11) as f64 / (1u64 << 53) as f64;
        let x = -(1.0 - unit).ln() * mean as f64;
        (x as u64).min(mean.saturating_mul(20))
    }

    /// One of the elements; `None` if there is none.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len() as u64) as usize)
    }

    /// Puts the elements into a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_sequence() {
        let draw = |seed| (0..5).map(|_| Prng::new(seed).bits()).collect::<Vec<_>>();
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn distributions_stay_in_range() {
        let mut rng = Prng::new(7);
        let mut sum = 0;
        for _ in 0..10_000 {
            assert!((3..=5).contains(&rng.between(3, 5)));
            assert_eq!(rng.below(1), 0);
            sum += rng.exponential(1000);
        }
        assert!((900..1100).contains(&(sum / 10_000)));
        assert_eq!((0..1000).filter(|_| rng.chance(0)).count(), 0);
        assert_eq!((0..1000).filter(|_| rng.chance(1000)).count(), 1000);
    }
}
