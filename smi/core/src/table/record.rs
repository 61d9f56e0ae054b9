//! The records that the table holds.

use super::name::Name;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use smi_cluster::{Epoch, GroupId, NodeId};

/// Whether the cluster counts on a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum NodeState {
    /// A member: may hold replicas.
    Up,
    /// Dead or out of touch: holds nothing, and must not speak for any group.
    Down,
}

/// A node that has ever joined.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Whether it is a member now.
    pub state: NodeState,
    /// Raised at every [`super::Op::NodeUp`]: tells its lives apart.
    pub incarnation: u64,
    /// The boot that the current or last incarnation belongs to.
    pub boot: u64,
    /// The contents of its store (see [`super::Op::NodeUp`]).
    pub store: u64,
    /// Whether it has a NIC on the external segment.
    pub external: bool,
}

/// A failover group: where its replicas are.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GroupRecord {
    /// Raised by one in every operation that changes `members` or `joining`, or puts a rebooted member back.
    pub epoch: Epoch,
    /// Replicas wanted.
    pub degree: u8,
    /// The in-sync replicas; the first is the primary. A write may be acknowledged when durable on all of them.
    pub members: Vec<NodeId>,
    /// The node that is being brought up to date.
    pub joining: Option<NodeId>,
    /// While `members` is empty: the last in-sync holder. The group waits for it.
    pub lost: Option<NodeId>,
}

impl GroupRecord {
    /// The replica that serves the group, if any is left.
    pub fn primary(&self) -> Option<NodeId> {
        self.members.first().copied()
    }

    /// Whether `node` is an in-sync member or joining.
    pub fn involves(&self, node: NodeId) -> bool {
        self.members.contains(&node) || self.joining == Some(node)
    }
}

/// What a virtual resource is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Kind {
    /// A virtual process; the supervisor of the group's primary runs this program.
    Process {
        /// The program's name in the boot archive.
        program: Name,
    },
    /// A virtual file.
    File,
    /// A virtual socket.
    Socket {
        /// Its port at the service address.
        port: u16,
    },
    /// A server on one particular node, exported to the others. Goes when the node goes.
    Server {
        /// The node.
        node: NodeId,
    },
}

impl Kind {
    /// Whether both are processes, both files, and so on.
    pub fn is_like(&self, other: &Kind) -> bool {
        core::mem::discriminant(self) == core::mem::discriminant(other)
    }
}

/// A virtual resource.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VidRecord {
    /// What it is.
    pub kind: Kind,
    /// Its failover group; `None` exactly for [`Kind::Server`].
    pub group: Option<GroupId>,
    /// Number of the operation that made it; a VID made again after its removal has another generation.
    pub generation: u64,
    /// Its name in the directory, if it has one.
    pub name: Option<Name>,
}
