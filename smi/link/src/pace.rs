//! How fast to send: round-trip estimate, retransmission time-out, congestion window.
//!
//! RFC 6298 for the time-out (with the bounds below instead of its one second), additive increase and multiplicative
//! decrease for the window, counted in frames.

/// Shortest retransmission time-out, in nanoseconds.
const RTO_MIN_NS: u64 = 15_000_000;
/// Longest, also with back-off.
const RTO_MAX_NS: u64 = 1_000_000_000;
/// Before the first measurement.
const RTO_START_NS: u64 = 50_000_000;
/// Frames in flight: fewest, first, most.
const CWND_MIN: u32 = 8;
const CWND_START: u32 = 32;
const CWND_MAX: u32 = 192;

/// Pace of one session.
pub(crate) struct Pace {
    srtt_ns: Option<u64>,
    rttvar_ns: u64,
    backoff: u32,
    cwnd: u32,
    ssthresh: u32,
    /// Acknowledged frames towards the next increase.
    acked: u32,
    /// Losses of frames sent before this counter belong to a loss that was already answered.
    recovered_at: u64,
}

impl Pace {
    pub fn new() -> Pace {
        Pace {
            srtt_ns: None,
            rttvar_ns: 0,
            backoff: 0,
            cwnd: CWND_START,
            ssthresh: CWND_MAX,
            acked: 0,
            recovered_at: 0,
        }
    }

    /// Frames that may be in flight.
    pub fn window(&self) -> usize {
        self.cwnd as usize
    }

    /// The smoothed round-trip time, once measured.
    pub fn srtt_ns(&self) -> Option<u64> {
        self.srtt_ns
    }

    /// The retransmission time-out, in nanoseconds.
    pub fn rto_ns(&self) -> u64 {
        let rto = self.srtt_ns.map_or(RTO_START_NS, |srtt| srtt + 4 * self.rttvar_ns);
        rto.clamp(RTO_MIN_NS, RTO_MAX_NS).saturating_mul(1 << self.backoff.min(16)).min(RTO_MAX_NS)
    }

    /// A frame was acknowledged `rtt_ns` after it was sent (what the peer waited already taken off).
    pub fn measured(&mut self, rtt_ns: u64) {
        match self.srtt_ns {
            None => {
                self.srtt_ns = Some(rtt_ns);
                self.rttvar_ns = rtt_ns / 2;
            }
            Some(srtt) => {
                self.rttvar_ns = (3 * self.rttvar_ns + srtt.abs_diff(rtt_ns)) / 4;
                self.srtt_ns = Some((7 * srtt + rtt_ns) / 8);
            }
        }
        self.backoff = 0;
    }

    /// One frame was acknowledged.
    pub fn acked(&mut self) {
        self.backoff = 0;
        if self.cwnd < self.ssthresh {
            self.cwnd += 1;
        } else {
            self.acked += 1;
            if self.acked >= self.cwnd {
                self.acked = 0;
                self.cwnd += 1;
            }
        }
        self.cwnd = self.cwnd.min(CWND_MAX);
    }

    /// Frame `counter` was lost while `next` is the next to be sent: halve once for each window of losses.
    pub fn lost(&mut self, counter: u64, next: u64) {
        if counter >= self.recovered_at {
            self.recovered_at = next;
            self.ssthresh = (self.cwnd / 2).max(CWND_MIN);
            self.cwnd = self.ssthresh;
        }
    }

    /// Nothing was acknowledged for a whole time-out.
    pub fn timed_out(&mut self) {
        self.backoff = (self.backoff + 1).min(16);
        self.cwnd = CWND_MIN;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_out_follows_the_measured_round_trip_and_backs_off() {
        let mut p = Pace::new();
        assert_eq!(p.rto_ns(), RTO_START_NS);
        for _ in 0..50 {
            p.measured(20_000_000);
        }
        assert!((20_000_000..30_000_000).contains(&p.rto_ns()), "{}", p.rto_ns());
        let steady = p.rto_ns();
        p.timed_out();
        assert_eq!(p.rto_ns(), 2 * steady);
        (0..40).for_each(|_| p.timed_out());
        assert_eq!(p.rto_ns(), RTO_MAX_NS);
        p.acked();
        assert_eq!(p.rto_ns(), steady);
    }

    #[test]
    fn the_window_halves_once_a_loss_and_grows_back() {
        let mut p = Pace::new();
        (0..1000).for_each(|_| p.acked());
        assert_eq!(p.window(), CWND_MAX as usize);
        p.lost(10, 100);
        p.lost(11, 100);
        assert_eq!(p.window(), CWND_MAX as usize / 2);
        p.lost(100, 200);
        assert_eq!(p.window(), CWND_MAX as usize / 4);
        (0..100).for_each(|_| p.acked());
        assert!(p.window() > CWND_MAX as usize / 4);
    }
}
