//! Records between the SMI manager and the servers it carries messages for (files, sockets, exported interfaces).
//!
//! A port is the ring pair of the channel between the manager (the channel's server side) and such a server (its client side).
//! A record is a fixed [`Header`] and then bytes. Both sides treat records as claims: [`ToServer::decode`] and
//! [`ToManager::decode`] check everything. Encoding gives the parts that `ipc_ring::Producer::push` gathers, so nothing is copied
//! together first.
//!
//! Flow: the manager sends [`ToServer::Hello`] and a [`ToServer::Snapshot`] of the directory's table when a server attaches, then
//! every committed operation in order. Messages to the same-named server of another node are delivered in order per
//! (peer, lane), or not at all after [`ToServer::PeerDown`].
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

use smi_cluster::{Lane, NodeId};
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The longest message that [`ToServer::Peer`] and [`ToManager::Peer`] carry, in bytes.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// In front of every record. Fields that a kind does not use are zero.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    kind: u8,
    lane: u8,
    node: U16,
    /// Bytes of the first variable part; the rest is the second.
    first: U32,
    token: U64,
    label: U64,
}

const _: () = assert!(size_of::<Header>() == 24);
/// Bytes of a record's header.
pub const HEADER_BYTES: usize = size_of::<Header>();

/// A record that cannot be understood: dropped, and counted by whoever received it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadRecord;

/// Manager to server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ToServer<'a> {
    /// The first record after either side (re)attached: which node this is, and its incarnation.
    Hello {
        /// This node.
        node: NodeId,
        /// Rises with every boot of the node.
        incarnation: u64,
    },
    /// A message from the same-named server of another node.
    Peer {
        /// Who sent it.
        from: NodeId,
        /// On which lane.
        lane: Lane,
        /// The message.
        bytes: &'a [u8],
    },
    /// A session with that node's manager is up; `incarnation` rises with each boot of the node.
    PeerUp {
        /// The node.
        node: NodeId,
        /// Its incarnation.
        incarnation: u64,
    },
    /// The session with that node is gone; messages in flight to it may be lost.
    PeerDown {
        /// The node.
        node: NodeId,
    },
    /// The directory's whole table (encoding: `smi_core::table`), as of the operation with number `op_number`. May come in several
    /// pieces: `more` says that another follows.
    Snapshot {
        /// Number of the last operation in it.
        op_number: u64,
        /// Whether another piece follows.
        more: bool,
        /// This piece's bytes.
        bytes: &'a [u8],
    },
    /// The committed operation `op_number` (encoding: `smi_core::table`).
    Committed {
        /// Its number: one more than the last.
        op_number: u64,
        /// The operation.
        bytes: &'a [u8],
    },
    /// What became of [`ToManager::Propose`] with this token.
    Proposed {
        /// The proposal's token.
        token: u64,
        /// Outcome (encoding: `smi_core::table`).
        bytes: &'a [u8],
    },
    /// Whether this node is fenced: out of touch with a quorum, so that it must not speak for any group.
    Fenced {
        /// The new state.
        fenced: bool,
    },
    /// A call of an exported interface from another node (or from this one, by VID).
    Call {
        /// Answer with this id.
        call: u64,
        /// The caller's node.
        from: NodeId,
        /// Label of the request: interface and method.
        label: u64,
        /// The request's bytes.
        payload: &'a [u8],
        /// The caller's window, if the method has an `in buffer`.
        window: &'a [u8],
    },
}

/// Server to manager.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ToManager<'a> {
    /// A message to the same-named server of another node.
    Peer {
        /// To whom.
        to: NodeId,
        /// On which lane.
        lane: Lane,
        /// The message.
        bytes: &'a [u8],
    },
    /// Proposes a directory operation (encoding: `smi_core::table`).
    Propose {
        /// Comes back in [`ToServer::Proposed`].
        token: u64,
        /// The operation.
        bytes: &'a [u8],
    },
    /// The answer to [`ToServer::Call`].
    Reply {
        /// The call's id.
        call: u64,
        /// Label of the reply: ok, server error or link error (contract of `ipc-wire`).
        label: u64,
        /// The reply's bytes.
        payload: &'a [u8],
        /// Bytes for the caller's window, if the method has an `out buffer`.
        window: &'a [u8],
    },
}

/// An encoded record: header and up to two parts, ready for a gathering push.
pub struct Encoded<'a> {
    header: [u8; HEADER_BYTES],
    parts: [&'a [u8]; 2],
}

impl Encoded<'_> {
    /// The record's pieces, in order.
    pub fn parts(&self) -> [&[u8]; 3] {
        [&self.header, self.parts[0], self.parts[1]]
    }

    /// The record's length in bytes.
    pub fn len(&self) -> usize {
        HEADER_BYTES + self.parts[0].len() + self.parts[1].len()
    }

    /// Never: a record has at least its header.
    pub fn is_empty(&self) -> bool {
        false
    }
}

mod kind {
    pub const HELLO: u8 = 1;
    pub const PEER: u8 = 2;
    pub const PEER_UP: u8 = 3;
    pub const PEER_DOWN: u8 = 4;
    pub const SNAPSHOT: u8 = 5;
    pub const COMMITTED: u8 = 6;
    pub const PROPOSED: u8 = 7;
    pub const FENCED: u8 = 8;
    pub const CALL: u8 = 9;
    pub const PROPOSE: u8 = 10;
    pub const REPLY: u8 = 11;
}

#[derive(Default)]
struct Fields<'a> {
    kind: u8,
    lane: u8,
    node: u16,
    token: u64,
    label: u64,
    parts: [&'a [u8]; 2],
}

fn encode(f: Fields<'_>) -> Encoded<'_> {
    let header = Header {
        kind: f.kind,
        lane: f.lane,
        node: U16::new(f.node),
        first: U32::new(f.parts[0].len() as u32),
        token: U64::new(f.token),
        label: U64::new(f.label),
    };
    let mut bytes = [0; HEADER_BYTES];
    bytes.copy_from_slice(header.as_bytes());
    Encoded { header: bytes, parts: f.parts }
}

fn decode(record: &[u8]) -> Result<Fields<'_>, BadRecord> {
    let (h, rest) = Header::read_from_prefix(record).map_err(|_| BadRecord)?;
    let (first, second) = rest.split_at_checked(h.first.get() as usize).ok_or(BadRecord)?;
    Ok(Fields {
        kind: h.kind,
        lane: h.lane,
        node: h.node.get(),
        token: h.token.get(),
        label: h.label.get(),
        parts: [first, second],
    })
}

impl Fields<'_> {
    fn node(&self) -> Result<NodeId, BadRecord> {
        if self.node == 0 { Err(BadRecord) } else { Ok(NodeId(self.node)) }
    }

    fn lane(&self) -> Result<Lane, BadRecord> {
        Lane::from_number(self.lane).ok_or(BadRecord)
    }

    fn flag(&self) -> Result<bool, BadRecord> {
        match self.label {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(BadRecord),
        }
    }
}

impl<'a> ToServer<'a> {
    /// The record for the ring.
    pub fn encode(&self) -> Encoded<'a> {
        let f = Fields::default();
        encode(match *self {
            ToServer::Hello { node, incarnation } => {
                Fields { kind: kind::HELLO, node: node.0, token: incarnation, ..f }
            }
            ToServer::Peer { from, lane, bytes } => {
                Fields { kind: kind::PEER, node: from.0, lane: lane as u8, parts: [bytes, &[]], ..f }
            }
            ToServer::PeerUp { node, incarnation } => {
                Fields { kind: kind::PEER_UP, node: node.0, token: incarnation, ..f }
            }
            ToServer::PeerDown { node } => Fields { kind: kind::PEER_DOWN, node: node.0, ..f },
            ToServer::Snapshot { op_number, more, bytes } => {
                Fields { kind: kind::SNAPSHOT, token: op_number, label: more as u64, parts: [bytes, &[]], ..f }
            }
            ToServer::Committed { op_number, bytes } => {
                Fields { kind: kind::COMMITTED, token: op_number, parts: [bytes, &[]], ..f }
            }
            ToServer::Proposed { token, bytes } => Fields { kind: kind::PROPOSED, token, parts: [bytes, &[]], ..f },
            ToServer::Fenced { fenced } => Fields { kind: kind::FENCED, label: fenced as u64, ..f },
            ToServer::Call { call, from, label, payload, window } => {
                Fields { kind: kind::CALL, node: from.0, token: call, label, parts: [payload, window], ..f }
            }
        })
    }

    /// Checks and reads a record from the ring.
    pub fn decode(record: &'a [u8]) -> Result<Self, BadRecord> {
        let f = decode(record)?;
        Ok(match f.kind {
            kind::HELLO => ToServer::Hello { node: f.node()?, incarnation: f.token },
            kind::PEER => ToServer::Peer { from: f.node()?, lane: f.lane()?, bytes: f.parts[0] },
            kind::PEER_UP => ToServer::PeerUp { node: f.node()?, incarnation: f.token },
            kind::PEER_DOWN => ToServer::PeerDown { node: f.node()? },
            kind::SNAPSHOT => ToServer::Snapshot { op_number: f.token, more: f.flag()?, bytes: f.parts[0] },
            kind::COMMITTED => ToServer::Committed { op_number: f.token, bytes: f.parts[0] },
            kind::PROPOSED => ToServer::Proposed { token: f.token, bytes: f.parts[0] },
            kind::FENCED => ToServer::Fenced { fenced: f.flag()? },
            kind::CALL => ToServer::Call {
                call: f.token,
                from: f.node()?,
                label: f.label,
                payload: f.parts[0],
                window: f.parts[1],
            },
            _ => return Err(BadRecord),
        })
    }
}

impl<'a> ToManager<'a> {
    /// The record for the ring.
    pub fn encode(&self) -> Encoded<'a> {
        let f = Fields::default();
        encode(match *self {
            ToManager::Peer { to, lane, bytes } => {
                Fields { kind: kind::PEER, node: to.0, lane: lane as u8, parts: [bytes, &[]], ..f }
            }
            ToManager::Propose { token, bytes } => Fields { kind: kind::PROPOSE, token, parts: [bytes, &[]], ..f },
            ToManager::Reply { call, label, payload, window } => {
                Fields { kind: kind::REPLY, token: call, label, parts: [payload, window], ..f }
            }
        })
    }

    /// Checks and reads a record from the ring.
    pub fn decode(record: &'a [u8]) -> Result<Self, BadRecord> {
        let f = decode(record)?;
        Ok(match f.kind {
            kind::PEER => ToManager::Peer { to: f.node()?, lane: f.lane()?, bytes: f.parts[0] },
            kind::PROPOSE => ToManager::Propose { token: f.token, bytes: f.parts[0] },
            kind::REPLY => ToManager::Reply { call: f.token, label: f.label, payload: f.parts[0], window: f.parts[1] },
            _ => return Err(BadRecord),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(e: &Encoded<'_>) -> Vec<u8> {
        let bytes = e.parts().concat();
        assert_eq!(bytes.len(), e.len());
        bytes
    }

    #[test]
    fn every_record_to_a_server_survives() {
        let all = [
            ToServer::Hello { node: NodeId(3), incarnation: 9 },
            ToServer::Peer { from: NodeId(1), lane: Lane::Repair, bytes: b"abc" },
            ToServer::PeerUp { node: NodeId(2), incarnation: 4 },
            ToServer::PeerDown { node: NodeId(2) },
            ToServer::Snapshot { op_number: 77, more: true, bytes: b"table" },
            ToServer::Committed { op_number: 78, bytes: b"op" },
            ToServer::Proposed { token: 5, bytes: b"ok" },
            ToServer::Fenced { fenced: true },
            ToServer::Call { call: 8, from: NodeId(2), label: 0xabc, payload: b"req", window: b"window" },
        ];
        for record in all {
            assert_eq!(ToServer::decode(&joined(&record.encode())), Ok(record));
        }
    }

    #[test]
    fn every_record_to_the_manager_survives() {
        let all = [
            ToManager::Peer { to: NodeId(1), lane: Lane::Log, bytes: b"abc" },
            ToManager::Propose { token: 5, bytes: b"op" },
            ToManager::Reply { call: 8, label: 1, payload: b"req", window: b"" },
        ];
        for record in all {
            assert_eq!(ToManager::decode(&joined(&record.encode())), Ok(record));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let good = joined(&ToManager::Peer { to: NodeId(1), lane: Lane::Log, bytes: b"abc" }.encode());
        for cut in 0..HEADER_BYTES + 3 {
            assert_eq!(ToManager::decode(&good[..cut]), Err(BadRecord), "{cut} bytes");
        }
        for (at, value) in [(0, 99), (0, kind::HELLO), (1, 9), (2, 0), (7, 0xff)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(ToManager::decode(&bad), Err(BadRecord), "byte {at}");
        }
    }
}
