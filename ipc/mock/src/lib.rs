//! In-process transport for testing IDL servers and clients, with fault injection.
//!
//! [`Loopback`] is a channel to a server in the same process; [`Faulty`] sits on any transport and loses, delays, or
//! restarts by a plan. Neither allocates nor knows about time; a plan made from a seed replays exactly.
//!
//! ```
//! use ipc_api::greeter::{self, Error, Server};
//! use ipc_mock::Loopback;
//! use ipc_wire::{Answer, Caller, Str};
//!
//! struct Greeter;
//! impl Server for Greeter {
//!     fn greet(&mut self, _caller: Caller, name: &str) -> Answer<Str<64>, Error> {
//!         if name.is_empty() {
//!             return Err(Error::Nameless.into());
//!         }
//!         Ok(Str::format(format_args!("Hello, {name}!")))
//!     }
//! }
//!
//! let channel = Loopback::new(|call, reply| greeter::dispatch(&mut Greeter, call, reply));
//! let mut client = greeter::Client::new(channel);
//! assert_eq!(client.greet("world").unwrap().as_str(), "Hello, world!");
//! assert_eq!(client.greet(""), Err(ipc_wire::CallError::Server(Error::Nameless)));
//! ```
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod faulty;
mod loopback;

pub use faulty::{Fault, Faulty, Restart};
pub use loopback::{Loopback, Service};
