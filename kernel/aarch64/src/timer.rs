//! The virtual counter and its timer (PPI 27): the kernel's clock and its one deadline per core. (Arm ARM, D12.)

use core::arch::asm;

/// The virtual counter now, in ticks.
#[inline]
pub fn now() -> u64 {
    let ticks: u64;
    // SAFETY: reads a counter; the barrier keeps the read from being done early.
    unsafe { asm!("isb", "mrs {0}, cntvct_el0", out(reg) ticks, options(nomem, nostack, preserves_flags)) };
    ticks
}

/// Ticks per second as the firmware noted them (CNTFRQ_EL0); 0 if it did not.
pub fn frequency() -> u64 {
    let hz: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mrs {0}, cntfrq_el0", out(reg) hz, options(nomem, nostack, preserves_flags)) };
    hz & 0xffff_ffff
}

/// Raises this core's timer interrupt when the counter reaches `deadline`; `u64::MAX`: never.
#[inline]
pub fn set_deadline(deadline: u64) {
    let enable = u64::from(deadline != u64::MAX);
    // SAFETY: programs the virtual timer, which only the kernel uses.
    unsafe {
        asm!("msr cntv_cval_el0, {0}", "msr cntv_ctl_el0, {1}", "isb", in(reg) deadline, in(reg) enable,
            options(nomem, nostack, preserves_flags));
    }
}
