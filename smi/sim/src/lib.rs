//! Deterministic simulator of whole clusters (DESIGN 7).
//!
//! * [`engine`]: virtual time, machines with clocks, network, disks; generic over what runs on it.
//! * [`directory`]: the directory's core (`smi-core`) as an actor. Other sans-IO cores become actors beside it.
//! * [`workload`], [`chaos`]: what clients ask and what goes wrong, drawn from the seed.
//! * [`oracle`]: what must hold, one file each.
//! * [`campaign`]: one seed from start to verdict; [`cli`]: many of them, or one with a trace.
//!
//! A seed replays exactly: `--seed S --trace`. Planted bugs (`--plant NAME`) prove that the oracles see what they should.
#![forbid(unsafe_code)]

pub mod campaign;
pub mod chaos;
pub mod cli;
pub mod directory;
pub mod engine;
pub mod oracle;
pub mod prng;
pub mod workload;

pub use cli::run_cli;
