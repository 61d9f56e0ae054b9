//! When a failed server is started again: at once, then after pauses that double while it keeps failing.

/// Pause after a second failure in a row, nanoseconds.
pub const FIRST_PAUSE_NS: u64 = 10_000_000;
/// Longest pause, nanoseconds.
pub const LONGEST_PAUSE_NS: u64 = 2_000_000_000;
/// A server that ran this long before it failed starts with a clean record.
pub const CALM_NS: u64 = 10_000_000_000;

/// A server's record of failures.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Record {
    started_ns: u64,
    in_a_row: u32,
    /// How often it was started again after a failure.
    pub restarts: u32,
    /// How often it was started in all.
    pub starts: u32,
}

impl Record {
    /// It starts now.
    pub fn started(&mut self, now_ns: u64) {
        self.started_ns = now_ns;
        self.starts = self.starts.saturating_add(1);
    }

    /// It is started by hand: earlier failures no longer lengthen the pause.
    pub fn forgive(&mut self) {
        self.in_a_row = 0;
    }

    /// It failed now: when to start it again.
    pub fn failed(&mut self, now_ns: u64) -> u64 {
        if now_ns.saturating_sub(self.started_ns) >= CALM_NS {
            self.in_a_row = 0;
        }
        let pause = match self.in_a_row {
            0 => 0,
            n => FIRST_PAUSE_NS.checked_shl(n - 1).unwrap_or(u64::MAX).min(LONGEST_PAUSE_NS),
        };
        self.in_a_row = (self.in_a_row + 1).min(32);
        self.restarts = self.restarts.saturating_add(1);
        now_ns.saturating_add(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_are_bounded_and_forgotten() {
        let mut record = Record::default();
        let mut now = 0;
        let mut pauses = Vec::new();
        for _ in 0..40 {
            record.started(now);
            let at = record.failed(now);
            pauses.push(at - now);
            now = at;
        }
        assert_eq!(pauses[..4], [0, FIRST_PAUSE_NS, 2 * FIRST_PAUSE_NS, 4 * FIRST_PAUSE_NS]);
        assert!(pauses[9..].iter().all(|p| *p == LONGEST_PAUSE_NS));
        assert_eq!((record.restarts, record.starts), (40, 40));
        record.forgive();
        assert_eq!(record.failed(now), now);
        record.failed(now);
        record.started(now);
        assert_eq!(record.failed(now + CALM_NS), now + CALM_NS);
    }
}
