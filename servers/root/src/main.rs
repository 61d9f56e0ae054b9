//! Root task and supervisor: starts servers from the manifest, reports faults, restarts.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod boot;
#[cfg(target_os = "none")]
mod devices;
#[cfg(target_os = "none")]
mod fault;
#[cfg(target_os = "none")]
mod machine;
#[cfg(target_os = "none")]
mod process;
#[cfg(target_os = "none")]
mod supervisor;
#[cfg(target_os = "none")]
mod tick;

#[cfg(not(target_os = "none"))]
fn main() {}
