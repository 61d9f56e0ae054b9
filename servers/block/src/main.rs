//! virtio-blk driver.

fn main() {}
