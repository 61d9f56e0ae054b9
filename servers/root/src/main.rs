//! Root task and supervisor: starts servers from the manifest, reports faults, restarts.

fn main() {}
