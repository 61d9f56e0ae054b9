//! What a core finds through TPIDR_EL1: its stacks and its number.

use crate::layout::{CORE_STACK_SIZE, CORE_STACKS, MAX_CORES, STACK_GUARD};
use core::ptr::{addr_of, addr_of_mut};

/// Per-core block; assembly reads it by offset.
#[repr(C)]
pub struct PerCore {
    /// Top of the kernel stack.
    pub stack_top: u64,
    /// Index of the core; directly behind `stack_top` (loaded as a pair).
    pub core: u64,
    /// Top of the stack for faults of the kernel itself.
    pub emergency_top: u64,
    _pad: [u64; 5],
}

/// Filled in by [`init`] before any trap is taken; read by assembly.
pub static mut PER_CORE: [PerCore; MAX_CORES] =
    [const { PerCore { stack_top: 0, core: 0, emergency_top: 0, _pad: [0; 5] } }; MAX_CORES];

const _: () = {
    assert!(size_of::<PerCore>() == 64);
    assert!(core::mem::offset_of!(PerCore, core) == core::mem::offset_of!(PerCore, stack_top) + 8);
};

/// Fills in all cores' blocks.
///
/// # Safety
/// Called once, by the boot core, before traps and other cores are on.
pub unsafe fn init() {
    // SAFETY: nobody else uses the blocks yet.
    let blocks = unsafe { &mut *addr_of_mut!(PER_CORE) };
    for (core, block) in blocks.iter_mut().enumerate() {
        let bottom = addr_of!(CORE_STACKS) as u64 + (core * CORE_STACK_SIZE) as u64;
        block.stack_top = bottom + CORE_STACK_SIZE as u64;
        block.core = core as u64;
        block.emergency_top = bottom + STACK_GUARD as u64;
    }
}
