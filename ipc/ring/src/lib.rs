//! Single-producer single-consumer record rings in shared memory.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
