//! Notifications: signalling, waiting, binding.

use crate::report::Outcome;
use crate::sys::{self, invoke};
use crate::world::{Spec, TCB, World, exit};
use core::sync::atomic::{AtomicU64, Ordering};
use kernel_abi::Label;

static NOTIFICATION: AtomicU64 = AtomicU64::new(0);
static REPORT: AtomicU64 = AtomicU64::new(0);
static TRACE: AtomicU64 = AtomicU64::new(0);

/// Appends a digit to the trace.
fn trace(digit: u64) {
    TRACE.store(TRACE.load(Ordering::Relaxed) * 10 + digit, Ordering::Relaxed);
}

pub fn signal_and_wait(world: &mut World) -> Outcome {
    let notification = world.notification()?;
    let (one, two) = (world.badged(notification, 1)?, world.badged(notification, 2)?);
    // Nothing there: x0 = 0, the others untouched.
    let before = [notification, 11, 12, 13, 14, 15, 16, 0, 18];
    let after = sys::svc(kernel_abi::Syscall::NBWait.raw(), before);
    ensure_eq!(after[0], 0);
    ensure!(after[1..7] == before[1..7] && after[8] == 18);
    sys::signal(one);
    sys::signal(two);
    sys::signal(two);
    let after = sys::svc(kernel_abi::Syscall::Wait.raw(), before);
    ensure_eq!(after[0], 3);
    ensure!(after[1..7] == before[1..7] && after[8] == 18);
    ensure_eq!(sys::nb_wait(notification).badge, 0);
    // Call on a notification signals and answers at once.
    let answer = sys::call(one, 99, &[1, 2], &[]);
    ensure_eq!(answer.info, 0);
    ensure_eq!(sys::nb_wait(notification).badge, 1);
    Ok(())
}

extern "C" fn waiter(id: u64) -> ! {
    let badge = sys::wait(NOTIFICATION.load(Ordering::Relaxed)).badge;
    trace(id);
    if badge == 7 {
        sys::signal(REPORT.load(Ordering::Relaxed));
    }
    exit()
}

pub fn priority_order(world: &mut World) -> Outcome {
    let notification = world.notification()?;
    let report = world.notification()?;
    let report = world.badged(report, 1)?;
    let last = world.badged(notification, 7)?;
    let plain = world.badged(notification, 1)?;
    NOTIFICATION.store(notification, Ordering::Relaxed);
    REPORT.store(report, Ordering::Relaxed);
    TRACE.store(0, Ordering::Relaxed);
    for (id, priority) in [(1, 20), (2, 40), (3, 30), (4, 40)] {
        world.thread(Spec::at(priority), waiter, id)?;
    }
    let idle = world.notification()?;
    let poke = world.badged(idle, 1)?;
    let _ = world.thread(Spec::at(1), signaller, poke)?;
    ensure_eq!(sys::wait(idle).badge, 1); // all four wait now
    for _ in 0..3 {
        sys::signal(plain);
    }
    sys::signal(last);
    ensure_eq!(sys::wait(report).badge, 1);
    // They wait in the order 4, 2 (last made, first run), 3, 1; the highest priority is woken first, among equals the one
    // that came first; of threads below the waker's priority the last woken runs first.
    ensure_eq!(sys::nb_wait(notification).badge, 0);
    let trace = TRACE.load(Ordering::Relaxed);
    ensure_eq!(trace, 2431);
    Ok(())
}

extern "C" fn signaller(notification: u64) -> ! {
    sys::signal(notification);
    exit()
}

pub fn bound(world: &mut World) -> Outcome {
    let (endpoint, notification, reply) = (world.endpoint()?, world.notification()?, world.reply()?);
    let badged = world.badged(notification, 5)?;
    ensure_ok!(invoke(TCB, Label::TCBBindNotification, &[], &[notification]));
    // Active before the receive.
    sys::signal(badged);
    ensure_eq!(sys::recv(endpoint, reply).badge, 5);
    // While blocked on the endpoint.
    world.thread(Spec::at(100), signaller, badged)?;
    ensure_eq!(sys::recv(endpoint, reply).badge, 5);
    // Directly.
    sys::signal(badged);
    ensure_eq!(sys::wait(notification).badge, 5);
    // Only once, and only if nobody else has it.
    let other = world.notification()?;
    ensure_error!(invoke(TCB, Label::TCBBindNotification, &[], &[other]), IllegalOperation);
    let thread = world.thread(Spec { run: false, ..Spec::at(1) }, signaller, badged)?;
    ensure_error!(invoke(thread.tcb, Label::TCBBindNotification, &[], &[notification]), IllegalOperation);
    ensure_ok!(invoke(TCB, Label::TCBUnbindNotification, &[], &[]));
    ensure_error!(invoke(TCB, Label::TCBUnbindNotification, &[], &[]), IllegalOperation);
    sys::signal(badged);
    ensure_eq!(sys::nb_recv(endpoint, reply).badge, 0);
    ensure_eq!(sys::nb_wait(notification).badge, 5);
    Ok(())
}

pub fn errors(world: &mut World) -> Outcome {
    let notification = world.notification()?;
    let endpoint = world.endpoint()?;
    ensure_error!(invoke(TCB, Label::TCBBindNotification, &[], &[]), TruncatedMessage);
    ensure_error!(invoke(TCB, Label::TCBBindNotification, &[], &[endpoint]), IllegalOperation);
    let mute = world.minted(notification, 1, 0)?;
    ensure_error!(invoke(TCB, Label::TCBBindNotification, &[], &[mute]), IllegalOperation);
    // Without the right to write: Call is told, Send is not.
    let deaf = world.minted(notification, 2, 9)?;
    ensure_error!(sys::call(deaf, 0, &[], &[]), InvalidCapability, 0);
    sys::signal(deaf);
    ensure_eq!(sys::nb_wait(notification).badge, 0);
    Ok(())
}
