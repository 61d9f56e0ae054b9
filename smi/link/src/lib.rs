//! Node-to-node link: authenticated, reliable, ordered streams over raw Ethernet (sans-IO).
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
