//! The interface `manager`, served to local programs.

use crate::Manager;
use alloc::string::ToString;
use ipc_api::manager::{self, Error, External, Group, GroupsResult, Node, NodesResult, Process, Server, Status};
use ipc_wire::{Answer, Any, Caller, Cap, LinkError, RawCap, Refusal};
use smi_cluster::{Epoch, GroupId, NodeId};
use smi_core::table::{GroupRecord, Kind, Name, NodeState};

/// Makes a capability to this manager with an object number, for the client with this badge.
pub type Mint<'a> = &'a mut dyn FnMut(u64, u64) -> Option<RawCap>;

/// The manager behind its interface, for one call.
pub struct Desk<'a> {
    /// The manager.
    pub manager: &'a mut Manager,
    /// The time.
    pub now_ns: u64,
    /// (object, client's badge) to capability.
    pub mint: Mint<'a>,
}

const LIST_MAX: usize = manager::LIST_MAX as usize;

fn name(text: &str) -> Result<Name, Refusal<Error>> {
    Name::new(text).map_err(|_| Refusal::Error(Error::BadName))
}

fn id(node: Option<NodeId>) -> u16 {
    node.map_or(0, |n| n.0)
}

impl Server for Desk<'_> {
    fn export(&mut self, caller: Caller, text: &str) -> Answer<manager::Vid, Error> {
        let port = self.manager.ports().by_badge(caller.badge).ok_or(Error::NoPort)?;
        self.manager.export(&name(text)?, port, caller.token).map_err(|_| Error::Full)?;
        Err(Refusal::Pending)
    }

    fn withdraw(&mut self, caller: Caller, text: &str) -> Answer<(), Error> {
        let name = name(text)?;
        let port = self.manager.ports().by_badge(caller.badge).ok_or(Error::NoPort)?;
        if self.manager.exports.port_of_name(&name) != Some(port) {
            return Err(Error::NotFound.into());
        }
        self.manager.withdraw(self.now_ns, &name);
        Ok(())
    }

    fn resolve(&mut self, caller: Caller, text: &str) -> Answer<Cap<Any>, Error> {
        let name = name(text)?;
        let vid = self.manager.table().lookup(name.as_str()).ok_or(Error::NotFound)?;
        let object = self.manager.imports.import(caller.badge, vid).map_err(|_| Error::Full)?;
        let cap = (self.mint)(object, caller.badge).ok_or(Refusal::Link(LinkError::Busy))?;
        Ok(Cap::new(cap))
    }

    fn status(&mut self, _: Caller) -> Answer<Status, Error> {
        let m = &self.manager;
        Ok(Status {
            cluster: m.cluster(),
            node: m.node().0,
            leader: id(m.leader()),
            router: id(m.table().active_router()),
            member: m.is_member(),
            fenced: m.fenced(),
            epoch: m.epoch(),
            view: m.view(),
            op_number: m.table().op_number(),
        })
    }

    fn process(&mut self, _: Caller, text: &str) -> Answer<Process, Error> {
        let table = self.manager.table();
        let vid = table.lookup(name(text)?.as_str()).ok_or(Error::NotFound)?;
        let record = table.vid(vid).ok_or(Error::NotFound)?;
        let (Kind::Process { .. }, Some(group)) = (&record.kind, record.group) else {
            return Err(Error::NotAProcess.into());
        };
        let home = table.home(vid);
        Ok(Process {
            vid: wire_vid(vid.0),
            group: group.0,
            node: id(home.map(|(node, _)| node)),
            epoch: table.group(group).map_or(Epoch(0), |g| g.epoch).0,
        })
    }

    fn nodes(&mut self, _: Caller, after: u16) -> Answer<NodesResult, Error> {
        let mut result = NodesResult { count: 0, list: [EMPTY_NODE; LIST_MAX] };
        let nodes = self.manager.table().nodes().filter(|(node, _)| node.0 > after);
        for (slot, (node, record)) in result.list.iter_mut().zip(nodes) {
            *slot = Node {
                node: node.0,
                up: record.state == NodeState::Up,
                linked: self.manager.is_linked(node),
                external: record.external,
                incarnation: record.incarnation,
            };
            result.count += 1;
        }
        Ok(result)
    }

    fn groups(&mut self, _: Caller, first: u32) -> Answer<GroupsResult, Error> {
        let mut result = GroupsResult { count: 0, list: [EMPTY_GROUP; LIST_MAX] };
        let groups = self.manager.table().groups().filter(|(group, _)| group.0 >= first);
        for (slot, (group, record)) in result.list.iter_mut().zip(groups) {
            *slot = wire_group(group, record);
            result.count += 1;
        }
        Ok(result)
    }

    fn external(&mut self, _: Caller) -> Answer<External, Error> {
        let external = self.manager.external();
        Ok(External {
            service: external.service,
            gateway: external.gateway,
            virtual_mac: external.virtual_mac,
            prefix: external.prefix,
        })
    }

    fn random(&mut self, _: Caller) -> Answer<[u8; 32], Error> {
        Ok(self.manager.random())
    }
}

const EMPTY_NODE: Node = Node { node: 0, up: false, linked: false, external: false, incarnation: 0 };
const EMPTY_GROUP: Group = Group { group: 0, degree: 0, in_sync: 0, joining: 0, members: [0; 5], epoch: 0 };

fn wire_vid(vid: u128) -> manager::Vid {
    manager::Vid { high: (vid >> 64) as u64, low: vid as u64 }
}

fn wire_group(group: GroupId, record: &GroupRecord) -> Group {
    let mut members = [0; 5];
    members.iter_mut().zip(&record.members).for_each(|(to, from)| *to = from.0);
    Group {
        group: group.0,
        degree: record.degree,
        in_sync: record.members.len() as u8,
        joining: id(record.joining),
        members,
        epoch: record.epoch.0,
    }
}

/// Encodes the answer to a call of `export` that had to wait: the reply's head; its payload goes to the start of `buffer`.
pub fn exported(result: Result<smi_cluster::Vid, crate::manager::ExportError>, buffer: &mut [u8]) -> ipc_wire::Reply {
    use crate::manager::ExportError;
    match result {
        Ok(vid) => manager::reply::export(&wire_vid(vid.0), buffer),
        Err(ExportError::Taken) => manager::reply::error(Error::Taken, buffer),
        Err(ExportError::NoQuorum) => ipc_wire::Reply::link_error(LinkError::NoQuorum),
    }
}

/// A status line as text.
pub fn line(status: &crate::status::Status) -> alloc::string::String {
    status.to_string()
}
