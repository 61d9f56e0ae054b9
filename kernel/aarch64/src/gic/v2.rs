//! GICv2: memory-mapped distributor and CPU interface (IHI 0048B).

use super::{PRIORITY, SPECIAL};
use crate::layout::MAX_CORES;
use tock_registers::interfaces::{Readable, Writeable};
use tock_registers::register_structs;
use tock_registers::registers::{ReadOnly, ReadWrite, WriteOnly};

register_structs! {
    #[allow(missing_docs)]
    Distributor {
        (0x000 => control: ReadWrite<u32>),
        (0x004 => kind: ReadOnly<u32>),
        (0x008 => _reserved0),
        (0x100 => set_enable: [ReadWrite<u32>; 32]),
        (0x180 => clear_enable: [ReadWrite<u32>; 32]),
        (0x200 => set_pending: [ReadWrite<u32>; 32]),
        (0x280 => clear_pending: [ReadWrite<u32>; 32]),
        (0x300 => set_active: [ReadWrite<u32>; 32]),
        (0x380 => clear_active: [ReadWrite<u32>; 32]),
        (0x400 => priority: [ReadWrite<u32>; 256]),
        (0x800 => target: [ReadWrite<u32>; 256]),
        (0xc00 => config: [ReadWrite<u32>; 64]),
        (0xd00 => _reserved1),
        (0xf00 => sgi: WriteOnly<u32>),
        (0xf04 => _reserved2),
        (0xf10 => clear_sgi: [ReadWrite<u32>; 4]),
        (0xf20 => @END),
    }
}

register_structs! {
    #[allow(missing_docs)]
    CpuInterface {
        (0x00 => control: ReadWrite<u32>),
        (0x04 => priority_mask: ReadWrite<u32>),
        (0x08 => binary_point: ReadWrite<u32>),
        (0x0c => acknowledge: ReadOnly<u32>),
        (0x10 => end: WriteOnly<u32>),
        (0x14 => @END),
    }
}

/// Offset of the SGI register in the distributor.
pub const SGI_OFFSET: u64 = 0xf00;

/// A GICv2 in use.
pub struct GicV2 {
    distributor: &'static Distributor,
    cpu: &'static CpuInterface,
    lines: u32,
    /// CPU interface number of each core.
    interface: [u8; MAX_CORES],
    /// Private interrupts that other cores want enabled and disabled: only their own core can reach them.
    deferred: [(u32, u32); MAX_CORES],
}

impl GicV2 {
    /// Takes over the distributor.
    ///
    /// # Safety
    /// Both addresses are device mappings of the blocks, used by nobody else, for ever.
    pub unsafe fn init(distributor: u64, cpu: u64) -> Self {
        // SAFETY: by this function's contract.
        let (distributor, cpu) = unsafe { (&*(distributor as *const Distributor), &*(cpu as *const CpuInterface)) };
        let lines = ((distributor.kind.get() & 31) + 1) * 32;
        let gic = Self { distributor, cpu, lines, interface: [0; MAX_CORES], deferred: [(0, 0); MAX_CORES] };
        distributor.control.set(0);
        for word in 1..(lines / 32) as usize {
            distributor.clear_enable[word].set(!0);
            distributor.clear_pending[word].set(!0);
            distributor.clear_active[word].set(!0);
        }
        for word in 8..(lines / 4) as usize {
            distributor.priority[word].set(PRIORITY);
            distributor.target[word].set(0x0101_0101 << gic.own_interface());
        }
        for word in 2..(lines / 16) as usize {
            distributor.config[word].set(0);
        }
        distributor.control.set(1);
        gic
    }

    /// The calling core's interface number: the target registers of private interrupts read as the own mask.
    fn own_interface(&self) -> u32 {
        match self.distributor.target[0].get() & 0xff {
            // A single-core GIC: target registers read as zero.
            0 => 0,
            mask => mask.trailing_zeros(),
        }
    }

    pub fn init_core(&mut self, core: usize) -> bool {
        self.interface[core] = self.own_interface() as u8;
        self.distributor.clear_enable[0].set(0xffff_0000);
        self.distributor.clear_active[0].set(!0);
        self.distributor.set_enable[0].set(0x0000_ffff);
        for word in 0..8 {
            self.distributor.priority[word].set(PRIORITY);
        }
        self.cpu.priority_mask.set(0xff);
        self.cpu.binary_point.set(0);
        self.cpu.control.set(1);
        true
    }

    pub fn lines(&self) -> u32 {
        self.lines
    }

    pub fn interface_of(&self, core: usize) -> u32 {
        u32::from(self.interface[core])
    }

    pub fn take(&mut self) -> u32 {
        let word = self.cpu.acknowledge.get();
        let irq = word & 0x3ff;
        if irq < SPECIAL {
            self.cpu.end.set(word);
        }
        irq
    }

    pub fn route(&mut self, core: usize, irq: u32) {
        if (32..self.lines).contains(&irq) {
            let (word, shift) = ((irq / 4) as usize, irq % 4 * 8);
            let others = self.distributor.target[word].get() & !(0xff << shift);
            self.distributor.target[word].set(others | 1 << self.interface[core] << shift);
        }
    }

    pub fn defer(&mut self, core: usize, irq: u32, enabled: bool) {
        let (on, off) = &mut self.deferred[core];
        let bit = 1 << irq;
        (*on, *off) = if enabled { (*on | bit, *off & !bit) } else { (*on & !bit, *off | bit) };
    }

    pub fn do_deferred(&mut self, own: usize) {
        let (on, off) = core::mem::take(&mut self.deferred[own]);
        if off != 0 {
            self.distributor.clear_enable[0].set(off);
        }
        if on != 0 {
            self.distributor.set_enable[0].set(on);
        }
    }

    pub fn set_enabled(&mut self, irq: u32, enabled: bool) {
        if irq >= self.lines {
            return;
        }
        let bank = if enabled { &self.distributor.set_enable } else { &self.distributor.clear_enable };
        bank[(irq / 32) as usize].set(1 << (irq % 32));
    }

    pub fn set_trigger(&mut self, irq: u32, edge: bool) {
        if !(16..self.lines).contains(&irq) {
            return;
        }
        let (word, bit) = ((irq / 16) as usize, 2u32 << (irq % 16 * 2));
        let old = self.distributor.config[word].get();
        self.distributor.config[word].set(if edge { old | bit } else { old & !bit });
    }

    /// What to write to the SGI register for `irq` on `core`.
    pub fn sgi_value(&self, irq: u32, core: usize) -> u64 {
        u64::from(1 << (16 + self.interface_of(core)) | irq)
    }

    /// Address and value to take a pending SGI back, from whatever core it came; to be written by the core itself.
    pub fn unkick_register(&self, irq: u32, _core: usize) -> (u64, u32) {
        (&raw const self.distributor.clear_sgi[irq as usize / 4] as u64, 0xff << (irq % 4 * 8))
    }

    pub fn send_sgi(&mut self, irq: u32, target: u32) {
        // Memory written before must be seen by the core that takes the interrupt.
        aarch64_cpu::asm::barrier::dsb(aarch64_cpu::asm::barrier::ISH);
        self.distributor.sgi.set(1 << (16 + (target & 7)) | (irq & 15));
    }
}
