//! The local store: objects (flat byte sequences named by VID) on one zone of one node's disk. Sans-IO: [`Store::step`] takes requests and
//! completions and emits block I/O; it has no clock and blocks on nothing.
//!
//! How it stays right whatever a crash leaves behind:
//! * **Copy on write.** Data go to free blocks; a block that something durable refers to is never overwritten.
//! * **The parent holds the checksum.** The map of an object says where each block is *and* its CRC-32C; a block that does not match is reported
//!   as [`StoreError::Corrupt`], never returned.
//! * **Write-ahead log.** A batch of commits is one log record: the map changes of all of them, atomic by its checksum. Data and
//!   record are written together, then one flush, then the commits are acknowledged. So only the last record can refer to data that did not reach the
//!   disk: recovery checks that record's data and drops it if they are not there (nobody was told it was done).
//! * **Checkpoints.** When the log fills up, the whole map goes to the area that is not in use, then a superblock (two slots, alternating) names it.
//! * A freed block is used again only after the record that freed it is durable and no older read is in flight.
//!
//! Layout: see [`layout`]. Neighbours: `smi-file` (its only user), `servers/block` (carries the I/O).
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod alloc_map;
mod engine;
pub mod layout;
mod map;
mod records;
mod recover;

pub use engine::{Action, Event, IoId, IoKind, MAX_COMMIT_BYTES, Store};
pub use map::{Attr, ObjectInfo};
pub use recover::{BlockReader, OpenError, ReadFailed, Recovery};

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use smi_cluster::Vid;

/// One change of one object. A commit is a sequence of them, applied all or none.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Mutation {
    /// Makes an empty object if there is none; an object that exists stays as it is.
    Ensure {
        /// Its name.
        vid: Vid,
        /// Its attributes.
        attr: Attr,
    },
    /// Writes bytes at an offset, growing the object as needed; a gap reads as zeros.
    Write {
        /// The object.
        vid: Vid,
        /// Where, in bytes.
        offset: u64,
        /// What.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// Sets the length in bytes: truncates, or grows with zeros.
    SetLen {
        /// The object.
        vid: Vid,
        /// The new length.
        len: u64,
    },
    /// Replaces the attributes.
    SetAttr {
        /// The object.
        vid: Vid,
        /// The new attributes.
        attr: Attr,
    },
    /// Removes the object; succeeds if there is none.
    Delete {
        /// The object.
        vid: Vid,
    },
}

impl Mutation {
    /// The object that it changes.
    pub fn vid(&self) -> Vid {
        match self {
            Mutation::Ensure { vid, .. }
            | Mutation::Write { vid, .. }
            | Mutation::SetLen { vid, .. }
            | Mutation::SetAttr { vid, .. }
            | Mutation::Delete { vid } => *vid,
        }
    }
}

/// Why a request failed. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum StoreError {
    /// No such object.
    NotFound,
    /// The disk (or the space for its map) is full.
    NoSpace,
    /// Longer or further out than the store allows.
    TooLarge,
    /// The stored bytes do not match their checksum; repair from another replica.
    Corrupt,
    /// The device failed the request.
    Device,
}

/// The longest object, in bytes.
pub const MAX_OBJECT: u64 = 1 << 42;
