//! One member of the cluster: replication, failure detection, leases and proposals behind one `step`.
//!
//! The primary sends every node a heartbeat; each node answers with a beat. The pair carries the commit number, proves contact in
//! both directions (leases), and tells the primary who is there: it commits [`Op::NodeUp`] for a node that has caught up, and
//! [`Op::NodeDown`] for one that has been silent too long.

use crate::config::{Config, ConfigError};
use crate::detector::Detector;
use crate::io::{Action, Event};
use crate::lease::Lease;
use crate::proposals::{Due, Proposals};
use crate::table::{NodeState, Op, Table};
use crate::vsr::message::{Beat, Message};
use crate::vsr::replica::Replica;
use crate::vsr::{Stats, Status};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::fmt;
use smi_cluster::{MAX_NODES, NodeId};

/// A node joins when it is at most so many operations behind the primary.
const JOIN_LAG: u64 = 16;

/// What the last beat of a node said.
struct Peer {
    beat: Beat,
    /// When it came.
    at: u64,
}

/// See the module's description.
pub struct Node {
    config: Config,
    now: u64,
    started: bool,
    replica: Replica,
    detector: Detector,
    lease: Lease,
    proposals: Proposals,
    /// Who leads the latest view that was heard of, and when that was heard.
    leader: Option<(u64, NodeId, u64)>,
    peers: BTreeMap<NodeId, Peer>,
    next_heartbeat: u64,
    next_beat: u64,
    refused: u64,
    told_fenced: bool,
    told_primary: Option<NodeId>,
    out: Vec<Action>,
}

impl Node {
    /// A node that has not started: the first [`Node::step`] starts it.
    pub fn new(config: Config) -> Result<Node, ConfigError> {
        config.check()?;
        Ok(Node {
            now: 0,
            started: false,
            replica: Replica::new(&config),
            detector: Detector::new(config.timing),
            lease: Lease::default(),
            proposals: Proposals::new(config.node, config.timing),
            leader: None,
            peers: BTreeMap::new(),
            next_heartbeat: 0,
            next_beat: 0,
            refused: 0,
            told_fenced: true,
            told_primary: None,
            out: Vec::new(),
            config,
        })
    }

    /// Takes one input at time `now` (ns of a clock that never goes back) and gives what is to be done, in order.
    pub fn step(&mut self, now: u64, event: Event<'_>) -> Vec<Action> {
        self.now = self.now.max(now);
        self.replica.tick(self.now);
        if !self.started {
            self.started = true;
            self.replica.start(self.now);
        }
        self.take(event);
        self.replica.progress();
        self.out.extend(self.replica.take_out());
        self.manage();
        self.replica.progress();
        self.out.extend(self.replica.take_out());
        self.answer();
        self.tell();
        let mut out = core::mem::take(&mut self.out);
        order_installed(&mut out);
        out
    }

    // ---- what users may know ----

    /// This node's copy of the table: some prefix of what is committed.
    pub fn table(&self) -> &Table {
        &self.replica.state().table
    }

    /// Whether this node must not speak for any group: it is not a member, or it has not been in touch with a quorum within the lease.
    pub fn is_fenced(&self, now: u64) -> bool {
        !self.has_joined() || now >= self.lease_until()
    }

    /// When this node becomes fenced unless it hears from a quorum before, ns.
    pub fn lease_until(&self) -> u64 {
        self.lease.until(self.quorum_contact(), &self.config.timing)
    }

    /// When `step` is due next, with [`Event::Tick`] if nothing else happens before.
    pub fn next_deadline(&self) -> u64 {
        let tick = self.now + self.config.timing.heartbeat_ns / 4;
        let lease = Some(self.lease_until()).filter(|until| *until > self.now).unwrap_or(u64::MAX);
        tick.min(lease).min(self.proposals.next_deadline()).max(self.now)
    }

    /// The directory's primary, as far as this node knows.
    pub fn primary(&self) -> Option<NodeId> {
        if self.replica.is_primary() {
            return Some(self.config.node);
        }
        let (_, node, heard) = self.leader?;
        (node != self.config.node && self.now < heard + self.config.timing.detect_ns).then_some(node)
    }

    /// Whether this node is the directory's primary and no other can be: it reads its table as if it read the cluster's.
    pub fn leads(&self, now: u64) -> bool {
        let until = self.quorum_contact().map_or(0, |stamp| stamp + self.config.timing.lease_ns);
        self.replica.is_primary() && now < until
    }

    /// What the replica is doing.
    pub fn status(&self) -> Status {
        self.replica.status()
    }

    /// The replica's view.
    pub fn view(&self) -> u64 {
        self.replica.view()
    }

    /// Hash of the whole replicated state, clients included: equal on all nodes at equal op number.
    pub fn state_hash(&self) -> u64 {
        crate::hash::checksum(&self.replica.state().encode())
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        let stats = self.replica.stats();
        Stats { refused: stats.refused + self.refused, ..stats }
    }

    /// Operations that wait for their place in the log (a primary's queue; bounded by [`crate::vsr::MAX_QUEUE`]).
    pub fn queued(&self) -> usize {
        self.replica.queued()
    }

    /// Whether the cluster counts this boot of this node as a member.
    pub fn has_joined(&self) -> bool {
        let record = self.table().node(self.config.node);
        record.is_some_and(|r| r.state == NodeState::Up && r.boot == self.config.boot)
    }

    /// As a primary that holds a lease or may hold one: when it begins.
    fn quorum_contact(&self) -> Option<u64> {
        let leads = self.replica.is_primary() && self.replica.is_settled() && !self.replica.is_abdicating();
        if leads { self.contact() } else { None }
    }

    /// When a quorum of the view that this node leads was last proved to be in touch.
    fn contact(&self) -> Option<u64> {
        self.lease.quorum_contact(self.replica.view(), self.now, self.replica.quorum())
    }

    // ---- inputs ----

    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Tick => {}
            Event::Message { from, bytes } => self.message(from, bytes),
            Event::Propose { token, op, deadline } => self.proposals.add(token, op.clone(), deadline, &mut self.out),
            Event::ReadBack { token, data } => self.replica.read_back(token, data),
            Event::Written { token } => self.replica.written(token),
            Event::Flushed { token } => self.replica.flushed(token),
            Event::IoFailed { token } => self.replica.io_failed(token),
        }
    }

    fn message(&mut self, from: NodeId, bytes: &[u8]) {
        let possible = (1..=MAX_NODES).contains(&usize::from(from.0)) && from != self.config.node;
        let Some(message) = possible.then(|| Message::decode(bytes).ok()).flatten() else {
            self.refused += 1;
            return;
        };
        self.detector.heard(from, self.now);
        match message {
            Message::Request { request, body } => self.on_request(from, request, body),
            Message::Heartbeat { view, commit, sent, echo, incarnation } => {
                if !self.replica.is_voter(from) || self.replica.primary_of(view) != from {
                    self.refused += 1;
                    return;
                }
                // A lease for another life of this node, or for one that its table does not know yet, is none.
                let current = self.table().node(self.config.node).is_some_and(|r| r.incarnation == incarnation);
                if echo != 0 && current && self.has_joined() {
                    self.lease.returned(echo, self.now);
                }
                self.replica.on_commit(from, view, commit);
                if self.leader.is_none_or(|(v, _, _)| view >= v) {
                    self.leader = Some((view, from, self.now));
                    self.beat(from, view, sent);
                }
            }
            Message::Beat(beat) => self.on_beat(from, beat),
            other => self.replica.message(from, other),
        }
    }

    fn on_request(&mut self, from: NodeId, request: crate::vsr::entry::RequestId, body: Op) {
        let membership = matches!(body, Op::NodeUp { .. } | Op::NodeDown { .. });
        if request.node != from || membership {
            self.refused += 1;
        } else {
            self.replica.propose(Some(request), body);
        }
    }

    /// Answers a heartbeat. The time stamp of a primary goes back only from within its view.
    fn beat(&mut self, to: NodeId, view: u64, stamp: u64) {
        let in_view = self.replica.status() == Status::Normal && self.replica.view() == view;
        let votes = self.replica.is_voter(self.config.node);
        let beat = Beat {
            view,
            durable: in_view.then(|| self.replica.durable_op()),
            commit: self.replica.commit(),
            sent: self.now.max(1),
            echo: if in_view || !votes { stamp } else { 0 },
            boot: self.config.boot,
            store: self.config.store,
            external: self.config.external,
        };
        self.next_beat = self.now + 2 * self.config.timing.heartbeat_ns;
        self.out.push(Action::Send { to, bytes: Message::Beat(beat).encode() });
    }

    fn on_beat(&mut self, from: NodeId, beat: Beat) {
        if !self.replica.is_primary() {
            return;
        }
        let view = self.replica.view();
        if self.replica.is_voter(from) {
            if beat.view == view
                && let Some(op) = beat.durable
            {
                self.replica.note_durable(from, view, op);
                self.lease.echoed(from, view, beat.echo, self.now);
            }
        } else {
            self.replica.note_learner(from);
        }
        self.peers.insert(from, Peer { beat, at: self.now });
    }

    // ---- what follows ----

    fn manage(&mut self) {
        if self.replica.is_primary() {
            self.lead();
        } else {
            self.peers.clear();
            self.follow();
        }
        self.propose();
    }

    /// A node that hears from no primary says to all voters that it is there.
    fn follow(&mut self) {
        if self.now < self.next_beat {
            return;
        }
        for to in self.replica.voters().to_vec() {
            if to != self.config.node {
                self.beat(to, self.replica.view(), 0);
            }
        }
        self.next_beat = self.now + 2 * self.config.timing.heartbeat_ns;
    }

    fn lead(&mut self) {
        let (since, _) = self.replica.lead_since();
        let contact = self.contact();
        if self.now >= contact.unwrap_or(0).max(since) + self.config.timing.detect_ns {
            // Heard by all and hearing nobody would be worst: then nobody else would lead.
            self.replica.abdicate();
        }
        if self.replica.is_abdicating() {
            return;
        }
        let leased = self.quorum_contact().is_some_and(|stamp| self.now < stamp + self.config.timing.lease_ns);
        if self.now >= self.next_heartbeat {
            self.next_heartbeat = self.now + self.config.timing.heartbeat_ns;
            self.heartbeat(leased);
        }
        if leased {
            self.admit();
            self.declare_dead();
        }
    }

    fn heartbeat(&mut self, leased: bool) {
        let horizon = self.now.saturating_sub(2 * self.config.timing.detect_ns);
        self.peers.retain(|_, p| p.at >= horizon);
        let everybody: BTreeSet<NodeId> =
            self.replica.voters().iter().chain(self.peers.keys()).copied().chain(self.table().up_nodes()).collect();
        for to in everybody {
            if to == self.config.node {
                continue;
            }
            let (echo, incarnation) = self.renewal(to).filter(|_| leased).unwrap_or((0, 0));
            let (view, commit) = (self.replica.view(), self.replica.commit());
            let heartbeat = Message::Heartbeat { view, commit, sent: self.now.max(1), echo, incarnation };
            self.out.push(Action::Send { to, bytes: heartbeat.encode() });
        }
    }

    /// What renews a member's lease: its last time stamp, and its incarnation. Nothing for who is not a member or about to be none.
    fn renewal(&self, node: NodeId) -> Option<(u64, u64)> {
        let beat = &self.peers.get(&node)?.beat;
        let record = self.table().node(node)?;
        let member = record.state == NodeState::Up && record.boot == beat.boot && !self.is_changing(node);
        member.then_some((beat.sent, record.incarnation))
    }

    /// Whether a membership operation about this node is under way.
    fn is_changing(&self, node: NodeId) -> bool {
        let about = |op: &Op| matches!(op, Op::NodeUp { node: n, .. } | Op::NodeDown { node: n, .. } if *n == node);
        self.replica.unapplied().any(about)
    }

    /// Proposes to take in whoever is there, has caught up, and is not a member in this life.
    fn admit(&mut self) {
        let me = self.config.node;
        let mut candidates = Vec::new();
        if !self.has_joined() {
            candidates.push((me, self.config.boot, self.config.store, self.config.external));
        }
        for (node, Peer { beat, .. }) in &self.peers {
            let known = self.table().node(*node);
            let joined = known.is_some_and(|r| r.state == NodeState::Up && r.boot == beat.boot);
            // Only an answer to a recent heartbeat of ours shows that this boot is the one that runs now.
            let fresh = beat.echo != 0 && self.now < beat.echo.saturating_add(self.config.timing.detect_ns);
            if !joined && fresh && beat.commit + JOIN_LAG >= self.replica.commit() {
                candidates.push((*node, beat.boot, beat.store, beat.external));
            }
        }
        for (node, boot, store, external) in candidates {
            let incarnation = self.table().node(node).map_or(0, |r| r.incarnation) + 1;
            self.propose_about(node, Op::NodeUp { node, incarnation, boot, store, external });
        }
    }

    /// Proposes to give up whoever has been silent too long, counted from the start of the view (but for the last primary:
    /// its silence is why there is a new view).
    fn declare_dead(&mut self) {
        let (since, previous) = self.replica.lead_since();
        let silent = |node: NodeId| {
            let heard = self.detector.last(node);
            let from = if previous == Some(node) { heard } else { heard.max(since) };
            self.now >= from + self.detector.limit(node)
        };
        let up = self.table().nodes().filter(|(n, r)| r.state == NodeState::Up && *n != self.config.node);
        let dead: Vec<(NodeId, u64)> = up.filter(|(n, _)| silent(*n)).map(|(n, r)| (n, r.incarnation)).collect();
        for (node, incarnation) in dead {
            self.propose_about(node, Op::NodeDown { node, incarnation });
        }
    }

    /// Proposes a membership operation unless one about the same node is under way.
    fn propose_about(&mut self, node: NodeId, op: Op) {
        if !self.is_changing(node) {
            self.replica.propose(None, op);
        }
    }

    /// Answers proposals that are decided.
    fn answer(&mut self) {
        let state = self.replica.state();
        // The session is ours only if it is of this boot.
        let record = state.table.node(self.config.node).filter(|r| r.boot == self.config.boot);
        let session = record.and_then(|_| state.clients.session(self.config.node));
        self.proposals.resolve(self.now, session, &state.clients, &mut self.out);
    }

    /// Passes on the proposals that are due.
    fn propose(&mut self) {
        self.answer();
        for Due { request, op, to_all } in self.proposals.due(self.now) {
            if self.replica.is_primary() {
                self.replica.propose(Some(request), op);
                continue;
            }
            let bytes = Message::Request { request, body: op }.encode();
            let primary = self.primary().filter(|_| !to_all);
            let voters = self.replica.voters().iter().copied();
            for to in voters.filter(|v| *v != self.config.node && primary.is_none_or(|p| p == *v)) {
                self.out.push(Action::Send { to, bytes: bytes.clone() });
            }
        }
    }

    /// Tells the users what has changed.
    fn tell(&mut self) {
        let fenced = self.is_fenced(self.now);
        if fenced != self.told_fenced {
            self.told_fenced = fenced;
            self.out.push(Action::Fenced(fenced));
        }
        let primary = self.primary();
        if primary != self.told_primary {
            self.told_primary = primary;
            self.out.push(Action::Primary(primary));
        }
    }
}

/// Puts [`Action::Installed`] behind what was applied in the same step, for the table that users then copy has it all.
fn order_installed(out: &mut Vec<Action>) {
    if !out.contains(&Action::Installed) {
        return;
    }
    out.retain(|a| *a != Action::Installed);
    let place = out.iter().rposition(|a| matches!(a, Action::Applied { .. })).map_or(0, |i| i + 1);
    out.insert(place, Action::Installed);
}

/// One line for logs and traces.
impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fenced = if self.is_fenced(self.now) { " fenced" } else { "" };
        write!(f, "{:?}{fenced}, primary {:?}", self.replica, self.primary().map(|n| n.0))
    }
}
