//! All interfaces of this system, compiled from ipc/idl at build time.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
