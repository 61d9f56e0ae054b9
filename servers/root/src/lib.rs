//! Root task and supervisor: starts servers from the manifest, reports faults, restarts.
//!
//! The root task owns all memory and every device of the node. It reads the boot archive that is embedded in it ([`archive`]), whose
//! [`manifest`] names the servers and what each of them is given, and starts each in an address space and capability space of its own with
//! exactly that. When a server fails, it prints who, where and how, answers the callers that the server still held, releases all that it
//! owned, and starts it again ([`policy`]).
//!
//! This library is the part that needs no machine, and is tested on the host: formats, checks, and plans. The binary beside it carries
//! the plans out with kernel invocations.
//!
//! * [`archive`], [`manifest`]: what the image builder packs, checked again at run time;
//! * [`elf`]: a program's segments, checked (no page both writable and executable);
//! * [`plan`]: all objects, mappings and slots of one server, computed before anything is made;
//! * [`untyped`]: splitting of physical memory;
//! * [`policy`]: when a failed server is started again;
//! * [`report`]: exception syndromes in words.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod archive;
pub mod elf;
pub mod manifest;
pub mod plan;
pub mod policy;
pub mod report;
pub mod untyped;
