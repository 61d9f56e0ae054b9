//! Rights and CNode guard words (sheet §2.1, §5.1).

bitflags::bitflags! {
    /// Rights of a capability, as passed to Copy, Mint and Page_Map. Unknown bits are ignored.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct CapRights: u64 {
        /// Send, signal, write.
        const WRITE = 1;
        /// Receive, wait, read.
        const READ = 2;
        /// Pass capabilities along.
        const GRANT = 4;
        /// Be called through it (reply may be created).
        const GRANT_REPLY = 8;
    }
}

impl CapRights {
    /// Read and write.
    pub const READ_WRITE: Self = Self::READ.union(Self::WRITE);
    /// Everything.
    pub const ALL_RIGHTS: Self = Self::all();
    /// The rights in a message word, higher bits ignored.
    #[inline]
    pub const fn from_word(word: u64) -> Self {
        Self::from_bits_truncate(word)
    }
}

/// Guard of a CNode capability: size in bits 0..=5, value above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct CNodeData(pub u64);

impl CNodeData {
    /// Packs a guard; `guard` is cut to 58 bits, `guard_size` to 6.
    #[inline]
    pub const fn new(guard: u64, guard_size: u32) -> Self {
        Self((guard << 6) | (guard_size & 0x3f) as u64)
    }

    /// Number of guard bits.
    #[inline]
    pub const fn guard_size(self) -> u32 {
        (self.0 & 0x3f) as u32
    }

    /// The guard, cut to its size.
    #[inline]
    pub const fn guard(self) -> u64 {
        (self.0 >> 6) & ((1u64 << self.guard_size()) - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guard_is_cut_to_its_size() {
        assert_eq!(CNodeData::new(0xff, 4).guard(), 0xf);
        assert_eq!(CNodeData::new(0xff, 0).guard(), 0);
        assert_eq!(CNodeData::new(0, 51).guard_size(), 51);
        assert_eq!(CapRights::from_word(!0), CapRights::ALL_RIGHTS);
    }
}
