//! The kernel's binary interface: numbers, labels, layouts, error codes (seL4 MCS, AArch64) and our extensions.
//!
//! The one description of what crosses the line between user land and kernel, used by both sides. Nothing here does
//! anything: constants, small enums with checked conversions, `#[repr(C)]` layouts with const asserts beside them.
//!
//! * seL4's own numbering (uniprocessor, MCS, `qemu-arm-virt`, no hypervisor) is in the topic modules;
//! * what we add is in [`ext`] and nowhere else.
//!
//! A word is 64 bits. Times in the API are microseconds unless a name says ticks.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

/// Declares a field-less enum over numbers together with its checked conversion from a raw word.
macro_rules! numbered {
    ($(#[$meta:meta])* $name:ident : $repr:ty { $($(#[$vmeta:meta])* $variant:ident = $value:expr),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr($repr)]
        pub enum $name { $($(#[$vmeta])* $variant = $value),+ }

        impl $name {
            /// Every value, in numeric order.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The value with this number, if there is one.
            #[inline]
            pub const fn from_raw(raw: $repr) -> Option<Self> {
                $(if raw == $value { return Some(Self::$variant); })+
                None
            }

            /// The number.
            #[inline]
            pub const fn raw(self) -> $repr { self as $repr }
        }
    };
}

pub mod bootinfo;
pub mod captype;
pub mod consts;
pub mod context;
pub mod error;
pub mod ext;
pub mod fault;
pub mod ipc_buffer;
pub mod label;
pub mod message;
pub mod object;
pub mod rights;
pub mod sched;
pub mod slots;
pub mod syscall;
pub mod vm;

pub use bootinfo::{BootInfo, ExtraHeader, ExtraId, SlotRegion, UntypedDesc};
pub use captype::CapTag;
pub use context::{Reg, UserContext};
pub use error::{Error, LookupType};
pub use fault::FaultType;
pub use ipc_buffer::IpcBuffer;
pub use label::Label;
pub use message::MessageInfo;
pub use object::ObjectType;
pub use rights::{CNodeData, CapRights};
pub use syscall::Syscall;
pub use vm::VmAttributes;

/// A machine word of the API.
pub type Word = u64;
/// A capability address in a thread's CSpace.
pub type CPtr = u64;
