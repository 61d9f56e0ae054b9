//! Our extensions beyond seL4, all in this file. Numbered from 0x1000, clear of seL4's own labels.

/// First label of the extensions.
pub const FIRST_EXT_LABEL: u64 = 0x1000;

numbered! {
    /// Invocation labels that seL4 does not have.
    ExtLabel: u64 {
        /// On a TCB capability, MR0 = [`CounterAccess`] bits: what the thread may read of the generic timer.
        /// Replaces the previous setting; a new TCB has none. Errors: TruncatedMessage without MR0, IllegalOperation for
        /// unknown bits.
        SmiTcbSetCounterAccess = 0x1000,
    }
}

bitflags::bitflags! {
    /// Generic-timer registers a thread may use at EL0.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct CounterAccess: u64 {
        /// Read CNTVCT_EL0 and CNTFRQ_EL0.
        const VIRTUAL_COUNTER = 1;
        /// Use the EL0 physical timer: CNTP_* and CNTPCT_EL0.
        const PHYSICAL_TIMER = 2;
    }
}

const _: () = assert!(crate::label::NUM_LABELS <= FIRST_EXT_LABEL);
