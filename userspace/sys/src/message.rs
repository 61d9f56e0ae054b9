//! The thread's IPC buffer, and messages seen as bytes.
//!
//! A process has one thread that sends and receives; its buffer's address is set once at start ([`set_buffer`]). No reference into
//! the buffer is ever kept: access goes through [`with_buffer`] closures, which do not nest with system calls.

use crate::call::{FastRegisters, Received};
use crate::{CPtr, MessageInfo};
use core::sync::atomic::{AtomicPtr, Ordering};
use kernel_abi::IpcBuffer;
use kernel_abi::message::{FAST_MESSAGE_REGISTERS, MSG_MAX_LENGTH};

/// Most bytes of a message.
pub const MAX_BYTES: usize = MSG_MAX_LENGTH * 8;

static BUFFER: AtomicPtr<IpcBuffer> = AtomicPtr::new(core::ptr::null_mut());

/// Says where this thread's IPC buffer is. Once, before the first message.
///
/// # Safety
/// `buffer` is the mapped IPC buffer of the process's one communicating thread, for the life of the process.
pub unsafe fn set_buffer(buffer: *mut IpcBuffer) {
    BUFFER.store(buffer, Ordering::Relaxed);
}

/// Runs `f` on the IPC buffer. `f` makes no system calls and does not call this again.
#[inline(always)]
pub fn with_buffer<R>(f: impl FnOnce(&mut IpcBuffer) -> R) -> R {
    let buffer = BUFFER.load(Ordering::Relaxed);
    assert!(!buffer.is_null(), "no IPC buffer set");
    // SAFETY: non-null means that `set_buffer`'s contract was given; the process has one thread and closures do not nest, so the
    // reference is unique while `f` runs.
    f(unsafe { &mut *buffer })
}

/// Puts bytes into message registers (little-endian words, zero padded) and returns the register part and the length in words.
/// Bytes beyond [`MAX_BYTES`] are a caller's error.
#[inline]
pub fn pack(bytes: &[u8]) -> (FastRegisters, usize) {
    assert!(bytes.len() <= MAX_BYTES, "message of {} bytes", bytes.len());
    let fast = bytes.len().min(8 * FAST_MESSAGE_REGISTERS);
    let mut mrs = [0u64; FAST_MESSAGE_REGISTERS];
    for (word, chunk) in mrs.iter_mut().zip(bytes[..fast].chunks(8)) {
        *word = word_of(chunk);
    }
    if bytes.len() > fast {
        with_buffer(|buffer| {
            for (word, chunk) in buffer.msg[FAST_MESSAGE_REGISTERS..].iter_mut().zip(bytes[fast..].chunks(8)) {
                *word = word_of(chunk);
            }
        });
    }
    (mrs, bytes.len().div_ceil(8))
}

/// Copies the bytes of a received message out; returns how many were written (whole words, at most `out.len()`).
#[inline]
pub fn unpack(received: &Received, out: &mut [u8]) -> usize {
    let len = received.info.length() * 8;
    let len = len.min(out.len());
    let fast = len.min(8 * FAST_MESSAGE_REGISTERS);
    for (chunk, word) in out[..fast].chunks_mut(8).zip(received.mrs) {
        chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
    }
    if len > fast {
        with_buffer(|buffer| {
            for (chunk, word) in out[fast..len].chunks_mut(8).zip(&buffer.msg[FAST_MESSAGE_REGISTERS..]) {
                chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
            }
        });
    }
    len
}

/// Names the capabilities that go with the next message; at most three.
#[inline]
pub fn set_caps(caps: &[CPtr]) {
    if !caps.is_empty() {
        with_buffer(|buffer| {
            for (word, cap) in buffer.caps_or_badges.iter_mut().zip(caps) {
                *word = cap.0;
            }
        });
    }
}

/// Badge of the unwrapped capability `index` of the message just received.
#[inline]
pub fn unwrapped_badge(index: usize) -> u64 {
    with_buffer(|buffer| buffer.caps_or_badges[index])
}

/// Message register `index` of the message just received.
#[inline]
pub fn register(received: &Received, index: usize) -> u64 {
    if index < FAST_MESSAGE_REGISTERS { received.mrs[index] } else { with_buffer(|buffer| buffer.msg[index]) }
}

/// Says where a received capability goes: slot `index` of `cnode`, at `depth` bits.
#[inline]
pub fn set_receive_path(cnode: CPtr, index: u64, depth: u64) {
    with_buffer(|buffer| {
        buffer.receive_cnode = cnode.0;
        buffer.receive_index = index;
        buffer.receive_depth = depth;
    });
}

/// Message info for `words` message registers and `caps` capabilities under `label`.
#[inline]
pub const fn info(label: u64, caps: usize, words: usize) -> MessageInfo {
    MessageInfo::new(label, 0, caps, words)
}

#[inline]
fn word_of(chunk: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..chunk.len()].copy_from_slice(chunk);
    u64::from_le_bytes(word)
}
