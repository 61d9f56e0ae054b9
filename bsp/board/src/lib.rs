//! What a board is: memory, devices, interrupt controller and console as read from a device tree.
//!
//! The device tree is a claim by the firmware. [`Blob::new`] checks the blob's structure, [`Board::from_blob`] what it
//! says; a broken tree is a [`BlobError`] or [`BoardError`] with a printable reason, never a panic. Nothing here knows a
//! board by name: whatever is described the way the Devicetree Specification (v0.4) and the Linux bindings say, works.
//!
//! Neighbours: the kernel reads a [`Board`] once at boot; host tools may use it to inspect a blob.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod blob;
mod bootargs;
mod list;
mod region;
mod tree;

pub use blob::{Blob, BlobError, HEADER_SIZE, MAGIC, MAX_DEPTH, MAX_SIZE, claimed_size};
pub use bootargs::Bootargs;
pub use list::{Full, List};
pub use region::{Region, RegionSet};

/// Most virtio-mmio transports (QEMU `virt` has 32).
pub const MAX_VIRTIO: usize = 32;
/// Most processor cores described.
pub const MAX_CPUS: usize = 8;
/// Most separate ranges of memory, and of reserved memory, described.
pub const MAX_REGIONS: usize = 16;
/// Most GICv3 redistributor regions described.
pub const MAX_REDISTRIBUTORS: usize = 4;

/// Why a well-formed tree does not describe a board this kernel can run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoardError {
    /// No node with `device_type = "memory"` and a non-empty range.
    NoMemory,
    /// No interrupt controller of a known kind.
    NoInterruptController,
    /// No processor core that is not disabled.
    NoCpu,
    /// A node's `reg` is missing, too short for its bus's cell counts, passes the end of memory, or its bus is opaque.
    Reg(&'static str),
    /// A property of the named kind of node has an impossible value.
    Value(&'static str),
    /// The walk over the tree failed although its structure was found good.
    Walk,
}

impl core::fmt::Display for BoardError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoMemory => f.write_str("it describes no memory"),
            Self::NoInterruptController => f.write_str("it describes no GICv2 or GICv3"),
            Self::NoCpu => f.write_str("it describes no usable processor core"),
            Self::Reg(what) => write!(f, "the address range of the {what} makes no sense"),
            Self::Value(what) => write!(f, "{what} makes no sense"),
            Self::Walk => f.write_str("it cannot be walked"),
        }
    }
}

/// The interrupt controller and where its register blocks are (physical).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gic {
    /// GICv2 (GIC-400 and the like): distributor and CPU interface.
    V2 {
        /// Distributor registers.
        distributor: Region,
        /// CPU interface registers.
        cpu_interface: Region,
    },
    /// GICv3: distributor; the CPU interface is system registers.
    V3 {
        /// Distributor registers.
        distributor: Region,
        /// Redistributor frames start here; at least one.
        redistributors: [Option<Region>; MAX_REDISTRIBUTORS],
    },
}

/// What a serial port is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UartKind {
    /// Arm PL011.
    Pl011,
    /// Cadence UART (`cdns,uart-r1p12` and its kin).
    Cadence,
}

/// A serial port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uart {
    /// What it is.
    pub kind: UartKind,
    /// Its registers (physical).
    pub registers: Region,
    /// Its interrupt as a GIC interrupt id, if described.
    pub irq: Option<u32>,
}

/// A virtio-mmio transport: registers of a device, or of an empty place for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VirtioMmio {
    /// Its registers (physical).
    pub registers: Region,
    /// Its interrupt as a GIC interrupt id.
    pub irq: u32,
}

/// How PSCI is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PsciMethod {
    /// By `hvc #0`.
    Hvc,
    /// By `smc #0`.
    Smc,
}

/// How a secondary core is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartMethod {
    /// The board does not say.
    None,
    /// PSCI `CPU_ON`.
    Psci,
    /// The core polls this physical word for an entry address.
    SpinTable(u64),
}

/// A processor core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpu {
    /// Affinity fields as in `MPIDR_EL1` (bits 39:32 and 23:0).
    pub mpidr: u64,
    /// How to start it.
    pub start: StartMethod,
}

/// What the kernel needs to know of the machine. Addresses are physical, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Board<'a> {
    /// The board's own name for itself; for messages only.
    pub model: &'a str,
    /// RAM.
    pub memory: RegionSet<MAX_REGIONS>,
    /// RAM that the firmware keeps for itself: the reservation block and `/reserved-memory`.
    pub reserved: RegionSet<MAX_REGIONS>,
    /// Reserved or memory ranges that did not fit in the tables above (memory is then lost, never double-used).
    pub dropped_regions: u32,
    /// The interrupt controller.
    pub gic: Gic,
    /// GIC interrupt id of the virtual timer.
    pub virtual_timer_irq: u32,
    /// Counter frequency in Hz if the tree overrides the `CNTFRQ_EL0` register.
    pub timer_hz: Option<u32>,
    /// Serial port for the kernel's console: the one named by `/chosen`, else the first.
    pub uart: Option<Uart>,
    /// virtio-mmio transports in the order of the tree; those beyond the table's size are left out.
    pub virtio: List<VirtioMmio, MAX_VIRTIO>,
    /// PSCI, if there is firmware for it.
    pub psci: Option<PsciMethod>,
    /// The initial RAM disk: for this kernel, the root task's ELF file.
    pub initrd: Option<Region>,
    /// The boot arguments.
    pub bootargs: Bootargs<'a>,
    /// The usable processor cores in the order of the tree.
    pub cpus: List<Cpu, MAX_CPUS>,
}

impl<'a> Board<'a> {
    /// Reads the description out of a checked blob.
    pub fn from_blob(blob: &Blob<'a>) -> Result<Self, BoardError> {
        tree::read(blob)
    }
}
