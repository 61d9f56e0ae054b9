//! The harness's only source of randomness: SplitMix64, seeded from the command line, so a run's faults can be repeated.

/// A small seeded generator (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator whose sequence is a function of `seed`.
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// The next 64 random bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound` (which is not 0).
    pub fn below(&mut self, bound: u64) -> u64 {
        // The bias is below bound/2^64: irrelevant here.
        self.draw() % bound
    }

    /// True with this probability in percent.
    pub fn percent(&mut self, percent: f64) -> bool {
        percent > 0.0 && (self.draw() >> 11) as f64 / (1u64 << 53) as f64 * 100.0 < percent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_sequence_and_percentages_hold() {
        let draw = |seed| {
            (0..8)
                .map({
                    let mut rng = Rng::new(seed);
                    move |_| rng.draw()
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let mut rng = Rng::new(3);
        let hits = (0..10_000).filter(|_| rng.percent(20.0)).count();
        assert!((1800..2200).contains(&hits), "{hits} of 10000 at 20 %");
        assert!((0..1000).all(|_| rng.percent(100.0) && !rng.percent(0.0)));
    }
}
