//! Memory shared with a device.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU16, Ordering};

/// Physically contiguous memory, cut into [`Buffer`]s once and for all.
#[derive(Debug)]
pub struct DmaMemory {
    base: NonNull<u8>,
    paddr: u64,
    len: usize,
    used: usize,
}

impl DmaMemory {
    /// Memory at `base`, which the device sees at `paddr`.
    ///
    /// # Safety
    /// `base..base+len` is mapped readable and writable for the rest of the program, coherent with the device at
    /// `paddr..paddr+len`, and used by nothing else; no device still writes to it.
    pub unsafe fn new(base: NonNull<u8>, paddr: u64, len: usize) -> Self {
        Self { base, paddr, len, used: 0 }
    }

    /// Bytes not cut off yet.
    pub fn left(&self) -> usize {
        self.len - self.used
    }

    /// Cuts off `len` zeroed bytes whose physical address is a multiple of `align` (a power of two). `None` if there
    /// is no room, or nothing is asked for.
    pub fn cut(&mut self, len: usize, align: usize) -> Option<Buffer> {
        let start = (self.paddr + self.used as u64).next_multiple_of(align as u64) - self.paddr;
        let start = usize::try_from(start).ok()?;
        let end = start.checked_add(len).filter(|end| *end <= self.len)?;
        let len = u32::try_from(len).ok().filter(|len| *len > 0)?;
        self.used = end;
        // SAFETY: `start + len` is within the memory that `new` was given.
        let ptr = unsafe { self.base.add(start) };
        // SAFETY: in bounds as above, and cut off only once, so nothing else refers to these bytes.
        unsafe { ptr.write_bytes(0, len as usize) };
        Some(Buffer { ptr, paddr: self.paddr + start as u64, len })
    }
}

/// A piece of DMA memory that belongs to its holder.
#[derive(Debug)]
pub struct Buffer {
    ptr: NonNull<u8>,
    paddr: u64,
    len: u32,
}

impl Buffer {
    /// Bytes.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Never: [`DmaMemory::cut`] gives at least one byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the device sees it.
    pub fn paddr(&self) -> u64 {
        self.paddr
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `cut` gave this range to this buffer alone, zeroed; the device does not write to it, because the
        // buffer is not in a queue (a queue owns what it holds).
        unsafe { core::slice::from_raw_parts(self.ptr.as_ptr(), self.len as usize) }
    }

    /// Its bytes, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and borrowed exclusively.
        unsafe { core::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len as usize) }
    }
}

/// The rings of a virtqueue: memory that driver and device use at the same time, word by word.
#[derive(Debug)]
pub(crate) struct Shared(Buffer);

impl Shared {
    pub(crate) fn new(buffer: Buffer) -> Self {
        Self(buffer)
    }

    pub(crate) fn paddr(&self) -> u64 {
        self.0.paddr
    }

    /// The address of a `T` at `offset`; panics if it is misplaced, which is a defect of `queue`.
    fn at<T>(&self, offset: usize) -> *mut T {
        assert!(offset + size_of::<T>() <= self.0.len() && offset.is_multiple_of(align_of::<T>()));
        self.0.ptr.as_ptr().wrapping_add(offset).cast()
    }

    pub(crate) fn read16(&self, offset: usize, order: Ordering) -> u16 {
        // SAFETY: in bounds and aligned (`at`; the buffer itself is cut at a multiple of 16); only ever accessed atomically or by the device.
        unsafe { AtomicU16::from_ptr(self.at(offset)) }.load(order)
    }

    pub(crate) fn write16(&self, offset: usize, value: u16, order: Ordering) {
        // SAFETY: as in `read16`.
        unsafe { AtomicU16::from_ptr(self.at(offset)) }.store(value, order);
    }

    pub(crate) fn read32(&self, offset: usize) -> u32 {
        // SAFETY: in bounds and aligned; volatile, because the device writes it.
        unsafe { self.at::<u32>(offset).read_volatile() }
    }

    pub(crate) fn write32(&self, offset: usize, value: u32) {
        // SAFETY: as in `read32`.
        unsafe { self.at::<u32>(offset).write_volatile(value) }
    }

    pub(crate) fn write64(&self, offset: usize, value: u64) {
        // SAFETY: as in `read32`.
        unsafe { self.at::<u64>(offset).write_volatile(value) }
    }
}
