//! Each check of the invariant checker catches a fault planted for it.

mod common;

use common::*;
use kernel_core::abi::{Label, ObjectType, Syscall};

/// The checker's complaint after `plant`.
fn complaint(w: &World) -> String {
    w.k.audit().expect_err("the planted fault is not seen")
}

fn slot_of(w: &World, cptr: u64) -> u64 {
    w.k.locate(w.root.context, cptr).unwrap().0
}

fn object_of(w: &World, cptr: u64) -> u64 {
    w.k.locate(w.root.context, cptr).unwrap().1.unwrap()
}

fn expect(w: &World, text: &str) {
    let said = complaint(w);
    assert!(said.contains(text), "expected \"{text}\", the checker says \"{said}\"");
}

/// Offsets of TCB fields behind the context.
const STATE: u64 = 832;
const QUEUED: u64 = STATE; // byte 4 of the same word

#[test]
fn list_links() {
    let mut w = World::new();
    let a = w.make(ObjectType::Endpoint, 0);
    let b = w.copy(a);
    let c = w.copy(a);
    let prev = slot_of(&w, b) + 16;
    let old = w.read(prev);
    // The list is a, c, b: b's predecessor becomes a.
    w.write(prev, w.read(slot_of(&w, c) + 16));
    expect(&w, "one-way");
    w.write(prev, old);
    w.check();
    let next = slot_of(&w, c) + 24;
    w.write(next, 0);
    assert!(w.k.audit().is_err());
}

#[test]
fn circular_list() {
    let mut w = World::new();
    let a = w.make(ObjectType::Endpoint, 0);
    let b = w.copy(a);
    let window = kernel_core::Machine::window_offset(&w.k.machine);
    let at = |cptr| slot_of(&w, cptr).wrapping_add(window);
    let (va, vb) = (at(a), at(b));
    w.write(slot_of(&w, a) + 16, vb);
    w.write(slot_of(&w, b) + 24, va);
    assert!(w.k.audit().is_err());
}

#[test]
fn links_of_empty_slots() {
    let mut w = World::new();
    let free = w.slot();
    let paddr = slot_of(&w, free);
    w.write(paddr + 16, paddr);
    expect(&w, "empty slot");
}

#[test]
fn capabilities_to_one_object_apart() {
    let mut w = World::new();
    let (a, b) = (w.make(ObjectType::Endpoint, 0), w.make(ObjectType::Endpoint, 0));
    let c = w.copy(a);
    // The copy now denotes b's endpoint, but stands with a; and one of a's made to stand alone.
    let d = w.copy(b);
    let (pa, pd) = (slot_of(&w, a), slot_of(&w, d));
    let (ca, cd) = (w.read(pa), w.read(pd));
    w.write(pa, cd);
    w.write(pd, ca);
    expect(&w, "stand apart");
    let _ = c;
}

#[test]
fn overlapping_objects() {
    let mut w = World::new();
    let (a, b) = (w.make(ObjectType::SmallPage, 0), w.make(ObjectType::Endpoint, 0));
    // The endpoint moves into the frame.
    let frame = object_of(&w, a);
    let window = kernel_core::Machine::window_offset(&w.k.machine);
    let slot = slot_of(&w, b);
    let word = w.read(slot);
    let mask = (1u64 << 48) - 1;
    w.write(slot, (word & !mask) | (frame.wrapping_add(window) & mask));
    expect(&w, "overlaps");
}

#[test]
fn watermark() {
    let mut w = World::new();
    let ut = w.make(ObjectType::Untyped, 12);
    let s = w.slot();
    w.ok(ut, Label::UntypedRetype, &[ObjectType::Endpoint.raw(), 0, 0, 0, s, 4], &[2]);
    let slot = slot_of(&w, ut);
    // Word 1 of an untyped capability is the watermark in units of 16 bytes: one endpoint too few.
    w.write(slot + 8, w.read(slot + 8) - 1);
    expect(&w, "above the watermark");
    w.write(slot + 8, 1 << 40);
    expect(&w, "beyond its end");
}

#[test]
fn overlapping_untypeds() {
    let mut w = World::new();
    let (a, b) = (w.make(ObjectType::Untyped, 12), w.make(ObjectType::Untyped, 12));
    let (sa, sb) = (slot_of(&w, a), slot_of(&w, b));
    // The second one begins in the middle of the first.
    w.write(sb, w.read(sa) + (2048 >> 4));
    assert!(w.k.audit().is_err());
}

#[test]
fn ready_queues() {
    let mut w = World::new();
    let t = w.spawn(20);
    let tcb = object_of(&w, t.tcb);
    let word = w.read(tcb + STATE);
    // Says that it is in no queue.
    w.write(tcb + QUEUED, word & !(0xff << 32));
    expect(&w, "says queued 0");
    // A priority that is not its queue's.
    w.write(tcb + STATE, word ^ (1 << 8));
    expect(&w, "wrong ready queue");
    // Not runnable.
    w.write(tcb + STATE, word & !0xff);
    expect(&w, "not schedulable");
    w.write(tcb + STATE, word);
    w.check();
}

#[test]
fn lost_threads() {
    let mut w = World::new();
    let t = w.spawn(20);
    w.ok(t.tcb, Label::TCBSuspend, &[], &[]);
    let tcb = object_of(&w, t.tcb);
    w.write(tcb + STATE, w.read(tcb + STATE) | 1);
    expect(&w, "is in no queue");
}

#[test]
fn budget_from_nowhere() {
    let mut w = World::new();
    let t = w.spawn(20);
    let sc = object_of(&w, t.sc);
    let amount = sc + 96 + 8;
    w.write(amount, w.read(amount) + 1);
    expect(&w, "do not add up");
}

#[test]
fn refills_out_of_order() {
    let mut w = World::new();
    let sc = w.make_sc(1000, 10_000);
    let t = w.make_thread(20, sc);
    w.resume(&t);
    w.set_root_priority(10);
    w.pass(us(300));
    w.start(Syscall::Call, 1, Label::TCBSetPriority.raw(), &[30], &[1]);
    let at = object_of(&w, sc) + 96 + 16;
    w.write(at, 0);
    expect(&w, "out of order");
}

#[test]
fn endpoint_queues() {
    let mut w = World::new();
    let ep = w.make(ObjectType::Endpoint, 0);
    let t = w.spawn(20);
    w.park_root(&t);
    w.start(Syscall::Wait, ep, 0, &[], &[]);
    let object = object_of(&w, ep);
    let head = w.read(object);
    // Senders instead of receivers.
    w.write(object, (head & !3) | 1);
    expect(&w, "waiter");
    w.write(object, head);
    let tail = w.read(object + 8);
    w.write(object + 8, 0);
    expect(&w, "queue tail");
    w.write(object + 8, tail);
    w.check();
    // The thread thinks that it does not wait.
    let tcb = object_of(&w, t.tcb);
    w.write(tcb + STATE, w.read(tcb + STATE) & !0xff);
    assert!(w.k.audit().is_err());
}

#[test]
fn notifications() {
    let mut w = World::new();
    let n = w.make(ObjectType::Notification, 0);
    let t = w.spawn(20);
    w.ok(t.tcb, Label::TCBBindNotification, &[], &[n]);
    let object = object_of(&w, n);
    let bound = w.read(object + 32);
    w.write(object + 32, 0);
    expect(&w, "bound to a notification of another");
    w.write(object + 32, bound);
    w.check();
    w.park_root(&t);
    w.start(Syscall::Wait, n, 0, &[], &[]);
    w.write(object + 24, 1);
    expect(&w, "active with waiters");
}

#[test]
fn reply_objects() {
    let mut w = World::new();
    let (ep, reply) = (w.make(ObjectType::Endpoint, 0), w.make(ObjectType::Reply, 0));
    let t = w.spawn(20);
    w.park_root(&t);
    w.cur().x[0].set(ep);
    w.cur().x[6].set(reply);
    w.svc(Syscall::Recv);
    let object = object_of(&w, reply);
    let tcb = w.read(object);
    w.write(object, 0);
    expect(&w, "belongs to another");
    w.write(object, tcb);
    w.check();
    // A chain link that leads nowhere.
    let other = w.make(ObjectType::Reply, 0);
    let window = kernel_core::Machine::window_offset(&w.k.machine);
    w.write(object + 8, object_of(&w, other).wrapping_add(window));
    expect(&w, "call chain");
}

#[test]
fn scheduling_context_links() {
    let mut w = World::new();
    let t = w.spawn(20);
    let sc = object_of(&w, t.sc);
    // Offset 32: the bound thread.
    w.write(sc + 32, 0);
    expect(&w, "has context");
}
