//! Interrupts and software-generated interrupts (sheet §3.8, §10).

mod common;

use common::*;
use kernel_core::abi::{CapTag, Error, Label, ObjectType, Syscall};

const GET: Label = Label::IRQIssueIRQHandler;
const TRIGGER: Label = Label::ARMIRQIssueIRQHandlerTrigger;
const SGI: Label = Label::ARMIRQIssueSGISignal;

#[test]
fn issuing_handlers() {
    let mut w = World::new();
    let s = w.slot();
    w.err(4, Label::IRQAckIRQ, &[], &[], Error::IllegalOperation, &[]);
    w.err(4, GET, &[33, s], &[2], Error::TruncatedMessage, &[]);
    w.err(4, GET, &[33, s, 64], &[], Error::TruncatedMessage, &[]);
    w.err(4, GET, &[160, s, 99], &[2], Error::RangeError, &[0, 159]);
    w.err(4, GET, &[27, s, 99], &[2], Error::RevokeFirst, &[]);
    w.err(4, GET, &[33, s, 99], &[2], Error::RangeError, &[1, 64]);
    w.err(4, GET, &[33, 1, 64], &[2], Error::DeleteFirst, &[]);
    w.did();
    w.ok(4, GET, &[33, s, 64], &[2]);
    assert_eq!(w.did(), [Did::Enable(33)]);
    let s2 = w.slot();
    w.err(4, GET, &[33, s2, 64], &[2], Error::RevokeFirst, &[]);
    w.err(4, TRIGGER, &[34, 1, s2], &[2], Error::TruncatedMessage, &[]);
    w.ok(4, TRIGGER, &[34, 1, s2, 64], &[2]);
    assert_eq!(w.did(), [Did::Trigger(34, true), Did::Enable(34)]);
    // Copies keep the line; the last one frees it.
    let c = w.copy(s);
    w.delete(s);
    assert_eq!(w.did(), []);
    w.delete(c);
    assert_eq!(w.did(), [Did::Disable(33)]);
    w.ok(4, GET, &[33, s, 64], &[2]);
    // Revoking the control takes all handlers.
    w.revoke(4);
    assert_eq!((w.identify(s), w.identify(s2)), (0, 0));
}

#[test]
fn delivery() {
    let mut w = World::new();
    let s = w.slot();
    w.ok(4, GET, &[33, s, 64], &[2]);
    let n = w.make(ObjectType::Notification, 0);
    let badged = w.mint(n, 1, 0x10);
    let recv_only = w.mint(n, 2, 0);
    w.err(s, Label::IRQSetIRQHandler, &[], &[], Error::TruncatedMessage, &[]);
    w.err(s, Label::IRQSetIRQHandler, &[], &[2], Error::InvalidCapability, &[0]);
    w.err(s, Label::IRQSetIRQHandler, &[], &[recv_only], Error::InvalidCapability, &[0]);
    w.err(s, GET, &[], &[], Error::IllegalOperation, &[]);
    w.ok(s, Label::IRQSetIRQHandler, &[], &[badged]);
    w.did();
    w.k.handle_interrupt(0, 33);
    assert_eq!(w.did(), [Did::Hold(33)]);
    w.start(Syscall::Wait, n, 0, &[], &[]);
    assert_eq!(w.cur().x[0].get(), 0x10);
    w.did();
    w.ok(s, Label::IRQAckIRQ, &[], &[]);
    assert_eq!(w.did(), [Did::Ack(33)]);
    // Cleared: nothing is signalled.
    w.ok(s, Label::IRQClearIRQHandler, &[], &[]);
    w.k.handle_interrupt(0, 33);
    w.start(Syscall::NBWait, n, 0, &[], &[]);
    assert_eq!(w.cur().x[0].get(), 0);
    // Revoking the notification's original removes it from the line.
    w.ok(s, Label::IRQSetIRQHandler, &[], &[badged]);
    w.revoke(n);
    w.k.handle_interrupt(0, 33);
    w.start(Syscall::NBWait, n, 0, &[], &[]);
    assert_eq!(w.cur().x[0].get(), 0);
    w.k.handle_interrupt(0, 500);
    w.check();
}

#[test]
fn an_interrupt_wakes_a_waiter_of_higher_priority() {
    let mut w = World::new();
    let t = w.spawn(100);
    let s = w.slot();
    w.ok(4, GET, &[40, s, 64], &[2]);
    let n = w.make(ObjectType::Notification, 0);
    w.ok(s, Label::IRQSetIRQHandler, &[], &[n]);
    w.set_root_priority(10);
    w.start(Syscall::Wait, n, 0, &[], &[]);
    assert!(w.runs(&w.root));
    w.k.handle_interrupt(0, 40);
    assert!(w.runs(&t));
}

#[test]
fn software_generated() {
    let mut w = World::new();
    let s = w.slot();
    w.err(4, SGI, &[1, 0, s], &[2], Error::TruncatedMessage, &[]);
    w.err(4, SGI, &[16, 8, s, 99], &[2], Error::RangeError, &[0, 15]);
    w.err(4, SGI, &[1, 8, s, 99], &[2], Error::InvalidArgument, &[1]);
    w.err(4, SGI, &[1, 0, 1, 64], &[2], Error::DeleteFirst, &[]);
    w.ok(4, SGI, &[5, 3, s, 64], &[2]);
    assert_eq!(w.identify(s), CapTag::SgiSignal.raw());
    w.did();
    w.ok(s, Label::InvalidInvocation, &[], &[]);
    w.start(Syscall::Send, s, 77, &[], &[]);
    assert_eq!(w.did(), [Did::Sgi(5, 3), Did::Sgi(5, 3)]);
    // Received like any interrupt.
    let h = w.slot();
    w.ok(4, GET, &[5, h, 64], &[2]);
    let c = w.copy(s);
    w.revoke(s);
    assert_eq!(w.identify(c), 0, "a copy is a child of the original");
}
