//! Deadline service on the EL0 physical timer.

fn main() {}
