//! Messages, capabilities in messages, replies, donation, notifications (sheet §1.5, §7).

mod common;

use common::*;
use kernel_core::abi::{CapTag, Error, Label, MessageInfo, ObjectType, Syscall};

/// A server at its priority that waits on `ep` with its reply object.
struct Server {
    t: Thread,
    reply: u64,
}

fn server(w: &mut World, ep: u64, priority: u64) -> Server {
    let t = w.spawn(priority);
    let reply = w.make(ObjectType::Reply, 0);
    w.park_root(&t);
    recv(w, ep, reply);
    Server { t, reply }
}

fn recv(w: &mut World, ep: u64, reply: u64) {
    w.cur().x[0].set(ep);
    w.cur().x[6].set(reply);
    w.svc(Syscall::Recv);
}

fn reply_recv(w: &mut World, ep: u64, reply: u64, label: u64, words: &[u64]) {
    w.put_message(words, &[]);
    w.cur().x[0].set(ep);
    w.cur().x[1].set(MessageInfo::new(label, 0, 0, words.len()).0);
    w.cur().x[6].set(reply);
    w.svc(Syscall::ReplyRecv);
}

/// Makes the server passive.
fn passive(w: &mut World, s: &Server) {
    w.ok(s.t.sc, Label::SchedContextUnbindObject, &[], &[s.t.tcb]);
}

#[test]
fn call_and_reply_carry_the_message() {
    let mut w = World::new();
    let ep = w.make(ObjectType::Endpoint, 0);
    let s = server(&mut w, ep, 200);
    let client_ep = w.mint(ep, 15, 77);
    let root = w.root;
    assert!(w.runs(&root));
    w.start(Syscall::Call, client_ep, 0x123, &[1, 2, 3, 4, 5, 6], &[]);
    assert!(w.runs(&s.t));
    let m = w.message(s.t.context);
    assert_eq!((m.badge, m.label, m.words), (77, 0x123, vec![1, 2, 3, 4, 5, 6]));
    reply_recv(&mut w, ep, s.reply, 9, &[10, 11, 12, 13, 14]);
    assert!(w.runs(&root));
    let m = w.message(root.context);
    assert_eq!((m.badge, m.label, m.words), (0, 9, vec![10, 11, 12, 13, 14]));
}

#[test]
fn registers_that_carry_nothing_keep_their_values() {
    let mut w = World::new();
    let ep = w.make(ObjectType::Endpoint, 0);
    let s = server(&mut w, ep, 200);
    for i in 2..31 {
        w.ctx(&s.t).x[i].set(0x9000 + i as u64);
    }
    let before: Vec<u64> = w.cur().x.iter().map(|x| x.get()).collect();
    w.start(Syscall::Send, ep, 1, &[0xa, 0xb], &[]);
    assert!(w.runs(&s.t));
    let c = w.ctx(&s.t);
    assert_eq!([2, 3, 4, 5, 6].map(|i| c.x[i].get()), [0xa, 0xb, 0x9004, 0x9005, 0x9006]);
    assert!((7..31).all(|i| c.x[i].get() == 0x9000 + i as u64));
    let root = w.ctx(&w.root);
    assert!((8..31).all(|i| root.x[i].get() == before[i]), "the sender's registers stay");
    assert_eq!((root.x[0].get(), root.x[1].get()), (ep, MessageInfo::new(1, 0, 0, 2).0));
}

#[test]
fn the_largest_message_and_clamping() {
    let mut w = World::new();
    let ep = w.make(ObjectType::Endpoint, 0);
    let s = server(&mut w, ep, 200);
    let words: Vec<u64> = (0..120).map(|i| i * 3).collect();
    w.put_message(&words, &[]);
    w.cur().x[0].set(ep);
    w.cur().x[1].set(127);
    w.svc(Syscall::Send);
    assert_eq!(w.message(s.t.context).words, words);
}

#[test]
fn without_a_buffer_four_words_arrive() {
    let mut w = World::new();
    let ep = w.make(ObjectType::Endpoint, 0);
    let s = server(&mut w, ep, 200);
    w.ok(s.t.tcb, Label::TCBSetIPCBuffer, &[0], &[10]);
    let extra = w.mint(ep, 15, 1);
    w.start(Syscall::Send, ep, 5, &[1, 2, 3, 4, 5, 6], &[extra]);
    assert!(w.runs(&s.t));
    let c = w.cur();
    assert_eq!(MessageInfo(c.x[1].get()), MessageInfo::new(5, 0, 0, 4));
    // A read-only buffer sends but does not receive.
    let mut w = World::new();
    let ep = w.make(ObjectType::Endpoint, 0);
    let s = server(&mut w, ep, 200);
    let read_only = w.mint(s.t.buffer, 2, 0);
    w.ok(s.t.tcb, Label::TCBSetIPCBuffer, &[BUFFER_VADDR], &[read_only]);
    w.start(Syscall::Send, ep, 5, &[1, 2, 3, 4, 5], &[]);
    assert_eq!(MessageInfo(w.cur().x[1].get()), MessageInfo::new(5, 0, 0, 4));
    w.put_message(&[9, 8, 7, 6, 5], &[]);
    w.cur().x[0].set(1);
    w.cur().x[1].set(MessageInfo::new(Label::TCBWriteRegisters.raw(), 0, 0, 5).0);
    w.svc(Syscall::Call);
    // Its own registers cannot be written; but the length was accepted (5 - 2 >= 8 fails first as truncated).
    assert_eq!(w.message(s.t.context).label, Error::TruncatedMessage.raw());
}

#[test]
fn a_buffer_may_lie_anywhere_in_its_frame() {
    let mut w = World::new();
    let ep = w.make(ObjectType::Endpoint, 0);
    let s = server(&mut w, ep, 200);
    w.ok(s.t.tcb, Label::TCBSetIPCBuffer, &[BUFFER_VADDR + 0xC00], &[s.t.buffer]);
    w.start(Syscall::Send, ep, 5, &[1, 2, 3, 4, 0x55], &[]);
    assert!(w.runs(&s.t));
    assert_eq!(w.read(s.t.buffer_paddr + 0xC00 + 8 + 32), 0x55);
}

#[test]
fn queues_are_by_priority_then_first_come() {
    let mut w = World::new();
    let ep = w.make(ObjectType::Endpoint, 0);
    let order = [20, 40, 30, 40];
    let threads: Vec<Thread> = order.iter().map(|p| w.spawn(*p)).collect();
    w.set_root_priority(5);
    // Each runs by priority and blocks sending its number; of the equals the one woken last comes first.
    while !w.runs(&w.root) {
        let n = threads.iter().position(|t| w.runs(t)).unwrap() as u64;
        w.start(Syscall::Send, ep, 0, &[n], &[]);
    }
    // A priority change re-inserts: thread 0 becomes the highest.
    w.ok(threads[0].tcb, Label::TCBSetPriority, &[50], &[1]);
    w.set_root_priority(200);
    let mut got = Vec::new();
    for _ in 0..4 {
        w.start(Syscall::NBWait, ep, 0, &[], &[]);
        got.push(w.cur().x[2].get());
    }
    assert_eq!(got[0], 0);
    assert_eq!(got[3], 2);
    let mut equals = [got[1], got[2]];
    equals.sort_unstable();
    assert_eq!(equals, [1, 3]);
    w.start(Syscall::NBWait, ep, 0, &[], &[]);
    assert_eq!(w.cur().x[0].get(), 0, "nothing left");
}

#[test]
fn capabilities_travel() {
    let mut w = World::new();
    let (ep, ep2) = (w.make(ObjectType::Endpoint, 0), w.make(ObjectType::Endpoint, 0));
    let n = w.make(ObjectType::Notification, 0);
    let s = server(&mut w, ep, 200);
    let b7 = w.mint(ep, 15, 7);
    let b8 = w.mint(ep, 15, 8);
    let empty = w.slot();
    let dest = w.slot();
    let path = |w: &World, slot: u64| {
        for (i, word) in [2, slot, 64].into_iter().enumerate() {
            w.write(s.t.buffer_paddr + 1000 + 8 * i as u64, word);
        }
    };
    let send = |w: &mut World, through: u64, caps: &[u64]| -> MessageInfo {
        for i in 0..3 {
            w.write(s.t.buffer_paddr + 976 + 8 * i, 0xEEEE);
        }
        w.start(Syscall::Send, through, 1, &[], caps);
        assert!(w.runs(&s.t));
        let info = MessageInfo(w.cur().x[1].get());
        recv(w, ep, s.reply);
        info
    };
    let got = |info: MessageInfo| (info.extra_caps(), info.caps_unwrapped());
    path(&w, dest);
    let untyped = w.untyped;
    let badge = |w: &World, i: u64| w.read(s.t.buffer_paddr + 976 + 8 * i);
    assert_eq!(got(send(&mut w, ep, &[b7, n, b8])), (3, 5));
    assert_eq!((badge(&w, 0), badge(&w, 1), badge(&w, 2)), (7, 0xEEEE, 8));
    assert_eq!(w.identify(dest), CapTag::Notification.raw());
    // The slot is occupied now: nothing but badges passes.
    assert_eq!(got(send(&mut w, ep, &[n])), (0, 0));
    assert_eq!(got(send(&mut w, ep, &[b7, n])), (1, 1));
    w.delete(dest);
    // One slot only.
    assert_eq!(got(send(&mut w, ep, &[n, ep2, b7])), (1, 0));
    w.delete(dest);
    // Nothing to pass: an empty slot, something that cannot be derived.
    assert_eq!(got(send(&mut w, ep, &[empty])), (0, 0));
    assert_eq!(got(send(&mut w, ep, &[4])), (0, 0));
    assert_eq!(got(send(&mut w, ep, &[untyped])), (0, 0));
    // Without Grant nothing passes, without a path either.
    let no_grant = w.mint(ep, 9, 0);
    assert_eq!(got(send(&mut w, no_grant, &[b7, n])), (0, 0));
    path(&w, 1);
    assert_eq!(got(send(&mut w, ep, &[n])), (0, 0));
    // What arrived is a child of what was sent.
    path(&w, dest);
    send(&mut w, ep, &[n]);
    w.revoke(n);
    assert_eq!(w.identify(dest), 0);
}

#[test]
fn replies_carry_capabilities_only_with_grant() {
    for grant in [true, false] {
        let mut w = World::new();
        let ep = w.make(ObjectType::Endpoint, 0);
        let s = server(&mut w, ep, 200);
        let reply = if grant { s.reply } else { w.mint(s.reply, 0, 0) };
        let n = w.make(ObjectType::Notification, 0);
        let dest = w.slot();
        let root = w.root;
        for (i, word) in [2, dest, 64].into_iter().enumerate() {
            w.write(root.buffer_paddr + 1000 + 8 * i as u64, word);
        }
        w.start(Syscall::Call, ep, 1, &[], &[]);
        assert!(w.runs(&s.t));
        w.start(Syscall::Send, reply, 0, &[1], &[n]);
        w.start(Syscall::Wait, ep, 0, &[], &[]);
        assert!(w.runs(&root));
        assert_eq!(MessageInfo(w.cur().x[1].get()).extra_caps(), usize::from(grant));
        assert_eq!(w.identify(dest) != 0, grant);
    }
}

#[test]
fn call_without_the_right_to_a_reply_stops_the_caller() {
    let mut w = World::new();
    let ep = w.make(ObjectType::Endpoint, 0);
    let s = server(&mut w, ep, 200);
    let plain = w.mint(ep, 1, 0);
    let t = w.spawn(100);
    w.park_root(&t);
    w.start(Syscall::Call, plain, 1, &[5], &[]);
    assert!(w.runs(&s.t));
    assert_eq!(w.message(s.t.context).words, [5]);
    // Replying does nothing and succeeds.
    w.start(Syscall::Call, s.reply, 0, &[6], &[]);
    assert_eq!(w.message(s.t.context).label, 0);
    recv(&mut w, ep, s.reply);
    assert!(w.runs(&w.root), "{t:?} is inactive");
    // So does calling a receiver without a reply object.
    let mut w = World::new();
    let ep = w.make(ObjectType::Endpoint, 0);
    let (a, b) = (w.spawn(100), w.spawn(200));
    w.set_root_priority(1);
    assert!(w.runs(&b));
    w.start(Syscall::Wait, ep, 0, &[], &[]);
    assert!(w.runs(&a));
    w.start(Syscall::Call, ep, 1, &[5], &[]);
    assert!(w.runs(&b));
    w.start(Syscall::Wait, ep, 0, &[], &[]);
    assert!(w.runs(&w.root));
}

#[test]
fn passive_server_runs_on_the_callers_time() {
    let mut w = World::new();
    let ep = w.make(ObjectType::Endpoint, 0);
    let s = server(&mut w, ep, 200);
    passive(&mut w, &s);
    let root = w.root;
    w.start(Syscall::Call, ep, 1, &[5], &[]);
    assert!(w.runs(&s.t), "on root's context");
    reply_recv(&mut w, ep, s.reply, 0, &[6]);
    assert!(w.runs(&root));
    assert_eq!(w.message(root.context).words, vec![6]);
    w.pass(us(1000));
    assert!(w.runs(&root), "root has its context back");
    // A plain Send gives the passive server its message, but no time.
    w.start(Syscall::Send, ep, 1, &[7], &[]);
    assert!(w.runs(&root));
    assert_eq!(w.message(s.t.context).words, [7]);
    w.ok(s.t.sc, Label::SchedContextBind, &[], &[s.t.tcb]);
    assert!(w.running().is_some());
}

#[test]
fn a_chain_of_calls_gives_the_time_back_step_by_step() {
    let mut w = World::new();
    let (ep1, ep2) = (w.make(ObjectType::Endpoint, 0), w.make(ObjectType::Endpoint, 0));
    let s1 = server(&mut w, ep1, 200);
    let s2 = server(&mut w, ep2, 200);
    passive(&mut w, &s1);
    passive(&mut w, &s2);
    let root = w.root;
    w.start(Syscall::Call, ep1, 1, &[1], &[]);
    assert!(w.runs(&s1.t));
    w.start(Syscall::Call, ep2, 2, &[2], &[]);
    assert!(w.runs(&s2.t));
    w.pass(us(100));
    reply_recv(&mut w, ep2, s2.reply, 0, &[3]);
    assert!(w.runs(&s1.t));
    assert_eq!(w.message(s1.t.context).words, [3]);
    reply_recv(&mut w, ep1, s1.reply, 0, &[4]);
    assert!(w.runs(&root));
    assert_eq!(w.message(root.context).words, [4]);
}

#[test]
fn a_broken_chain_stops_the_flow_of_time() {
    // Root -> s1 -> s2; s1's reply object is deleted while s2 runs on root's time.
    let mut w = World::new();
    let (ep1, ep2) = (w.make(ObjectType::Endpoint, 0), w.make(ObjectType::Endpoint, 0));
    let s1 = server(&mut w, ep1, 200);
    let s2 = server(&mut w, ep2, 200);
    passive(&mut w, &s1);
    passive(&mut w, &s2);
    let client = w.spawn(100);
    w.park_root(&client);
    w.start(Syscall::Call, ep1, 1, &[1], &[]);
    w.start(Syscall::Call, ep2, 2, &[2], &[]);
    assert!(w.runs(&s2.t));
    // The client's reply: it stops, and the context will not come back to it.
    w.delete_waking(s1.reply);
    assert!(w.runs(&s2.t));
    reply_recv(&mut w, ep2, s2.reply, 0, &[3]);
    assert!(w.runs(&s1.t), "the head of the chain still returns it");
    w.start(Syscall::Wait, ep1, 0, &[], &[]);
    assert!(w.runs(&w.root));
}

#[test]
fn a_reply_object_in_use_is_taken_from_the_old_caller() {
    let mut w = World::new();
    let ep = w.make(ObjectType::Endpoint, 0);
    let s = server(&mut w, ep, 200);
    let client = w.spawn(100);
    w.park_root(&client);
    w.start(Syscall::Call, ep, 1, &[1], &[]);
    assert!(w.runs(&s.t));
    // Receiving again with the same object, without replying: the client becomes Inactive.
    recv(&mut w, ep, s.reply);
    assert!(w.runs(&w.root));
    w.start(Syscall::Send, s.reply, 0, &[], &[]);
    assert!(w.runs(&w.root));
    // An object armed by one thread and used by another ends the first one's wait.
    let t = w.spawn(150);
    w.set_root_priority(0);
    assert!(w.runs(&t));
    recv(&mut w, ep, s.reply);
    w.start(Syscall::Send, ep, 0, &[42], &[]);
    assert!(w.runs(&t));
    assert_eq!(w.message(t.context).words, [42]);
}

#[test]
fn send_halves() {
    let mut w = World::new();
    let ep = w.make(ObjectType::Endpoint, 0);
    let n = w.make(ObjectType::Notification, 0);
    let s = server(&mut w, ep, 200);
    passive(&mut w, &s);
    let t = w.spawn(100);
    w.park_root(&t);
    // NBSendWait to the passive server: it gets the context.
    w.put_message(&[5], &[]);
    w.cur().x[0].set(n);
    w.cur().x[1].set(MessageInfo::new(3, 0, 0, 1).0);
    w.cur().x[6].set(ep);
    w.svc(Syscall::NBSendWait);
    assert!(w.runs(&s.t));
    assert_eq!(w.message(s.t.context).words, [5]);
    // NBSendRecv to nobody is dropped; receiving goes on.
    w.cur().x[8].set(ep);
    w.cur().x[0].set(ep);
    w.cur().x[1].set(MessageInfo::new(3, 0, 0, 1).0);
    w.cur().x[6].set(s.reply);
    w.svc(Syscall::NBSendRecv);
    assert!(w.runs(&w.root));
    // Barred capabilities do nothing in a send half.
    let u = w.spawn(100);
    w.park_root(&u);
    w.cur().x[0].set(n);
    w.cur().x[1].set(MessageInfo::new(Label::CNodeDelete.raw(), 0, 0, 2).0);
    w.cur().x[2].set(u.sc);
    w.cur().x[3].set(64);
    w.cur().x[6].set(2);
    w.svc(Syscall::NBSendWait);
    assert!(w.runs(&w.root));
    assert_ne!(w.identify(u.sc), 0);
}

#[test]
fn notifications_collect_and_wake() {
    let mut w = World::new();
    let n = w.make(ObjectType::Notification, 0);
    let (b1, b2) = (w.mint(n, 1, 1), w.mint(n, 1, 2));
    w.ok(b1, Label::InvalidInvocation, &[], &[]);
    w.start(Syscall::Send, b2, 0, &[], &[]);
    for i in 1..6 {
        w.cur().x[i].set(0x40 + i as u64);
    }
    w.cur().x[0].set(n);
    w.svc(Syscall::Wait);
    assert_eq!([0, 1, 2, 3, 4, 5].map(|i| w.cur().x[i].get()), [3, 0x41, 0x42, 0x43, 0x44, 0x45]);
    w.cur().x[0].set(n);
    w.svc(Syscall::NBWait);
    assert_eq!(w.cur().x[0].get(), 0);
    // A waiter gets the badge of the signal that wakes it.
    let t = w.spawn(250);
    w.set_root_priority(100);
    w.start(Syscall::Wait, n, 0, &[], &[]);
    assert!(w.runs(&w.root));
    w.start(Syscall::Send, b2, 0, &[], &[]);
    assert!(w.runs(&t));
    assert_eq!(w.cur().x[0].get(), 2);
    // Without Write it cannot be signalled; without Read it cannot be waited on.
    w.start(Syscall::Call, b2, 0, &[], &[]);
    let read_only = w.mint(n, 2, 0);
    w.err(read_only, Label::InvalidInvocation, &[], &[], Error::InvalidCapability, &[0]);
}

#[test]
fn a_bound_notification_interrupts_a_receive() {
    let mut w = World::new();
    let (n, ep) = (w.make(ObjectType::Notification, 0), w.make(ObjectType::Endpoint, 0));
    let b = w.mint(n, 1, 0x10);
    let s = server(&mut w, ep, 200);
    w.ok(s.t.tcb, Label::TCBBindNotification, &[], &[n]);
    w.ctx(&s.t).x[1].set(0x77);
    w.start(Syscall::Send, b, 0, &[], &[]);
    assert!(w.runs(&s.t));
    assert_eq!((w.cur().x[0].get(), w.cur().x[1].get()), (0x10, 0x77));
    // Active before the receive: returned before any message.
    w.start(Syscall::Send, b, 0, &[], &[]);
    recv(&mut w, ep, s.reply);
    assert!(w.runs(&s.t));
    assert_eq!(w.cur().x[0].get(), 0x10);
    // Not while it waits for a reply.
    let ep2 = w.make(ObjectType::Endpoint, 0);
    w.start(Syscall::Call, ep2, 0, &[], &[]);
    assert!(w.runs(&w.root));
    w.start(Syscall::Send, b, 0, &[], &[]);
    assert!(w.runs(&w.root));
}

#[test]
fn a_notification_lends_its_context() {
    let mut w = World::new();
    let (n, ep) = (w.make(ObjectType::Notification, 0), w.make(ObjectType::Endpoint, 0));
    let s = server(&mut w, ep, 200);
    let sc = s.t.sc;
    w.ok(s.t.tcb, Label::TCBBindNotification, &[], &[n]);
    w.ok(sc, Label::SchedContextUnbindObject, &[], &[s.t.tcb]);
    w.ok(sc, Label::SchedContextBind, &[], &[n]);
    w.err(sc, Label::SchedContextBind, &[], &[n], Error::IllegalOperation, &[]);
    w.start(Syscall::Send, n, 0, &[], &[]);
    assert!(w.runs(&s.t), "runs on the notification's context");
    // A blocking receive gives it back: a second signal lends it again.
    recv(&mut w, ep, s.reply);
    assert!(w.runs(&w.root));
    w.start(Syscall::Send, n, 0, &[], &[]);
    assert!(w.runs(&s.t));
    w.start(Syscall::Wait, n, 0, &[], &[]);
    assert!(w.runs(&w.root));
    w.start(Syscall::Send, n, 0, &[], &[]);
    assert!(w.runs(&s.t));
    recv(&mut w, ep, s.reply);
    // A caller's message runs on the caller's own time.
    w.start(Syscall::Call, ep, 0, &[9], &[]);
    assert!(w.runs(&s.t));
    assert_eq!(w.message(s.t.context).words, [9]);
}

#[test]
fn cancel_badged_sends_restarts_only_that_badge() {
    let mut w = World::new();
    let ep = w.make(ObjectType::Endpoint, 0);
    let (b1, b2) = (w.mint(ep, 15, 1), w.mint(ep, 15, 2));
    let (x, y) = (w.spawn(20), w.spawn(21));
    w.set_root_priority(10);
    w.start(Syscall::Send, b2, 0, &[], &[]);
    w.start(Syscall::Send, b1, 0, &[], &[]);
    assert!(w.runs(&w.root));
    let svc = w.ctx(&x).fault_ip.get();
    w.start(Syscall::Call, 2, Label::CNodeCancelBadgedSends.raw(), &[b1, 64], &[]);
    assert!(w.runs(&x));
    assert_eq!(w.cur().elr.get(), svc);
    w.trap();
    assert!(w.runs(&w.root));
    let _ = y;
}

#[test]
fn bad_capabilities() {
    // A failed walk is a fault for blocking sends and all receives, nothing for non-blocking sends.
    let out = 1 << 40;
    let root_goes_on = |w: &World| w.runs(&w.root);
    let mut w = World::new();
    w.start(Syscall::NBSend, out, 0, &[], &[]);
    assert!(root_goes_on(&w));
    w.start(Syscall::Send, out, 0, &[], &[]);
    assert!(w.running().is_none());
    assert!(w.k.machine.out.contains("CapFault"));
    for call in [Syscall::Recv, Syscall::NBRecv, Syscall::Wait, Syscall::NBWait] {
        for cptr in [out, 1, 0] {
            let mut w = World::new();
            w.start(call, cptr, 0, &[], &[]);
            assert!(w.running().is_none(), "{call:?} {cptr}");
        }
    }
    // An empty slot is not a lookup failure.
    let mut w = World::new();
    w.err(0, Label::TCBSuspend, &[], &[], Error::InvalidCapability, &[0]);
    w.start(Syscall::Send, 0, 0, &[], &[]);
    assert!(root_goes_on(&w));
    // A bad extra capability in a blocking send.
    w.start(Syscall::NBSend, 1, Label::TCBSetPriority.raw(), &[1], &[out]);
    assert!(root_goes_on(&w));
    w.start(Syscall::Call, 1, Label::TCBSetPriority.raw(), &[1], &[out]);
    assert!(w.running().is_none());
    // The reply capability of a receive.
    let mut w = World::new();
    let ep = w.make(ObjectType::Endpoint, 0);
    w.cur().x[6].set(ep);
    w.start(Syscall::NBRecv, ep, 0, &[], &[]);
    assert!(w.running().is_none());
    // ... is not looked at on a notification.
    let mut w = World::new();
    let n = w.make(ObjectType::Notification, 0);
    w.cur().x[6].set(out);
    w.start(Syscall::NBRecv, n, 0, &[], &[]);
    assert!(root_goes_on(&w));
}
