//! The system calls: inline assembly per register convention (sheet §1.2), one safe function per call.
//!
//! Only x0..x5 change across an `svc`; the rest is preserved by the kernel. Message registers 4.. and capabilities travel in
//! the IPC buffer, see [`crate::message`].

use crate::CPtr;
use core::arch::asm;
use kernel_abi::{MessageInfo, Syscall};

/// MR0..MR3.
pub type FastRegisters = [u64; 4];

/// What a receiving system call delivered.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// Badge of the sender's capability; the notification word for a signal; 0 for replies, and if nothing was there.
    pub badge: u64,
    /// Message info. Left as it was for signals, so look at the badge first.
    pub info: MessageInfo,
    /// MR0..MR3; those beyond the message's length keep what was sent.
    pub mrs: FastRegisters,
}

/// The register file of one system call.
struct Frame {
    x0: u64,
    x1: u64,
    mrs: FastRegisters,
    x6: u64,
    x8: u64,
}

#[inline(always)]
fn trap(syscall: Syscall, frame: &mut Frame) {
    // SAFETY: the kernel changes at most x0..x5, and memory only of the IPC buffer (reached through raw pointers everywhere in
    // this crate) or, through capabilities, of mappings that the caller owns; the default memory clobber covers both.
    unsafe {
        asm!("svc #0",
            inout("x0") frame.x0, inout("x1") frame.x1,
            inout("x2") frame.mrs[0], inout("x3") frame.mrs[1], inout("x4") frame.mrs[2], inout("x5") frame.mrs[3],
            in("x6") frame.x6, in("x7") syscall.raw(), in("x8") frame.x8,
            options(nostack));
    }
}

#[inline(always)]
fn exchange(syscall: Syscall, x0: CPtr, info: MessageInfo, mrs: FastRegisters, x6: CPtr, x8: CPtr) -> Received {
    let mut frame = Frame { x0: x0.0, x1: info.0, mrs, x6: x6.0, x8: x8.0 };
    trap(syscall, &mut frame);
    Received { badge: frame.x0, info: MessageInfo(frame.x1), mrs: frame.mrs }
}

/// Sends and waits for the answer.
#[inline]
pub fn call(dest: CPtr, info: MessageInfo, mrs: FastRegisters) -> Received {
    exchange(Syscall::Call, dest, info, mrs, CPtr::NULL, CPtr::NULL)
}

/// Sends, blocking until somebody receives. On a reply capability: answers.
#[inline]
pub fn send(dest: CPtr, info: MessageInfo, mrs: FastRegisters) {
    exchange(Syscall::Send, dest, info, mrs, CPtr::NULL, CPtr::NULL);
}

/// Sends if somebody is waiting; otherwise the message is dropped.
#[inline]
pub fn nb_send(dest: CPtr, info: MessageInfo, mrs: FastRegisters) {
    exchange(Syscall::NBSend, dest, info, mrs, CPtr::NULL, CPtr::NULL);
}

/// Signals a notification.
#[inline]
pub fn signal(notification: CPtr) {
    send(notification, MessageInfo(0), [0; 4]);
}

/// Receives from an endpoint (or the bound notification), keeping the caller in the reply object.
#[inline]
pub fn recv(source: CPtr, reply: CPtr) -> Received {
    exchange(Syscall::Recv, source, MessageInfo(0), [0; 4], reply, CPtr::NULL)
}

/// As [`recv`], but returns badge 0 at once if nothing is there.
#[inline]
pub fn nb_recv(source: CPtr, reply: CPtr) -> Received {
    exchange(Syscall::NBRecv, source, MessageInfo(0), [0; 4], reply, CPtr::NULL)
}

/// Answers the caller kept in `reply`, then receives with the same reply object.
#[inline]
pub fn reply_recv(source: CPtr, info: MessageInfo, mrs: FastRegisters, reply: CPtr) -> Received {
    exchange(Syscall::ReplyRecv, source, info, mrs, reply, CPtr::NULL)
}

/// Sends to `dest` without blocking (typically a reply capability), then receives with another reply object.
#[inline]
pub fn nb_send_recv(dest: CPtr, info: MessageInfo, mrs: FastRegisters, source: CPtr, reply: CPtr) -> Received {
    exchange(Syscall::NBSendRecv, source, info, mrs, reply, dest)
}

/// Waits for a signal; returns the notification word.
#[inline]
pub fn wait(notification: CPtr) -> u64 {
    exchange(Syscall::Wait, notification, MessageInfo(0), [0; 4], CPtr::NULL, CPtr::NULL).badge
}

/// The notification word if it is active, else 0.
#[inline]
pub fn poll(notification: CPtr) -> u64 {
    exchange(Syscall::NBWait, notification, MessageInfo(0), [0; 4], CPtr::NULL, CPtr::NULL).badge
}

/// Gives up the rest of the current refill.
#[inline]
pub fn yield_now() {
    exchange(Syscall::Yield, CPtr::NULL, MessageInfo(0), [0; 4], CPtr::NULL, CPtr::NULL);
}
