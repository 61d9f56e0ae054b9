//! Calls, replies, and scheduling contexts that travel with them.

use crate::report::Outcome;
use crate::sys::{self, invoke};
use crate::world::{Spec, World, delete, exit};
use core::sync::atomic::{AtomicU64, Ordering};
use kernel_abi::Label;

static ENDPOINT: AtomicU64 = AtomicU64::new(0);
static OTHER: AtomicU64 = AtomicU64::new(0);
static REPLY: AtomicU64 = AtomicU64::new(0);
static OTHER_REPLY: AtomicU64 = AtomicU64::new(0);
static RESULT: AtomicU64 = AtomicU64::new(0);

fn get(value: &AtomicU64) -> u64 {
    value.load(Ordering::Relaxed)
}

fn set(value: &AtomicU64, to: u64) {
    value.store(to, Ordering::Relaxed);
}

extern "C" fn caller(argument: u64) -> ! {
    let answer = sys::call(get(&ENDPOINT), 1, &[argument, 2, 3, 4, 5, 6], &[]);
    set(&RESULT, answer.label << 16 | (answer.length as u64) << 8 | answer.word(0));
    exit()
}

pub fn call_and_reply(world: &mut World) -> Outcome {
    let (endpoint, reply) = (world.endpoint()?, world.reply()?);
    set(&ENDPOINT, world.badged(endpoint, 3)?);
    set(&RESULT, 0);
    world.thread(Spec::at(100), caller, 40)?;
    let message = sys::recv(endpoint, reply);
    ensure_eq!(message.badge, 3);
    ensure_eq!(message.word(0), 40);
    ensure_eq!(message.word(5), 6);
    // Replying is invoking the reply object.
    sys::send(reply, 7, &[41, 0, 0, 0, 9], &[]);
    world.let_run(50)?;
    ensure_eq!(get(&RESULT), 7 << 16 | 5 << 8 | 41);
    // A free reply object: nothing happens, successfully.
    ensure_ok!(sys::call(reply, 7, &[1], &[]));
    Ok(())
}

/// Answers every call with its first word plus one.
extern "C" fn server(_: u64) -> ! {
    let (endpoint, reply) = (get(&ENDPOINT), get(&REPLY));
    let mut message = sys::recv(endpoint, reply);
    loop {
        message = sys::reply_recv(endpoint, reply, message.label, &[message.word(0) + 1, message.badge], &[]);
    }
}

pub fn reply_recv(world: &mut World) -> Outcome {
    let endpoint = world.endpoint()?;
    let mine = world.badged(endpoint, 8)?;
    set(&ENDPOINT, endpoint);
    set(&REPLY, world.reply()?);
    world.thread(Spec::at(100), server, 0)?;
    for i in 0..10 {
        let answer = sys::call(mine, i, &[i * 10], &[]);
        ensure_eq!(answer.badge, 0);
        ensure_eq!(answer.label, i);
        ensure_eq!(answer.length, 2);
        ensure_eq!(answer.word(0), i * 10 + 1);
        ensure_eq!(answer.word(1), 8);
    }
    Ok(())
}

pub fn nb_send_recv(world: &mut World) -> Outcome {
    let (endpoint, reply) = (world.endpoint()?, world.reply()?);
    let (notification, other) = (world.notification()?, world.notification()?);
    let badged = world.badged(notification, 6)?;
    set(&ENDPOINT, endpoint);
    set(&RESULT, 0);
    world.thread(Spec::at(100), caller, 50)?;
    let message = sys::nb_send_recv(badged, endpoint, reply, 0, &[]);
    ensure_eq!(message.word(0), 50);
    // Both halves in one: signal and wait on the same.
    ensure_eq!(sys::nb_send_wait(badged, notification, 0, &[]).badge, 6);
    // The reply as the send half of NBSendWait.
    let done = world.badged(other, 1)?;
    sys::signal(done);
    ensure_eq!(sys::nb_send_wait(reply, other, 3, &[60]).badge, 1);
    world.let_run(50)?;
    ensure_eq!(get(&RESULT), 3 << 16 | 1 << 8 | 60);
    // A CNode cannot be the target of a send half: silently nothing, the receive half happens.
    sys::signal(done);
    ensure_eq!(sys::nb_send_wait(crate::world::CNODE, other, Label::CNodeDelete.raw(), &[endpoint, 64]).badge, 1);
    ensure_eq!(sys::identify(endpoint), 4);
    Ok(())
}

pub fn reused_object(world: &mut World) -> Outcome {
    // Receiving again with a reply object in use makes the first caller inactive for good.
    let (endpoint, reply) = (world.endpoint()?, world.reply()?);
    set(&ENDPOINT, endpoint);
    set(&RESULT, 0);
    world.thread(Spec::at(100), caller, 1)?;
    ensure_eq!(sys::recv(endpoint, reply).word(0), 1);
    world.thread(Spec::at(100), caller, 2)?;
    ensure_eq!(sys::recv(endpoint, reply).word(0), 2);
    sys::send(reply, 0, &[20], &[]);
    world.let_run(50)?;
    ensure_eq!(get(&RESULT), 1 << 8 | 20);
    sys::send(reply, 0, &[10], &[]);
    world.let_run(50)?;
    ensure_eq!(get(&RESULT), 1 << 8 | 20);
    Ok(())
}

pub fn lost_caller(world: &mut World) -> Outcome {
    // Received by Wait (no reply object), and without the right to be answered: delivered, then inactive.
    let (endpoint, reply) = (world.endpoint()?, world.reply()?);
    set(&ENDPOINT, endpoint);
    set(&RESULT, 0);
    world.thread(Spec::at(100), caller, 5)?;
    ensure_eq!(sys::wait(endpoint).word(0), 5);
    set(&ENDPOINT, world.minted(endpoint, 1, 0)?);
    world.thread(Spec::at(100), caller, 6)?;
    ensure_eq!(sys::recv(endpoint, reply).word(0), 6);
    sys::send(reply, 0, &[1], &[]);
    world.let_run(50)?;
    ensure_eq!(get(&RESULT), 0);
    Ok(())
}

/// Tells that it is ready by the send half, then serves.
extern "C" fn passive(ready: u64) -> ! {
    let (endpoint, reply) = (get(&ENDPOINT), get(&REPLY));
    let mut message = sys::nb_send_recv(ready, endpoint, reply, 0, &[]);
    loop {
        message = sys::reply_recv(endpoint, reply, 0, &[message.word(0) * 2], &[]);
    }
}

/// Starts `entry` and takes its scheduling context away once it has signalled that it serves.
fn make_passive(world: &mut World, priority: u64, entry: extern "C" fn(u64) -> !) -> Outcome<u64> {
    let notification = world.notification()?;
    let badged = world.badged(notification, 1)?;
    let thread = world.thread(Spec::at(priority), entry, badged)?;
    ensure_eq!(sys::wait(notification).badge, 1);
    ensure_ok!(invoke(thread.sc, Label::SchedContextUnbindObject, &[], &[thread.tcb]));
    Ok(thread.tcb)
}

pub fn passive_server(world: &mut World) -> Outcome {
    let endpoint = world.endpoint()?;
    set(&ENDPOINT, endpoint);
    set(&REPLY, world.reply()?);
    let tcb = make_passive(world, 100, passive)?;
    for i in 1..5 {
        ensure_eq!(sys::call(endpoint, 0, &[i], &[]).word(0), i * 2);
    }
    // A plain Send donates nothing: the server has the message but cannot run. Its own context again: it goes on.
    sys::send(endpoint, 0, &[1], &[]);
    let sc = world.sched_context(8, 5000, 5000, 0, 0, 0)?;
    ensure_ok!(invoke(sc, Label::SchedContextBind, &[], &[tcb]));
    ensure_eq!(sys::call(endpoint, 0, &[21], &[]).word(0), 42);
    Ok(())
}

/// A passive server that calls the other one before it answers.
extern "C" fn front(ready: u64) -> ! {
    let (endpoint, reply) = (get(&OTHER), get(&OTHER_REPLY));
    let mut message = sys::nb_send_recv(ready, endpoint, reply, 0, &[]);
    loop {
        let inner = sys::call(get(&ENDPOINT), 0, &[message.word(0) + 100], &[]);
        message = sys::reply_recv(endpoint, reply, 0, &[inner.word(0) + 1], &[]);
    }
}

extern "C" fn relayed(argument: u64) -> ! {
    set(&RESULT, sys::call(get(&OTHER), 0, &[argument], &[]).word(0));
    exit()
}

pub fn chain_of_servers(world: &mut World) -> Outcome {
    let (endpoint, other, last_reply) = (world.endpoint()?, world.endpoint()?, world.reply()?);
    set(&ENDPOINT, endpoint);
    set(&OTHER, other);
    set(&REPLY, last_reply);
    set(&OTHER_REPLY, world.reply()?);
    make_passive(world, 100, passive)?;
    make_passive(world, 90, front)?;
    ensure_eq!(sys::call(other, 0, &[5], &[]).word(0), 211);
    // Twice more, from another thread.
    for i in 0..2 {
        let thread = world.thread(Spec::at(80), relayed, i)?;
        world.let_run(50)?;
        ensure_eq!(get(&RESULT), (i + 100) * 2 + 1);
        world.stop_last(thread)?;
    }
    // Without the reply object that the last server waits with its receive is cancelled: callers wait for ever, nothing
    // breaks.
    ensure_ok!(delete(last_reply));
    set(&RESULT, 0);
    world.thread(Spec::at(80), relayed, 1)?;
    world.let_run(50)?;
    ensure_eq!(get(&RESULT), 0);
    Ok(())
}
