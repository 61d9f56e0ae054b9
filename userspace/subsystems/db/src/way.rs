//! What the service needs of a transport besides calls: transports to objects that a server handed out.

use ipc_wire::{RawCap, Transport};

/// A way to a server and its objects.
pub trait Way: Transport + Sized {
    /// The same way once more.
    fn again(&self) -> Self;
    /// The way to an object through a capability that this server returned.
    fn to(&self, cap: RawCap) -> Self;
    /// The capability is not needed any more.
    fn release(&self, cap: RawCap);
}
