//! The object window: the only module that touches raw memory.
//!
//! All kernel objects lie in RAM that the kernel sees through the *object window*, a linear map of physical memory at a constant
//! offset ([`crate::Machine::window_offset`]). A [`Ptr<T>`] is a typed handle into it.
//!
//! What keeps it sound:
//!
//! * **Any bytes are a valid object.** [`Object`] types consist of `Cell`s of integers only, without padding that matters, without
//!   niches: reading through a handle whose object has been destroyed or re-typed gives stale numbers, never undefined
//!   behaviour. Shared references to `Cell`s may alias each other.
//! * **Handles point into the window.** They are made by [`Window::at`] from RAM addresses that the untyped rules have given
//!   out (and by `Ptr::unpack` from bits that `Ptr::pack` made). The window lies outside of all Rust-owned memory and is
//!   mapped for the kernel's whole life.
//! * **One at a time.** `Ptr` and `Cell` are not `Sync`; a kernel runs under one lock, trap entries write a context only while no
//!   kernel code runs for that thread.
//! * User memory can change under the kernel's hands: it is only accessed word by word, volatile ([`Window::read`],
//!   [`Window::write`]).
#![allow(unsafe_code)]

use core::cell::Cell;
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::NonNull;

use crate::context::Context;

/// A layout that may lie in the object window.
///
/// # Safety
/// Every bit pattern is a valid value and all fields are `Cell`s of integers (or arrays and structs of such).
pub unsafe trait Object {}

/// The layouts; each is `repr(C)` and made of `Cell<integer>` fields only, see their definitions.
macro_rules! objects {
    ($($object:ty),+ $(,)?) => {
        $(
            // SAFETY: `repr(C)`, fields are `Cell`s of integers (or arrays, links, structs of them) only.
            unsafe impl Object for $object {}
        )+
    };
}

objects!(
    crate::cap::Slot,
    crate::tcb::Tcb,
    crate::endpoint::Endpoint,
    crate::notification::Notification,
    crate::reply::Reply,
    crate::schedctx::SchedContext,
    crate::schedctx::Refill,
    crate::vspace::Table,
    crate::asid::AsidPool,
    crate::sched::ReadyQueues,
    Word,
);

/// A word in the window.
#[repr(transparent)]
pub struct Word(pub Cell<u64>);

/// Typed handle to an object in the window: copyable, never null.
pub struct Ptr<T>(NonNull<T>);

// SAFETY: a handle is an address in the window, which all cores see alike; the kernel that holds it is used by one core at
// a time, under its lock.
unsafe impl<T> Send for Ptr<T> {}

impl<T> Clone for Ptr<T> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Ptr<T> {}
impl<T> PartialEq for Ptr<T> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<T> Eq for Ptr<T> {}
impl<T> core::fmt::Debug for Ptr<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:#x}", self.addr())
    }
}

impl<T: Object> Deref for Ptr<T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: module invariant: handles point into the mapped window, suitably aligned, and T accepts any bytes.
        unsafe { self.0.as_ref() }
    }
}

/// Width of an address as stored in capabilities; the upper bits repeat bit 47.
const ADDR_BITS: u32 = 48;
/// Mask of the stored bits.
pub const ADDR_MASK: u64 = (1 << ADDR_BITS) - 1;

impl<T> Ptr<T> {
    /// The window address.
    #[inline]
    pub fn addr(self) -> u64 {
        self.0.as_ptr().expose_provenance() as u64
    }

    /// The address in 48 bits, for [`Ptr::unpack`].
    #[inline]
    pub(crate) fn pack(self) -> u64 {
        self.addr() & ADDR_MASK
    }

    /// The handle for bits made by [`Ptr::pack`] from a handle of the same type (module invariant; only capability decoding
    /// and [`Link`] call this). Zero bits are no handle.
    #[inline]
    pub(crate) fn unpack(bits: u64) -> Option<Self> {
        let addr = ((bits << (64 - ADDR_BITS)) as i64 >> (64 - ADDR_BITS)) as usize;
        NonNull::new(core::ptr::with_exposed_provenance_mut(addr)).map(Self)
    }

    /// The object of type `U` that lies `bytes` into (or behind) this one. The caller states that there is one: slots of
    /// a CNode below its size, refills below a scheduling context's maximum, and so on.
    #[inline]
    pub(crate) fn at_offset<U: Object>(self, bytes: u64) -> Ptr<U> {
        let addr = self.addr().wrapping_add(bytes) as usize;
        // SAFETY: an offset inside a window object is never 0.
        Ptr(unsafe { NonNull::new_unchecked(core::ptr::with_exposed_provenance_mut(addr)) })
    }

    /// Element `index` of the array of `T` that starts here. As [`Ptr::at_offset`].
    #[inline]
    pub(crate) fn index(self, index: u64) -> Self
    where
        T: Object,
    {
        self.at_offset(index * size_of::<T>() as u64)
    }
}

impl Ptr<crate::tcb::Tcb> {
    /// The register file, for the trap code.
    #[inline]
    pub fn context(self) -> NonNull<Context> {
        self.0.cast()
    }
}

/// A nullable handle stored in an object.
#[repr(transparent)]
pub struct Link<T>(Cell<u64>, PhantomData<T>);

impl<T> Link<T> {
    /// The handle.
    #[inline]
    pub fn get(&self) -> Option<Ptr<T>> {
        Ptr::unpack(self.0.get())
    }

    /// Stores a handle or none.
    #[inline]
    pub fn set(&self, to: Option<Ptr<T>>) {
        self.0.set(to.map_or(0, Ptr::addr));
    }

    /// Whether a handle is stored.
    #[inline]
    pub fn is_some(&self) -> bool {
        self.0.get() != 0
    }

    /// Whether this very object is stored.
    #[inline]
    pub fn is(&self, object: Ptr<T>) -> bool {
        self.0.get() == object.addr()
    }

    /// Takes the handle out.
    #[inline]
    pub fn take(&self) -> Option<Ptr<T>> {
        let old = self.get();
        self.0.set(0);
        old
    }
}

/// The window: turns physical addresses of RAM into handles and back.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    offset: u64,
}

impl Window {
    /// The window with this offset.
    pub const fn new(offset: u64) -> Self {
        Self { offset }
    }

    /// The object of type `T` at `paddr`: RAM inside the window that has been set aside for it.
    #[inline]
    pub(crate) fn at<T: Object>(self, paddr: u64) -> Ptr<T> {
        let addr = paddr.wrapping_add(self.offset) as usize;
        debug_assert!(addr.is_multiple_of(align_of::<T>()));
        // SAFETY: the window does not cover address 0 of the kernel's address space.
        Ptr(unsafe { NonNull::new_unchecked(core::ptr::with_exposed_provenance_mut(addr)) })
    }

    /// Physical address of an object.
    #[inline]
    pub fn paddr<T>(self, object: Ptr<T>) -> u64 {
        object.addr().wrapping_sub(self.offset)
    }

    #[inline]
    fn raw<T>(self, paddr: u64) -> *mut T {
        core::ptr::with_exposed_provenance_mut(paddr.wrapping_add(self.offset) as usize)
    }

    /// Reads a word of user RAM.
    #[inline]
    pub(crate) fn read(self, paddr: u64) -> u64 {
        debug_assert!(paddr.is_multiple_of(8));
        // SAFETY: aligned address of RAM in the window; volatile because user code may write it meanwhile.
        unsafe { self.raw::<u64>(paddr).read_volatile() }
    }

    /// Writes a word of user RAM.
    #[inline]
    pub(crate) fn write(self, paddr: u64, value: u64) {
        debug_assert!(paddr.is_multiple_of(8));
        // SAFETY: as `read`.
        unsafe { self.raw::<u64>(paddr).write_volatile(value) }
    }

    /// Reads a byte of user RAM.
    pub(crate) fn read_byte(self, paddr: u64) -> u8 {
        // SAFETY: address of RAM in the window; volatile because user code may write it meanwhile.
        unsafe { self.raw::<u8>(paddr).read_volatile() }
    }

    /// Zeroes RAM that no object lives in.
    pub(crate) fn zero(self, paddr: u64, len: u64) {
        // SAFETY: RAM in the window; no references to `Cell`s in it are in use during this call.
        unsafe { self.raw::<u8>(paddr).write_bytes(0, len as usize) }
    }

    /// Writes bytes to RAM that no object lives in (boot information).
    pub(crate) fn write_bytes(self, paddr: u64, bytes: &[u8]) {
        // SAFETY: RAM in the window set aside by boot; `bytes` is Rust-owned memory, outside the window, or the device
        // tree, which boot keeps apart from the initial objects.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), self.raw::<u8>(paddr), bytes.len()) }
    }
}
