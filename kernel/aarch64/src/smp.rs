//! Several cores: the state other cores may ask about, inter-processor interrupts, starting secondaries.
//!
//! A core is *parked* when it executes no user code, has no live FP registers and will take the kernel lock before it goes
//! on: it idles or spins for the lock.

use crate::layout::MAX_CORES;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// SGI that asks a core to schedule.
pub const SGI_RESCHEDULE: u32 = 0;
/// SGI that only brings a core into the kernel.
pub const SGI_STALL: u32 = 1;
/// SGI that wakes a core which sleeps until it gets the kernel lock; it is taken back unhandled.
pub const SGI_WAKE: u32 = 2;

/// How many cores run (or are about to).
static ACTIVE: AtomicUsize = AtomicUsize::new(1);
static PARKED: [AtomicBool; MAX_CORES] = [const { AtomicBool::new(true) }; MAX_CORES];
static PANICKED: AtomicBool = AtomicBool::new(false);

/// Notes how many cores will run. Before any secondary is started.
pub fn set_active(cores: usize) {
    ACTIVE.store(cores, Ordering::Release);
}

/// Whether more than one core runs.
#[inline]
pub fn is_multicore() -> bool {
    ACTIVE.load(Ordering::Relaxed) > 1
}

/// Notes that `core` is parked or no longer so. To be called with live FP registers saved, or with the lock held.
pub fn set_parked(core: usize, parked: bool) {
    PARKED[core].store(parked, Ordering::Release);
}

/// Waits until `core` is parked.
pub fn wait_parked(core: usize) {
    while !PARKED[core].load(Ordering::Acquire) {
        stop_if_panicked();
        core::hint::spin_loop();
    }
}

/// Whether a core has panicked; the first caller with `claim` gets `false` and owns the panic.
pub fn claim_panic() -> bool {
    PANICKED.swap(true, Ordering::AcqRel)
}

/// Stops this core for good if another one has panicked.
#[inline]
pub fn stop_if_panicked() {
    if PANICKED.load(Ordering::Relaxed) {
        stop();
    }
}

/// Stops this core for good.
pub fn stop() -> ! {
    loop {
        aarch64_cpu::asm::wfe();
    }
}
