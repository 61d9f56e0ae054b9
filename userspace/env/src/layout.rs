//! The environment's bytes: a header and a table of entries, all little-endian, no pointers.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// "SMIENV" and the version of this layout.
pub const MAGIC: u64 = u64::from_le_bytes(*b"SMIENV\x00\x01");
/// Bytes of the environment: two pages.
pub const SIZE: usize = 8192;
/// Most entries.
pub const MAX_ENTRIES: usize = (SIZE - size_of::<Header>()) / size_of::<Entry>();
/// Longest name, bytes.
pub const NAME_LEN: usize = 32;
/// Longest argument string of a server, bytes.
pub const ARGS_LEN: usize = 128;
/// Longest argument string of an entry, bytes.
pub const ENTRY_ARG_LEN: usize = 40;

/// What holds for the whole server.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy, Debug)]
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: u64,
    /// Entries used.
    pub entry_count: u32,
    /// The server's index in the manifest: source id of its logs.
    pub source_id: u32,
    /// The server's name, zero padded.
    pub name: [u8; NAME_LEN],
    /// Argument string from the manifest, zero padded.
    pub args: [u8; ARGS_LEN],
    /// Start of the heap.
    pub heap_vaddr: u64,
    /// Bytes of heap.
    pub heap_len: u64,
    /// Lowest mapped stack address.
    pub stack_low: u64,
    /// Bytes of stack.
    pub stack_len: u64,
    /// First reply object.
    pub reply_first: u64,
    /// Reply objects.
    pub reply_count: u64,
    /// First free slot.
    pub free_first: u64,
    /// One past the last free slot.
    pub free_end: u64,
    /// How often the server has been started before, 0 at first.
    pub restarts: u64,
    /// What the thread may use of the generic timer (`CounterAccess` bits).
    pub counter_access: u64,
}

/// One thing that the server was given.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy, Debug)]
#[repr(C)]
pub struct Entry {
    /// Peer's name for channels, the thing's name otherwise; zero padded.
    pub name: [u8; NAME_LEN],
    /// [`kind`].
    pub kind: u32,
    /// Bit of the server's notification word that belongs to this entry; `NO_BIT` if none.
    pub signal_bit: u32,
    /// Channel (client): endpoint capability. IRQ: handler. 0 if none.
    pub cptr: u64,
    /// Channel: capability that signals the peer.
    pub signal: u64,
    /// Channel: badge of the client's calls at the server.
    pub badge: u64,
    /// Address of the mapping; 0 if none.
    pub vaddr: u64,
    /// Bytes of the mapping.
    pub len: u64,
    /// Channel: bytes of ring at the mapping's start; the rest is the session buffer. Devices and DMA: physical address.
    pub aux: u64,
    /// Argument string, zero padded.
    pub arg: [u8; ENTRY_ARG_LEN],
}

/// `signal_bit` of an entry that never signals.
pub const NO_BIT: u32 = u32::MAX;

/// Kinds of entries.
pub mod kind {
    /// A channel where this server calls.
    pub const CLIENT: u32 = 1;
    /// A channel where this server is called.
    pub const SERVER: u32 = 2;
    /// Device registers.
    pub const MMIO: u32 = 3;
    /// An interrupt.
    pub const IRQ: u32 = 4;
    /// Memory with a known physical address.
    pub const DMA: u32 = 5;
}

/// A string field: text up to the first zero.
pub fn text(field: &[u8]) -> Option<&str> {
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    core::str::from_utf8(&field[..end]).ok()
}

/// Fills a string field; `None` if the text is too long for it.
pub fn set_text(field: &mut [u8], text: &str) -> Option<()> {
    field.fill(0);
    field.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
    Some(())
}

const _: () = {
    assert!(size_of::<Header>() == 256);
    assert!(size_of::<Entry>() == 128);
    assert!(MAX_ENTRIES == 62);
};
