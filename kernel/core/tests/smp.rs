//! Several cores: placement, wake-ups, stalls, calls across.

mod common;

use common::*;
use kernel_core::abi::{Error, Label, ObjectType, Syscall};

fn world() -> World {
    let mut w = World::with(|c| c.num_cores = 2);
    w.k.start_core(1);
    w.check();
    w.did();
    w
}

impl World {
    /// A round-robin thread on core 1, ready to run.
    fn spawn_far(&mut self, priority: u64) -> Thread {
        let sc = self.make(ObjectType::SchedContext, 8);
        let control = self.sched_control() + 1;
        self.ok(control, Label::SchedControlConfigureFlags, &[10_000, 10_000, 0, 0, 0], &[sc]);
        let t = self.make_thread(priority, sc);
        self.resume(&t);
        t
    }

    /// Core `core` takes its reschedule interrupt; further calls are made on it.
    fn on(&mut self, core: usize) {
        self.core = core;
        self.k.handle_reschedule(core);
        self.check();
    }
}

#[test]
fn a_context_says_which_core() {
    let mut w = world();
    let t = w.spawn_far(20);
    assert!(w.did().contains(&Did::Reschedule(1)));
    assert!(w.runs(&w.root));
    w.on(1);
    assert!(w.runs(&t));
    let n = w.make_on_other(&t);
    // Waiting there, woken from here.
    w.start(Syscall::Wait, n, 0, &[], &[]);
    assert!(w.running().is_none());
    w.on(0);
    w.did();
    w.start(Syscall::Send, n, 0, &[], &[]);
    assert_eq!(w.did(), [Did::Reschedule(1)]);
    assert!(w.runs(&w.root));
    w.on(1);
    assert!(w.runs(&t));
    // Reconfigured for core 0 it moves.
    w.on(0);
    w.configure_sc(t.sc, 1_000, 1_000, 0);
    assert!(w.did().contains(&Did::Stall(1)));
    w.on(1);
    assert!(w.running().is_none());
    w.on(0);
    w.set_root_priority(1);
    assert!(w.runs(&t));
}

impl World {
    /// A notification made by root (on core 0).
    fn make_on_other(&mut self, t: &Thread) -> u64 {
        assert!(self.runs(t));
        self.core = 0;
        let n = self.make(ObjectType::Notification, 0);
        self.core = 1;
        n
    }
}

#[test]
fn a_running_thread_elsewhere_is_stalled() {
    let mut w = world();
    let t = w.spawn_far(20);
    w.on(1);
    assert!(w.runs(&t));
    w.core = 0;
    for (label, words) in [
        (Label::TCBReadRegisters, vec![0, 2]),
        (Label::TCBWriteRegisters, vec![0, 1, 0x4000]),
        (Label::TCBSetTLSBase, vec![1]),
        (Label::TCBSetFlags, vec![0, 0]),
    ] {
        w.did();
        w.ok(t.tcb, label, &words, &[]);
        assert!(w.did().contains(&Did::Stall(1)), "{label:?}");
        w.on(1);
        assert!(w.runs(&t), "{label:?}");
        w.on(0);
    }
    w.ok(t.tcb, Label::TCBSuspend, &[], &[]);
    w.on(1);
    assert!(w.running().is_none());
    w.on(0);
    w.resume(&t);
    w.on(1);
    assert!(w.runs(&t));
    w.on(0);
    w.delete(t.tcb);
    w.on(1);
    assert!(w.running().is_none());
}

#[test]
fn a_trap_of_a_stalled_thread_is_taken_again() {
    let mut w = world();
    let t = w.spawn_far(20);
    w.on(1);
    let ep = {
        w.core = 0;
        let e = w.make(ObjectType::Endpoint, 0);
        w.core = 1;
        e
    };
    // Core 1 traps with a system call, but core 0 gets the lock first and stops the thread.
    let c = w.ctx(&t);
    let pc = c.elr.get();
    c.x[0].set(ep);
    c.x[7].set(Syscall::Send.raw() as u64);
    c.fault_ip.set(pc);
    c.elr.set(pc + 4);
    w.core = 0;
    w.ok(t.tcb, Label::TCBSuspend, &[], &[]);
    w.k.handle_syscall(1);
    w.check();
    assert!(w.k.current(1).is_none());
    // Nothing was sent; resumed, the thread makes its call.
    w.start(Syscall::NBWait, ep, 0, &[], &[]);
    assert_eq!(w.cur().x[0].get(), 0);
    w.resume(&t);
    w.on(1);
    assert!(w.runs(&t));
    assert_eq!(w.cur().elr.get(), pc);
}

#[test]
fn calls_across_cores() {
    let mut w = world();
    let ep = w.make(ObjectType::Endpoint, 0);
    let reply = w.make(ObjectType::Reply, 0);
    let t = w.spawn_far(20);
    w.on(1);
    w.cur().x[0].set(ep);
    w.cur().x[6].set(reply);
    w.svc(Syscall::Recv);
    // Active server: it runs on its core, root waits here.
    w.core = 0;
    w.did();
    w.start(Syscall::Call, ep, 5, &[1, 2], &[]);
    assert_eq!(w.did(), [Did::Reschedule(1)]);
    assert!(w.running().is_none());
    w.on(1);
    assert!(w.runs(&t));
    assert_eq!(w.message(t.context).words, [1, 2]);
    w.cur().x[0].set(ep);
    w.cur().x[1].set(1);
    w.cur().x[2].set(7);
    w.cur().x[6].set(reply);
    w.svc(Syscall::ReplyRecv);
    assert!(w.did().contains(&Did::Reschedule(0)));
    w.on(0);
    assert!(w.runs(&w.root));
    assert_eq!(w.message(w.root.context).words, [7]);
    // Passive: it comes over to this core on root's context.
    w.ok(t.sc, Label::SchedContextUnbind, &[], &[]);
    w.start(Syscall::Call, ep, 5, &[3], &[]);
    assert!(w.runs(&t));
    assert_eq!(w.message(t.context).words, [3]);
    w.cur().x[0].set(ep);
    w.cur().x[6].set(reply);
    w.svc(Syscall::ReplyRecv);
    assert!(w.runs(&w.root));
}

#[test]
fn an_address_space_in_use_elsewhere_goes() {
    let mut w = world();
    let v = w.make(ObjectType::VSpace, 0);
    w.ok(6, Label::ARMASIDPoolAssign, &[], &[v]);
    let t = w.spawn_far(20);
    w.ok(t.tcb, Label::TCBSetSpace, &[0, 0], &[w.next_slot, 2, v]);
    w.on(1);
    assert!(w.did().iter().any(|d| matches!(d, Did::Space(1, Some((_, 2))))));
    w.core = 0;
    let pool = 6;
    let _ = pool;
    w.revoke(v);
    w.delete(v);
    let did = w.did();
    assert!(did.contains(&Did::Stall(1)) && did.contains(&Did::FlushAsid(2)), "{did:?}");
    w.on(1);
    assert!(w.did().contains(&Did::Space(1, None)));
}

#[test]
fn private_interrupts_are_per_core() {
    let mut w = world();
    let core = Label::ARMIRQIssueSGISignal;
    let s = w.slot();
    w.err(4, Label::IRQIssueIRQHandler, &[30, s, 64], &[2], Error::IllegalOperation, &[]);
    w.err(4, core, &[30, 0, s, 64], &[2], Error::TruncatedMessage, &[]);
    w.err(4, core, &[200, 0, s, 64, 9], &[2], Error::RangeError, &[0, 159]);
    w.err(4, core, &[30, 0, s, 64, 2], &[2], Error::InvalidArgument, &[4]);
    w.err(4, core, &[27, 0, s, 64, 1], &[2], Error::RevokeFirst, &[]);
    w.err(4, core, &[3, 0, s, 64, 1], &[2], Error::RevokeFirst, &[]);
    let s2 = w.slot();
    w.ok(4, core, &[30, 0, s, 64, 0], &[2]);
    w.ok(4, core, &[30, 0, s2, 64, 1], &[2]);
    let n = w.make(ObjectType::Notification, 0);
    let (b1, b2) = (w.mint(n, 1, 1), w.mint(n, 1, 2));
    w.ok(s, Label::IRQSetIRQHandler, &[], &[b1]);
    w.ok(s2, Label::IRQSetIRQHandler, &[], &[b2]);
    w.k.handle_interrupt(1, 30);
    w.start(Syscall::NBWait, n, 0, &[], &[]);
    assert_eq!(w.cur().x[0].get(), 2);
    w.k.handle_interrupt(0, 30);
    w.start(Syscall::NBWait, n, 0, &[], &[]);
    assert_eq!(w.cur().x[0].get(), 1);
    let shared = w.slot();
    w.ok(4, Label::IRQIssueIRQHandler, &[159, shared, 64], &[2]);
}

#[test]
fn priorities_reach_across() {
    let mut w = world();
    let (a, b) = (w.spawn_far(20), w.spawn_far(30));
    w.on(1);
    assert!(w.runs(&b));
    w.core = 0;
    w.did();
    w.ok(a.tcb, Label::TCBSetPriority, &[40], &[1]);
    assert!(w.did().contains(&Did::Reschedule(1)));
    w.on(1);
    assert!(w.runs(&a));
    w.core = 0;
    w.ok(a.tcb, Label::TCBSetPriority, &[10], &[1]);
    w.on(1);
    assert!(w.runs(&b));
    // A periodic thread there wakes by that core's own timer.
    w.core = 0;
    let control = w.sched_control() + 1;
    w.ok(control, Label::SchedControlConfigureFlags, &[1_000, 10_000, 0, 0, 0], &[b.sc]);
    w.on(1);
    assert!(w.runs(&b));
    w.pass(us(1_000));
    assert!(w.runs(&a));
    w.pass(us(9_000));
    assert!(w.runs(&b));
}
