//! Root task that tests the kernel from inside the machine.

fn main() {}
