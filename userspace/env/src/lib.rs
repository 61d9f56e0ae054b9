//! The environment page: everything that the root task tells a server when it starts it.
//!
//! Written by the root task ([`Writer`]), read by the runtime ([`Env::check`]). It lies at [`map::ENV`] in the server's address space, read-only.
//! A server finds its peers, devices and memory by the names that the manifest gives them; it holds nothing else.
//!
//! What always holds: strings are valid UTF-8 and addresses are those of mappings that live as long as the process. Both are checked
//! (as far as a process can) by [`Env::check`], and a broken page is refused as a whole.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod layout;
pub mod map;
mod read;
mod write;

pub use read::{Channel, Clients, Device, Dma, Env, EnvError, Irq, Region, Role};
pub use smi_sys::CPtr;
pub use write::{Full, Writer};
