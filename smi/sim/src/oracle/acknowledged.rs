//! Acknowledged operations. The log is the witness that the directory is linearizable: what a client is told is what the log says at one
//! place, that place is between question and answer in real time, and no operation has two places (at-most-once).

use smi_core::table::{Op, OpError, Outcome, ProposeError, Proposed};
use std::collections::BTreeMap;

#[derive(Debug)]
struct Proposal {
    /// The last place of the log that was acknowledged to anybody before this was proposed.
    after: u64,
    place: Option<(u64, Result<Outcome, OpError>)>,
    never: bool,
}

/// See the module's description. Every operation but [`Op::Noop`] is proposed once.
#[derive(Debug, Default)]
pub struct Acknowledged {
    proposals: BTreeMap<Vec<u8>, Proposal>,
    tokens: BTreeMap<u64, Vec<u8>>,
    highest: u64,
    /// Answers with an outcome.
    pub decided: u64,
    /// Answers without one.
    pub undecided: u64,
}

impl Acknowledged {
    /// A client proposes.
    pub fn proposed(&mut self, token: u64, op: &Op) {
        if *op == Op::Noop {
            return;
        }
        let bytes = op.encode();
        self.proposals.insert(bytes.clone(), Proposal { after: self.highest, place: None, never: false });
        self.tokens.insert(token, bytes);
    }

    /// An operation is applied for the first time anywhere.
    pub fn applied(&mut self, place: u64, op: &Op, result: Result<Outcome, OpError>) -> Result<(), String> {
        let Some(proposal) = self.proposals.get_mut(&op.encode()) else { return Ok(()) };
        if proposal.never {
            return Err(format!("acknowledged: {op:?} took effect as {place} after it was refused for good"));
        }
        if let Some((first, _)) = proposal.place {
            return Err(format!("at-most-once: {op:?} was executed as {first} and again as {place}"));
        }
        if place <= proposal.after {
            let after = proposal.after;
            return Err(format!("real time: {op:?} is {place}, but {after} was acknowledged before it was proposed"));
        }
        proposal.place = Some((place, result));
        Ok(())
    }

    /// A client is answered.
    pub fn answered(&mut self, token: u64, answer: Proposed) -> Result<(), String> {
        let Some(bytes) = self.tokens.remove(&token) else { return Ok(()) };
        let Some(proposal) = self.proposals.get_mut(&bytes) else { return Ok(()) };
        let told = match answer {
            Ok(outcome) => Ok(outcome),
            Err(ProposeError::Refused(error)) => Err(error),
            Err(ProposeError::NoQuorum) => {
                self.undecided += 1;
                return Ok(());
            }
            Err(ProposeError::Busy) => {
                self.undecided += 1;
                proposal.never = true;
                return Ok(());
            }
        };
        self.decided += 1;
        match proposal.place {
            Some((place, result)) if result == told => {
                self.highest = self.highest.max(place);
                Ok(())
            }
            place => Err(format!("acknowledged: the client was told {told:?}, the log says {place:?}")),
        }
    }

    /// A client's node has died: its question stays open.
    pub fn abandoned(&mut self, token: u64) {
        self.tokens.remove(&token);
    }

    /// Questions that were not answered.
    pub fn open(&self) -> usize {
        self.tokens.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DONE: Result<Outcome, OpError> = Ok(Outcome::Done);

    fn op(port: u16) -> Op {
        Op::Unlisten { port }
    }

    #[test]
    fn an_answer_needs_a_place_with_that_result() {
        let mut a = Acknowledged::default();
        a.proposed(1, &op(1));
        assert!(a.answered(1, Ok(Outcome::Done)).is_err());
        a.proposed(2, &op(2));
        a.applied(1, &op(2), Err(OpError::NotFound)).unwrap();
        assert!(a.answered(2, Ok(Outcome::Done)).is_err());
        a.proposed(3, &op(3));
        a.applied(2, &op(3), DONE).unwrap();
        assert_eq!(a.answered(3, Ok(Outcome::Done)), Ok(()));
        assert_eq!(a.open(), 0);
    }

    #[test]
    fn no_operation_has_two_places_or_one_before_it_was_asked() {
        let mut a = Acknowledged::default();
        a.proposed(1, &op(1));
        a.applied(5, &op(1), DONE).unwrap();
        assert!(a.applied(6, &op(1), Err(OpError::NotFound)).is_err());
        a.answered(1, Ok(Outcome::Done)).unwrap();
        a.proposed(2, &op(2));
        assert!(a.applied(5, &op(2), DONE).is_err());
        a.proposed(3, &op(3));
        a.answered(3, Err(ProposeError::Busy)).unwrap();
        assert!(a.applied(7, &op(3), DONE).is_err());
    }
}
