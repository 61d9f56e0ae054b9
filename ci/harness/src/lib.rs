//! Clusters of QEMU machines on one host: everything that the commands of `cargo xtask` share.
//!
//! Three layers, downwards only:
//! - what runs: [`build`] makes the images, [`setup`] installs what the host lacks, [`machine`] starts and faults one QEMU;
//! - what joins: `switch` connects NICs and the host's TAP and injects network faults, all inside a network namespace of our
//!   own (`netns`), so nothing here can reach a real network;
//! - what watches: `serial` and `log` decode what the nodes say, `load` keeps the history of a client, `timeline` narrates.
//!
//! `unsafe` has two addresses: [`process`] (a child's life is tied to ours) and `tap` (one `ioctl`).
#![deny(unsafe_code)]

pub mod build;
pub mod cluster;
pub mod load;
pub mod log;
pub mod machine;
pub mod netns;
pub mod process;
pub mod resp;
pub mod rng;
pub mod serial;
pub mod setup;
pub mod switch;
pub mod tap;
pub mod timeline;
pub mod trace;
