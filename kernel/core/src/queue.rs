//! Queues of waiting threads on endpoints and notifications: by priority, FIFO among equals.
//!
//! Insertion walks over the waiters of lower priority only, from the end. It is bounded by the number of waiters, which
//! user land bounds by the threads it makes.

use crate::mem::Ptr;
use crate::tcb::Tcb;

/// First and last waiting thread. A value: the object that owns it stores it back.
#[derive(Clone, Copy, Debug)]
pub struct Queue {
    /// Highest priority, longest waiting.
    pub head: Option<Ptr<Tcb>>,
    /// Last.
    pub tail: Option<Ptr<Tcb>>,
}

impl Queue {
    /// Inserts behind all of the same or higher priority.
    pub(crate) fn insert(&mut self, tcb: Ptr<Tcb>) {
        let mut before = self.tail;
        let mut after = None;
        while let Some(t) = before.filter(|t| t.priority() < tcb.priority()) {
            after = before;
            before = t.wait_prev.get();
        }
        tcb.wait_prev.set(before);
        tcb.wait_next.set(after);
        match before {
            Some(t) => t.wait_next.set(Some(tcb)),
            None => self.head = Some(tcb),
        }
        match after {
            Some(t) => t.wait_prev.set(Some(tcb)),
            None => self.tail = Some(tcb),
        }
    }

    /// Takes a thread out.
    pub(crate) fn remove(&mut self, tcb: Ptr<Tcb>) {
        let (prev, next) = (tcb.wait_prev.take(), tcb.wait_next.take());
        match prev {
            Some(t) => t.wait_next.set(next),
            None => self.head = next,
        }
        match next {
            Some(t) => t.wait_prev.set(prev),
            None => self.tail = prev,
        }
    }

    /// The threads, first to last.
    pub fn iter(self) -> impl Iterator<Item = Ptr<Tcb>> {
        core::iter::successors(self.head, |t| t.wait_next.get())
    }
}
