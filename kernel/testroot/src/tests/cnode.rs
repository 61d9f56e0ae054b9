//! CNodes: copying, moving, badges, address resolution, revocation.

use crate::report::Outcome;
use crate::sys::{self, invoke};
use crate::world::{ASID_CONTROL, CNODE, IRQ_CONTROL, TCB, World, copy, delete, mint, revoke};
use kernel_abi::{CNodeData, Label, ObjectType};

pub fn copy_and_move(world: &mut World) -> Outcome {
    let endpoint = world.endpoint()?;
    let (a, b) = (world.slot(), world.slot());
    ensure_ok!(copy(a, endpoint));
    ensure_eq!(sys::identify(a), 4);
    ensure_ok!(invoke(CNODE, Label::CNodeMove, &[b, 64, a, 64], &[CNODE]));
    ensure_eq!(sys::identify(a), 0);
    ensure_eq!(sys::identify(b), 4);
    // Deleting the original leaves the copy usable.
    ensure_ok!(delete(endpoint));
    ensure_eq!(sys::identify(b), 4);
    ensure_ok!(delete(b));
    ensure_ok!(delete(b));
    ensure_ok!(revoke(b));
    Ok(())
}

pub fn badges(world: &mut World) -> Outcome {
    let notification = world.notification()?;
    let badged = world.badged(notification, 0x1234_5678_9abc_def0)?;
    sys::signal(badged);
    ensure_eq!(sys::wait(notification).badge, 0x1234_5678_9abc_def0u64);
    // A badge cannot be changed or removed.
    let slot = world.slot();
    ensure_error!(mint(slot, badged, 15, 1), IllegalOperation);
    ensure_error!(mint(slot, badged, 15, 0), IllegalOperation);
    ensure_ok!(copy(slot, badged));
    sys::signal(slot);
    ensure_eq!(sys::wait(notification).badge, 0x1234_5678_9abc_def0u64);
    Ok(())
}

pub fn errors(world: &mut World) -> Outcome {
    let endpoint = world.endpoint()?;
    let (free, empty) = (world.slot(), world.slot());
    let bits_missing = 64;
    ensure_error!(invoke(CNODE, Label::TCBResume, &[], &[]), IllegalOperation);
    ensure_error!(invoke(CNODE, Label::CNodeDelete, &[free], &[]), TruncatedMessage);
    ensure_error!(invoke(CNODE, Label::CNodeDelete, &[free, 0], &[]), RangeError, 1, 64);
    ensure_error!(invoke(CNODE, Label::CNodeDelete, &[free, 65], &[]), RangeError, 1, 64);
    ensure_error!(invoke(CNODE, Label::CNodeCopy, &[free, 64, endpoint, 64, 15], &[]), TruncatedMessage);
    ensure_error!(invoke(CNODE, Label::CNodeCopy, &[free, 64, endpoint, 64], &[CNODE]), TruncatedMessage);
    ensure_error!(invoke(CNODE, Label::CNodeMint, &[free, 64, endpoint, 64, 15], &[CNODE]), TruncatedMessage);
    ensure_error!(copy(endpoint, endpoint), DeleteFirst);
    ensure_error!(copy(free, empty), FailedLookup, 1, 2, bits_missing);
    ensure_error!(invoke(CNODE, Label::CNodeCopy, &[free, 64, endpoint, 64, 15], &[TCB]), FailedLookup, 1, 1);
    ensure_error!(invoke(CNODE, Label::CNodeCopy, &[free, 64, endpoint, 65, 15], &[CNODE]), RangeError, 1, 64);
    ensure_error!(copy(free, IRQ_CONTROL), IllegalOperation);
    ensure_ok!(copy(free, ASID_CONTROL));
    ensure_ok!(delete(free));
    ensure_error!(invoke(CNODE, Label::CNodeMutate, &[free, 64, endpoint, 64, 7], &[CNODE]), IllegalOperation);
    let badged = world.badged(endpoint, 3)?;
    ensure_error!(invoke(CNODE, Label::CNodeCancelBadgedSends, &[free, 64], &[]), IllegalOperation);
    ensure_ok!(invoke(CNODE, Label::CNodeCancelBadgedSends, &[badged, 64], &[]));
    let weak = world.minted(endpoint, 3, 0)?;
    ensure_error!(invoke(CNODE, Label::CNodeCancelBadgedSends, &[weak, 64], &[]), IllegalOperation);
    // Invoking nothing.
    ensure_error!(invoke(empty, Label::CNodeCopy, &[], &[]), InvalidCapability, 0);
    ensure_eq!(sys::identify(free), 0);
    Ok(())
}

pub fn lookup(world: &mut World) -> Outcome {
    let free = world.slot();
    let guard = 64 - world.radix();
    let depth = |d: u64| invoke(CNODE, Label::CNodeDelete, &[free, d], &[]);
    ensure_error!(depth(13), FailedLookup, 0, 4, 13, 0, guard);
    ensure_error!(invoke(CNODE, Label::CNodeDelete, &[5, 55], &[]), FailedLookup, 0, 3, 55, 64);
    // Address bits where the guard wants zeros.
    let wild = free | 1 << world.radix();
    ensure_error!(invoke(CNODE, Label::CNodeDelete, &[wild, 64], &[]), FailedLookup, 0, 4, 64, 0, guard);
    // The service of a CNode operation must be a CNode for the destination to be found.
    let cnode = world.make(ObjectType::CNode, 3)?;
    let endpoint = world.endpoint()?;
    ensure_ok!(invoke(cnode, Label::CNodeCopy, &[5, 3, endpoint, 64, 15], &[CNODE]));
    ensure_error!(invoke(cnode, Label::CNodeDelete, &[5, 4], &[]), FailedLookup, 0, 3, 1, 0);
    ensure_error!(invoke(cnode, Label::CNodeDelete, &[5, 2], &[]), FailedLookup, 0, 3, 2, 3);
    ensure_ok!(invoke(cnode, Label::CNodeDelete, &[5, 3], &[]));
    Ok(())
}

pub fn guards(world: &mut World) -> Outcome {
    // Two levels: a slot of the own CNode cannot lead further (its guard uses all bits), so build a small CSpace.
    let (outer, inner) = (world.make(ObjectType::CNode, 2)?, world.make(ObjectType::CNode, 4)?);
    let notification = world.notification()?;
    // outer: guard 0b101 (3 bits) + radix 2; inner: guard 0b0110 (4 bits) + radix 4.
    let outer_guarded = world.minted(outer, 15, CNodeData::new(0b101, 3).0)?;
    let words = [0b10110, 5, inner, 64, 15, CNodeData::new(0b0110, 4).0];
    ensure_ok!(invoke(outer_guarded, Label::CNodeMint, &words, &[CNODE]));
    // Guard 101, slot 10, guard 0110, slot 1001.
    let address = 0b1_0110_0110_1001;
    ensure_ok!(invoke(outer_guarded, Label::CNodeCopy, &[address, 13, notification, 64, 15], &[CNODE]));
    let back = world.slot();
    ensure_ok!(invoke(CNODE, Label::CNodeCopy, &[back, 64, 0b1001, 4, 15], &[inner]));
    ensure_eq!(sys::identify(back), 6);
    let wrong = 0b1_0110_0111_1001;
    ensure_error!(invoke(outer_guarded, Label::CNodeDelete, &[wrong, 13], &[]), FailedLookup, 0, 4, 8, 0b0110, 4);
    // An impossible guard.
    let slot = world.slot();
    ensure_error!(mint(slot, inner, 15, CNodeData::new(0, 61).0), IllegalOperation);
    ensure_ok!(mint(slot, inner, 15, CNodeData::new(0, 60).0));
    Ok(())
}

pub fn revoke_spares_others(world: &mut World) -> Outcome {
    let endpoint = world.endpoint()?;
    let copy_a = world.slot();
    ensure_ok!(copy(copy_a, endpoint));
    let badge_1 = world.badged(endpoint, 1)?;
    let badge_2 = world.badged(endpoint, 2)?;
    let copy_1 = world.slot();
    ensure_ok!(copy(copy_1, badge_1));
    let copy_2 = world.slot();
    ensure_ok!(copy(copy_2, badge_2));
    // A copy has no children.
    ensure_ok!(revoke(copy_a));
    ensure_ok!(revoke(copy_1));
    // An original badged one has its copies only.
    ensure_ok!(revoke(badge_1));
    for (slot, tag) in [(endpoint, 4), (copy_a, 4), (badge_1, 4), (copy_1, 0), (badge_2, 4), (copy_2, 4)] {
        ensure_eq!(sys::identify(slot), tag);
    }
    ensure_ok!(revoke(endpoint));
    for (slot, tag) in [(endpoint, 4), (copy_a, 0), (badge_1, 0), (badge_2, 0), (copy_2, 0)] {
        ensure_eq!(sys::identify(slot), tag);
    }
    Ok(())
}

pub fn rotate_and_mutate(world: &mut World) -> Outcome {
    let (a, b, c) = (world.endpoint()?, world.notification()?, world.slot());
    let rotate = |dest: u64, pivot: u64, src: u64| {
        invoke(CNODE, Label::CNodeRotate, &[dest, 64, 0, pivot, 64, 0, src, 64], &[CNODE, CNODE])
    };
    // Endpoint and notification capabilities cannot be mutated, hence not rotated.
    ensure_error!(rotate(c, b, a), IllegalOperation);
    let (t, n, s) = (world.make(ObjectType::Tcb, 0)?, world.make(ObjectType::CNode, 2)?, world.slot());
    ensure_error!(rotate(s, t, t), IllegalOperation);
    ensure_error!(rotate(s, s, t), IllegalOperation);
    ensure_error!(rotate(a, n, t), DeleteFirst);
    ensure_error!(rotate(s, n, c), FailedLookup, 1, 2, 64);
    ensure_error!(rotate(s, c, t), FailedLookup, 0, 2, 64);
    ensure_ok!(rotate(s, n, t)); // pivot (CNode) to s, source (TCB) to n
    ensure_eq!(sys::identify(s), 10);
    ensure_eq!(sys::identify(n), 12);
    ensure_eq!(sys::identify(t), 0);
    ensure_ok!(rotate(n, s, n)); // swap
    ensure_eq!(sys::identify(n), 10);
    ensure_eq!(sys::identify(s), 12);
    ensure_ok!(invoke(CNODE, Label::CNodeMutate, &[t, 64, n, 64, CNodeData::new(1, 1).0], &[CNODE]));
    ensure_eq!(sys::identify(n), 0);
    ensure_eq!(sys::identify(t), 10);
    ensure_ok!(invoke(t, Label::CNodeCopy, &[0b111, 3, a, 64, 15], &[CNODE]));
    Ok(())
}

pub fn nested(world: &mut World) -> Outcome {
    // A CNode that holds its own capability and another CNode with something in it: deletion must end and free all.
    let untyped = world.make(ObjectType::Untyped, 16)?;
    let (outer, inner, endpoint) = (world.slot(), world.slot(), world.slot());
    let words = |kind: ObjectType, bits, slot| [kind.raw(), bits, 0, 0, slot, 1];
    for (kind, bits, slot) in
        [(ObjectType::CNode, 4, outer), (ObjectType::CNode, 4, inner), (ObjectType::Endpoint, 0, endpoint)]
    {
        ensure_ok!(invoke(untyped, Label::UntypedRetype, &words(kind, bits, slot), &[CNODE]));
    }
    ensure_ok!(invoke(inner, Label::CNodeMove, &[7, 4, endpoint, 64], &[CNODE]));
    ensure_ok!(invoke(outer, Label::CNodeMove, &[3, 4, inner, 64], &[CNODE]));
    ensure_ok!(invoke(outer, Label::CNodeCopy, &[4, 4, outer, 64, 15], &[CNODE]));
    ensure_ok!(invoke(outer, Label::CNodeMove, &[5, 4, outer, 64], &[CNODE]));
    // All capabilities to `outer` are inside it now: only revoking the memory reaches it.
    ensure_ok!(revoke(untyped));
    // Proof that everything is gone: the untyped is whole again.
    ensure_ok!(invoke(untyped, Label::UntypedRetype, &words(ObjectType::Untyped, 16, outer), &[CNODE]));
    Ok(())
}

pub fn revoke_thousands(world: &mut World) -> Outcome {
    let endpoint = world.endpoint()?;
    let slots = world.slots(3000);
    for slot in slots..slots + 3000 {
        ensure_ok!(mint(slot, endpoint, 15, slot));
    }
    ensure_ok!(revoke(endpoint));
    for slot in slots..slots + 3000 {
        ensure_eq!(sys::identify(slot), 0);
    }
    Ok(())
}
