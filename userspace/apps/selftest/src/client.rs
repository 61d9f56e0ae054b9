//! The client: asks, checks, reports each check, and counts.

use crate::memory;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write;
use core::ptr::NonNull;
use ipc_api::console;
use ipc_api::selftest::{self, Error, Failure};
use ipc_api::supervisor::{self, State};
use ipc_api::timer;
use ipc_ring::{Duplex, Side};
use ipc_wire::{CallError, Cap, LinkError, RawCap, Request, Transport, WindowRef};
use smi_rt::sys::debug::{self, Console};
use smi_rt::transport::{ChannelExt, ChannelTransport};
use smi_rt::{CPtr, Channel, Env, cap, time};
use zerocopy::IntoBytes;

type Server = selftest::Client<ChannelTransport>;

/// Capability type of an endpoint (`kernel_abi::CapTag`).
const ENDPOINT: u64 = 4;
/// Capability type of a notification.
const NOTIFICATION: u64 = 6;

struct Checks {
    env: &'static Env,
    failed: u32,
    passed: u32,
}

/// Runs all checks and halts the machine.
pub fn run(env: &'static Env) -> ! {
    let mut checks = Checks { env, failed: 0, passed: 0 };
    checks.memory();
    checks.calls();
    checks.capabilities();
    checks.ring();
    checks.time();
    checks.failures();
    checks.on_demand();
    let verdict = if checks.failed == 0 { "PASS" } else { "FAIL" };
    let _ = writeln!(Console, "selftest: {verdict}, {} passed, {} failed", checks.passed, checks.failed);
    debug::halt()
}

impl Checks {
    /// Reports one check, in the form that the test suite counts.
    fn check(&mut self, what: &str, good: bool) {
        *(if good { &mut self.passed } else { &mut self.failed }) += 1;
        let verdict = if good { "ok" } else { "FAILED" };
        let _ = writeln!(Console, "test selftest: {what} ... {verdict}");
    }

    fn channel(&self, peer: &str) -> Channel {
        match self.env.channel(peer) {
            Ok(channel) => channel,
            Err(error) => panic!("{peer}: {error}"),
        }
    }

    fn server(&self, name: &str) -> Server {
        selftest::Client::new(self.channel(name).transport())
    }

    fn supervisor(&self) -> supervisor::Client<ChannelTransport> {
        supervisor::Client::new(self.channel("root").transport())
    }

    fn memory(&mut self) {
        self.check("copies", memory::copies());
        self.check("moves", memory::moves());
        self.check("fills", memory::fills());
        self.check("heap", memory::heap());
    }

    fn calls(&mut self) {
        let mut server = self.server("server");
        self.check("a call in registers", server.echo(0x1234_5678_9abc_def0) == Ok(0x1234_5678_9abc_def0));
        let data: Vec<u8> = (0..200).map(|i| i as u8).collect();
        let inverted: Vec<u8> = data.iter().map(|b| !b).collect();
        self.check("a long message", server.invert(&data).is_ok_and(|got| got.as_slice() == inverted));

        let bytes: Vec<u8> = (0..5000).map(|i| (i % 251) as u8).collect();
        let want: u64 = bytes.iter().map(|b| *b as u64).sum();
        self.check("a window in", server.sum(&bytes) == Ok(want));
        let mut back = vec![0; 300];
        let filled = server.fill(7, &mut back) == Ok(());
        self.check("a window out", filled && (0..300).all(|i| back[i] == 7u8.wrapping_add(i as u8)));
        self.check("too much for the session buffer", server.sum(&vec![0; 20_000]).is_err());
        let beyond = WindowRef { offset: server.transport().session().len() as u32 - 4, len: 5 };
        let request = Request { label: selftest::label::SUM, bytes: beyond.as_bytes(), caps: &[] };
        let refused = server.transport().call(request, &mut [0; 8]).map(|reply| reply.label);
        self.check("a window outside is refused", refused == Ok(LinkError::BadMessage.label()));

        self.check("a deferred answer", server.later(2_000_000) == Ok(0));
        self.check("a second deferred answer", server.later(0) == Ok(1));
        let mut stranger = supervisor::Client::new(self.channel("server").transport());
        let answer = stranger.list(0).err();
        self.check("a foreign interface is refused", answer == Some(CallError::Link(LinkError::NoMethod)));
    }

    fn capabilities(&mut self) {
        let mut server = self.server("server");
        self.check("the channel is object 0", server.number() == Ok(0));
        let Ok(object) = server.object(77) else { return self.check("an object", false) };
        let mut through = selftest::Client::new(server.transport().object(object.raw()));
        self.check("a call through a capability", through.number() == Ok(77));
        self.check("a capability comes home", server.recognise(object) == Ok(77));
        let note = Cap::new(RawCap(self.env.notification().0));
        self.check("a foreign capability is handed over", server.take(note) == Ok(NOTIFICATION));
        let own = cap::mint(cap::badge(5, 1)).map(|c| Cap::new(RawCap(c.0)));
        let taken = own.map(|own| server.take(own));
        self.check("a minted capability is handed over", taken == Ok(Ok(ENDPOINT)));
        let foreign = self.channel("timer").call.map_or(RawCap(0), |c| RawCap(c.0));
        self.check(
            "a stranger is not recognised",
            server.recognise(Cap::new(foreign)) == Err(CallError::Server(Error::Nonsense)),
        );
        cap::delete(CPtr(object.raw().0));
        let gone = through.number();
        self.check("a deleted capability answers NoPeer", gone == Err(CallError::Link(LinkError::NoPeer)));
        // More objects than there are slots: each is given back.
        let many = (0..2000).all(|i| match server.object(i + 1) {
            Ok(object) => {
                cap::delete(CPtr(object.raw().0));
                true
            }
            Err(_) => false,
        });
        self.check("slots are reused", many);
    }

    fn ring(&mut self) {
        let ring = self.channel("server").ring;
        // SAFETY: the ring of the channel with the server, attached to once, mapped for good.
        let duplex = ring.and_then(|r| unsafe { Duplex::attach(NonNull::new(r.ptr)?, r.len, Side::Client) }.ok());
        let Some(mut duplex) = duplex else { return self.check("a ring", false) };
        let mut server = self.server("server");
        let records = [&b"one"[..], &[2; 100], b""];
        let pushed = records.iter().chain([&&b"end"[..]]).all(|r| duplex.tx.push(&[r]).is_ok());
        self.check("records through a ring", pushed && server.drain() == Ok(3));
        let mut record = [0; 256];
        let back = records.iter().all(|r| duplex.rx.pop(&mut record) == Some(Ok(r.len())) && record[..r.len()] == **r);
        self.check("records come back", back && duplex.rx.is_empty());
    }

    fn time(&mut self) {
        let channel = self.channel("timer");
        let mut timer = timer::Client::new(channel.transport());
        let start = time::now_ns();
        let armed = timer.arm(start + 5_000_000).is_ok();
        let bits = smi_rt::sys::wait(self.env.notification());
        let took = time::now_ns() - start;
        self.check("a deadline comes", armed && bits & channel.mask() != 0);
        self.check("a deadline is not early", took >= 5_000_000);
        let armed = timer.arm(start).is_ok();
        let bits = smi_rt::sys::wait(self.env.notification());
        self.check("a past deadline comes at once", armed && bits & channel.mask() != 0);
    }

    fn failures(&mut self) {
        let ways = [
            Failure::Panic,
            Failure::NullRead,
            Failure::WriteCode,
            Failure::ExecuteData,
            Failure::Recursion,
            Failure::UnknownCall,
            Failure::ForeignRegisters,
        ];
        let mut server = self.server("server");
        for (i, how) in ways.into_iter().enumerate() {
            let answer = server.fail(how);
            self.check("the caller of a failed server is told", answer == Err(CallError::Link(LinkError::Restarted)));
            self.check("the server is there again", server.restarts() == Ok(i as u64 + 1));
        }
        self.check("shared memory is mapped again", server.sum(&[1; 64]) == Ok(64));
        let mut supervisor = self.supervisor();
        let status = supervisor.status("server");
        let want = ways.len() as u32;
        self.check("the supervisor counts", status.is_ok_and(|s| s.restarts == want && s.state == State::Running));
        let killed = supervisor.kill("timer").is_ok();
        self.check("the timer is killed and back", killed && self.server("server").later(1_000_000).is_ok());
        let mut console = console::Client::new(self.channel("console").transport());
        let told = console.write("the console is about to be killed").is_ok();
        let before = console.stats().map(|s| s.sent);
        let killed = supervisor.kill("console").is_ok();
        let after = console.stats().map(|s| s.sent);
        let fresh = matches!((before, after), (Ok(before), Ok(after)) if after < before);
        self.check("the console is killed and back", told && killed && fresh);
        self.check("it takes text again", console.write("the console is back").is_ok());
    }

    fn on_demand(&mut self) {
        let mut supervisor = self.supervisor();
        let mut spare = self.server("spare");
        let nobody = Err(CallError::Link(LinkError::NoPeer));
        self.check("a server that was not started answers NoPeer", spare.echo(1) == nobody);
        self.check("it is started", supervisor.start("spare") == Ok(()));
        self.check("it answers", spare.echo(2) == Ok(2));
        let again = supervisor.start("spare");
        self.check("it cannot be started twice", again == Err(CallError::Server(supervisor::Error::Running)));
        self.check("it is stopped", supervisor.stop("spare") == Ok(()));
        self.check("then it answers NoPeer", spare.echo(3) == nobody);
        let rounds = (0..20)
            .all(|i| supervisor.start("spare").is_ok() && spare.echo(i) == Ok(i) && supervisor.stop("spare").is_ok());
        self.check("it is started and stopped many times", rounds);
        let refused = supervisor.stop("timer");
        self.check("others cannot be stopped", refused == Err(CallError::Server(supervisor::Error::NotOnDemand)));
        self.check(
            "unknown names are refused",
            supervisor.start("nobody") == Err(CallError::Server(supervisor::Error::Unknown)),
        );
        let mut fragile = self.server("fragile");
        let answer = fragile.fail(Failure::NullRead);
        self.check("a server that is not restarted", answer == Err(CallError::Link(LinkError::Restarted)));
        self.check("answers NoPeer", fragile.echo(4) == nobody);
    }
}
