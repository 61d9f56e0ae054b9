//! In-process transport for testing IDL servers and clients, with fault injection.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
