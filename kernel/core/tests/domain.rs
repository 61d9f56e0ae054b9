//! Domains (sheet §3.7, §8.8).

mod common;

use common::*;
use kernel_core::abi::{Error, Label, Syscall};

const SET: Label = Label::DomainSetSet;
const CONFIGURE: Label = Label::DomainScheduleConfigure;
const START: Label = Label::DomainScheduleSetStart;
const DOMAIN: u64 = 11;

#[test]
fn one_domain() {
    let mut w = World::new();
    w.err(DOMAIN, Label::TCBSuspend, &[], &[], Error::IllegalOperation, &[]);
    w.err(DOMAIN, SET, &[], &[1], Error::TruncatedMessage, &[]);
    w.err(DOMAIN, SET, &[1], &[], Error::InvalidArgument, &[0]);
    w.err(DOMAIN, SET, &[0], &[], Error::TruncatedMessage, &[]);
    w.err(DOMAIN, SET, &[0], &[2], Error::InvalidArgument, &[1]);
    w.ok(DOMAIN, SET, &[0], &[1]);
    w.err(DOMAIN, CONFIGURE, &[0, 0], &[], Error::TruncatedMessage, &[]);
    w.err(DOMAIN, CONFIGURE, &[1, 0, 1], &[], Error::RangeError, &[0, 0]);
    w.err(DOMAIN, CONFIGURE, &[0, 1, 1], &[], Error::RangeError, &[0, 0]);
    w.err(DOMAIN, CONFIGURE, &[0, 0, 1 << 56], &[], Error::InvalidArgument, &[2]);
    w.err(DOMAIN, CONFIGURE, &[0, 0, 0], &[], Error::InvalidArgument, &[2]);
    w.ok(DOMAIN, CONFIGURE, &[0, 0, 5], &[]);
    w.err(DOMAIN, START, &[], &[], Error::TruncatedMessage, &[]);
    w.err(DOMAIN, START, &[2], &[], Error::RangeError, &[0, 1]);
    w.err(DOMAIN, START, &[1], &[], Error::InvalidArgument, &[0]);
    w.ok(DOMAIN, START, &[0], &[]);
    w.pass(us(4_000));
    assert!(w.runs(&w.root), "with one domain no domain time is counted");
}

#[test]
fn several_domains_take_turns() {
    let mut w = World::with(|c| c.num_domains = 4);
    w.err(DOMAIN, CONFIGURE, &[99, 0, 1], &[], Error::RangeError, &[0, 98]);
    w.err(DOMAIN, CONFIGURE, &[0, 4, 1], &[], Error::RangeError, &[0, 3]);
    w.err(DOMAIN, CONFIGURE, &[1, 1, 0], &[], Error::InvalidArgument, &[1]);
    let t = w.spawn(5);
    let u = w.spawn(5);
    w.ok(DOMAIN, SET, &[1], &[t.tcb]);
    w.ok(DOMAIN, SET, &[2], &[u.tcb]);
    w.set_root_priority(0);
    assert!(w.runs(&w.root), "only threads of the current domain run");
    w.ok(DOMAIN, CONFIGURE, &[1, 1, us(2_000)], &[]);
    w.ok(DOMAIN, CONFIGURE, &[2, 2, us(3_000)], &[]);
    w.ok(DOMAIN, CONFIGURE, &[3, 3, us(500)], &[]);
    w.ok(DOMAIN, CONFIGURE, &[0, 0, us(1_000)], &[]);
    w.start(Syscall::Call, DOMAIN, START.raw(), &[1], &[]);
    assert!(w.runs(&t));
    w.pass(us(1_998));
    assert!(w.runs(&t));
    w.pass(us(2));
    assert!(w.runs(&u));
    w.pass(us(3_000));
    assert!(w.running().is_none(), "nobody lives in domain 3");
    w.pass(us(500));
    assert!(w.runs(&t), "wraps to the start entry, 1");
    // Threads inherit their maker's current domain.
    w.pass(us(1_000));
    w.start(Syscall::Call, DOMAIN, START.raw(), &[0], &[]);
    assert!(w.runs(&w.root));
    w.pass(us(1_000));
    assert!(w.runs(&t));
}

#[test]
fn a_thread_moves_itself_out_of_the_current_domain() {
    let mut w = World::with(|c| c.num_domains = 2);
    let t = w.spawn(5);
    w.ok(DOMAIN, CONFIGURE, &[0, 0, us(1_000)], &[]);
    w.ok(DOMAIN, CONFIGURE, &[1, 1, us(1_000)], &[]);
    w.ok(DOMAIN, START, &[0], &[]);
    w.start(Syscall::Call, DOMAIN, SET.raw(), &[1], &[1]);
    assert!(w.runs(&t));
    w.pass(us(1_000));
    assert!(w.runs(&w.root));
    assert_eq!(w.message(w.root.context).label, 0);
}
