//! SMI manager of a node: directory replica, link endpoint, remote capabilities, service placement.
//!
//! [`Manager`] composes, without I/O, clock or randomness of its own:
//! * the link (`smi-link`) to the managers of the other nodes;
//! * this node's core of the directory (`smi-core`): its table is the truth about nodes, groups, VIDs and names;
//! * [`ports`]: rings to local servers, to which messages, directory updates and calls go;
//! * [`calls`], [`exports`], [`imports`]: capabilities that denote resources anywhere in the cluster;
//! * [`services`]: which programs run here; [`status`]: what an operator is told.
//!
//! [`desk`] serves the interface `manager`, [`boot`] checks the node's disk. `main` is the shell: rings, interrupts, timer, IPC.
//!
//! The shell hands in [`Event`]s, carries out [`Action`]s, moves port records ([`Manager::ports`]), and gives [`Event::Tick`] after
//! every batch and at [`Manager::deadline_ns`].
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod boot;
pub mod calls;
pub mod desk;
pub mod exports;
pub mod imports;
pub mod manager;
pub mod ports;
pub mod services;
pub mod status;

pub use manager::{Action, Config, Event, Manager};
