//! The end of a server: what, where and by which way, in plain text; then a fault that makes the root task restart it.

use core::fmt::Write;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use smi_sys::debug::Console;

/// Immediate of the `brk` that ends a panicking server: tells the root task that the report is already out.
pub const PANIC_BRK: u32 = 0x5A1;
/// Most frames of a back-trace.
const MAX_FRAMES: usize = 24;

static NAME: AtomicPtr<u8> = AtomicPtr::new(core::ptr::null_mut());
static NAME_LEN: AtomicUsize = AtomicUsize::new(0);
static STACK: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
static PANICKING: AtomicBool = AtomicBool::new(false);
static HALTS: AtomicBool = AtomicBool::new(false);

/// Says who we are and where the stack is, for reports.
pub fn identify(name: &'static str, stack: core::ops::Range<usize>) {
    NAME.store(name.as_ptr().cast_mut(), Ordering::Relaxed);
    NAME_LEN.store(name.len(), Ordering::Relaxed);
    STACK[0].store(stack.start, Ordering::Relaxed);
    STACK[1].store(stack.end, Ordering::Relaxed);
}

/// From here on the end of this process is the end of the machine: for the root task, which nobody restarts.
pub fn halt_machine_at_end() {
    HALTS.store(true, Ordering::Relaxed);
}

fn name() -> &'static str {
    let pointer = NAME.load(Ordering::Relaxed);
    if pointer.is_null() {
        return "?";
    }
    // SAFETY: `identify` stored pointer and length of a `&'static str`, in this one thread.
    unsafe { core::str::from_utf8_unchecked(core::slice::from_raw_parts(pointer, NAME_LEN.load(Ordering::Relaxed))) }
}

/// Calls `each` with the return addresses on the stack, innermost first.
#[inline(never)]
pub fn backtrace(mut each: impl FnMut(usize)) {
    let mut frame: usize;
    // SAFETY: reads the frame pointer.
    unsafe { core::arch::asm!("mov {}, x29", out(reg) frame, options(nomem, nostack, preserves_flags)) };
    let (low, high) = (STACK[0].load(Ordering::Relaxed), STACK[1].load(Ordering::Relaxed));
    for _ in 0..MAX_FRAMES {
        if frame < low || frame + 16 > high || !frame.is_multiple_of(8) {
            return;
        }
        // SAFETY: both words lie in the mapped stack by the check above.
        let (next, address) = unsafe { (*(frame as *const usize), *((frame + 8) as *const usize)) };
        if address == 0 {
            return;
        }
        each(address);
        if next <= frame {
            return;
        }
        frame = next;
    }
}

/// Ends the server: the root task reports and restarts it as the manifest says.
pub fn abort() -> ! {
    if HALTS.load(Ordering::Relaxed) {
        smi_sys::debug::halt();
    }
    loop {
        // SAFETY: raises an exception that the kernel delivers to the root task.
        unsafe { core::arch::asm!("brk #{}", const PANIC_BRK, options(nomem, nostack)) }
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    if PANICKING.swap(true, Ordering::Relaxed) {
        abort();
    }
    crate::log::unbuffered();
    let mut out = Console;
    let _ = write!(out, "\n{}: panic: {}", name(), info.message());
    if let Some(location) = info.location() {
        let _ = write!(out, "\n{}:   at {location}", name());
    }
    let _ = write!(out, "\n{}:   back-trace:", name());
    backtrace(|address| {
        let _ = write!(out, " {address:#x}");
    });
    let _ = writeln!(out);
    abort()
}
