//! virtio-net driver.

fn main() {}
