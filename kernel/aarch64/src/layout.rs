//! Where things are: the kernel's half of the address space, the image's sections, per-core stacks.
//!
//! | virtual address           | what                                                                            |
//! | ------------------------- | ------------------------------------------------------------------------------- |
//! | 0 .. 2^47                 | user land (TTBR0)                                                               |
//! | `PHYS_WINDOW` + p         | physical address p: RAM normal write-back, kernel's devices nGnRnE, never executable |
//! | `KERNEL_BASE` + 0x80000   | the kernel's image: text r-x, rodata r--, data rw-                              |
//! | `EARLY_DTB`               | the device tree, until the final tables are on                                  |
//! | `EARLY_DEVICE`            | one device block for messages before the final tables are on                    |

/// Linear window on physical memory. Bit 47 is set like those above it: capabilities store addresses in 48 bits.
pub const PHYS_WINDOW: u64 = 0xffff_8000_0000_0000;
/// 2 MiB boundary below the image (also in `kernel.ld`).
pub const KERNEL_BASE: u64 = 0xffff_ffff_8000_0000;
/// Early window on the device tree: L2 slot 256 of the early tables (also in `boot.s`).
pub const EARLY_DTB: u64 = KERNEL_BASE + (256 << 21);
/// L2 slot of the early device block.
pub const EARLY_DEVICE_SLOT: usize = 260;
/// Early window on one 2 MiB block of devices.
pub const EARLY_DEVICE: u64 = KERNEL_BASE + ((EARLY_DEVICE_SLOT as u64) << 21);

/// Most cores this build runs on.
pub const MAX_CORES: usize = kernel_core::MAX_CORES;
/// Bytes per core: guard page, emergency stack, guard page, stack (from the bottom).
pub const CORE_STACK_SIZE: usize = 0x10000;
/// Offset of the second guard page: end of the emergency stack.
pub const STACK_GUARD: usize = 0x3000;
/// Page size.
pub const PAGE: u64 = 4096;

unsafe extern "C" {
    static _image_start: u8;
    static _text_end: u8;
    static _rodata_end: u8;
    static _image_end: u8;
}

/// Virtual boundaries of the image's parts, page aligned.
#[derive(Clone, Copy)]
pub struct Image {
    /// Start of text.
    pub start: u64,
    /// End of text, start of read-only data.
    pub text_end: u64,
    /// End of read-only data, start of data.
    pub rodata_end: u64,
    /// End of everything.
    pub end: u64,
}

/// The image's boundaries as linked.
pub fn image() -> Image {
    Image {
        start: &raw const _image_start as u64,
        text_end: &raw const _text_end as u64,
        rodata_end: &raw const _rodata_end as u64,
        end: &raw const _image_end as u64,
    }
}

/// Virtual address of physical address `paddr` in the window.
pub const fn window(paddr: u64) -> u64 {
    PHYS_WINDOW + paddr
}

/// One core's stack memory: see [`CORE_STACK_SIZE`].
#[repr(C, align(4096))]
pub struct CoreStack([u8; CORE_STACK_SIZE]);

/// All cores' stacks. Only assembly (`core_setup`, the vectors) uses them, by address.
#[unsafe(link_section = ".stacks")]
pub static mut CORE_STACKS: [CoreStack; MAX_CORES] = [const { CoreStack([0; CORE_STACK_SIZE]) }; MAX_CORES];
