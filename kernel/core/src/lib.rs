//! The kernel's object model: capabilities, threads, IPC, scheduling, address spaces; host-testable.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
