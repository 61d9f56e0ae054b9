//! Fault messages and what a reply does (sheet §7.6 – §7.8).

mod common;

use common::*;
use kernel_core::UserFault;
use kernel_core::abi::{FaultType, Label, MessageInfo, ObjectType, Syscall};

struct Scene {
    w: World,
    /// The thread that faults.
    t: Thread,
    reply: u64,
    ep: u64,
}

const PC: u64 = 0x5000;
const SP: u64 = 0x8000;

/// A thread at priority 20 whose faults go to root (priority 30) with badge 0xFA; root waits.
fn scene() -> Scene {
    let mut w = World::new();
    let ep = w.make(ObjectType::Endpoint, 0);
    let reply = w.make(ObjectType::Reply, 0);
    let badged = w.mint(ep, 15, 0xFA);
    let t = w.spawn(20);
    w.ok(t.tcb, Label::TCBSetSpace, &[0, 0], &[badged, 2, 3]);
    w.ok(t.tcb, Label::TCBWriteRegisters, &[0, 2, PC, SP], &[]);
    w.set_root_priority(30);
    let mut s = Scene { w, t, reply, ep };
    s.wait();
    assert!(s.w.runs(&s.t));
    s
}

impl Scene {
    /// Root receives a fault.
    fn wait(&mut self) {
        self.w.cur().x[0].set(self.ep);
        self.w.cur().x[6].set(self.reply);
        self.w.svc(Syscall::Recv);
    }

    fn user_fault(&mut self, fault: UserFault) -> Reply {
        let c = self.w.cur();
        c.fault_ip.set(c.elr.get());
        self.w.k.handle_user_fault(0, fault);
        self.w.check();
        self.caught()
    }

    fn caught(&self) -> Reply {
        assert!(self.w.runs(&self.w.root));
        let m = self.w.message(self.w.root.context);
        assert_eq!(m.badge, 0xFA);
        m
    }

    /// Root replies and receives again; the thread runs unless it was stopped.
    fn answer(&mut self, label: u64, words: &[u64]) {
        self.w.put_message(words, &[]);
        self.w.cur().x[0].set(self.ep);
        self.w.cur().x[1].set(MessageInfo::new(label, 0, 0, words.len()).0);
        self.w.cur().x[6].set(self.reply);
        self.w.svc(Syscall::ReplyRecv);
    }
}

#[test]
fn vm_fault() {
    for (instruction, flag) in [(false, 0), (true, 1)] {
        let mut s = scene();
        let m = s.user_fault(UserFault::Vm { addr: 0xdead, fsr: 0x92000005, instruction });
        assert_eq!((m.label, m.words), (FaultType::VMFault.raw(), vec![PC, 0xdead, flag, 0x92000005]));
        // The label of the answer does not matter.
        s.answer(1, &[]);
        assert!(s.w.runs(&s.t));
        assert_eq!(s.w.cur().elr.get(), PC);
    }
}

#[test]
fn user_exception() {
    let mut s = scene();
    let m = s.user_fault(UserFault::Exception { number: 0xF2000007, code: 0 });
    assert_eq!((m.label, m.words), (3, vec![PC, SP, 0x40, 0xF2000007, 0]));
    s.answer(0, &[0x6000, 0x9000, 0xFFFF_FFFF]);
    assert!(s.w.runs(&s.t));
    let c = s.w.cur();
    assert_eq!((c.elr.get(), c.sp.get(), c.spsr.get()), (0x6000, 0x9000, 0xF000_0040));
    s.user_fault(UserFault::Exception { number: 1, code: 0 });
    s.answer(1, &[0x7000]);
    assert!(!s.w.runs(&s.t), "stopped");
    assert_eq!(s.w.ctx(&s.t).fault_ip.get(), 0x7000);
}

#[test]
fn unknown_syscall() {
    let mut s = scene();
    for i in 0..8 {
        s.w.cur().x[i].set(0x10 + i as u64);
    }
    s.w.svc_raw(99);
    let m = s.caught();
    let expected = [0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 99, PC, SP, PC + 4, 0x40, 99];
    assert_eq!((m.label, m.words.as_slice()), (2, expected.as_slice()));
    // Skipping it is the handler's work.
    s.answer(0, &[1, 2, 3, 4, 5, 6, 7, 8, PC + 4, SP + 16, PC + 4, 0x6000_0000]);
    assert!(s.w.runs(&s.t));
    let c = s.w.cur();
    assert_eq!((0..8).map(|i| c.x[i].get()).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!((c.elr.get(), c.sp.get(), c.spsr.get()), (PC + 4, SP + 16, 0x6000_0040));
    // A zero-extended number is unknown, too; a short answer leaves the rest.
    s.w.svc_raw(0xFFFF_FFFF);
    assert_eq!(s.caught().words[12], 0xFFFF_FFFF);
    s.answer(0, &[0x55]);
    let c = s.w.cur();
    assert_eq!((c.x[0].get(), c.x[1].get(), c.elr.get()), (0x55, 2, PC + 4));
}

#[test]
fn cap_faults_tell_the_lookup() {
    let guard = 64 - u64::from(ROOT_BITS);
    let mut s = scene();
    s.w.start(Syscall::Call, 1 << 50, 0, &[], &[]);
    let m = s.caught();
    assert_eq!((m.label, m.words), (1, vec![PC, 1 << 50, 0, 4, 64, 0, guard]));
    s.answer(7, &[]);
    assert!(s.w.runs(&s.t));
    assert_eq!(s.w.cur().elr.get(), PC);
    s.w.start(Syscall::Wait, 1, 0, &[], &[]);
    assert_eq!(s.caught().words, [PC, 1, 1, 2, 0]);
    s.answer(0, &[]);
    // No CSpace at all.
    let mut s = scene();
    s.w.check();
    let t = s.t;
    s.w.k.handle_user_fault(0, UserFault::Exception { number: 0, code: 0 });
    let node = s.w.make(ObjectType::CNode, 2);
    s.w.ok(t.tcb, Label::TCBSetSpace, &[0, 0], &[s.ep, node, 3]);
    s.w.revoke(node);
    s.answer(0, &[]);
    assert!(s.w.runs(&s.t));
    s.w.start(Syscall::Recv, 5, 0, &[], &[]);
    let m = s.w.message(s.w.root.context);
    assert_eq!(m.words, [PC, 5, 1, 1]);
}

#[test]
fn no_handler_stops_the_thread() {
    let mut w = World::new();
    let t = w.spawn(20);
    w.set_root_priority(0);
    assert!(w.runs(&t));
    w.k.handle_user_fault(0, UserFault::Vm { addr: 1, fsr: 2, instruction: false });
    assert!(w.runs(&w.root));
    assert!(w.k.machine.out.contains("VMFault of thread \"child of: 'rootserver'\""), "{}", w.k.machine.out);
}

#[test]
fn a_handler_without_a_reply_object_leaves_the_thread_inactive() {
    let mut s = scene();
    // Root waits without a reply object.
    s.user_fault(UserFault::Exception { number: 1, code: 0 });
    s.answer(0, &[]);
    s.w.k.handle_user_fault(0, UserFault::Exception { number: 1, code: 0 });
    s.w.start(Syscall::NBWait, s.ep, 0, &[], &[]);
    // The queued fault was delivered above already: nothing is left.
    assert!(s.w.runs(&s.w.root));
    let mut s = scene();
    s.user_fault(UserFault::Exception { number: 1, code: 0 });
    s.w.start(Syscall::Send, s.reply, 0, &[], &[]);
    s.w.start(Syscall::Wait, s.ep, 0, &[], &[]);
    assert!(s.w.runs(&s.t));
    s.w.k.handle_user_fault(0, UserFault::Exception { number: 1, code: 0 });
    assert!(s.w.runs(&s.w.root));
    s.w.start(Syscall::Send, s.reply, 0, &[], &[]);
    s.w.set_root_priority(0);
    assert!(s.w.runs(&s.w.root), "the thread never runs again");
}

#[test]
fn a_passive_handler_runs_on_the_faulting_threads_time() {
    let mut w = World::new();
    let ep = w.make(ObjectType::Endpoint, 0);
    let reply = w.make(ObjectType::Reply, 0);
    let (t, h) = (w.spawn(20), w.spawn(40));
    w.ok(t.tcb, Label::TCBSetSpace, &[0, 0], &[ep, 2, 3]);
    w.set_root_priority(10);
    assert!(w.runs(&h));
    w.cur().x[0].set(ep);
    w.cur().x[6].set(reply);
    w.svc(Syscall::Recv);
    assert!(w.runs(&t));
    w.start(Syscall::Call, h.sc, Label::SchedContextUnbind.raw(), &[], &[]);
    w.k.handle_user_fault(0, UserFault::Exception { number: 1, code: 0 });
    w.check();
    assert!(w.runs(&h));
    w.cur().x[0].set(ep);
    w.cur().x[1].set(0);
    w.cur().x[6].set(reply);
    w.svc(Syscall::ReplyRecv);
    assert!(w.runs(&t));
}

#[test]
fn timeout_fault() {
    let mut w = World::new();
    let ep = w.make(ObjectType::Endpoint, 0);
    let badged = w.mint(ep, 15, 0xFA);
    let reply = w.make(ObjectType::Reply, 0);
    let sc = w.make_sc(1000, 10_000);
    let t = w.make_thread(20, sc);
    w.ok(t.tcb, Label::TCBSetTimeoutEndpoint, &[], &[badged]);
    w.ok(t.tcb, Label::TCBWriteRegisters, &[1, 2, PC, SP], &[]);
    w.set_root_priority(30);
    let mut s = Scene { w, t, reply, ep };
    s.wait();
    assert!(s.w.runs(&s.t));
    s.w.cur().fault_ip.set(PC);
    s.w.pass(us(1000));
    let m = s.caught();
    assert_eq!((m.label, m.words), (5, vec![0x5c, 1000]));
    // The handler gives new registers; the thread still has to wait for its next refill.
    s.answer(0, &[0x7700, 0x8800]);
    assert!(s.w.running().is_none());
    s.w.pass(us(9000));
    assert!(s.w.runs(&s.t));
    assert_eq!((s.w.cur().elr.get(), s.w.cur().sp.get()), (0x7700, 0x8800));
    // Giving up the budget is no timeout.
    s.w.svc(Syscall::Yield);
    assert!(s.w.running().is_none());
    s.w.pass(us(10_000));
    assert!(s.w.runs(&s.t));
    s.w.cur().fault_ip.set(PC);
    s.w.pass(us(1000));
    s.caught();
    s.answer(1, &[]);
    s.w.pass(us(20_000));
    assert!(s.w.running().is_none(), "stopped");
}
