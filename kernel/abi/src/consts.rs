//! Limits of this platform and build (sheet §8.6, §10, §13).

/// Greatest interrupt number.
pub const MAX_IRQ: u64 = 159;
/// Number of interrupt numbers.
pub const NUM_IRQS: usize = MAX_IRQ as usize + 1;
/// Number of software-generated interrupts.
pub const NUM_SGIS: u64 = 16;
/// The kernel's own timer interrupt (virtual timer).
pub const KERNEL_TIMER_IRQ: u64 = 27;
/// CPU interfaces an SGI can name on GICv2.
pub const NUM_SGI_TARGETS: u64 = 8;
/// Units of work between preemption checks.
pub const WORK_UNITS_PER_PREEMPTION: u32 = 100;
/// log2 of the chunk in which untyped memory is zeroed.
pub const RESET_CHUNK_BITS: u32 = 8;
/// Radix of the root CNode by default.
pub const DEFAULT_ROOT_CNODE_BITS: u32 = 13;
/// Longest thread name, without its terminator.
pub const MAX_THREAD_NAME: usize = 847;
/// Width of a cache line, log2 bytes.
pub const CACHE_LINE_BITS: u32 = 6;
