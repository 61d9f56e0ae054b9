//! Service placement: which services the directory still lacks, and which programs this node should run.
//!
//! A service is a virtual process in a failover group of its own. The directory's leader makes the records; the node
//! that is primary of a service's group runs its program, all others do not. Ids are functions of a service's place in the
//! configuration, so making the records twice is harmless.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use smi_cluster::{GroupId, NodeId, Vid};
use smi_core::table::{Kind, Name, Op, Table};

/// Group of the first service; the next ones follow. Groups made at run time must stay clear of `1..=MAX_SERVICES`.
pub const FIRST_SERVICE_GROUP: GroupId = GroupId(1);

/// A program that the cluster keeps running on one node at a time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// Its name in the directory.
    pub name: Name,
    /// The program's name in the boot archive.
    pub program: Name,
    /// Replicas of its group.
    pub degree: u8,
    /// TCP port at the service address; 0 if it has none.
    pub port: u16,
}

/// Group of the service with this place in the configuration.
pub fn group_of(index: usize) -> GroupId {
    GroupId(FIRST_SERVICE_GROUP.0 + index as u32)
}

/// VID of the service with this place in the configuration. Its creator is node 0, which no node is.
pub fn vid_of(index: usize) -> Vid {
    Vid::new(NodeId(0), 0, 1 + index as u64)
}

/// Whether all services could get all their replicas now.
pub fn enough_nodes(table: &Table, services: &[Service]) -> bool {
    let up = table.up_nodes().count();
    services.iter().all(|s| usize::from(s.degree) <= up)
}

/// The operations that would make the missing records, each possible as the table is now.
pub fn missing(table: &Table, services: &[Service]) -> Vec<Op> {
    services.iter().enumerate().filter_map(|(index, service)| next_step(table, index, service)).collect()
}

fn next_step(table: &Table, index: usize, service: &Service) -> Option<Op> {
    let (group, vid) = (group_of(index), vid_of(index));
    if table.group(group).is_none() {
        return Some(Op::CreateGroup { group, degree: service.degree });
    }
    if table.vid(vid).is_none() {
        let kind = Kind::Process { program: service.program.clone() };
        return Some(Op::Create { vid, kind, group: Some(group), name: Some(service.name.clone()) });
    }
    let listens = service.port == 0 || table.listener(service.port).is_some();
    (!listens).then_some(Op::Listen { port: service.port, vid })
}

/// The programs that `node` has to run: those of processes whose group it is primary of.
pub fn to_run(table: &Table, node: NodeId) -> BTreeSet<Name> {
    let mine = table.vids().filter(|(vid, _)| table.home(*vid).is_some_and(|(home, _)| home == node));
    mine.filter_map(|(_, record)| match &record.kind {
        Kind::Process { program } => Some(program.clone()),
        _ => None,
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn up(node: u16) -> Op {
        Op::NodeUp { node: NodeId(node), incarnation: 1, boot: 1, store: 1, external: true }
    }

    #[test]
    fn services_are_made_step_by_step_and_follow_their_primary() {
        let services = [
            Service { name: name("db"), program: name("dbms"), degree: 2, port: 6379 },
            Service { name: name("quiet"), program: name("quiet"), degree: 1, port: 0 },
        ];
        let mut table = Table::new();
        table.apply(&up(1)).unwrap();
        assert!(!enough_nodes(&table, &services));
        table.apply(&up(2)).unwrap();
        assert!(enough_nodes(&table, &services));
        let mut steps = Vec::new();
        loop {
            let ops = missing(&table, &services);
            if ops.is_empty() {
                break;
            }
            steps.push(ops.len());
            for op in ops {
                table.apply(&op).unwrap();
            }
        }
        assert_eq!(steps, [2, 2, 1]);
        assert_eq!(table.listener(6379), Some(vid_of(0)));
        assert_eq!(table.lookup("db"), Some(vid_of(0)));
        assert!(to_run(&table, NodeId(1)).contains(&name("dbms")));
        table.apply(&Op::NodeDown { node: NodeId(1), incarnation: 1 }).unwrap();
        assert!(to_run(&table, NodeId(2)).contains(&name("dbms")));
        assert!(to_run(&table, NodeId(1)).is_empty());
    }
}
