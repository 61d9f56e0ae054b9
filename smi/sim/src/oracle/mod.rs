//! What must hold in every run, one property per file. An oracle is told what happens and answers with what is wrong.

pub mod acknowledged;
pub mod agreement;
pub mod bounds;
pub mod liveness;
pub mod names;
pub mod primaries;

use crate::directory::{Directory, Observation};
use crate::engine::{Watcher, World};
use crate::workload::{CONTESTED, contested};
use acknowledged::Acknowledged;
use agreement::Agreement;
use names::{Action, Answer, Event, Names};
use primaries::Primaries;
use smi_cluster::{NodeId, PortId, Vid};
use smi_core::table::{Op, OpError, ProposeError, Proposed};
use std::collections::BTreeMap;

/// A client's question.
struct Asked {
    node: NodeId,
    at: u64,
    op: Op,
}

/// All oracles that watch a run.
#[derive(Default)]
pub struct Oracles {
    /// Equal logs and states.
    pub agreement: Agreement,
    /// Answers agree with the log.
    pub acknowledged: Acknowledged,
    /// Answers make sense by themselves.
    pub names: Names,
    primaries: Primaries,
    asked: BTreeMap<u64, Asked>,
    /// Which contested name a VID was to get.
    contestants: BTreeMap<Vid, u64>,
    trace: bool,
    /// Nodes that have entered a view since this was last looked at.
    pub view_changes: Vec<NodeId>,
    views: BTreeMap<NodeId, u64>,
}

impl Oracles {
    /// Oracles that have seen nothing; `trace` makes them print what they see.
    pub fn new(trace: bool) -> Oracles {
        Oracles { trace, ..Oracles::default() }
    }

    /// Prints a line if asked to.
    pub fn say(&self, now: u64, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>12.6} {}", now as f64 / 1e9, what());
        }
    }

    /// A client asks a node.
    pub fn asked(&mut self, now: u64, node: NodeId, token: u64, op: &Op) {
        self.say(now, || format!("client asks node {node} [{token}]: {op:?}"));
        self.acknowledged.proposed(token, op);
        if let Op::Create { vid, name: Some(name), .. } = op
            && let Some(i) = (0..CONTESTED).find(|i| contested(*i) == *name)
        {
            self.contestants.insert(*vid, i);
        }
        self.asked.insert(token, Asked { node, at: now, op: op.clone() });
    }

    /// A node has lost its power, and the clients there their answers.
    pub fn stopped(&mut self, node: NodeId) {
        self.agreement.restarted(node);
        self.primaries.stopped(node);
        let tokens: Vec<u64> = self.asked.iter().filter(|(_, a)| a.node == node).map(|(t, _)| *t).collect();
        for token in tokens {
            if let Some(asked) = self.asked.remove(&token) {
                self.note_name(&asked, u64::MAX, Err(ProposeError::NoQuorum), &[]);
            }
            self.acknowledged.abandoned(token);
        }
    }

    fn answered(&mut self, now: u64, token: u64, result: Proposed, probed: &[(u64, bool)]) -> Result<(), String> {
        if let Some(asked) = self.asked.remove(&token) {
            self.note_name(&asked, now, result, probed);
        }
        self.acknowledged.answered(token, result)
    }

    /// Adds an operation to the histories of the contested names.
    fn note_name(&mut self, asked: &Asked, now: u64, result: Proposed, probed: &[(u64, bool)]) {
        let (answer, answered) = match result {
            Ok(_) => (Answer::Worked(true), now),
            Err(ProposeError::Refused(OpError::NotFound | OpError::Exists)) => (Answer::Worked(false), now),
            Err(ProposeError::NoQuorum) => (Answer::Unknown, u64::MAX),
            // Refused for reasons that have nothing to do with the name.
            Err(ProposeError::Refused(_) | ProposeError::Busy) => return,
        };
        let event = |action, answer| Event { action, asked: asked.at, answered, answer };
        match &asked.op {
            Op::Noop if result.is_ok() => {
                for (i, (vid, there)) in probed.iter().enumerate() {
                    self.names.add(i as u64, event(Action::Read, Answer::Value(there.then_some(*vid))));
                }
            }
            // "Not found" speaks of the group.
            Op::Create { vid, .. } if result != Err(ProposeError::Refused(OpError::NotFound)) => {
                if let Some(i) = self.contestants.get(vid) {
                    self.names.add(*i, event(Action::Create(vid.0 as u64), answer));
                }
            }
            Op::Delete { vid } => {
                if let Some(i) = self.contestants.get(vid) {
                    self.names.add(*i, event(Action::Delete(vid.0 as u64), answer));
                }
            }
            _ => {}
        }
    }
}

impl Watcher<Observation> for Oracles {
    fn observe(&mut self, world: &World<Observation>, node: NodeId, what: Observation) -> Result<(), String> {
        self.say(world.now(), || format!("node {node}: {what:?}"));
        match what {
            Observation::Applied { op_number, op, result, state } => {
                if self.agreement.applied(node, op_number, (op.clone(), result), state)? {
                    self.acknowledged.applied(op_number, &op, result)?;
                }
                Ok(())
            }
            Observation::Installed { op_number, state } => self.agreement.installed(node, op_number, state),
            Observation::Proposed { token, result, names } => self.answered(world.now(), token, result, &names),
            Observation::Fenced(_) => Ok(()),
        }
    }

    fn stepped(&mut self, world: &World<Observation>, node: NodeId, port: PortId) -> Result<(), String> {
        let Some(directory) = world.actor::<Directory>(node, port) else { return Ok(()) };
        bounds::check(directory, node)?;
        let view = directory.node.view();
        if self.views.insert(node, view).is_some_and(|before| before < view) {
            self.view_changes.push(node);
        }
        self.primaries.stepped(world, node)
    }
}
