//! Costs of kernel paths, measured when the boot arguments contain `testroot.measure`.
//!
//! Under `-icount shift=0` one virtual nanosecond is one instruction, so the figures are instruction counts and repeat to
//! the instruction; otherwise they are times of the emulator. Each path is run [`ROUNDS`] times and divided, after a
//! first round that warms nothing up but page tables and queues.

use crate::report::Outcome;
use crate::sys::{self, invoke};
use crate::world::{CNODE, Spec, World};
use core::sync::atomic::{AtomicU64, Ordering};
use kernel_abi::{Label, ObjectType, Syscall};

const ROUNDS: u64 = 2000;

static ENDPOINT: AtomicU64 = AtomicU64::new(0);
static REPLY: AtomicU64 = AtomicU64::new(0);
static WORDS: AtomicU64 = AtomicU64::new(0);

/// Whether measuring was asked for: the boot arguments are in the device tree.
pub fn wanted(world: &World) -> bool {
    world.tree_contains("testroot.measure")
}

/// Nanoseconds per round of `path`, without the loop itself.
fn time(mut path: impl FnMut()) -> u64 {
    let run = |rounds: u64, path: &mut dyn FnMut()| {
        let start = sys::counter();
        for _ in 0..rounds {
            path();
        }
        sys::counter() - start
    };
    path();
    let empty = run(ROUNDS, &mut || core::hint::black_box(()));
    let ticks = run(ROUNDS, &mut path).saturating_sub(empty);
    ticks * 1_000_000_000 / sys::counter_frequency() / ROUNDS
}

fn report(what: &str, ns: u64) {
    println!("measure: {what}: {ns}");
}

/// Answers with as many words as it got.
extern "C" fn server(ready: u64) -> ! {
    let (endpoint, reply) = (ENDPOINT.load(Ordering::Relaxed), REPLY.load(Ordering::Relaxed));
    let words = WORDS.load(Ordering::Relaxed);
    let mut r = [endpoint, 0, 0, 0, 0, 0, reply, 0, 0];
    if ready != 0 {
        r[8] = ready;
        r = sys::svc(Syscall::NBSendRecv.raw(), r);
    } else {
        r = sys::svc(Syscall::Recv.raw(), r);
    }
    loop {
        r[0] = endpoint;
        r[1] = words;
        r[6] = reply;
        r = sys::svc(Syscall::ReplyRecv.raw(), r);
    }
}

fn round_trip(world: &mut World, what: &str, passive: bool, words: u64) -> Outcome {
    let endpoint = world.endpoint()?;
    ENDPOINT.store(endpoint, Ordering::Relaxed);
    REPLY.store(world.reply()?, Ordering::Relaxed);
    WORDS.store(words, Ordering::Relaxed);
    let notification = world.notification()?;
    let badged = world.badged(notification, 1)?;
    let thread = world.thread(Spec::at(255), server, if passive { badged } else { 0 })?;
    if passive {
        sys::wait(notification);
        ensure_ok!(invoke(thread.sc, Label::SchedContextUnbindObject, &[], &[thread.tcb]));
    } else {
        sys::yield_now();
    }
    let registers = [endpoint, words, 1, 2, 3, 4, 0, 0, 0];
    report(
        what,
        time(|| {
            sys::svc(Syscall::Call.raw(), registers);
        }),
    );
    world.clean_up()
}

extern "C" fn waiter(notification: u64) -> ! {
    loop {
        sys::wait(notification);
    }
}

/// Measures and prints.
pub fn run(world: &mut World) -> Outcome {
    report("null system call (unknown capability, NBSend)", time(|| sys::nb_send(0, 0, &[], &[])));
    for (what, passive, words) in [
        ("call and reply, passive server, 0 words", true, 0),
        ("call and reply, passive server, 4 words", true, 4),
        ("call and reply, passive server, 5 words", true, 5),
        ("call and reply, passive server, 60 words", true, 60),
        ("call and reply, passive server, 120 words", true, 120),
        ("call and reply, active server, 0 words", false, 0),
    ] {
        round_trip(world, what, passive, words)?;
    }
    let notification = world.notification()?;
    let badged = world.badged(notification, 1)?;
    report("signal, nobody waits", time(|| sys::signal(badged)));
    let low = world.notification()?;
    let low_badged = world.badged(low, 1)?;
    world.thread(Spec::at(10), waiter, low)?;
    world.let_run(5)?;
    report("signal, then again to a woken lower one", time(|| sys::signal(low_badged)));
    report(
        "poll",
        time(|| {
            sys::nb_wait(notification);
        }),
    );
    report("yield, no switch", time(sys::yield_now));
    let endpoint = world.endpoint()?;
    let slot = world.slot();
    report(
        "CNode copy and delete",
        time(|| {
            invoke(CNODE, Label::CNodeCopy, &[slot, 64, endpoint, 64, 15], &[CNODE]);
            invoke(CNODE, Label::CNodeDelete, &[slot, 64], &[]);
        }),
    );
    world.map_tables(crate::world::VSPACE, crate::world::FREE_VADDR, 2)?;
    let frame = world.make(ObjectType::SmallPage, 0)?;
    report(
        "page map and unmap",
        time(|| {
            let words = [crate::world::FREE_VADDR, 15, 5];
            invoke(frame, Label::ARMPageMap, &words, &[crate::world::VSPACE]);
            invoke(frame, Label::ARMPageUnmap, &[], &[]);
        }),
    );
    world.clean_up()
}
