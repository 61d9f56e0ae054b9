//! Liveness: when all faults are over, everything must be well again within bounded time.

use crate::directory::{Directory, Observation};
use crate::engine::World;
use smi_cluster::PortId;
use smi_core::table::{GroupRecord, Table};
use smi_core::vsr::Status;

/// What is not well yet; `None` if all is: every node is on, a member, not fenced, and has the whole log; every group has all its replicas.
pub fn ailment(world: &World<Observation>, op: u64) -> Option<String> {
    for (node, _) in world.machines() {
        let Some(directory) = world.actor::<Directory>(node, PortId::MANAGER) else {
            return Some(format!("node {node} is off"));
        };
        let core = &directory.node;
        if !matches!(core.status(), Status::Normal | Status::Learner) {
            return Some(format!("node {node} is in state {:?}, view {}", core.status(), core.view()));
        }
        if core.table().op_number() != op {
            return Some(format!("node {node} has applied {} of {op}", core.table().op_number()));
        }
        if core.is_fenced(world.local_time(node)) {
            let joined = core.has_joined();
            return Some(format!("node {node} is fenced (member: {joined})"));
        }
    }
    let (node, _) = world.machines().next()?;
    let table = world.actor::<Directory>(node, PortId::MANAGER)?.table();
    let nodes = table.up_nodes().count();
    let thin = table.groups().find(|(_, g)| !is_full(table, g, nodes));
    thin.map(|(id, g)| format!("group {} lacks replicas: {g:?}", id.0))
}

/// Whether a group has all the replicas that it can have. One whose last holder came back with another store has none any more.
fn is_full(table: &Table, group: &GroupRecord, nodes: usize) -> bool {
    let gone = group.lost.is_some_and(|holder| table.is_up(holder));
    gone || group.members.len() == usize::from(group.degree).min(nodes)
}
