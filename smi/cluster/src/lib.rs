//! Cluster vocabulary: node ids, VIDs, cluster configuration, the identity block of a disk.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
