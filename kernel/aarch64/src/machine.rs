//! The board under kernel-core: [`Machine`] in terms of this crate's drivers.

use crate::gic::Gic;
use crate::layout::{PHYS_WINDOW, window};
use crate::{cache, console, fpu, kprintln, mmu, psci, smp, timer};
use bsp_board::{MAX_REGIONS, Region, RegionSet};
use kernel_core::Context;
use kernel_core::machine::{CacheOp, CoreId, Machine};

/// All state of the machine layer that the kernel lock protects.
pub struct Arm {
    /// The interrupt controller.
    pub gic: Gic,
    /// RAM that is mapped in the window.
    pub memory: RegionSet<MAX_REGIONS>,
    /// The kernel's timer interrupt.
    pub timer_irq: u32,
    /// The core that holds the lock.
    pub core: CoreId,
}

impl Arm {
    /// Before boot.
    pub const fn new() -> Self {
        Self { gic: Gic::None, memory: RegionSet::new(), timer_irq: 0, core: 0 }
    }
}

impl Machine for Arm {
    fn window_offset(&self) -> u64 {
        PHYS_WINDOW
    }

    fn cache(&self, op: CacheOp, paddr: u64, len: u64) {
        let Some(range) = Region::from_size(paddr, len) else { return };
        if self.memory.contains(&range) {
            cache::maintain(op, window(paddr), len);
        }
    }

    #[inline]
    fn set_vspace(&mut self, _core: CoreId, space: Option<(u64, u16)>) {
        match space {
            Some((root, asid)) => mmu::set_user_root(root | u64::from(asid) << 48),
            None => mmu::empty_user_space(),
        }
    }

    #[inline]
    fn table_sync(&self) {
        cache::table_sync();
    }

    fn tlb_flush_page(&self, asid: u16, vaddr: u64) {
        cache::tlb_flush_page(asid, vaddr);
    }

    fn tlb_flush_asid(&self, asid: u16) {
        cache::tlb_flush_asid(asid);
    }

    #[inline]
    fn now(&self) -> u64 {
        timer::now()
    }

    #[inline]
    fn set_deadline(&mut self, _core: CoreId, deadline: u64) {
        timer::set_deadline(deadline);
    }

    fn irq_enable(&mut self, core: CoreId, irq: u32) {
        self.gic.enable(self.core, core, irq);
    }

    fn irq_disable(&mut self, core: CoreId, irq: u32) {
        self.gic.set_enabled(self.core, core, irq, false);
    }

    fn irq_hold(&mut self, core: CoreId, irq: u32) {
        self.gic.set_enabled(self.core, core, irq, false);
    }

    fn irq_ack(&mut self, core: CoreId, irq: u32) {
        self.gic.set_enabled(self.core, core, irq, true);
    }

    fn irq_set_trigger(&mut self, core: CoreId, irq: u32, edge: bool) {
        self.gic.set_trigger(core, irq, edge);
    }

    #[inline]
    fn irq_pending(&self, _core: CoreId) -> bool {
        let isr: u64;
        // SAFETY: reads the interrupt status; changes nothing.
        unsafe { core::arch::asm!("mrs {0}, isr_el1", out(reg) isr, options(nomem, nostack, preserves_flags)) };
        isr & 1 << 7 != 0
    }

    fn send_sgi(&mut self, irq: u32, target: u32) {
        self.gic.send_sgi(irq, target);
    }

    fn set_thread_flags(&mut self, _core: CoreId, flags: u64) {
        fpu::set_rights(flags);
    }

    fn fpu_release(&mut self, context: *mut Context) {
        fpu::release(self.core, context);
    }

    fn send_reschedule(&mut self, core: CoreId) {
        self.gic.send_sgi_core(smp::SGI_RESCHEDULE, core);
    }

    fn stall(&mut self, core: CoreId) {
        self.gic.send_sgi_core(smp::SGI_STALL, core);
        smp::wait_parked(core);
    }

    fn putc(&mut self, byte: u8) {
        console::put(byte);
    }

    fn halt(&mut self) {
        kprintln!("kernel: machine halted");
        psci::system_off();
        smp::claim_panic();
        smp::stop();
    }
}
