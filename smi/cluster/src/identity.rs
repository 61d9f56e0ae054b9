//! The identity block: block 0 of a node's disk. It says which node of which cluster the disk belongs to, and carries the
//! cluster's configuration and key. Little-endian, fixed layout, CRC-32C over all bytes before the checksum.
//!
//! A disk is a claim: [`Identity::decode`] checks every field before anything believes it.

use crate::layout::{BLOCK_SIZE, MIN_DISK_BLOCKS};
use crate::{MAX_NODES, NodeId};
use core::fmt;
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Marks an identity block.
pub const MAGIC: [u8; 8] = *b"SMINODE\x01";

/// The most services a cluster configuration can name.
pub const MAX_SERVICES: usize = 8;

/// One member in the identity block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its id.
    pub node: NodeId,
    /// MAC address of its NIC on the internal segment.
    pub internal_mac: [u8; 6],
}

/// Addresses of the external segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct External {
    /// The service address (IPv4).
    pub service: [u8; 4],
    /// Prefix length of the external network.
    pub prefix: u8,
    /// Default gateway, or 0.0.0.0 for none.
    pub gateway: [u8; 4],
    /// The virtual MAC that answers for the service address.
    pub virtual_mac: [u8; 6],
}

/// What a node knows about itself and its cluster when it starts.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// Random id of the cluster; a disk of another cluster is refused.
    pub cluster: [u8; 16],
    /// This node.
    pub node: NodeId,
    /// Blocks that the disk had when it was formatted; a shorter disk is truncated.
    pub disk_blocks: u64,
    /// Random number drawn when the disk was formatted: a replaced or newly formatted disk has another one, so that the
    /// directory knows that its store is not the one that it remembers.
    pub format: u64,
    /// Key shared by the cluster's nodes; authenticates the link.
    pub key: [u8; 32],
    /// External addresses.
    pub external: External,
    members: [Member; MAX_NODES],
    member_count: usize,
}

/// Why an identity block was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IdentityError {
    /// Fewer bytes than a block.
    Short,
    /// No identity block here: the disk is blank or holds something else.
    NotAnIdentity,
    /// The checksum does not match: the block is damaged.
    Checksum,
    /// A field makes no sense; its name.
    Field(&'static str),
    /// The disk is shorter than when it was formatted.
    Truncated {
        /// Blocks at formatting.
        formatted: u64,
        /// Blocks now.
        found: u64,
    },
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdentityError::Short => write!(f, "the disk is shorter than one block"),
            IdentityError::NotAnIdentity => write!(f, "no identity block: the disk was not formatted for a cluster"),
            IdentityError::Checksum => write!(f, "the identity block is damaged (checksum mismatch)"),
            IdentityError::Field(name) => write!(f, "the identity block's field '{name}' is invalid"),
            IdentityError::Truncated { formatted, found } => {
                write!(f, "the disk is truncated: formatted with {formatted} blocks, found {found}")
            }
        }
    }
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawMember {
    node: U16,
    internal_mac: [u8; 6],
}

/// The block's layout on disk.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawIdentity {
    magic: [u8; 8],
    cluster: [u8; 16],
    node: U16,
    member_count: U16,
    prefix: u8,
    reserved0: [u8; 3],
    disk_blocks: U64,
    format: U64,
    key: [u8; 32],
    service: [u8; 4],
    gateway: [u8; 4],
    virtual_mac: [u8; 6],
    reserved1: [u8; 2],
    members: [RawMember; MAX_NODES],
    checksum: U32,
}

const _: () = assert!(size_of::<RawIdentity>() <= BLOCK_SIZE);
const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);

impl Identity {
    /// Makes an identity. Errors name the field that is wrong (no members, too many, duplicates, this node not among
    /// them, a disk too small).
    pub fn new(
        cluster: [u8; 16],
        node: NodeId,
        disk_blocks: u64,
        format: u64,
        key: [u8; 32],
        external: External,
        members: &[Member],
    ) -> Result<Identity, IdentityError> {
        if members.is_empty() || members.len() > MAX_NODES {
            return Err(IdentityError::Field("members"));
        }
        let mut all = [Member { node: NodeId(0), internal_mac: [0; 6] }; MAX_NODES];
        all[..members.len()].copy_from_slice(members);
        let identity =
            Identity { cluster, node, disk_blocks, format, key, external, members: all, member_count: members.len() };
        identity.check()?;
        Ok(identity)
    }

    /// The cluster's configured members, in ascending order of id.
    pub fn members(&self) -> &[Member] {
        &self.members[..self.member_count]
    }

    /// This node's internal MAC address.
    pub fn internal_mac(&self) -> [u8; 6] {
        // `check` made sure that the node is a member.
        self.members().iter().find(|m| m.node == self.node).map_or([0; 6], |m| m.internal_mac)
    }

    fn check(&self) -> Result<(), IdentityError> {
        let members = self.members();
        if members.windows(2).any(|w| w[0].node >= w[1].node) {
            return Err(IdentityError::Field("members"));
        }
        if members.iter().any(|m| m.node.0 == 0 || m.internal_mac[0] & 1 != 0) {
            return Err(IdentityError::Field("members"));
        }
        if !members.iter().any(|m| m.node == self.node) {
            return Err(IdentityError::Field("node"));
        }
        if self.disk_blocks < MIN_DISK_BLOCKS {
            return Err(IdentityError::Field("disk_blocks"));
        }
        if self.external.prefix > 32 {
            return Err(IdentityError::Field("prefix"));
        }
        if self.external.virtual_mac[0] & 1 != 0 {
            return Err(IdentityError::Field("virtual_mac"));
        }
        Ok(())
    }

    /// The identity as the bytes of block 0.
    pub fn encode(&self) -> [u8; BLOCK_SIZE] {
        let mut raw = RawIdentity {
            magic: MAGIC,
            cluster: self.cluster,
            node: U16::new(self.node.0),
            member_count: U16::new(self.member_count as u16),
            prefix: self.external.prefix,
            reserved0: [0; 3],
            disk_blocks: U64::new(self.disk_blocks),
            format: U64::new(self.format),
            key: self.key,
            service: self.external.service,
            gateway: self.external.gateway,
            virtual_mac: self.external.virtual_mac,
            reserved1: [0; 2],
            members: self.members.map(|m| RawMember { node: U16::new(m.node.0), internal_mac: m.internal_mac }),
            checksum: U32::new(0),
        };
        raw.checksum = U32::new(checksum(raw.as_bytes()));
        let mut block = [0; BLOCK_SIZE];
        block[..size_of::<RawIdentity>()].copy_from_slice(raw.as_bytes());
        block
    }

    /// Checks and reads block 0 of a disk that has `disk_blocks` blocks.
    pub fn decode(block: &[u8], disk_blocks: u64) -> Result<Identity, IdentityError> {
        let (raw, _) = RawIdentity::read_from_prefix(block).map_err(|_| IdentityError::Short)?;
        if raw.magic != MAGIC {
            return Err(IdentityError::NotAnIdentity);
        }
        if raw.checksum.get() != checksum(raw.as_bytes()) {
            return Err(IdentityError::Checksum);
        }
        let count = raw.member_count.get() as usize;
        if count == 0 || count > MAX_NODES {
            return Err(IdentityError::Field("members"));
        }
        let identity = Identity {
            cluster: raw.cluster,
            node: NodeId(raw.node.get()),
            disk_blocks: raw.disk_blocks.get(),
            format: raw.format.get(),
            key: raw.key,
            external: External {
                service: raw.service,
                prefix: raw.prefix,
                gateway: raw.gateway,
                virtual_mac: raw.virtual_mac,
            },
            members: raw.members.map(|m| Member { node: NodeId(m.node.get()), internal_mac: m.internal_mac }),
            member_count: count,
        };
        identity.check()?;
        if disk_blocks < identity.disk_blocks {
            return Err(IdentityError::Truncated { formatted: identity.disk_blocks, found: disk_blocks });
        }
        Ok(identity)
    }
}

/// The key stays out of every log.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("node", &self.node).field("members", &self.members()).finish_non_exhaustive()
    }
}

/// CRC-32C of everything before the checksum field.
fn checksum(raw: &[u8]) -> u32 {
    CRC.checksum(&raw[..raw.len() - size_of::<U32>()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Identity {
        let members: Vec<Member> =
            (1..=3).map(|n| Member { node: NodeId(n), internal_mac: [0x52, 0x53, 0x4d, 0, 0, n as u8] }).collect();
        let external =
            External { service: [10, 77, 0, 100], prefix: 24, gateway: [0; 4], virtual_mac: [0, 0, 0x5e, 0, 1, 0x4d] };
        Identity::new([7; 16], NodeId(2), 4096, 11, [9; 32], external, &members).unwrap()
    }

    #[test]
    fn an_identity_survives_the_disk() {
        let id = sample();
        assert_eq!(Identity::decode(&id.encode(), 4096), Ok(id.clone()));
        assert_eq!(id.internal_mac(), [0x52, 0x53, 0x4d, 0, 0, 2]);
    }

    #[test]
    fn every_flipped_byte_is_refused() {
        let good = sample().encode();
        for i in 0..size_of::<RawIdentity>() {
            let mut bad = good;
            bad[i] ^= 0x40;
            assert!(Identity::decode(&bad, 4096).is_err(), "byte {i}");
        }
    }

    #[test]
    fn a_truncated_or_blank_disk_is_named_so() {
        let id = sample();
        assert_eq!(
            Identity::decode(&id.encode(), 4000),
            Err(IdentityError::Truncated { formatted: 4096, found: 4000 })
        );
        assert_eq!(Identity::decode(&[0; BLOCK_SIZE], 4096), Err(IdentityError::NotAnIdentity));
        assert_eq!(Identity::decode(&[0; 16], 4096), Err(IdentityError::Short));
    }

    #[test]
    fn nonsense_is_not_an_identity() {
        let e = sample().external;
        let m = |n: u16| Member { node: NodeId(n), internal_mac: [2, 0, 0, 0, 0, n as u8] };
        let make =
            |node, blocks, members: &[Member]| Identity::new([0; 16], NodeId(node), blocks, 0, [0; 32], e, members);
        assert_eq!(make(1, 4096, &[]), Err(IdentityError::Field("members")));
        assert_eq!(make(1, 4096, &[m(1), m(1)]), Err(IdentityError::Field("members")));
        assert_eq!(make(4, 4096, &[m(1), m(2)]), Err(IdentityError::Field("node")));
        assert_eq!(make(1, 100, &[m(1)]), Err(IdentityError::Field("disk_blocks")));
    }
}
