//! Interrupt controllers: Arm GICv2 (IHI 0048) and GICv3 (IHI 0069), non-secure view, one group.
//!
//! Masking is by the enable bit in both: an interrupt handed to user land stays disabled until it is acknowledged.

mod v2;
mod v3;

use crate::layout::{MAX_CORES, window};
use crate::smp;
use bsp_board as board;
use core::arch::asm;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// First interrupt id that does not exist: reading one of these means "nothing pending".
const SPECIAL: u32 = 1020;
/// Priority of every interrupt (one level is enough: the kernel runs with interrupts masked).
const PRIORITY: u32 = 0xa0a0_a0a0;

/// What [`kick`] writes per core, once the core's part of the controller is set up: GICv2: value for the SGI register
/// (never 0); GICv3: value for ICC_SGI1R_EL1.
static KICK: [AtomicU64; MAX_CORES] = [const { AtomicU64::new(0) }; MAX_CORES];
/// Virtual address of the GICv2 SGI register; 0 with a GICv3.
static SGI_REGISTER: AtomicU64 = AtomicU64::new(0);
/// Per core, virtual address of the register that takes a pending [`smp::SGI_WAKE`] back, and what to write there.
static UNKICK: [(AtomicU64, AtomicU32); MAX_CORES] = [const { (AtomicU64::new(0), AtomicU32::new(0)) }; MAX_CORES];

/// Raises [`smp::SGI_WAKE`] on another core; needs no lock.
pub fn kick(core: usize) {
    let value = KICK[core].load(Ordering::Relaxed);
    let register = SGI_REGISTER.load(Ordering::Relaxed);
    if value == 0 {
        return;
    }
    // SAFETY: writes to this register cause SGIs and nothing else; the address is the mapped distributor's.
    unsafe {
        if register != 0 {
            asm!("dsb ish", options(nostack, preserves_flags));
            (register as *mut u32).write_volatile(value as u32);
        } else {
            asm!("dsb ish", "msr S3_0_C12_C11_5, {0}", "isb", in(reg) value, options(nostack, preserves_flags));
        }
    }
}

/// Takes back what [`kick`] has raised on the calling core, if it is still pending; needs no lock.
pub fn unkick(core: usize) {
    let (register, value) = (UNKICK[core].0.load(Ordering::Relaxed), UNKICK[core].1.load(Ordering::Relaxed));
    if register != 0 {
        // SAFETY: a mapped register of the calling core's own part of the controller; it clears one pending SGI.
        unsafe { (register as *mut u32).write_volatile(value) };
    }
}

/// The machine's interrupt controller.
#[allow(clippy::large_enum_variant, reason = "there is one, in a static")]
pub enum Gic {
    /// Not initialised.
    None,
    /// GICv2.
    V2(v2::GicV2),
    /// GICv3.
    V3(v3::GicV3),
}

macro_rules! each {
    ($self:ident, $gic:ident => $value:expr, $none:expr) => {
        match $self {
            Gic::None => $none,
            Gic::V2($gic) => $value,
            Gic::V3($gic) => $value,
        }
    };
}

impl Gic {
    /// Takes over the controller: every shared interrupt masked, level-triggered, routed to the calling core.
    ///
    /// # Safety
    /// The registers named by `gic` are mapped as devices in the physical window and nobody else uses them.
    pub unsafe fn init(gic: &board::Gic) -> Self {
        // SAFETY: passed on to the caller.
        unsafe {
            match gic {
                board::Gic::V2 { distributor, cpu_interface } => {
                    SGI_REGISTER.store(window(distributor.start) + v2::SGI_OFFSET, Ordering::Relaxed);
                    Gic::V2(v2::GicV2::init(window(distributor.start), window(cpu_interface.start)))
                }
                board::Gic::V3 { distributor, redistributors } => {
                    Gic::V3(v3::GicV3::init(window(distributor.start), redistributors))
                }
            }
        }
    }

    /// Prepares the calling core's own part: private interrupts masked, SGIs let through. `false`: this core has none.
    pub fn init_core(&mut self, core: usize) -> bool {
        let found = each!(self, gic => gic.init_core(core), false);
        KICK[core].store(each!(self, gic => gic.sgi_value(smp::SGI_WAKE, core), 0), Ordering::Relaxed);
        let (register, value) = each!(self, gic => gic.unkick_register(smp::SGI_WAKE, core), (0, 0));
        UNKICK[core].0.store(register, Ordering::Relaxed);
        UNKICK[core].1.store(value, Ordering::Relaxed);
        found
    }

    /// Number of interrupt ids the distributor implements.
    pub fn lines(&self) -> u32 {
        each!(self, gic => gic.lines(), 0)
    }

    /// How many cores an SGI can name.
    pub fn sgi_targets(&self) -> u32 {
        match self {
            Gic::V3(_) => MAX_CORES as u32,
            _ => 8,
        }
    }

    /// Takes the highest pending interrupt of the calling core and ends it at the controller (the line may be pending
    /// again at once); `None` if nothing is pending.
    pub fn take(&mut self) -> Option<u32> {
        let irq = each!(self, gic => gic.take(), SPECIAL);
        (irq < SPECIAL).then_some(irq)
    }

    /// Lets `irq` through to `core`; `own` is the calling core.
    pub fn enable(&mut self, own: usize, core: usize, irq: u32) {
        each!(self, gic => gic.route(core, irq), ());
        self.set_enabled(own, core, irq, true);
    }

    /// Lets `irq` of `core` through again, or masks it.
    pub fn set_enabled(&mut self, own: usize, core: usize, irq: u32, enabled: bool) {
        match self {
            Gic::V2(gic) if irq < 32 && own != core => {
                gic.defer(core, irq, enabled);
                self.send_sgi_core(smp::SGI_STALL, core);
            }
            Gic::V2(gic) => gic.set_enabled(irq, enabled),
            Gic::V3(gic) => gic.set_enabled(core, irq, enabled),
            Gic::None => {}
        }
    }

    /// Does what other cores wanted done with the calling core's private interrupts.
    pub fn do_deferred(&mut self, own: usize) {
        if let Gic::V2(gic) = self {
            gic.do_deferred(own);
        }
    }

    /// Sets the trigger mode (no effect on SGIs; GICv2: on the calling core's private interrupts only).
    pub fn set_trigger(&mut self, core: usize, irq: u32, edge: bool) {
        match self {
            Gic::V2(gic) => gic.set_trigger(irq, edge),
            Gic::V3(gic) => gic.set_trigger(core, irq, edge),
            Gic::None => {}
        }
    }

    /// Raises SGI `irq` (0..=15) on the GICv2 CPU interface, or the core, `target`.
    pub fn send_sgi(&mut self, irq: u32, target: u32) {
        each!(self, gic => gic.send_sgi(irq, target), ());
    }

    /// Raises SGI `irq` on core `core`.
    pub fn send_sgi_core(&mut self, irq: u32, core: usize) {
        match self {
            Gic::V2(gic) => gic.send_sgi(irq, gic.interface_of(core)),
            Gic::V3(gic) => gic.send_sgi(irq, core as u32),
            Gic::None => {}
        }
    }
}
