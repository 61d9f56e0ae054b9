//! The clock. Needs `counter = true` in the manifest; without it the first reading faults.

use smi_sys::counter;

const NS: u64 = 1_000_000_000;

/// Nanoseconds since the machine was started. Never goes back; the same on all servers of a node.
#[inline]
pub fn now_ns() -> u64 {
    ticks_to_ns(counter::virtual_count(), counter::frequency())
}

/// Counter ticks as nanoseconds.
#[inline]
pub fn ticks_to_ns(ticks: u64, frequency: u64) -> u64 {
    (ticks / frequency) * NS + (ticks % frequency) * NS / frequency
}

/// Nanoseconds as counter ticks, rounded up: a deadline in ticks is never early. Saturates.
#[inline]
pub fn ns_to_ticks(ns: u64, frequency: u64) -> u64 {
    (ns / NS).saturating_mul(frequency).saturating_add(((ns % NS) * frequency).div_ceil(NS))
}
