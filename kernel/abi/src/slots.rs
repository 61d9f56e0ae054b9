//! Slots of the root task's CNode (sheet §11.3).

numbered! {
    /// Capabilities the root task starts with.
    InitialCap: u64 {
        /// Never used.
        Null = 0,
        /// Own TCB.
        ThreadTcb = 1,
        /// Own CNode.
        ThreadCNode = 2,
        /// Own VSpace.
        ThreadVSpace = 3,
        /// IRQ control.
        IrqControl = 4,
        /// ASID control.
        AsidControl = 5,
        /// Initial ASID pool.
        ThreadAsidPool = 6,
        /// Null here.
        IoPortControl = 7,
        /// Null here.
        IoSpace = 8,
        /// Boot-info frame.
        BootInfoFrame = 9,
        /// Own IPC buffer frame.
        ThreadIpcBuffer = 10,
        /// Domain schedule.
        Domain = 11,
        /// Null here.
        SmmuSidControl = 12,
        /// Null here.
        SmmuCbControl = 13,
        /// Own scheduling context.
        ThreadSchedContext = 14,
        /// Null here.
        Smc = 15,
    }
}

/// First slot after the fixed ones.
pub const NUM_INITIAL_CAPS: u64 = 16;
const _: () = assert!(InitialCap::ALL.len() as u64 == NUM_INITIAL_CAPS);
