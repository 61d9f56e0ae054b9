//! The kernel on AArch64: boot, traps, MMU, interrupt controllers, timer.
//!
//! All decisions are kernel-core's; this crate is what must be done by this architecture, and the only kernel crate (with
//! kernel-core's window on objects) that contains `unsafe`. Bottom up:
//!
//! * `asm/boot.s`, [`layout`], [`mmu`]: from the firmware to Rust in the high half of the address space;
//! * `asm/vectors.s`, [`trap`], [`fpu`], [`lock`]: from user mode to kernel-core and back;
//! * [`gic`], [`timer`], [`cache`], [`console`], [`psci`]: devices and system registers, behind [`machine`];
//! * [`boot`], [`elf`]: reading the device tree, loading the root task, starting cores;
//! * [`panic`](mod@panic): halting the node.
//!
//! Boards: nothing here knows one by name; `bsp-board` describes what the device tree says.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(any(target_os = "none", test))]
mod elf;

#[cfg(target_os = "none")]
mod boot;
#[cfg(target_os = "none")]
mod cache;
#[cfg(target_os = "none")]
mod console;
#[cfg(target_os = "none")]
mod fpu;
#[cfg(target_os = "none")]
mod gic;
#[cfg(target_os = "none")]
mod layout;
#[cfg(target_os = "none")]
mod lock;
#[cfg(target_os = "none")]
mod machine;
#[cfg(target_os = "none")]
mod mmu;
#[cfg(target_os = "none")]
mod panic;
#[cfg(target_os = "none")]
mod percore;
#[cfg(target_os = "none")]
mod psci;
#[cfg(target_os = "none")]
mod smp;
#[cfg(target_os = "none")]
mod timer;
#[cfg(target_os = "none")]
mod trap;

#[cfg(not(target_os = "none"))]
fn main() {}
