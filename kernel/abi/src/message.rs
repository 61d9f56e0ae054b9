//! The message-info word (sheet §1.3).

/// Greatest message length, in words.
pub const MSG_MAX_LENGTH: usize = 120;
/// Greatest number of extra capabilities.
pub const MSG_MAX_EXTRA_CAPS: usize = 3;
/// Width of the length field.
pub const MSG_LENGTH_BITS: u32 = 7;
/// Width of the extra-capabilities field.
pub const MSG_EXTRA_CAP_BITS: u32 = 2;
/// Message registers that travel in x2..x5.
pub const FAST_MESSAGE_REGISTERS: usize = 4;
/// Width of the label.
pub const LABEL_BITS: u32 = 52;

/// Length, number of extra capabilities, unwrapped mask and label in one word.
///
/// Any word is accepted; [`MessageInfo::length`] clamps to [`MSG_MAX_LENGTH`] as the kernel does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct MessageInfo(pub u64);

const _: () = assert!(size_of::<MessageInfo>() == 8);

impl MessageInfo {
    /// Packs the fields; each is cut to its width.
    #[inline]
    pub const fn new(label: u64, caps_unwrapped: u64, extra_caps: usize, length: usize) -> Self {
        Self((label << 12) | ((caps_unwrapped & 7) << 9) | (((extra_caps & 3) as u64) << 7) | (length & 0x7f) as u64)
    }

    /// Message registers, at most 120.
    #[inline]
    pub const fn length(self) -> usize {
        let len = (self.0 & 0x7f) as usize;
        if len > MSG_MAX_LENGTH { MSG_MAX_LENGTH } else { len }
    }

    /// Extra capabilities, 0..=3.
    #[inline]
    pub const fn extra_caps(self) -> usize {
        ((self.0 >> 7) & 3) as usize
    }

    /// Bit i set: extra capability i arrived as a badge.
    #[inline]
    pub const fn caps_unwrapped(self) -> u64 {
        (self.0 >> 9) & 7
    }

    /// The 52-bit label.
    #[inline]
    pub const fn label(self) -> u64 {
        self.0 >> 12
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_round_trip() {
        let info = MessageInfo::new((1 << 52) - 1, 5, 3, 120);
        assert_eq!((info.label(), info.caps_unwrapped(), info.extra_caps(), info.length()), ((1 << 52) - 1, 5, 3, 120));
        assert_eq!(MessageInfo(0x7f).length(), 120);
        assert_eq!(MessageInfo::new(6, 0, 0, 4).0, 0x6004);
    }
}
