//! Messages, capabilities in messages, replies, donation, notifications (sheet §7).

mod common;

use common::*;
use kernel_core::abi::{Label, MessageInfo, ObjectType, Syscall};

/// A server at priority 200 that waits on `ep` with a reply object.
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

#[test]
fn call_and_reply_carry_the_message() {
    let mut w = World::new();
    let ep = w.make(ObjectType::Endpoint, 0);
    let s = server(&mut w, ep, 200);
    let client_ep = w.mint(ep, 15, 77);
    // The server waits, root runs again.
    assert!(w.runs(&w.root));
    let root = w.root;
    w.start(Syscall::Call, client_ep, 0x123, &[1, 2, 3, 4, 5, 6], &[]);
    // Lower priority receiver: root is blocked, the server runs.
    assert!(w.runs(&s.t));
    let m = w.message(s.t.context);
    assert_eq!((m.badge, m.label, m.words), (77, 0x123, vec![1, 2, 3, 4, 5, 6]));
    reply_recv(&mut w, ep, s.reply, 9, &[10, 11, 12, 13, 14]);
    assert!(w.runs(&root));
    let m = w.message(root.context);
    assert_eq!((m.badge, m.label, m.words), (0, 9, vec![10, 11, 12, 13, 14]));
}

#[test]
fn passive_server_runs_on_the_callers_time() {
    let mut w = World::new();
    let ep = w.make(ObjectType::Endpoint, 0);
    let s = server(&mut w, ep, 200);
    w.ok(s.t.sc, Label::SchedContextUnbindObject, &[], &[s.t.tcb]);
    let root = w.root;
    w.start(Syscall::Call, ep, 1, &[5], &[]);
    assert!(w.runs(&s.t), "on root's context");
    reply_recv(&mut w, ep, s.reply, 0, &[6]);
    assert!(w.runs(&root));
    assert_eq!(w.message(root.context).words, vec![6]);
    // Root has its own context back and can still run.
    w.pass(us(1000));
    assert!(w.runs(&root));
}
