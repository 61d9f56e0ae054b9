//! What an operator is told: few lines with fixed words, found by machines.
//!
//! A line is `word key=value ...`. The words are part of the interface to scenarios and operators: do not change them lightly.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use smi_cluster::{Epoch, GroupId, NodeId};
use smi_core::table::{Name, Op, Table};
use smi_link::{DownReason, Refused};

/// One line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Status {
    /// A node joined; the membership epoch is now `epoch`.
    NodeUp {
        /// The node.
        node: NodeId,
        /// Epoch.
        epoch: u64,
    },
    /// A node left or died.
    NodeDown {
        /// The node.
        node: NodeId,
        /// Epoch.
        epoch: u64,
    },
    /// The directory is led by another node.
    View {
        /// View number.
        view: u64,
        /// Who leads.
        leader: NodeId,
    },
    /// This node now speaks for these groups.
    Promoted {
        /// How many groups.
        groups: usize,
        /// The first of them and its epoch.
        first: (GroupId, Epoch),
    },
    /// Some groups have fewer replicas than they should.
    RedundancyLost {
        /// How many.
        groups: usize,
    },
    /// All groups have all their replicas again.
    RedundancyRestored {
        /// How many groups there are.
        groups: usize,
    },
    /// A session with a node begins.
    LinkUp {
        /// The node.
        node: NodeId,
    },
    /// A session is over.
    LinkDown {
        /// The node.
        node: NodeId,
        /// Why.
        reason: DownReason,
    },
    /// Somebody was turned away.
    Refused(Refused),
    /// This node lost touch with the quorum (true) or has it again.
    Fenced {
        /// The new state.
        fenced: bool,
    },
    /// A service's program was started here.
    ServiceStarted {
        /// The program.
        program: Name,
    },
    /// A service's program was stopped here.
    ServiceStopped {
        /// The program.
        program: Name,
    },
    /// The supervisor could not start or stop a program.
    ServiceFailed {
        /// The program.
        program: Name,
    },
    /// The name that a server asked for is its own now.
    Exported {
        /// The name.
        name: Name,
    },
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Status::NodeUp { node, epoch } => write!(f, "node-up node={node} epoch={epoch}"),
            Status::NodeDown { node, epoch } => write!(f, "node-down node={node} epoch={epoch}"),
            Status::View { view, leader } => write!(f, "view view={view} leader={leader}"),
            Status::Promoted { groups, first: (group, epoch) } => {
                write!(f, "promoted groups={groups} first={} epoch={}", group.0, epoch.0)
            }
            Status::RedundancyLost { groups } => write!(f, "redundancy-lost groups={groups}"),
            Status::RedundancyRestored { groups } => write!(f, "redundancy-restored groups={groups}"),
            Status::LinkUp { node } => write!(f, "link-up node={node}"),
            Status::LinkDown { node, reason } => write!(f, "link-down node={node} reason={}", word(*reason)),
            Status::Refused(r) => {
                let [a, b, c, d, e, g] = r.mac;
                write!(f, "link-refused node={} reason={} ", r.claims, r.reason.word())?;
                write!(f, "mac={a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x} suppressed={}", r.suppressed)
            }
            Status::Fenced { fenced } => f.write_str(if *fenced { "fenced" } else { "unfenced" }),
            Status::ServiceStarted { program } => write!(f, "service-started program={}", program.as_str()),
            Status::ServiceStopped { program } => write!(f, "service-stopped program={}", program.as_str()),
            Status::ServiceFailed { program } => write!(f, "service-failed program={}", program.as_str()),
            Status::Exported { name } => write!(f, "exported name={}", name.as_str()),
        }
    }
}

fn word(reason: DownReason) -> &'static str {
    match reason {
        DownReason::Replaced => "replaced",
        DownReason::Expelled => "expelled",
        DownReason::Violation => "violation",
    }
}

/// Watches the table for what is worth a line.
pub struct Watch {
    node: NodeId,
    /// Groups that this node leads.
    leading: BTreeMap<GroupId, Epoch>,
    degraded: usize,
    /// Number of the last operation that changed the membership.
    epoch: u64,
}

impl Watch {
    /// Watches for `node`, beginning with an empty table.
    pub fn new(node: NodeId) -> Watch {
        Watch { node, leading: BTreeMap::new(), degraded: 0, epoch: 0 }
    }

    /// The membership epoch: number of the last operation by which a node joined or left. Known only from operations that
    /// this node has seen applied, so a node that was brought up to date by a snapshot starts with the snapshot's number.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Operation number `epoch`, `op`, was applied with success; `table` is the result, or later.
    pub fn applied(&mut self, epoch: u64, op: &Op, table: &Table, out: &mut Vec<Status>) {
        match op {
            Op::NodeUp { node, .. } => {
                self.epoch = self.epoch.max(epoch);
                out.push(Status::NodeUp { node: *node, epoch });
            }
            Op::NodeDown { node, .. } => {
                self.epoch = self.epoch.max(epoch);
                out.push(Status::NodeDown { node: *node, epoch });
            }
            Op::Synced { .. } | Op::Expel { .. } | Op::Promote { .. } | Op::CreateGroup { .. } => {}
            _ => return,
        }
        self.compare(table, out);
    }

    /// The table was replaced as a whole.
    pub fn replaced(&mut self, table: &Table, out: &mut Vec<Status>) {
        self.epoch = self.epoch.max(table.op_number());
        self.compare(table, out);
    }

    fn compare(&mut self, table: &Table, out: &mut Vec<Status>) {
        let mut leading = BTreeMap::new();
        let (mut degraded, mut total) = (0, 0);
        for (id, group) in table.groups() {
            total += 1;
            degraded += usize::from(group.members.len() < usize::from(group.degree));
            if group.primary() == Some(self.node) {
                leading.insert(id, group.epoch);
            }
        }
        let mut new = leading.iter().filter(|(id, _)| !self.leading.contains_key(id));
        if let Some((id, epoch)) = new.next() {
            out.push(Status::Promoted { groups: 1 + new.count(), first: (*id, *epoch) });
        }
        match (self.degraded, degraded) {
            (0, n) if n > 0 => out.push(Status::RedundancyLost { groups: n }),
            (n, 0) if n > 0 => out.push(Status::RedundancyRestored { groups: total }),
            _ => {}
        }
        self.leading = leading;
        self.degraded = degraded;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(node: u16, ops: &[Op]) -> Vec<String> {
        let (mut table, mut watch, mut out) = (Table::new(), Watch::new(NodeId(node)), Vec::new());
        for op in ops {
            table.apply(op).unwrap();
            watch.applied(table.op_number(), op, &table, &mut out);
        }
        out.iter().map(|s| s.to_string()).collect()
    }

    #[test]
    fn a_death_and_its_repair_are_told_in_few_lines() {
        let up = |node| Op::NodeUp { node: NodeId(node), incarnation: 1, boot: 1, store: 1, external: true };
        let group = |group| Op::CreateGroup { group: GroupId(group), degree: 2 };
        let mut ops = vec![up(1), up(2), up(3), group(1), group(2)];
        assert_eq!(lines(2, &ops), ["node-up node=1 epoch=1", "node-up node=2 epoch=2", "node-up node=3 epoch=3"]);
        ops.push(Op::NodeDown { node: NodeId(1), incarnation: 1 });
        ops.push(Op::Synced { group: GroupId(1), epoch: Epoch(2), node: NodeId(3) });
        ops.push(Op::Synced { group: GroupId(2), epoch: Epoch(2), node: NodeId(2) });
        assert_eq!(
            lines(2, &ops)[3..],
            [
                "node-down node=1 epoch=6",
                "promoted groups=1 first=1 epoch=2",
                "redundancy-lost groups=2",
                "redundancy-restored groups=2"
            ]
        );
    }
}
