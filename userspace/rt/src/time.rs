//! The clock. Needs `counter = true` in the manifest; without it the first reading faults.

const NS: u64 = 1_000_000_000;

/// Nanoseconds since the machine was started. Never goes back; the same on all servers of a node.
#[cfg(target_os = "none")]
#[inline]
pub fn now_ns() -> u64 {
    ticks_to_ns(smi_sys::counter::virtual_count(), smi_sys::counter::frequency())
}

/// Counter ticks as nanoseconds.
#[inline]
pub fn ticks_to_ns(ticks: u64, frequency: u64) -> u64 {
    (ticks / frequency) * NS + (ticks % frequency) * NS / frequency
}

/// Nanoseconds as counter ticks, rounded up: a deadline in ticks is never early. Saturates.
#[inline]
pub fn ns_to_ticks(ns: u64, frequency: u64) -> u64 {
    (ns / NS).saturating_mul(frequency).saturating_add(((ns % NS) * frequency).div_ceil(NS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_never_early_and_not_late_by_more_than_a_tick() {
        for frequency in [19_200_000, 54_000_000, 62_500_000, 1_000_000_000] {
            for ns in [0, 1, 15, 16, 17, 999_999_999, NS, NS + 1, 86_400 * NS + 123_456_789] {
                let ticks = ns_to_ticks(ns, frequency);
                let back = ticks_to_ns(ticks, frequency);
                assert!(back >= ns, "{ns} ns at {frequency} Hz: {back}");
                assert!(back - ns <= NS.div_ceil(frequency));
            }
        }
    }

    #[test]
    fn a_year_does_not_overflow() {
        let year = 365 * 86_400 * NS;
        assert_eq!(ticks_to_ns(365 * 86_400 * 62_500_000, 62_500_000), year);
        assert_eq!(ns_to_ticks(u64::MAX, 10_000_000_000), u64::MAX);
    }
}
