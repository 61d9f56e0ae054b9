//! Cluster vocabulary: node ids, VIDs, groups, the cluster's configuration, and the identity block of a node's disk.
//!
//! Everything above the kernel speaks these words; nothing here does any work. Neighbours: `smi-core` (the directory's
//! table is keyed by these), `smi-link` (addresses frames by [`NodeId`]), `image-builder` (writes identity blocks).
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod identity;
pub mod layout;

use core::fmt;
use serde::{Deserialize, Serialize};

/// The most nodes a cluster configuration can name.
pub const MAX_NODES: usize = 64;

/// A node of the cluster: 1 to [`MAX_NODES`]; 0 is never a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct NodeId(pub u16);

/// A failover group: the unit of replication, placement and epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct GroupId(pub u32);

/// The epoch of a failover group: raised by the directory at every change of its replicas; older frames are dropped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Epoch(pub u64);

/// A virtual resource's id: unique in the cluster and fixed for the resource's life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Vid(pub u128);

/// Which kind of server on a node a link message is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct PortId(pub u16);

impl PortId {
    /// The SMI manager itself (directory, remote calls).
    pub const MANAGER: PortId = PortId(0);
    /// The file server.
    pub const FILE: PortId = PortId(1);
    /// The socket server.
    pub const SOCKET: PortId = PortId(2);
    /// The first port of servers that merely export an interface.
    pub const FIRST_EXPORTED: PortId = PortId(16);
}

/// Priority lane of a link message, most urgent first (DESIGN 6.3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[repr(u8)]
pub enum Lane {
    /// Heartbeats, acknowledgements, directory.
    Control = 0,
    /// Replication logs, remote calls, packets.
    Log = 1,
    /// Re-replication of files.
    Repair = 2,
    /// Cloning of processes.
    Clone = 3,
}

impl Lane {
    /// All lanes, most urgent first.
    pub const ALL: [Lane; 4] = [Lane::Control, Lane::Log, Lane::Repair, Lane::Clone];

    /// The lane with this number, if there is one.
    pub fn from_number(n: u8) -> Option<Lane> {
        Lane::ALL.get(n as usize).copied()
    }
}

impl Vid {
    /// Builds a VID from its creator and the creator's counter. `boot` distinguishes the creator's incarnations, so a
    /// counter that starts again at zero after a reboot never names an old resource anew.
    pub const fn new(creator: NodeId, boot: u32, counter: u64) -> Vid {
        Vid(((creator.0 as u128) << 96) | ((boot as u128) << 64) | counter as u128)
    }

    /// The VID's 16 bytes, most significant first.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The VID of these 16 bytes, most significant first.
    pub const fn from_bytes(bytes: [u8; 16]) -> Vid {
        Vid(u128::from_be_bytes(bytes))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Vid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl fmt::Debug for Vid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vid({:x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vids_of_different_creators_boots_and_counters_differ() {
        let a = Vid::new(NodeId(1), 7, 9);
        for other in [Vid::new(NodeId(2), 7, 9), Vid::new(NodeId(1), 8, 9), Vid::new(NodeId(1), 7, 10)] {
            assert_ne!(a, other);
        }
        assert_eq!(Vid::from_bytes(a.to_bytes()), a);
    }

    #[test]
    fn lanes_convert_only_valid_numbers() {
        assert_eq!(Lane::from_number(2), Some(Lane::Repair));
        assert_eq!(Lane::from_number(4), None);
    }
}
