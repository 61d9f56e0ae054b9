//! Faults: what user code did that the kernel cannot do for it, their messages and the answers (sheet §7.6 – §7.8).

use kernel_abi::{FaultType, MessageInfo, context as order, fault as layout};

use crate::Kernel;
use crate::cap::{Cap, EndpointCap};
use crate::endpoint::SendMode;
use crate::error::LookupFailure;
use crate::ipc::{self, Buffer};
use crate::machine::{CoreId, Machine};
use crate::mem::Ptr;
use crate::tcb::{self, State, Tcb, TcbSlot};

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

/// A fault of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Cap { cptr: u64, receiving: bool, failure: LookupFailure },
    UnknownSyscall,
    User(UserFault),
    Timeout { badge: u64 },
}

impl Fault {
    fn kind(self) -> FaultType {
        match self {
            Self::Cap { .. } => FaultType::CapFault,
            Self::UnknownSyscall => FaultType::UnknownSyscall,
            Self::User(UserFault::Vm { .. }) => FaultType::VMFault,
            Self::User(UserFault::Exception { .. }) => FaultType::UserException,
            Self::Timeout { .. } => FaultType::Timeout,
        }
    }

    /// The words kept in the TCB.
    fn words(self) -> [u64; 4] {
        match self {
            Self::Cap { cptr, receiving, failure } => {
                // Type and bit counts are small: packed into one word, the guard value has its own.
                let (words, count) = failure.words();
                let guard = matches!(failure, LookupFailure::GuardMismatch { .. });
                let (value, bits) = if guard { (words[2], words[3]) } else { (0, words[2]) };
                let packed =
                    u64::from(receiving) | (words[0] << 8) | (words[1] << 16) | (bits << 24) | ((count as u64) << 32);
                [cptr, packed, value, 0]
            }
            Self::UnknownSyscall => [0; 4],
            Self::User(UserFault::Vm { addr, fsr, instruction }) => [addr, fsr, u64::from(instruction), 0],
            Self::User(UserFault::Exception { number, code }) => [number, code, 0, 0],
            Self::Timeout { badge } => [badge, 0, 0, 0],
        }
    }
}

/// A usable handler in a hidden slot.
fn handler(tcb: Ptr<Tcb>, slot: TcbSlot) -> Option<EndpointCap> {
    match tcb.slot(slot).cap() {
        Cap::Endpoint(cap) if tcb::is_handler(&cap) => Some(cap),
        _ => None,
    }
}

/// The thread's timeout handler.
pub(crate) fn timeout_handler(tcb: Ptr<Tcb>) -> Option<EndpointCap> {
    handler(tcb, TcbSlot::Timeout)
}

impl<M: Machine> Kernel<M> {
    /// The thread has a fault: its handler is called, or it stops.
    pub(crate) fn fault(&mut self, core: CoreId, thread: Ptr<Tcb>, fault: Fault) {
        self.set_fault(thread, fault);
        match handler(thread, TcbSlot::Fault) {
            Some(cap) => {
                self.send_ipc(core, thread, &cap, SendMode { blocking: true, call: true, donate: true });
            }
            None => {
                self.log_unhandled(thread, fault.kind());
                thread.fault.set(0);
                thread.set_state(State::Inactive);
            }
        }
    }

    /// The thread ran out of budget and has a timeout handler.
    pub(crate) fn timeout_fault(&mut self, core: CoreId, thread: Ptr<Tcb>) {
        let Some(cap) = timeout_handler(thread) else { return };
        let badge = thread.sc.get().map_or(0, |sc| sc.badge.get());
        self.set_fault(thread, Fault::Timeout { badge });
        self.send_ipc(core, thread, &cap, SendMode { blocking: true, call: true, donate: false });
    }

    fn set_fault(&mut self, thread: Ptr<Tcb>, fault: Fault) {
        thread.fault.set(fault.kind().raw() as u8);
        for (cell, word) in thread.fault_words.iter().zip(fault.words()) {
            cell.set(word);
        }
    }

    /// Writes the fault message of `from` to the handler's message registers; returns the message info.
    pub(crate) fn fault_message(&mut self, from: Ptr<Tcb>, to: Ptr<Tcb>, into: Option<Buffer>) -> MessageInfo {
        let kind = u64::from(from.fault.get());
        let mut msg = [0; layout::unknown_syscall::LENGTH];
        let length = self.fault_words(from, FaultType::from_raw(kind), &mut msg);
        let words = msg.iter().take(length).enumerate();
        let length = words.take_while(|(i, word)| ipc::set_message_word(to, into, *i, **word)).count();
        MessageInfo::new(kind, 0, 0, length)
    }

    fn fault_words(
        &mut self,
        from: Ptr<Tcb>,
        kind: Option<FaultType>,
        msg: &mut [u64; layout::unknown_syscall::LENGTH],
    ) -> usize {
        let [f0, f1, f2, _] = [0, 1, 2, 3].map(|i| from.fault_words[i].get());
        let context = &from.context;
        let (ip, sp, spsr) = (context.fault_ip.get(), context.sp.get(), context.spsr.get());
        match kind {
            Some(FaultType::CapFault) => cap_fault_words(ip, f0, f1, f2, msg),
            Some(FaultType::UnknownSyscall) => {
                for (i, word) in msg.iter_mut().take(8).enumerate() {
                    *word = from.x(i);
                }
                msg[8..].copy_from_slice(&[ip, sp, context.elr.get(), spsr, from.x(7)]);
                layout::unknown_syscall::LENGTH
            }
            Some(FaultType::UserException) => put(msg, &[ip, sp, spsr, f0, f1]),
            Some(FaultType::VMFault) => put(msg, &[ip, f0, f2, f1]),
            Some(FaultType::Timeout) => match from.sc.get() {
                Some(sc) => {
                    self.commit_sc(sc);
                    let consumed = self.take_consumed(sc);
                    put(msg, &[f0, consumed])
                }
                None => put(msg, &[f0]),
            },
            _ => 0,
        }
    }

    /// Applies the handler's answer to the faulted thread; returns whether it restarts.
    pub(crate) fn fault_reply(&mut self, handler: Ptr<Tcb>, faulted: Ptr<Tcb>) -> bool {
        let info = MessageInfo(handler.x(ipc::INFO));
        let buffer = ipc::buffer_of(self.window, handler, false);
        let length = if buffer.is_some() { info.length() } else { info.length().min(4) };
        let word = |i| ipc::message_word(handler, buffer, i);
        let context = &faulted.context;
        match FaultType::from_raw(u64::from(faulted.fault.get())) {
            Some(FaultType::UnknownSyscall) => {
                use layout::unknown_syscall::{FAULT_IP, LR, REPLY_LENGTH, SP, SPSR};
                for i in 0..length.min(REPLY_LENGTH) {
                    match i {
                        FAULT_IP => context.fault_ip.set(word(i)),
                        SP => context.sp.set(word(i)),
                        LR => context.elr.set(word(i)),
                        SPSR => context.spsr.set(tcb::sanitise_spsr(word(i))),
                        x => faulted.set_x(x, word(i)),
                    }
                }
            }
            Some(FaultType::UserException) => {
                use layout::user_exception::{FAULT_IP, REPLY_LENGTH, SP};
                for i in 0..length.min(REPLY_LENGTH) {
                    match i {
                        FAULT_IP => context.fault_ip.set(word(i)),
                        SP => context.sp.set(word(i)),
                        _ => context.spsr.set(tcb::sanitise_spsr(word(i))),
                    }
                }
            }
            Some(FaultType::Timeout) => {
                const _: () = assert!(layout::timeout::REPLY_LENGTH + 2 == order::USER_CONTEXT_WORDS);
                for i in 0..length.min(layout::timeout::REPLY_LENGTH) {
                    faulted.set_register(i, word(i));
                }
            }
            // Always restarts, whatever the label.
            _ => return true,
        }
        info.label() == 0
    }
}

fn put(msg: &mut [u64; layout::unknown_syscall::LENGTH], words: &[u64]) -> usize {
    msg[..words.len()].copy_from_slice(words);
    words.len()
}

fn cap_fault_words(
    ip: u64,
    cptr: u64,
    packed: u64,
    guard: u64,
    msg: &mut [u64; layout::unknown_syscall::LENGTH],
) -> usize {
    let [receiving, kind, left, bits] = [0, 8, 16, 24].map(|shift| (packed >> shift) & 0xff);
    let count = ((packed >> 32) & 0xff) as usize;
    let detail = if count == 4 { [kind, left, guard, bits] } else { [kind, left, bits, 0] };
    put(msg, &[ip, cptr, receiving]);
    msg[3..7].copy_from_slice(&detail);
    3 + count
}
