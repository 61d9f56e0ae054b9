//! SMI manager: directory replica, link endpoint, remote capabilities.

fn main() {}
