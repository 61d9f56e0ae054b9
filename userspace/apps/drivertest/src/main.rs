//! Tests and measures the drivers from inside the machine: `images/drivertest.toml`.
//!
//! One client of all drivers: checks what they do, kills them under load, and prints `test drivertest: NAME ... ok` or `FAILED`
//! for each check and `rate` lines for what it measured; then it halts the machine. The two NICs are wired to each other.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod checks;
#[cfg(target_os = "none")]
mod disk;
#[cfg(target_os = "none")]
mod wire;

#[cfg(target_os = "none")]
mod start {
    use crate::{checks::Checks, disk, wire};
    use core::fmt::Write;
    use smi_rt::sys::debug::{self, Console};

    smi_rt::entry!(main);

    fn main(env: &'static smi_rt::Env) -> ! {
        let mut checks = Checks::new(env);
        checks.console();
        disk::run(&mut checks);
        wire::run(&mut checks);
        let verdict = if checks.failed == 0 { "PASS" } else { "FAIL" };
        let _ = writeln!(Console, "drivertest: {verdict}, {} passed, {} failed", checks.passed, checks.failed);
        debug::halt()
    }
}

#[cfg(not(target_os = "none"))]
fn main() {}
