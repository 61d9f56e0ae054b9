//! Local store: checksummed extents with a write-ahead log on a block device (sans-IO).
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
