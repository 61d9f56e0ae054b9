//! The replicated state: the directory table, the client table, and the place in the log that they stand for.

use super::clients::{ApplyResult, Clients, Verdict};
use super::entry::Entry;
use super::message::MAX_SNAPSHOT_BYTES;
use crate::table::{BadEncoding, Op, OpError, Table, decode, encode};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// First byte of an encoded state.
const VERSION: u8 = 1;

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct State {
    pub(crate) table: Table,
    pub(crate) clients: Clients,
    /// Hash of the entry with the table's op number.
    pub(crate) last_hash: u64,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u8,
    last_hash: u64,
    clients: Clients,
    table: Vec<u8>,
}

/// An applied entry as the followers see it.
pub(crate) struct Applied {
    pub(crate) op: Op,
    pub(crate) result: ApplyResult,
}

impl State {
    /// Number of the last operation applied.
    pub(crate) fn op(&self) -> u64 {
        self.table.op_number()
    }

    /// Applies the next entry. A request that must not be executed (again) counts as [`Op::Noop`] for the table.
    pub(crate) fn apply(&mut self, entry: &Entry) -> Applied {
        assert!(entry.op == self.op() + 1 && entry.parent == self.last_hash, "entries are applied in order");
        self.last_hash = entry.hash();
        let Some(request) = &entry.request else { return self.execute_own(&entry.body) };
        match self.clients.check(request) {
            Verdict::Execute => {
                let result = self.table.apply(&entry.body);
                self.clients.executed(request, result);
                Applied { op: entry.body.clone(), result }
            }
            Verdict::Done(_) | Verdict::Refuse => {
                // `Noop` is never refused.
                let _ = self.table.apply(&Op::Noop);
                Applied { op: Op::Noop, result: Err(OpError::Forgotten) }
            }
        }
    }

    /// Executes what the primary itself proposed. A node that comes up with another boot begins a new session.
    fn execute_own(&mut self, op: &Op) -> Applied {
        let boot_before = |table: &Table, node| table.node(node).map(|n| n.boot);
        let before = if let Op::NodeUp { node, .. } = op { boot_before(&self.table, *node) } else { None };
        let result = self.table.apply(op);
        if let Op::NodeUp { node, incarnation, boot, .. } = op
            && result.is_ok()
            && before != Some(*boot)
        {
            self.clients.begin(*node, *incarnation);
        }
        Applied { op: op.clone(), result }
    }

    /// The state's encoding, at most [`MAX_SNAPSHOT_BYTES`].
    pub(crate) fn encode(&self) -> Vec<u8> {
        let bytes = encode(&Stored {
            version: VERSION,
            last_hash: self.last_hash,
            clients: self.clients.clone(),
            table: self.table.encode(),
        });
        assert!(bytes.len() <= MAX_SNAPSHOT_BYTES, "the state outgrew its bounds");
        bytes
    }

    /// The state that `bytes` encode, if it is a sound one.
    pub(crate) fn decode(bytes: &[u8]) -> Result<State, BadEncoding> {
        let stored: Stored = decode(bytes)?;
        let table = Table::decode(&stored.table)?;
        if stored.version != VERSION || !stored.clients.is_sound() {
            return Err(BadEncoding);
        }
        Ok(State { table, clients: stored.clients, last_hash: stored.last_hash })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vsr::entry::RequestId;
    use smi_cluster::NodeId;

    fn next(state: &State, request: Option<RequestId>, body: Op) -> Entry {
        Entry { op: state.op() + 1, view: 0, parent: state.last_hash, request, body }
    }

    #[test]
    fn a_session_spans_a_false_alarm_but_not_a_reboot() {
        let node = NodeId(1);
        let up = |incarnation, boot| Op::NodeUp { node, incarnation, boot, store: 1, external: false };
        let mut state = State::default();
        for (op, session) in [
            (up(1, 7), Some(1)),
            (Op::NodeDown { node, incarnation: 1 }, Some(1)),
            (up(2, 7), Some(1)),
            (up(3, 8), Some(3)),
        ] {
            let entry = next(&state, None, op);
            assert!(state.apply(&entry).result.is_ok());
            assert_eq!(state.clients.session(node), session);
        }
        let request = RequestId { node, session: 3, number: 1, floor: 1 };
        let create = Op::CreateGroup { group: smi_cluster::GroupId(1), degree: 1 };
        let first = next(&state, Some(request), create.clone());
        assert_eq!(state.apply(&first).op, create);
        let again = next(&state, Some(request), create);
        assert_eq!(state.apply(&again).op, Op::Noop);
        assert_eq!(State::decode(&state.encode()), Ok(state));
    }
}
