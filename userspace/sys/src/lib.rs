//! System calls and typed kernel invocations for user land.
//!
//! * [`CPtr`]: a capability address in one's own CSpace;
//! * [`message`]: the IPC buffer, and messages as bytes;
//! * [`call`](mod@call): the system calls of the seL4 API (MCS), one function each;
//! * [`invoke`]: what can be asked of each kernel object, with decoded errors;
//! * [`debug`]: the kernel's debug calls (console characters, thread names, halt);
//! * [`counter`]: the generic timer, for threads that were given the right to it.
//!
//! The crate is the only place in user land that executes `svc`. All calls exist only on the bare-metal target; types exist
//! everywhere, so that logic which talks about capabilities can be tested on the host.
#![cfg_attr(not(test), no_std)]

mod cptr;
mod error;
pub use cptr::CPtr;
pub use error::{Result, SysError};
pub use kernel_abi as abi;
pub use kernel_abi::{CapRights, MessageInfo, ObjectType, UserContext, VmAttributes};

#[cfg(target_os = "none")]
pub mod call;
#[cfg(target_os = "none")]
pub mod counter;
#[cfg(target_os = "none")]
pub mod debug;
#[cfg(target_os = "none")]
pub mod invoke;
#[cfg(target_os = "none")]
pub mod message;

#[cfg(target_os = "none")]
pub use call::*;
