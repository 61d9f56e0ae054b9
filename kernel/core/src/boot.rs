//! Boot: what the machine layer found, and the construction of the initial task (sheet §11).

/// A half-open range of physical addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Region {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

/// The root task's image, already loaded: physically contiguous, page aligned, zero-filled between segments.
#[derive(Clone, Copy, Debug)]
pub struct UserImage {
    /// Where it lies in RAM, page aligned.
    pub phys: Region,
    /// Virtual address of `phys.start` (the image is linear: vaddr = paddr - phys.start + vaddr_start).
    pub vaddr_start: u64,
    /// Entry point.
    pub entry: u64,
}

/// Everything the core needs to know to boot.
#[derive(Clone, Copy, Debug)]
pub struct BootConfig<'a> {
    /// RAM inside the object window, ascending, not overlapping.
    pub memory: &'a [Region],
    /// What user land must not get, in any order: kernel image, device tree, the kernel's devices (interrupt controller;
    /// not the UART). The user image is added by the core.
    pub reserved: &'a [Region],
    /// Memory used only for booting and now free (inside a reserved range), handed out before the other RAM.
    pub recycled: &'a [Region],
    /// The root task.
    pub image: UserImage,
    /// Flattened device tree for the root task; empty = none.
    pub fdt: &'a [u8],
    /// Ticks per second of [`crate::machine::Machine::now`].
    pub timer_hz: u64,
    /// Number of cores that will run (1..=[`crate::machine::MAX_CORES`]).
    pub num_cores: usize,
    /// Radix of the root CNode, 12..=15 (boot option `kernel.root_cnode_bits`).
    pub root_cnode_bits: u32,
    /// Number of domains, 1..=16 (boot option `kernel.domains`).
    pub num_domains: usize,
    /// Greatest interrupt number user land can get a handler for (159 on `virt`).
    pub max_irq: u32,
    /// The kernel's own timer interrupt, never issued.
    pub timer_irq: u32,
    /// CPU interfaces an SGI can name (8 on GICv2).
    pub sgi_targets: u32,
}

/// Why the system cannot be booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootError {
    /// A number in the configuration is outside its bounds.
    BadConfig,
    /// The user image is not page aligned, not in RAM, or its addresses are not user addresses.
    BadImage,
    /// More regions than the kernel keeps track of.
    TooManyRegions,
    /// No free region is large enough for the initial objects.
    OutOfMemory,
    /// The root CNode has too few slots for the initial capabilities.
    OutOfSlots,
}
