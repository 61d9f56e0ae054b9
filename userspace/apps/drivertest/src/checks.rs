//! Counting, channels, waiting, killing.

use core::fmt::Write;
use core::ptr::NonNull;

use ipc_api::{console, supervisor, timer};
use ipc_ring::{Duplex, Side};
use ipc_wire::CallError;
use smi_rt::env::map::SIGNAL_FLAG;
use smi_rt::sys::debug::Console;
use smi_rt::transport::{ChannelExt, ChannelTransport};
use smi_rt::{Channel, Env, time};

/// Longest wait for anything.
pub const PATIENCE_NS: u64 = 10_000_000_000;
/// The alarm's period while waiting, so that a lost signal shows as slowness and not as a hang.
const ALARM_NS: u64 = 500_000_000;

/// What the checks share.
pub struct Checks {
    /// This program's environment.
    pub env: &'static Env,
    /// Checks that failed.
    pub failed: u32,
    /// Checks that passed.
    pub passed: u32,
    /// Waits for something that was there but not signalled: only the alarm ended them.
    pub alarms: u32,
}

impl Checks {
    /// None yet.
    pub fn new(env: &'static Env) -> Self {
        Self { env, failed: 0, passed: 0, alarms: 0 }
    }

    /// Reports one check, in the form that the test suite counts.
    pub fn check(&mut self, what: &str, good: bool) {
        *(if good { &mut self.passed } else { &mut self.failed }) += 1;
        let verdict = if good { "ok" } else { "FAILED" };
        let _ = writeln!(Console, "test drivertest: {what} ... {verdict}");
    }

    /// Reports a measurement: `amount` units in `ns`.
    pub fn rate(&self, what: &str, amount: u64, unit: &str, ns: u64) {
        let per_second = amount.saturating_mul(1_000_000_000) / ns.max(1);
        let _ = writeln!(Console, "rate drivertest: {what}: {per_second} {unit}/s");
    }

    /// The channel to a server.
    pub fn channel(&self, peer: &str) -> Channel {
        match self.env.channel(peer) {
            Ok(channel) => channel,
            Err(error) => panic!("{peer}: {error}"),
        }
    }

    /// The ring to a driver, attached anew.
    pub fn ring(&self, channel: &Channel) -> Duplex<'static> {
        let Some((region, base)) = channel.ring.and_then(|region| Some((region, NonNull::new(region.ptr)?))) else {
            panic!("the channel to {} has no ring", channel.peer)
        };
        // SAFETY: shared with the driver only, mapped for the process's life; callers drop a client before they attach the next.
        match unsafe { Duplex::attach(base, region.len, Side::Client) } {
            Ok(ring) => ring,
            Err(_) => panic!("the ring to {} is too small", channel.peer),
        }
    }

    /// Ends a server as if it had failed.
    pub fn kill(&mut self, name: &str) -> bool {
        supervisor::Client::new(self.channel("root").transport()).kill(name).is_ok()
    }

    /// Calls `step` after every signal until it says true. False if that takes too long.
    pub fn wait(&mut self, mut step: impl FnMut() -> bool) -> bool {
        let end = time::now_ns() + PATIENCE_NS;
        let mut timer = timer::Client::new(self.channel("timer").transport());
        let alarm = self.channel("timer").mask();
        let mut next = 0;
        let mut alarmed = false;
        loop {
            if step() {
                self.alarms += u32::from(alarmed);
                return true;
            }
            let now = time::now_ns();
            if now >= end {
                return false;
            }
            if now >= next {
                next = now + ALARM_NS;
                let _ = timer.arm(next);
            }
            let bits = smi_rt::sys::wait(self.env.notification());
            alarmed = bits & !SIGNAL_FLAG == alarm;
        }
    }

    /// The console's calls.
    pub fn console(&mut self) {
        let mut client: console::Client<ChannelTransport> = console::Client::new(self.channel("console").transport());
        let before = client.stats();
        self.check("console writes a line", client.write("a line of plain text") == Ok(()));
        defmt::info!("a record");
        let after = client.stats();
        let more = matches!((before, after), (Ok(a), Ok(b)) if b.sent > a.sent + 20 && b.records > a.records);
        self.check("console counts", more);
        let long = "x".repeat(257);
        let refused = client.write(&long) == Err(CallError::Link(ipc_wire::LinkError::BadMessage));
        self.check("console refuses a line that is too long", refused);
        let killed = self.kill("console");
        self.check("console is killed", killed);
        // Its successor serves the next call; a call that met the old one in the act is refused once.
        let answered = (0..100).any(|_| client.write("the line is there again") == Ok(()));
        self.check("console comes back", answered);
    }
}
