//! What file servers say to each other, and what clients ask.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use smi_cluster::{Epoch, GroupId, Vid};
use smi_store::Mutation;

/// The most bytes of one write or read.
pub const MAX_WRITE: usize = 32 * 1024;
/// Bytes of a file that one feeding step carries.
pub const FEED_BYTES: u32 = 32 * 1024;

/// An operation on a virtual file, by VID.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Its length.
    Size {
        /// The file.
        vid: Vid,
    },
    /// Bytes from an offset; fewer at the end.
    Read {
        /// The file.
        vid: Vid,
        /// From where.
        offset: u64,
        /// How many, at most [`MAX_WRITE`].
        len: u32,
    },
    /// Writes bytes at an offset. Done when durable on all replicas.
    Write {
        /// The file.
        vid: Vid,
        /// Where.
        offset: u64,
        /// What, at most [`MAX_WRITE`] bytes.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// Sets the length.
    Truncate {
        /// The file.
        vid: Vid,
        /// The new length.
        len: u64,
    },
}

impl Request {
    /// The file that it is about.
    pub fn vid(&self) -> Vid {
        match self {
            Request::Size { vid }
            | Request::Read { vid, .. }
            | Request::Write { vid, .. }
            | Request::Truncate { vid, .. } => *vid,
        }
    }
}

/// Why a request failed. The numbers are those of `file.idl`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum FileError {
    /// No such file.
    NotFound,
    /// The name is taken.
    Exists,
    /// The disks are full.
    NoSpace,
    /// Larger than a request or a file may be.
    TooLarge,
    /// No replica has an undamaged copy of these bytes.
    Corrupt,
    /// The caller's group is now served by another node (or by a later instance on this one): the caller must stop.
    Fenced,
    /// The group or the directory could not be reached before the deadline; whether it took effect is unknown.
    Deadline,
    /// The name is not a valid name.
    BadName,
    /// The directory is full, or the resource is not a file.
    Refused,
    /// The disk failed.
    Device,
}

/// Between the file servers of two nodes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Message {
    /// Which start of the file server this is: a peer that was started anew has forgotten what was in flight.
    Hello {
        /// Differs between starts.
        life: u64,
        /// Whether the receiver should say the same of itself.
        answer: bool,
    },
    /// About a group's replication; without effect unless the epoch is the receiver's.
    Group {
        /// The group.
        group: GroupId,
        /// The sender's epoch of it.
        epoch: Epoch,
        /// What.
        body: Body,
    },
    /// A client's request, for the group's primary.
    Forward {
        /// Comes back in [`Message::Answer`].
        id: u64,
        /// What.
        request: Request,
    },
    /// The answer to [`Message::Forward`].
    Answer {
        /// Whose.
        id: u64,
        /// `None`: this node is not the primary; look again.
        result: Option<Result<Response, FileError>>,
    },
}

/// What a request returns.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Response {
    /// Done.
    Done,
    /// A length in bytes.
    Size(u64),
    /// Bytes.
    Bytes(#[serde(with = "serde_bytes")] Vec<u8>),
    /// A file was created or opened.
    File {
        /// It.
        vid: Vid,
        /// Term of its group's primary, to be quoted by a caller that is bound to it; 0 if this node is not the primary.
        term: u64,
    },
}

/// Replication of one group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Body {
    /// Down the chain: "where are you?"
    Where,
    /// Up the chain: "I have received everything up to `received`": send on from there.
    Position {
        /// The last operation that the sender holds.
        received: u64,
    },
    /// Down the chain: the next operation.
    Append {
        /// Its number.
        n: u64,
        /// The directory operation that the sender had seen: files named here exist as of it.
        table_op: u64,
        /// What it changes.
        ops: Vec<Mutation>,
    },
    /// Up the chain: everything up to `n` is durable here and below.
    Ack {
        /// The last such operation.
        n: u64,
    },
    /// Joining node to the last member: "my old copies are gone, feed me".
    Ready,
    /// To the joining node: the feed starts after operation `n`.
    Base {
        /// The last operation that the feed's copies contain.
        n: u64,
    },
    /// To the joining node: a piece of a file, as of its place in the stream.
    Piece {
        /// Sequence number within the feed, from 1.
        step: u64,
        /// The directory operation that the sender had seen.
        table_op: u64,
        /// The file.
        vid: Vid,
        /// Where the piece starts.
        offset: u64,
        /// The piece.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
        /// On the file's last piece: its length.
        len: Option<u64>,
    },
    /// To the joining node: that was all.
    End {
        /// Sequence number within the feed.
        step: u64,
    },
    /// Joining node to the last member: everything up to and including this step is durable.
    PieceDone {
        /// The step.
        step: u64,
    },
}

impl Message {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("encoding into memory cannot fail")
    }

    /// From bytes; `None` if they are not a message.
    pub fn decode(bytes: &[u8]) -> Option<Message> {
        match postcard::take_from_bytes(bytes) {
            Ok((message, [])) => Some(message),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn messages_survive_and_nonsense_is_refused() {
        let m = Message::Group {
            group: GroupId(3),
            epoch: Epoch(9),
            body: Body::Append {
                n: 4,
                table_op: 8,
                ops: vec![Mutation::Write { vid: Vid(1), offset: 5, bytes: vec![1; 300] }],
            },
        };
        let bytes = m.encode();
        assert_eq!(Message::decode(&bytes), Some(m));
        for cut in 0..bytes.len() {
            assert_eq!(Message::decode(&bytes[..cut]), None);
        }
        assert_eq!(Message::decode(&[&bytes[..], &[0]].concat()), None);
    }
}
