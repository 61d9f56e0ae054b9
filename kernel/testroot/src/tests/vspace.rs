//! Address spaces: tables, pages of all sizes, rights, address space ids, cache operations.

use crate::report::Outcome;
use crate::sys::{self, Message, invoke};
use crate::world::{
    ASID_CONTROL, ASID_POOL, CNODE, DATA_ATTRIBUTES, DEFAULT_ATTRIBUTES, DEVICE_ATTRIBUTES, FREE_VADDR, Spec, TCB,
    VSPACE, World, context, copy, delete, retype, write_registers,
};
use kernel_abi::{FaultType, Label, ObjectType};

/// Last user address.
const TOP: u64 = 0x7fff_ffff_ffff;

fn map(frame: u64, vspace: u64, vaddr: u64, rights: u64, attributes: u64) -> Message {
    invoke(frame, Label::ARMPageMap, &[vaddr, rights, attributes], &[vspace])
}

fn map_table(table: u64, vspace: u64, vaddr: u64) -> Message {
    invoke(table, Label::ARMPageTableMap, &[vaddr, 0], &[vspace])
}

fn unmap(frame: u64) -> Message {
    invoke(frame, Label::ARMPageUnmap, &[], &[])
}

/// Reads a word of the own address space.
fn peek(address: u64) -> u64 {
    // SAFETY: the caller has mapped it.
    unsafe { (address as *const u64).read_volatile() }
}

fn poke(address: u64, value: u64) {
    // SAFETY: the caller has mapped it.
    unsafe { (address as *mut u64).write_volatile(value) };
}

/// Whether a thread that reads (or writes) `address` faults; `FSR` if so.
fn probe(world: &mut World, address: u64, write: bool) -> Outcome<Option<u64>> {
    extern "C" fn reader(address: u64) -> ! {
        peek(address);
        sys::call(sys::buffer().msg[100], 0, &[], &[]);
        crate::world::exit()
    }
    extern "C" fn writer(address: u64) -> ! {
        poke(address, peek(address));
        sys::call(sys::buffer().msg[100], 0, &[], &[]);
        crate::world::exit()
    }
    let (endpoint, reply) = (world.endpoint()?, world.reply()?);
    let entry = if write { writer as extern "C" fn(u64) -> ! } else { reader };
    let spec = Spec { fault_endpoint: endpoint, run: false, ..Spec::at(100) };
    let thread = world.thread(spec, entry, address)?;
    world.last_buffer().msg[100] = endpoint;
    ensure_ok!(invoke(thread.tcb, Label::TCBResume, &[], &[]));
    let message = sys::recv(endpoint, reply);
    world.stop_last(thread)?;
    Ok((message.label == FaultType::VMFault.raw()).then(|| message.word(3)))
}

pub fn small_page(world: &mut World) -> Outcome {
    world.map_tables(VSPACE, FREE_VADDR, 2)?;
    let frame = world.map_new_page(FREE_VADDR)?;
    poke(FREE_VADDR, 0x1122);
    // The same frame a second time, elsewhere.
    let again = world.slot();
    ensure_ok!(copy(again, frame));
    ensure_ok!(map(again, VSPACE, FREE_VADDR + 0x1000, 15, DATA_ATTRIBUTES));
    ensure_eq!(peek(FREE_VADDR + 0x1000), 0x1122);
    let address = ensure_ok!(invoke(frame, Label::ARMPageGetAddress, &[], &[])).word(0);
    ensure_eq!(ensure_ok!(invoke(again, Label::ARMPageGetAddress, &[], &[])).word(0), address);
    ensure_eq!(address % 4096, 0);
    ensure_ok!(unmap(frame));
    ensure_ok!(unmap(frame));
    ensure_eq!(probe(world, FREE_VADDR, false)?.unwrap_or(0), 0x9200_0007u64);
    ensure_eq!(peek(FREE_VADDR + 0x1000), 0x1122);
    // Deleting a mapped capability takes its mapping away.
    ensure_ok!(delete(again));
    ensure!(probe(world, FREE_VADDR + 0x1000, false)?.is_some());
    Ok(())
}

pub fn large_page(world: &mut World) -> Outcome {
    world.map_tables(VSPACE, FREE_VADDR, 1)?;
    let frame = world.make(ObjectType::LargePage, 0)?;
    ensure_error!(map(frame, VSPACE, FREE_VADDR + 0x1000, 15, DATA_ATTRIBUTES), AlignmentError);
    ensure_ok!(map(frame, VSPACE, FREE_VADDR, 15, DATA_ATTRIBUTES));
    for offset in [0, 0x1000, 0x1f_fff8] {
        ensure_eq!(peek(FREE_VADDR + offset), 0);
        poke(FREE_VADDR + offset, offset + 1);
    }
    ensure_ok!(invoke(frame, Label::ARMPageCleanInvalidateData, &[0, 0x20_0000], &[]));
    ensure_eq!(peek(FREE_VADDR + 0x1f_fff8), 0x1f_fff9);
    // A table cannot go where a page is.
    let table = world.make(ObjectType::PageTable, 0)?;
    ensure_error!(map_table(table, VSPACE, FREE_VADDR), DeleteFirst);
    ensure_ok!(unmap(frame));
    ensure_ok!(map_table(table, VSPACE, FREE_VADDR));
    ensure_error!(map(frame, VSPACE, FREE_VADDR, 15, DATA_ATTRIBUTES), FailedLookup, 0, 2, 12);
    Ok(())
}

pub fn huge_page(world: &mut World) -> Outcome {
    let Some(device) = world.find_untyped(|bits, device| device && bits >= 30) else {
        fail!("no device untyped of 1 GiB")
    };
    let frame = world.slot();
    ensure_ok!(retype(device, ObjectType::HugePage, 0, frame, 1));
    let vaddr = FREE_VADDR + (1 << 32);
    ensure_ok!(map(frame, VSPACE, vaddr, 15, DEVICE_ATTRIBUTES));
    let small = world.make(ObjectType::SmallPage, 0)?;
    ensure_error!(map(small, VSPACE, vaddr, 15, DATA_ATTRIBUTES), FailedLookup, 0, 2, 30);
    ensure_ok!(unmap(frame));
    let far = 1 << 40;
    ensure_error!(map(frame, VSPACE, far, 15, DEVICE_ATTRIBUTES), FailedLookup, 0, 2, 39);
    Ok(())
}

pub fn tables_and_errors(world: &mut World) -> Outcome {
    let vaddr = 0x5500_0000_0000;
    let (frame, spare) = (world.make(ObjectType::SmallPage, 0)?, world.make(ObjectType::PageTable, 0)?);
    for bits in [39, 30, 21] {
        ensure_error!(map(frame, VSPACE, vaddr, 15, DATA_ATTRIBUTES), FailedLookup, 0, 2, bits);
        world.map_tables(VSPACE, vaddr, 1)?;
    }
    ensure_error!(map_table(spare, VSPACE, vaddr), DeleteFirst);
    ensure_error!(map_table(spare, VSPACE, TOP + 1), InvalidArgument, 0);
    ensure_error!(map_table(spare, TCB, vaddr), InvalidCapability, 1);
    ensure_error!(invoke(spare, Label::ARMPageTableMap, &[vaddr], &[VSPACE]), TruncatedMessage);
    ensure_error!(invoke(spare, Label::ARMPageMap, &[vaddr, 0, 0], &[VSPACE]), IllegalOperation);
    ensure_ok!(invoke(spare, Label::ARMPageTableUnmap, &[], &[]));
    let slot = world.slot();
    ensure_error!(copy(slot, spare), IllegalOperation);
    ensure_error!(map(frame, VSPACE, vaddr + 8, 15, DATA_ATTRIBUTES), AlignmentError);
    ensure_error!(map(frame, TCB, vaddr, 15, DATA_ATTRIBUTES), InvalidCapability, 1);
    ensure_error!(map(frame, VSPACE, TOP + 1, 15, DATA_ATTRIBUTES), InvalidArgument, 0);
    ensure_error!(invoke(frame, Label::ARMPageMap, &[vaddr, 15], &[VSPACE]), TruncatedMessage);
    ensure_error!(invoke(frame, Label::TCBSuspend, &[], &[]), IllegalOperation);
    ensure_ok!(map(frame, VSPACE, vaddr, 15, DATA_ATTRIBUTES));
    ensure_error!(map(frame, VSPACE, vaddr + 0x1000, 15, DATA_ATTRIBUTES), InvalidArgument, 0);
    // A mapped table can be copied, and then not be unmapped.
    let last = world.make(ObjectType::PageTable, 0)?;
    ensure_ok!(map_table(last, VSPACE, vaddr + (1 << 21)));
    ensure_error!(map_table(last, VSPACE, vaddr), InvalidCapability, 0);
    ensure_ok!(copy(slot, last));
    ensure_error!(invoke(last, Label::ARMPageTableUnmap, &[], &[]), RevokeFirst);
    ensure_ok!(delete(slot));
    ensure_ok!(invoke(last, Label::ARMPageTableUnmap, &[], &[]));
    ensure_ok!(map_table(last, VSPACE, vaddr + (1 << 21)));
    Ok(())
}

pub fn rights(world: &mut World) -> Outcome {
    world.map_tables(VSPACE, FREE_VADDR, 2)?;
    let frame = world.map_new_page(FREE_VADDR)?;
    ensure!(probe(world, FREE_VADDR, true)?.is_none());
    ensure_ok!(map(frame, VSPACE, FREE_VADDR, 2, DATA_ATTRIBUTES));
    ensure!(probe(world, FREE_VADDR, false)?.is_none());
    ensure_eq!(probe(world, FREE_VADDR, true)?.unwrap_or(0), 0x9200_004fu64);
    ensure_ok!(map(frame, VSPACE, FREE_VADDR, 0, DATA_ATTRIBUTES));
    ensure_eq!(probe(world, FREE_VADDR, false)?.unwrap_or(0), 0x9200_000fu64);
    // The capability's rights limit those of the mapping.
    ensure_ok!(map(frame, VSPACE, FREE_VADDR, 15, DATA_ATTRIBUTES));
    let read_only = world.slot();
    ensure_ok!(invoke(CNODE, Label::CNodeCopy, &[read_only, 64, frame, 64, 2], &[CNODE]));
    ensure_ok!(map(read_only, VSPACE, FREE_VADDR + 0x1000, 15, DATA_ATTRIBUTES));
    ensure!(probe(world, FREE_VADDR + 0x1000, false)?.is_none());
    ensure!(probe(world, FREE_VADDR + 0x1000, true)?.is_some());
    // Discarding cached data needs write access.
    ensure_error!(invoke(read_only, Label::ARMPageInvalidateData, &[0, 64], &[]), IllegalOperation);
    ensure_ok!(invoke(read_only, Label::ARMPageCleanData, &[0, 64], &[]));
    Ok(())
}

pub fn remap_and_replace(world: &mut World) -> Outcome {
    world.map_tables(VSPACE, FREE_VADDR, 2)?;
    let first = world.map_new_page(FREE_VADDR)?;
    poke(FREE_VADDR, 1);
    // Mapping another page over it succeeds; the first capability is stale then.
    let second = world.map_new_page(FREE_VADDR)?;
    ensure_eq!(peek(FREE_VADDR), 0);
    poke(FREE_VADDR, 2);
    ensure_error!(invoke(first, Label::ARMPageCleanData, &[0, 64], &[]), InvalidCapability, 0);
    ensure_ok!(unmap(first));
    ensure_eq!(peek(FREE_VADDR), 2);
    ensure_ok!(unmap(second));
    ensure!(probe(world, FREE_VADDR, false)?.is_some());
    ensure_ok!(map(first, VSPACE, FREE_VADDR, 15, DATA_ATTRIBUTES));
    ensure_eq!(peek(FREE_VADDR), 1);
    Ok(())
}

pub fn own_address_space(world: &mut World) -> Outcome {
    let vspace = world.make(ObjectType::VSpace, 0)?;
    let frame = world.make(ObjectType::SmallPage, 0)?;
    ensure_error!(map(frame, vspace, 0x40_0000, 15, DEFAULT_ATTRIBUTES), InvalidCapability, 1);
    let slot = world.slot();
    ensure_error!(copy(slot, vspace), IllegalOperation);
    ensure_ok!(invoke(ASID_POOL, Label::ARMASIDPoolAssign, &[], &[vspace]));
    ensure_error!(invoke(ASID_POOL, Label::ARMASIDPoolAssign, &[], &[vspace]), InvalidCapability, 1);
    ensure_ok!(copy(slot, vspace));
    // A program of four instructions: call(x0) with its x1 as message info, then spin.
    world.map_tables(VSPACE, FREE_VADDR, 2)?;
    world.map_tables(vspace, 0x40_0000, 3)?;
    ensure_ok!(map(frame, VSPACE, FREE_VADDR, 15, DATA_ATTRIBUTES));
    let code: [u32; 4] = [0x9280_0087, 0xd400_0001, 0x1400_0000, 0]; // mov x7, #-5; svc #0; b .
    for (i, word) in code.into_iter().enumerate() {
        // SAFETY: just mapped.
        unsafe { ((FREE_VADDR as *mut u32).add(i)).write_volatile(word) };
    }
    ensure_ok!(invoke(frame, Label::ARMPageUnifyInstruction, &[0, 64], &[]));
    ensure_ok!(unmap(frame));
    ensure_ok!(map(frame, vspace, 0x40_0000, 2, DEFAULT_ATTRIBUTES));
    ensure_error!(map(frame, VSPACE, FREE_VADDR, 15, DATA_ATTRIBUTES), InvalidCapability, 1);
    let (endpoint, reply) = (world.endpoint()?, world.reply()?);
    let badged = world.badged(endpoint, 31)?;
    let tcb = world.make(ObjectType::Tcb, 0)?;
    let sc = world.sched_context(8, 5000, 5000, 0, 0, 0)?;
    ensure_ok!(invoke(tcb, Label::TCBConfigure, &[0, 0, 0], &[CNODE, vspace, 0]));
    ensure_ok!(invoke(tcb, Label::TCBSetSchedParams, &[100, 100], &[TCB, sc, badged]));
    let mut words = context(0x40_0000, 0, badged, 0);
    words[4] = kernel_abi::MessageInfo::new(17, 0, 0, 1).0;
    words[5] = 4711;
    ensure_ok!(write_registers(tcb, true, &words));
    let message = sys::recv(endpoint, reply);
    ensure_eq!(message.badge, 31);
    ensure_eq!(message.label, 17);
    ensure_eq!(message.word(0), 4711);
    // The thread holds a copy of the capability; without it it faults at its next instruction.
    ensure_ok!(delete(slot));
    ensure_ok!(crate::world::revoke(vspace));
    let fault = sys::recv(endpoint, reply);
    ensure_eq!(fault.label, FaultType::VMFault.raw());
    ensure_eq!(fault.word(2), 1);
    Ok(())
}

pub fn asid_pools(world: &mut World) -> Outcome {
    let (untyped, pool) = (world.make(ObjectType::Untyped, 12)?, world.slot());
    let make = |untyped, slot| invoke(ASID_CONTROL, Label::ARMASIDControlMakePool, &[slot, 64], &[untyped, CNODE]);
    let wrong = world.make(ObjectType::Untyped, 13)?;
    ensure_error!(make(wrong, pool), InvalidCapability, 1);
    ensure_error!(make(CNODE, pool), InvalidCapability, 1);
    ensure_error!(make(untyped, TCB), DeleteFirst);
    ensure_error!(invoke(ASID_CONTROL, Label::ARMASIDControlMakePool, &[pool, 64], &[untyped]), TruncatedMessage);
    ensure_ok!(make(untyped, pool));
    ensure_eq!(sys::identify(pool), 13);
    let (another, slot) = (world.make(ObjectType::VSpace, 0)?, world.slot());
    ensure_error!(make(untyped, slot), RevokeFirst);
    ensure_ok!(invoke(pool, Label::ARMASIDPoolAssign, &[], &[another]));
    ensure_error!(invoke(pool, Label::ARMASIDPoolAssign, &[], &[CNODE]), InvalidCapability, 1);
    ensure_error!(invoke(pool, Label::ARMASIDPoolAssign, &[], &[]), TruncatedMessage);
    world.map_tables(another, 0x1000, 3)?;
    // The pool goes: its address spaces are not usable any more.
    ensure_ok!(crate::world::revoke(untyped));
    ensure_eq!(sys::identify(pool), 0);
    let frame = world.make(ObjectType::SmallPage, 0)?;
    ensure_error!(map(frame, another, 0x1000, 15, DATA_ATTRIBUTES), FailedLookup, 0, 1);
    Ok(())
}

pub fn cache_operations(world: &mut World) -> Outcome {
    world.map_tables(VSPACE, FREE_VADDR, 2)?;
    let frame = world.map_new_page(FREE_VADDR)?;
    let on_page = [
        Label::ARMPageCleanData,
        Label::ARMPageCleanInvalidateData,
        Label::ARMPageUnifyInstruction,
        Label::ARMPageInvalidateData,
    ];
    for label in on_page {
        ensure_ok!(invoke(frame, label, &[1, 4096], &[]));
        ensure_error!(invoke(frame, label, &[1], &[]), TruncatedMessage);
        ensure_error!(invoke(frame, label, &[64, 64], &[]), InvalidArgument, 1);
        ensure_error!(invoke(frame, label, &[4096, 4097], &[]), InvalidArgument, 0);
        ensure_error!(invoke(frame, label, &[0, 4097], &[]), InvalidArgument, 0);
    }
    let on_space = [
        Label::ARMVSpaceCleanData,
        Label::ARMVSpaceCleanInvalidateData,
        Label::ARMVSpaceUnifyInstruction,
        Label::ARMVSpaceInvalidateData,
    ];
    let elsewhere = FREE_VADDR + (1 << 36);
    for label in on_space {
        ensure_ok!(invoke(VSPACE, label, &[FREE_VADDR + 8, FREE_VADDR + 4096], &[]));
        ensure_ok!(invoke(VSPACE, label, &[elsewhere, elsewhere + 64], &[]));
        ensure_error!(invoke(VSPACE, label, &[FREE_VADDR], &[]), TruncatedMessage);
        ensure_error!(invoke(VSPACE, label, &[FREE_VADDR, FREE_VADDR], &[]), InvalidArgument, 1);
        ensure_error!(invoke(VSPACE, label, &[TOP, TOP + 2], &[]), IllegalOperation);
        let range = [FREE_VADDR + 8, FREE_VADDR + 4097];
        ensure_error!(invoke(VSPACE, label, &range, &[]), RangeError, FREE_VADDR + 8, FREE_VADDR + 4095);
    }
    let unmapped = world.make(ObjectType::SmallPage, 0)?;
    ensure_error!(invoke(unmapped, Label::ARMPageCleanData, &[0, 64], &[]), IllegalOperation);
    Ok(())
}
