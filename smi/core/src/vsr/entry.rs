//! Log entries: an operation at its place in the log.

use crate::hash::checksum;
use crate::table::{MAX_OP_BYTES, Op, encode};
use serde::{Deserialize, Serialize};
use smi_cluster::NodeId;

/// Op numbers, views, sessions and request numbers stay below this: nothing real gets there, and sums cannot overflow.
pub(crate) const MAX_NUMBER: u64 = 1 << 48;
/// Longest encoding of an [`Entry`]: the operation and at most seven numbers, a node and tags.
pub(crate) const MAX_ENTRY_BYTES: usize = MAX_OP_BYTES + 96;

/// Names one request of one node's life; executed at most once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct RequestId {
    /// Who asks.
    pub(crate) node: NodeId,
    /// The session: the incarnation under which this boot of the node first joined.
    pub(crate) session: u64,
    /// Counts the session's requests from 1.
    pub(crate) number: u64,
    /// The lowest request number that the node still waits for: outcomes below are not needed any more.
    pub(crate) floor: u64,
}

/// One place of the log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Op number: the place.
    pub(crate) op: u64,
    /// The view in which it was first prepared.
    pub(crate) view: u64,
    /// Hash of the entry before it: equal hashes mean equal logs up to here.
    pub(crate) parent: u64,
    /// Whose request it is; `None` for what the primary itself proposes.
    pub(crate) request: Option<RequestId>,
    /// The operation.
    pub(crate) body: Op,
}

impl Entry {
    /// The entry's hash, over all fields and so over the whole log up to it.
    pub(crate) fn hash(&self) -> u64 {
        checksum(&encode(self))
    }

    /// Whether the numbers are in range.
    pub(crate) fn is_sane(&self) -> bool {
        let request_fits = self.request.is_none_or(|r| {
            r.number < MAX_NUMBER && r.session < MAX_NUMBER && (1..=r.number).contains(&r.floor) && r.session > 0
        });
        (1..MAX_NUMBER).contains(&self.op) && self.view < MAX_NUMBER && request_fits
    }
}
