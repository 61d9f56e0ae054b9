//! The end: an invariant is broken or the kernel itself has faulted. Says where and what, then halts the node, so that the
//! cluster takes over: it never limps on.

use crate::lock;
use crate::percore::PerCore;
use crate::{console, kprint, kprintln, psci, smp};
use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering};

/// Whether a panic switches the machine off (boot argument `kernel.panic=off`) instead of spinning.
static SWITCH_OFF: AtomicBool = AtomicBool::new(false);

/// Decides what happens after the last message.
pub fn set_switch_off(off: bool) {
    SWITCH_OFF.store(off, Ordering::Relaxed);
}

/// What happens after the last message.
pub fn switch_off() -> bool {
    SWITCH_OFF.load(Ordering::Relaxed)
}

/// Registers of a faulted kernel as `fatal_common` stores them: x0..=x30, SP.
#[repr(C)]
pub struct FatalFrame {
    x: [u64; 31],
    sp: u64,
}

const _: () = assert!(size_of::<FatalFrame>() == 256);

/// What each vector is, for the message.
const KINDS: [&str; 16] = [
    "exception on SP_EL0",
    "interrupt on SP_EL0",
    "FIQ on SP_EL0",
    "SError on SP_EL0",
    "exception in the kernel",
    "interrupt in the kernel",
    "FIQ in the kernel",
    "SError in the kernel",
    "user exception",
    "user interrupt",
    "FIQ",
    "user SError",
    "AArch32 exception",
    "AArch32 interrupt",
    "AArch32 FIQ",
    "AArch32 SError",
];

/// The vectors' last resort.
pub extern "C" fn kernel_fault(kind: u64, frame: &FatalFrame) -> ! {
    let (esr, far, elr): (u64, u64, u64);
    // SAFETY: reads registers.
    unsafe {
        asm!("mrs {0}, esr_el1", "mrs {1}, far_el1", "mrs {2}, elr_el1", out(reg) esr, out(reg) far, out(reg) elr,
            options(nomem, nostack, preserves_flags));
    }
    begin();
    kprintln!("\nkernel panic: {} at {elr:#x}, ESR {esr:#x}, FAR {far:#x}", KINDS[kind as usize & 15]);
    for (i, x) in frame.x.iter().enumerate() {
        kprint!("x{i:<2} {x:#018x}{}", if i % 4 == 3 { '\n' } else { ' ' });
    }
    kprintln!("sp  {:#018x}", frame.sp);
    back_trace(frame.x[29]);
    end()
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let frame: u64;
    // SAFETY: reads the frame pointer.
    unsafe { asm!("mov {0}, x29", out(reg) frame, options(nomem, nostack, preserves_flags)) };
    begin();
    match info.location() {
        Some(at) => kprintln!("\nkernel panic at {}:{}: {}", at.file(), at.line(), info.message()),
        None => kprintln!("\nkernel panic: {}", info.message()),
    }
    back_trace(frame);
    end()
}

/// The first core to panic speaks; a second one, or a panic in the panic, only stops.
fn begin() {
    if smp::claim_panic() {
        smp::stop();
    }
}

/// Return addresses along the frame pointers, as far as they stay on this core's stacks.
fn back_trace(mut frame: u64) {
    let base = core::ptr::addr_of!(crate::layout::CORE_STACKS) as u64;
    let stacks = base..base + (crate::layout::MAX_CORES * crate::layout::CORE_STACK_SIZE) as u64 - 16;
    kprint!("called from:");
    for _ in 0..32 {
        if !stacks.contains(&frame) || !frame.is_multiple_of(16) {
            break;
        }
        // SAFETY: inside the stacks and aligned; a guard page cannot be meant, for frames are written before linked.
        let [next, ret] = unsafe { *(frame as *const [u64; 2]) };
        kprint!(" {ret:#x}");
        if next <= frame {
            break;
        }
        frame = next;
    }
    kprintln!();
}

/// Names the core and its thread, then halts the node.
fn end() -> ! {
    let per_core: *const PerCore;
    // SAFETY: TPIDR_EL1 points at this core's block from the first instructions on.
    let core = unsafe {
        asm!("mrs {0}, tpidr_el1", out(reg) per_core, options(nomem, nostack, preserves_flags));
        (*per_core).core as usize
    };
    kprint!("core {core}, thread '");
    // SAFETY: this core holds the lock, or it panics outside a kernel entry and nobody else will go on: other cores stop as
    // soon as they want the lock or take an interrupt. Only names are read.
    let kernel = unsafe { &*lock::state_of_the_dead() };
    kernel.current_name(core, &mut console::put);
    kprintln!("'\nnode halted");
    if switch_off() {
        psci::system_off();
    }
    smp::stop()
}
