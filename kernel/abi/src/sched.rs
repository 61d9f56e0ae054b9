//! Scheduling constants and flags (sheet §6.4, §8).

/// Least priority.
pub const MIN_PRIO: u64 = 0;
/// Greatest priority.
pub const MAX_PRIO: u64 = 255;
/// Number of priorities.
pub const NUM_PRIORITIES: usize = 256;
/// SchedControl_ConfigureFlags: sporadic-server behaviour (default: constant bandwidth).
pub const SCHED_CONTEXT_SPORADIC: u64 = 1;
/// Microseconds the kernel may take in one entry.
pub const KERNEL_WCET_US: u64 = 10;
/// Least budget and period, microseconds.
pub const MIN_BUDGET_US: u64 = 2 * KERNEL_WCET_US;
/// Refills of every scheduling context.
pub const MIN_REFILLS: u64 = 2;
/// Time slice of the root task, milliseconds, round robin.
pub const BOOT_THREAD_TIME_SLICE_MS: u64 = 5;
/// Most domains a kernel can be booted with.
pub const MAX_DOMAINS: usize = 16;
/// Width of a domain schedule entry's duration.
pub const DOMAIN_DURATION_BITS: u32 = 56;
