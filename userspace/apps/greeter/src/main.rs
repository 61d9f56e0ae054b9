//! The README's example: a server and a client of the greeter interface.

fn main() {}
