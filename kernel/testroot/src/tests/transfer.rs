//! Capabilities in messages.

use crate::report::Outcome;
use crate::sys::{self, invoke};
use crate::world::{CNODE, IRQ_CONTROL, Spec, World, delete, exit};
use core::sync::atomic::{AtomicU64, Ordering};
use kernel_abi::Label;

static ENDPOINT: AtomicU64 = AtomicU64::new(0);
static CAPS: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];
static COUNT: AtomicU64 = AtomicU64::new(0);
static RESULT: AtomicU64 = AtomicU64::new(0);

fn set_caps(caps: &[u64]) {
    caps.iter().zip(&CAPS).for_each(|(&c, slot)| slot.store(c, Ordering::Relaxed));
    COUNT.store(caps.len() as u64, Ordering::Relaxed);
}

extern "C" fn sender(_: u64) -> ! {
    let caps = [0, 1, 2].map(|i| CAPS[i as usize].load(Ordering::Relaxed));
    let count = COUNT.load(Ordering::Relaxed) as usize;
    sys::send(ENDPOINT.load(Ordering::Relaxed), 1, &[1], &caps[..count]);
    exit()
}

fn receive_path(slot: u64) {
    let buffer = sys::buffer();
    (buffer.receive_cnode, buffer.receive_index, buffer.receive_depth) = (CNODE, slot, 64);
}

/// Has `caps` sent through `through` and receives them at `slot`.
fn exchange(world: &mut World, endpoint: u64, through: u64, caps: &[u64], slot: u64) -> Outcome<sys::Message> {
    let reply = world.reply()?;
    set_caps(caps);
    ENDPOINT.store(through, Ordering::Relaxed);
    receive_path(slot);
    let thread = world.thread(Spec::at(100), sender, 0)?;
    sys::buffer().caps_or_badges = [91, 92, 93];
    let message = sys::recv(endpoint, reply);
    world.stop_last(thread)?;
    Ok(message)
}

pub fn to_receive_slot(world: &mut World) -> Outcome {
    let endpoint = world.endpoint()?;
    let notification = world.notification()?;
    let badged = world.badged(notification, 12)?;
    let slot = world.slot();
    let message = exchange(world, endpoint, endpoint, &[badged], slot)?;
    ensure_eq!(message.extra_caps, 1);
    ensure_eq!(message.unwrapped, 0);
    ensure_eq!(sys::identify(slot), 6);
    sys::signal(slot);
    ensure_eq!(sys::nb_wait(notification).badge, 12);
    // An occupied slot: the message arrives, the capability does not.
    let message = exchange(world, endpoint, endpoint, &[badged], slot)?;
    ensure_eq!(message.extra_caps, 0);
    // The transferred copy is a child of the original.
    ensure_ok!(crate::world::revoke(notification));
    ensure_eq!(sys::identify(slot), 0);
    Ok(())
}

pub fn unwrapped(world: &mut World) -> Outcome {
    let endpoint = world.endpoint()?;
    let red = world.badged(endpoint, 1001)?;
    let blue = world.badged(endpoint, 1002)?;
    let notification = world.notification()?;
    let slot = world.slot();
    let message = exchange(world, endpoint, endpoint, &[red, notification, blue], slot)?;
    ensure_eq!(message.extra_caps, 3);
    ensure_eq!(message.unwrapped, 5);
    ensure_eq!(sys::buffer().caps_or_badges[0], 1001);
    ensure_eq!(sys::buffer().caps_or_badges[1], 92);
    ensure_eq!(sys::buffer().caps_or_badges[2], 1002);
    ensure_eq!(sys::identify(slot), 6);
    Ok(())
}

pub fn needs_grant(world: &mut World) -> Outcome {
    let endpoint = world.endpoint()?;
    let notification = world.notification()?;
    let without = world.minted(endpoint, 1, 4)?;
    let slot = world.slot();
    let message = exchange(world, endpoint, without, &[notification], slot)?;
    ensure_eq!(message.badge, 4);
    ensure_eq!(message.extra_caps, 0);
    ensure_eq!(sys::identify(slot), 0);
    Ok(())
}

pub fn stops_at_first_failure(world: &mut World) -> Outcome {
    let endpoint = world.endpoint()?;
    let other = world.endpoint()?;
    let notification = world.notification()?;
    let red = world.badged(endpoint, 7)?;
    let (slot, empty) = (world.slot(), world.slot());
    // The only slot is used up by the first.
    let message = exchange(world, endpoint, endpoint, &[notification, other, red], slot)?;
    ensure_eq!(message.extra_caps, 1);
    ensure_eq!(sys::identify(slot), 6);
    ensure_ok!(delete(slot));
    for nothing in [empty, IRQ_CONTROL] {
        let message = exchange(world, endpoint, endpoint, &[nothing, red], slot)?;
        ensure_eq!(message.extra_caps, 0);
        ensure_eq!(sys::identify(slot), 0);
    }
    Ok(())
}

extern "C" fn asker(slot: u64) -> ! {
    receive_path(slot);
    let answer = sys::call(ENDPOINT.load(Ordering::Relaxed), 0, &[], &[]);
    RESULT.store(answer.extra_caps as u64 + 100, Ordering::Relaxed);
    exit()
}

pub fn in_replies(world: &mut World) -> Outcome {
    let (endpoint, reply, notification) = (world.endpoint()?, world.reply()?, world.notification()?);
    let weak_reply = world.minted(reply, 0, 0)?;
    let slot = world.slot();
    ENDPOINT.store(endpoint, Ordering::Relaxed);
    for (through, expected) in [(weak_reply, 0u64), (reply, 1)] {
        let thread = world.thread(Spec::at(100), asker, slot)?;
        sys::recv(endpoint, reply);
        sys::send(through, 0, &[], &[notification]);
        world.let_run(50)?;
        ensure_eq!(RESULT.load(Ordering::Relaxed), 100 + expected);
        ensure_eq!(sys::identify(slot), expected * 6);
        world.stop_last(thread)?;
    }
    // A sender's capability that does not resolve is a fault of the sender; in a non-blocking send nothing happens.
    sys::nb_send(endpoint, 0, &[], &[1 << 50]);
    ensure_error!(invoke(CNODE, Label::CNodeDelete, &[], &[]), TruncatedMessage);
    Ok(())
}
