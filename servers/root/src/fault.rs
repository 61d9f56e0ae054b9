//! Reports of faults: who, what, where, registers and back-trace, in plain text.

use crate::boot::say;
use crate::process::Process;
use core::fmt::Write;
use root::report::{Syndrome, is_panic};
use smi_rt::CPtr;
use smi_rt::sys::abi::fault::{cap_fault, unknown_syscall, user_exception, vm_fault};
use smi_rt::sys::abi::{FaultType, UserContext};
use smi_rt::sys::call::Received;
use smi_rt::sys::debug::Console;
use smi_rt::sys::{invoke, message};

/// Most frames of a back-trace.
const MAX_FRAMES: usize = 24;

/// Prints what happened to a server. `scratch` is an empty slot.
pub fn report(name: &str, received: &Received, process: &Process, scratch: CPtr) {
    let mr = |i| message::register(received, i);
    match FaultType::from_raw(received.info.label()) {
        Some(FaultType::VMFault) => {
            let (ip, addr, esr) = (mr(vm_fault::IP), mr(vm_fault::ADDR), mr(vm_fault::FSR));
            say!("`{name}` failed at {ip:#x}: {} at address {addr:#x} (esr {esr:#x})", Syndrome(esr));
            if process.plan.is_below_stack(addr) {
                say!("  its stack is used up: `stack` in the manifest");
            }
        }
        Some(FaultType::UserException) => {
            let (ip, esr) = (mr(user_exception::FAULT_IP), mr(user_exception::NUMBER));
            if is_panic(esr) {
                say!("`{name}` ended itself (see its panic above)");
                return;
            }
            say!("`{name}` failed at {ip:#x}: {} (esr {esr:#x})", Syndrome(esr));
        }
        Some(FaultType::CapFault) => {
            let phase = if mr(cap_fault::IN_RECV_PHASE) != 0 { "receiving" } else { "sending" };
            say!("`{name}` failed at {:#x}: no capability {:#x} ({phase})", mr(cap_fault::IP), mr(cap_fault::ADDR));
        }
        Some(FaultType::UnknownSyscall) => {
            let number = mr(unknown_syscall::SYSCALL) as i64;
            say!("`{name}` failed at {:#x}: unknown system call {number}", mr(unknown_syscall::FAULT_IP));
        }
        other => say!("`{name}` failed: fault {} ({other:?})", received.info.label()),
    }
    match invoke::tcb_read_registers(process.tcb()) {
        Ok(context) => {
            registers(&context);
            backtrace(&context, process, scratch);
        }
        Err(error) => say!("  its registers cannot be read: {error}"),
    }
}

fn registers(c: &UserContext) {
    let x = [
        c.x0, c.x1, c.x2, c.x3, c.x4, c.x5, c.x6, c.x7, c.x8, c.x9, c.x10, c.x11, c.x12, c.x13, c.x14, c.x15, c.x16,
        c.x17, c.x18, c.x19, c.x20, c.x21, c.x22, c.x23, c.x24, c.x25, c.x26, c.x27, c.x28, c.x29, c.x30,
    ];
    say!("  pc {:#018x}  sp {:#018x}  spsr {:#x}", c.pc, c.sp, c.spsr);
    for (row, values) in x.chunks(4).enumerate() {
        let _ = write!(Console, "root:  ");
        for (i, value) in values.iter().enumerate() {
            let _ = write!(Console, " x{:<2} {value:#018x}", row * 4 + i);
        }
        let _ = writeln!(Console);
    }
}

/// Follows the chain of frame pointers through the server's memory.
fn backtrace(context: &UserContext, process: &Process, scratch: CPtr) {
    let _ = write!(Console, "root:   back-trace: {:#x} {:#x}", context.pc, context.x30);
    let mut frame = context.x29;
    for _ in 0..MAX_FRAMES {
        let (Some(next), Some(address)) = (process.peek(scratch, frame), process.peek(scratch, frame.wrapping_add(8)))
        else {
            break;
        };
        if address == 0 {
            break;
        }
        let _ = write!(Console, " {address:#x}");
        if next <= frame {
            break;
        }
        frame = next;
    }
    let _ = writeln!(Console);
}
