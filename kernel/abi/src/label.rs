//! Invocation labels: what is asked of a kernel object (sheet §3.1, default uniprocessor build).

numbered! {
    /// The label of an invocation, in the label field of the message info.
    ///
    /// Number 56 is `IssueSGISignal` on a kernel with one core and `IssueIRQHandlerTriggerCore` on a kernel with several.
    Label: u64 {
        /// Never valid.
        InvalidInvocation = 0,
        /// Make objects out of untyped memory.
        UntypedRetype = 1,
        /// Read a thread's registers.
        TCBReadRegisters = 2,
        /// Write a thread's registers.
        TCBWriteRegisters = 3,
        /// Copy registers between threads.
        TCBCopyRegisters = 4,
        /// Set CSpace, VSpace and IPC buffer.
        TCBConfigure = 5,
        /// Set the priority.
        TCBSetPriority = 6,
        /// Set the maximum controlled priority.
        TCBSetMCPriority = 7,
        /// Set priority, MCP, scheduling context and fault endpoint.
        TCBSetSchedParams = 8,
        /// Set the timeout fault endpoint.
        TCBSetTimeoutEndpoint = 9,
        /// Set the IPC buffer.
        TCBSetIPCBuffer = 10,
        /// Set fault endpoint, CSpace and VSpace.
        TCBSetSpace = 11,
        /// Stop the thread.
        TCBSuspend = 12,
        /// Let the thread run.
        TCBResume = 13,
        /// Bind a notification.
        TCBBindNotification = 14,
        /// Unbind the notification.
        TCBUnbindNotification = 15,
        /// Set TPIDR_EL0.
        TCBSetTLSBase = 16,
        /// Clear and set flags.
        TCBSetFlags = 17,
        /// Delete all descendants of a slot.
        CNodeRevoke = 18,
        /// Empty a slot.
        CNodeDelete = 19,
        /// Restart the senders with this badge.
        CNodeCancelBadgedSends = 20,
        /// Copy a capability.
        CNodeCopy = 21,
        /// Copy with badge or guard.
        CNodeMint = 22,
        /// Move a capability.
        CNodeMove = 23,
        /// Move with badge or guard.
        CNodeMutate = 24,
        /// Two moves in one.
        CNodeRotate = 25,
        /// Make an IRQ handler.
        IRQIssueIRQHandler = 26,
        /// Unmask the interrupt.
        IRQAckIRQ = 27,
        /// Set the notification.
        IRQSetIRQHandler = 28,
        /// Remove the notification.
        IRQClearIRQHandler = 29,
        /// Set a thread's domain.
        DomainSetSet = 30,
        /// Write an entry of the domain schedule.
        DomainScheduleConfigure = 31,
        /// Start the schedule elsewhere.
        DomainScheduleSetStart = 32,
        /// Set a scheduling context's parameters.
        SchedControlConfigureFlags = 33,
        /// Bind to a thread or notification.
        SchedContextBind = 34,
        /// Unbind everything.
        SchedContextUnbind = 35,
        /// Unbind one object.
        SchedContextUnbindObject = 36,
        /// Read the consumed time.
        SchedContextConsumed = 37,
        /// Run the bound thread now.
        SchedContextYieldTo = 38,
        /// Clean a range to RAM.
        ARMVSpaceCleanData = 39,
        /// Discard cached data.
        ARMVSpaceInvalidateData = 40,
        /// Clean and discard.
        ARMVSpaceCleanInvalidateData = 41,
        /// Make instructions visible.
        ARMVSpaceUnifyInstruction = 42,
        /// Secure monitor call (not built).
        ARMSMCCall = 43,
        /// Map a page table.
        ARMPageTableMap = 44,
        /// Unmap a page table.
        ARMPageTableUnmap = 45,
        /// Map a page.
        ARMPageMap = 46,
        /// Unmap a page.
        ARMPageUnmap = 47,
        /// Clean part of a page to RAM.
        ARMPageCleanData = 48,
        /// Discard cached data of part of a page.
        ARMPageInvalidateData = 49,
        /// Clean and discard.
        ARMPageCleanInvalidateData = 50,
        /// Make instructions visible.
        ARMPageUnifyInstruction = 51,
        /// Physical address.
        ARMPageGetAddress = 52,
        /// Make an ASID pool.
        ARMASIDControlMakePool = 53,
        /// Give a VSpace an ASID.
        ARMASIDPoolAssign = 54,
        /// Make an IRQ handler and set the trigger.
        ARMIRQIssueIRQHandlerTrigger = 55,
        /// Make an SGI signal capability (one core), or an IRQ handler for a given core (several cores).
        ARMIRQIssueSGISignal = 56,
    }
}

/// Number of generic labels.
pub const NUM_GENERIC_LABELS: u64 = 39;
/// One past the last seL4 label.
pub const NUM_LABELS: u64 = 57;
/// Label 56 on a kernel with several cores.
pub const ARM_IRQ_ISSUE_IRQ_HANDLER_TRIGGER_CORE: Label = Label::ARMIRQIssueSGISignal;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_dense() {
        assert_eq!(Label::ALL.len() as u64, NUM_LABELS);
        for (i, label) in Label::ALL.iter().enumerate() {
            assert_eq!(label.raw(), i as u64);
        }
        assert_eq!(Label::ARMVSpaceCleanData.raw(), NUM_GENERIC_LABELS);
        assert_eq!(Label::from_raw(NUM_LABELS), None);
    }
}
