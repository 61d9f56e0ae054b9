//! Names that local servers want in the directory, and how far each has come.
//!
//! A wanted name is pursued until its server goes: proposed when nobody has it, waited for while another server has it
//! (the server that asked by a call is told so and forgotten; one whose name stands in the manifest keeps waiting, and takes over when the other
//! goes), proposed again when the node had to leave and rejoin.

use crate::ports::PortIndex;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use smi_cluster::{NodeId, Vid};
use smi_core::table::{Kind, Name, Op, Table};

/// Most exports of a node.
pub const MAX_EXPORTS: usize = 64;

/// A name that a server wants.
struct Wanted {
    port: PortIndex,
    vid: Vid,
    /// Whether the name is kept in view when another server has it.
    patient: bool,
    /// A proposal is under way.
    proposed: bool,
    /// After a failed proposal: no other before this.
    not_before_ns: u64,
    /// Whether it is this node's now.
    held: bool,
    /// Calls that wait for the outcome.
    waiting: Vec<u64>,
}

/// Something to be done about an export.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Propose this operation for this name.
    Propose(Name, Op),
    /// The name has just become this node's.
    Won(Name),
    /// The name is this node's: answer these calls with the VID.
    Held(Vid, Vec<u64>),
    /// Another server has the name: tell these calls.
    Taken(Vec<u64>),
}

/// As many names as this node may export are wanted already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// All wanted names of a node.
pub struct Exports {
    node: NodeId,
    boot: u64,
    counter: u64,
    wanted: BTreeMap<Name, Wanted>,
}

impl Exports {
    /// None yet. `boot` makes VIDs of different boots differ.
    pub fn new(node: NodeId, boot: u64) -> Exports {
        Exports { node, boot, counter: 0, wanted: BTreeMap::new() }
    }

    fn fresh_vid(&mut self) -> Vid {
        self.counter += 1;
        Vid::new(self.node, self.boot as u32, self.counter)
    }

    /// The server behind `port` wants `name`; `call` waits for the outcome. See [`Exports::pursue`].
    pub fn want(&mut self, name: &Name, port: PortIndex, patient: bool, call: Option<u64>) -> Result<(), Full> {
        let vid = self.fresh_vid();
        if self.wanted.len() >= MAX_EXPORTS && !self.wanted.contains_key(name) {
            return Err(Full);
        }
        let new = || Wanted { port, vid, patient, proposed: false, not_before_ns: 0, held: false, waiting: Vec::new() };
        let wanted = self.wanted.entry(name.clone()).or_insert_with(new);
        wanted.port = port;
        wanted.patient |= patient;
        wanted.waiting.extend(call);
        Ok(())
    }

    /// The server does not want the name any more. Gives the VID that was made for it.
    pub fn drop_name(&mut self, name: &Name) -> Option<Vid> {
        self.wanted.remove(name).map(|w| w.vid)
    }

    /// The port that wants this name.
    pub fn port_of_name(&self, name: &Name) -> Option<PortIndex> {
        self.wanted.get(name).map(|w| w.port)
    }

    /// The port of a resource that this node serves.
    pub fn port_of(&self, vid: Vid) -> Option<PortIndex> {
        self.wanted.values().find(|w| w.vid == vid).map(|w| w.port)
    }

    /// A proposal for `name` has an outcome; [`Exports::pursue`] looks at the table to see which. Another one is made at
    /// `again_ns` at the earliest.
    pub fn settled(&mut self, name: &Name, again_ns: u64) {
        if let Some(wanted) = self.wanted.get_mut(name) {
            wanted.proposed = false;
            wanted.not_before_ns = again_ns;
        }
    }

    /// When a proposal that failed may be made again.
    pub fn deadline_ns(&self) -> Option<u64> {
        let open = self.wanted.values().filter(|w| !w.held && !w.proposed && w.not_before_ns > 0);
        open.map(|w| w.not_before_ns).min()
    }

    /// Calls that wait for a name that cannot be had now, for want of a quorum.
    pub fn give_up(&mut self, name: &Name) -> Vec<u64> {
        self.wanted.get_mut(name).map(|w| core::mem::take(&mut w.waiting)).unwrap_or_default()
    }

    /// What has to be done, as the table is now. `may_propose`: this node is a member and not fenced.
    pub fn pursue(&mut self, now_ns: u64, table: &Table, may_propose: bool) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut forget = Vec::new();
        for (name, wanted) in &mut self.wanted {
            let due = wanted.not_before_ns <= now_ns;
            if due {
                wanted.not_before_ns = 0;
            }
            match table.lookup(name.as_str()) {
                Some(vid) if vid == wanted.vid || is_ours(table, vid, self.node) => {
                    wanted.vid = vid;
                    if !core::mem::replace(&mut wanted.held, true) {
                        steps.push(Step::Won(name.clone()));
                    }
                    if !wanted.waiting.is_empty() {
                        steps.push(Step::Held(vid, core::mem::take(&mut wanted.waiting)));
                    }
                }
                Some(_) => {
                    wanted.held = false;
                    if !wanted.waiting.is_empty() {
                        steps.push(Step::Taken(core::mem::take(&mut wanted.waiting)));
                    }
                    if !wanted.patient && !wanted.proposed {
                        forget.push(name.clone());
                    }
                }
                None => {
                    wanted.held = false;
                    if may_propose && due && !wanted.proposed {
                        wanted.proposed = true;
                        steps.push(Step::Propose(name.clone(), create(name, wanted.vid, self.node)));
                    }
                }
            }
        }
        forget.iter().for_each(|name| drop(self.wanted.remove(name)));
        steps
    }
}

/// A server that this node exported before its manager was restarted.
fn is_ours(table: &Table, vid: Vid, node: NodeId) -> bool {
    table.vid(vid).is_some_and(|record| record.kind == Kind::Server { node })
}

fn create(name: &Name, vid: Vid, node: NodeId) -> Op {
    Op::Create { vid, kind: Kind::Server { node }, group: None, name: Some(name.clone()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: PortIndex = PortIndex(2);

    fn name() -> Name {
        Name::new("greeter").unwrap()
    }

    fn table(nodes: &[u16]) -> Table {
        let mut t = Table::new();
        for n in nodes {
            let up = Op::NodeUp { node: NodeId(*n), incarnation: 1, boot: 1, store: 1, external: true };
            t.apply(&up).unwrap();
        }
        t
    }

    /// Pursues once and applies what is proposed.
    fn round(e: &mut Exports, t: &mut Table) -> Vec<Step> {
        let steps = e.pursue(0, t, true);
        for step in &steps {
            if let Step::Propose(name, op) = step {
                let _ = t.apply(op);
                e.settled(name, 0);
            }
        }
        steps
    }

    #[test]
    fn a_free_name_is_taken_and_the_caller_told() {
        let (mut e, mut t) = (Exports::new(NodeId(1), 3), table(&[1]));
        e.want(&name(), PORT, false, Some(9)).unwrap();
        assert_eq!(e.pursue(0, &t, false), [], "not while this node may not propose");
        assert!(matches!(&round(&mut e, &mut t)[..], [Step::Propose(..)]));
        let vid = t.lookup("greeter").unwrap();
        assert_eq!(round(&mut e, &mut t), [Step::Won(name()), Step::Held(vid, vec![9])]);
        assert_eq!(e.port_of(vid), Some(PORT));
        assert_eq!(round(&mut e, &mut t), []);
        // The server was restarted and asks again.
        e.want(&name(), PortIndex(3), false, Some(10)).unwrap();
        assert_eq!(round(&mut e, &mut t), [Step::Held(vid, vec![10])]);
        assert_eq!(e.port_of(vid), Some(PortIndex(3)));
    }

    #[test]
    fn a_failed_proposal_is_repeated_after_a_pause() {
        let (mut e, t) = (Exports::new(NodeId(1), 3), table(&[1]));
        e.want(&name(), PORT, false, Some(9)).unwrap();
        assert_eq!(e.pursue(0, &t, true).len(), 1);
        assert_eq!((e.pursue(0, &t, true).len(), e.deadline_ns()), (0, None));
        e.settled(&name(), 50);
        assert_eq!((e.pursue(49, &t, true).len(), e.deadline_ns()), (0, Some(50)));
        assert_eq!((e.pursue(50, &t, true).len(), e.deadline_ns()), (1, None));
    }

    #[test]
    fn a_taken_name_is_refused_or_waited_for() {
        let mut t = table(&[1, 2]);
        let (mut owner, mut asks, mut waits) =
            (Exports::new(NodeId(1), 1), Exports::new(NodeId(2), 1), Exports::new(NodeId(2), 1));
        owner.want(&name(), PORT, false, None).unwrap();
        round(&mut owner, &mut t);
        asks.want(&name(), PORT, false, Some(5)).unwrap();
        assert_eq!(round(&mut asks, &mut t), [Step::Taken(vec![5])]);
        waits.want(&name(), PORT, true, None).unwrap();
        assert_eq!(round(&mut waits, &mut t), []);
        t.apply(&Op::NodeDown { node: NodeId(1), incarnation: 1 }).unwrap();
        assert_eq!(round(&mut asks, &mut t), []);
        assert!(matches!(&round(&mut waits, &mut t)[..], [Step::Propose(..)]));
        assert!(matches!(&round(&mut waits, &mut t)[..], [Step::Won(..)]));
    }

    #[test]
    fn after_a_manager_restart_the_old_record_is_adopted() {
        let mut t = table(&[1]);
        let mut before = Exports::new(NodeId(1), 1);
        before.want(&name(), PORT, false, None).unwrap();
        round(&mut before, &mut t);
        let vid = t.lookup("greeter").unwrap();
        let mut after = Exports::new(NodeId(1), 2);
        after.want(&name(), PORT, false, Some(1)).unwrap();
        assert_eq!(round(&mut after, &mut t), [Step::Won(name()), Step::Held(vid, vec![1])]);
        assert_eq!(after.port_of(vid), Some(PORT));
    }
}
