//! CNode operations: lookups, error order, derivation (sheet §3.5, §5).

mod common;

use common::*;
use kernel_core::abi::{CNodeData, CapTag, Error, Label, ObjectType};

const FREE: u64 = 3000;
const GUARD: u64 = 64 - ROOT_BITS as u64;

fn frame(w: &mut World) -> u64 {
    w.make(ObjectType::SmallPage, 0)
}

#[test]
fn lookups_fail_as_told() {
    let mut w = World::new();
    let e = Error::FailedLookup;
    // Depth shorter than guard + radix; the guard found is 0 of GUARD bits.
    w.err(2, Label::CNodeDelete, &[0, 13], &[], e, &[0, 4, 13, 0, GUARD]);
    w.err(2, Label::CNodeDelete, &[0, GUARD], &[], e, &[0, 3, GUARD, 64]);
    w.err(2, Label::CNodeDelete, &[1 << 60, 64], &[], e, &[0, 4, 64, 0, GUARD]);
    w.err(2, Label::CNodeDelete, &[0, 0], &[], Error::RangeError, &[1, 64]);
    w.err(2, Label::CNodeDelete, &[0, 65], &[], Error::RangeError, &[1, 64]);
    // A second level: 4 slots, no guard, reached with 2 bits more.
    let node = w.make(ObjectType::CNode, 2);
    let short = w.slot();
    w.ok(2, Label::CNodeMint, &[short, 64, 2, 64, 15, CNodeData::new(0, 64 - 2 - ROOT_BITS).0], &[2]);
    let under = (node << 2) | 3;
    w.ok(2, Label::CNodeCopy, &[FREE, 64, 9, 64, 15], &[2]);
    w.ok(short, Label::CNodeCopy, &[under, 64, FREE, 64, 15], &[2]);
    w.ok(short, Label::CNodeDelete, &[under, 64], &[]);
    // Bits left over at a slot that is no CNode are an error here.
    w.err(short, Label::CNodeDelete, &[FREE << 2, 64], &[], e, &[0, 3, 2, 0]);
    // The wrong kind of root.
    w.err(2, Label::CNodeCopy, &[FREE + 1, 64, FREE, 64, 15], &[FREE], e, &[1, 1]);
    w.err(2, Label::CNodeCopy, &[FREE + 1, 64, 0, 13, 15], &[2], e, &[1, 4, 13, 0, GUARD]);
    w.err(2, Label::CNodeCopy, &[FREE + 1, 64, 0, 70, 15], &[2], Error::RangeError, &[1, 64]);
}

#[test]
fn threads_ignore_left_over_bits() {
    let mut w = World::new();
    let node = w.make(ObjectType::CNode, 2);
    let t = w.spawn(10);
    // A CSpace of 2 + 12 bits: guard 50.
    let root2 = w.slot();
    w.ok(2, Label::CNodeMint, &[root2, 64, 2, 64, 15, CNodeData::new(0, 64 - 2 - ROOT_BITS).0], &[2]);
    w.ok(t.tcb, Label::TCBSetSpace, &[0, 0], &[FREE, root2, 3]);
    w.park_root(&t);
    // Two bits are left over at slot 1 (a TCB): found all the same.
    assert_eq!(w.identify((1 << 2) | 3), CapTag::Tcb.raw());
    assert_eq!(w.identify(node << 2), CapTag::Null.raw());
}

#[test]
fn transfer_checks_come_in_order() {
    let mut w = World::new();
    let f = frame(&mut w);
    w.err(2, Label::TCBSuspend, &[], &[], Error::IllegalOperation, &[]);
    for label in [Label::CNodeCopy, Label::CNodeMint, Label::CNodeMove, Label::CNodeMutate] {
        w.err(2, label, &[0], &[2], Error::TruncatedMessage, &[]);
        w.err(2, label, &[0, 0], &[2], Error::RangeError, &[1, 64]);
        w.err(2, label, &[f, 64, 0], &[2], Error::TruncatedMessage, &[]);
        w.err(2, label, &[f, 64, 0, 0], &[], Error::TruncatedMessage, &[]);
        w.err(2, label, &[f, 64, 0, 0], &[2], Error::DeleteFirst, &[]);
        w.err(2, label, &[FREE, 64, 0, 0], &[f], Error::FailedLookup, &[1, 1]);
        w.err(2, label, &[FREE, 64, FREE, 64], &[2], Error::FailedLookup, &[1, 2, 64]);
    }
    w.err(2, Label::CNodeCopy, &[FREE, 64, f, 64], &[2], Error::TruncatedMessage, &[]);
    w.err(2, Label::CNodeMutate, &[FREE, 64, f, 64], &[2], Error::TruncatedMessage, &[]);
    w.err(2, Label::CNodeMint, &[FREE, 64, f, 64, 15], &[2], Error::TruncatedMessage, &[]);
    w.ok(2, Label::CNodeMove, &[FREE, 64, f, 64], &[2]);
    assert_eq!((w.identify(f), w.identify(FREE)), (0, CapTag::Frame.raw()));
}

#[test]
fn derivation_rules() {
    let mut w = World::new();
    let io = Error::IllegalOperation;
    w.err(2, Label::CNodeCopy, &[FREE, 64, 4, 64, 15], &[2], io, &[]);
    let table = w.make(ObjectType::PageTable, 0);
    w.err(2, Label::CNodeCopy, &[FREE, 64, table, 64, 15], &[2], io, &[]);
    let vspace = w.make(ObjectType::VSpace, 0);
    w.err(2, Label::CNodeCopy, &[FREE, 64, vspace, 64, 15], &[2], io, &[]);
    // The source with children.
    w.err(2, Label::CNodeCopy, &[FREE, 64, w.untyped, 64, 15], &[2], Error::RevokeFirst, &[]);
    // A mapped frame's copy is unmapped: it can be mapped elsewhere.
    let c = w.copy(9);
    w.ok(c, Label::ARMPageMap, &[IMAGE_VADDR + 0x8000, 3, 0], &[3]);
    for fine in [1, 2, 3, 5, 6, 11, 14] {
        let s = w.copy(fine);
        w.delete(s);
    }
}

#[test]
fn badges_and_guards() {
    let mut w = World::new();
    let io = Error::IllegalOperation;
    let ep = w.make(ObjectType::Endpoint, 0);
    let badged = w.mint(ep, 15, 5);
    for badge in [0, 5, 6] {
        w.err(2, Label::CNodeMint, &[FREE, 64, badged, 64, 15, badge], &[2], io, &[]);
    }
    w.err(2, Label::CNodeMutate, &[FREE, 64, ep, 64, 5], &[2], io, &[]);
    w.err(2, Label::CNodeMutate, &[FREE, 64, badged, 64, 0], &[2], io, &[]);
    // A guard that does not fit.
    w.err(2, Label::CNodeMint, &[FREE, 64, 2, 64, 15, CNodeData::new(0, 63).0], &[2], io, &[]);
    w.err(2, Label::CNodeMutate, &[FREE, 64, 2, 64, CNodeData::new(0, 63).0], &[2], io, &[]);
    let node = w.make(ObjectType::CNode, 4);
    w.ok(2, Label::CNodeMutate, &[FREE, 64, node, 64, CNodeData::new(0xA, 4).0], &[2]);
    w.ok(FREE, Label::CNodeCopy, &[0xA3, 8, 9, 64, 15], &[2]);
    w.err(FREE, Label::CNodeDelete, &[0xB3, 8], &[], Error::FailedLookup, &[0, 4, 8, 0xA, 4]);
    w.ok(FREE, Label::CNodeDelete, &[0xA3, 8], &[]);
}

#[test]
fn rights_only_shrink() {
    let mut w = World::new();
    let ep = w.make(ObjectType::Endpoint, 0);
    let recv_only = w.mint(ep, 2, 0);
    let again = w.mint(recv_only, 15, 0);
    // No Write: the call is refused as an invalid capability.
    w.err(again, Label::InvalidInvocation, &[], &[], Error::InvalidCapability, &[0]);
    w.err(2, Label::CNodeCancelBadgedSends, &[again, 64], &[], Error::IllegalOperation, &[]);
    let full = w.mint(ep, 15, 3);
    w.ok(2, Label::CNodeCancelBadgedSends, &[full, 64], &[]);
    w.ok(2, Label::CNodeCancelBadgedSends, &[ep, 64], &[]);
}

#[test]
fn revoke_follows_the_marks() {
    let mut w = World::new();
    let ep = w.make(ObjectType::Endpoint, 0);
    let copy = w.copy(ep);
    let copy2 = w.copy(copy);
    let b1 = w.mint(ep, 15, 1);
    let b1c = w.copy(b1);
    let b2 = w.mint(ep, 15, 2);
    let b1d = w.mint(ep, 15, 1);
    let all = [ep, copy, copy2, b1, b1c, b2, b1d];
    let alive = |w: &mut World| all.map(|s| w.identify(s) != 0);
    // A copy has no children.
    w.revoke(copy);
    assert_eq!(alive(&mut w), [true; 7]);
    // An original badged capability: its copies, not a second original with the same badge.
    w.revoke(b1);
    assert_eq!(alive(&mut w), [true, true, true, true, false, true, true]);
    w.revoke(ep);
    assert_eq!(alive(&mut w), [true, false, false, false, false, false, false]);
    w.revoke(FREE);
    w.delete(FREE);
}

#[test]
fn rotate() {
    let mut w = World::new();
    let (a, b) = (frame(&mut w), w.make(ObjectType::Endpoint, 0));
    let n = w.make(ObjectType::CNode, 4);
    let rotate = |dest: u64, pivot: u64, src: u64| [dest, 64, 0, pivot, 64, 0, src, 64];
    w.err(2, Label::CNodeRotate, &rotate(FREE, a, a)[..7], &[2, 2], Error::TruncatedMessage, &[]);
    w.err(2, Label::CNodeRotate, &rotate(FREE, a, n), &[2], Error::TruncatedMessage, &[]);
    w.err(2, Label::CNodeRotate, &rotate(FREE, a, a), &[2, 2], Error::IllegalOperation, &[]);
    w.err(2, Label::CNodeRotate, &rotate(a, a, n), &[2, 2], Error::IllegalOperation, &[]);
    w.err(2, Label::CNodeRotate, &rotate(b, a, n), &[2, 2], Error::DeleteFirst, &[]);
    w.err(2, Label::CNodeRotate, &rotate(FREE, a, FREE + 1), &[2, 2], Error::FailedLookup, &[1, 2, 64]);
    w.err(2, Label::CNodeRotate, &rotate(FREE, FREE + 1, a), &[2, 2], Error::FailedLookup, &[0, 2, 64]);
    w.err(2, Label::CNodeRotate, &rotate(FREE, b, a), &[2, 2], Error::IllegalOperation, &[]);
    w.err(2, Label::CNodeRotate, &rotate(FREE, a, b), &[2, 2], Error::IllegalOperation, &[]);
    w.ok(2, Label::CNodeRotate, &rotate(FREE, n, a), &[2, 2]);
    let tags = |w: &mut World, s: [u64; 3]| s.map(|s| CapTag::from_raw(w.identify(s)).unwrap());
    assert_eq!(tags(&mut w, [a, n, FREE]), [CapTag::Null, CapTag::Frame, CapTag::CNode]);
    // Destination = source: swapped.
    w.ok(2, Label::CNodeRotate, &rotate(n, FREE, n), &[2, 2]);
    assert_eq!(tags(&mut w, [a, n, FREE]), [CapTag::Null, CapTag::CNode, CapTag::Frame]);
    // Neighbours in the derivation list.
    let c = w.copy(FREE);
    w.ok(2, Label::CNodeRotate, &rotate(c, FREE, c), &[2, 2]);
    w.ok(2, Label::CNodeRotate, &rotate(FREE, c, FREE), &[2, 2]);
    w.revoke(w.untyped);
}

#[test]
fn the_first_badged_mark_is_inherited() {
    let mut w = World::new();
    let ep = w.make(ObjectType::Endpoint, 0);
    let b1 = w.mint(ep, 15, 1);
    let c1 = w.copy(b1);
    // Without the original the copy begins the badge, and a later original of the same badge stays apart.
    w.delete(b1);
    let b1b = w.mint(ep, 15, 1);
    w.revoke(b1b);
    assert_ne!(w.identify(c1), 0);
    w.revoke(ep);
    assert_eq!(w.identify(c1), 0);
}
