//! The README's example: a server and a client of the greeter interface.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
