//! Replicated virtual files.

fn main() {}
