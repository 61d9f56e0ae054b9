//! SMI manager: directory replica, link endpoint, remote capabilities.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod calls;
pub mod names;
pub mod ports;
pub mod services;
pub mod status;
