//! Cache and TLB maintenance (Arm ARM, D7.5 and D8.14). All TLB operations reach every core of the inner shareable domain.

use core::arch::asm;
use kernel_core::machine::CacheOp;

fn cache_type() -> u64 {
    let ctr: u64;
    // SAFETY: reads an identification register.
    unsafe { asm!("mrs {0}, ctr_el0", out(reg) ctr, options(nomem, nostack, preserves_flags)) };
    ctr
}

/// Calls `op` with the address of each data cache line of `[start, start + len)`.
fn each_line(start: u64, len: u64, op: impl Fn(u64)) {
    let line = 4u64 << (cache_type() >> 16 & 15);
    let mut at = start & !(line - 1);
    while at < start + len {
        op(at);
        at += line;
    }
}

fn clean(at: u64) {
    // SAFETY: a clean changes no data.
    unsafe { asm!("dc cvac, {0}", in(reg) at, options(nostack, preserves_flags)) };
}

fn clean_invalidate(at: u64) {
    // SAFETY: as above.
    unsafe { asm!("dc civac, {0}", in(reg) at, options(nostack, preserves_flags)) };
}

fn clean_to_unification(at: u64) {
    // SAFETY: as above.
    unsafe { asm!("dc cvau, {0}", in(reg) at, options(nostack, preserves_flags)) };
}

fn barrier() {
    aarch64_cpu::asm::barrier::dsb(aarch64_cpu::asm::barrier::SY);
}

/// Maintains `len` bytes of mapped memory at virtual address `start`.
pub fn maintain(op: CacheOp, start: u64, len: u64) {
    if len == 0 {
        return;
    }
    match op {
        CacheOp::Clean => each_line(start, len, clean),
        CacheOp::CleanInvalidate => each_line(start, len, clean_invalidate),
        CacheOp::Invalidate => invalidate(start, len),
        CacheOp::Unify => {
            each_line(start, len, clean_to_unification);
            barrier();
            // By address would miss the aliases of a virtually indexed cache: user code runs elsewhere than the window.
            // SAFETY: drops instruction cache contents, which are never the only copy.
            unsafe { asm!("ic ialluis", options(nostack, preserves_flags)) };
        }
    }
    barrier();
    aarch64_cpu::asm::barrier::isb(aarch64_cpu::asm::barrier::SY);
}

/// Discards lines; those only partly in the range are written back first, for they hold somebody else's data too.
fn invalidate(start: u64, len: u64) {
    let line = 4u64 << (cache_type() >> 16 & 15);
    let end = start + len;
    each_line(start, len, |at| {
        if at < start || at + line > end {
            clean_invalidate(at);
        } else {
            // SAFETY: the caller gives up the contents of the range.
            unsafe { asm!("dc ivac, {0}", in(reg) at, options(nostack, preserves_flags)) };
        }
    });
}

/// Orders page-table stores before later walks by any core.
#[inline]
pub fn table_sync() {
    // SAFETY: barriers only.
    unsafe { asm!("dsb ishst", "isb", options(nostack, preserves_flags)) };
}

/// Drops one page's translations.
pub fn tlb_flush_page(asid: u16, vaddr: u64) {
    let argument = u64::from(asid) << 48 | (vaddr >> 12 & 0xfff_ffff_ffff);
    // SAFETY: TLB contents are never the only copy.
    unsafe { asm!("dsb ishst", "tlbi vae1is, {0}", "dsb ish", "isb", in(reg) argument, options(nostack)) };
}

/// Drops all translations of an address space.
pub fn tlb_flush_asid(asid: u16) {
    let argument = u64::from(asid) << 48;
    // SAFETY: as above.
    unsafe { asm!("dsb ishst", "tlbi aside1is, {0}", "dsb ish", "isb", in(reg) argument, options(nostack)) };
}
