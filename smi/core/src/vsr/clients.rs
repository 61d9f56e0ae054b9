//! The client table: which requests of which node's life were executed, and with what result, so that none is executed twice.
//!
//! Part of the replicated state. A node numbers its requests and says with each one which is the oldest it still waits for, so a
//! window of results is enough.

use crate::plant::{Plant, planted};
use crate::table::{OpError, Outcome};
use crate::vsr::entry::RequestId;
use alloc::collections::BTreeMap;
use serde::{Deserialize, Serialize};
use smi_cluster::{MAX_NODES, NodeId};

/// Most requests of a node between the oldest it waits for and the newest.
pub const WINDOW: u64 = 32;

/// Result of an executed operation.
pub(crate) type ApplyResult = Result<Outcome, OpError>;

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Client {
    session: u64,
    /// Requests below are not executed any more.
    floor: u64,
    /// Results of executed requests from `floor` on.
    results: BTreeMap<u64, ApplyResult>,
}

/// See the module's description.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Clients(BTreeMap<NodeId, Client>);

/// What to do with a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// It is new: execute it.
    Execute,
    /// It was executed, with this result.
    Done(ApplyResult),
    /// Of another session, outside the window, or done with: never execute it.
    Refuse,
}

impl Clients {
    /// A node has begun a new session.
    pub(crate) fn begin(&mut self, node: NodeId, session: u64) {
        self.0.insert(node, Client { session, floor: 1, results: BTreeMap::new() });
    }

    /// The node's current session.
    pub(crate) fn session(&self, node: NodeId) -> Option<u64> {
        self.0.get(&node).map(|c| c.session)
    }

    /// What to do with a request.
    pub(crate) fn check(&self, r: &RequestId) -> Verdict {
        let Some(client) = self.0.get(&r.node).filter(|c| c.session == r.session) else { return Verdict::Refuse };
        if planted(Plant::DoubleApply) {
            return Verdict::Execute;
        }
        if let Some(result) = client.results.get(&r.number) {
            return Verdict::Done(*result);
        }
        let floor = client.floor.max(r.floor);
        if (floor..floor + WINDOW).contains(&r.number) { Verdict::Execute } else { Verdict::Refuse }
    }

    /// Notes the result of a request that was just executed.
    pub(crate) fn executed(&mut self, r: &RequestId, result: ApplyResult) {
        let Some(client) = self.0.get_mut(&r.node) else { return };
        client.floor = client.floor.max(r.floor);
        client.results.insert(r.number, result);
        client.results = client.results.split_off(&client.floor);
    }

    /// Whether the bounds hold (for decoded tables).
    pub(crate) fn is_sound(&self) -> bool {
        let fits = |c: &Client| {
            let above = c.results.keys().next_back().is_none_or(|n| *n < c.floor + WINDOW);
            above && c.results.keys().next().is_none_or(|n| *n >= c.floor)
        };
        self.0.len() <= MAX_NODES && self.0.values().all(|c| c.floor < super::entry::MAX_NUMBER && fits(c))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(session: u64, number: u64, floor: u64) -> RequestId {
        RequestId { node: NodeId(1), session, number, floor }
    }

    #[test]
    fn each_request_of_a_session_is_executed_once() {
        let mut clients = Clients::default();
        assert_eq!(clients.check(&request(1, 1, 1)), Verdict::Refuse);
        clients.begin(NodeId(1), 1);
        // Out of order, with repetitions.
        for number in [2, 1] {
            assert_eq!(clients.check(&request(1, number, 1)), Verdict::Execute);
            clients.executed(&request(1, number, 1), Ok(Outcome::Done));
            assert_eq!(clients.check(&request(1, number, 1)), Verdict::Done(Ok(Outcome::Done)));
        }
        // The node has seen both: they are forgotten, and still not executed.
        clients.executed(&request(1, 4, 3), Err(OpError::Full));
        assert_eq!(clients.check(&request(1, 1, 1)), Verdict::Refuse);
        assert_eq!(clients.check(&request(1, 2, 2)), Verdict::Refuse);
        assert_eq!(clients.check(&request(1, 3, 3)), Verdict::Execute);
        assert_eq!(clients.check(&request(1, 3 + WINDOW, 3)), Verdict::Refuse);
        assert!(clients.is_sound());
    }

    #[test]
    fn a_new_session_starts_afresh_and_ends_the_old_one() {
        let mut clients = Clients::default();
        clients.begin(NodeId(1), 1);
        clients.executed(&request(1, 1, 1), Ok(Outcome::Done));
        clients.begin(NodeId(1), 5);
        assert_eq!(clients.check(&request(1, 2, 1)), Verdict::Refuse);
        assert_eq!(clients.check(&request(5, 1, 1)), Verdict::Execute);
        assert_eq!(clients.session(NodeId(1)), Some(5));
    }
}
