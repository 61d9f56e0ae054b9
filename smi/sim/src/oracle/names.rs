//! Linearizability of single names from the clients' point of view alone (nothing is known of the log): is there an order of the
//! operations on a name that respects real time and explains every answer? Search after Wing and Gong (1993) with Lowe's memory of
//! visited configurations (2017).

use std::collections::HashSet;

/// An operation on one name. VIDs are numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Create this VID under the name: works if the name is free.
    Create(u64),
    /// Delete this VID: works if it has the name.
    Delete(u64),
    /// What has the name?
    Read,
}

/// What the client was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It worked, or not.
    Worked(bool),
    /// What has the name.
    Value(Option<u64>),
    /// Nothing: it may have worked at any time, or will.
    Unknown,
}

/// One operation with its times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// What was asked.
    pub action: Action,
    /// When.
    pub asked: u64,
    /// When it was answered; `u64::MAX` for never.
    pub answered: u64,
    /// The answer.
    pub answer: Answer,
}

/// A history of one name.
#[derive(Debug, Default)]
pub struct Names {
    histories: Vec<Vec<Event>>,
}

/// Configurations that a search may visit before it gives up without a verdict.
const MAX_VISITED: usize = 100_000;

/// Result of a search.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// There is an order.
    Linearizable,
    /// There is none.
    Broken,
    /// The search was too long.
    GaveUp,
}

impl Names {
    /// Adds an operation on a name.
    pub fn add(&mut self, name: u64, event: Event) {
        let name = name as usize;
        if self.histories.len() <= name {
            self.histories.resize(name + 1, Vec::new());
        }
        self.histories[name].push(event);
    }

    /// Checks every name. Gives the number of histories that were too long to decide.
    pub fn check(&self) -> Result<u64, String> {
        let mut gave_up = 0;
        for (name, history) in self.histories.iter().enumerate() {
            match check(history) {
                Verdict::Linearizable => {}
                Verdict::GaveUp => gave_up += 1,
                Verdict::Broken => {
                    return Err(format!("names: the history of contested-{name} is not linearizable: {history:?}"));
                }
            }
        }
        Ok(gave_up)
    }
}

/// The register of one name: what a step from `state` gives, if the answer allows the step.
fn step(state: Option<u64>, event: &Event) -> Option<Option<u64>> {
    let (works, after) = match event.action {
        Action::Create(vid) => (state.is_none(), state.or(Some(vid))),
        Action::Delete(vid) => (state == Some(vid), state.filter(|s| *s != vid)),
        Action::Read => (true, state),
    };
    let fits = match event.answer {
        Answer::Worked(told) => told == works,
        Answer::Value(told) => told == state,
        // One that does not work changes nothing: leaving it out is the same.
        Answer::Unknown => works,
    };
    fits.then_some(after)
}

/// Searches for an order.
pub fn check(history: &[Event]) -> Verdict {
    let mut events: Vec<Event> = history.to_vec();
    events.retain(|e| !(e.action == Action::Read && e.answer == Answer::Unknown));
    events.sort_by_key(|e| e.asked);
    let needed = events.iter().filter(|e| e.answer != Answer::Unknown).count();
    let mut visited: HashSet<(Vec<u64>, Option<u64>)> = HashSet::new();
    // Depth-first: (done set, state, answered ones done).
    let mut stack = vec![(vec![0u64; events.len().div_ceil(64)], None, 0)];
    while let Some((done, state, count)) = stack.pop() {
        if count == needed {
            return Verdict::Linearizable;
        }
        if visited.len() > MAX_VISITED {
            return Verdict::GaveUp;
        }
        let is_done = |i: usize| done[i / 64] >> (i % 64) & 1 == 1;
        // What was asked after something undone was answered must come after that.
        let open = events.iter().enumerate().filter(|(i, _)| !is_done(*i));
        let limit = open.map(|(_, e)| e.answered).min().unwrap_or(u64::MAX);
        for (i, event) in events.iter().enumerate() {
            if event.asked > limit {
                break;
            }
            if is_done(i) {
                continue;
            }
            let Some(after) = step(state, event) else { continue };
            let mut next = done.clone();
            next[i / 64] |= 1 << (i % 64);
            if visited.insert((next.clone(), after)) {
                stack.push((next, after, count + usize::from(event.answer != Answer::Unknown)));
            }
        }
    }
    Verdict::Broken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn e(action: Action, asked: u64, answered: u64, answer: Answer) -> Event {
        Event { action, asked, answered, answer }
    }

    #[test]
    fn sequential_and_concurrent_histories() {
        use Action::*;
        use Answer::*;
        let good = [
            e(Create(1), 0, 10, Worked(true)),
            // Concurrent: only one of them can have found the name free.
            e(Create(2), 5, 30, Worked(true)),
            e(Create(3), 5, 31, Worked(false)),
            e(Delete(1), 12, 20, Worked(true)),
            e(Read, 40, 50, Value(Some(2))),
        ];
        assert_eq!(check(&good), Verdict::Linearizable);
        let mut stale = good;
        stale[4].answer = Value(Some(1));
        assert_eq!(check(&stale), Verdict::Broken);
        let mut both = good;
        both[2].answer = Worked(true);
        assert_eq!(check(&both), Verdict::Broken);
    }

    #[test]
    fn unknown_outcomes_may_happen_late_or_never() {
        use Action::*;
        use Answer::*;
        let lost = e(Create(1), 0, u64::MAX, Unknown);
        let read = |asked, value| e(Read, asked, asked + 1, Value(value));
        assert_eq!(check(&[lost, read(5, None)]), Verdict::Linearizable);
        assert_eq!(check(&[lost, read(5, None), read(10, Some(1))]), Verdict::Linearizable);
        assert_eq!(check(&[lost, read(5, Some(1)), read(10, None)]), Verdict::Broken);
        assert_eq!(check(&[read(5, Some(1))]), Verdict::Broken);
    }
}
