//! The server: does what it is asked, up to failing in every way.

use alloc::vec;
use alloc::vec::Vec;
use core::hint::black_box;
use core::ptr::NonNull;
use ipc_api::selftest::{self, Error, Failure};
use ipc_api::timer;
use ipc_ring::{Duplex, Side};
use ipc_wire::{Answer, Any, Bytes, Caller, Cap, InWindow, MAX_PAYLOAD, OutWindow, Refusal};
use smi_rt::replies::Token;
use smi_rt::serve::{Event, Loop, Message};
use smi_rt::transport::{ChannelExt, ChannelTransport};
use smi_rt::{CPtr, Env, cap, time};

/// Calls that are answered later: when, and whose.
struct Later {
    at_ns: u64,
    token: u64,
}

struct Server {
    env: &'static Env,
    timer: timer::Client<ChannelTransport>,
    ring: Option<Duplex<'static>>,
    later: Vec<Later>,
    answered: u64,
}

/// Runs the server.
pub fn run(env: &'static Env) -> ! {
    let timer = match env.channel("timer") {
        Ok(channel) => channel,
        Err(error) => panic!("timer: {error}"),
    };
    let ring = env.channel("client").ok().and_then(|c| c.ring).and_then(|ring| {
        // SAFETY: the ring of the channel with the client, attached to once, mapped for good.
        unsafe { Duplex::attach(NonNull::new(ring.ptr)?, ring.len, Side::Server) }.ok()
    });
    let mut server = Server { env, timer: timer::Client::new(timer.transport()), ring, later: Vec::new(), answered: 0 };
    let mut events = Loop::new(env);
    let mut message = Message::new();
    loop {
        match events.next(&mut message) {
            Event::Call(call) => {
                events.dispatch(call, &message, |incoming, reply| selftest::dispatch(&mut server, incoming, reply))
            }
            Event::Signals(bits) if bits & timer.mask() != 0 => server.answer_due(&mut events),
            Event::Signals(_) => {}
        }
    }
}

impl Server {
    fn answer_due(&mut self, events: &mut Loop) {
        let now = time::now_ns();
        while let Some(i) = self.later.iter().position(|l| l.at_ns <= now) {
            let call = self.later.remove(i);
            let mut payload = [0; MAX_PAYLOAD];
            let reply = selftest::reply::later(&self.answered, &mut payload);
            self.answered += 1;
            if events.reply(Token::from_word(call.token), reply, &payload[..reply.len]).is_err() {
                panic!("a deferred call was lost");
            }
        }
        self.arm();
    }

    fn arm(&mut self) {
        if let Some(next) = self.later.iter().map(|l| l.at_ns).min()
            && let Err(error) = self.timer.arm(next)
        {
            panic!("timer: {error}");
        }
    }
}

impl selftest::Server for Server {
    fn echo(&mut self, _: Caller, value: u64) -> Answer<u64, Error> {
        Ok(value)
    }

    fn invert(&mut self, _: Caller, data: &[u8]) -> Answer<Bytes<200>, Error> {
        let inverted: Vec<u8> = data.iter().map(|b| !b).collect();
        Bytes::new(&inverted).map_err(|_| Error::Nonsense.into())
    }

    fn sum(&mut self, _: Caller, data: InWindow<'_>) -> Answer<u64, Error> {
        let mut bytes = vec![0; data.len()];
        data.read(0, &mut bytes)?;
        Ok(bytes.iter().map(|b| *b as u64).sum())
    }

    fn fill(&mut self, _: Caller, seed: u8, data: OutWindow<'_>) -> Answer<(), Error> {
        let bytes: Vec<u8> = (0..data.len()).map(|i| seed.wrapping_add(i as u8)).collect();
        Ok(data.write(0, &bytes)?)
    }

    fn later(&mut self, caller: Caller, delay_ns: u64) -> Answer<u64, Error> {
        self.later.push(Later { at_ns: time::now_ns() + delay_ns, token: caller.token });
        self.arm();
        Err(Refusal::Pending)
    }

    fn object(&mut self, caller: Caller, number: u64) -> Answer<Cap<selftest::Protocol>, Error> {
        if number == 0 || number >= 1 << 40 {
            return Err(Error::Nonsense.into());
        }
        let badge = cap::badge(number, cap::client_of(caller.badge));
        match cap::mint_for_reply(badge) {
            Ok(minted) => Ok(Cap::new(ipc_wire::RawCap(minted.0))),
            Err(_) => Err(Error::Nonsense.into()),
        }
    }

    fn number(&mut self, caller: Caller) -> Answer<u64, Error> {
        Ok(cap::object_of(caller.badge))
    }

    fn recognise(&mut self, _: Caller, object: Cap<selftest::Protocol>) -> Answer<u64, Error> {
        match cap::own_badge(object.raw()) {
            Some(badge) => Ok(cap::object_of(badge)),
            None => {
                cap::delete(CPtr(object.raw().0));
                Err(Error::Nonsense.into())
            }
        }
    }

    fn take(&mut self, _: Caller, thing: Cap<Any>) -> Answer<u64, Error> {
        let thing = CPtr(thing.raw().0);
        let kind = smi_rt::sys::debug::cap_identify(thing);
        cap::delete(thing);
        Ok(kind)
    }

    fn restarts(&mut self, _: Caller) -> Answer<u64, Error> {
        Ok(self.env.restarts())
    }

    fn fail(&mut self, _: Caller, how: Failure) -> Answer<(), Error> {
        fail(how);
        Err(Error::Nonsense.into())
    }

    fn drain(&mut self, _: Caller) -> Answer<u32, Error> {
        let ring = self.ring.as_mut().ok_or(Error::Nonsense)?;
        let mut count = 0;
        let mut record = [0; 256];
        while let Some(Ok(len)) = ring.rx.pop(&mut record) {
            if &record[..len] == b"end" {
                return Ok(count);
            }
            count += 1;
            ring.tx.push(&[&record[..len]]).map_err(|_| Error::Nonsense)?;
        }
        Err(Error::Nonsense.into())
    }
}

/// Does what is forbidden. Returns if nobody minds.
fn fail(how: Failure) {
    static mut DATA: [u32; 2] = [0xd65f_03c0, 0]; // `ret`
    match how {
        Failure::Panic => panic!("on request"),
        Failure::NullRead => peek(black_box(0)),
        Failure::WriteCode => poke(black_box(fail as fn(Failure) as usize)),
        Failure::ExecuteData => {
            let address = &raw const DATA as usize;
            // SAFETY: either the processor refuses, which is what is tested, or a `ret` is executed.
            let function: extern "C" fn() = unsafe { core::mem::transmute(black_box(address)) };
            function();
        }
        Failure::Recursion => {
            black_box(recurse(black_box(1)));
        }
        // SAFETY: no memory is named; an unknown number is a fault.
        Failure::UnknownCall => unsafe { core::arch::asm!("svc #0", in("x7") 77u64, options(nostack)) },
        Failure::ForeignRegisters => peek(black_box(0x900_0000)), // where the serial line is on `virt`
    }
}

fn peek(address: usize) {
    // SAFETY: the address is not mapped here: the read faults, which is what is tested. A value would not be used.
    black_box(unsafe { core::ptr::with_exposed_provenance::<u64>(address).read_volatile() });
}

fn poke(address: usize) {
    // SAFETY: code is mapped read-only: the write faults, which is what is tested.
    unsafe { core::ptr::with_exposed_provenance_mut::<u32>(address & !3).write_volatile(0) }
}

#[inline(never)]
fn recurse(depth: u64) -> u64 {
    let room = black_box([depth; 64]);
    if depth == 0 { 0 } else { recurse(depth + 1) + room[black_box(depth as usize % 64)] }
}
