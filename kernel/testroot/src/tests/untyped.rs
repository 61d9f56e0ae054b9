//! Untyped memory: making objects, and what happens to the memory.

use crate::report::Outcome;
use crate::sys::{self, invoke};
use crate::world::{self, CNODE, FREE_VADDR, TCB, VSPACE, World, copy, delete, retype, revoke};
use kernel_abi::{Label, ObjectType};

pub fn makes_every_object(world: &mut World) -> Outcome {
    let kinds = [
        (ObjectType::Untyped, 12, 2),
        (ObjectType::Tcb, 0, 12),
        (ObjectType::Endpoint, 0, 4),
        (ObjectType::Notification, 0, 6),
        (ObjectType::CNode, 3, 10),
        (ObjectType::SchedContext, 7, 22),
        (ObjectType::Reply, 0, 8),
        (ObjectType::VSpace, 0, 9),
        (ObjectType::SmallPage, 0, 1),
        (ObjectType::LargePage, 0, 1),
        (ObjectType::PageTable, 0, 3),
    ];
    for (kind, size_bits, tag) in kinds {
        let first = world.make_many(kind, size_bits, 3)?;
        for slot in first..first + 3 {
            ensure_eq!(sys::identify(slot), tag);
        }
    }
    Ok(())
}

pub fn errors(world: &mut World) -> Outcome {
    let pool = world.pool;
    let slots = 1u64 << world.radix();
    let free = world.slots(4);
    let endpoint = ObjectType::Endpoint.raw();
    let try_retype = |words: &[u64]| invoke(pool, Label::UntypedRetype, words, &[CNODE]);
    ensure_error!(invoke(pool, Label::TCBSuspend, &[], &[]), IllegalOperation);
    ensure_error!(try_retype(&[endpoint, 0, 0, 0, free]), TruncatedMessage);
    ensure_error!(invoke(pool, Label::UntypedRetype, &[endpoint, 0, 0, 0, free, 1], &[]), TruncatedMessage);
    ensure_error!(try_retype(&[12, 0, 0, 0, free, 1]), InvalidArgument, 0);
    ensure_error!(try_retype(&[endpoint, 64, 0, 0, free, 1]), RangeError, 0, 47);
    ensure_error!(try_retype(&[ObjectType::Untyped.raw(), 48, 0, 0, free, 1]), RangeError, 0, 47);
    ensure_error!(try_retype(&[ObjectType::CNode.raw(), 0, 0, 0, free, 1]), InvalidArgument, 1);
    ensure_error!(try_retype(&[ObjectType::Untyped.raw(), 3, 0, 0, free, 1]), InvalidArgument, 1);
    ensure_error!(try_retype(&[ObjectType::SchedContext.raw(), 6, 0, 0, free, 1]), InvalidArgument, 1);
    ensure_error!(try_retype(&[endpoint, 0, TCB, 65, free, 1]), RangeError, 1, 64);
    ensure_error!(try_retype(&[endpoint, 0, TCB, 64, free, 1]), FailedLookup, 0, 2, 64);
    ensure_error!(try_retype(&[endpoint, 0, 0, 0, slots, 1]), RangeError, 0, slots - 1);
    ensure_error!(try_retype(&[endpoint, 0, 0, 0, free, 0]), RangeError, 1, 256);
    ensure_error!(try_retype(&[endpoint, 0, 0, 0, free, 257]), RangeError, 1, 256);
    ensure_error!(try_retype(&[endpoint, 0, 0, 0, slots - 2, 3]), RangeError, 1, 2);
    ensure_error!(try_retype(&[endpoint, 0, 0, 0, TCB, 1]), DeleteFirst);
    ensure_error!(invoke(free, Label::UntypedRetype, &[endpoint, 0, 0, 0, free, 1], &[CNODE]), InvalidCapability, 0);
    for slot in free..free + 4 {
        ensure_eq!(sys::identify(slot), 0);
    }
    Ok(())
}

pub fn memory_is_zeroed(world: &mut World) -> Outcome {
    world.map_tables(VSPACE, FREE_VADDR, 2)?;
    let untyped = world.make(ObjectType::Untyped, 12)?;
    let frame = world.slot();
    for round in 0..3 {
        ensure_ok!(retype(untyped, ObjectType::SmallPage, 0, frame, 1));
        ensure_ok!(invoke(frame, Label::ARMPageMap, &[FREE_VADDR, 15, world::DATA_ATTRIBUTES], &[VSPACE]));
        // SAFETY: the page has just been mapped there.
        let page = unsafe { &mut *(FREE_VADDR as *mut [u64; 512]) };
        ensure!(page.iter().all(|&w| w == 0));
        page.fill(0x5555_0000 + round);
        ensure_ok!(delete(frame));
    }
    Ok(())
}

pub fn watermark(world: &mut World) -> Outcome {
    let untyped = world.make(ObjectType::Untyped, 13)?;
    let slots = world.slots(4);
    ensure_ok!(retype(untyped, ObjectType::Endpoint, 0, slots, 1));
    // The next page-sized object is aligned: only one fits.
    ensure_error!(retype(untyped, ObjectType::SmallPage, 0, slots + 1, 2), NotEnoughMemory, 8192 - 16);
    ensure_ok!(retype(untyped, ObjectType::SmallPage, 0, slots + 1, 1));
    ensure_error!(retype(untyped, ObjectType::Endpoint, 0, slots + 2, 1), NotEnoughMemory, 0);
    ensure_ok!(delete(slots));
    ensure_error!(retype(untyped, ObjectType::Endpoint, 0, slots + 2, 1), NotEnoughMemory, 0);
    ensure_ok!(delete(slots + 1));
    ensure_ok!(retype(untyped, ObjectType::SmallPage, 0, slots, 2));
    Ok(())
}

pub fn copies(world: &mut World) -> Outcome {
    let untyped = world.make(ObjectType::Untyped, 12)?;
    let (other, object) = (world.slot(), world.slot());
    ensure_ok!(copy(other, untyped));
    ensure_error!(retype(untyped, ObjectType::Endpoint, 0, object, 1), NotEnoughMemory, 0);
    ensure_ok!(retype(other, ObjectType::Endpoint, 0, object, 1));
    let third = world.slot();
    ensure_error!(copy(third, other), RevokeFirst);
    ensure_ok!(revoke(untyped));
    ensure_eq!(sys::identify(other), 0);
    ensure_eq!(sys::identify(object), 0);
    ensure_ok!(retype(untyped, ObjectType::Endpoint, 0, object, 1));
    Ok(())
}

pub fn device_memory(world: &mut World) -> Outcome {
    let Some(device) = world.find_untyped(|bits, device| device && bits >= 13) else { fail!("no device untyped") };
    let slots = world.slots(3);
    ensure_error!(retype(device, ObjectType::Endpoint, 0, slots, 1), InvalidArgument, 1);
    ensure_error!(retype(device, ObjectType::PageTable, 0, slots, 1), InvalidArgument, 1);
    ensure_ok!(retype(device, ObjectType::Untyped, 12, slots, 1));
    ensure_ok!(retype(slots, ObjectType::SmallPage, 0, slots + 1, 1));
    let address = invoke(slots + 1, Label::ARMPageGetAddress, &[], &[]);
    ensure_eq!(
        ensure_ok!(address).word(0),
        world.info.untyped_list[(device - world.info.untyped.start) as usize].paddr
    );
    // A device page cannot be an IPC buffer.
    let tcb = world.make(ObjectType::Tcb, 0)?;
    ensure_error!(invoke(tcb, Label::TCBSetIPCBuffer, &[0x1000], &[slots + 1]), IllegalOperation);
    ensure_ok!(revoke(device));
    ensure_eq!(sys::identify(slots + 1), 0);
    Ok(())
}

pub fn many_objects(world: &mut World) -> Outcome {
    let first = world.make_many(ObjectType::Endpoint, 0, 256)?;
    ensure_eq!(sys::identify(first + 255), 4);
    // Into a CNode below the own one: index and depth locate it.
    let cnode = world.make(ObjectType::CNode, 4)?;
    let words = [ObjectType::Notification.raw(), 0, cnode, 64, 3, 2];
    ensure_ok!(invoke(world.pool, Label::UntypedRetype, &words, &[CNODE]));
    let back = world.slot();
    ensure_ok!(invoke(CNODE, Label::CNodeMove, &[back, 64, 4, 4], &[cnode]));
    ensure_eq!(sys::identify(back), 6);
    Ok(())
}
