//! GICv3: memory-mapped distributor and redistributors, CPU interface in system registers (IHI 0069H), affinity routing,
//! interrupts in (non-secure) group 1.

use super::{PRIORITY, SPECIAL};
use crate::layout::{MAX_CORES, window};
use crate::mmu::own_affinity;
use bsp_board::Region;
use core::arch::asm;
use tock_registers::interfaces::{Readable, Writeable};
use tock_registers::register_structs;
use tock_registers::registers::{ReadOnly, ReadWrite};

register_structs! {
    #[allow(missing_docs)]
    Distributor {
        (0x0000 => control: ReadWrite<u32>),
        (0x0004 => kind: ReadOnly<u32>),
        (0x0008 => _reserved0),
        (0x0080 => group: [ReadWrite<u32>; 32]),
        (0x0100 => set_enable: [ReadWrite<u32>; 32]),
        (0x0180 => clear_enable: [ReadWrite<u32>; 32]),
        (0x0200 => _reserved1),
        (0x0280 => clear_pending: [ReadWrite<u32>; 32]),
        (0x0300 => _reserved2),
        (0x0380 => clear_active: [ReadWrite<u32>; 32]),
        (0x0400 => priority: [ReadWrite<u32>; 256]),
        (0x0800 => _reserved3),
        (0x0c00 => config: [ReadWrite<u32>; 64]),
        (0x0d00 => _reserved4),
        (0x6000 => route: [ReadWrite<u64>; 1020]),
        (0x7fe0 => @END),
    }
}

register_structs! {
    #[allow(missing_docs)]
    Redistributor {
        (0x00000 => control: ReadWrite<u32>),
        (0x00004 => _reserved0),
        (0x00008 => kind: ReadOnly<u64>),
        (0x00010 => _reserved1),
        (0x00014 => waker: ReadWrite<u32>),
        (0x00018 => _reserved2),
        (0x10080 => group: ReadWrite<u32>),
        (0x10084 => _reserved3),
        (0x10100 => set_enable: ReadWrite<u32>),
        (0x10104 => _reserved4),
        (0x10180 => clear_enable: ReadWrite<u32>),
        (0x10184 => _reserved5),
        (0x10280 => clear_pending: ReadWrite<u32>),
        (0x10284 => _reserved8),
        (0x10380 => clear_active: ReadWrite<u32>),
        (0x10384 => _reserved6),
        (0x10400 => priority: [ReadWrite<u32>; 8]),
        (0x10420 => _reserved7),
        (0x10c00 => config: [ReadWrite<u32>; 2]),
        (0x10c08 => @END),
    }
}

/// Distributor control: affinity routing, group 1.
const ENABLE: u32 = 1 << 4 | 1 << 1;
/// Distributor and redistributor control: a write is still on its way.
const WRITE_PENDING: u32 = 1 << 31;
const REDISTRIBUTOR_WRITE_PENDING: u32 = 1 << 3;
/// Polls of a hardware handshake before it is given up.
const PATIENCE: u32 = 1_000_000;

/// A GICv3 in use.
pub struct GicV3 {
    distributor: &'static Distributor,
    regions: [Option<Region>; bsp_board::MAX_REDISTRIBUTORS],
    redistributor: [Option<&'static Redistributor>; MAX_CORES],
    affinity: [u64; MAX_CORES],
    lines: u32,
}

/// Waits until `done`, within reason.
fn wait(done: impl Fn() -> bool) {
    for _ in 0..PATIENCE {
        if done() {
            return;
        }
    }
}

impl GicV3 {
    /// Takes over the distributor.
    ///
    /// # Safety
    /// Distributor and redistributors are mapped as devices in the physical window and used by nobody else, for ever.
    pub unsafe fn init(distributor: u64, redistributors: &[Option<Region>; bsp_board::MAX_REDISTRIBUTORS]) -> Self {
        // SAFETY: by this function's contract.
        let distributor = unsafe { &*(distributor as *const Distributor) };
        let lines = (((distributor.kind.get() & 31) + 1) * 32).min(SPECIAL);
        let gic = Self {
            distributor,
            regions: *redistributors,
            redistributor: [None; MAX_CORES],
            affinity: [0; MAX_CORES],
            lines,
        };
        distributor.control.set(0);
        gic.settle();
        for word in 1..lines.div_ceil(32) as usize {
            distributor.clear_enable[word].set(!0);
            distributor.clear_pending[word].set(!0);
            distributor.clear_active[word].set(!0);
            distributor.group[word].set(!0);
        }
        for word in 8..(lines / 4) as usize {
            distributor.priority[word].set(PRIORITY);
        }
        for word in 2..(lines / 16) as usize {
            distributor.config[word].set(0);
        }
        gic.settle();
        distributor.control.set(ENABLE);
        gic.settle();
        for irq in 32..lines as usize {
            distributor.route[irq].set(own_affinity());
        }
        gic
    }

    fn settle(&self) {
        wait(|| self.distributor.control.get() & WRITE_PENDING == 0);
    }

    /// The redistributor with the calling core's affinity.
    fn find_redistributor(&self) -> Option<&'static Redistributor> {
        let mpidr = own_affinity();
        let wanted = mpidr & 0xff_ffff | mpidr >> 32 << 24;
        for region in self.regions.iter().flatten() {
            let mut at = region.start;
            while at + 0x2_0000 <= region.end {
                // SAFETY: inside a redistributor region, mapped by `init`'s contract; frames are 128 KiB (256 KiB with
                // virtual LPIs) and the last one says so.
                let frame = unsafe { &*(window(at) as *const Redistributor) };
                let kind = frame.kind.get();
                if kind >> 32 == wanted {
                    return Some(frame);
                }
                if kind & 1 << 4 != 0 {
                    break;
                }
                at += if kind & 1 << 1 != 0 { 0x4_0000 } else { 0x2_0000 };
            }
        }
        None
    }

    pub fn init_core(&mut self, core: usize) -> bool {
        let Some(frame) = self.find_redistributor() else { return false };
        self.redistributor[core] = Some(frame);
        self.affinity[core] = own_affinity();
        frame.waker.set(frame.waker.get() & !(1 << 1));
        wait(|| frame.waker.get() & 1 << 2 == 0);
        frame.clear_enable.set(0xffff_0000);
        frame.clear_active.set(!0);
        frame.group.set(!0);
        for word in &frame.priority {
            word.set(PRIORITY);
        }
        frame.set_enable.set(0x0000_ffff);
        wait(|| frame.control.get() & REDISTRIBUTOR_WRITE_PENDING == 0);
        // SAFETY: the CPU interface of this core: system registers on, all priorities, one-step end, group 1.
        unsafe {
            asm!(
                "msr S3_0_C12_C12_5, {sre}", // ICC_SRE_EL1
                "isb",
                "msr S3_0_C4_C6_0, {mask}",  // ICC_PMR_EL1
                "msr S3_0_C12_C12_3, xzr",   // ICC_BPR1_EL1
                "msr S3_0_C12_C12_4, xzr",   // ICC_CTLR_EL1
                "msr S3_0_C12_C12_7, {one}", // ICC_IGRPEN1_EL1
                "isb",
                sre = in(reg) 7u64, mask = in(reg) 0xffu64, one = in(reg) 1u64,
            );
        }
        true
    }

    pub fn lines(&self) -> u32 {
        self.lines
    }

    pub fn take(&mut self) -> u32 {
        let irq: u64;
        // SAFETY: acknowledges and ends an interrupt at this core's interface (ICC_IAR1_EL1, ICC_EOIR1_EL1).
        unsafe {
            asm!("mrs {0}, S3_0_C12_C12_0", "dsb sy", out(reg) irq, options(nostack, preserves_flags));
            if (irq as u32) < SPECIAL {
                asm!("msr S3_0_C12_C12_1, {0}", "isb", in(reg) irq, options(nostack, preserves_flags));
            }
        }
        irq as u32 & 0xff_ffff
    }

    pub fn route(&mut self, core: usize, irq: u32) {
        if (32..self.lines).contains(&irq) {
            self.distributor.route[irq as usize].set(self.affinity[core]);
        }
    }

    pub fn set_enabled(&mut self, core: usize, irq: u32, enabled: bool) {
        let bit = 1 << (irq % 32);
        if irq >= self.lines {
            return;
        }
        if irq < 32 {
            let Some(frame) = self.redistributor[core] else { return };
            if enabled {
                frame.set_enable.set(bit)
            } else {
                frame.clear_enable.set(bit)
            }
            wait(|| frame.control.get() & REDISTRIBUTOR_WRITE_PENDING == 0);
        } else {
            let word = (irq / 32) as usize;
            if enabled {
                self.distributor.set_enable[word].set(bit);
            } else {
                self.distributor.clear_enable[word].set(bit);
            }
            self.settle();
        }
    }

    pub fn set_trigger(&mut self, core: usize, irq: u32, edge: bool) {
        let bit = 2u32 << (irq % 16 * 2);
        let register = match irq {
            16..32 => self.redistributor[core].map(|frame| &frame.config[1]),
            32.. if irq < self.lines => Some(&self.distributor.config[(irq / 16) as usize]),
            _ => None,
        };
        if let Some(register) = register {
            register.set(if edge { register.get() | bit } else { register.get() & !bit });
        }
    }

    /// What to write to ICC_SGI1R_EL1 for `irq` on `core`.
    pub fn sgi_value(&self, irq: u32, core: usize) -> u64 {
        let affinity = self.affinity[core];
        let (a0, a1, a2, a3) = (affinity & 15, affinity >> 8 & 0xff, affinity >> 16 & 0xff, affinity >> 32 & 0xff);
        let range = affinity >> 4 & 15;
        a3 << 48 | range << 44 | a2 << 32 | u64::from(irq & 15) << 24 | a1 << 16 | 1 << a0
    }

    /// Address and value to take a pending SGI back.
    pub fn unkick_register(&self, irq: u32, core: usize) -> (u64, u32) {
        self.redistributor[core].map_or((0, 0), |frame| (&raw const frame.clear_pending as u64, 1 << irq))
    }

    pub fn send_sgi(&mut self, irq: u32, target: u32) {
        if target as usize >= MAX_CORES {
            return;
        }
        let value = self.sgi_value(irq, target as usize);
        // SAFETY: raises an SGI (ICC_SGI1R_EL1); memory written before is visible to the target.
        unsafe { asm!("dsb ish", "msr S3_0_C12_C11_5, {0}", "isb", in(reg) value, options(nostack)) };
    }
}
