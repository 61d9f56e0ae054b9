//! Agreement: at equal op numbers all nodes have applied equal operations with equal results and have equal states, whenever and in
//! whichever life they did. So nothing that was ever applied anywhere is lost or changed (durability of what is committed).

use smi_cluster::NodeId;
use smi_core::table::{Op, OpError, Outcome};
use std::collections::BTreeMap;

type Entry = (Op, Result<Outcome, OpError>);

/// See the module's description.
#[derive(Debug, Default)]
pub struct Agreement {
    /// The log as it was first applied anywhere.
    log: Vec<Entry>,
    states: BTreeMap<u64, (u64, NodeId)>,
    /// How far each node has applied in its present life.
    at: BTreeMap<NodeId, u64>,
}

impl Agreement {
    /// Op number of the last operation applied anywhere.
    pub fn op(&self) -> u64 {
        self.log.len() as u64
    }

    /// A node has started from nothing.
    pub fn restarted(&mut self, node: NodeId) {
        self.at.insert(node, 0);
    }

    /// A node has applied an operation. True if it is the first to do so.
    pub fn applied(&mut self, node: NodeId, op_number: u64, entry: Entry, state: Option<u64>) -> Result<bool, String> {
        let at = self.at.entry(node).or_default();
        if op_number != *at + 1 {
            return Err(format!("agreement: node {node} applied operation {op_number} after {at}"));
        }
        *at = op_number;
        let first = op_number == self.op() + 1;
        if first {
            self.log.push(entry);
        } else if self.log.get(op_number as usize - 1) != Some(&entry) {
            let was = self.log.get(op_number as usize - 1);
            return Err(format!(
                "agreement: node {node} applied {entry:?} as operation {op_number}, which was {was:?}"
            ));
        }
        state.map_or(Ok(first), |state| self.state(node, op_number, state).map(|()| first))
    }

    /// A node has taken over a whole state.
    pub fn installed(&mut self, node: NodeId, op_number: u64, state: Option<u64>) -> Result<(), String> {
        self.at.insert(node, op_number);
        if op_number > self.op() {
            return Err(format!("agreement: node {node} installed a state that nobody ever had: {op_number}"));
        }
        state.map_or(Ok(()), |state| self.state(node, op_number, state))
    }

    fn state(&mut self, node: NodeId, op_number: u64, state: u64) -> Result<(), String> {
        let (first, other) = self.states.entry(op_number).or_insert((state, node));
        if *first == state {
            return Ok(());
        }
        Err(format!(
            "agreement: nodes {other} and {node} differ at operation {op_number}: {first:016x} and {state:016x}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DONE: Result<Outcome, OpError> = Ok(Outcome::Done);
    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    #[test]
    fn differences_are_found() {
        let mut agreement = Agreement::default();
        assert_eq!(agreement.applied(A, 1, (Op::Noop, DONE), Some(7)), Ok(true));
        assert_eq!(agreement.applied(B, 1, (Op::Noop, DONE), Some(7)), Ok(false));
        assert!(agreement.applied(B, 1, (Op::Noop, DONE), Some(7)).is_err());
        agreement.restarted(B);
        assert!(agreement.applied(B, 1, (Op::Noop, DONE), Some(8)).is_err());
        agreement.restarted(B);
        assert!(agreement.applied(B, 1, (Op::Noop, Err(OpError::Full)), Some(7)).is_err());
        assert!(agreement.installed(B, 2, Some(7)).is_err());
        assert!(agreement.installed(B, 1, Some(8)).is_err());
        assert_eq!(agreement.installed(B, 1, Some(7)), Ok(()));
        assert_eq!(agreement.applied(B, 2, (Op::Noop, DONE), None), Ok(true));
    }
}
