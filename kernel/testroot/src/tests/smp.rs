//! Several cores; nothing to do on a machine with one.

use crate::report::Outcome;
use crate::sys::{self, invoke};
use crate::world::{Spec, World};
use core::sync::atomic::{AtomicU64, Ordering};
use kernel_abi::Label;

static COUNTERS: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];
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
