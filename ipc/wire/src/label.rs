//! Message labels: which interface and which method a message is for.
//!
//! seL4 gives a message 52 label bits; 40 hold the interface id and 12 the method ordinal, so no header word is needed.

use core::fmt;

/// A 52-bit request label.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(u64);

impl Label {
    /// Bits of the method ordinal.
    pub const ORDINAL_BITS: u32 = 12;
    /// Bits of the interface id.
    pub const INTERFACE_BITS: u32 = 40;

    /// The label of method `ordinal` of interface `interface`. Excess bits are cut off.
    pub const fn new(interface: u64, ordinal: u16) -> Self {
        let id = interface & ((1 << Self::INTERFACE_BITS) - 1);
        Self((id << Self::ORDINAL_BITS) | (ordinal as u64 & ((1 << Self::ORDINAL_BITS) - 1)))
    }

    /// A label as it came out of a message-info word; bits above 52 are cut off.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits & ((1 << (Self::INTERFACE_BITS + Self::ORDINAL_BITS)) - 1))
    }

    /// The 52 bits as they go into a message-info word.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The interface id, 40 bits.
    pub const fn interface(self) -> u64 {
        self.0 >> Self::ORDINAL_BITS
    }

    /// The method ordinal, 12 bits.
    pub const fn ordinal(self) -> u16 {
        (self.0 & ((1 << Self::ORDINAL_BITS) - 1)) as u16
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}@{}", self.interface(), self.ordinal())
    }
}

/// The 40-bit id of an interface: FNV-1a of `name/major`, folded. Never zero.
///
/// The minor version is left out: a newer minor version only adds methods.
pub const fn interface_id(name: &str, major: u16) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let bytes = name.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        i += 1;
    }
    let tail = [b'/', (major >> 8) as u8, major as u8];
    i = 0;
    while i < tail.len() {
        hash = (hash ^ tail[i] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        i += 1;
    }
    let folded = (hash ^ (hash >> 40)) & ((1 << Label::INTERFACE_BITS) - 1);
    if folded == 0 { 1 } else { folded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_keeps_both_parts() {
        let label = Label::new(0xab_cdef_0123, 0xfed);
        assert_eq!((label.interface(), label.ordinal()), (0xab_cdef_0123, 0xfed));
        assert_eq!(Label::from_bits(label.bits() | 0xfff << 52), label);
    }

    #[test]
    fn ids_differ_by_name_and_major() {
        assert_ne!(interface_id("block", 1), interface_id("block", 2));
        assert_ne!(interface_id("block", 1), interface_id("blocl", 1));
        assert!(interface_id("block", 1) < 1 << 40);
    }
}
