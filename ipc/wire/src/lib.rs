//! Messages between clients and servers: what an interface compiled by `idlc` is made of.
//!
//! A call is a *label* (interface id and method ordinal), at most [`MAX_PAYLOAD`] payload bytes, at most [`MAX_CAPS`]
//! capabilities, and windows of the channel's *session buffer* for bulk data. All of it is position-independent, so the
//! same bytes go through the kernel's message registers, through a ring, or over the link to another node.
//!
//! What always holds:
//! * payloads are fixed-size structs with explicit zero padding: equal values have equal bytes;
//! * nothing reaches a server before its whole message was checked; a bad one is answered with [`LinkError::BadMessage`];
//! * bulk data is copied in and out of the session buffer, never borrowed, because the peer can write to it at any time.
//!
//! Neighbours: `idlc` generates code against this crate, `ipc-api` holds the result, `smi-rt` and `ipc-mock`
//! implement [`Transport`]. This crate does no I/O.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod cap;
pub mod codec;
pub mod desc;
mod error;
mod label;
mod message;
pub mod relay;
mod retry;
mod session;
mod types;

pub use cap::{Any, Cap, CapList, RawCap, kernel};
pub use desc::{Interface, Method};
pub use error::{Answer, CallError, LinkError, Refusal};
pub use label::{Label, interface_id};
pub use message::{Caller, Dispatched, Incoming, Reply, Request, Transport, reply_label};
pub use retry::Retry;
pub use session::{CellSession, InWindow, NoSession, OutWindow, Session, WindowRef};
pub use types::{Bytes, Str, TooLong, Wire, Zero};

/// Payload of one message in bytes: 120 message registers of 8 bytes (seL4's `seL4_MsgMaxLength`).
pub const MAX_PAYLOAD: usize = 960;
/// Capabilities in one message (seL4's `seL4_MsgMaxExtraCaps`).
pub const MAX_CAPS: usize = 3;

const _: () = assert!(cfg!(target_endian = "little"), "payload structs are read in place as little-endian");
