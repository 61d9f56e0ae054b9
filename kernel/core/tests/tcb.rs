//! TCB invocations (sheet §3.4, §6).

mod common;

use common::*;
use kernel_core::abi::ext::ExtLabel;
use kernel_core::abi::{CNodeData, Error, Label, ObjectType, Syscall};

#[test]
fn registers_are_read_and_written_in_context_order() {
    let mut w = World::new();
    let t = w.make_thread(10, 0);
    let mut words = vec![0, 36];
    words.extend((0..36).map(|i| 0x100 + i));
    words[2 + 2] = 0xFFFF_FFFF;
    w.ok(t.tcb, Label::TCBWriteRegisters, &words, &[]);
    let c = w.ctx(&t);
    assert_eq!((c.elr.get(), c.fault_ip.get(), c.sp.get()), (0x100, 0x100, 0x101));
    assert_eq!(c.spsr.get(), 0xF000_0040);
    assert_eq!((c.x[0].get(), c.x[8].get(), c.x[16].get(), c.x[18].get()), (0x103, 0x10b, 0x10c, 0x10e));
    assert_eq!((c.x[29].get(), c.x[30].get(), c.x[9].get(), c.x[28].get()), (0x10f, 0x110, 0x111, 0x121));
    assert_eq!((c.tpidr.get(), c.tpidrro.get()), (0x122, 0x123));
    let read = w.ok(t.tcb, Label::TCBReadRegisters, &[0, 36], &[]);
    assert_eq!(read.len(), 36);
    let mut expected: Vec<u64> = words[2..].to_vec();
    expected[2] = 0xF000_0040;
    assert_eq!(read, expected);
    // A part only.
    w.ok(t.tcb, Label::TCBWriteRegisters, &[0, 1, 0x999], &[]);
    assert_eq!(w.ok(t.tcb, Label::TCBReadRegisters, &[0, 2], &[]), [0x999, 0x101]);
}

#[test]
fn register_errors() {
    let mut w = World::new();
    let t = w.make_thread(10, 0);
    let (io, tm) = (Error::IllegalOperation, Error::TruncatedMessage);
    w.err(t.tcb, Label::TCBReadRegisters, &[0], &[], tm, &[]);
    w.err(t.tcb, Label::TCBReadRegisters, &[0, 0], &[], Error::RangeError, &[1, 36]);
    w.err(1, Label::TCBReadRegisters, &[0, 37], &[], Error::RangeError, &[1, 36]);
    w.err(1, Label::TCBReadRegisters, &[0, 36], &[], io, &[]);
    w.err(t.tcb, Label::TCBWriteRegisters, &[0], &[], tm, &[]);
    w.err(1, Label::TCBWriteRegisters, &[0, 2, 1], &[], tm, &[]);
    w.err(1, Label::TCBWriteRegisters, &[0, 1, 1], &[], io, &[]);
    w.ok(t.tcb, Label::TCBWriteRegisters, &[0, 0], &[]);
    w.err(t.tcb, Label::TCBCopyRegisters, &[0], &[], tm, &[]);
    w.err(t.tcb, Label::TCBCopyRegisters, &[0], &[2], Error::InvalidCapability, &[1]);
    w.err(t.tcb, Label::InvalidInvocation, &[], &[], io, &[]);
    w.err(t.tcb, Label::ARMPageMap, &[], &[], io, &[]);
}

#[test]
fn copy_registers() {
    let mut w = World::new();
    let (a, b) = (w.make_thread(10, 0), w.make_thread(10, 0));
    let mut words = vec![0, 36];
    words.extend((0..36).map(|i| 0x200 + i));
    words[4] = 0;
    w.ok(a.tcb, Label::TCBWriteRegisters, &words, &[]);
    let before = w.ok(b.tcb, Label::TCBReadRegisters, &[0, 36], &[]);
    w.ok(b.tcb, Label::TCBCopyRegisters, &[4], &[a.tcb]);
    let frame = w.ok(b.tcb, Label::TCBReadRegisters, &[0, 36], &[]);
    let source = w.ok(a.tcb, Label::TCBReadRegisters, &[0, 36], &[]);
    assert_eq!((&frame[..17], &frame[17..]), (&source[..17], &before[17..]));
    w.ok(b.tcb, Label::TCBCopyRegisters, &[8], &[a.tcb]);
    assert_eq!(w.ok(b.tcb, Label::TCBReadRegisters, &[0, 36], &[]), source);
}

#[test]
fn configure_and_space_errors() {
    let mut w = World::new();
    let t = w.make_thread(10, 0);
    let (io, tm) = (Error::IllegalOperation, Error::TruncatedMessage);
    let free = w.slot();
    let vaddr = BUFFER_VADDR;
    w.err(t.tcb, Label::TCBConfigure, &[0, 0], &[2, 3, 10], tm, &[]);
    w.err(t.tcb, Label::TCBConfigure, &[0, 0, 0], &[2, 3], tm, &[]);
    w.err(t.tcb, Label::TCBConfigure, &[0, 0, vaddr], &[2, 3, 2], io, &[]);
    w.err(t.tcb, Label::TCBConfigure, &[0, 0, vaddr + 8], &[2, 3, 10], Error::AlignmentError, &[]);
    w.err(t.tcb, Label::TCBConfigure, &[CNodeData::new(0, 63).0, 0, vaddr], &[2, 3, 10], io, &[]);
    w.err(t.tcb, Label::TCBConfigure, &[0, 0, vaddr], &[1, 3, 10], io, &[]);
    w.err(t.tcb, Label::TCBConfigure, &[0, 0, vaddr], &[2, 2, 10], io, &[]);
    let vspace = w.make(ObjectType::VSpace, 0);
    w.err(t.tcb, Label::TCBConfigure, &[0, 0, vaddr], &[2, vspace, 10], io, &[]);
    w.ok(t.tcb, Label::TCBConfigure, &[0, 0, 0], &[2, 3, free]);
    w.err(t.tcb, Label::TCBSetIPCBuffer, &[0], &[], tm, &[]);
    w.err(t.tcb, Label::TCBSetIPCBuffer, &[vaddr], &[2], io, &[]);
    let device = w.device_frame();
    w.err(t.tcb, Label::TCBSetIPCBuffer, &[vaddr], &[device], io, &[]);
    w.err(t.tcb, Label::TCBSetIPCBuffer, &[vaddr + 512], &[10], Error::AlignmentError, &[]);
    w.ok(t.tcb, Label::TCBSetIPCBuffer, &[vaddr], &[10]);
    w.err(t.tcb, Label::TCBSetSpace, &[0, 0], &[free, 2], tm, &[]);
    w.err(t.tcb, Label::TCBSetSpace, &[0, 0], &[2, 1, 3], io, &[]);
    w.err(t.tcb, Label::TCBSetSpace, &[0, 0], &[2, 2, 1], io, &[]);
    w.err(t.tcb, Label::TCBSetSpace, &[0, 0], &[2, 2, 3], Error::InvalidCapability, &[1]);
    let ep = w.make(ObjectType::Endpoint, 0);
    let no_grant = w.mint(ep, 3, 0);
    w.err(t.tcb, Label::TCBSetSpace, &[0, 0], &[no_grant, 2, 3], Error::InvalidCapability, &[1]);
    w.err(t.tcb, Label::TCBSetTimeoutEndpoint, &[], &[no_grant], Error::InvalidCapability, &[1]);
    w.err(t.tcb, Label::TCBSetTimeoutEndpoint, &[], &[], tm, &[]);
    w.ok(t.tcb, Label::TCBSetTimeoutEndpoint, &[], &[ep]);
    w.ok(t.tcb, Label::TCBSetSpace, &[0, 0], &[ep, 2, 3]);
}

#[test]
fn a_final_cspace_is_not_replaced() {
    let mut w = World::new();
    let t = w.make_thread(10, 0);
    let node = w.make(ObjectType::CNode, 2);
    w.ok(t.tcb, Label::TCBSetSpace, &[0, 0], &[w.next_slot, node, 3]);
    w.delete(node);
    w.err(t.tcb, Label::TCBSetSpace, &[0, 0], &[w.next_slot, 2, 3], Error::IllegalOperation, &[]);
}

#[test]
fn revoking_the_source_empties_the_hidden_slot() {
    let mut w = World::new();
    let ep = w.make(ObjectType::Endpoint, 0);
    let badged = w.mint(ep, 15, 9);
    let t = w.spawn(10);
    w.ok(t.tcb, Label::TCBSetSpace, &[0, 0], &[badged, 2, 3]);
    w.revoke(ep);
    w.set_root_priority(0);
    assert!(w.runs(&t));
    w.k.handle_user_fault(0, kernel_core::UserFault::Exception { number: 0x2000000, code: 0 });
    assert!(w.runs(&w.root));
    assert!(w.k.machine.out.contains("UserException"), "{}", w.k.machine.out);
}

#[test]
fn priorities_obey_the_authority() {
    let mut w = World::new();
    let (t, a) = (w.make_thread(10, 0), w.make_thread(10, 0));
    w.ok(a.tcb, Label::TCBSetMCPriority, &[50], &[1]);
    for label in [Label::TCBSetPriority, Label::TCBSetMCPriority] {
        w.err(t.tcb, label, &[], &[1], Error::TruncatedMessage, &[]);
        w.err(t.tcb, label, &[1], &[], Error::TruncatedMessage, &[]);
        w.err(t.tcb, label, &[51], &[2], Error::InvalidCapability, &[1]);
        w.err(t.tcb, label, &[51], &[a.tcb], Error::RangeError, &[0, 50]);
        w.err(t.tcb, label, &[256], &[1], Error::RangeError, &[0, 255]);
        w.ok(t.tcb, label, &[50], &[a.tcb]);
    }
}

#[test]
fn sched_params() {
    let mut w = World::new();
    let (t, a) = (w.make_thread(10, 0), w.make_thread(10, 0));
    w.ok(a.tcb, Label::TCBSetMCPriority, &[50], &[1]);
    let ep = w.make(ObjectType::Endpoint, 0);
    let (sc, sc2) = (w.make_sc(1000, 1000), w.make_sc(1000, 1000));
    let free = w.slot();
    let (io, set) = (Error::IllegalOperation, Label::TCBSetSchedParams);
    w.err(t.tcb, set, &[1], &[a.tcb, sc, free], Error::TruncatedMessage, &[]);
    w.err(t.tcb, set, &[1, 1], &[a.tcb, sc], Error::TruncatedMessage, &[]);
    w.err(t.tcb, set, &[51, 51], &[2, 2, 2], Error::InvalidCapability, &[1]);
    w.err(t.tcb, set, &[51, 1], &[a.tcb, 2, 2], Error::RangeError, &[0, 50]);
    w.err(t.tcb, set, &[1, 51], &[a.tcb, 2, 2], Error::RangeError, &[0, 50]);
    w.err(t.tcb, set, &[1, 1], &[a.tcb, 2, 2], Error::InvalidCapability, &[2]);
    w.err(t.tcb, set, &[1, 1], &[a.tcb, 14, ep], io, &[]);
    w.err(1, set, &[1, 1], &[1, free, ep], io, &[]);
    w.err(t.tcb, set, &[1, 1], &[a.tcb, sc, 2], Error::InvalidCapability, &[3]);
    w.ok(t.tcb, set, &[2, 3], &[a.tcb, sc, ep]);
    w.err(t.tcb, set, &[1, 1], &[a.tcb, sc2, ep], io, &[]);
    w.ok(t.tcb, set, &[2, 3], &[a.tcb, sc, ep]);
    w.ok(t.tcb, set, &[2, 3], &[a.tcb, free, free]);
    w.ok(sc, Label::SchedContextBind, &[], &[a.tcb]);
}

#[test]
fn suspend_and_resume() {
    let mut w = World::new();
    let t = w.spawn(10);
    let ep = w.make(ObjectType::Endpoint, 0);
    w.set_root_priority(5);
    assert!(w.runs(&t));
    w.start(Syscall::Send, ep, 1, &[], &[]);
    let svc = w.ctx(&t).fault_ip.get();
    assert!(w.runs(&w.root));
    w.ok(t.tcb, Label::TCBSuspend, &[], &[]);
    w.ok(t.tcb, Label::TCBSuspend, &[], &[]);
    // Resumed it executes its system call again.
    w.start(Syscall::Call, t.tcb, Label::TCBResume.raw(), &[], &[]);
    assert!(w.runs(&t));
    assert_eq!(w.cur().elr.get(), svc);
    // Resuming a running thread changes nothing.
    w.start(Syscall::Call, t.tcb, Label::TCBResume.raw(), &[], &[]);
    assert!(w.runs(&t));
    // Suspended while preempted: continues at its next instruction.
    let next = w.cur().elr.get();
    w.start(Syscall::Call, 1, Label::TCBSetPriority.raw(), &[20], &[1]);
    assert!(w.runs(&w.root));
    w.ok(t.tcb, Label::TCBSuspend, &[], &[]);
    assert_eq!(w.ctx(&t).fault_ip.get(), next + 4);
    w.set_root_priority(1);
    assert!(w.runs(&w.root));
    w.start(Syscall::Call, t.tcb, Label::TCBResume.raw(), &[], &[]);
    assert!(w.runs(&t));
    assert_eq!(w.cur().elr.get(), next + 4);
}

#[test]
fn notifications_are_bound_once() {
    let mut w = World::new();
    let (t, u) = (w.make_thread(10, 0), w.make_thread(10, 0));
    let (n, m) = (w.make(ObjectType::Notification, 0), w.make(ObjectType::Notification, 0));
    let send_only = w.mint(m, 1, 0);
    let io = Error::IllegalOperation;
    w.err(t.tcb, Label::TCBBindNotification, &[], &[], Error::TruncatedMessage, &[]);
    w.err(t.tcb, Label::TCBBindNotification, &[], &[2], io, &[]);
    w.err(t.tcb, Label::TCBBindNotification, &[], &[send_only], io, &[]);
    w.err(t.tcb, Label::TCBUnbindNotification, &[], &[], io, &[]);
    w.ok(t.tcb, Label::TCBBindNotification, &[], &[n]);
    w.err(t.tcb, Label::TCBBindNotification, &[], &[m], io, &[]);
    w.err(u.tcb, Label::TCBBindNotification, &[], &[n], io, &[]);
    w.ok(t.tcb, Label::TCBUnbindNotification, &[], &[]);
    w.ok(u.tcb, Label::TCBBindNotification, &[], &[n]);
    // Waiting directly on a notification bound to another is a fault.
    w.start(Syscall::NBWait, n, 0, &[], &[]);
    assert!(w.running().is_none());
}

#[test]
fn tls_flags_and_counters() {
    let mut w = World::new();
    let t = w.make_thread(10, 0);
    w.err(t.tcb, Label::TCBSetTLSBase, &[], &[], Error::TruncatedMessage, &[]);
    w.ok(t.tcb, Label::TCBSetTLSBase, &[0x7777], &[]);
    assert_eq!(w.ctx(&t).tpidr.get(), 0x7777);
    w.err(t.tcb, Label::TCBSetFlags, &[0], &[], Error::TruncatedMessage, &[]);
    assert_eq!(w.ok(t.tcb, Label::TCBSetFlags, &[0, 0xff], &[]), [1]);
    assert_eq!(w.ctx(&t).flags.get(), 1);
    assert_eq!(w.ok(t.tcb, Label::TCBSetFlags, &[1, 0], &[]), [0]);
    let label = ExtLabel::SmiTcbSetCounterAccess.raw();
    assert_eq!(w.call_raw(t.tcb, label, &[], &[]).error(), Error::TruncatedMessage);
    assert_eq!(w.call_raw(t.tcb, label, &[4], &[]).error(), Error::IllegalOperation);
    assert_eq!(w.call_raw(t.tcb, label, &[3], &[]).error(), Error::NoError);
    assert_eq!(w.ctx(&t).flags.get(), 6);
    assert_eq!(w.call_raw(t.tcb, label, &[1], &[]).error(), Error::NoError);
    assert_eq!(w.ctx(&t).flags.get(), 2);
    // The machine hears of it when the running thread's rights change.
    w.did();
    w.call_raw(1, label, &[1], &[]);
    assert!(w.did().contains(&Did::Flags(0, 2)));
}

#[test]
fn names() {
    let mut w = World::new();
    let t = w.spawn(10);
    let name = |w: &World, t: &Thread| {
        // SAFETY: the current thread is asked through the kernel; here only its own name.
        let _ = t;
        let mut s = String::new();
        w.k.current_name(0, &mut |b| s.push(b as char));
        s
    };
    w.set_root_priority(0);
    assert_eq!(name(&w, &t), "child of: 'rootserver'");
    w.write(t.buffer_paddr + 8, u64::from_le_bytes(*b"a driver"));
    w.write(t.buffer_paddr + 16, 0);
    w.cur().x[0].set(t.tcb);
    w.svc(Syscall::DebugNameThread);
    assert_eq!(name(&w, &t), "a driver");
}
