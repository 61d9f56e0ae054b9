//! PL011 driver and log multiplexer.

fn main() {}
