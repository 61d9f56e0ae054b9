//! Virtual files: flat byte sequences, replicated synchronously along the chain of their failover group.
//!
//! [`FileCore`] is the whole file server without its I/O: it follows the directory's table, owns the node's local store, talks to the
//! file servers of other nodes, and serves clients. Sans-IO: `step(now, event) -> actions`.
//!
//! How a group replicates (DESIGN 6.2, 6.4): the group's members form a chain; the first is the primary. The primary numbers each change, every member
//! stores it and passes it on, and acknowledges it upwards once it is durable here *and* acknowledged from below. So the primary answers when a change is
//! durable on all members, and every member holds all that the members behind it hold: the next in line can always take over. All messages carry the
//! group's epoch; those of another epoch have no effect. A primary that is cut off gets no acknowledgement and so stays silent.
//!
//! A node that joins a group is fed by the chain's last member: all objects in pieces, interleaved with the changes as they happen, in one ordered stream. Then
//! the directory makes it a member (`Synced`). Until then nobody waits for it.
//!
//! Neighbours: `smi-store` (below), `smi-core` (the table), `smi-port` (records to and from the manager), `ipc/idl/file.idl` (clients).
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod front;
mod group;
mod proto;
mod server;

pub use crate::front::{Answer, Front};
pub use crate::server::{Action, ClientOp, Event, FileCore, MAX_REQUESTS, ReqId};
pub use proto::{FileError, MAX_WRITE, Request, Response};
