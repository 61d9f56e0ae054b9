//! Tests the user-level runtime and the root task from inside the machine: `images/selftest.toml`.
//!
//! One program in two roles, by its argument: `server` does what it is asked, up to failing in every way; `client` asks, checks, prints
//! `test NAME ... ok` or `FAILED` for each check, and halts the machine.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod client;
#[cfg(target_os = "none")]
mod memory;
#[cfg(target_os = "none")]
mod server;

#[cfg(target_os = "none")]
mod start {
    smi_rt::entry!(main);

    fn main(env: &'static smi_rt::Env) -> ! {
        match env.args() {
            "client" => super::client::run(env),
            "server" => super::server::run(env),
            other => panic!("no such role: {other}"),
        }
    }
}

#[cfg(not(target_os = "none"))]
fn main() {}
