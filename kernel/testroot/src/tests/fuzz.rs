//! Random system calls by a thread that holds a bit of everything. Whatever it does must stay its own problem: the kernel
//! goes on, this thread's things are as before, and all memory comes back.
//!
//! The sequence of calls has a fixed seed; with deterministic time (`-icount`) a run repeats exactly.

use crate::report::Outcome;
use crate::sys::{self, invoke};
use crate::world::{
    ASID_CONTROL, ASID_POOL, CNODE, DOMAIN, FREE_VADDR, Spec, TCB, VSPACE, World, context, copy, delete, revoke,
    write_registers,
};
use core::sync::atomic::{AtomicU64, Ordering};
use kernel_abi::{CNodeData, Label, ObjectType};

/// System calls to be made.
const CALLS: u64 = 30_000;
/// System calls after which the thread is started anew, if it has not blocked or faulted before.
const CALLS_PER_START: u64 = 200;
/// Starts after which its capabilities are made anew.
const STARTS_PER_STOCK: u64 = 40;
/// Radix of the victim's CNode.
const RADIX: u32 = 6;
const SLOTS: u64 = 1 << RADIX;
/// Its untyped, log2 bytes.
const MEMORY_BITS: u64 = 16;

static DONE: AtomicU64 = AtomicU64::new(0);
static STATE: AtomicU64 = AtomicU64::new(0);

/// xorshift64*.
fn random() -> u64 {
    let mut x = STATE.load(Ordering::Relaxed);
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    STATE.store(x, Ordering::Relaxed);
    x.wrapping_mul(0x2545_f491_4f6c_dd1d)
}

fn below(n: u64) -> u64 {
    (random() >> 11) % n
}

/// A number that some check may be about.
fn interesting() -> u64 {
    match below(16) {
        0 => random(),
        1 => 1 << below(64),
        2 => (1 << below(64)) - 1,
        3 => u64::MAX - below(4),
        4 => FREE_VADDR + (below(8) << 12),
        5 => below(8) << 21,
        6 => 0x7fff_ffff_f000,
        7 => CNodeData::new(below(4), 64 - RADIX).0,
        8 => 4096 * below(4),
        9..13 => below(SLOTS),
        13 => u64::from(RADIX),
        14 => 64,
        _ => below(130),
    }
}

extern "C" fn fuzzer(_: u64) -> ! {
    for _ in 0..CALLS_PER_START {
        let buffer = sys::buffer();
        for word in &mut buffer.msg[4..44] {
            *word = interesting();
        }
        buffer.caps_or_badges = [below(SLOTS), below(SLOTS), interesting()];
        (buffer.receive_cnode, buffer.receive_index, buffer.receive_depth) =
            (below(SLOTS), below(SLOTS), interesting());
        let label = if below(50) == 0 { 0x1000 + below(3) } else { below(58) };
        let info = label << 12 | below(8) << 9 | below(4) << 7 | below(if below(4) == 0 { 128 } else { 12 });
        // Mostly Call, so that operations report and go on; all others, too; the debug calls that only look.
        let number = match below(16) {
            0..9 => -1,
            9..14 => -1 - below(11) as i64,
            14 => -15,
            _ => -20 - below(20) as i64,
        };
        let mut registers = [0; 9];
        registers.iter_mut().for_each(|r| *r = interesting());
        registers[0] = below(SLOTS + 1);
        registers[1] = info;
        registers[6] = below(SLOTS);
        registers[8] = below(SLOTS);
        DONE.fetch_add(1, Ordering::Relaxed);
        sys::svc(number, registers);
    }
    // Enough: end with a fault.
    // SAFETY: the handler does not let it go on from here.
    unsafe { core::arch::asm!("brk #1") };
    crate::world::exit()
}

/// Fills the victim's CNode anew.
fn stock(world: &World, untyped: u64, cnode: u64, others: &[u64]) -> Outcome {
    ensure_ok!(revoke(untyped));
    let put = |slot: u64, cap: u64| invoke(cnode, Label::CNodeCopy, &[slot, u64::from(RADIX), cap, 64, 15], &[CNODE]);
    for slot in 0..SLOTS {
        ensure_ok!(invoke(cnode, Label::CNodeDelete, &[slot, u64::from(RADIX)], &[]));
    }
    // Kinds whose capabilities it may use up: made from its own memory. First child untypeds, then the rest.
    let kinds = [
        (ObjectType::Untyped, 13),
        (ObjectType::Endpoint, 0),
        (ObjectType::Notification, 0),
        (ObjectType::Reply, 0),
        (ObjectType::CNode, 4),
        (ObjectType::SchedContext, 8),
        (ObjectType::Tcb, 0),
        (ObjectType::SmallPage, 0),
        (ObjectType::PageTable, 0),
        (ObjectType::VSpace, 0),
    ];
    let mut slot = 1;
    for (kind, bits) in kinds {
        let words = [kind.raw(), bits, cnode, 64, slot, 2];
        if invoke(untyped, Label::UntypedRetype, &words, &[CNODE]).label != 0 {
            continue; // the memory is used up
        }
        slot += 2;
    }
    for &cap in others {
        ensure_ok!(put(slot, cap));
        slot += 1;
    }
    // Its own CNode, with the guard that makes it a CSpace.
    let guard = CNodeData::new(0, 64 - RADIX).0;
    let words = [slot, u64::from(RADIX), cnode, 64, 15, guard];
    ensure_ok!(invoke(cnode, Label::CNodeMint, &words, &[CNODE]));
    ensure!(slot < SLOTS && world.radix() > 0);
    Ok(())
}

pub fn random_calls(world: &mut World) -> Outcome {
    let (endpoint, fault_reply) = (world.endpoint()?, world.reply()?);
    let fault_endpoint = world.badged(endpoint, 1)?;
    let untyped = world.make(ObjectType::Untyped, MEMORY_BITS)?;
    let cnode = world.make(ObjectType::CNode, u64::from(RADIX))?;
    world.map_tables(VSPACE, FREE_VADDR, 2)?;
    let handler = world.slot();
    ensure_ok!(invoke(crate::world::IRQ_CONTROL, Label::IRQIssueIRQHandler, &[77, handler, 64], &[CNODE]));
    let frame = world.make(ObjectType::SmallPage, 0)?;
    let others = [VSPACE, ASID_POOL, ASID_CONTROL, DOMAIN, handler, frame, world.info.sched_control.start];
    let spec = Spec { run: false, fault_endpoint, ..Spec::at(50) };
    let thread = world.thread(spec, fuzzer, 0)?;
    let buffer = world.last_buffer() as *mut _ as u64;
    let stack = buffer + crate::world::THREAD_MEMORY_SIZE;
    // The domain capability is in its hands: threads it can reach stay where they are, for there is one domain.
    let others = if invoke(DOMAIN, Label::DomainSetSet, &[1], &[thread.tcb]).label == 0 {
        ensure_ok!(invoke(DOMAIN, Label::DomainSetSet, &[0], &[thread.tcb]));
        [VSPACE, ASID_POOL, ASID_CONTROL, handler, handler, frame, world.info.sched_control.start]
    } else {
        others
    };
    STATE.store(0x5eed_5eed_0000_0001, Ordering::Relaxed);
    DONE.store(0, Ordering::Relaxed);
    let guard = CNodeData::new(0, 64 - RADIX).0;
    let mut rounds = 0;
    while DONE.load(Ordering::Relaxed) < CALLS {
        rounds += 1;
        ensure!(rounds < CALLS);
        if rounds % STARTS_PER_STOCK == 1 {
            stock(world, untyped, cnode, &others)?;
        }
        let caps = [fault_endpoint, cnode, VSPACE];
        ensure_ok!(invoke(thread.tcb, Label::TCBSetSpace, &[guard, 0], &caps));
        ensure_ok!(write_registers(thread.tcb, true, &context(fuzzer as *const () as u64, stack, 0, buffer)));
        // Until it faults or blocks.
        world.let_run(40)?;
        while sys::nb_recv(endpoint, fault_reply).badge != 0 {}
        ensure_ok!(invoke(thread.tcb, Label::TCBSuspend, &[], &[]));
    }
    // What was only lent still works.
    let slot = world.slot();
    ensure_ok!(copy(slot, frame));
    ensure_ok!(invoke(slot, Label::ARMPageMap, &[FREE_VADDR, 15, 5], &[VSPACE]));
    ensure_ok!(delete(slot));
    ensure_ok!(revoke(untyped));
    ensure_ok!(crate::world::retype(untyped, ObjectType::Untyped, MEMORY_BITS, slot, 1));
    ensure_eq!(sys::identify(TCB), 12);
    Ok(())
}
