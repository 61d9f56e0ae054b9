//! The defmt logger: one record per message, to the console server's ring, or by the kernel's debug calls while there is none.
//!
//! Never blocks: a record that finds the ring full is counted and dropped, and the count is told with the next one that fits.

use crate::cell::Local;
use crate::frame::Frame;
use core::ptr::NonNull;
use ipc_ring::{Duplex, PushError, Side};
use smi_env::{Channel, Env};
use smi_sys::debug;

struct State {
    source: u8,
    frame: Frame,
    encoder: defmt::Encoder,
    console: Option<(Duplex<'static>, Channel)>,
    dropped: u32,
}

static STATE: Local<State> =
    Local::new(State { source: 0, frame: Frame::new(), encoder: defmt::Encoder::new(), console: None, dropped: 0 });

/// Name of the server that takes logs.
const CONSOLE: &str = "console";

pub(crate) fn init(env: &Env) {
    let console = env.channel(CONSOLE).ok().and_then(|channel| {
        let ring = channel.ring?;
        // SAFETY: the ring part of the console channel is shared with the console server only, mapped for the process's life, and this
        // is the one place that attaches to its client side.
        let duplex = unsafe { Duplex::attach(NonNull::new(ring.ptr)?, ring.len, Side::Client) }.ok()?;
        Some((duplex, channel))
    });
    STATE.with(|state| {
        state.source = env.source_id();
        state.console = console;
    });
}

/// Records that were lost because the console's ring was full, since the last one that fitted.
pub fn dropped() -> u32 {
    STATE.with(|state| state.dropped)
}

/// From here on records go out by debug calls: for a server that is about to die, so that its last words are seen.
pub(crate) fn unbuffered() {
    STATE.try_with(|state| state.console = None);
}

impl State {
    fn emit(&mut self) {
        let Some(bytes) = self.frame.finish() else {
            self.dropped += 1;
            return;
        };
        match &mut self.console {
            None => bytes.iter().for_each(|b| debug::put_char(*b)),
            Some((ring, channel)) => match ring.tx.push(&[bytes]) {
                Ok(()) => {
                    self.dropped = 0;
                    if ring.tx.wants_signal() {
                        crate::notify(channel);
                    }
                }
                Err(PushError::Full | PushError::TooLong) => self.dropped += 1,
            },
        }
    }
}

#[defmt::global_logger]
struct Logger;

// SAFETY: the process has one thread and no interrupt handlers, so records do not interleave; a record started while another
// is open (a `Format` that logs) would find the state borrowed only inside these short functions, never across them.
unsafe impl defmt::Logger for Logger {
    fn acquire() {
        STATE.with(|state| {
            state.frame.start(state.source);
            let frame = &mut state.frame;
            state.encoder.start_frame(|bytes| frame.push(bytes));
        });
    }

    unsafe fn flush() {}

    unsafe fn release() {
        STATE.with(|state| {
            let frame = &mut state.frame;
            state.encoder.end_frame(|bytes| frame.push(bytes));
            state.emit();
        });
    }

    unsafe fn write(bytes: &[u8]) {
        STATE.with(|state| {
            let frame = &mut state.frame;
            state.encoder.write(bytes, |bytes| frame.push(bytes));
        });
    }
}
