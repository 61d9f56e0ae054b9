//! A RESP database on virtual files and sockets.

fn main() {}
