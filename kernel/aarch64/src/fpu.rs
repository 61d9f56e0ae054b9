//! FP/SIMD registers: switched with the thread on the way out to user mode, not on every trap (the kernel has no FP code).
//!
//! Each core remembers whose registers it holds. With several cores the holder is saved before the core waits for the
//! kernel lock, idles, or runs a thread without FP registers: so a thread's registers are in its context whenever another
//! core may look at them, for then the thread does not run, and the core it last ran on does something of the above or
//! has loaded another thread's registers.

use crate::layout::MAX_CORES;
use crate::smp;
use core::arch::asm;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use kernel_core::Context;
use kernel_core::context::FpState;
use kernel_core::machine::thread_flags;

/// The context whose FP registers are live on each core.
static OWNER: [AtomicPtr<Context>; MAX_CORES] = [const { AtomicPtr::new(ptr::null_mut()) }; MAX_CORES];

unsafe extern "C" {
    fn fpu_save(state: *mut FpState);
    fn fpu_restore(state: *const FpState);
}

/// Makes `context`'s FP registers live on this core, unless it may not use them.
///
/// # Safety
/// `context` is the current thread's; the owner's context memory is valid (kernel-core calls `fpu_release` before it is
/// not).
#[inline]
pub unsafe fn activate(core: usize, context: *mut Context) {
    if OWNER[core].load(Ordering::Relaxed) == context {
        return;
    }
    // SAFETY: by this function's contract.
    unsafe {
        if (*context).flags.get() & thread_flags::FPU_DISABLED != 0 {
            // Another core may move the owner while this thread runs: its registers must not stay here only.
            if smp::is_multicore() {
                park(core);
            }
            return;
        }
        let old = OWNER[core].load(Ordering::Relaxed);
        if !old.is_null() {
            fpu_save(&raw mut (*old).fp);
        }
        fpu_restore(&raw const (*context).fp);
    }
    OWNER[core].store(context, Ordering::Relaxed);
}

/// Saves whatever is live on this core to its context.
pub fn park(core: usize) {
    let old = OWNER[core].swap(ptr::null_mut(), Ordering::Relaxed);
    if !old.is_null() {
        // SAFETY: an owner's context is valid until `release`, which forgets it.
        unsafe { fpu_save(&raw mut (*old).fp) };
    }
}

/// Saves `context`'s registers if they are live on this core and forgets the ownership; on other cores they are not live
/// while this one holds the kernel lock (see the module text), except on a core that runs `context` right now.
pub fn release(core: usize, context: *mut Context) {
    if OWNER[core].load(Ordering::Relaxed) == context {
        park(core);
    }
}

/// Rights that every thread has (boot argument `kernel.user_counters`).
static COMMON_RIGHTS: AtomicU64 = AtomicU64::new(0);

/// Lets every thread read the counters and use the physical timer. Takes effect at the next [`set_rights`] of each core.
pub fn open_counters() {
    COMMON_RIGHTS.store(thread_flags::VIRTUAL_COUNTER | thread_flags::PHYSICAL_TIMER, Ordering::Relaxed);
}

/// Sets what EL0 may do on this core: FP/SIMD (CPACR_EL1) and the generic timer (CNTKCTL_EL1).
pub fn set_rights(flags: u64) {
    let flags = flags | COMMON_RIGHTS.load(Ordering::Relaxed);
    // FPEN: 0b11 no trap, 0b01 trap at EL0 only.
    let cpacr: u64 = if flags & thread_flags::FPU_DISABLED != 0 { 1 << 20 } else { 3 << 20 };
    let mut cntkctl: u64 = 0;
    if flags & thread_flags::VIRTUAL_COUNTER != 0 {
        cntkctl |= 1 << 1; // EL0VCTEN
    }
    if flags & thread_flags::PHYSICAL_TIMER != 0 {
        cntkctl |= 1 << 0 | 1 << 9; // EL0PCTEN, EL0PTEN
    }
    // SAFETY: changes EL0's rights only. The exception return that follows synchronises.
    unsafe {
        asm!("msr cpacr_el1, {0}", "msr cntkctl_el1, {1}", "isb", in(reg) cpacr, in(reg) cntkctl,
            options(nostack, preserves_flags));
    }
}
