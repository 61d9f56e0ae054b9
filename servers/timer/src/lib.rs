//! Deadline service on the EL0 physical timer.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
