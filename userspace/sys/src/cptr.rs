//! Capability addresses.

use core::fmt;

/// A capability address in the caller's CSpace. 0 is never a capability ([`CPtr::NULL`]).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(transparent)]
pub struct CPtr(pub u64);

impl CPtr {
    /// The empty slot.
    pub const NULL: CPtr = CPtr(0);

    /// Whether this is [`CPtr::NULL`].
    pub const fn is_null(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for CPtr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cap {}", self.0)
    }
}
