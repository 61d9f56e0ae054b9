//! Root task that tests the kernel from inside the machine.
//!
//! Prints one line per test and, at the end, `testroot: N passed, M failed`; then halts the machine. Uses nothing but the
//! binary interface (kernel-abi): own system-call stubs with every register visible, so that what is tested is the kernel
//! and not a library.
//!
//! * [`sys`]: system calls and messages;
//! * [`world`]: what the root task was given, object allocation, threads; everything a test makes is revoked after it;
//! * [`report`]: outcome of a check;
//! * [`measure`]: costs, on request;
//! * `tests`: one file per kind of kernel object.
//!
//! A thread of the lowest priority ends the run if a test takes longer than [`WATCHDOG_SECONDS`].
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
fn main() {}

#[cfg(target_os = "none")]
#[macro_use]
mod report;
#[cfg(target_os = "none")]
mod measure;
#[cfg(target_os = "none")]
mod sys;
#[cfg(target_os = "none")]
mod tests;
#[cfg(target_os = "none")]
mod world;

#[cfg(target_os = "none")]
mod bare {
    use super::*;
    use core::sync::atomic::{AtomicU64, Ordering};
    use kernel_abi::BootInfo;
    use world::World;

    /// Seconds a single test may take before the run is given up.
    const WATCHDOG_SECONDS: u64 = 100;

    /// Number of the test that runs, for the watchdog.
    static RUNNING: AtomicU64 = AtomicU64::new(0);

    // The kernel starts us with x0 = address of the boot info and no stack.
    core::arch::global_asm!(
        ".section .text._start, \"ax\"",
        ".global _start",
        "_start:",
        "adrp x1, {stack}",
        "add x1, x1, :lo12:{stack}",
        "add sp, x1, #{size}",
        "mov x29, xzr",
        "mov x30, xzr",
        "b {main}",
        stack = sym STACK,
        size = const STACK_SIZE,
        main = sym main,
    );

    const STACK_SIZE: usize = 0x8000;
    #[repr(C, align(16))]
    struct Stack([u8; STACK_SIZE]);
    static mut STACK: Stack = Stack([0; STACK_SIZE]);

    extern "C" fn main(bootinfo: *const BootInfo) -> ! {
        // SAFETY: the kernel maps the boot info there (checked by the first test as far as possible) and never changes it.
        let info = unsafe { &*bootinfo };
        sys::set_ipc_buffer(info.ipc_buffer);
        println!("testroot: started, {} cores", info.num_nodes);
        let mut world = World::new(info);
        let selected = option_env!("TESTROOT_ONLY").unwrap_or("");
        world.start_helpers(watchdog);
        let (mut passed, mut failed) = (0, 0);
        for (name, test) in tests::ALL {
            if !name.contains(selected) {
                continue;
            }
            RUNNING.fetch_add(1, Ordering::Relaxed);
            let outcome = test(&mut world);
            let outcome = world.clean_up().and(outcome);
            match outcome {
                Ok(()) => {
                    passed += 1;
                    println!("test {name} ... ok");
                }
                Err(fail) => {
                    failed += 1;
                    println!("test {name} ... FAILED at {fail}");
                }
            }
        }
        if measure::wanted(&world) {
            RUNNING.fetch_add(1, Ordering::Relaxed);
            if let Err(fail) = measure::run(&mut world) {
                println!("measure: FAILED at {fail}");
            }
        }
        finish(passed, failed)
    }

    fn finish(passed: usize, failed: usize) -> ! {
        println!("testroot: {passed} passed, {failed} failed");
        sys::halt()
    }

    /// Runs when nobody else wants to: if that is so for long in one test, the test hangs.
    extern "C" fn watchdog(_: u64) -> ! {
        let hz = sys::counter_frequency();
        loop {
            let test = RUNNING.load(Ordering::Relaxed);
            let since = sys::counter();
            while RUNNING.load(Ordering::Relaxed) == test {
                if sys::counter() - since > WATCHDOG_SECONDS * hz {
                    let name = tests::ALL.get((test - 1) as usize).map_or("?", |t| t.0);
                    println!("test {name} ... FAILED: still not done after {WATCHDOG_SECONDS} s");
                    finish(test as usize - 1, 1);
                }
            }
        }
    }

    #[panic_handler]
    fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
        println!("testroot: {info}");
        sys::halt()
    }
}
