//! Bounds: queues stay short, and no replica ever sees something that contradicts what it knows to be committed.

use crate::directory::Directory;
use smi_cluster::NodeId;
use smi_core::vsr::MAX_QUEUE;

/// Actions in one step: what a node that was behind applies at once, a stage of blocks, messages to everybody.
const MAX_ACTIONS: usize = 400;

/// Checks a node after a step.
pub fn check(directory: &Directory, node: NodeId) -> Result<(), String> {
    let (queued, actions) = (directory.node.queued(), directory.most_actions);
    if queued > MAX_QUEUE {
        return Err(format!("bounds: {queued} requests wait at node {node}"));
    }
    if actions > MAX_ACTIONS {
        return Err(format!("bounds: node {node} did {actions} things in one step"));
    }
    let stats = directory.node.stats();
    if stats.conflicts > 0 {
        return Err(format!("conflicts: node {node} was told what contradicts its log"));
    }
    Ok(())
}
