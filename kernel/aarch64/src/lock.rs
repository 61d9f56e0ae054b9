//! The big kernel lock: first come, first served, and nothing at all on a machine with one core.
//!
//! A core that has to wait first spins and then sleeps until the core before it wakes it by an SGI. Real cores hardly ever
//! get that far; the cores of a virtual machine that has more of them than its host would otherwise spin away the very
//! time that the holder of the lock needs.

use crate::gic;
use crate::layout::MAX_CORES;
use crate::machine::Arm;
use crate::{fpu, smp};
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering};
use kernel_core::Kernel;

/// Looks at the lock before a waiting core sleeps.
const SPINS: u32 = 2000;
/// Value of [`ASLEEP`] of a core that does not sleep; tickets are even numbers.
const AWAKE: u32 = 1;
/// Step from ticket to ticket.
const STEP: u32 = 2;

static NEXT: AtomicU32 = AtomicU32::new(0);
static SERVING: AtomicU32 = AtomicU32::new(0);
/// How many cores sleep, or are about to.
static SLEEPERS: AtomicU32 = AtomicU32::new(0);
/// The ticket each core sleeps with.
static ASLEEP: [AtomicU32; MAX_CORES] = [const { AtomicU32::new(AWAKE) }; MAX_CORES];

/// The kernel's whole state.
struct State(UnsafeCell<Kernel<Arm>>);

// SAFETY: reached only through `Locked`, of which there is one at a time, and by the panic handler, which nobody outlives.
// The pointers inside lead to objects that belong to the kernel alone.
unsafe impl Sync for State {}

static KERNEL: State = State(UnsafeCell::new(Kernel::new(Arm::new())));

/// The kernel, locked by this core. (Not `Send`: the lock belongs to the core.)
pub struct Locked {
    _not_send: core::marker::PhantomData<*mut ()>,
}

impl Deref for Locked {
    type Target = Kernel<Arm>;
    #[inline]
    fn deref(&self) -> &Kernel<Arm> {
        // SAFETY: the lock is held.
        unsafe { &*KERNEL.0.get() }
    }
}

impl DerefMut for Locked {
    #[inline]
    fn deref_mut(&mut self) -> &mut Kernel<Arm> {
        // SAFETY: the lock is held, and `self` is borrowed for as long as the reference lives.
        unsafe { &mut *KERNEL.0.get() }
    }
}

impl Drop for Locked {
    #[inline]
    fn drop(&mut self) {
        if smp::is_multicore() {
            release();
        }
    }
}

/// Takes the kernel lock for `core`, which does not hold it.
#[inline]
pub fn lock(core: usize) -> Locked {
    if smp::is_multicore() {
        let ticket = NEXT.fetch_add(STEP, Ordering::Relaxed);
        if SERVING.load(Ordering::Acquire) != ticket {
            wait(core, ticket);
        }
    }
    let mut kernel = Locked { _not_send: core::marker::PhantomData };
    kernel.machine.core = core;
    kernel
}

/// The kernel's state without the lock, for the panic handler only.
pub fn state_of_the_dead() -> *const Kernel<Arm> {
    KERNEL.0.get()
}

/// Another core holds the lock: wait for it parked, so that it can rely on this core's user state being saved.
#[cold]
fn wait(core: usize, ticket: u32) {
    fpu::park(core);
    smp::set_parked(core, true);
    let mut spins = 0;
    while SERVING.load(Ordering::Acquire) != ticket {
        smp::stop_if_panicked();
        core::hint::spin_loop();
        spins += 1;
        if spins == SPINS {
            sleep(core, ticket);
        }
    }
    smp::set_parked(core, false);
}

/// Sleeps until it is this ticket's turn. An interrupt that is pending for this core makes it spin instead.
fn sleep(core: usize, ticket: u32) {
    ASLEEP[core].store(ticket, Ordering::SeqCst);
    SLEEPERS.fetch_add(1, Ordering::SeqCst);
    // Either this sees the lock handed over, or the one who hands it over sees the sleeper.
    while SERVING.load(Ordering::SeqCst) != ticket {
        aarch64_cpu::asm::wfi();
        smp::stop_if_panicked();
    }
    SLEEPERS.fetch_sub(1, Ordering::SeqCst);
    ASLEEP[core].store(AWAKE, Ordering::Relaxed);
    gic::unkick(core);
}

/// Hands the lock to the next in line.
#[inline]
fn release() {
    let next = SERVING.fetch_add(STEP, Ordering::SeqCst).wrapping_add(STEP);
    if SLEEPERS.load(Ordering::SeqCst) != 0 {
        wake(next);
    }
}

#[cold]
fn wake(ticket: u32) {
    for (core, asleep) in ASLEEP.iter().enumerate() {
        if asleep.load(Ordering::SeqCst) == ticket {
            gic::kick(core);
        }
    }
}
