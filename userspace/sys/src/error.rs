//! What the kernel answers when it refuses an invocation.

use core::fmt;
use kernel_abi::Error;

/// Result of an invocation.
pub type Result<T> = core::result::Result<T, SysError>;

/// A refused invocation; nothing was changed. Source: sheet §4, `kernel_abi::Error`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SysError {
    /// Argument with this number is wrong.
    InvalidArgument(u64),
    /// Capability with this number is missing or of the wrong type; 0 is the invoked one.
    InvalidCapability(u64),
    /// Not allowed now, or not for this capability.
    IllegalOperation,
    /// A value lies outside of `min..=max`.
    Range {
        /// Least allowed value.
        min: u64,
        /// Greatest allowed value.
        max: u64,
    },
    /// An address is not aligned.
    Alignment,
    /// A slot was not found.
    FailedLookup {
        /// Whether the source side failed.
        source: bool,
        /// Number of the lookup failure, see `kernel_abi::LookupType`.
        failure: u64,
        /// Its first word: bits left.
        bits_left: u64,
    },
    /// The message was too short.
    Truncated,
    /// The destination slot is occupied.
    DeleteFirst,
    /// There are children.
    RevokeFirst,
    /// The untyped has only this many bytes left.
    NotEnoughMemory(u64),
    /// A label that the interface does not define.
    Unknown(u64),
}

impl SysError {
    /// Decodes the label and first words of a kernel object's answer; `None` means success.
    pub fn decode(label: u64, words: [u64; 4]) -> Option<SysError> {
        Some(match Error::from_raw(label) {
            Some(Error::NoError) => return None,
            Some(Error::InvalidArgument) => SysError::InvalidArgument(words[0]),
            Some(Error::InvalidCapability) => SysError::InvalidCapability(words[0]),
            Some(Error::IllegalOperation) => SysError::IllegalOperation,
            Some(Error::RangeError) => SysError::Range { min: words[0], max: words[1] },
            Some(Error::AlignmentError) => SysError::Alignment,
            Some(Error::FailedLookup) => {
                SysError::FailedLookup { source: words[0] != 0, failure: words[1], bits_left: words[2] }
            }
            Some(Error::TruncatedMessage) => SysError::Truncated,
            Some(Error::DeleteFirst) => SysError::DeleteFirst,
            Some(Error::RevokeFirst) => SysError::RevokeFirst,
            Some(Error::NotEnoughMemory) => SysError::NotEnoughMemory(words[0]),
            None => SysError::Unknown(label),
        })
    }
}

impl fmt::Display for SysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            SysError::InvalidArgument(n) => write!(f, "invalid argument {n}"),
            SysError::InvalidCapability(n) => write!(f, "invalid capability {n}"),
            SysError::IllegalOperation => write!(f, "illegal operation"),
            SysError::Range { min, max } => write!(f, "value outside of {min}..={max}"),
            SysError::Alignment => write!(f, "address not aligned"),
            SysError::FailedLookup { source, failure, bits_left } => {
                let side = if source { "source" } else { "destination" };
                write!(f, "{side} lookup failed (kind {failure}, {bits_left} bits left)")
            }
            SysError::Truncated => write!(f, "message too short"),
            SysError::DeleteFirst => write!(f, "destination occupied"),
            SysError::RevokeFirst => write!(f, "has children"),
            SysError::NotEnoughMemory(left) => write!(f, "not enough memory, {left} bytes left"),
            SysError::Unknown(label) => write!(f, "unknown error {label}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_each_code() {
        assert_eq!(SysError::decode(0, [1, 2, 3, 4]), None);
        assert_eq!(SysError::decode(4, [20, 99, 0, 0]), Some(SysError::Range { min: 20, max: 99 }));
        let lookup = SysError::FailedLookup { source: true, failure: 2, bits_left: 64 };
        assert_eq!(SysError::decode(6, [1, 2, 64, 0]), Some(lookup));
        assert_eq!(SysError::decode(10, [4096, 0, 0, 0]), Some(SysError::NotEnoughMemory(4096)));
        assert_eq!(SysError::decode(77, [0; 4]), Some(SysError::Unknown(77)));
    }
}
