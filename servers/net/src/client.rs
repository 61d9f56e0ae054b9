//! The client's end of a net channel.

use ipc_ring::{Duplex, PushError};

use crate::{HEADER, MAX_FRAME};

/// A frame was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The ring is full: the driver signals when there is room.
    Full,
    /// Shorter than a header or longer than [`MAX_FRAME`].
    BadLength,
}

/// A client of the net driver. Does not signal: after a batch of calls, ask [`wants_signal`](Self::wants_signal).
pub struct NetClient<'a> {
    ring: Duplex<'a>,
    signal: bool,
}

impl<'a> NetClient<'a> {
    /// A client on the channel's ring (attached as client).
    pub fn new(ring: Duplex<'a>) -> Self {
        Self { ring, signal: false }
    }

    /// Sends the frame that `parts` are one after the other.
    pub fn send(&mut self, parts: &[&[u8]]) -> Result<(), SendError> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if !(HEADER..=MAX_FRAME).contains(&len) {
            return Err(SendError::BadLength);
        }
        match self.ring.tx.push(parts) {
            Ok(()) => {
                self.signal |= self.ring.tx.wants_signal();
                Ok(())
            }
            Err(PushError::Full) => {
                self.signal |= self.ring.tx.wants_signal();
                Err(SendError::Full)
            }
            Err(PushError::TooLong) => Err(SendError::BadLength),
        }
    }

    /// Copies the next received frame to `buffer` ([`MAX_FRAME`] bytes) and gives its length; `None` if there is none,
    /// and then the driver will signal the next. Call it after every signal until it gives `None`.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Option<usize> {
        self.ring.rx.wake();
        loop {
            match self.ring.rx.pop(buffer) {
                Some(Ok(len)) if len >= HEADER => return Some(len),
                // Nonsense, or longer than the buffer: dropped like a bad frame on the wire.
                Some(_) => continue,
                None => {
                    self.signal |= self.ring.rx.space_wanted();
                    if self.ring.rx.sleep() {
                        return None;
                    }
                    self.ring.rx.wake();
                }
            }
        }
    }

    /// Whether the driver must be signalled now. Clears the wish.
    pub fn wants_signal(&mut self) -> bool {
        core::mem::take(&mut self.signal)
    }

    /// Changes when the driver was restarted.
    pub fn driver_generation(&self) -> u64 {
        self.ring.peer_generation()
    }
}
