//! Deletion and revocation: containers of any shape, preemption, every kind of final object (sheet §5.5).

mod common;

use common::*;
use kernel_core::abi::{CNodeData, CapTag, Error, Label, ObjectType, Syscall};

const RETYPE: Label = Label::UntypedRetype;

/// A chain of CNodes, each the only holder of the next, in slot `at` of its parent. Returns the root slot.
fn chain(w: &mut World, ut: u64, depth: u64, at: u64) -> u64 {
    let first = w.slot();
    w.ok(ut, RETYPE, &[ObjectType::CNode.raw(), 2, 0, 0, first, 1], &[2]);
    // Built from the innermost: `held` goes into slot `at` of a fresh node, again and again.
    let mut held = first;
    for _ in 1..depth {
        let node = w.slot();
        w.ok(ut, RETYPE, &[ObjectType::CNode.raw(), 2, 0, 0, node, 1], &[2]);
        w.ok(node, Label::CNodeMove, &[at, 2, held, 64], &[2]);
        held = node;
    }
    held
}

#[test]
fn deep_chains_of_cnodes_are_deleted() {
    for at in [0, 1, 3] {
        let mut w = World::new();
        let ut = w.make(ObjectType::Untyped, 16);
        let top = chain(&mut w, ut, 50, at);
        w.delete(top);
        // Everything is gone: the untyped has no children and starts from its beginning.
        let s = w.slot();
        w.ok(ut, RETYPE, &[0, 16, 0, 0, s, 1], &[2]);
    }
}

#[test]
fn preempted_deletion_goes_on_where_it_was() {
    for steps in [1, 2, 3] {
        let mut w = World::new();
        let ut = w.make(ObjectType::Untyped, 18);
        let top = chain(&mut w, ut, 400, 0);
        w.k.machine.pending_in.set(0);
        let mut tries = 0;
        let pc = w.cur().elr.get();
        w.start(Syscall::Call, 2, Label::CNodeDelete.raw(), &[top, 64], &[]);
        assert_eq!(w.identify_quietly(top), CapTag::Zombie.raw());
        while w.cur().elr.get() == pc {
            w.k.machine.pending_in.set(steps - 1);
            w.cur().x[7].set(Syscall::Call.raw() as u64);
            w.trap();
            tries += 1;
            assert!(tries < 1000);
        }
        assert!(tries > 3, "{tries}");
        w.k.machine.pending_in.set(-1);
        let s = w.slot();
        w.ok(ut, RETYPE, &[0, 18, 0, 0, s, 1], &[2]);
    }
}

#[test]
fn a_zombie_can_be_revoked_by_another() {
    // A deletion is given up half way; revoking the memory below it ends it.
    let mut w = World::new();
    let ut = w.make(ObjectType::Untyped, 18);
    let top = chain(&mut w, ut, 400, 0);
    w.k.machine.pending_in.set(0);
    let pc = w.cur().elr.get();
    w.start(Syscall::Call, 2, Label::CNodeDelete.raw(), &[top, 64], &[]);
    assert_eq!(w.cur().elr.get(), pc);
    w.k.machine.pending_in.set(-1);
    assert_eq!(w.identify_quietly(top), CapTag::Zombie.raw());
    w.err(top, Label::CNodeDelete, &[0, 2], &[], Error::InvalidCapability, &[0]);
    w.err(2, Label::CNodeCopy, &[w.next_slot, 64, top, 64, 15], &[2], Error::IllegalOperation, &[]);
    w.revoke(ut);
    assert_eq!(w.identify(top), 0);
    let s = w.slot();
    w.ok(ut, RETYPE, &[0, 18, 0, 0, s, 1], &[2]);
}

#[test]
fn nodes_that_hold_themselves() {
    let mut w = World::new();
    let ut = w.make(ObjectType::Untyped, 14);
    for at in [0, 1, 3] {
        let node = w.slot();
        w.ok(ut, RETYPE, &[ObjectType::CNode.raw(), 2, 0, 0, node, 1], &[2]);
        w.ok(node, Label::CNodeCopy, &[at, 2, 1, 64, 15], &[2]);
        w.ok(node, Label::CNodeDelete, &[at, 2], &[]);
        // The node's only capability moves into the node itself.
        w.ok(node, Label::CNodeCopy, &[at, 2, node, 64, 15], &[2]);
        w.delete(node);
        w.revoke(ut);
        let s = w.slot();
        w.ok(ut, RETYPE, &[0, 14, 0, 0, s, 1], &[2]);
        w.delete(s);
    }
}

#[test]
fn nodes_that_hold_each_other() {
    let mut w = World::new();
    let ut = w.make(ObjectType::Untyped, 14);
    let (a, b) = (w.slot(), w.slot());
    w.ok(ut, RETYPE, &[ObjectType::CNode.raw(), 2, 0, 0, a, 2], &[2]);
    for at in 0..4 {
        w.ok(a, Label::CNodeCopy, &[at, 2, b, 64, 15], &[2]);
        w.ok(b, Label::CNodeCopy, &[at, 2, a, 64, 15], &[2]);
    }
    w.delete(a);
    w.delete(b);
    w.revoke(ut);
    let s = w.slot();
    w.ok(ut, RETYPE, &[0, 14, 0, 0, s, 1], &[2]);
}

#[test]
fn a_node_full_of_threads_and_nodes() {
    let mut w = World::new();
    let ut = w.make(ObjectType::Untyped, 17);
    let outer = w.slot();
    w.ok(ut, RETYPE, &[ObjectType::CNode.raw(), 5, 0, 0, outer, 1], &[2]);
    w.ok(ut, RETYPE, &[ObjectType::Tcb.raw(), 0, 0, 0, 0, 8], &[outer]);
    w.ok(ut, RETYPE, &[ObjectType::CNode.raw(), 2, 0, 0, 8, 8], &[outer]);
    w.ok(ut, RETYPE, &[ObjectType::Endpoint.raw(), 0, 0, 0, 16, 8], &[outer]);
    // Give a thread a CSpace that only it holds.
    let (tcb, node) = (w.slot(), w.slot());
    w.ok(2, Label::CNodeMove, &[tcb, 64, 0, 5], &[outer]);
    w.ok(2, Label::CNodeMove, &[node, 64, 8, 5], &[outer]);
    w.ok(tcb, Label::TCBSetSpace, &[CNodeData::new(0, 62).0, 0], &[w.next_slot, node, 3]);
    w.delete(node);
    w.ok(outer, Label::CNodeMove, &[0, 5, tcb, 64], &[2]);
    w.delete(outer);
    let s = w.slot();
    w.ok(ut, RETYPE, &[0, 17, 0, 0, s, 1], &[2]);
}

#[test]
fn deleting_an_endpoint_restarts_its_waiters() {
    let mut w = World::new();
    let ep = w.make(ObjectType::Endpoint, 0);
    let (a, b) = (w.spawn(20), w.spawn(10));
    w.set_root_priority(5);
    assert!(w.runs(&a));
    w.start(Syscall::Call, ep, 1, &[], &[]);
    assert!(w.runs(&b));
    w.start(Syscall::Send, ep, 1, &[], &[]);
    assert!(w.runs(&w.root));
    let svc = w.ctx(&a).fault_ip.get();
    w.delete_waking(ep);
    // Both execute their call again; the slot is empty now.
    assert!(w.runs(&a));
    assert_eq!(w.cur().elr.get(), svc);
    w.trap();
    assert_eq!(w.message(a.context).label, Error::InvalidCapability.raw());
}

#[test]
fn deleting_a_reply_with_a_waiting_caller_stops_it_and_returns_its_time() {
    let mut w = World::new();
    let ep = w.make(ObjectType::Endpoint, 0);
    let reply = w.make(ObjectType::Reply, 0);
    let (client, server) = (w.spawn(20), w.spawn(30));
    w.set_root_priority(5);
    assert!(w.runs(&server));
    w.cur().x[0].set(ep);
    w.cur().x[6].set(reply);
    w.svc(Syscall::Recv);
    assert!(w.runs(&client));
    w.start(Syscall::Call, ep, 1, &[], &[]);
    assert!(w.runs(&server));
    w.start(Syscall::Call, 2, Label::CNodeDelete.raw(), &[reply, 64], &[]);
    assert!(w.runs(&server));
    // The client is Inactive: resumed, it makes its call again.
    let svc = w.ctx(&client).fault_ip.get();
    w.start(Syscall::Call, client.tcb, Label::TCBResume.raw(), &[], &[]);
    w.start(Syscall::Call, server.tcb, Label::TCBSuspend.raw(), &[], &[]);
    assert!(w.runs(&client));
    assert_eq!(w.cur().elr.get(), svc);
}

#[test]
fn deleting_the_own_thread_leaves_the_others() {
    let mut w = World::new();
    let t = w.spawn(20);
    w.park_root(&t);
    w.start(Syscall::Call, 2, Label::CNodeDelete.raw(), &[t.tcb, 64], &[]);
    assert!(w.runs(&w.root));
    assert_eq!(w.identify(t.tcb), 0);
}

#[test]
fn deleting_a_context_stops_its_thread() {
    let mut w = World::new();
    let t = w.spawn(20);
    let ntfn = w.make(ObjectType::Notification, 0);
    w.ok(t.sc, Label::SchedContextBind, &[], &[ntfn]);
    w.delete(t.sc);
    w.set_root_priority(0);
    assert!(w.runs(&w.root), "{t:?} cannot run");
    let sc = w.make_sc(1000, 1000);
    w.ok(sc, Label::SchedContextBind, &[], &[ntfn]);
    w.start(Syscall::Call, sc, Label::SchedContextBind.raw(), &[], &[t.tcb]);
    assert!(w.runs(&t));
}

#[test]
fn revoking_memory_takes_everything_made_of_it() {
    let mut w = World::new();
    let ut = w.make(ObjectType::Untyped, 21);
    let old = w.untyped;
    w.untyped = ut;
    let ep = w.make(ObjectType::Endpoint, 0);
    let ntfn = w.make(ObjectType::Notification, 0);
    let s1 = w.spawn(20);
    let s2 = w.spawn(21);
    w.ok(s1.tcb, Label::TCBBindNotification, &[], &[ntfn]);
    w.set_root_priority(5);
    let reply = 0;
    let _ = reply;
    assert!(w.runs(&s2));
    w.start(Syscall::Call, ep, 0, &[], &[]);
    assert!(w.runs(&s1));
    w.start(Syscall::NBWait, ntfn, 0, &[], &[]);
    w.start(Syscall::Wait, ntfn, 0, &[], &[]);
    assert!(w.runs(&w.root));
    w.k.machine.pending_in.set(-1);
    w.revoke(ut);
    w.untyped = old;
    for slot in [ep, ntfn, s1.tcb, s2.tcb, s1.sc, s2.sc] {
        assert_eq!(w.identify(slot), 0);
    }
    let s = w.slot();
    w.ok(ut, RETYPE, &[0, 21, 0, 0, s, 1], &[2]);
}

#[test]
fn an_endpoint_with_many_waiters_goes_preemptibly() {
    let mut w = World::with(|c| c.root_cnode_bits = 13);
    let n = w.make(ObjectType::Notification, 0);
    let threads: Vec<Thread> = (0..150).map(|_| w.spawn(20)).collect();
    w.set_root_priority(10);
    while !w.runs(&w.root) {
        w.start(Syscall::Wait, n, 0, &[], &[]);
    }
    w.set_root_priority(30);
    // An interrupt comes while the waiters are sent off.
    w.k.machine.pending_in.set(0);
    let pc = w.cur().elr.get();
    w.start(Syscall::Call, 2, Label::CNodeDelete.raw(), &[n, 64], &[]);
    assert_eq!(w.cur().elr.get(), pc, "not done yet");
    assert_eq!(w.identify_quietly(n), CapTag::Notification.raw());
    w.k.machine.pending_in.set(-1);
    w.cur().x[7].set(Syscall::Call.raw() as u64);
    w.trap();
    assert_eq!(w.identify(n), 0);
    w.set_root_priority(10);
    assert!(threads.iter().any(|t| w.runs(t)));
}
