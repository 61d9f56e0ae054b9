//! The environment page: what the root task tells a server at start.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
