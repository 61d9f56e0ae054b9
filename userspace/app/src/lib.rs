//! What a program of the cluster needs: give an interface a name, call another by its name.
//!
//! A server implements the generated trait and says
//!
//! ```ignore
//! smi_app::serve(env, "greeter", &greeter::INTERFACE, |call, reply| greeter::dispatch(&mut server, call, reply))
//! ```
//!
//! which answers calls of this node's programs and of every other node, and never returns. A client says
//!
//! ```ignore
//! let mut greeter = greeter::Client::new(smi_app::resolve(env, "greeter")?);
//! ```
//!
//! and does not learn where the server is. Both need a channel to the manager: for the server with a ring (its port),
//! for calls with `in buffer` or `out buffer` also with a session buffer.
//!
//! [`Port`] is the server's end of a port, without I/O of its own; the rest is glue to the runtime.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod port;
#[cfg(target_os = "none")]
mod program;

pub use port::{Port, Turn};
#[cfg(target_os = "none")]
pub use program::{Remote, resolve, serve, sleep_ns};

/// Bit that marks the token of a call from the cluster, in [`ipc_wire::Caller::token`].
pub const CLUSTER_TOKEN: u64 = 1 << 63;
/// Badge that such calls carry: they come through the manager, not through a channel.
pub const CLUSTER_BADGE: u64 = 0;
