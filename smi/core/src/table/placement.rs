//! Which node gets a replica: the least loaded one, the lowest id among equals. Load is the number of groups a node holds or is
//! joining; it is counted once per operation, so choosing for every group costs one pass.

use super::{GroupRecord, Table};
use crate::plant::{Plant, planted};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use smi_cluster::NodeId;

/// Load of every node that is Up.
pub(super) struct Loads(BTreeMap<NodeId, usize>);

impl Loads {
    /// Counts the table as it is.
    pub(super) fn count(table: &Table) -> Loads {
        let mut loads: BTreeMap<NodeId, usize> = table.up_nodes().map(|n| (n, 0)).collect();
        for group in table.groups.values() {
            for node in group.members.iter().chain(&group.joining) {
                if let Some(load) = loads.get_mut(node) {
                    *load += 1;
                }
            }
        }
        Loads(loads)
    }

    /// Takes the least loaded node that `group` does not involve yet, and adds to its load.
    fn take(&mut self, group: &GroupRecord) -> Option<NodeId> {
        let (load, node) = self.0.iter().filter(|(n, _)| !group.involves(**n)).map(|(n, l)| (*l, *n)).min()?;
        self.0.insert(node, load + 1);
        Some(node)
    }

    /// Members for a new group: up to `degree` nodes, none if there is no node.
    pub(super) fn found(&mut self, group: &mut GroupRecord) {
        while group.members.len() < usize::from(group.degree) {
            match self.take(group) {
                Some(node) => group.members.push(node),
                None => break,
            }
        }
    }

    /// Chooses a node to join if the group has fewer replicas than it wants and one to copy from. True if it did.
    pub(super) fn refill(&mut self, group: &mut GroupRecord) -> bool {
        let wanting = group.members.len() < usize::from(group.degree);
        if group.members.is_empty() || group.joining.is_some() || !wanting || planted(Plant::NeverRefill) {
            return false;
        }
        group.joining = self.take(group);
        group.joining.is_some()
    }
}

impl Table {
    /// Lets `change` edit every group (it says whether it touched one), refills all, and raises the epoch of those that differ.
    pub(super) fn change_groups(&mut self, mut change: impl FnMut(&mut GroupRecord) -> bool) {
        let mut groups = core::mem::take(&mut self.groups);
        let changed: Vec<bool> = groups.values_mut().map(&mut change).collect();
        self.groups = groups;
        let mut loads = Loads::count(self);
        for (group, changed) in self.groups.values_mut().zip(changed) {
            let refilled = loads.refill(group);
            if (changed || refilled) && !planted(Plant::SkipEpochBump) {
                group.epoch.0 += 1;
            }
        }
    }
}
