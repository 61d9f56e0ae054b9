//! Where things are in a server's address space and CSpace. The same for every server.

/// First address of a program's image.
pub const IMAGE: u64 = 0x40_0000;
/// First address that an image may not reach.
pub const IMAGE_END: u64 = 0x6000_0000;
/// The IPC buffer's page.
pub const IPC_BUFFER: u64 = 0x6000_0000;
/// The environment.
pub const ENV: u64 = 0x6000_1000;
/// End of the stack; it grows down from here, and the page below its far end is never mapped.
pub const STACK_TOP: u64 = 0x7000_0000;
/// Most bytes of stack.
pub const STACK_MAX: u64 = 0x0800_0000;
/// The heap.
pub const HEAP: u64 = 0x8000_0000;
/// Most bytes of heap.
pub const HEAP_MAX: u64 = 0x4000_0000;
/// Channel regions, device registers and DMA memory, from here upward.
pub const REGIONS: u64 = 0x10_0000_0000;

/// The server's own endpoint, unbadged, all rights: receive from it, mint badged copies.
pub const CAP_ENDPOINT: u64 = 1;
/// The server's own notification (bound to its thread).
pub const CAP_NOTIFICATION: u64 = 2;
/// The server's own CNode, one level, so slot number = capability address.
pub const CAP_CNODE: u64 = 3;
/// First slot of capabilities that the environment names; after the last come reply objects, then free slots.
pub const CAP_FIRST: u64 = 8;
/// Bit of every notification badge that tells a signal from a call's badge.
pub const SIGNAL_FLAG: u64 = 1 << 63;
/// Badges below this are channels (in manifest order, from 1); a server mints its own from here up to [`SIGNAL_FLAG`].
pub const FIRST_OWN_BADGE: u64 = 1 << 16;
