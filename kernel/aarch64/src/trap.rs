//! From the vectors into kernel-core and back: takes the kernel lock, hands over the event, picks the context to resume.

use crate::lock::{Locked, lock};
use crate::{fpu, smp};
use core::mem::offset_of;
use kernel_core::{Context, UserFault, context};

core::arch::global_asm!(
    include_str!("asm/vectors.s"),
    elr = const context::ELR_OFFSET,
    tpidr = const context::TPIDR_OFFSET,
    fault_ip = const context::FAULT_IP_OFFSET,
    stack_top = const offset_of!(crate::percore::PerCore, stack_top),
    emergency_top = const offset_of!(crate::percore::PerCore, emergency_top),
    trap_syscall = sym trap_syscall,
    trap_fault = sym trap_fault,
    trap_serror = sym trap_serror,
    trap_irq = sym trap_irq,
    kernel_fault = sym crate::panic::kernel_fault,
);

/// Ends a kernel entry: waits while there is nothing to run, then returns the context to resume.
pub fn leave(mut kernel: Locked, core: usize) -> *mut Context {
    loop {
        if let Some(context) = kernel.current(core) {
            // SAFETY: it is the current thread's context; see `fpu::activate`.
            unsafe { fpu::activate(core, context.as_ptr()) };
            return context.as_ptr();
        }
        kernel = idle(kernel, core);
    }
}

/// Waits for an interrupt without the lock and handles it.
fn idle(kernel: Locked, core: usize) -> Locked {
    if smp::is_multicore() {
        fpu::park(core);
        smp::set_parked(core, true);
    }
    drop(kernel);
    // Interrupts are masked: a pending one ends the wait and is taken below.
    aarch64_cpu::asm::barrier::dsb(aarch64_cpu::asm::barrier::SY);
    aarch64_cpu::asm::wfi();
    smp::stop_if_panicked();
    let mut kernel = lock(core);
    if smp::is_multicore() {
        smp::set_parked(core, false);
    }
    take_interrupt(&mut kernel, core);
    kernel
}

/// Takes one pending interrupt from the controller, if any, and has it handled.
fn take_interrupt(kernel: &mut Locked, core: usize) {
    match kernel.machine.gic.take() {
        None => {}
        Some(smp::SGI_WAKE) if smp::is_multicore() => {}
        Some(smp::SGI_RESCHEDULE | smp::SGI_STALL) if smp::is_multicore() => {
            kernel.machine.gic.do_deferred(core);
            kernel.handle_reschedule(core);
        }
        Some(irq) => kernel.handle_interrupt(core, irq),
    }
}

extern "C" fn trap_syscall(core: usize) -> *mut Context {
    let mut kernel = lock(core);
    kernel.handle_syscall(core);
    leave(kernel, core)
}

extern "C" fn trap_irq(core: usize) -> *mut Context {
    let mut kernel = lock(core);
    take_interrupt(&mut kernel, core);
    leave(kernel, core)
}

/// Exception classes of ESR_EL1 (Arm ARM, D19.2.40).
mod class {
    pub const INSTRUCTION_ABORT: u64 = 0x20;
    pub const DATA_ABORT: u64 = 0x24;
}

extern "C" fn trap_fault(core: usize, esr: u64, far: u64, elr: u64) -> *mut Context {
    let fault = match esr >> 26 & 0x3f {
        class::INSTRUCTION_ABORT => UserFault::Vm { addr: elr, fsr: esr & 0xffff_ffff, instruction: true },
        class::DATA_ABORT => UserFault::Vm { addr: far, fsr: esr & 0xffff_ffff, instruction: false },
        _ => UserFault::Exception { number: esr & 0xffff_ffff, code: 0 },
    };
    let mut kernel = lock(core);
    kernel.handle_user_fault(core, fault);
    leave(kernel, core)
}

/// An asynchronous abort while user code ran: most likely its own store to a device; it is that thread's fault.
extern "C" fn trap_serror(core: usize, esr: u64, _far: u64, _elr: u64) -> *mut Context {
    let mut kernel = lock(core);
    kernel.handle_user_fault(core, UserFault::Exception { number: esr & 0xffff_ffff, code: 0 });
    leave(kernel, core)
}
