//! virtio-net driver, and what its clients need: [`NetClient`].
//!
//! A client and the driver share a channel whose whole ring part carries frames: one record is one Ethernet frame, from
//! destination address to payload, without frame check sequence. Nothing else goes over the ring; address and counts
//! are asked by calls (interface `net`).
//!
//! Frames may be lost: when the client's ring is full, when either side restarts, and on the wire. A restarted driver
//! resets the device and goes on with the same rings; the client need not do anything.
//!
//! Several clients may share a device: each says in its channel's argument which frames it wants ([`Filter`]).
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

#[cfg(feature = "driver")]
pub mod card;
mod client;
mod filter;
#[cfg(feature = "driver")]
pub mod service;

pub use client::{NetClient, SendError};
pub use filter::{BadFilter, Filter};

/// Bytes of the Ethernet header: two addresses and the type.
pub const HEADER: usize = 14;
/// Longest frame: header and 1500 bytes.
pub const MAX_FRAME: usize = HEADER + 1500;
/// Shortest frame on the wire without check sequence; the driver pads shorter ones with zeros.
pub const MIN_FRAME: usize = 60;
