//! The README's example: a server of the greeter interface.
//!
//! `main` serves it to the cluster under the name `greeter`, or visits it, as its argument in the manifest says. The
//! server is the same whoever calls: a program of this node, one of another, or a test.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

use ipc_api::greeter::{Error, Server};
use ipc_wire::{Answer, Caller, Str};

/// Says hello.
#[derive(Clone, Copy, Debug, Default)]
pub struct Greeter;

impl Server for Greeter {
    fn greet(&mut self, _caller: Caller, name: &str) -> Answer<Str<64>, Error> {
        if name.is_empty() {
            return Err(Error::Nameless.into());
        }
        Ok(Str::format(format_args!("Hello, {name}!")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_api::greeter::{self, Client};
    use ipc_mock::Loopback;
    use ipc_wire::CallError;

    #[test]
    fn it_greets() {
        let mut client = Client::new(Loopback::new(|call, reply| greeter::dispatch(&mut Greeter, call, reply)));
        assert_eq!(client.greet("Ada").map(|text| text.as_str() == "Hello, Ada!"), Ok(true));
        assert_eq!(client.greet(""), Err(CallError::Server(Error::Nameless)));
        let longest = "a name of exactly 32 characters!";
        assert_eq!(client.greet(longest).expect("fits").as_str(), format!("Hello, {longest}!"));
    }
}
