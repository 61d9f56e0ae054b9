//! Bounds on work and noise that strangers can cause.

/// Handshake messages that a peer may cost us in one go, and how long each takes to be forgiven.
const BURST: u64 = 8;
const REFILL_NS: u64 = 100_000_000;
/// A refusal of the same peer is reported at most this often at first, and less and less often.
const REPORT_NS: u64 = 5_000_000_000;
const REPORT_MAX_NS: u64 = 80_000_000_000;

/// A token bucket: [`BURST`] at once, then one per [`REFILL_NS`].
pub(crate) struct Bucket {
    /// Time at which the bucket is full again.
    full_at_ns: u64,
}

impl Bucket {
    pub fn new() -> Bucket {
        Bucket { full_at_ns: 0 }
    }

    /// Takes a token, if there is one.
    pub fn take(&mut self, now_ns: u64) -> bool {
        let full_at = self.full_at_ns.max(now_ns) + REFILL_NS;
        let ok = full_at <= now_ns + BURST * REFILL_NS;
        if ok {
            self.full_at_ns = full_at;
        }
        ok
    }
}

/// Lets one report through per interval and counts the others. The interval doubles with each report.
pub(crate) struct Reporter {
    next_ns: u64,
    interval_ns: u64,
    suppressed: u32,
}

impl Reporter {
    pub fn new() -> Reporter {
        Reporter { next_ns: 0, interval_ns: REPORT_NS, suppressed: 0 }
    }

    /// `Some(n)` if it is time to report; `n` reports were held back since the last.
    pub fn report(&mut self, now_ns: u64) -> Option<u32> {
        if now_ns < self.next_ns {
            self.suppressed = self.suppressed.saturating_add(1);
            return None;
        }
        if now_ns >= self.next_ns + REPORT_MAX_NS {
            self.interval_ns = REPORT_NS; // it had stopped
        }
        self.next_ns = now_ns + self.interval_ns;
        self.interval_ns = (self.interval_ns * 2).min(REPORT_MAX_NS);
        Some(core::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_one_per_refill() {
        let mut b = Bucket::new();
        assert_eq!((0..100).filter(|_| b.take(5)).count() as u64, BURST);
        assert!(!b.take(5 + REFILL_NS - 1));
        assert!(b.take(5 + REFILL_NS));
        assert!(!b.take(5 + REFILL_NS));
    }

    #[test]
    fn a_reporter_counts_what_it_holds_back() {
        let mut r = Reporter::new();
        assert_eq!(r.report(0), Some(0));
        assert_eq!(r.report(1), None);
        assert_eq!(r.report(2), None);
        assert_eq!(r.report(REPORT_NS), Some(2));
        assert_eq!(r.report(3 * REPORT_NS - 1), None);
        assert_eq!(r.report(3 * REPORT_NS), Some(1));
        let reports = (0..3600).filter(|s| r.report(100 * REPORT_NS + s * 1_000_000_000).is_some()).count();
        assert!((40..60).contains(&reports), "{reports} in an hour");
    }
}
