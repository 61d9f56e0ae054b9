//! PL011 driver and log multiplexer.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
