//! The generic timer at EL0. A thread without the right (`SmiTcbSetCounterAccess`) faults here.

use core::arch::asm;

/// The virtual counter, in ticks of [`frequency`].
#[inline]
pub fn virtual_count() -> u64 {
    let count;
    // SAFETY: reads a counter; the barrier keeps it from being read ahead of earlier instructions.
    unsafe { asm!("isb", "mrs {}, cntvct_el0", out(reg) count, options(nomem, nostack)) }
    count
}

/// The physical counter, in ticks of [`frequency`].
#[inline]
pub fn physical_count() -> u64 {
    let count;
    // SAFETY: as for `virtual_count`.
    unsafe { asm!("isb", "mrs {}, cntpct_el0", out(reg) count, options(nomem, nostack)) }
    count
}

/// Ticks per second.
#[inline]
pub fn frequency() -> u64 {
    let frequency;
    // SAFETY: reads a constant register.
    unsafe { asm!("mrs {}, cntfrq_el0", out(reg) frequency, options(nomem, nostack, preserves_flags)) }
    frequency
}

/// Makes the EL0 physical timer fire (a level interrupt, PPI 30) when the physical counter reaches `count`.
pub fn physical_timer_arm(count: u64) {
    // SAFETY: programs a timer that this thread was given.
    unsafe {
        asm!("msr cntp_cval_el0, {}", "msr cntp_ctl_el0, {}", "isb", in(reg) count, in(reg) 1u64, options(nomem, nostack))
    }
}

/// Stops the EL0 physical timer and so withdraws its interrupt.
pub fn physical_timer_stop() {
    // SAFETY: as for `physical_timer_arm`.
    unsafe { asm!("msr cntp_ctl_el0, {}", "isb", in(reg) 0u64, options(nomem, nostack)) }
}
