//! Virtual sockets: the TCP/IP stacks of failover groups, the service address, and the router between them (DESIGN 6.6).
//!
//! The outside sees one host: the *service address* with a virtual MAC. Every node with an external NIC could be its router;
//! the one that the directory's table names is the *active router*, the others are silent outside. The active router hands each
//! IP packet to the node that is primary of the failover group whose listener owns the port: to its own stack, or over the link
//! to that node's socket server. Answers come back the same way and leave with the virtual MAC.
//!
//! | module | noun |
//! | --- | --- |
//! | [`stack`] | one TCP/IP instance of one failover group, driven only by [`stack::Stack::step`] |
//! | [`router`] | ARP, ICMP and forwarding for the service address, a function of the [`view::View`] |
//! | [`recent`] | last packets of connections, repeated after a move |
//! | [`view`] | what sockets need of the directory's table: active router, groups, listeners |
//! | [`peer`] | messages between the socket servers of two nodes |
//! | [`directory`] | this node's copy of the table |
//! | [`desk`] | the clients' interfaces |
//! | [`server`] | all of it together: clients' calls, stacks, router; `step` in, [`server::Effects`] out |
//!
//! What always holds: nothing here reads a clock, draws a random number or does I/O; packets and peer messages are claims until
//! checked; every queue and table has a bound; dropping is counted. Neighbours: `smi-port` (peer messages and the table come
//! through it), `servers/net` (frames), and the clients' interface `ipc/idl/socket.idl`.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod desk;
pub mod directory;
pub mod peer;
pub mod recent;
pub mod router;

pub mod server;
mod siphash;
pub mod stack;
pub mod view;

/// Virtual time in nanoseconds. Only differences and order matter; it never goes back.
pub type Nanos = u64;
