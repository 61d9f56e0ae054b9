//! The directory's core as an actor: the very code that runs on a node, plus what a file manager would do about joining replicas.

use crate::engine::{Actor, Effect, Input, MS};
use smi_cluster::{Epoch, GroupId, NodeId};
use smi_core::table::{Op, OpError, Outcome, Proposed, Table};
use smi_core::{Action, Config, Event, Node};
use std::any::Any;
use std::collections::BTreeMap;

/// How long copying a group to a joining node takes.
const COPY_TIME: u64 = 200 * MS;
/// How long a follower waits for the answer to its own proposals.
const PATIENCE: u64 = 2_000 * MS;
/// Hashing the whole state costs more than all else: it is done at every so many operations.
const HASH_EVERY: u64 = 8;
/// Tokens of the actor's own proposals start here.
const OWN_TOKENS: u64 = 1 << 40;

/// A proposal for the directory, as [`Input::Local`].
pub struct Propose {
    /// Comes back in [`Observation::Proposed`].
    pub token: u64,
    /// The operation.
    pub op: Op,
    /// How long to wait, ns.
    pub patience: u64,
}

/// What oracles see of the directory.
#[derive(Debug)]
pub enum Observation {
    /// A node has applied an operation.
    Applied {
        /// Its number.
        op_number: u64,
        /// The operation.
        op: Op,
        /// Its result.
        result: Result<Outcome, OpError>,
        /// Hash of the state after it, at some operations.
        state: Option<u64>,
    },
    /// A node has taken over a whole state.
    Installed {
        /// Its op number.
        op_number: u64,
        /// Its hash; `None` if the node applied more in the same step.
        state: Option<u64>,
    },
    /// A client's proposal is answered. Followers' own are not shown.
    Proposed {
        /// Its token.
        token: u64,
        /// The answer.
        result: Proposed,
        /// What the contested names stood for then (see [`crate::workload::probe_names`]).
        names: Vec<(u64, bool)>,
    },
    /// A node's fence went up or down.
    Fenced(bool),
}

/// The actor.
pub struct Directory {
    /// The core.
    pub node: Node,
    me: NodeId,
    /// Groups of which this node is the primary and some node is joining: when its copy will be complete.
    copies: BTreeMap<(GroupId, Epoch), u64>,
    own: BTreeMap<u64, (GroupId, Epoch)>,
    next_own: u64,
    /// Table changes since `copies` was made.
    dirty: bool,
    /// Largest number of actions in one step.
    pub most_actions: usize,
}

impl Directory {
    /// The actor of a node with this (valid) configuration.
    pub fn new(config: Config) -> Directory {
        let me = config.node;
        let node = Node::new(config).expect("the simulator's configurations are valid");
        let (copies, own) = (BTreeMap::new(), BTreeMap::new());
        Directory { node, me, copies, own, next_own: OWN_TOKENS, dirty: true, most_actions: 0 }
    }

    /// The node's copy of the table.
    pub fn table(&self) -> &Table {
        self.node.table()
    }

    fn step(&mut self, now: u64, event: Event<'_>, effects: &mut Vec<Effect<Observation>>) {
        let actions = self.node.step(now, event);
        self.most_actions = self.most_actions.max(actions.len());
        let last = self.node.table().op_number();
        let state = std::cell::OnceCell::new();
        let hash = || *state.get_or_init(|| self.node.state_hash());
        if actions.contains(&Action::Installed) {
            self.dirty = true;
            let applied = actions.iter().find_map(|a| match a {
                Action::Applied { op_number, .. } => Some(op_number - 1),
                _ => None,
            });
            let (op_number, state) = applied.map_or_else(|| (last, Some(hash())), |op| (op, None));
            effects.push(Effect::Observe(Observation::Installed { op_number, state }));
        }
        for action in actions {
            match action {
                Action::Send { to, bytes } => effects.push(Effect::Send { to, bytes }),
                Action::Read { token, block, count } => effects.push(Effect::Read { token, block, count }),
                Action::Write { token, block, bytes } => effects.push(Effect::Write { token, block, bytes }),
                Action::Flush { token } => effects.push(Effect::Flush { token }),
                Action::Applied { op_number, op, result } => {
                    self.dirty = true;
                    let state = (op_number == last && op_number % HASH_EVERY == 0).then(&hash);
                    effects.push(Effect::Observe(Observation::Applied { op_number, op, result, state }));
                }
                Action::Proposed { token, result } if token >= OWN_TOKENS => {
                    if let Some(copy) = self.own.remove(&token)
                        && result.is_err()
                    {
                        self.copies.remove(&copy);
                        self.dirty = true;
                    }
                }
                Action::Proposed { token, result } => {
                    let names = crate::workload::probe_names(self.node.table());
                    let answered = Observation::Proposed { token, result, names };
                    effects.push(Effect::Observe(answered));
                }
                Action::Fenced(fenced) => effects.push(Effect::Observe(Observation::Fenced(fenced))),
                Action::Primary(_) | Action::Installed => {}
            }
        }
    }

    /// Notes which groups this node must copy to a joining node.
    fn note_copies(&mut self, now: u64) {
        if !core::mem::take(&mut self.dirty) {
            return;
        }
        let table = self.node.table();
        let mine = table.groups().filter(|(_, g)| g.primary() == Some(self.me) && g.joining.is_some());
        let keys: Vec<(GroupId, Epoch)> = mine.map(|(id, g)| (id, g.epoch)).collect();
        self.copies.retain(|key, _| keys.contains(key));
        for key in keys {
            self.copies.entry(key).or_insert(now + COPY_TIME);
        }
    }

    /// Says that a copy is complete.
    fn finish_copies(&mut self, now: u64, effects: &mut Vec<Effect<Observation>>) {
        let due: Vec<(GroupId, Epoch)> =
            self.copies.iter().filter(|(_, at)| **at <= now).map(|(key, _)| *key).collect();
        for (group, epoch) in due {
            self.copies.insert((group, epoch), u64::MAX);
            let Some(node) = self.node.table().group(group).and_then(|g| g.joining) else { continue };
            self.next_own += 1;
            let token = self.next_own;
            self.own.insert(token, (group, epoch));
            let op = Op::Synced { group, epoch, node };
            self.step(now, Event::Propose { token, op: &op, deadline: now + PATIENCE }, effects);
        }
    }
}

impl Actor<Observation> for Directory {
    fn handle(&mut self, now: u64, input: Input<'_>, effects: &mut Vec<Effect<Observation>>) {
        match input {
            Input::Start | Input::Wake => self.step(now, Event::Tick, effects),
            Input::Message { from, bytes } => self.step(now, Event::Message { from, bytes }, effects),
            Input::Read { token, data } => self.step(now, Event::ReadBack { token, data }, effects),
            Input::Written { token } => self.step(now, Event::Written { token }, effects),
            Input::Flushed { token } => self.step(now, Event::Flushed { token }, effects),
            Input::Failed { token } => self.step(now, Event::IoFailed { token }, effects),
            Input::Local(what) => {
                if let Some(Propose { token, op, patience }) = what.downcast_ref() {
                    self.step(now, Event::Propose { token: *token, op, deadline: now + patience }, effects);
                }
            }
        }
        self.note_copies(now);
        self.finish_copies(now, effects);
        effects.push(Effect::Wake(self.node.next_deadline()));
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
