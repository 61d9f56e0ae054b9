//! The IPC buffer (sheet §1.4).

use crate::message::{MSG_MAX_EXTRA_CAPS, MSG_MAX_LENGTH};

/// log2 of the buffer's size and alignment.
pub const IPC_BUFFER_SIZE_BITS: u32 = 10;

/// A thread's IPC buffer: 1024 bytes, aligned to 1024.
///
/// The kernel uses `msg[4..]`, the capability words and the receive path; `tag`, `msg[0..4]` and `user_data` are the
/// program's own (user libraries mirror MR0..MR3 in `msg[0..4]`).
#[derive(Clone, Copy, Debug)]
#[repr(C, align(1024))]
pub struct IpcBuffer {
    /// Program's copy of the message info.
    pub tag: u64,
    /// Message registers.
    pub msg: [u64; MSG_MAX_LENGTH],
    /// Not touched by the kernel.
    pub user_data: u64,
    /// Sender: extra capabilities; receiver: badges of unwrapped ones.
    pub caps_or_badges: [u64; MSG_MAX_EXTRA_CAPS],
    /// CNode of the receive slot.
    pub receive_cnode: u64,
    /// Index of the receive slot.
    pub receive_index: u64,
    /// Depth of the receive slot.
    pub receive_depth: u64,
}

/// Byte offset of `msg[0]`.
pub const MSG_OFFSET: usize = 8;
/// Byte offset of `user_data`.
pub const USER_DATA_OFFSET: usize = 968;
/// Byte offset of `caps_or_badges[0]`.
pub const CAPS_OFFSET: usize = 976;
/// Byte offset of `receive_cnode`, followed by index and depth.
pub const RECEIVE_OFFSET: usize = 1000;

const _: () = {
    assert!(size_of::<IpcBuffer>() == 1 << IPC_BUFFER_SIZE_BITS);
    assert!(align_of::<IpcBuffer>() == 1 << IPC_BUFFER_SIZE_BITS);
    assert!(core::mem::offset_of!(IpcBuffer, msg) == MSG_OFFSET);
    assert!(core::mem::offset_of!(IpcBuffer, user_data) == USER_DATA_OFFSET);
    assert!(core::mem::offset_of!(IpcBuffer, caps_or_badges) == CAPS_OFFSET);
    assert!(core::mem::offset_of!(IpcBuffer, receive_cnode) == RECEIVE_OFFSET);
    assert!(core::mem::offset_of!(IpcBuffer, receive_index) == RECEIVE_OFFSET + 8);
    assert!(core::mem::offset_of!(IpcBuffer, receive_depth) == RECEIVE_OFFSET + 16);
};
