//! All interfaces of this system, compiled from `ipc/idl` at build time: one module each.
//!
//! A client makes `x::Client::new(transport)` and calls its methods; a server implements `x::Server` and hands what it
//! receives to `x::dispatch`. A method that cannot answer yet returns `Err(Refusal::Pending)`, and the server later
//! sends what `x::reply::method` encodes.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

use ipc_wire::{Interface, Label, Method};

include!(concat!(env!("OUT_DIR"), "/interfaces.rs"));

/// The interface and method a request label names.
pub fn find(label: u64) -> Option<(&'static Interface, &'static Method)> {
    let label = Label::from_bits(label);
    INTERFACES.iter().find_map(|interface| interface.method(label).map(|method| (*interface, method)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_lead_to_their_methods() {
        let (interface, method) = find(greeter::label::GREET).expect("known");
        assert_eq!((interface.name, method.name, method.idempotent), ("greeter", "greet", true));
        assert!(find(Label::new(greeter::ID, 4000).bits()).is_none());
        assert!(find(0).is_none());
    }

    #[test]
    fn released_shapes_are_kept() {
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../idl");
        let sources = idlc::read_directory(&directory).expect("interface files");
        let interfaces = idlc::check(&sources).expect("no mistakes");
        let locked = std::fs::read_to_string(directory.join("interfaces.lock")).expect("lock file");
        let errors = idlc::check_lock(&locked, &interfaces).err().unwrap_or_default();
        // New facts break nobody; `cargo run -p idlc -- lock` records them.
        let broken = errors.iter().filter(|error| !matches!(error, idlc::LockError::NotLocked(_)));
        let lines: Vec<String> = broken.map(ToString::to_string).collect();
        assert!(lines.is_empty(), "{}", lines.join("\n"));
    }
}
