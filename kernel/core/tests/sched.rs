//! Scheduling contexts, refills, queue order, timeouts, YieldTo (sheet §3.6, §8).

mod common;

use common::*;
use kernel_core::abi::{Error, Label, ObjectType, Syscall};

const CONFIGURE: Label = Label::SchedControlConfigureFlags;
const SPORADIC: u64 = 1;

#[test]
fn configure_errors() {
    let mut w = World::new();
    let (control, sc) = (w.sched_control(), w.make(ObjectType::SchedContext, 7));
    let max = 36_893_488_147_419;
    let range = Error::RangeError;
    w.err(control, Label::SchedContextBind, &[], &[], Error::IllegalOperation, &[]);
    w.err(control, CONFIGURE, &[1, 1, 0, 0], &[sc], Error::TruncatedMessage, &[]);
    w.err(control, CONFIGURE, &[1, 1, 0, 0, 0], &[], Error::TruncatedMessage, &[]);
    w.err(control, CONFIGURE, &[max + 1, 20, 9, 0, 0], &[2], range, &[20, max]);
    w.err(control, CONFIGURE, &[20, max + 1, 9, 0, 0], &[2], range, &[20, max]);
    w.err(control, CONFIGURE, &[19, 20, 9, 0, 0], &[2], range, &[20, max]);
    w.err(control, CONFIGURE, &[20, 19, 9, 0, 0], &[2], range, &[20, max]);
    w.err(control, CONFIGURE, &[21, 20, 9, 0, 0], &[2], range, &[20, 20]);
    w.err(control, CONFIGURE, &[20, 30, 9, 0, 0], &[2], Error::InvalidCapability, &[1]);
    w.err(control, CONFIGURE, &[20, 30, 1, 0, 0], &[sc], range, &[0, 0]);
    w.ok(control, CONFIGURE, &[20, 30, 0, 0, 0], &[sc]);
    let big = w.make(ObjectType::SchedContext, 8);
    w.err(control, CONFIGURE, &[20, 30, 9, 0, 0], &[big], range, &[0, 8]);
    w.ok(control, CONFIGURE, &[max, max, 8, 0, 0], &[big]);
}

#[test]
fn bind_and_unbind_errors() {
    let mut w = World::new();
    let (sc, sc2, bare) = (w.make_sc(1000, 1000), w.make_sc(1000, 1000), w.make(ObjectType::SchedContext, 7));
    let t = w.make_thread(20, 0);
    let (n, n2) = (w.make(ObjectType::Notification, 0), w.make(ObjectType::Notification, 0));
    let io = Error::IllegalOperation;
    let (bind, unbind) = (Label::SchedContextBind, Label::SchedContextUnbindObject);
    w.err(sc, bind, &[], &[], Error::TruncatedMessage, &[]);
    w.err(sc, bind, &[], &[2], Error::InvalidCapability, &[1]);
    w.err(14, bind, &[], &[t.tcb], io, &[]);
    w.err(sc, bind, &[], &[1], io, &[]);
    w.ok(sc, bind, &[], &[t.tcb]);
    w.err(sc2, bind, &[], &[t.tcb], io, &[]);
    w.ok(sc, bind, &[], &[n]);
    w.err(sc, bind, &[], &[n2], io, &[]);
    w.err(sc2, bind, &[], &[n], io, &[]);
    w.err(sc, unbind, &[], &[], Error::TruncatedMessage, &[]);
    w.err(sc, unbind, &[], &[1], io, &[]);
    w.err(sc, unbind, &[], &[n2], io, &[]);
    w.err(sc, unbind, &[], &[2], Error::InvalidCapability, &[1]);
    w.err(14, unbind, &[], &[1], io, &[]);
    w.err(14, Label::SchedContextUnbind, &[], &[], io, &[]);
    w.ok(sc, unbind, &[], &[n]);
    w.ok(sc, unbind, &[], &[t.tcb]);
    w.ok(sc, Label::SchedContextUnbind, &[], &[]);
    // A blocked thread takes only a context that it could run on.
    let ep = w.make(ObjectType::Endpoint, 0);
    let b = w.spawn(20);
    w.park_root(&b);
    w.start(Syscall::Wait, ep, 0, &[], &[]);
    w.ok(b.sc, Label::SchedContextUnbind, &[], &[]);
    w.err(bare, bind, &[], &[b.tcb], io, &[]);
    w.ok(sc, bind, &[], &[b.tcb]);
}

#[test]
fn an_active_thread_is_preempted_when_its_slice_ends() {
    let mut w = World::new();
    let (a, b) = (w.spawn(20), w.spawn(20));
    w.set_root_priority(10);
    // Bound last, so at the head of the queue.
    assert!(w.runs(&b));
    w.pass(us(9_998));
    assert!(w.runs(&b));
    w.pass(us(2));
    assert!(w.runs(&a), "round robin");
    w.pass(us(10_000));
    assert!(w.runs(&b));
    assert_eq!(w.refills(b.sc, 0)[0].1, us(10_000));
    // Yield goes to the tail at once.
    w.svc(Syscall::Yield);
    assert!(w.runs(&a));
    w.svc(Syscall::Yield);
    assert!(w.runs(&b));
}

#[test]
fn a_periodic_thread_gets_its_share_and_no_more() {
    for flags in [0, SPORADIC] {
        let mut w = World::new();
        let sc = w.make(ObjectType::SchedContext, 8);
        w.configure_sc(sc, 2_000, 10_000, flags);
        let t = w.make_thread(20, sc);
        w.resume(&t);
        w.set_root_priority(10);
        let mut ran = 0;
        for _ in 0..1000 {
            if w.runs(&t) {
                ran += 100;
            }
            w.pass(us(100));
        }
        // 100 ms: ten periods, at most one budget more.
        assert!((19_000..=22_000).contains(&ran), "{ran}");
    }
}

#[test]
fn refill_arithmetic() {
    let mut w = World::new();
    let sc = w.make(ObjectType::SchedContext, 8);
    let control = w.sched_control();
    w.ok(control, CONFIGURE, &[1_000, 10_000, 4, 0, 0], &[sc]);
    let t = w.make_thread(20, sc);
    w.resume(&t);
    let base = w.k.machine.now;
    assert_eq!(w.refills(sc, base), [(0, us(1_000))]);
    w.set_root_priority(10);
    assert!(w.runs(&t));
    // Used 300: the rest is usable from 300 on, what was used comes back a period after it began.
    w.pass(us(300));
    w.start(Syscall::Call, 1, Label::TCBSetPriority.raw(), &[30], &[1]);
    assert!(w.runs(&w.root));
    assert_eq!(w.refills(sc, base), [(us(300), us(700)), (us(10_000), us(300))]);
    // Not running for a while: constant bandwidth slides when it runs again.
    w.pass(us(2_000));
    w.set_root_priority(10);
    assert!(w.runs(&t));
    assert_eq!(w.refills(sc, base), [(us(2_300), us(700)), (us(10_000), us(300))]);
    // All of the head: it comes back a period later, the tail is not usable yet.
    w.pass(us(700));
    assert!(w.runs(&w.root));
    assert_eq!(w.refills(sc, base), [(us(10_000), us(300)), (us(12_300), us(700))]);
    w.pass(us(7_000));
    assert!(w.runs(&t), "released at 10 000");
    // What is left is less than the least budget: it merges into the next refill.
    w.pass(us(290));
    w.start(Syscall::Call, 1, Label::TCBSetPriority.raw(), &[30], &[1]);
    assert_eq!(w.refills(sc, base)[0], (us(12_300 - 10), us(710)), "{:?}", w.refills(sc, base));
}

#[test]
fn update_keeps_the_bandwidth() {
    let mut w = World::new();
    let sc = w.make(ObjectType::SchedContext, 8);
    w.configure_sc(sc, 1_000, 10_000, 0);
    let t = w.make_thread(20, sc);
    w.resume(&t);
    w.pass(us(50));
    let now = w.k.machine.now;
    // More budget: only the old head is usable now.
    w.configure_sc(sc, 3_000, 20_000, 0);
    assert_eq!(w.refills(sc, now), [(0, us(1_000)), (us(20_000), us(2_000))]);
    // Less: trimmed.
    w.configure_sc(sc, 400, 5_000, 0);
    assert_eq!(w.refills(sc, now), [(0, us(400))]);
    // Round robin starts afresh.
    w.configure_sc(sc, 700, 700, 0);
    assert_eq!(w.refills(sc, now), [(0, us(700)), (0, 0)]);
    // A context without a runnable thread starts afresh, too.
    w.ok(t.tcb, Label::TCBSuspend, &[], &[]);
    w.configure_sc(sc, 900, 7_000, 0);
    assert_eq!(w.refills(sc, now), [(0, us(900))]);
}

#[test]
fn full_refill_lists_merge_at_the_tail() {
    let mut w = World::new();
    let sc = w.make(ObjectType::SchedContext, 7);
    w.configure_sc(sc, 1_000, 100_000, 0);
    let t = w.make_thread(20, sc);
    w.resume(&t);
    let base = w.k.machine.now;
    w.set_root_priority(10);
    for _ in 0..3 {
        w.pass(us(100));
        w.start(Syscall::Call, 1, Label::TCBSetPriority.raw(), &[30], &[1]);
        w.pass(us(500));
        w.set_root_priority(10);
        assert!(w.runs(&t));
    }
    // Two places only: the later pieces wait for the latest of them.
    let refills = w.refills(sc, base);
    assert_eq!(refills.len(), 2);
    assert_eq!(refills[0].1, us(700));
    assert_eq!(refills[1], (us(100_000 + 1_200 + 100 - 300), us(300)));
}

#[test]
fn a_sporadic_context_keeps_its_replenishment() {
    let mut w = World::new();
    let (n, sc) = (w.make(ObjectType::Notification, 0), w.make(ObjectType::SchedContext, 8));
    w.configure_sc(sc, 1_000, 10_000, SPORADIC);
    let t = w.make_thread(20, sc);
    w.resume(&t);
    w.set_root_priority(10);
    let base = w.k.machine.now;
    w.start(Syscall::Wait, n, 0, &[], &[]);
    w.pass(us(3_000));
    // Woken: the unblock check moves the head to now.
    w.start(Syscall::Send, n, 0, &[], &[]);
    assert!(w.runs(&t));
    assert_eq!(w.refills(sc, base), [(us(3_000), us(1_000))]);
    w.pass(us(200));
    w.start(Syscall::Wait, n, 0, &[], &[]);
    assert_eq!(w.refills(sc, base), [(us(3_200), us(800)), (us(13_000), us(200))]);
}

#[test]
fn woken_threads_queue_as_told() {
    // Root wakes several: lower priorities in LIFO order, an equal one behind.
    let mut w = World::new();
    let threads: Vec<Thread> = (0..3).map(|_| w.spawn(20)).collect();
    let n: Vec<u64> = (0..3).map(|_| w.make(ObjectType::Notification, 0)).collect();
    w.set_root_priority(10);
    while !w.runs(&w.root) {
        let i = threads.iter().position(|t| w.runs(t)).unwrap();
        w.start(Syscall::Wait, n[i], 0, &[], &[]);
    }
    w.set_root_priority(100);
    for n in &n {
        w.start(Syscall::Send, *n, 0, &[], &[]);
    }
    w.set_root_priority(10);
    let mut order = Vec::new();
    while !w.runs(&w.root) {
        let i = threads.iter().position(|t| w.runs(t)).unwrap();
        order.push(i);
        w.start(Syscall::Wait, n[i], 0, &[], &[]);
    }
    assert_eq!(order, [2, 1, 0]);
    // Equals: first woken, first run.
    w.set_root_priority(20);
    for n in &n {
        w.start(Syscall::Send, *n, 0, &[], &[]);
    }
    assert!(w.runs(&w.root), "the current thread continues");
    w.svc(Syscall::Yield);
    let mut order = Vec::new();
    while !w.runs(&w.root) {
        let i = threads.iter().position(|t| w.runs(t)).unwrap();
        order.push(i);
        w.start(Syscall::Wait, n[i], 0, &[], &[]);
    }
    assert_eq!(order, [0, 1, 2]);
    // A preempted thread goes to the head of its queue.
    let (a, b) = (w.spawn(50), w.spawn(50));
    let high = w.spawn(60);
    w.set_root_priority(10);
    assert!(w.runs(&high));
    w.start(Syscall::Wait, n[0], 0, &[], &[]);
    assert!(w.runs(&b));
    w.start(Syscall::Send, n[0], 0, &[], &[]);
    assert!(w.runs(&high));
    w.start(Syscall::Wait, n[0], 0, &[], &[]);
    assert!(w.runs(&b), "before {a:?}");
}

#[test]
fn yield_to() {
    let mut w = World::new();
    let (lo, eq, hi) = (w.spawn(10), w.spawn(100), w.spawn(120));
    let to = Label::SchedContextYieldTo;
    let free = w.make_sc(1000, 1000);
    let io = Error::IllegalOperation;
    w.err(free, to, &[], &[], io, &[]);
    w.err(14, to, &[], &[], io, &[]);
    w.ok(1, Label::TCBSetMCPriority, &[255], &[1]);
    w.ok(hi.tcb, Label::TCBSuspend, &[], &[]);
    assert_eq!(w.ok(hi.sc, to, &[], &[]), [0], "not schedulable: returns at once");
    assert_eq!(w.ok(lo.sc, to, &[], &[]), [0], "lower: returns at once");
    w.start(Syscall::Call, 1, Label::TCBSetPriority.raw(), &[100], &[1]);
    assert!(w.runs(&w.root));
    // Equal: it runs, the caller right behind it.
    w.start(Syscall::Call, eq.sc, to.raw(), &[], &[]);
    assert!(w.runs(&eq));
    w.pass(us(500));
    w.svc(Syscall::Yield);
    assert!(w.runs(&w.root));
    assert_eq!(w.message(w.root.context), Reply { badge: 0, label: 0, words: vec![500] });
    // The caller's MCP bounds it.
    let t = w.spawn(200);
    w.ok(1, Label::TCBSetMCPriority, &[150], &[1]);
    w.err(t.sc, to, &[], &[], io, &[]);
}

#[test]
fn consumed() {
    let mut w = World::new();
    let t = w.spawn(20);
    w.set_root_priority(10);
    assert!(w.runs(&t));
    w.pass(us(700));
    w.start(Syscall::Call, 1, Label::TCBSetPriority.raw(), &[30], &[1]);
    assert_eq!(w.ok(t.sc, Label::SchedContextConsumed, &[], &[]), [700]);
    assert_eq!(w.ok(t.sc, Label::SchedContextConsumed, &[], &[]), [0]);
    w.err(t.sc, CONFIGURE, &[], &[], Error::IllegalOperation, &[]);
}

#[test]
fn a_syscall_with_too_little_budget_waits() {
    let mut w = World::new();
    let sc = w.make(ObjectType::SchedContext, 8);
    w.configure_sc(sc, 1_000, 10_000, 0);
    let t = w.make_thread(20, sc);
    let n = w.make(ObjectType::Notification, 0);
    w.resume(&t);
    w.set_root_priority(10);
    assert!(w.runs(&t));
    w.k.machine.now += us(990);
    w.start(Syscall::Send, n, 0, &[], &[]);
    assert!(w.runs(&w.root), "10 us are too little for a system call");
    let svc = w.ctx(&t).fault_ip.get();
    w.start(Syscall::NBWait, n, 0, &[], &[]);
    w.pass(us(10_000));
    assert!(w.runs(&t));
    assert_eq!(w.cur().elr.get(), svc, "executes it again");
}

#[test]
fn reply_to_a_thread_without_budget_postpones_it() {
    let mut w = World::new();
    let (ep, reply) = (w.make(ObjectType::Endpoint, 0), w.make(ObjectType::Reply, 0));
    let sc = w.make(ObjectType::SchedContext, 8);
    w.configure_sc(sc, 1_000, 10_000, 0);
    let client = w.make_thread(20, sc);
    w.resume(&client);
    let server = w.spawn(30);
    w.set_root_priority(5);
    assert!(w.runs(&server));
    w.start(Syscall::Call, server.sc, Label::SchedContextConsumed.raw(), &[], &[]);
    w.cur().x[0].set(ep);
    w.cur().x[6].set(reply);
    w.svc(Syscall::Recv);
    assert!(w.runs(&client));
    // Nearly all its budget is gone when it calls; the server runs on its own.
    w.k.machine.now += us(975);
    w.start(Syscall::Call, ep, 0, &[], &[]);
    assert!(w.runs(&server));
    w.start(Syscall::Send, reply, 0, &[], &[]);
    w.start(Syscall::Wait, ep, 0, &[], &[]);
    assert!(w.runs(&client), "25 us are enough");
    w.k.machine.now += us(12);
    w.cur().x[0].set(ep);
    w.svc(Syscall::Call);
    assert!(w.runs(&w.root), "13 us are not");
}

#[test]
fn the_idle_core_wakes_for_the_next_release() {
    let mut w = World::new();
    let sc = w.make(ObjectType::SchedContext, 8);
    w.configure_sc(sc, 1_000, 10_000, 0);
    let t = w.make_thread(20, sc);
    w.resume(&t);
    let n = w.make(ObjectType::Notification, 0);
    w.start(Syscall::Wait, n, 0, &[], &[]);
    assert!(w.runs(&t));
    let base = w.k.machine.now;
    w.pass(us(1_000));
    assert!(w.running().is_none());
    assert_eq!(w.k.machine.deadline[0], base + us(10_000));
    w.pass(us(9_000));
    assert!(w.runs(&t));
}

#[test]
fn a_very_long_stop_of_the_machine_is_charged_in_bounded_time() {
    let mut w = World::new();
    let sc = w.make(ObjectType::SchedContext, 8);
    w.configure_sc(sc, 20, 21, 0);
    let t = w.make_thread(20, sc);
    w.resume(&t);
    w.set_root_priority(10);
    assert!(w.runs(&t));
    let start = std::time::Instant::now();
    w.pass(us(100_000_000_000));
    assert!(start.elapsed().as_secs() < 2);
}
