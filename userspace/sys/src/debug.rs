//! The kernel's debug calls. Characters appear on the same UART as everything else, unbuffered.

use crate::{CPtr, MessageInfo, message};
use core::arch::asm;
use core::fmt;
use kernel_abi::Syscall;

/// Prints one byte on the kernel's console.
#[inline]
pub fn put_char(byte: u8) {
    // SAFETY: the call changes no register and no memory.
    unsafe { asm!("svc #0", in("x0") byte as u64, in("x7") Syscall::DebugPutChar.raw(), options(nostack)) }
}

/// Stops the machine; the boot harness sees a power-off.
pub fn halt() -> ! {
    loop {
        // SAFETY: the call does not return; if this kernel does not know it, the thread faults, which is as good an end.
        unsafe { asm!("svc #0", in("x7") Syscall::DebugHalt.raw(), options(nostack)) }
    }
}

/// Type tag of a capability (`kernel_abi::CapTag`); 0 for an empty slot.
pub fn cap_identify(cap: CPtr) -> u64 {
    let mut x0 = cap.0;
    // SAFETY: the call changes only x0.
    unsafe { asm!("svc #0", inout("x0") x0, in("x7") Syscall::DebugCapIdentify.raw(), options(nostack)) }
    x0
}

/// Names a thread in the kernel's reports. Names longer than 64 bytes are cut.
pub fn name_thread(tcb: CPtr, name: &str) {
    let name = &name.as_bytes()[..name.len().min(64)];
    message::with_buffer(|buffer| {
        let mut words = [0u64; 9];
        for (i, byte) in name.iter().enumerate() {
            words[i / 8] |= (*byte as u64) << (8 * (i % 8));
        }
        buffer.msg[..9].copy_from_slice(&words);
    });
    // SAFETY: the name at byte 8 of the IPC buffer ends with a zero (9 words for at most 64 bytes).
    unsafe {
        asm!("svc #0", in("x0") tcb.0, in("x1") MessageInfo(0).0, in("x7") Syscall::DebugNameThread.raw(), options(nostack))
    }
}

/// The kernel's console as a text sink, for panics and reports: `writeln!(Console, ...)`.
pub struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(put_char);
        Ok(())
    }
}
