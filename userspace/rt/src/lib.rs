//! Runtime of user-level servers: entry, heap, logging, panic reports, event loop.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
