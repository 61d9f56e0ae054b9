//! The one entry point: cargo xtask demo, test, run, boot, log, sim, bench.

fn main() {}
