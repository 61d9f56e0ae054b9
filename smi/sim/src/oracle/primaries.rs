//! Primaries: in one epoch a group has one primary on every node's account; and at no moment do two nodes that are not fenced take
//! themselves for the primary of one group (which is what leases and fencing are for).

use crate::directory::{Directory, Observation};
use crate::engine::World;
use smi_cluster::{Epoch, GroupId, NodeId, PortId};
use std::collections::BTreeMap;

/// See the module's description.
#[derive(Debug, Default)]
pub struct Primaries {
    /// Primary and members of every epoch of every group.
    epochs: BTreeMap<(GroupId, Epoch), Vec<NodeId>>,
    /// By each node's account: op number, and the groups that it leads.
    leads: BTreeMap<NodeId, (u64, Vec<GroupId>)>,
}

impl Primaries {
    /// A node is off.
    pub fn stopped(&mut self, node: NodeId) {
        self.leads.remove(&node);
    }

    /// A node has done something.
    pub fn stepped(&mut self, world: &World<Observation>, node: NodeId) -> Result<(), String> {
        let Some(directory) = world.actor::<Directory>(node, PortId::MANAGER) else { return Ok(()) };
        let op = directory.table().op_number();
        if self.leads.get(&node).is_none_or(|(known, _)| *known != op) {
            self.read_table(directory, node, op)?;
        }
        self.check_exclusion(world, directory, node)
    }

    fn read_table(&mut self, directory: &Directory, node: NodeId, op: u64) -> Result<(), String> {
        let mut leads = Vec::new();
        for (id, group) in directory.table().groups() {
            let members = self.epochs.entry((id, group.epoch)).or_insert_with(|| group.members.clone());
            if *members != group.members {
                let epoch = group.epoch.0;
                return Err(format!(
                    "primaries: epoch {epoch} of group {} has members {members:?} and, by node {node}, {:?}",
                    id.0, group.members
                ));
            }
            if group.primary() == Some(node) {
                leads.push(id);
            }
        }
        self.leads.insert(node, (op, leads));
        Ok(())
    }

    fn check_exclusion(&self, world: &World<Observation>, directory: &Directory, node: NodeId) -> Result<(), String> {
        let Some((_, mine)) = self.leads.get(&node).filter(|(_, groups)| !groups.is_empty()) else { return Ok(()) };
        if directory.node.is_fenced(world.local_time(node)) {
            return Ok(());
        }
        for (other, (_, theirs)) in self.leads.iter().filter(|(other, _)| **other != node) {
            let Some(group) = theirs.iter().find(|g| mine.contains(g)) else { continue };
            let Some(directory) = world.actor::<Directory>(*other, PortId::MANAGER) else { continue };
            if !directory.node.is_fenced(world.local_time(*other)) {
                return Err(format!(
                    "primaries: nodes {node} and {other} both lead group {} and neither is fenced",
                    group.0
                ));
            }
        }
        Ok(())
    }
}
