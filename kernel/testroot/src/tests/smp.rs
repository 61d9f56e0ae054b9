//! Several cores; nothing to do on a machine with one.

use crate::report::Outcome;
use crate::sys::{self, invoke};
use crate::world::{Spec, World};
use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};
use kernel_abi::Label;

static COUNTERS: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];
static BAD: AtomicU64 = AtomicU64::new(0);
static ENDPOINT: AtomicU64 = AtomicU64::new(0);

extern "C" fn count_up(core: u64) -> ! {
    loop {
        COUNTERS[core as usize].fetch_add(1, Ordering::Relaxed);
    }
}

fn count(core: u64) -> u64 {
    COUNTERS[core as usize].load(Ordering::Relaxed)
}

/// Spins until the core's counter has moved on; `false` after a second.
fn moves(core: u64) -> bool {
    let (start, old) = (sys::counter(), count(core));
    while sys::counter() - start < sys::counter_frequency() {
        if count(core) != old {
            return true;
        }
    }
    false
}

pub fn other_core_runs(world: &mut World) -> Outcome {
    for core in 1..world.info.num_nodes {
        let thread = world.thread(Spec { core, ..Spec::at(100) }, count_up, core)?;
        // This thread keeps its own core busy: only another core can count.
        ensure!(moves(core));
        ensure_ok!(invoke(thread.tcb, Label::TCBSuspend, &[], &[]));
        let stopped = count(core);
        ensure!(!moves(core));
        ensure_eq!(count(core), stopped);
        ensure_ok!(invoke(thread.tcb, Label::TCBResume, &[], &[]));
        ensure!(moves(core));
    }
    Ok(())
}

extern "C" fn server(reply: u64) -> ! {
    let endpoint = ENDPOINT.load(Ordering::Relaxed);
    let mut message = sys::recv(endpoint, reply);
    loop {
        message = sys::reply_recv(endpoint, reply, 0, &[message.word(0) + 1], &[]);
    }
}

pub fn call_across(world: &mut World) -> Outcome {
    let (endpoint, reply) = (world.endpoint()?, world.reply()?);
    ENDPOINT.store(endpoint, Ordering::Relaxed);
    let core = world.info.num_nodes - 1;
    world.thread(Spec { core, ..Spec::at(100) }, server, reply)?;
    for i in 0..200 {
        ensure_eq!(sys::call(endpoint, 0, &[i], &[]).word(0), i + 1);
    }
    Ok(())
}

/// Calls the server for ever; every answer must fit. Keeps a pattern in FP registers all the while.
extern "C" fn caller(which: u64) -> ! {
    let endpoint = ENDPOINT.load(Ordering::Relaxed);
    let mut i = which << 32;
    loop {
        let bad: u64;
        // SAFETY: registers only.
        unsafe {
            asm!("dup v17.2d, {p}", "mov v29.16b, v17.16b",
                "svc #0",
                "mov {bad}, v17.d[0]", "eor {bad}, {bad}, {p}", "mov {t}, v29.d[1]", "eor {t}, {t}, {p}",
                "orr {bad}, {bad}, {t}",
                p = in(reg) i ^ 0x5a5a_5a5a_5a5a_5a5a, bad = out(reg) bad, t = out(reg) _,
                in("x7") kernel_abi::Syscall::Yield.raw(),
                out("x0") _, out("x1") _, out("x2") _, out("x3") _, out("x4") _, out("x5") _,
                out("v17") _, out("v29") _);
        }
        let answer = sys::call(endpoint, 0, &[i], &[]).word(0);
        if answer != i + 1 || bad != 0 {
            BAD.fetch_add(1, Ordering::Relaxed);
        }
        COUNTERS[which as usize].fetch_add(1, Ordering::Relaxed);
        i += 1;
    }
}

pub fn moved_about(world: &mut World) -> Outcome {
    let nodes = world.info.num_nodes;
    if nodes == 1 {
        return Ok(());
    }
    let (endpoint, reply) = (world.endpoint()?, world.reply()?);
    ENDPOINT.store(endpoint, Ordering::Relaxed);
    BAD.store(0, Ordering::Relaxed);
    COUNTERS.iter().for_each(|c| c.store(0, Ordering::Relaxed));
    world.thread(Spec { core: nodes - 1, ..Spec::at(120) }, server, reply)?;
    let mut threads = [None; 6];
    for (i, slot) in threads.iter_mut().enumerate() {
        let spec = Spec { core: i as u64 % nodes, budget: (2_000, 2_000), ..Spec::at(100) };
        *slot = Some(world.thread(spec, caller, i as u64)?);
    }
    // From core to core, stopped and started, in the middle of whatever they do.
    let since = sys::counter();
    for round in 0..600u64 {
        if round > 20 && sys::counter() - since > 2 * sys::counter_frequency() {
            break; // a host with fewer processors than this machine
        }
        let Some(thread) = threads[(round * 5 % 6) as usize] else { continue };
        let control = world.info.sched_control.start + round * 7 % nodes;
        ensure_ok!(invoke(control, Label::SchedControlConfigureFlags, &[2_000, 2_000, 0, 0, 0], &[thread.sc]));
        match round % 4 {
            0 => {
                ensure_ok!(invoke(thread.tcb, Label::TCBSetPriority, &[90 + round % 20], &[crate::world::TCB]));
            }
            1 => {
                ensure_ok!(invoke(thread.tcb, Label::TCBSetFlags, &[0, 0], &[]));
            }
            2 => world.sleep(1)?,
            _ => {}
        }
    }
    for _ in 0..50 {
        world.sleep(50)?;
        if (0..threads.len() as u64).all(|i| count(i) > 10) {
            break;
        }
    }
    ensure!((0..threads.len() as u64).all(|i| count(i) > 10));
    ensure_eq!(BAD.load(Ordering::Relaxed), 0);
    Ok(())
}

pub fn kill_across(world: &mut World) -> Outcome {
    for core in 1..world.info.num_nodes {
        for _ in 0..20 {
            let thread = world.thread(Spec { core, ..Spec::at(100) }, count_up, core)?;
            ensure!(moves(core));
            ensure_ok!(crate::world::delete(thread.tcb));
            let stopped = count(core);
            ensure_eq!(count(core), stopped);
            world.clean_up()?;
        }
    }
    Ok(())
}
