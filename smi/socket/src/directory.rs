//! This node's copy of the directory's table, kept by what comes through the manager port.

use crate::view::{Group, Port, View};
use alloc::vec::Vec;
use smi_cluster::{GroupId, NodeId, Vid};
use smi_core::table::{NodeState, Op, Table};
use smi_port::ToServer;

/// Longest snapshot that is collected; a longer one is refused as a whole.
const MAX_SNAPSHOT: usize = 16 * 1024 * 1024;

/// See the module's documentation.
#[derive(Default)]
pub struct Directory {
    me: Option<(NodeId, u64)>,
    table: Option<Table>,
    pieces: Vec<u8>,
}

impl Directory {
    /// Knows nothing.
    pub fn new() -> Directory {
        Directory::default()
    }

    /// This node, once the manager has said it.
    pub fn me(&self) -> Option<NodeId> {
        self.me.map(|(node, _)| node)
    }

    /// Takes a record into account; whether the view may have changed.
    pub fn take(&mut self, record: &ToServer<'_>) -> bool {
        match *record {
            ToServer::Hello { node, incarnation } => {
                self.me = Some((node, incarnation));
                self.pieces.clear();
                true
            }
            ToServer::Snapshot { more, bytes, .. } => self.piece(more, bytes),
            ToServer::Committed { op_number, bytes } => self.committed(op_number, bytes),
            _ => false,
        }
    }

    fn piece(&mut self, more: bool, bytes: &[u8]) -> bool {
        if self.pieces.len() + bytes.len() > MAX_SNAPSHOT {
            self.pieces.clear();
            return false;
        }
        self.pieces.extend_from_slice(bytes);
        if more {
            return false;
        }
        let whole = core::mem::take(&mut self.pieces);
        match Table::decode(&whole) {
            Ok(table) => {
                self.table = Some(table);
                true
            }
            Err(_) => false,
        }
    }

    fn committed(&mut self, op_number: u64, bytes: &[u8]) -> bool {
        let Some(table) = &mut self.table else { return false };
        match Op::decode(bytes) {
            // A refused operation changes nothing but the table's number.
            Ok(op) if op_number == table.op_number() + 1 => {
                let _ = table.apply(&op);
                true
            }
            _ => false,
        }
    }

    /// What sockets need of the table. A node of which the table does not know this life has no part in anything yet.
    pub fn view(&self) -> Option<View> {
        let (me, boot) = self.me?;
        let mut view = View::empty(me);
        let Some(table) = &self.table else { return Some(view) };
        let current = table.node(me).is_some_and(|n| n.state == NodeState::Up && n.boot == boot);
        if !current {
            return Some(view);
        }
        view.router = table.active_router();
        view.groups = table.groups().map(|(id, g)| (id, Group { epoch: g.epoch, primary: g.primary() })).collect();
        let port = |vid| table.vid(vid)?.group.map(|group| Port { vid, group });
        view.ports = table.listeners().filter_map(|(number, vid)| Some((number, port(vid)?))).collect();
        Some(view)
    }

    /// The failover group of a resource.
    pub fn group_of(&self, vid: Vid) -> Option<GroupId> {
        self.table.as_ref()?.vid(vid)?.group
    }
}
