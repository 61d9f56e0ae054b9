//! Directory and membership: Viewstamped Replication and the directory table (sans-IO).
//!
//! * [`table`]: the replicated state machine. Nodes, failover groups with their epochs, VIDs, names, listeners.
//! * [`io`]: events in, actions out; [`config`]: what a node is told before it starts.
//! * [`hash`]: the checksum under everything that is stored or compared.
//!
//! Nothing in here reads a clock, draws a random number or does I/O: all of that is passed in, so the same code runs on a
//! node and in the simulator (`smi-sim`).
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod config;
pub mod hash;
pub mod io;
pub mod table;
