//! `apply`: each operation checks first, then acts; once it acts it cannot fail.

use super::placement::Loads;
use super::{
    GroupRecord, Kind, MAX_DEGREE, MAX_GROUPS, MAX_LISTENERS, MAX_VIDS, Name, NodeRecord, NodeState, Op, OpError,
    Outcome, Table, VidRecord, valid_node,
};
use alloc::vec::Vec;
use smi_cluster::{Epoch, GroupId, NodeId, Vid};

impl Table {
    /// Applies the next operation of the log. The operation number rises by one even if the operation is refused.
    pub fn apply(&mut self, op: &Op) -> Result<Outcome, OpError> {
        self.op_number += 1;
        match op {
            Op::Noop => Ok(Outcome::Done),
            Op::NodeUp { node, incarnation, boot, store, external } => {
                let record = NodeRecord {
                    state: NodeState::Up,
                    incarnation: *incarnation,
                    boot: *boot,
                    store: *store,
                    external: *external,
                };
                self.node_up(*node, record)
            }
            Op::NodeDown { node, incarnation } => self.node_down(*node, *incarnation),
            Op::Synced { group, epoch, node } => self.synced(*group, *epoch, *node),
            Op::Expel { group, epoch, node } => self.expel(*group, *epoch, *node),
            Op::Promote { group, epoch, node } => self.promote(*group, *epoch, *node),
            Op::CreateGroup { group, degree } => self.create_group(*group, *degree),
            Op::DeleteGroup { group } => self.delete_group(*group),
            Op::Create { vid, kind, group, name } => self.create(*vid, kind, *group, name.as_ref()),
            Op::Delete { vid } => self.delete(*vid),
            Op::Rename { from, to } => self.rename(from, to),
            Op::Listen { port, vid } => self.listen(*port, *vid),
            Op::Unlisten { port } => self.unlisten(*port),
        }
    }

    fn node_up(&mut self, node: NodeId, record: NodeRecord) -> Result<Outcome, OpError> {
        if !valid_node(node) {
            return Err(OpError::OutOfRange);
        }
        let before = self.nodes.get(&node).copied();
        if let Some(before) = before {
            let same_life = before.state == NodeState::Up && before.boot == record.boot;
            if record.incarnation <= before.incarnation || same_life {
                return Err(OpError::Stale);
            }
        }
        self.nodes.insert(node, record);
        self.drop_servers(node);
        // It comes back with what it last had in sync only if its store is the same one.
        let kept_store = before.is_some_and(|b| b.store == record.store);
        self.change_groups(|group| {
            let left = leave(group, node);
            let revived = kept_store && group.lost == Some(node);
            if revived {
                group.lost = None;
                group.members.push(node);
            }
            left || revived
        });
        Ok(Outcome::Done)
    }

    fn node_down(&mut self, node: NodeId, incarnation: u64) -> Result<Outcome, OpError> {
        let record = self.nodes.get_mut(&node).ok_or(OpError::NotFound)?;
        if record.state == NodeState::Down || record.incarnation != incarnation {
            return Err(OpError::Stale);
        }
        record.state = NodeState::Down;
        self.drop_servers(node);
        self.change_groups(|group| leave(group, node));
        Ok(Outcome::Done)
    }

    /// Removes the servers that a node exported in its last life.
    fn drop_servers(&mut self, node: NodeId) {
        let gone: Vec<Vid> =
            self.vids.iter().filter(|(_, v)| v.kind == (Kind::Server { node })).map(|(id, _)| *id).collect();
        gone.into_iter().for_each(|vid| self.remove(vid));
    }

    fn group_at(&mut self, group: GroupId, epoch: Epoch) -> Result<&mut GroupRecord, OpError> {
        let record = self.groups.get_mut(&group).ok_or(OpError::NotFound)?;
        if record.epoch == epoch { Ok(record) } else { Err(OpError::Stale) }
    }

    fn synced(&mut self, group: GroupId, epoch: Epoch, node: NodeId) -> Result<Outcome, OpError> {
        let record = self.group_at(group, epoch)?;
        if record.joining != Some(node) {
            return Err(OpError::Stale);
        }
        record.joining = None;
        record.members.push(node);
        self.next_epoch(group);
        Ok(Outcome::Done)
    }

    fn expel(&mut self, group: GroupId, epoch: Epoch, node: NodeId) -> Result<Outcome, OpError> {
        let record = self.group_at(group, epoch)?;
        if !record.members.contains(&node) || record.members.len() == 1 {
            return Err(OpError::Stale);
        }
        record.members.retain(|m| *m != node);
        self.next_epoch(group);
        Ok(Outcome::Done)
    }

    fn promote(&mut self, group: GroupId, epoch: Epoch, node: NodeId) -> Result<Outcome, OpError> {
        let record = self.group_at(group, epoch)?;
        let Some(place) = record.members.iter().position(|m| *m == node) else { return Err(OpError::Stale) };
        if place > 0 {
            record.members.swap(0, place);
            self.next_epoch(group);
        }
        Ok(Outcome::Done)
    }

    /// Refills one group and raises its epoch.
    fn next_epoch(&mut self, group: GroupId) {
        let mut loads = Loads::count(self);
        if let Some(record) = self.groups.get_mut(&group) {
            loads.refill(record);
            record.epoch.0 += 1;
        }
    }

    fn create_group(&mut self, group: GroupId, degree: u8) -> Result<Outcome, OpError> {
        if !(1..=MAX_DEGREE).contains(&degree) {
            return Err(OpError::OutOfRange);
        }
        if self.groups.contains_key(&group) {
            return Err(OpError::Exists);
        }
        if self.groups.len() >= MAX_GROUPS {
            return Err(OpError::Full);
        }
        let mut record = GroupRecord { epoch: Epoch(1), degree, members: Vec::new(), joining: None, lost: None };
        Loads::count(self).found(&mut record);
        if record.members.is_empty() {
            return Err(OpError::NoNodes);
        }
        self.groups.insert(group, record);
        Ok(Outcome::Done)
    }

    fn delete_group(&mut self, group: GroupId) -> Result<Outcome, OpError> {
        if !self.groups.contains_key(&group) {
            return Err(OpError::NotFound);
        }
        if self.vids_in(group).next().is_some() {
            return Err(OpError::NotEmpty);
        }
        self.groups.remove(&group);
        Ok(Outcome::Done)
    }

    fn create(
        &mut self,
        vid: Vid,
        kind: &Kind,
        group: Option<GroupId>,
        name: Option<&Name>,
    ) -> Result<Outcome, OpError> {
        match (kind, group) {
            (Kind::Server { node }, None) if self.is_up(*node) => {}
            (Kind::Server { .. }, None) => return Err(OpError::NotFound),
            (Kind::Server { .. }, Some(_)) | (_, None) => return Err(OpError::WrongKind),
            (_, Some(group)) if self.groups.contains_key(&group) => {}
            (_, Some(_)) => return Err(OpError::NotFound),
        }
        if self.vids.contains_key(&vid) || name.is_some_and(|n| self.names.contains_key(n)) {
            return Err(OpError::Exists);
        }
        if self.vids.len() >= MAX_VIDS {
            return Err(OpError::Full);
        }
        let record = VidRecord { kind: kind.clone(), group, generation: self.op_number, name: name.cloned() };
        self.vids.insert(vid, record);
        if let Some(name) = name {
            self.names.insert(name.clone(), vid);
        }
        Ok(Outcome::Done)
    }

    fn delete(&mut self, vid: Vid) -> Result<Outcome, OpError> {
        if !self.vids.contains_key(&vid) {
            return Err(OpError::NotFound);
        }
        self.remove(vid);
        Ok(Outcome::Done)
    }

    /// Removes a VID with its name and listeners.
    fn remove(&mut self, vid: Vid) {
        if let Some(name) = self.vids.remove(&vid).and_then(|record| record.name) {
            self.names.remove(&name);
        }
        self.listeners.retain(|_, listener| *listener != vid);
    }

    fn rename(&mut self, from: &Name, to: &Name) -> Result<Outcome, OpError> {
        let vid = *self.names.get(from).ok_or(OpError::NotFound)?;
        let replaced = self.names.get(to).copied().filter(|other| *other != vid);
        if let Some(other) = replaced
            && !self.same_kind(vid, other)
        {
            return Err(OpError::WrongKind);
        }
        if let Some(other) = replaced {
            self.remove(other);
        }
        self.names.remove(from);
        self.names.insert(to.clone(), vid);
        if let Some(record) = self.vids.get_mut(&vid) {
            record.name = Some(to.clone());
        }
        Ok(replaced.map_or(Outcome::Done, Outcome::Replaced))
    }

    fn same_kind(&self, a: Vid, b: Vid) -> bool {
        matches!((self.vids.get(&a), self.vids.get(&b)), (Some(a), Some(b)) if a.kind.is_like(&b.kind))
    }

    /// Whether a resource may have a listener.
    pub(super) fn can_listen(&self, vid: Vid) -> Result<(), OpError> {
        match self.vids.get(&vid).map(|v| &v.kind) {
            Some(Kind::Process { .. } | Kind::Socket { .. }) => Ok(()),
            Some(_) => Err(OpError::WrongKind),
            None => Err(OpError::NotFound),
        }
    }

    fn listen(&mut self, port: u16, vid: Vid) -> Result<Outcome, OpError> {
        if port == 0 {
            return Err(OpError::OutOfRange);
        }
        self.can_listen(vid)?;
        match self.listeners.get(&port) {
            Some(present) if *present == vid => return Ok(Outcome::Done),
            Some(_) => return Err(OpError::Exists),
            None if self.listeners.len() >= MAX_LISTENERS => return Err(OpError::Full),
            None => {}
        }
        self.listeners.insert(port, vid);
        Ok(Outcome::Done)
    }

    fn unlisten(&mut self, port: u16) -> Result<Outcome, OpError> {
        self.listeners.remove(&port).map(|_| Outcome::Done).ok_or(OpError::NotFound)
    }
}

/// Takes a node out of a group. True if the group involved it. The last in-sync member is remembered in `lost`.
fn leave(group: &mut GroupRecord, node: NodeId) -> bool {
    if !group.involves(node) {
        return false;
    }
    group.members.retain(|m| *m != node);
    if group.joining == Some(node) {
        group.joining = None;
    }
    if group.members.is_empty() {
        // Whoever was joining has nothing to copy from any more.
        group.joining = None;
        group.lost = Some(node);
    }
    true
}
