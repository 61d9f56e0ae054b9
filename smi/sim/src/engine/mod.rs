//! The simulated machinery: time, machines with clocks, networks and disks. It knows nothing of what runs on it.
//!
//! A [`World`] holds machines; a machine runs [`Actor`]s, one for each port, each with a disk zone of its own. Actors are sans-IO:
//! an [`Input`] at a local time gives [`Effect`]s. Everything that happens is an event in one queue, ordered by virtual time and
//! then by the order of scheduling, and all chance comes from one generator: a seed is a run.

pub mod disk;
pub mod net;
pub mod world;

pub use disk::{Disk, DiskModel};
pub use net::{Net, NetModel};
pub use world::{Actor, Clock, Effect, Input, Watcher, World};

/// A microsecond of virtual time.
pub const US: u64 = 1_000;
/// A millisecond of virtual time.
pub const MS: u64 = 1_000_000;
/// A second of virtual time.
pub const SEC: u64 = 1_000_000_000;
