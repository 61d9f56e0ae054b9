//! System calls with all their registers, messages, and what a thread needs to know of itself.
//!
//! TPIDR_EL0 of every thread of this program holds the address of its IPC buffer.

use core::arch::asm;
use core::fmt::{self, Write};
use kernel_abi::{IpcBuffer, Label, MessageInfo, Syscall};

/// Executes `svc #0` with these registers (x7 is the call's number); returns x0..x8 afterwards.
pub fn svc(number: i64, registers: [u64; 9]) -> [u64; 9] {
    let mut r = registers;
    r[7] = number as u64;
    // SAFETY: a system call may change registers x0-x5 and memory this program has mapped or shared, as declared.
    unsafe {
        asm!("svc #0",
            inlateout("x0") r[0], inlateout("x1") r[1], inlateout("x2") r[2], inlateout("x3") r[3],
            inlateout("x4") r[4], inlateout("x5") r[5], inlateout("x6") r[6], inlateout("x7") r[7],
            inlateout("x8") r[8], options(nostack));
    }
    r
}

/// What a receive or call delivered.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    /// Badge, or notification word.
    pub badge: u64,
    /// Label.
    pub label: u64,
    /// Message registers delivered.
    pub length: usize,
    /// Capabilities delivered.
    pub extra_caps: usize,
    /// Which of them arrived as a badge.
    pub unwrapped: u64,
    /// The raw message info.
    pub info: u64,
    mrs: [u64; 4],
}

impl Message {
    fn from_registers(r: [u64; 9]) -> Self {
        let info = MessageInfo(r[1]);
        Self {
            badge: r[0],
            label: info.label(),
            length: info.length(),
            extra_caps: info.extra_caps(),
            unwrapped: info.caps_unwrapped(),
            info: r[1],
            mrs: [r[2], r[3], r[4], r[5]],
        }
    }

    /// Message register `i`; those from 4 on only until the next message.
    pub fn word(&self, i: usize) -> u64 {
        if i < 4 { self.mrs[i] } else { buffer().msg[i] }
    }
}

/// Makes `address` this thread's IPC buffer as far as this program is concerned.
pub fn set_ipc_buffer(address: u64) {
    // SAFETY: the register is this program's own.
    unsafe { asm!("msr tpidr_el0, {0}", in(reg) address, options(nomem, nostack)) };
}

/// This thread's IPC buffer.
pub fn buffer() -> &'static mut IpcBuffer {
    let address: u64;
    // SAFETY: the register is set before anything else in every thread; buffers are not shared between threads, and no
    // two references to one are used at a time.
    unsafe {
        asm!("mrs {0}, tpidr_el0", out(reg) address, options(nomem, nostack));
        &mut *(address as *mut IpcBuffer)
    }
}

/// Puts a message into the IPC buffer and the first four words into registers x2..x5.
fn marshal(label: u64, words: &[u64], caps: &[u64]) -> (u64, [u64; 4]) {
    let mut fast = [0; 4];
    let n = words.len().min(4);
    fast[..n].copy_from_slice(&words[..n]);
    if words.len() > 4 {
        buffer().msg[4..words.len()].copy_from_slice(&words[4..]);
    }
    if !caps.is_empty() {
        buffer().caps_or_badges[..caps.len()].copy_from_slice(caps);
    }
    (MessageInfo::new(label, 0, caps.len(), words.len()).0, fast)
}

fn send_registers(dest: u64, label: u64, words: &[u64], caps: &[u64]) -> [u64; 9] {
    let (info, mr) = marshal(label, words, caps);
    [dest, info, mr[0], mr[1], mr[2], mr[3], 0, 0, 0]
}

/// Call.
pub fn call(dest: u64, label: u64, words: &[u64], caps: &[u64]) -> Message {
    Message::from_registers(svc(Syscall::Call.raw(), send_registers(dest, label, words, caps)))
}

/// Call of a kernel operation.
pub fn invoke(object: u64, label: Label, words: &[u64], caps: &[u64]) -> Message {
    call(object, label.raw(), words, caps)
}

/// Send.
pub fn send(dest: u64, label: u64, words: &[u64], caps: &[u64]) {
    svc(Syscall::Send.raw(), send_registers(dest, label, words, caps));
}

/// NBSend.
pub fn nb_send(dest: u64, label: u64, words: &[u64], caps: &[u64]) {
    svc(Syscall::NBSend.raw(), send_registers(dest, label, words, caps));
}

/// Signal: a Send with an empty message info.
pub fn signal(notification: u64) {
    svc(Syscall::Send.raw(), [notification, 0, 0, 0, 0, 0, 0, 0, 0]);
}

/// Recv with a reply object.
pub fn recv(source: u64, reply: u64) -> Message {
    Message::from_registers(svc(Syscall::Recv.raw(), [source, 0, 0, 0, 0, 0, reply, 0, 0]))
}

/// NBRecv.
pub fn nb_recv(source: u64, reply: u64) -> Message {
    Message::from_registers(svc(Syscall::NBRecv.raw(), [source, 0, 0, 0, 0, 0, reply, 0, 0]))
}

/// Wait.
pub fn wait(source: u64) -> Message {
    Message::from_registers(svc(Syscall::Wait.raw(), [source, 0, 0, 0, 0, 0, 0, 0, 0]))
}

/// NBWait (poll).
pub fn nb_wait(source: u64) -> Message {
    Message::from_registers(svc(Syscall::NBWait.raw(), [source, 0, 0, 0, 0, 0, 0, 0, 0]))
}

/// ReplyRecv.
pub fn reply_recv(source: u64, reply: u64, label: u64, words: &[u64], caps: &[u64]) -> Message {
    let (info, mr) = marshal(label, words, caps);
    Message::from_registers(svc(Syscall::ReplyRecv.raw(), [source, info, mr[0], mr[1], mr[2], mr[3], reply, 0, 0]))
}

/// NBSendRecv: sends to `dest`, then receives from `source` with `reply`.
pub fn nb_send_recv(dest: u64, source: u64, reply: u64, label: u64, words: &[u64]) -> Message {
    let (info, mr) = marshal(label, words, &[]);
    Message::from_registers(svc(Syscall::NBSendRecv.raw(), [source, info, mr[0], mr[1], mr[2], mr[3], reply, 0, dest]))
}

/// NBSendWait: sends to `dest`, then waits on `source`.
pub fn nb_send_wait(dest: u64, source: u64, label: u64, words: &[u64]) -> Message {
    let (info, mr) = marshal(label, words, &[]);
    Message::from_registers(svc(Syscall::NBSendWait.raw(), [source, info, mr[0], mr[1], mr[2], mr[3], dest, 0, 0]))
}

/// Yield.
pub fn yield_now() {
    svc(Syscall::Yield.raw(), [0; 9]);
}

/// DebugCapIdentify.
pub fn identify(cap: u64) -> u64 {
    svc(Syscall::DebugCapIdentify.raw(), [cap, 0, 0, 0, 0, 0, 0, 0, 0])[0]
}

/// Names a thread.
pub fn name_thread(tcb: u64, name: &str) {
    let bytes = &mut buffer().msg[..8];
    for (i, word) in bytes.iter_mut().enumerate() {
        let mut chunk = [0u8; 8];
        for (j, slot) in chunk.iter_mut().enumerate().take(if i == 7 { 7 } else { 8 }) {
            *slot = name.as_bytes().get(i * 8 + j).copied().unwrap_or(0);
        }
        *word = u64::from_le_bytes(chunk);
    }
    svc(Syscall::DebugNameThread.raw(), [tcb, 0, 0, 0, 0, 0, 0, 0, 0]);
}

/// Stops the machine.
pub fn halt() -> ! {
    loop {
        svc(Syscall::DebugHalt.raw(), [0; 9]);
    }
}

struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            svc(Syscall::DebugPutChar.raw(), [u64::from(byte), 0, 0, 0, 0, 0, 0, 0, 0]);
        }
        Ok(())
    }
}

/// Prints formatted text; for the macros.
pub fn print(args: fmt::Arguments<'_>) {
    let _ = Console.write_fmt(args);
}

/// The virtual counter; a fault in threads that may not read it.
pub fn counter() -> u64 {
    let ticks: u64;
    // SAFETY: reads a register.
    unsafe { asm!("isb", "mrs {0}, cntvct_el0", out(reg) ticks, options(nomem, nostack)) };
    ticks
}

/// Ticks per second of the counter; a fault in threads that may not read it.
pub fn counter_frequency() -> u64 {
    let hz: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mrs {0}, cntfrq_el0", out(reg) hz, options(nomem, nostack)) };
    hz
}
