//! Interrupt controllers: Arm GICv2 (IHI 0048) and GICv3 (IHI 0069), non-secure view, one group.
//!
//! Masking is by the enable bit in both: an interrupt handed to user land stays disabled until it is acknowledged.

mod v2;
mod v3;

use crate::layout::{MAX_CORES, window};
use bsp_board as board;

/// First interrupt id that does not exist: reading one of these means "nothing pending".
const SPECIAL: u32 = 1020;
/// Priority of every interrupt (one level is enough: the kernel runs with interrupts masked).
const PRIORITY: u32 = 0xa0a0_a0a0;

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
        each!(self, gic => gic.init_core(core), false)
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

    /// Lets `irq` through, to `core` if it is a shared one. Private interrupts: of the calling core.
    pub fn enable(&mut self, core: usize, irq: u32) {
        each!(self, gic => gic.enable(core, irq), ());
    }

    /// Lets `irq` through again, wherever it is routed.
    pub fn unmask(&mut self, irq: u32) {
        each!(self, gic => gic.set_enabled(irq, true), ());
    }

    /// Masks `irq`. Private interrupts: of the calling core.
    pub fn mask(&mut self, irq: u32) {
        each!(self, gic => gic.set_enabled(irq, false), ());
    }

    /// Sets the trigger mode (no effect on SGIs).
    pub fn set_trigger(&mut self, irq: u32, edge: bool) {
        each!(self, gic => gic.set_trigger(irq, edge), ());
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
