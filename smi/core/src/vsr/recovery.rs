//! Voters without state: the start of a new cluster, and the recovery of one whose disk was lost or damaged.
//!
//! Genesis. A blank zone means a new cluster or a replaced disk. A blank voter formats its zone when all other voters are blank or
//! formatted too, and starts (view 0, empty log) when all have formatted, or when another has started, which proves the same. So a
//! cluster first starts with all its voters present, and a blank voter among started ones knows that it has lost its state.
//!
//! Recovery (section 4.3 of the paper). It asks all; with answers from so many normal voters that every quorum it may have been part of
//! is represented, the primary of their latest view among them, it takes over that primary's log. Until then it takes part in
//! nothing: whatever it acknowledged before, it cannot contradict.

use super::adopt::Adoption;
use super::disk::{Mode, Superblock};
use super::log::Log;
use super::message::{Message, Standing, Tail};
use super::replica::{Replica, Status};
use super::state::State;
use crate::plant::{Plant, planted};
use alloc::collections::BTreeMap;
use smi_cluster::NodeId;

/// Detection times after which a recovery that does not finish asks anew.
const MAX_PATIENCE: u64 = 10;

/// What a voter without state has been told.
#[derive(Default)]
pub(crate) struct Asking {
    next: u64,
    replies: BTreeMap<NodeId, Standing>,
}

impl Replica {
    pub(super) fn on_blank_zone(&mut self) {
        if planted(Plant::VoteFromAmnesia) {
            self.superblock = Superblock { sequence: self.superblock.sequence, ..Superblock::new(Mode::Running) };
            self.journal.format();
            self.write_superblock();
            self.status = Status::ViewChange;
            self.resume_view();
            return;
        }
        self.status = Status::Blank;
    }

    /// Forgets what is left and recovers. The superblock says so before anything else is written.
    pub(super) fn lose_state(&mut self, sequence: u64) {
        if planted(Plant::VoteFromAmnesia) {
            self.superblock.sequence = sequence;
            self.on_blank_zone();
            return;
        }
        self.status = Status::Recovering;
        self.asking = Asking::default();
        (self.view, self.log_view, self.commit_max) = (0, 0, 0);
        self.log = Log::new(0, 0);
        self.state = State::default();
        self.superblock = Superblock { sequence, ..Superblock::new(Mode::Recovering) };
        self.durable = self.superblock;
        self.write_superblock();
        self.journal.format();
    }

    /// Asks the other voters who they are, and decides.
    pub(super) fn ask(&mut self) {
        if let Some(adoption) = &self.adoption {
            if self.now < adoption.since() + MAX_PATIENCE * self.timing.detect_ns {
                return;
            }
            self.adoption = None;
            self.asking = Asking::default();
        }
        if self.status == Status::Recovering && self.durable.sequence < self.superblock.sequence {
            // Until the superblock says that the rest means nothing, nothing of the rest is touched.
            return;
        }
        if self.now >= self.asking.next {
            self.asking.next = self.now + self.timing.heartbeat_ns;
            self.broadcast(&Message::Hello { nonce: self.boot });
        }
        match self.status {
            Status::Blank => self.decide_blank(),
            Status::Formatted => self.decide_formatted(),
            Status::Recovering => self.decide_recovering(),
            _ => {}
        }
    }

    pub(super) fn on_hello(&mut self, from: NodeId, nonce: u64) {
        let formatted = self.durable.sequence > 0 && self.durable.mode != Mode::Recovering;
        let standing = match self.status {
            Status::Loading | Status::Learner => return,
            Status::Formatted if formatted => Standing::Formatted,
            Status::Blank | Status::Formatted => Standing::Blank,
            Status::Recovering => Standing::Lost,
            Status::ViewChange => Standing::Changing,
            Status::Normal => {
                let leads = self.is_primary() && !self.abdicating;
                Standing::Normal { view: self.view, tail: leads.then(|| self.tail()) }
            }
        };
        self.send(from, &Message::HelloReply { nonce, standing });
    }

    pub(super) fn on_hello_reply(&mut self, from: NodeId, nonce: u64, standing: Standing) {
        let asks = matches!(self.status, Status::Blank | Status::Formatted | Status::Recovering);
        if asks && nonce == self.boot {
            self.asking.replies.insert(from, standing);
        }
    }

    fn all_replied(&self) -> bool {
        self.asking.replies.len() + 1 == self.voters.len()
    }

    fn decide_blank(&mut self) {
        let fresh = |s: &Standing| matches!(s, Standing::Blank | Standing::Formatted);
        if !self.asking.replies.values().all(fresh) {
            self.lose_state(0);
        } else if self.all_replied() {
            self.status = Status::Formatted;
            self.asking = Asking::default();
            self.superblock = Superblock::new(Mode::Formatted);
            self.journal.format();
            self.write_superblock();
        }
    }

    fn decide_formatted(&mut self) {
        if self.durable.mode == Mode::Running {
            self.start_cluster();
            return;
        }
        let mut standings = self.asking.replies.values();
        let started = standings.any(|s| matches!(s, Standing::Changing | Standing::Normal { .. }));
        let complete = self.all_replied() && !self.asking.replies.values().any(|s| *s == Standing::Blank);
        let formatted = self.durable.sequence > 0;
        if formatted && self.superblock.mode == Mode::Formatted && (started || complete) {
            self.superblock.mode = Mode::Running;
            self.write_superblock();
        }
    }

    /// View 0 begins, with an empty log. Its primary has never been one before, so it may lead at once.
    fn start_cluster(&mut self) {
        self.begin_follow();
        if self.primary_of(0) == self.id {
            self.begin_lead();
        }
    }

    fn decide_recovering(&mut self) {
        let normal = |s: &Standing| match s {
            Standing::Normal { view, .. } => Some(*view),
            _ => None,
        };
        let views = self.asking.replies.values().filter_map(normal);
        let needed = self.voters.len() - self.quorum + 1;
        if self.asking.replies.values().filter_map(normal).count() < needed {
            return;
        }
        let Some(view) = views.max() else { return };
        let primary = self.primary_of(view);
        if let Some(Standing::Normal { view: v, tail: Some(tail) }) = self.asking.replies.get(&primary)
            && *v == view
        {
            let tail: Tail = tail.clone();
            self.adoption = Some(Adoption::new(view, primary, tail, self.now));
        }
    }
}
