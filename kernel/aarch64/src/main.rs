//! The kernel on AArch64: boot, traps, MMU, interrupt controllers, timer.

fn main() {}
