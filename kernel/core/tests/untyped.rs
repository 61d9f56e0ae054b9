//! Retype: every check in order, watermark, zeroing (sheet §2.4, §3.3).

mod common;

use common::*;
use kernel_core::CacheOp;
use kernel_core::abi::{CapTag, Error, Label, ObjectType};

const RETYPE: Label = Label::UntypedRetype;

fn small(w: &mut World, bits: u64) -> u64 {
    w.make(ObjectType::Untyped, bits)
}

#[test]
fn checks_come_in_order() {
    let mut w = World::new();
    let ut = small(&mut w, 12);
    let s = w.slot();
    let tcb = ObjectType::Tcb.raw();
    // Each line has also every later mistake.
    w.err(ut, Label::TCBSuspend, &[], &[], Error::IllegalOperation, &[]);
    w.err(ut, RETYPE, &[99, 99, 0, 0, 0], &[2], Error::TruncatedMessage, &[]);
    w.err(ut, RETYPE, &[99, 99, 0, 0, 0, 0], &[], Error::TruncatedMessage, &[]);
    w.err(ut, RETYPE, &[12, 99, 0, 99, 1 << 20, 0], &[2], Error::InvalidArgument, &[0]);
    w.err(ut, RETYPE, &[0, 64, 0, 99, 1 << 20, 0], &[2], Error::RangeError, &[0, 47]);
    w.err(ut, RETYPE, &[0, 48, 0, 99, 1 << 20, 0], &[2], Error::RangeError, &[0, 47]);
    w.err(ut, RETYPE, &[4, 43, 0, 99, 1 << 20, 0], &[2], Error::RangeError, &[0, 47]);
    w.err(ut, RETYPE, &[4, 0, 0, 99, 1 << 20, 0], &[2], Error::InvalidArgument, &[1]);
    w.err(ut, RETYPE, &[0, 3, 0, 99, 1 << 20, 0], &[2], Error::InvalidArgument, &[1]);
    w.err(ut, RETYPE, &[5, 6, 0, 99, 1 << 20, 0], &[2], Error::InvalidArgument, &[1]);
    w.err(ut, RETYPE, &[tcb, 0, 0, 99, 1 << 20, 0], &[2], Error::RangeError, &[1, 64]);
    w.err(ut, RETYPE, &[tcb, 0, 0, 0, 1 << 20, 0], &[ut], Error::FailedLookup, &[0, 2, 0]);
    w.err(ut, RETYPE, &[tcb, 0, ut, 64, 1 << 20, 0], &[2], Error::FailedLookup, &[0, 2, 64]);
    let slots = 1 << ROOT_BITS;
    w.err(ut, RETYPE, &[tcb, 0, 0, 0, slots, 0], &[2], Error::RangeError, &[0, slots - 1]);
    w.err(ut, RETYPE, &[tcb, 0, 0, 0, slots - 1, 0], &[2], Error::RangeError, &[1, 256]);
    w.err(ut, RETYPE, &[tcb, 0, 0, 0, slots - 1, 257], &[2], Error::RangeError, &[1, 256]);
    w.err(ut, RETYPE, &[tcb, 0, 0, 0, slots - 1, 2], &[2], Error::RangeError, &[1, 1]);
    w.err(ut, RETYPE, &[tcb, 0, 0, 0, ut, 5], &[2], Error::DeleteFirst, &[]);
    w.err(ut, RETYPE, &[tcb, 0, 0, 0, s, 3], &[2], Error::NotEnoughMemory, &[4096]);
    // The size argument of fixed-size types only has to be a shift count.
    w.ok(ut, RETYPE, &[tcb, 63, 0, 0, s, 1], &[2]);
    w.err(ut, RETYPE, &[tcb, 0, 0, 0, s + 1, 2], &[2], Error::NotEnoughMemory, &[2048]);
}

#[test]
fn device_memory_becomes_frames_and_untypeds_only() {
    let mut w = World::new();
    let info = w.bootinfo_paddr();
    let device = w.read(info + 168);
    let s = w.slot();
    w.err(device, RETYPE, &[ObjectType::Tcb.raw(), 0, 0, 0, s, 1], &[2], Error::InvalidArgument, &[1]);
    w.did();
    w.ok(device, RETYPE, &[ObjectType::SmallPage.raw(), 0, 0, 0, s, 2], &[2]);
    assert!(!w.did().iter().any(|d| matches!(d, Did::Cache(..))), "device memory is not touched");
    assert_eq!(w.ok(s + 1, Label::ARMPageGetAddress, &[], &[]), [4096]);
    let u = w.next_slot + 10;
    w.ok(device, RETYPE, &[0, 12, 0, 0, u, 1], &[2]);
    w.err(u, RETYPE, &[ObjectType::Endpoint.raw(), 0, 0, 0, u + 1, 1], &[2], Error::InvalidArgument, &[1]);
}

#[test]
fn memory_is_zeroed_when_the_last_child_is_gone() {
    let mut w = World::new();
    let ut = small(&mut w, 13);
    let (a, b) = (w.slot(), w.slot());
    let page = ObjectType::SmallPage.raw();
    w.ok(ut, RETYPE, &[page, 0, 0, 0, a, 2], &[2]);
    let (pa, pb) = (w.ok(a, Label::ARMPageGetAddress, &[], &[])[0], w.ok(b, Label::ARMPageGetAddress, &[], &[])[0]);
    assert_eq!(pb, pa + 4096);
    w.write(pa, 0xdead);
    w.write(pb + 8, 0xbeef);
    w.delete(a);
    // One child left: the watermark stays.
    w.err(ut, RETYPE, &[page, 0, 0, 0, a, 1], &[2], Error::NotEnoughMemory, &[0]);
    assert_eq!(w.read(pa), 0xdead);
    w.delete(b);
    w.did();
    w.ok(ut, RETYPE, &[page, 0, 0, 0, a, 1], &[2]);
    assert_eq!((w.read(pa), w.read(pb + 8)), (0, 0));
    assert!(w.did().contains(&Did::Cache(CacheOp::Clean, pa, 4096)));
}

#[test]
fn copies_of_untyped_fill_the_source() {
    let mut w = World::new();
    let ut = small(&mut w, 12);
    let c = w.copy(ut);
    let s = w.slot();
    let ep = ObjectType::Endpoint.raw();
    w.err(ut, RETYPE, &[ep, 0, 0, 0, s, 1], &[2], Error::NotEnoughMemory, &[0]);
    w.ok(c, RETYPE, &[ep, 0, 0, 0, s, 1], &[2]);
    w.err(2, Label::CNodeCopy, &[w.next_slot, 64, c, 64, 15], &[2], Error::RevokeFirst, &[]);
    w.revoke(ut);
    assert_eq!((w.identify(c), w.identify(s)), (0, 0));
    w.ok(ut, RETYPE, &[ep, 0, 0, 0, s, 1], &[2]);
}

#[test]
fn objects_are_aligned_to_their_size() {
    let mut w = World::new();
    let ut = small(&mut w, 14);
    let (a, b, c) = (w.slot(), w.slot(), w.slot());
    w.ok(ut, RETYPE, &[ObjectType::Endpoint.raw(), 0, 0, 0, a, 1], &[2]);
    w.ok(ut, RETYPE, &[ObjectType::SmallPage.raw(), 0, 0, 0, b, 1], &[2]);
    let p = w.ok(b, Label::ARMPageGetAddress, &[], &[])[0];
    assert!(p.is_multiple_of(4096));
    w.ok(ut, RETYPE, &[0, 13, 0, 0, c, 1], &[2]);
    w.err(ut, RETYPE, &[0, 4, 0, 0, w.next_slot, 1], &[2], Error::NotEnoughMemory, &[0]);
}

#[test]
fn a_long_reset_is_preempted_and_goes_on() {
    let mut w = World::new();
    let ut = small(&mut w, 20);
    let s = w.slot();
    w.ok(ut, RETYPE, &[ObjectType::LargePage.raw() - 1, 0, 0, 0, s, 200], &[2]);
    for i in 0..200 {
        w.delete(s + i);
    }
    // An interrupt at the third look: the call is made several times before it is done.
    w.k.machine.pending_in.set(2);
    let root = w.root;
    let pc = w.cur().elr.get();
    w.start(kernel_core::abi::Syscall::Call, ut, RETYPE.raw(), &[9, 0, 0, 0, s, 1], &[2]);
    assert_eq!(w.cur().elr.get(), pc, "restarts at the svc");
    assert!(w.runs(&root));
    let mut tries = 1;
    while w.cur().elr.get() == pc {
        w.k.machine.pending_in.set(2);
        w.trap();
        tries += 1;
    }
    assert!(tries > 5, "{tries}");
    assert_eq!(w.message(root.context).label, 0);
    assert_eq!(w.identify(s), CapTag::Frame.raw());
}

#[test]
fn every_type_can_be_made() {
    let mut w = World::new();
    for (kind, bits, tag) in [
        (ObjectType::Untyped, 4, CapTag::Untyped),
        (ObjectType::Tcb, 0, CapTag::Tcb),
        (ObjectType::Endpoint, 0, CapTag::Endpoint),
        (ObjectType::Notification, 0, CapTag::Notification),
        (ObjectType::CNode, 1, CapTag::CNode),
        (ObjectType::SchedContext, 7, CapTag::SchedContext),
        (ObjectType::Reply, 0, CapTag::Reply),
        (ObjectType::VSpace, 0, CapTag::VSpace),
        (ObjectType::SmallPage, 0, CapTag::Frame),
        (ObjectType::LargePage, 0, CapTag::Frame),
        (ObjectType::PageTable, 0, CapTag::PageTable),
    ] {
        let slot = w.make(kind, bits);
        assert_eq!(w.identify(slot), tag.raw(), "{kind:?}");
        w.delete(slot);
        assert_eq!(w.identify(slot), 0);
    }
}
