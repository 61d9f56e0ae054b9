//! Why an invocation was refused. Nothing has been changed then.

use kernel_abi::{Error, LookupType};

/// A refused invocation; becomes the answer's label and words (sheet §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fail {
    /// Argument number.
    InvalidArgument(u64),
    /// Capability number, 0 = the invoked one.
    InvalidCapability(u64),
    /// Not allowed now or for this capability.
    IllegalOperation,
    /// Allowed minimum and maximum.
    Range(u64, u64),
    /// Address not aligned.
    Alignment,
    /// A slot lookup failed.
    Lookup {
        /// On the source (or pivot) side.
        source: bool,
        /// How.
        failure: LookupFailure,
    },
    /// Message too short or a capability missing.
    Truncated,
    /// Destination in use.
    DeleteFirst,
    /// There are children.
    RevokeFirst,
    /// Bytes left.
    NotEnoughMemory(u64),
}

/// How a capability address failed to resolve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "fields as in the sheet's table of lookup failure words")]
pub enum LookupFailure {
    InvalidRoot,
    MissingCapability { bits_left: u64 },
    DepthMismatch { bits_left: u64, bits_found: u64 },
    GuardMismatch { bits_left: u64, guard_found: u64, bits_found: u64 },
}

/// A long operation stopped at a preemption point; its progress is kept and the system call will be restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preempted;

/// Up to six words of an answer.
pub(crate) type Words = ([u64; 6], usize);

impl LookupFailure {
    /// Type number and further words.
    pub(crate) fn words(self) -> ([u64; 4], usize) {
        match self {
            Self::InvalidRoot => ([LookupType::InvalidRoot.raw(), 0, 0, 0], 1),
            Self::MissingCapability { bits_left } => ([LookupType::MissingCapability.raw(), bits_left, 0, 0], 2),
            Self::DepthMismatch { bits_left, bits_found } => {
                ([LookupType::DepthMismatch.raw(), bits_left, bits_found, 0], 3)
            }
            Self::GuardMismatch { bits_left, guard_found, bits_found } => {
                ([LookupType::GuardMismatch.raw(), bits_left, guard_found, bits_found], 4)
            }
        }
    }
}

impl Fail {
    /// A failed lookup on the destination side.
    pub(crate) const fn lookup(failure: LookupFailure) -> Self {
        Self::Lookup { source: false, failure }
    }

    /// Error code and words of the answer.
    pub(crate) fn answer(self) -> (Error, Words) {
        let none = ([0; 6], 0);
        let one = |w| ([w, 0, 0, 0, 0, 0], 1);
        match self {
            Self::InvalidArgument(n) => (Error::InvalidArgument, one(n)),
            Self::InvalidCapability(n) => (Error::InvalidCapability, one(n)),
            Self::IllegalOperation => (Error::IllegalOperation, none),
            Self::Range(min, max) => (Error::RangeError, ([min, max, 0, 0, 0, 0], 2)),
            Self::Alignment => (Error::AlignmentError, none),
            Self::Lookup { source, failure } => {
                let (w, len) = failure.words();
                (Error::FailedLookup, ([u64::from(source), w[0], w[1], w[2], w[3], 0], 1 + len))
            }
            Self::Truncated => (Error::TruncatedMessage, none),
            Self::DeleteFirst => (Error::DeleteFirst, none),
            Self::RevokeFirst => (Error::RevokeFirst, none),
            Self::NotEnoughMemory(left) => (Error::NotEnoughMemory, one(left)),
        }
    }
}
