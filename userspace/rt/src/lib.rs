//! Runtime of user-level servers: entry, heap, logging, panic reports, capabilities, event loop.
//!
//! A server is a bare-metal binary with one thread:
//!
//! ```ignore
//! #![cfg_attr(target_os = "none", no_std, no_main)]
//! #[cfg(target_os = "none")]
//! mod server {
//!     use smi_rt::serve::{Event, Loop, Message};
//!
//!     smi_rt::entry!(main);
//!     fn main(env: &'static smi_rt::Env) -> ! {
//!         let mut events = Loop::new(env);
//!         let mut message = Message::new();
//!         let mut greeter = Greeter::default();
//!         loop {
//!             match events.next(&mut message) {
//!                 Event::Call(call) => events.dispatch(call, &message, |incoming, reply| {
//!                     ipc_api::greeter::dispatch(&mut greeter, incoming, reply)
//!                 }),
//!                 Event::Signals(bits) => defmt::info!("signals {:x}", bits),
//!             }
//!         }
//!     }
//! }
//! #[cfg(not(target_os = "none"))]
//! fn main() {}
//! ```
//!
//! * [`Env`]: what the manifest gives this server, by name: channels, device registers, interrupt, DMA memory;
//! * [`serve`]: the event loop over the server's endpoint and notification, with deferred replies;
//! * [`transport`]: client stubs over a channel (`env.channel("timer")?.transport()`);
//! * [`cap`]: free slots, minting badged copies of the own endpoint, capabilities received;
//! * [`time`]: the clock; [`notify`](notify()) and [`ack`]: signals and interrupts;
//! * logging is `defmt::{info, warn, error, debug}` (depend on `defmt` directly); panics print plain text and a back-trace, and the root task
//!   restarts the server.
//!
//! `unsafe` is confined to `cell`, `mem`, `heap`, `session`, `start`, `panic` and `log`.
#![cfg_attr(not(test), no_std)]

pub mod frame;
pub mod replies;
pub mod slots;

#[cfg(target_os = "none")]
pub mod cap;
#[cfg(target_os = "none")]
mod cell;
#[cfg(target_os = "none")]
pub mod heap;
#[cfg(target_os = "none")]
pub mod log;
#[cfg(target_os = "none")]
mod mem;
#[cfg(target_os = "none")]
pub mod panic;
#[cfg(target_os = "none")]
pub mod serve;
#[cfg(target_os = "none")]
pub mod session;
#[cfg(target_os = "none")]
pub mod start;
pub mod time;
#[cfg(target_os = "none")]
pub mod transport;

pub use smi_env::{self as env, CPtr, Channel, Device, Dma, Env, EnvError, Irq, Region, Role};
pub use smi_sys as sys;

/// Signals a channel's other end. Never blocks.
#[cfg(target_os = "none")]
#[inline]
pub fn notify(channel: &Channel) {
    smi_sys::signal(channel.signal);
}

/// Lets an interrupt come again. The device must have been silenced first.
#[cfg(target_os = "none")]
pub fn ack(irq: &Irq) {
    if let Err(error) = smi_sys::invoke::irq_ack(irq.handler) {
        panic!("interrupt not acknowledged: {error}");
    }
}

/// Declares the server's main function, `fn(&'static Env) -> !`. Bare-metal target only.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        ::core::arch::global_asm!(
            ".pushsection .text._start, \"ax\"",
            ".globl _start",
            "_start:",
            "mov x29, xzr", // the end of the frame chain
            "mov x30, xzr",
            "bl smi_main",
            ".popsection",
        );

        #[doc(hidden)]
        #[unsafe(no_mangle)]
        extern "C" fn smi_main(env: usize) -> ! {
            let main: fn(&'static $crate::Env) -> ! = $main;
            $crate::start::run(env, main)
        }
    };
}
