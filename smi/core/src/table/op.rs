//! Operations on the directory table, and what can come of them.

use super::name::Name;
use super::record::Kind;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use smi_cluster::{Epoch, GroupId, NodeId, Vid};

/// One operation of the replicated state machine. Proposals are claims: [`super::Table::apply`] checks each against the table as
/// of its place in the log, and a refused operation changes nothing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Op {
    /// Changes nothing. Its commit proves that the proposer has seen everything committed before it.
    Noop,
    /// A node has joined (or joined again) and has caught up. Proposed by the directory's primary.
    NodeUp {
        /// The node.
        node: NodeId,
        /// Greater than the incarnation on record.
        incarnation: u64,
        /// Differs between boots of the node.
        boot: u64,
        /// Differs between contents of the node's store: a replaced or newly formatted disk has another one.
        store: u64,
        /// Whether it has a NIC on the external segment.
        external: bool,
    },
    /// A node is dead or out of touch. Takes it out of every group at once. Proposed by the directory's primary.
    NodeDown {
        /// The node.
        node: NodeId,
        /// Its incarnation on record; a death notice for an earlier life is refused.
        incarnation: u64,
    },
    /// A group's joining node holds everything: it becomes an in-sync member.
    Synced {
        /// The group.
        group: GroupId,
        /// The epoch under which it caught up.
        epoch: Epoch,
        /// The node.
        node: NodeId,
    },
    /// Takes an in-sync member out of a group though its node lives (its copy is broken or has diverged). The last one stays.
    Expel {
        /// The group.
        group: GroupId,
        /// The epoch in which it was found broken.
        epoch: Epoch,
        /// The node.
        node: NodeId,
    },
    /// Makes another in-sync member the group's primary (planned hand-over).
    Promote {
        /// The group.
        group: GroupId,
        /// The current epoch.
        epoch: Epoch,
        /// The new primary.
        node: NodeId,
    },
    /// Makes an empty group on the least loaded nodes. All of them count as in sync, for there is nothing to copy yet.
    CreateGroup {
        /// Its id.
        group: GroupId,
        /// Replicas wanted: 1 to [`super::MAX_DEGREE`].
        degree: u8,
    },
    /// Removes a group that no VID belongs to.
    DeleteGroup {
        /// The group.
        group: GroupId,
    },
    /// Makes a virtual resource.
    Create {
        /// Its id.
        vid: Vid,
        /// What it is.
        kind: Kind,
        /// Its group; `None` exactly for [`Kind::Server`].
        group: Option<GroupId>,
        /// Its name in the directory, if it has one.
        name: Option<Name>,
    },
    /// Removes a virtual resource with its name and its listeners.
    Delete {
        /// The resource.
        vid: Vid,
    },
    /// Gives the resource named `from` the name `to`. A resource of the same kind that had the name `to` is removed in the same step.
    Rename {
        /// The present name.
        from: Name,
        /// The new one.
        to: Name,
    },
    /// Directs connections to a port of the service address to the group of `vid`.
    Listen {
        /// The port, not 0.
        port: u16,
        /// A process or socket.
        vid: Vid,
    },
    /// Ends [`Op::Listen`].
    Unlisten {
        /// The port.
        port: u16,
    },
}

/// What a successful operation says besides its effect on the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Outcome {
    /// Done.
    Done,
    /// [`Op::Rename`] took the name from this resource and removed it.
    Replaced(Vid),
}

/// Why an operation was refused. The table is unchanged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum OpError {
    /// The id, name or port is taken.
    Exists,
    /// No such node, group, resource, name or port.
    NotFound,
    /// The operation speaks of an incarnation, epoch or state that is no longer (or not yet) the current one.
    Stale,
    /// The resource's kind does not allow it.
    WrongKind,
    /// The group still has resources.
    NotEmpty,
    /// No live node could hold the group.
    NoNodes,
    /// A number is outside its range (node 0, port 0, degree).
    OutOfRange,
    /// The table holds as many records of this sort as it may.
    Full,
    /// The same request was executed before, and its outcome is no longer kept.
    Forgotten,
}

/// Why a proposal has no [`Outcome`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ProposeError {
    /// Committed, and refused by the table.
    Refused(OpError),
    /// Not known to be committed before its deadline. It may still take effect later.
    NoQuorum,
    /// Too many proposals of this node are outstanding. It will not take effect.
    Busy,
}

/// What became of a proposal.
pub type Proposed = Result<Outcome, ProposeError>;

/// Longest encoding of an [`Op`], in bytes.
pub const MAX_OP_BYTES: usize = 256;

/// Bytes that are not a valid encoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadEncoding;

impl Op {
    /// The operation's encoding (postcard).
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// The operation that `bytes` encode: all of them, at most [`MAX_OP_BYTES`].
    pub fn decode(bytes: &[u8]) -> Result<Op, BadEncoding> {
        if bytes.len() > MAX_OP_BYTES { Err(BadEncoding) } else { decode(bytes) }
    }
}

/// Encodes the answer to a proposal.
pub fn encode_proposed(result: &Proposed) -> Vec<u8> {
    encode(result)
}

/// The answer to a proposal that `bytes` encode.
pub fn decode_proposed(bytes: &[u8]) -> Result<Proposed, BadEncoding> {
    decode(bytes)
}

/// Postcard into a vector.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // A vector grows as needed and our types have no unsized sequences, so postcard has nothing to fail on.
    postcard::to_allocvec(value).expect("in-memory encoding of a plain type")
}

/// Postcard from exactly these bytes.
pub(crate) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, BadEncoding> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        _ => Err(BadEncoding),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::boxed::Box;

    fn longest() -> Op {
        let name = || Name::new(&"x".repeat(super::super::MAX_NAME_BYTES)).unwrap();
        Op::Create {
            vid: Vid(u128::MAX),
            kind: Kind::Process { program: name() },
            group: Some(GroupId(u32::MAX)),
            name: Some(name()),
        }
    }

    #[test]
    fn operations_survive_encoding() {
        let name = |text: &str| Name::new(text).unwrap();
        let ops: Box<[Op]> = Box::new([
            Op::Noop,
            Op::NodeUp { node: NodeId(3), incarnation: 9, boot: u64::MAX, store: 1, external: true },
            Op::Rename { from: name("a"), to: name("b") },
            longest(),
        ]);
        for op in ops {
            assert_eq!(Op::decode(&op.encode()), Ok(op));
        }
        for result in [Ok(Outcome::Replaced(Vid(7))), Err(ProposeError::Refused(OpError::Full))] {
            assert_eq!(decode_proposed(&encode_proposed(&result)), Ok(result));
        }
    }

    #[test]
    fn the_longest_operation_fits() {
        assert!(longest().encode().len() <= MAX_OP_BYTES);
        let rename = Op::Rename { from: "f".repeat(64).as_str().try_into().unwrap(), to: "t".try_into().unwrap() };
        assert!(rename.encode().len() <= MAX_OP_BYTES);
    }

    #[test]
    fn cut_or_padded_operations_are_refused() {
        let bytes = longest().encode();
        for len in 0..bytes.len() {
            assert_eq!(Op::decode(&bytes[..len]), Err(BadEncoding), "{len}");
        }
        let mut padded = bytes.clone();
        padded.push(0);
        assert_eq!(Op::decode(&padded), Err(BadEncoding));
        assert_eq!(Op::decode(&[0xff]), Err(BadEncoding));
    }
}
