//! Directory and membership: Viewstamped Replication and the directory table (sans-IO).
//!
//! * [`Node`]: one member's core, `step(now, event) -> actions`; [`io`]: its events and actions; [`config`]: what it is told first.
//! * [`table`]: the replicated state machine. Nodes, failover groups with their epochs, VIDs, names, listeners.
//! * [`vsr`]: the replicated log under it. `detector`, `lease`, `proposals`: the rest of membership.
//! * [`hash`]: the checksum under everything that is stored or compared.
//!
//! Nothing in here reads a clock, draws a random number or does I/O: all of that is passed in, so the same code runs on a
//! node and in the simulator (`smi-sim`). Everything from outside (messages, disk blocks) is checked when decoded.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod config;
mod detector;
pub mod hash;
pub mod io;
mod lease;
mod node;
pub mod plant;
mod proposals;
pub mod table;
pub mod vsr;

pub use config::{Config, Timing};
pub use io::{Action, Event};
pub use node::Node;
pub use proposals::MAX_PROPOSALS;
