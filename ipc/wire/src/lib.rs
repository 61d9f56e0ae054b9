//! Message encoding shared by all IDL stubs.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
