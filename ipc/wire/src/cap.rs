//! Capabilities that travel beside a message's bytes.

use core::fmt;
use core::marker::PhantomData;

use crate::MAX_CAPS;

/// A capability as its holder names it: a slot in the holder's own capability space. Meaningless to anybody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct RawCap(pub u64);

/// Marks a capability to an interface that is not known in advance (`cap any`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Any {}

/// Markers of kernel objects, for `local interface`s only: they mean nothing on another node.
pub mod kernel {
    /// An endpoint.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Endpoint {}
    /// A notification.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Notification {}
    /// A memory frame.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Frame {}
    /// Untyped memory.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Untyped {}
    /// A thread control block.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Tcb {}
    /// A table of capabilities.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Cnode {}
    /// An address space.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Vspace {}
    /// A scheduling context.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum SchedContext {}
    /// An interrupt handler.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum IrqHandler {}
}

/// A capability to something that speaks interface `I` (a marker such as `block::Protocol`).
///
/// The type says what the sender claims; a call on it still answers [`crate::LinkError::NoMethod`] if it lied.
pub struct Cap<I> {
    raw: RawCap,
    interface: PhantomData<fn() -> I>,
}

impl<I> Cap<I> {
    /// States that `raw` denotes an `I`.
    pub const fn new(raw: RawCap) -> Self {
        Self { raw, interface: PhantomData }
    }

    /// The slot.
    pub const fn raw(self) -> RawCap {
        self.raw
    }
}

impl<I> Clone for Cap<I> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<I> Copy for Cap<I> {}
impl<I> PartialEq for Cap<I> {
    fn eq(&self, other: &Self) -> bool {
        self.raw == other.raw
    }
}
impl<I> Eq for Cap<I> {}
impl<I> fmt::Debug for Cap<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cap {:#x}", self.raw.0)
    }
}

#[cfg(feature = "defmt")]
impl<I> defmt::Format for Cap<I> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "cap {=u64:#x}", self.raw.0);
    }
}

/// At most [`MAX_CAPS`] capabilities, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapList {
    caps: [RawCap; MAX_CAPS],
    count: u8,
}

impl CapList {
    /// No capability.
    pub const EMPTY: Self = Self { caps: [RawCap(0); MAX_CAPS], count: 0 };

    /// The given capabilities; those beyond [`MAX_CAPS`] are cut off (generated code never has more).
    pub fn new(caps: &[RawCap]) -> Self {
        let mut list = Self::EMPTY;
        for &cap in caps.iter().take(MAX_CAPS) {
            list.caps[list.count as usize] = cap;
            list.count += 1;
        }
        list
    }

    /// The capabilities.
    pub fn as_slice(&self) -> &[RawCap] {
        self.caps.get(..self.count as usize).unwrap_or(&[])
    }
}

impl Default for CapList {
    fn default() -> Self {
        Self::EMPTY
    }
}
