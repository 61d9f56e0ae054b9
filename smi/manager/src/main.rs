//! SMI manager of a node: the shell around [`smi_manager::Manager`].
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod shell;

#[cfg(target_os = "none")]
smi_rt::entry!(shell::main);

#[cfg(not(target_os = "none"))]
fn main() {}
