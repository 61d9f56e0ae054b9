//! Faults: what user code did that the kernel cannot do for it.

/// An exception from user mode other than a system call or an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserFault {
    /// Data or instruction abort.
    Vm {
        /// FAR for data, the PC for instructions.
        addr: u64,
        /// ESR_EL1, 32 bits.
        fsr: u64,
        /// Instruction fetch.
        instruction: bool,
    },
    /// Any other synchronous exception.
    Exception {
        /// ESR_EL1, 32 bits.
        number: u64,
        /// 0.
        code: u64,
    },
}
