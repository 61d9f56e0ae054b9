//! The kernel's own page tables (TTBR1): built once at boot, then never changed.
//!
//! Always holds afterwards: no page is writable and executable; the image's text and read-only data are writable through
//! no mapping (their alias in the physical window is read-only too); guard pages below the stacks are not mapped.
//!
//! VMSAv8-64, 4 KiB granule, four levels (Arm ARM DDI 0487, D8). User page tables are kernel-core's.

use crate::layout::{self, CORE_STACK_SIZE, CORE_STACKS, MAX_CORES, PAGE, STACK_GUARD, window};
use bsp_board::{Region, RegionSet};
use core::arch::asm;
use core::ptr::{addr_of, addr_of_mut};

const VALID: u64 = 1;
const TABLE_OR_PAGE: u64 = 2;
const DEVICE: u64 = 0 << 2;
const NORMAL: u64 = 4 << 2;
const READ_ONLY: u64 = 1 << 7;
const INNER_SHAREABLE: u64 = 3 << 8;
const ACCESSED: u64 = 1 << 10;
const PXN: u64 = 1 << 53;
const UXN: u64 = 1 << 54;
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;

/// Protection and memory type of a kernel mapping.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mapping {
    /// Executable, read-only.
    Text,
    /// Read-only.
    ReadOnly,
    /// Readable and writable memory.
    Data,
    /// Device registers.
    Device,
}

impl Mapping {
    const fn bits(self) -> u64 {
        let common = VALID | ACCESSED | UXN | INNER_SHAREABLE;
        match self {
            Self::Text => common | NORMAL | READ_ONLY,
            Self::ReadOnly => common | NORMAL | READ_ONLY | PXN,
            Self::Data => common | NORMAL | PXN,
            Self::Device => common | DEVICE | PXN,
        }
    }
}

/// The tables could not be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapError {
    /// All tables of the pool are in use: memory is too scattered.
    OutOfTables,
    /// Something else is mapped there.
    Overlap,
    /// Memory regions do not fit in the boot-time tables.
    Regions,
}

#[repr(C, align(4096))]
struct Table([u64; 512]);

const POOL_TABLES: usize = 40;
static mut POOL: [Table; POOL_TABLES] = [const { Table([0; 512]) }; POOL_TABLES];

/// Builds tables from the pool; only one exists, at boot, on core 0.
pub struct Builder {
    /// Virtual minus physical address of the image.
    offset: u64,
    used: usize,
}

impl Builder {
    /// A builder with an empty root table.
    ///
    /// # Safety
    /// Called once, by the boot core, before other cores run; `offset` is the image's virtual minus physical address.
    pub unsafe fn new(offset: u64) -> Self {
        Self { offset, used: 1 }
    }

    /// Physical address of the root table.
    pub fn root(&self) -> u64 {
        addr_of!(POOL) as u64 - self.offset
    }

    fn entry(&mut self, table: usize, index: usize) -> &mut u64 {
        assert!(table < POOL_TABLES && index < 512);
        // SAFETY: in bounds; POOL is only touched through the one builder (see `new`), which is borrowed mutably.
        unsafe { &mut (*addr_of_mut!(POOL))[table].0[index] }
    }

    /// The table below entry `index` of `table`, made if missing.
    fn descend(&mut self, table: usize, index: usize) -> Result<usize, MapError> {
        let pool = addr_of!(POOL) as u64 - self.offset;
        let old = *self.entry(table, index);
        if old & VALID != 0 {
            return match old & TABLE_OR_PAGE {
                0 => Err(MapError::Overlap),
                _ => Ok(((old & ADDRESS) - pool) as usize / 4096),
            };
        }
        if self.used == POOL_TABLES {
            return Err(MapError::OutOfTables);
        }
        let new = self.used;
        self.used += 1;
        *self.entry(table, index) = (pool + new as u64 * 4096) | VALID | TABLE_OR_PAGE;
        Ok(new)
    }

    /// Maps one naturally aligned piece: 1 GiB (level 1), 2 MiB (level 2) or 4 KiB (level 3).
    fn map_piece(&mut self, vaddr: u64, paddr: u64, level: u32, mapping: Mapping) -> Result<(), MapError> {
        let mut table = 0;
        for l in 0..level {
            table = self.descend(table, index(vaddr, l))?;
        }
        let entry = self.entry(table, index(vaddr, level));
        if *entry & VALID != 0 {
            return Err(MapError::Overlap);
        }
        *entry = paddr | mapping.bits() | if level == 3 { TABLE_OR_PAGE } else { 0 };
        Ok(())
    }

    /// Maps `[vaddr, vaddr + size)` to `paddr`, all page aligned, with the largest pieces that fit.
    pub fn map(&mut self, vaddr: u64, paddr: u64, size: u64, mapping: Mapping) -> Result<(), MapError> {
        let mut done = 0;
        while done < size {
            let (v, p, left) = (vaddr + done, paddr + done, size - done);
            let level = (1..3).find(|&l| (v | p) & (piece(l) - 1) == 0 && left >= piece(l)).unwrap_or(3);
            self.map_piece(v, p, level, mapping)?;
            done += piece(level);
        }
        Ok(())
    }

    /// Maps the image at its link address, section by section, leaving out the stacks' guard pages.
    pub fn map_image(&mut self) -> Result<(), MapError> {
        let image = layout::image();
        let stacks = addr_of!(CORE_STACKS) as u64;
        self.map_own(image.start, image.text_end, Mapping::Text)?;
        self.map_own(image.text_end, image.rodata_end, Mapping::ReadOnly)?;
        self.map_own(image.rodata_end, stacks, Mapping::Data)?;
        for core in 0..MAX_CORES as u64 {
            let bottom = stacks + core * CORE_STACK_SIZE as u64;
            let guard = bottom + STACK_GUARD as u64;
            self.map_own(bottom + PAGE, guard, Mapping::Data)?;
            self.map_own(guard + PAGE, bottom + CORE_STACK_SIZE as u64, Mapping::Data)?;
        }
        self.map_own(stacks + (MAX_CORES * CORE_STACK_SIZE) as u64, image.end, Mapping::Data)
    }

    fn map_own(&mut self, start: u64, end: u64, mapping: Mapping) -> Result<(), MapError> {
        self.map(start, start - self.offset, end - start, mapping)
    }

    /// Maps RAM in the physical window; the image's text and read-only data read-only.
    pub fn map_memory<const N: usize>(&mut self, memory: &RegionSet<N>) -> Result<(), MapError> {
        let image = layout::image();
        let constant = Region { start: image.start - self.offset, end: image.rodata_end - self.offset };
        let mut writable = *memory;
        writable.subtract(constant).map_err(|_| MapError::Regions)?;
        self.map(window(constant.start), constant.start, constant.size(), Mapping::ReadOnly)?;
        for region in writable.iter() {
            let region = region.shrink_to(PAGE);
            self.map(window(region.start), region.start, region.size(), Mapping::Data)?;
        }
        Ok(())
    }

    /// Maps device registers in the physical window.
    pub fn map_device(&mut self, region: Region) -> Result<(), MapError> {
        let region = region.grow_to(PAGE);
        self.map(window(region.start), region.start, region.size(), Mapping::Device)
    }

    /// Puts the tables into use on this core and notes them for the others.
    ///
    /// # Safety
    /// The tables map the image as it is linked, and what the caller goes on to use.
    pub unsafe fn activate(&self) {
        unsafe extern "C" {
            static mut secondary_ttbr1: u64;
            fn switch_ttbr1(root: u64, offset: u64);
        }
        // SAFETY: `secondary_ttbr1` is a word of boot.s that only this function writes, before other cores run; they
        // read it with the MMU off, hence the clean to memory. The switch is sound by this function's contract; it runs
        // in the identity map that TTBR0 still holds.
        unsafe {
            addr_of_mut!(secondary_ttbr1).write_volatile(self.root());
            asm!("dsb ish", "dc civac, {0}", "dsb sy", in(reg) addr_of!(secondary_ttbr1));
            switch_ttbr1(self.root(), self.offset);
        }
    }
}

/// Bytes mapped by one entry of `level`.
const fn piece(level: u32) -> u64 {
    1 << (39 - 9 * level)
}

/// Index of `vaddr` in its table of `level`.
const fn index(vaddr: u64, level: u32) -> usize {
    (vaddr >> (39 - 9 * level)) as usize & 511
}

/// Maps the 2 MiB block of devices around `paddr` in the early tables; returns `paddr`'s virtual address.
///
/// # Safety
/// Only before [`Builder::activate`], on the boot core; `paddr` must be a device.
pub unsafe fn map_early_device(paddr: u64) -> u64 {
    unsafe extern "C" {
        static mut early_tables: [Table; 5];
    }
    // SAFETY: the early L2 table of the image is the fifth; the slot is not in use.
    unsafe {
        let entry = addr_of_mut!(early_tables[4].0[layout::EARLY_DEVICE_SLOT]);
        entry.write_volatile((paddr & !(piece(2) - 1)) | Mapping::Device.bits());
        asm!("dsb ishst", "isb");
    }
    layout::EARLY_DEVICE + (paddr & (piece(2) - 1))
}

/// Empties TTBR0: no user mapping, address space 0.
pub fn empty_user_space() {
    unsafe extern "C" {
        static early_empty_table: Table;
    }
    let vaddr = addr_of!(early_empty_table) as u64;
    set_user_root(image_to_phys(vaddr));
}

/// Physical address of an address inside the image.
pub fn image_to_phys(vaddr: u64) -> u64 {
    let result: u64;
    // SAFETY: asks the MMU; changes nothing but PAR_EL1.
    unsafe { asm!("at s1e1r, {0}", "isb", "mrs {1}, par_el1", in(reg) vaddr, out(reg) result) };
    assert!(result & 1 == 0, "address {vaddr:#x} is not mapped");
    (result & ADDRESS) | (vaddr & (PAGE - 1))
}

/// Loads TTBR0: physical root address, ASID in bits 63:48.
#[inline]
pub fn set_user_root(ttbr0: u64) {
    // SAFETY: user mappings cannot break the kernel's memory: it never uses addresses of the lower half.
    unsafe { asm!("msr ttbr0_el1, {0}", "isb", in(reg) ttbr0, options(nostack, preserves_flags)) };
}

/// The calling core's affinity fields as in MPIDR_EL1.
pub fn own_affinity() -> u64 {
    let mpidr: u64;
    // SAFETY: reads an identification register.
    unsafe { asm!("mrs {0}, mpidr_el1", out(reg) mpidr, options(nomem, nostack, preserves_flags)) };
    mpidr & 0xff_00ff_ffff
}

/// Keeps the performance monitors from EL0 on this core (their rights are unknown at reset).
pub fn empty_performance_monitors() {
    // SAFETY: reads identification; the write exists if the identification says so (PMUVer neither 0 nor 0xf).
    unsafe {
        let dfr0: u64;
        asm!("mrs {0}, id_aa64dfr0_el1", out(reg) dfr0, options(nomem, nostack, preserves_flags));
        if !matches!(dfr0 >> 8 & 15, 0 | 15) {
            asm!("msr pmuserenr_el0, xzr", options(nomem, nostack, preserves_flags));
        }
    }
}
