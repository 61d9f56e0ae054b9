//! What a node learns from its disk before it joins: who it is, and which of its boots this is.
//!
//! The identity block is checked by `smi-cluster`; here the disk is also compared with the machine that it is in. The boot
//! number rises with every start of the manager, so that peers tell its lives apart and no random choice repeats. It is kept in two blocks,
//! written in turn: a torn write loses the newer number at most, and that was never used.

use core::fmt;
use smi_cluster::NodeId;
use smi_cluster::identity::{Identity, IdentityError};
use smi_cluster::layout::BLOCK_SIZE;
use smi_core::hash;

/// Blocks of the identity zone that hold the boot number.
pub const BOOT_BLOCKS: [u64; 2] = [1, 2];
const MAGIC: [u8; 8] = *b"SMIBOOT\x01";
const LEN: usize = 24;

/// Why a node does not join.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unfit {
    /// The identity block is bad.
    Identity(IdentityError),
    /// The disk could not be read or written.
    Disk,
    /// The disk was formatted for a node with another network card.
    ForeignNode {
        /// The node that the disk belongs to.
        node: NodeId,
        /// Its network card's address.
        formatted: [u8; 6],
        /// The address of the network card that is here.
        found: [u8; 6],
    },
}

impl Unfit {
    /// A fixed word for machines.
    pub fn word(&self) -> &'static str {
        match self {
            Unfit::Identity(IdentityError::Truncated { .. }) => "truncated",
            Unfit::Identity(IdentityError::NotAnIdentity | IdentityError::Short) => "not-formatted",
            Unfit::Identity(_) => "damaged",
            Unfit::Disk => "disk-error",
            Unfit::ForeignNode { .. } => "foreign",
        }
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfit::Identity(error) => error.fmt(f),
            Unfit::Disk => f.write_str("the disk does not work"),
            Unfit::ForeignNode { node, formatted, found } => {
                write!(f, "the disk belongs to node {node} with network card ")?;
                mac(f, formatted)?;
                f.write_str(", but this machine has ")?;
                mac(f, found)
            }
        }
    }
}

fn mac(f: &mut fmt::Formatter<'_>, mac: &[u8; 6]) -> fmt::Result {
    let [a, b, c, d, e, g] = mac;
    write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
}

/// Checks the identity block against the disk and the machine that it is in.
pub fn identify(block: &[u8], disk_blocks: u64, card: [u8; 6]) -> Result<Identity, Unfit> {
    let identity = Identity::decode(block, disk_blocks).map_err(Unfit::Identity)?;
    let formatted = identity.internal_mac();
    if formatted != card {
        return Err(Unfit::ForeignNode { node: identity.node, formatted, found: card });
    }
    Ok(identity)
}

/// The last boot number in the two boot blocks (for this format of the disk); 0 if neither is valid.
pub fn last_boot(blocks: [&[u8]; 2], format: u64) -> u64 {
    blocks.iter().filter_map(|b| decode(b, format)).max().unwrap_or(0)
}

/// Where boot number `boot` is written, and what.
pub fn record(boot: u64, format: u64) -> (u64, [u8; BLOCK_SIZE]) {
    let mut block = [0; BLOCK_SIZE];
    block[..8].copy_from_slice(&MAGIC);
    block[8..16].copy_from_slice(&boot.to_le_bytes());
    block[16..LEN].copy_from_slice(&format.to_le_bytes());
    let sum = hash::checksum(&block[..LEN]);
    block[LEN..LEN + 8].copy_from_slice(&sum.to_le_bytes());
    (BOOT_BLOCKS[(boot % 2) as usize], block)
}

fn decode(block: &[u8], format: u64) -> Option<u64> {
    let (head, rest) = block.split_at_checked(LEN)?;
    let word = |bytes: &[u8]| Some(u64::from_le_bytes(bytes.try_into().ok()?));
    let valid = head[..8] == MAGIC && word(&head[16..])? == format && word(rest.get(..8)?)? == hash::checksum(head);
    if valid { word(&head[8..16]) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smi_cluster::identity::{External, Member};

    #[test]
    fn boot_numbers_rise_and_survive_a_torn_write() {
        let mut disk = [[0; BLOCK_SIZE]; 2];
        for boot in 1..=5 {
            assert_eq!(last_boot([&disk[0], &disk[1]], 7), boot - 1);
            let (at, block) = record(boot, 7);
            disk[(at - BOOT_BLOCKS[0]) as usize] = block;
        }
        assert_eq!(last_boot([&disk[0], &disk[1]], 8), 0, "another format starts anew");
        disk[1][12] ^= 1; // boot 5 was torn
        assert_eq!(last_boot([&disk[0], &disk[1]], 7), 4);
        assert_eq!(last_boot([&[], &[]], 7), 0);
    }

    #[test]
    fn a_disk_in_the_wrong_machine_is_named() {
        let member = |n: u16| Member { node: NodeId(n), internal_mac: [2, 0, 0, 0, 0, n as u8] };
        let external = External { service: [10, 0, 0, 1], prefix: 24, gateway: [0; 4], virtual_mac: [0; 6] };
        let id = Identity::new([1; 16], NodeId(2), 4096, 5, [0; 32], external, &[member(1), member(2)]).unwrap();
        let block = id.encode();
        assert_eq!(identify(&block, 4096, [2, 0, 0, 0, 0, 2]), Ok(id));
        let foreign = identify(&block, 4096, [2, 0, 0, 0, 0, 9]).unwrap_err();
        assert_eq!(foreign.word(), "foreign");
        assert_eq!(
            foreign.to_string(),
            "the disk belongs to node 2 with network card 02:00:00:00:00:02, but this machine has 02:00:00:00:00:09"
        );
        assert_eq!(identify(&block, 4000, [2, 0, 0, 0, 0, 2]).unwrap_err().word(), "truncated");
        assert_eq!(identify(&[0; 4096], 4000, [0; 6]).unwrap_err().word(), "not-formatted");
    }
}
