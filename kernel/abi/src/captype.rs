//! Capability type tags as `DebugCapIdentify` returns them (sheet §5.5). Odd ones are architecture-specific.

numbered! {
    /// What a slot holds.
    CapTag: u64 {
        /// Empty.
        Null = 0,
        /// Frame of any size.
        Frame = 1,
        /// Untyped memory.
        Untyped = 2,
        /// Page table.
        PageTable = 3,
        /// Endpoint.
        Endpoint = 4,
        /// Notification.
        Notification = 6,
        /// Reply object.
        Reply = 8,
        /// Root of an address space.
        VSpace = 9,
        /// CNode.
        CNode = 10,
        /// ASID control.
        AsidControl = 11,
        /// Thread.
        Tcb = 12,
        /// ASID pool.
        AsidPool = 13,
        /// IRQ control.
        IrqControl = 14,
        /// IRQ handler.
        IrqHandler = 16,
        /// CNode or TCB in the middle of a preempted deletion.
        Zombie = 18,
        /// Domain schedule.
        Domain = 20,
        /// Scheduling context.
        SchedContext = 22,
        /// Authority to configure scheduling contexts of one core.
        SchedControl = 24,
        /// Software-generated interrupt.
        SgiSignal = 27,
    }
}
