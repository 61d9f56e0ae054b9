//! Device registers.

use core::ptr::NonNull;

/// Registers of one virtio-mmio device: the machine's, or a [`crate::fake`] one.
pub trait Mmio {
    /// Reads the 32-bit register at `offset` (a multiple of 4).
    fn read(&self, offset: usize) -> u32;
    /// Writes it.
    fn write(&self, offset: usize, value: u32);
    /// Reads one byte of the configuration space, which starts at 0x100.
    fn read_byte(&self, offset: usize) -> u8;
}

/// The machine's registers.
#[derive(Debug)]
pub struct Registers {
    base: NonNull<u8>,
    len: usize,
}

impl Registers {
    /// Registers at `base`.
    ///
    /// # Safety
    /// `base..base+len` are the registers of one virtio-mmio device, mapped as device memory for the rest of the program,
    /// and driven by nothing else; `base` is a multiple of 4.
    pub unsafe fn new(base: NonNull<u8>, len: usize) -> Self {
        Self { base, len }
    }

    /// Panics outside the registers: offsets are constants, so that is a defect of the driver.
    fn at<T>(&self, offset: usize) -> *mut T {
        assert!(offset + size_of::<T>() <= self.len && offset.is_multiple_of(align_of::<T>()));
        self.base.as_ptr().wrapping_add(offset).cast()
    }
}

impl Mmio for Registers {
    fn read(&self, offset: usize) -> u32 {
        // SAFETY: in the mapped registers (`at`), device memory.
        unsafe { self.at::<u32>(offset).read_volatile() }
    }

    fn write(&self, offset: usize, value: u32) {
        // SAFETY: as in `read`.
        unsafe { self.at::<u32>(offset).write_volatile(value) }
    }

    fn read_byte(&self, offset: usize) -> u8 {
        // SAFETY: as in `read`.
        unsafe { self.at::<u8>(offset).read_volatile() }
    }
}
