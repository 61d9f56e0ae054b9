//! Root task and supervisor: starts servers from the manifest, reports faults, restarts.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
