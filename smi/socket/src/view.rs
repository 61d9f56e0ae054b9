//! What sockets need of the directory's table: who routes, who carries which group, which group owns which port.
//!
//! A view is a function of (this node, table), built anew after each change; nothing in here is remembered except since when a
//! node has been primary without interruption, which decides whose packets still count.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use smi_cluster::{Epoch, GroupId, NodeId, Vid};

/// One failover group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Group {
    /// Its epoch.
    pub epoch: Epoch,
    /// The node that speaks for it; `None` while no replica is in touch.
    pub primary: Option<NodeId>,
}

/// One listening port of the service address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Port {
    /// The resource that listens.
    pub vid: Vid,
    /// Its group, whose primary gets the packets.
    pub group: GroupId,
}

/// The directory's table, as sockets see it from one node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct View {
    /// This node.
    pub me: NodeId,
    /// The active router, if any node has an external NIC.
    pub router: Option<NodeId>,
    /// All groups.
    pub groups: BTreeMap<GroupId, Group>,
    /// Who owns each listening port.
    pub ports: BTreeMap<u16, Port>,
}

impl View {
    /// What a node knows before it has a table: nothing, so that it stays silent.
    pub fn empty(me: NodeId) -> View {
        View { me, router: None, groups: BTreeMap::new(), ports: BTreeMap::new() }
    }

    /// Whether this node is the active router.
    pub fn routing(&self) -> bool {
        self.router == Some(self.me)
    }

    /// The primary of `group`, if it is known and has one.
    pub fn primary(&self, group: GroupId) -> Option<NodeId> {
        self.groups.get(&group)?.primary
    }
}

/// Since which epoch each group has had the primary it has now.
///
/// A group's epoch also rises when a replica joins; packets of the same primary from before that are still good. What an
/// earlier primary sent is not: a node that was cut off and came back must not speak from its earlier reign.
#[derive(Default, Debug)]
pub struct Reigns(BTreeMap<GroupId, (NodeId, Epoch)>);

impl Reigns {
    /// Takes a new view into account; gives the groups that have a new primary.
    pub fn update(&mut self, view: &View) -> Vec<GroupId> {
        let mut changed = Vec::new();
        self.0.retain(|id, _| view.groups.contains_key(id));
        for (&id, group) in &view.groups {
            match group.primary {
                None => drop(self.0.remove(&id)),
                Some(node) if self.0.get(&id).is_some_and(|(n, _)| *n == node) => {}
                Some(node) => {
                    self.0.insert(id, (node, group.epoch));
                    changed.push(id);
                }
            }
        }
        changed
    }

    /// Whether `node`, speaking for `group` in `epoch`, is to be believed.
    pub fn current(&self, group: GroupId, node: NodeId, epoch: Epoch) -> bool {
        self.0.get(&group).is_some_and(|&(primary, since)| primary == node && epoch >= since)
    }
}
