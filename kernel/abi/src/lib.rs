//! The kernel's binary interface: numbers, labels, layouts, error codes (seL4 MCS, AArch64) and our extensions.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
