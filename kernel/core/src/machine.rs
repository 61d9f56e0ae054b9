//! What the object model needs from the machine under it.
//!
//! The kernel core decides; a [`Machine`] does. Every method is called with the kernel lock held and interrupts masked on
//! the calling core, must not block (except [`Machine::stall`], which waits for another core) and must not call back
//! into the kernel. Address arguments are physical unless they say otherwise.
//!
//! Neighbours: implemented by `kernel/aarch64` for the board and by the mock of the host tests.

use crate::context::Context;

/// Index of a core, 0.. in boot order.
pub type CoreId = usize;

/// Most cores a kernel can run on.
pub const MAX_CORES: usize = 8;

/// What to do with the caches for a range of physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheOp {
    /// Write dirty lines back to RAM (point of coherency).
    Clean,
    /// Discard lines. (Lines that the range covers only in part are cleaned as well.)
    Invalidate,
    /// Write back, then discard.
    CleanInvalidate,
    /// Make written instructions visible: clean to the point of unification, invalidate the instruction cache.
    Unify,
}

/// Reads a [`Context::flags`] word.
pub mod thread_flags {
    /// FP/SIMD instructions trap and become a fault of the thread.
    pub const FPU_DISABLED: u64 = 1 << 0;
    /// CNTVCT_EL0 and CNTFRQ_EL0 readable.
    pub const VIRTUAL_COUNTER: u64 = 1 << 1;
    /// CNTP_* usable and CNTPCT_EL0 readable.
    pub const PHYSICAL_TIMER: u64 = 1 << 2;
}

/// The machine: time, interrupts, MMU and caches, other cores, console.
pub trait Machine {
    // -- memory --

    /// Offset of the object window: physical address `p` of RAM is readable and writable by the kernel at virtual
    /// address `p.wrapping_add(window_offset())`, as normal cacheable memory, for all RAM given to
    /// [`crate::boot::BootConfig::memory`]. Constant for the kernel's life. Window addresses must be canonical 48-bit
    /// addresses (bits 63..47 equal).
    fn window_offset(&self) -> u64;

    /// Cache maintenance of `len` bytes of RAM at `paddr`. A range outside the window is ignored.
    fn cache(&self, op: CacheOp, paddr: u64, len: u64);

    // -- MMU --

    /// Loads user translation on this core: `Some((root, asid))` = table at physical `root`; `None` = an address space
    /// where every EL0 access faults. Called only when the value changes.
    fn set_vspace(&mut self, core: CoreId, space: Option<(u64, u16)>);

    /// Makes a store to a page-table entry visible to the table walkers of all cores.
    fn table_sync(&self);

    /// Drops the translations of one page of `vaddr` from the TLBs of all cores.
    fn tlb_flush_page(&self, asid: u16, vaddr: u64);

    /// Drops all translations of an ASID from the TLBs of all cores.
    fn tlb_flush_asid(&self, asid: u16);

    // -- time --

    /// The counter, in ticks of [`crate::boot::BootConfig::timer_hz`]. Never runs backwards on a core.
    fn now(&self) -> u64;

    /// Raises the kernel's timer interrupt on this core at counter value `deadline` (at once if already past);
    /// `u64::MAX` = never.
    fn set_deadline(&mut self, core: CoreId, deadline: u64);

    // -- interrupts (numbers are GIC INTIDs) --

    /// Lets the interrupt through to `core` (a handler was issued).
    fn irq_enable(&mut self, core: CoreId, irq: u32);

    /// Masks the interrupt (its last handler is gone).
    fn irq_disable(&mut self, core: CoreId, irq: u32);

    /// The interrupt just handled by `handle_interrupt` has been passed to user land (or has no handler): end it at the
    /// controller such that it cannot fire again before [`Machine::irq_ack`].
    fn irq_hold(&mut self, core: CoreId, irq: u32);

    /// User land acknowledged: the interrupt may fire again. Harmless at any time.
    fn irq_ack(&mut self, core: CoreId, irq: u32);

    /// Sets the trigger mode.
    fn irq_set_trigger(&mut self, core: CoreId, irq: u32, edge: bool);

    /// Whether an interrupt is waiting for this core: asked at preemption points.
    fn irq_pending(&self, core: CoreId) -> bool;

    /// Raises software-generated interrupt `irq` (0..=15) on CPU interface `target`.
    fn send_sgi(&mut self, irq: u32, target: u32);

    // -- threads and cores --

    /// Tells the rights of the thread that will run next on this core ([`thread_flags`]). Called only when the value
    /// changes.
    fn set_thread_flags(&mut self, core: CoreId, flags: u64);

    /// If `context`'s FP registers are live on any core, saves them to the context and forgets the ownership. Called
    /// before a thread moves to another core and before its memory goes away.
    fn fpu_release(&mut self, context: *mut Context);

    /// Makes `core` enter [`crate::Kernel::handle_reschedule`] soon. `core` is another core than the caller's.
    fn send_reschedule(&mut self, core: CoreId);

    /// Returns when `core` (another one) executes no user code: it has saved its thread's registers and waits for the
    /// kernel lock, or is idle. It must enter the kernel (any handler) before running user code again.
    fn stall(&mut self, core: CoreId);

    // -- console --

    /// Prints a byte on the debug console (`\n` is turned into `\r\n` here).
    fn putc(&mut self, byte: u8);

    /// Stops the machine. Does not return on hardware.
    fn halt(&mut self);
}
