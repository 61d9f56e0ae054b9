//! virtio-blk driver, and what its clients need: the ring's records and [`BlockClient`].
//!
//! A client and the driver share a channel with two parts (manifest): a ring for records, and a data area of
//! [`BLOCK_SIZE`] slots for the blocks themselves. A client submits reads, writes and flushes with tokens; they complete
//! in any order. A *flush* covers the writes that had completed before it was submitted, so a client that wants order
//! waits: write, done, flush, done.
//!
//! Each client sees a window of the disk, block 0 being the window's first; which one, the manifest says. The driver
//! enforces it.
//!
//! Restart. A session starts with the client's [`Request::Hello`] and the driver's [`Reply::Ready`]. When the driver was
//! restarted (the client sees the ring's generation change), the client says Hello with a new session number and submits
//! again, in order, what has not completed. The driver ignores everything in front of the first Hello, and completions of
//! an older session mean nothing to the client. When the client was restarted, its successor says Hello and leaves the
//! data area alone until the driver is Ready, which it is once nothing of the predecessor is under way. So nothing that
//! was reported done is lost, and nothing older overtakes it.
//!
//! `record` is the wire format, `client` and `service` the two ends; `disk` drives the device over crate `virtio`.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod client;
#[cfg(feature = "driver")]
pub mod disk;
#[cfg(feature = "driver")]
mod pool;
mod record;
#[cfg(feature = "driver")]
pub mod service;
mod spans;

pub use client::{BlockClient, Event, MAX_PENDING, SubmitError, Token};
pub use record::{BadRecord, Geometry, Op, RECORD_BYTES, Reply, Request, Status};
pub use spans::Spans;

/// Bytes of a block.
pub const BLOCK_SIZE: usize = 4096;
/// Most blocks of one request.
pub const MAX_BLOCKS: u32 = 64;
