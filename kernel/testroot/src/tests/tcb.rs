//! Threads: registers, states, priorities, spaces.

use crate::report::Outcome;
use crate::sys::{self, invoke};
use crate::world::{CNODE, Spec, TCB, VSPACE, World, context, exit, write_registers};
use core::sync::atomic::{AtomicU64, Ordering};
use kernel_abi::{CNodeData, Label, ObjectType};

static COUNTER: AtomicU64 = AtomicU64::new(0);

extern "C" fn count_up(_: u64) -> ! {
    loop {
        COUNTER.fetch_add(1, Ordering::Relaxed);
    }
}

fn read(tcb: u64, suspend: bool) -> Outcome<[u64; 36]> {
    let answer = ensure_ok!(invoke(tcb, Label::TCBReadRegisters, &[u64::from(suspend), 36], &[]));
    ensure_eq!(answer.length, 36);
    let mut words = [0; 36];
    words.iter_mut().enumerate().for_each(|(i, w)| *w = answer.word(i));
    Ok(words)
}

pub fn registers(world: &mut World) -> Outcome {
    let tcb = world.make(ObjectType::Tcb, 0)?;
    let fresh = read(tcb, false)?;
    ensure!(fresh.iter().enumerate().all(|(i, &w)| w == if i == 2 { 0x40 } else { 0 }));
    let mut words = [0u64; 36];
    words.iter_mut().enumerate().for_each(|(i, w)| *w = 0x1000 + i as u64);
    words[2] = 0xffff_ffff;
    ensure_ok!(write_registers(tcb, false, &words));
    words[2] = 0xf000_0040;
    ensure!(read(tcb, false)? == words);
    // Only the first ones.
    ensure_ok!(write_registers(tcb, false, &[1, 2]));
    (words[0], words[1]) = (1, 2);
    ensure!(read(tcb, false)? == words);
    ensure_ok!(write_registers(tcb, false, &[]));
    ensure_error!(invoke(tcb, Label::TCBReadRegisters, &[0, 0], &[]), RangeError, 1, 36);
    ensure_error!(invoke(tcb, Label::TCBReadRegisters, &[0, 37], &[]), RangeError, 1, 36);
    ensure_error!(invoke(tcb, Label::TCBReadRegisters, &[0], &[]), TruncatedMessage);
    ensure_error!(invoke(tcb, Label::TCBWriteRegisters, &[0], &[]), TruncatedMessage);
    ensure_error!(invoke(tcb, Label::TCBWriteRegisters, &[0, 3, 1, 2], &[]), TruncatedMessage);
    ensure_error!(invoke(TCB, Label::TCBReadRegisters, &[0, 1], &[]), IllegalOperation);
    ensure_error!(write_registers(TCB, false, &[1]), IllegalOperation);
    Ok(())
}

pub fn copy_registers(world: &mut World) -> Outcome {
    let (a, b) = (world.make(ObjectType::Tcb, 0)?, world.make(ObjectType::Tcb, 0)?);
    let mut words = [0u64; 36];
    words.iter_mut().enumerate().for_each(|(i, w)| *w = 0x2000 + i as u64);
    ensure_ok!(write_registers(a, false, &words));
    words[2] = 0x40;
    // Frame registers only, then the integer registers.
    ensure_ok!(invoke(b, Label::TCBCopyRegisters, &[4], &[a]));
    let half = read(b, false)?;
    ensure!(half[..17] == words[..17]);
    ensure!(half[17..34].iter().all(|&w| w == 0));
    ensure_ok!(invoke(b, Label::TCBCopyRegisters, &[8], &[a]));
    ensure!(read(b, false)?[..34] == words[..34]);
    ensure_error!(invoke(b, Label::TCBCopyRegisters, &[4], &[CNODE]), InvalidCapability, 1);
    ensure_error!(invoke(b, Label::TCBCopyRegisters, &[4], &[]), TruncatedMessage);
    Ok(())
}

pub fn suspend_and_resume(world: &mut World) -> Outcome {
    let thread = world.thread(Spec::at(100), count_up, 0)?;
    let pace = world.thread(Spec { run: false, ..Spec::at(99) }, count_up, 0)?;
    COUNTER.store(0, Ordering::Relaxed);
    world.sleep(5)?;
    let first = COUNTER.load(Ordering::Relaxed);
    ensure!(first > 0);
    ensure_ok!(invoke(thread.tcb, Label::TCBSuspend, &[], &[]));
    let stopped = COUNTER.load(Ordering::Relaxed);
    world.sleep(5)?;
    ensure_eq!(COUNTER.load(Ordering::Relaxed), stopped);
    ensure_ok!(invoke(thread.tcb, Label::TCBResume, &[], &[]));
    ensure_ok!(invoke(thread.tcb, Label::TCBResume, &[], &[]));
    world.sleep(5)?;
    ensure!(COUNTER.load(Ordering::Relaxed) > stopped);
    // Reading with the suspend flag stops the thread; its PC is inside the program.
    let words = read(thread.tcb, true)?;
    ensure!((0x40_0000..0x80_0000).contains(&words[0]));
    let stopped = COUNTER.load(Ordering::Relaxed);
    world.sleep(5)?;
    ensure_eq!(COUNTER.load(Ordering::Relaxed), stopped);
    let _ = pace;
    Ok(())
}

pub fn priorities(world: &mut World) -> Outcome {
    let thread = world.thread(Spec { run: false, ..Spec::at(5) }, count_up, 0)?;
    let tcb = thread.tcb;
    ensure_ok!(invoke(tcb, Label::TCBSetMCPriority, &[10], &[TCB]));
    // The authority's MCP is what counts.
    ensure_error!(invoke(TCB, Label::TCBSetPriority, &[11], &[tcb]), RangeError, 0, 10);
    ensure_error!(invoke(TCB, Label::TCBSetMCPriority, &[11], &[tcb]), RangeError, 0, 10);
    ensure_error!(invoke(tcb, Label::TCBSetPriority, &[256], &[TCB]), RangeError, 0, 255);
    ensure_ok!(invoke(tcb, Label::TCBSetPriority, &[200], &[TCB]));
    ensure_error!(invoke(tcb, Label::TCBSetPriority, &[1], &[CNODE]), InvalidCapability, 1);
    ensure_error!(invoke(tcb, Label::TCBSetPriority, &[1], &[]), TruncatedMessage);
    ensure_error!(invoke(tcb, Label::TCBSetSchedParams, &[11, 0], &[tcb, 0, 0]), RangeError, 0, 10);
    ensure_error!(invoke(tcb, Label::TCBSetSchedParams, &[0, 0], &[TCB, CNODE, 0]), InvalidCapability, 2);
    ensure_error!(invoke(tcb, Label::TCBSetSchedParams, &[0, 0], &[TCB, thread.sc, CNODE]), InvalidCapability, 3);
    let other = world.sched_context(8, 1000, 1000, 0, 0, 0)?;
    ensure_error!(invoke(tcb, Label::TCBSetSchedParams, &[0, 0], &[TCB, other, 0]), IllegalOperation);
    ensure_error!(invoke(TCB, Label::TCBSetSchedParams, &[255, 255], &[TCB, 0, 0]), IllegalOperation);
    Ok(())
}

pub fn flags_and_tls(world: &mut World) -> Outcome {
    let tcb = world.make(ObjectType::Tcb, 0)?;
    ensure_eq!(ensure_ok!(invoke(tcb, Label::TCBSetFlags, &[0, 3], &[])).word(0), 1);
    let answer = ensure_ok!(invoke(tcb, Label::TCBSetFlags, &[1, 0], &[]));
    ensure_eq!(answer.word(0), 0);
    ensure_eq!(answer.length, 1);
    ensure_error!(invoke(tcb, Label::TCBSetFlags, &[0], &[]), TruncatedMessage);
    ensure_ok!(invoke(tcb, Label::TCBSetTLSBase, &[0x1234_5678], &[]));
    ensure_eq!(read(tcb, false)?[34], 0x1234_5678);
    ensure_error!(invoke(tcb, Label::TCBSetTLSBase, &[], &[]), TruncatedMessage);
    Ok(())
}

extern "C" fn signal_once(notification: u64) -> ! {
    sys::signal(notification);
    exit()
}

pub fn spaces(world: &mut World) -> Outcome {
    // A thread with a small CSpace of its own: address 0b11_01 = guard 0b11, slot 1.
    let thread = world.thread(Spec { run: false, ..Spec::at(100) }, signal_once, 0)?;
    let cnode = world.make(ObjectType::CNode, 2)?;
    let notification = world.notification()?;
    let badged = world.badged(notification, 66)?;
    ensure_ok!(invoke(cnode, Label::CNodeCopy, &[1, 2, badged, 64, 15], &[CNODE]));
    let data = CNodeData::new(0b11, 62).0;
    ensure_ok!(invoke(thread.tcb, Label::TCBSetSpace, &[data, 0], &[0, cnode, VSPACE]));
    let words = context(signal_once as *const () as u64, 0, 0b1101, 0);
    ensure_ok!(write_registers(thread.tcb, false, &words[..1]));
    let mut all = read(thread.tcb, false)?;
    all[3] = 0b1101;
    ensure_ok!(write_registers(thread.tcb, true, &all));
    ensure_eq!(sys::wait(notification).badge, 66);
    Ok(())
}

pub fn errors(world: &mut World) -> Outcome {
    let tcb = world.make(ObjectType::Tcb, 0)?;
    ensure_error!(invoke(tcb, Label::CNodeDelete, &[], &[]), IllegalOperation);
    ensure_error!(invoke(tcb, Label::TCBConfigure, &[0, 0], &[CNODE, VSPACE, 0]), TruncatedMessage);
    ensure_error!(invoke(tcb, Label::TCBConfigure, &[0, 0, 0], &[CNODE, VSPACE]), TruncatedMessage);
    ensure_error!(invoke(tcb, Label::TCBConfigure, &[0, 0, 0], &[TCB, VSPACE, 0]), IllegalOperation);
    ensure_error!(invoke(tcb, Label::TCBConfigure, &[0, 0, 0], &[CNODE, CNODE, 0]), IllegalOperation);
    ensure_error!(invoke(tcb, Label::TCBConfigure, &[63, 0, 0], &[CNODE, VSPACE, 0]), IllegalOperation);
    ensure_error!(invoke(tcb, Label::TCBSetSpace, &[0, 0], &[CNODE, CNODE, VSPACE]), InvalidCapability, 1);
    ensure_error!(invoke(tcb, Label::TCBSetTimeoutEndpoint, &[], &[CNODE]), InvalidCapability, 1);
    ensure_error!(invoke(tcb, Label::TCBSetTimeoutEndpoint, &[], &[]), TruncatedMessage);
    let vspace = world.make(ObjectType::VSpace, 0)?;
    ensure_error!(invoke(tcb, Label::TCBConfigure, &[0, 0, 0], &[CNODE, vspace, 0]), IllegalOperation);
    // A thread without anything: resuming it is harmless.
    ensure_ok!(invoke(tcb, Label::TCBResume, &[], &[]));
    Ok(())
}
