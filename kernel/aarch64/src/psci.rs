//! Power State Coordination Interface (Arm DEN 0022): starting cores and switching the machine off.

use bsp_board::PsciMethod;
use core::arch::asm;
use core::sync::atomic::{AtomicU8, Ordering};

const SYSTEM_OFF: u64 = 0x8400_0008;
const CPU_ON: u64 = 0xc400_0003;

/// 0: no PSCI, 1: HVC, 2: SMC.
static METHOD: AtomicU8 = AtomicU8::new(0);

/// Why a core did not start: PSCI's negative code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PsciError(pub i32);

/// Notes how PSCI is called, from the device tree.
pub fn init(method: Option<PsciMethod>) {
    let method = match method {
        None => 0,
        Some(PsciMethod::Hvc) => 1,
        Some(PsciMethod::Smc) => 2,
    };
    METHOD.store(method, Ordering::Relaxed);
}

/// Calls function `id`; `None` if there is no PSCI.
fn call(id: u64, args: [u64; 3]) -> Option<i32> {
    let mut result = id;
    let [a, b, c] = args;
    match METHOD.load(Ordering::Relaxed) {
        // SAFETY: the SMC calling convention (Arm DEN 0028) clobbers at most x0-x17; the device tree promises that the
        // firmware answers this conduit.
        1 => unsafe {
            asm!("hvc #0", inout("x0") result, inout("x1") a => _, inout("x2") b => _, inout("x3") c => _,
                clobber_abi("C"));
        },
        // SAFETY: as above.
        2 => unsafe {
            asm!("smc #0", inout("x0") result, inout("x1") a => _, inout("x2") b => _, inout("x3") c => _,
                clobber_abi("C"));
        },
        _ => return None,
    }
    Some(result as i32)
}

/// Starts the core with the given affinity at physical `entry` with `context` in x0.
pub fn cpu_on(mpidr: u64, entry: u64, context: u64) -> Result<(), PsciError> {
    match call(CPU_ON, [mpidr, entry, context]) {
        Some(0) => Ok(()),
        Some(code) => Err(PsciError(code)),
        // NOT_SUPPORTED
        None => Err(PsciError(-1)),
    }
}

/// Switches the machine off. Returns only if the firmware cannot.
pub fn system_off() {
    let _ = call(SYSTEM_OFF, [0; 3]);
}
