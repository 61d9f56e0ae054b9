//! Scheduling contexts: budgets, periods, yielding, domains.

use crate::report::Outcome;
use crate::sys::{self, Message, invoke};
use crate::world::{CNODE, DOMAIN, Spec, TCB, World, exit};
use core::sync::atomic::{AtomicU64, Ordering};
use kernel_abi::{Label, ObjectType};

/// Greatest budget and period in µs at 62.5 MHz.
const MAX_US: u64 = 36_893_488_147_419;
/// Least budget and period in µs.
const MIN_US: u64 = 20;

static COUNTERS: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
static TRACE: AtomicU64 = AtomicU64::new(0);

extern "C" fn count_up(which: u64) -> ! {
    loop {
        COUNTERS[which as usize].fetch_add(1, Ordering::Relaxed);
    }
}

fn count(which: usize) -> u64 {
    COUNTERS[which].load(Ordering::Relaxed)
}

fn configure(world: &World, sc: u64, words: &[u64]) -> Message {
    invoke(world.info.sched_control.start, Label::SchedControlConfigureFlags, words, &[sc])
}

fn consumed_us(sc: u64) -> Outcome<u64> {
    Ok(ensure_ok!(invoke(sc, Label::SchedContextConsumed, &[], &[])).word(0))
}

pub fn budget_is_kept(world: &mut World) -> Outcome {
    for flags in [0, 1] {
        let thread = world.thread(Spec { run: false, budget: (0, 0), ..Spec::at(100) }, count_up, 0)?;
        let sc = world.sched_context(8, 2_000, 20_000, 2, 0, flags)?;
        ensure_ok!(invoke(sc, Label::SchedContextBind, &[], &[thread.tcb]));
        ensure_ok!(invoke(thread.tcb, Label::TCBResume, &[], &[]));
        // A tenth of the time. A busy host can stop the machine in the middle of a slice, so more than one try.
        let fits = (0..8).try_fold(false, |fits, _| {
            let start = sys::counter();
            consumed_us(sc)?;
            world.sleep(200)?;
            let elapsed_us = (sys::counter() - start) * 1_000_000 / sys::counter_frequency();
            let used = consumed_us(sc)?;
            Ok(fits || (used >= elapsed_us / 20 && used <= elapsed_us / 6))
        })?;
        ensure!(fits);
        world.stop_last(thread)?;
    }
    Ok(())
}

pub fn round_robin(world: &mut World) -> Outcome {
    COUNTERS.iter().for_each(|c| c.store(0, Ordering::Relaxed));
    let spec = Spec { budget: (5_000, 5_000), ..Spec::at(100) };
    world.thread(spec, count_up, 0)?;
    world.thread(spec, count_up, 1)?;
    world.sleep(200)?;
    ensure!(count(0) > 0 && count(1) > 0);
    ensure!(count(0) < 8 * count(1) && count(1) < 8 * count(0));
    Ok(())
}

pub fn configure_errors(world: &mut World) -> Outcome {
    let sc = world.make(ObjectType::SchedContext, 8)?;
    let try_it = |words: &[u64]| configure(world, sc, words);
    let control = world.info.sched_control.start;
    ensure_error!(invoke(control, Label::TCBResume, &[], &[]), IllegalOperation);
    ensure_error!(invoke(control, Label::SchedControlConfigureFlags, &[100, 100, 0, 0, 0], &[]), TruncatedMessage);
    ensure_error!(try_it(&[100, 100, 0, 0]), TruncatedMessage);
    ensure_error!(try_it(&[MAX_US + 1, MAX_US, 0, 0, 0]), RangeError, MIN_US, MAX_US);
    ensure_error!(try_it(&[100, MAX_US + 1, 0, 0, 0]), RangeError, MIN_US, MAX_US);
    ensure_error!(try_it(&[19, 100, 0, 0, 0]), RangeError, MIN_US, MAX_US);
    ensure_error!(try_it(&[20, 19, 0, 0, 0]), RangeError, MIN_US, MAX_US);
    ensure_error!(try_it(&[101, 100, 0, 0, 0]), RangeError, MIN_US, 100);
    ensure_error!(try_it(&[100, 100, 9, 0, 0]), RangeError, 0, 8);
    ensure_error!(configure(world, CNODE, &[100, 100, 0, 0, 0]), InvalidCapability, 1);
    ensure_ok!(try_it(&[MAX_US, MAX_US, 8, 0, 0]));
    ensure_ok!(try_it(&[20, 20, 0, 0, 1]));
    let small = world.make(ObjectType::SchedContext, 7)?;
    ensure_error!(configure(world, small, &[100, 100, 1, 0, 0]), RangeError, 0, 0);
    ensure_ok!(configure(world, small, &[100, 100, 0, 0, 0]));
    Ok(())
}

pub fn bind_and_unbind(world: &mut World) -> Outcome {
    let thread = world.thread(Spec { budget: (0, 0), ..Spec::at(100) }, count_up, 0)?;
    let (tcb, sc) = (thread.tcb, world.sched_context(8, 5_000, 5_000, 0, 0, 0)?);
    let other = world.make(ObjectType::Tcb, 0)?;
    let bind = |sc, cap| invoke(sc, Label::SchedContextBind, &[], &[cap]);
    let unbind = |sc, cap| invoke(sc, Label::SchedContextUnbindObject, &[], &[cap]);
    COUNTERS[0].store(0, Ordering::Relaxed);
    world.sleep(2)?;
    ensure_eq!(count(0), 0); // runnable, but without time
    ensure_error!(invoke(sc, Label::SchedContextBind, &[], &[]), TruncatedMessage);
    ensure_error!(bind(sc, CNODE), InvalidCapability, 1);
    ensure_ok!(bind(sc, tcb));
    ensure_error!(bind(sc, other), IllegalOperation);
    world.sleep(2)?;
    ensure!(count(0) > 0);
    ensure_error!(unbind(sc, other), IllegalOperation);
    ensure_error!(unbind(sc, CNODE), InvalidCapability, 1);
    ensure_ok!(unbind(sc, tcb));
    let stopped = count(0);
    world.sleep(2)?;
    ensure_eq!(count(0), stopped);
    ensure_ok!(bind(sc, tcb));
    world.sleep(2)?;
    ensure!(count(0) > stopped);
    ensure_ok!(invoke(sc, Label::SchedContextUnbind, &[], &[]));
    let stopped = count(0);
    world.sleep(2)?;
    ensure_eq!(count(0), stopped);
    // The own one cannot be taken away by its thread.
    let own = 14;
    ensure_error!(invoke(own, Label::SchedContextUnbind, &[], &[]), IllegalOperation);
    ensure_error!(unbind(own, TCB), IllegalOperation);
    // A notification can have one, too.
    let (notification, second) = (world.notification()?, world.notification()?);
    ensure_ok!(bind(sc, notification));
    ensure_error!(bind(sc, second), IllegalOperation);
    let sc2 = world.sched_context(8, 5_000, 5_000, 0, 0, 0)?;
    ensure_error!(bind(sc2, notification), IllegalOperation);
    ensure_error!(unbind(sc, second), IllegalOperation);
    ensure_ok!(unbind(sc, notification));
    ensure_ok!(bind(sc2, notification));
    Ok(())
}

pub fn consumed(world: &mut World) -> Outcome {
    let thread = world.thread(Spec::at(100), count_up, 0)?;
    world.sleep(20)?;
    let first = consumed_us(thread.sc)?;
    ensure!(first >= 4_000);
    // Reading resets.
    ensure!(consumed_us(thread.sc)? < first);
    let fresh = world.make(ObjectType::SchedContext, 8)?;
    ensure_eq!(consumed_us(fresh)?, 0);
    Ok(())
}

pub fn yield_to(world: &mut World) -> Outcome {
    let thread = world.thread(Spec { budget: (5_000, 5_000), ..Spec::at(100) }, count_up, 0)?;
    world.sleep(5)?;
    let yield_to = |sc| invoke(sc, Label::SchedContextYieldTo, &[], &[]);
    // Lower priority: back at once, with the time consumed.
    let answer = ensure_ok!(yield_to(thread.sc));
    ensure_eq!(answer.length, 1);
    ensure!(answer.word(0) > 0);
    ensure_error!(yield_to(14), IllegalOperation);
    let unbound = world.sched_context(8, 5_000, 5_000, 0, 0, 0)?;
    ensure_error!(yield_to(unbound), IllegalOperation);
    // Same priority: the other one runs until its time is up.
    ensure_ok!(invoke(thread.tcb, Label::TCBSetPriority, &[255], &[TCB]));
    let before = count(0);
    for _ in 0..20 {
        ensure_ok!(yield_to(thread.sc));
        if count(0) > before {
            break; // at the first try, unless the host is busy
        }
    }
    ensure!(count(0) > before);
    // A priority above the own maximum.
    let limited = world.thread(Spec { run: false, ..Spec::at(10) }, yields_to, thread.sc)?;
    TRACE.store(0, Ordering::Relaxed);
    ensure_ok!(invoke(thread.tcb, Label::TCBSuspend, &[], &[]));
    ensure_ok!(invoke(limited.tcb, Label::TCBResume, &[], &[]));
    world.let_run(5)?;
    ensure_eq!(TRACE.load(Ordering::Relaxed), kernel_abi::Error::IllegalOperation.raw());
    Ok(())
}

extern "C" fn yields_to(sc: u64) -> ! {
    TRACE.store(invoke(sc, Label::SchedContextYieldTo, &[], &[]).label, Ordering::Relaxed);
    exit()
}

extern "C" fn yielder(digit: u64) -> ! {
    for _ in 0..3 {
        TRACE.store(TRACE.load(Ordering::Relaxed) * 10 + digit, Ordering::Relaxed);
        sys::yield_now();
    }
    exit()
}

pub fn yield_rotates(world: &mut World) -> Outcome {
    TRACE.store(0, Ordering::Relaxed);
    // The second one made is at the head of the queue.
    world.thread(Spec::at(100), yielder, 1)?;
    world.thread(Spec::at(100), yielder, 2)?;
    world.let_run(50)?;
    ensure_eq!(TRACE.load(Ordering::Relaxed), 212_121);
    Ok(())
}

pub fn domains(world: &mut World) -> Outcome {
    let tcb = world.make(ObjectType::Tcb, 0)?;
    let set = |words: &[u64], caps: &[u64]| invoke(DOMAIN, Label::DomainSetSet, words, caps);
    ensure_error!(invoke(DOMAIN, Label::TCBResume, &[], &[]), IllegalOperation);
    ensure_error!(set(&[], &[tcb]), TruncatedMessage);
    ensure_error!(set(&[0], &[]), TruncatedMessage);
    ensure_error!(set(&[0], &[CNODE]), InvalidArgument, 1);
    ensure_error!(set(&[200], &[tcb]), InvalidArgument, 0);
    ensure_ok!(set(&[0], &[tcb]));
    let start = |words: &[u64]| invoke(DOMAIN, Label::DomainScheduleSetStart, words, &[]);
    let configure = |words: &[u64]| invoke(DOMAIN, Label::DomainScheduleConfigure, words, &[]);
    ensure_error!(start(&[]), TruncatedMessage);
    ensure_error!(start(&[1]), InvalidArgument, 0);
    ensure_error!(configure(&[0, 0]), TruncatedMessage);
    ensure_error!(configure(&[0, 0, 1 << 56]), InvalidArgument, 2);
    ensure_error!(configure(&[0, 0, 0]), InvalidArgument, 2);
    ensure_ok!(start(&[0]));
    if set(&[1], &[tcb]).label != 0 {
        ensure_error!(set(&[1], &[tcb]), InvalidArgument, 0);
        ensure_error!(configure(&[0, 1, 5]), RangeError, 0, 0);
        return Ok(()); // a kernel with one domain
    }
    // A thread of another domain runs only in that domain's turn.
    let ms = sys::counter_frequency() / 1000;
    let thread = world.thread(Spec::at(100), count_up, 0)?;
    ensure_ok!(set(&[1], &[thread.tcb]));
    COUNTERS[0].store(0, Ordering::Relaxed);
    world.sleep(10)?;
    ensure_eq!(count(0), 0);
    ensure_ok!(configure(&[1, 1, 2 * ms]));
    ensure_ok!(configure(&[0, 0, 2 * ms]));
    ensure_ok!(start(&[0]));
    let since = sys::counter();
    while count(0) == 0 && sys::counter() - since < 10_000 * ms {}
    ensure!(count(0) > 0); // this thread has never blocked: the domain's turn has come
    ensure_ok!(configure(&[0, 0, (1 << 56) - 1]));
    ensure_ok!(start(&[0]));
    ensure_ok!(configure(&[1, 0, 0]));
    let stopped = count(0);
    world.sleep(10)?;
    ensure_eq!(count(0), stopped);
    Ok(())
}

extern "C" fn yields_and_reports(notification: u64) -> ! {
    for _ in 0..5 {
        sys::yield_now();
    }
    sys::signal(notification);
    exit()
}

pub fn replenishment(world: &mut World) -> Outcome {
    // Giving up the budget of a period means waiting for the next: five times 10 ms.
    let notification = world.notification()?;
    let badged = world.badged(notification, 1)?;
    let start = sys::counter();
    world.thread(Spec { budget: (500, 10_000), ..Spec::at(100) }, yields_and_reports, badged)?;
    ensure_eq!(sys::wait(notification).badge, 1);
    let milliseconds = (sys::counter() - start) * 1000 / sys::counter_frequency();
    ensure!(milliseconds >= 45);
    Ok(())
}
