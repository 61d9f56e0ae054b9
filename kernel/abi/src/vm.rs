//! Address-space attributes and limits (sheet §9).

bitflags::bitflags! {
    /// The `attr` argument of Page_Map. Unknown bits are ignored.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct VmAttributes: u64 {
        /// Normal write-back memory; otherwise Device-nGnRnE.
        const PAGE_CACHEABLE = 1;
        /// Accepted, without effect.
        const PARITY_ENABLED = 2;
        /// No instruction fetch.
        const EXECUTE_NEVER = 4;
    }
}

impl VmAttributes {
    /// Cacheable, executable.
    pub const DEFAULT: Self = Self::PAGE_CACHEABLE.union(Self::PARITY_ENABLED);
}

/// Last address of user land.
pub const USER_TOP: u64 = 0x0000_7FFF_FFFF_FFFF;
/// log2 of the number of ASID pools.
pub const NUM_ASID_POOLS_BITS: u32 = 7;
/// log2 of the ASIDs of a pool.
pub const ASID_POOL_INDEX_BITS: u32 = 9;
/// log2 of the entries of a page table.
pub const TABLE_INDEX_BITS: u32 = 9;
/// End of physical space for device untypeds.
pub const PADDR_USER_DEVICE_TOP: u64 = 1 << 40;
