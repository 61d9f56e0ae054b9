//! Virtual sockets, service addresses and routing.

fn main() {}
