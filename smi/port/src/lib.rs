//! Records exchanged between the SMI manager and the servers it carries messages for.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
