//! System-call numbers: passed in x7 as a full 64-bit negative number, trapped by `svc #0` (sheet §1.1).

numbered! {
    /// A system call of the default (debug, printing) build.
    ///
    /// Register use: x0 = capability (or result badge), x1 = message info, x2..x5 = MR0..MR3, x6 = reply capability
    /// (or the send half's destination for `NBSendWait`), x7 = this number, x8 = destination of `NBSendRecv`'s send half.
    Syscall: i64 {
        /// Send and wait for the answer.
        Call = -1,
        /// Reply to x6, then receive from x0 with reply object x6.
        ReplyRecv = -2,
        /// Non-blocking send to x8, then receive from x0 with reply object x6.
        NBSendRecv = -3,
        /// Non-blocking send to x6, then wait on x0.
        NBSendWait = -4,
        /// Blocking send.
        Send = -5,
        /// Send that drops the message when nobody waits.
        NBSend = -6,
        /// Receive with reply object x6.
        Recv = -7,
        /// Receive that returns at once.
        NBRecv = -8,
        /// Receive without a reply object.
        Wait = -9,
        /// Wait that returns at once.
        NBWait = -10,
        /// Give up the rest of the current refill.
        Yield = -11,
        /// Print the character in x0.
        DebugPutChar = -12,
        /// Print all threads.
        DebugDumpScheduler = -13,
        /// Stop the machine.
        DebugHalt = -14,
        /// Type tag of the capability in x0, see [`crate::CapTag`].
        DebugCapIdentify = -15,
        /// Print a description of the system.
        DebugSnapshot = -16,
        /// Name the TCB in x0 after the string at byte 8 of the IPC buffer.
        DebugNameThread = -17,
        /// Send IPI x1 to core x0 (multi-core builds).
        DebugSendIPI = -18,
        /// Core of the TCB in x0 (multi-core builds).
        DebugGetThreadAffinity = -19,
    }
}

impl Syscall {
    /// Whether this is one of the API calls (as opposed to the debug group).
    #[inline]
    pub const fn is_api(self) -> bool {
        self.raw() >= Self::Yield.raw()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_negative_and_contiguous() {
        for (i, call) in Syscall::ALL.iter().enumerate() {
            assert_eq!(call.raw(), -(i as i64) - 1);
            assert_eq!(Syscall::from_raw(call.raw()), Some(*call));
        }
        assert_eq!(Syscall::from_raw(0), None);
        assert_eq!(Syscall::from_raw(0xFFFF_FFFF), None);
        assert!(Syscall::Yield.is_api() && !Syscall::DebugPutChar.is_api());
    }
}
