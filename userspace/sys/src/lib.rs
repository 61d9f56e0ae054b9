//! System-call stubs for the kernel.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
