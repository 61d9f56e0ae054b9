//! Error codes and lookup failures of invocations (sheet §4).

numbered! {
    /// The label of a kernel object's answer. Anything but `NoError` means that nothing was changed.
    Error: u64 {
        /// Done.
        NoError = 0,
        /// MR0 = number of the wrong argument.
        InvalidArgument = 1,
        /// MR0 = number of the wrong capability, 0 = the invoked one.
        InvalidCapability = 2,
        /// Not now, or not for this capability.
        IllegalOperation = 3,
        /// MR0 = least, MR1 = greatest allowed value.
        RangeError = 4,
        /// Address not aligned.
        AlignmentError = 5,
        /// MR0 = 1 for the source, MR1.. = lookup failure.
        FailedLookup = 6,
        /// Message too short or capability missing.
        TruncatedMessage = 7,
        /// The destination is in use.
        DeleteFirst = 8,
        /// There are children.
        RevokeFirst = 9,
        /// MR0 = bytes left.
        NotEnoughMemory = 10,
    }
}

numbered! {
    /// Type number of a lookup failure, in `FailedLookup` answers (MR1) and `CapFault` messages (MR3).
    LookupType: u64 {
        /// The root is no CNode. No further words.
        InvalidRoot = 1,
        /// Nothing there. Then: bits left.
        MissingCapability = 2,
        /// Too few or too many bits. Then: bits left, bits found.
        DepthMismatch = 3,
        /// The guard differs. Then: bits left, guard found, bits found.
        GuardMismatch = 4,
    }
}

/// Number of error codes.
pub const NUM_ERRORS: u64 = 11;
const _: () = assert!(Error::ALL.len() as u64 == NUM_ERRORS);
