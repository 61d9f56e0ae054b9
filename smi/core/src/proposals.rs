//! The operations that users of this node have proposed and not been answered about.
//!
//! Each is numbered within the node's session and sent to the primary until it shows up as executed in the replicated client table, or
//! its deadline passes. The numbers make a repeated one harmless.

use crate::config::Timing;
use crate::io::Action;
use crate::table::{Op, OpError, ProposeError, Proposed};
use crate::vsr::WINDOW;
use crate::vsr::clients::{Clients, Verdict};
use crate::vsr::entry::RequestId;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use smi_cluster::NodeId;

/// Most proposals of a node that are not answered.
pub const MAX_PROPOSALS: usize = 32;

/// Times that a request is sent to the presumed primary only, before it goes to all voters.
const TRIES_AT_PRIMARY: u32 = 2;

struct Proposal {
    token: u64,
    op: Op,
    deadline: u64,
    next_send: u64,
    tries: u32,
}

pub(crate) struct Proposals {
    node: NodeId,
    timing: Timing,
    session: u64,
    next_number: u64,
    /// Not numbered yet: the node has no session, or the window is full.
    waiting: VecDeque<Proposal>,
    open: BTreeMap<u64, Proposal>,
}

/// A request to send.
pub(crate) struct Due {
    pub(crate) request: RequestId,
    pub(crate) op: Op,
    /// To all voters, not only the presumed primary.
    pub(crate) to_all: bool,
}

fn answer(proposal: &Proposal, result: Proposed, out: &mut Vec<Action>) {
    out.push(Action::Proposed { token: proposal.token, result });
}

impl Proposals {
    pub(crate) fn new(node: NodeId, timing: Timing) -> Proposals {
        let (waiting, open) = (VecDeque::new(), BTreeMap::new());
        Proposals { node, timing, session: 0, next_number: 1, waiting, open }
    }

    /// Takes a proposal, or answers it at once.
    pub(crate) fn add(&mut self, token: u64, op: Op, deadline: u64, out: &mut Vec<Action>) {
        let proposal = Proposal { token, op, deadline, next_send: 0, tries: 0 };
        if matches!(proposal.op, Op::NodeUp { .. } | Op::NodeDown { .. }) {
            // Only the primary's failure detector speaks about membership.
            answer(&proposal, Err(ProposeError::Refused(OpError::WrongKind)), out);
        } else if self.waiting.len() + self.open.len() >= MAX_PROPOSALS {
            answer(&proposal, Err(ProposeError::Busy), out);
        } else {
            self.waiting.push_back(proposal);
        }
    }

    /// The earliest time at which something is due.
    pub(crate) fn next_deadline(&self) -> u64 {
        self.waiting.iter().chain(self.open.values()).map(|p| p.deadline).min().unwrap_or(u64::MAX)
    }

    fn request(&self, number: u64) -> RequestId {
        let floor = self.open.keys().next().copied().unwrap_or(self.next_number);
        RequestId { node: self.node, session: self.session, number, floor: floor.min(number) }
    }

    /// Answers what is decided: `session` is this boot's session if it has joined.
    pub(crate) fn resolve(&mut self, now: u64, session: Option<u64>, clients: &Clients, out: &mut Vec<Action>) {
        if let Some(session) = session.filter(|s| *s != self.session) {
            self.begin(session, out);
        }
        let requests: Vec<RequestId> = self.open.keys().map(|n| self.request(*n)).collect();
        for request in requests {
            if let Verdict::Done(result) = clients.check(&request)
                && let Some(proposal) = self.open.remove(&request.number)
            {
                answer(&proposal, result.map_err(ProposeError::Refused), out);
            }
        }
        self.expire(now, out);
    }

    /// A new session: what was open in the old one is not executed any more, if it was not before.
    fn begin(&mut self, session: u64, out: &mut Vec<Action>) {
        for proposal in core::mem::take(&mut self.open).values() {
            answer(proposal, Err(ProposeError::NoQuorum), out);
        }
        self.session = session;
        self.next_number = 1;
    }

    fn expire(&mut self, now: u64, out: &mut Vec<Action>) {
        let late = |p: &Proposal| now >= p.deadline;
        let open = self.open.values().filter(|p| late(p));
        open.chain(self.waiting.iter().filter(|p| late(p))).for_each(|p| answer(p, Err(ProposeError::NoQuorum), out));
        self.open.retain(|_, p| !late(p));
        self.waiting.retain(|p| !late(p));
    }

    /// Numbers what waits, and gives what must be sent now.
    pub(crate) fn due(&mut self, now: u64) -> Vec<Due> {
        if self.session == 0 {
            return Vec::new();
        }
        while self.request(self.next_number).floor + WINDOW > self.next_number {
            let Some(proposal) = self.waiting.pop_front() else { break };
            self.open.insert(self.next_number, proposal);
            self.next_number += 1;
        }
        let period = 2 * self.timing.heartbeat_ns;
        let mut numbers = Vec::new();
        for (number, proposal) in self.open.iter_mut().filter(|(_, p)| now >= p.next_send) {
            proposal.next_send = now + period;
            proposal.tries += 1;
            numbers.push((*number, proposal.op.clone(), proposal.tries > TRIES_AT_PRIMARY));
        }
        let due = |(number, op, to_all)| Due { request: self.request(number), op, to_all };
        numbers.into_iter().map(due).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Outcome;

    const NODE: NodeId = NodeId(1);

    fn proposals(count: u64) -> (Proposals, Vec<Action>) {
        let mut p = Proposals::new(NODE, Timing::QEMU);
        let mut out = Vec::new();
        (0..count).for_each(|token| p.add(token, Op::Noop, 1_000_000_000, &mut out));
        (p, out)
    }

    fn proposed(token: u64, result: Proposed) -> Action {
        Action::Proposed { token, result }
    }

    #[test]
    fn a_proposal_waits_for_the_session_and_is_answered_from_the_client_table() {
        let (mut p, mut out) = proposals(2);
        let mut clients = Clients::default();
        assert!(p.due(0).is_empty());
        clients.begin(NODE, 4);
        p.resolve(0, Some(4), &clients, &mut out);
        let due = p.due(0);
        assert_eq!(due.iter().map(|d| d.request.number).collect::<Vec<_>>(), [1, 2]);
        assert!(p.due(1).is_empty());
        clients.executed(&due[1].request, Err(OpError::Exists));
        p.resolve(1, Some(4), &clients, &mut out);
        assert_eq!(out, [proposed(1, Err(ProposeError::Refused(OpError::Exists)))]);
        // Not answered: sent again, in the end to all.
        let again = p.due(200_000_000);
        assert_eq!((again.len(), again[0].request.number, again[0].to_all), (1, 1, false));
        assert!(p.due(400_000_000)[0].to_all);
        clients.executed(&due[0].request, Ok(Outcome::Done));
        p.resolve(2, Some(4), &clients, &mut out);
        assert_eq!(out[1], proposed(0, Ok(Outcome::Done)));
    }

    #[test]
    fn deadlines_pass_and_sessions_end() {
        let (mut p, mut out) = proposals(1);
        let clients = Clients::default();
        assert_eq!(p.next_deadline(), 1_000_000_000);
        p.resolve(1_000_000_000, None, &clients, &mut out);
        assert_eq!(out, [proposed(0, Err(ProposeError::NoQuorum))]);
        let (mut p, mut out) = proposals(1);
        p.resolve(0, Some(1), &clients, &mut out);
        p.due(0);
        p.resolve(0, Some(2), &clients, &mut out);
        assert_eq!(out, [proposed(0, Err(ProposeError::NoQuorum))]);
    }

    #[test]
    fn there_is_a_bound_and_membership_is_not_for_users() {
        let (mut p, mut out) = proposals(MAX_PROPOSALS as u64 + 1);
        assert_eq!(out, [proposed(MAX_PROPOSALS as u64, Err(ProposeError::Busy))]);
        p.add(99, Op::NodeDown { node: NODE, incarnation: 1 }, 5, &mut out);
        assert_eq!(out[1], proposed(99, Err(ProposeError::Refused(OpError::WrongKind))));
    }
}
