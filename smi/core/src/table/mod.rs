//! The directory table: which nodes are members, where every failover group's replicas are, and what every VID and name means.
//!
//! The table is the state machine under the replicated log. [`Table::apply`] is deterministic: equal tables and equal operations
//! give equal tables on every node. What always holds (checked when a table is decoded, kept by `apply`):
//! * every number of records is bounded by a constant of this module;
//! * a group's `members` and `joining` are distinct nodes that are Up, at most `degree` of them;
//! * a group without members names its last in-sync holder in `lost`, and only such a group does;
//! * a VID's group exists; exactly servers have none, and a server's node is Up; a name belongs to one VID;
//! * a listener's VID exists and is a process or socket.
//!
//! Neighbours: `vsr` orders operations and applies them; the manager, file and socket servers follow with copies of their own.

mod apply;
mod name;
mod op;
mod placement;
mod record;

pub use name::{BadName, MAX_NAME_BYTES, Name};
pub use op::{
    BadEncoding, MAX_OP_BYTES, Op, OpError, Outcome, ProposeError, Proposed, decode_proposed, encode_proposed,
};
pub(crate) use op::{decode, encode};
pub use record::{GroupRecord, Kind, NodeRecord, NodeState, VidRecord};

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use smi_cluster::{Epoch, GroupId, MAX_NODES, NodeId, Vid};

/// Most groups.
pub const MAX_GROUPS: usize = 4096;
/// Most virtual resources.
pub const MAX_VIDS: usize = 6144;
/// Most listeners.
pub const MAX_LISTENERS: usize = 512;
/// Most replicas of a group.
pub const MAX_DEGREE: u8 = 5;
/// Longest encoding of a table, in bytes: what the bounds above add up to (a test holds this).
pub const MAX_TABLE_BYTES: usize = 1_300_000;

/// First byte of an encoded table.
const VERSION: u8 = 1;

/// The directory table. See the module's description.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Table {
    op_number: u64,
    nodes: BTreeMap<NodeId, NodeRecord>,
    groups: BTreeMap<GroupId, GroupRecord>,
    vids: BTreeMap<Vid, VidRecord>,
    /// Derived from `vids`.
    names: BTreeMap<Name, Vid>,
    listeners: BTreeMap<u16, Vid>,
}

/// The encoded form: a table without what can be derived.
#[derive(Serialize)]
struct Stored<'a> {
    version: u8,
    op_number: u64,
    nodes: &'a BTreeMap<NodeId, NodeRecord>,
    groups: &'a BTreeMap<GroupId, GroupRecord>,
    vids: &'a BTreeMap<Vid, VidRecord>,
    listeners: &'a BTreeMap<u16, Vid>,
}

#[derive(Deserialize)]
struct Loaded {
    version: u8,
    op_number: u64,
    nodes: BTreeMap<NodeId, NodeRecord>,
    groups: BTreeMap<GroupId, GroupRecord>,
    vids: BTreeMap<Vid, VidRecord>,
    listeners: BTreeMap<u16, Vid>,
}

impl Table {
    /// The empty table, before operation 1.
    pub fn new() -> Table {
        Table::default()
    }

    /// Number of the last operation applied.
    pub fn op_number(&self) -> u64 {
        self.op_number
    }

    /// A node's record.
    pub fn node(&self, node: NodeId) -> Option<&NodeRecord> {
        self.nodes.get(&node)
    }

    /// All nodes that ever joined, in ascending order.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &NodeRecord)> {
        self.nodes.iter().map(|(id, record)| (*id, record))
    }

    /// Whether the node is a member now.
    pub fn is_up(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|n| n.state == NodeState::Up)
    }

    /// The nodes that are members now, in ascending order.
    pub fn up_nodes(&self) -> impl Iterator<Item = NodeId> {
        self.nodes().filter(|(_, n)| n.state == NodeState::Up).map(|(id, _)| id)
    }

    /// A group's record.
    pub fn group(&self, group: GroupId) -> Option<&GroupRecord> {
        self.groups.get(&group)
    }

    /// All groups, in ascending order.
    pub fn groups(&self) -> impl Iterator<Item = (GroupId, &GroupRecord)> {
        self.groups.iter().map(|(id, record)| (*id, record))
    }

    /// The groups of which `node` is an in-sync member or joining.
    pub fn groups_of(&self, node: NodeId) -> impl Iterator<Item = (GroupId, &GroupRecord)> {
        self.groups().filter(move |(_, g)| g.involves(node))
    }

    /// A virtual resource's record.
    pub fn vid(&self, vid: Vid) -> Option<&VidRecord> {
        self.vids.get(&vid)
    }

    /// All virtual resources, in ascending order of VID.
    pub fn vids(&self) -> impl Iterator<Item = (Vid, &VidRecord)> {
        self.vids.iter().map(|(id, record)| (*id, record))
    }

    /// The virtual resources of a group.
    pub fn vids_in(&self, group: GroupId) -> impl Iterator<Item = (Vid, &VidRecord)> {
        self.vids().filter(move |(_, v)| v.group == Some(group))
    }

    /// The VID that has this name.
    pub fn lookup(&self, name: &str) -> Option<Vid> {
        let name = Name::new(name).ok()?;
        self.names.get(&name).copied()
    }

    /// All names with their VIDs, in ascending order.
    pub fn names(&self) -> impl Iterator<Item = (&Name, Vid)> {
        self.names.iter().map(|(name, vid)| (name, *vid))
    }

    /// The node that serves a virtual resource now, with the epoch of its group (0 for a server, which has no group).
    pub fn home(&self, vid: Vid) -> Option<(NodeId, Epoch)> {
        let record = self.vids.get(&vid)?;
        match (&record.kind, record.group) {
            (Kind::Server { node }, _) => Some((*node, Epoch(0))),
            (_, Some(group)) => {
                let group = self.groups.get(&group)?;
                Some((group.primary()?, group.epoch))
            }
            (_, None) => None,
        }
    }

    /// The resource that listens on a port of the service address.
    pub fn listener(&self, port: u16) -> Option<Vid> {
        self.listeners.get(&port).copied()
    }

    /// All listeners, in ascending order of port.
    pub fn listeners(&self) -> impl Iterator<Item = (u16, Vid)> {
        self.listeners.iter().map(|(port, vid)| (*port, *vid))
    }

    /// The node that answers for the service address: the lowest member with an external NIC.
    pub fn active_router(&self) -> Option<NodeId> {
        self.nodes().find(|(_, n)| n.state == NodeState::Up && n.external).map(|(id, _)| id)
    }

    /// The table's encoding, at most [`MAX_TABLE_BYTES`]. Equal tables have equal encodings.
    pub fn encode(&self) -> Vec<u8> {
        let bytes = encode(&Stored {
            version: VERSION,
            op_number: self.op_number,
            nodes: &self.nodes,
            groups: &self.groups,
            vids: &self.vids,
            listeners: &self.listeners,
        });
        assert!(bytes.len() <= MAX_TABLE_BYTES, "the table outgrew its bounds");
        bytes
    }

    /// The table that `bytes` encode, if it is one that keeps every rule of this module.
    pub fn decode(bytes: &[u8]) -> Result<Table, BadEncoding> {
        if bytes.len() > MAX_TABLE_BYTES {
            return Err(BadEncoding);
        }
        let loaded: Loaded = decode(bytes)?;
        let version = loaded.version;
        let mut table = Table {
            op_number: loaded.op_number,
            nodes: loaded.nodes,
            groups: loaded.groups,
            vids: loaded.vids,
            names: BTreeMap::new(),
            listeners: loaded.listeners,
        };
        for (vid, record) in &table.vids {
            if let Some(name) = &record.name
                && table.names.insert(name.clone(), *vid).is_some()
            {
                return Err(BadEncoding);
            }
        }
        if version == VERSION && table.is_sound() { Ok(table) } else { Err(BadEncoding) }
    }

    /// A hash of the whole table: equal on all nodes at equal `op_number`.
    pub fn state_hash(&self) -> u64 {
        crate::hash::checksum(&self.encode())
    }

    /// Whether every rule of this module holds.
    pub fn is_sound(&self) -> bool {
        self.counts_fit()
            && self.nodes.keys().all(|n| valid_node(*n))
            && self.groups.values().all(|g| self.group_is_sound(g))
            && self.vids.iter().all(|(id, v)| self.vid_is_sound(*id, v))
            && self.listeners.iter().all(|(port, vid)| *port != 0 && self.can_listen(*vid).is_ok())
    }

    fn counts_fit(&self) -> bool {
        self.nodes.len() <= MAX_NODES
            && self.groups.len() <= MAX_GROUPS
            && self.vids.len() <= MAX_VIDS
            && self.listeners.len() <= MAX_LISTENERS
    }

    fn group_is_sound(&self, g: &GroupRecord) -> bool {
        let holders: BTreeSet<NodeId> = g.members.iter().copied().chain(g.joining).collect();
        let count = g.members.len() + usize::from(g.joining.is_some());
        let lost_fits = match g.lost {
            Some(node) => g.members.is_empty() && g.joining.is_none() && self.nodes.contains_key(&node),
            None => !g.members.is_empty(),
        };
        (1..=MAX_DEGREE).contains(&g.degree)
            && holders.len() == count
            && count <= usize::from(g.degree)
            && holders.iter().all(|n| self.is_up(*n))
            && lost_fits
    }

    fn vid_is_sound(&self, id: Vid, v: &VidRecord) -> bool {
        let group_fits = match (&v.kind, v.group) {
            (Kind::Server { node }, None) => self.is_up(*node),
            (Kind::Server { .. }, Some(_)) | (_, None) => false,
            (_, Some(group)) => self.groups.contains_key(&group),
        };
        let name_fits = v.name.as_ref().is_none_or(|name| self.names.get(name) == Some(&id));
        group_fits && name_fits && v.generation <= self.op_number
    }
}

/// Whether a node id is one that a cluster can have.
fn valid_node(node: NodeId) -> bool {
    node.0 >= 1 && usize::from(node.0) <= MAX_NODES
}

#[cfg(test)]
mod tests;
