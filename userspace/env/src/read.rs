//! The server's view: typed access to the environment by name.

use crate::layout::{Entry, Header, MAGIC, MAX_ENTRIES, NO_BIT, SIZE, kind, text};
use crate::map;
use core::fmt;
use smi_sys::CPtr;
use zerocopy::FromBytes;

/// A mapping in this address space, valid for the life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First byte.
    pub ptr: *mut u8,
    /// Bytes.
    pub len: usize,
}

/// Which end of a channel this server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Calls the peer.
    Client,
    /// Is called by the peer.
    Server,
}

/// A relation with another server, named in the manifest.
#[derive(Clone, Copy, Debug)]
pub struct Channel {
    /// The other server.
    pub peer: &'static str,
    /// Which end this is.
    pub role: Role,
    /// Endpoint to call, on the client's end.
    pub call: Option<CPtr>,
    /// Signals the peer.
    pub signal: CPtr,
    /// Bit of this server's notification word that the peer's signal sets.
    pub my_bit: u8,
    /// Badge that the client's calls carry at the server (known at both ends).
    pub badge: u64,
    /// The whole shared region.
    pub region: Option<Region>,
    /// The part of the region for rings (its start).
    pub ring: Option<Region>,
    /// The part of the region that is the IDL session buffer (after the rings).
    pub buffer: Option<Region>,
    /// Argument string of the channel from the manifest, e.g. `directory`.
    pub arg: &'static str,
}

impl Channel {
    /// This channel's bit as a mask for notification words.
    pub const fn mask(&self) -> u64 {
        1 << self.my_bit
    }
}

/// Device registers, mapped as device memory.
#[derive(Clone, Copy, Debug)]
pub struct Device {
    /// Where they are.
    pub region: Region,
    /// Their physical address.
    pub paddr: u64,
    /// What the manifest calls the device, e.g. `virtio-net#0`.
    pub arg: &'static str,
}

/// An interrupt bound to this server's notification.
#[derive(Clone, Copy, Debug)]
pub struct Irq {
    /// Handler capability: acknowledge here.
    pub handler: CPtr,
    /// Bit of the notification word.
    pub bit: u8,
}

impl Irq {
    /// The bit as a mask for notification words.
    pub const fn mask(&self) -> u64 {
        1 << self.bit
    }
}

/// Physically contiguous memory for a device.
#[derive(Clone, Copy, Debug)]
pub struct Dma {
    /// Where it is, normal cacheable memory.
    pub region: Region,
    /// Its physical address.
    pub paddr: u64,
}

/// The environment lacks something, or is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvError {
    /// The manifest gives this server no channel with that peer.
    NoChannel,
    /// The manifest gives this server no such device, interrupt or memory.
    NoDevice,
    /// The page is not an environment, or not of this version.
    BadMagic,
    /// An entry breaks the layout's rules.
    BadEntry(usize),
}

impl fmt::Display for EnvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EnvError::NoChannel => write!(f, "no such channel in the manifest"),
            EnvError::NoDevice => write!(f, "no such device, interrupt or DMA memory in the manifest"),
            EnvError::BadMagic => write!(f, "not an environment page"),
            EnvError::BadEntry(i) => write!(f, "environment entry {i} is malformed"),
        }
    }
}

/// A checked environment.
#[derive(Clone, Copy, Debug)]
pub struct Env {
    header: &'static Header,
    entries: &'static [Entry],
}

impl Env {
    /// Checks the environment's bytes.
    pub fn check(bytes: &'static [u8; SIZE]) -> Result<Env, EnvError> {
        let (header, rest) = Header::ref_from_prefix(bytes).map_err(|_| EnvError::BadMagic)?;
        let count = header.entry_count as usize;
        if header.magic != MAGIC || count > MAX_ENTRIES {
            return Err(EnvError::BadMagic);
        }
        let (entries, _) = <[Entry]>::ref_from_prefix_with_elems(rest, count).map_err(|_| EnvError::BadMagic)?;
        if text(&header.name).is_none() || text(&header.args).is_none() {
            return Err(EnvError::BadMagic);
        }
        for (i, entry) in entries.iter().enumerate() {
            check_entry(entry).ok_or(EnvError::BadEntry(i))?;
        }
        Ok(Env { header, entries })
    }

    /// This server's name.
    pub fn name(&self) -> &'static str {
        text(&self.header.name).unwrap_or("")
    }

    /// Argument string of this server from the manifest; empty if none.
    pub fn args(&self) -> &'static str {
        text(&self.header.args).unwrap_or("")
    }

    /// Source id of this server's logs.
    pub fn source_id(&self) -> u8 {
        self.header.source_id as u8
    }

    /// How often this server has been started before; 0 means the first time since boot.
    pub fn restarts(&self) -> u64 {
        self.header.restarts
    }

    /// What the thread may use of the generic timer, as `CounterAccess` bits.
    pub fn counter_access(&self) -> u64 {
        self.header.counter_access
    }

    /// The heap's memory; its length is 0 if the manifest gives none.
    pub fn heap(&self) -> Region {
        region(self.header.heap_vaddr, self.header.heap_len)
    }

    /// The mapped stack.
    pub fn stack(&self) -> Region {
        region(self.header.stack_low, self.header.stack_len)
    }

    /// The server's own endpoint.
    pub fn self_endpoint(&self) -> CPtr {
        CPtr(map::CAP_ENDPOINT)
    }

    /// The server's own notification. It is bound: the event loop receives its signals.
    pub fn notification(&self) -> CPtr {
        CPtr(map::CAP_NOTIFICATION)
    }

    /// The server's own CNode.
    pub fn cnode(&self) -> CPtr {
        CPtr(map::CAP_CNODE)
    }

    /// Number of reply objects: calls that can be unanswered at once.
    pub fn reply_count(&self) -> usize {
        self.header.reply_count as usize
    }

    /// Reply object `i`, `i < reply_count()`.
    pub fn reply(&self, i: usize) -> Option<CPtr> {
        ((i as u64) < self.header.reply_count).then(|| CPtr(self.header.reply_first + i as u64))
    }

    /// Free slots of the CNode, as a half-open range.
    pub fn free_slots(&self) -> core::ops::Range<u64> {
        self.header.free_first..self.header.free_end
    }

    /// The channel with a peer, whichever end this server is.
    pub fn channel(&self, peer: &str) -> Result<Channel, EnvError> {
        self.channels().find(|c| c.peer == peer).ok_or(EnvError::NoChannel)
    }

    /// All channels.
    pub fn channels(&self) -> impl Iterator<Item = Channel> + use<> {
        self.entries.iter().filter_map(channel_of)
    }

    /// The channels on which this server is called.
    pub fn clients(&self) -> Clients {
        Clients { entries: self.entries.iter() }
    }

    /// The client whose calls carry this badge.
    pub fn client_by_badge(&self, badge: u64) -> Option<Channel> {
        self.clients().find(|c| c.badge == badge)
    }

    /// Device registers by name; a driver of one device calls them `mmio`.
    pub fn device(&self, name: &str) -> Result<Device, EnvError> {
        let entry = self.find(kind::MMIO, name)?;
        Ok(Device { region: region(entry.vaddr, entry.len), paddr: entry.aux, arg: text(&entry.arg).unwrap_or("") })
    }

    /// The first interrupt.
    pub fn irq(&self) -> Result<Irq, EnvError> {
        let entry = self.entries.iter().find(|e| e.kind == kind::IRQ).ok_or(EnvError::NoDevice)?;
        Ok(Irq { handler: CPtr(entry.cptr), bit: entry.signal_bit as u8 })
    }

    /// The DMA memory.
    pub fn dma(&self) -> Result<Dma, EnvError> {
        let entry = self.entries.iter().find(|e| e.kind == kind::DMA).ok_or(EnvError::NoDevice)?;
        Ok(Dma { region: region(entry.vaddr, entry.len), paddr: entry.aux })
    }

    fn find(&self, kind: u32, name: &str) -> Result<&'static Entry, EnvError> {
        self.entries.iter().find(|e| e.kind == kind && text(&e.name) == Some(name)).ok_or(EnvError::NoDevice)
    }
}

/// Iterator over the channels on which a server is called.
#[derive(Clone, Debug)]
pub struct Clients {
    entries: core::slice::Iter<'static, Entry>,
}

impl Iterator for Clients {
    type Item = Channel;

    fn next(&mut self) -> Option<Channel> {
        self.entries.by_ref().filter(|e| e.kind == kind::SERVER).find_map(channel_of)
    }
}

fn region(vaddr: u64, len: u64) -> Region {
    Region { ptr: core::ptr::with_exposed_provenance_mut(vaddr as usize), len: len as usize }
}

fn channel_of(entry: &'static Entry) -> Option<Channel> {
    let role = match entry.kind {
        kind::CLIENT => Role::Client,
        kind::SERVER => Role::Server,
        _ => return None,
    };
    let part = |offset: u64, len: u64| (len > 0).then(|| region(entry.vaddr + offset, len));
    Some(Channel {
        peer: text(&entry.name)?,
        role,
        call: (role == Role::Client).then_some(CPtr(entry.cptr)),
        signal: CPtr(entry.signal),
        my_bit: entry.signal_bit as u8,
        badge: entry.badge,
        region: part(0, entry.len),
        ring: part(0, entry.aux),
        buffer: part(entry.aux, entry.len - entry.aux),
        arg: text(&entry.arg)?,
    })
}

fn check_entry(entry: &Entry) -> Option<()> {
    text(&entry.name)?;
    text(&entry.arg)?;
    entry.vaddr.checked_add(entry.len)?;
    let has_bit = entry.signal_bit < 63;
    let ok = match entry.kind {
        kind::CLIENT => has_bit && entry.cptr != 0 && entry.aux <= entry.len,
        kind::SERVER => has_bit && entry.badge != 0 && entry.aux <= entry.len,
        kind::MMIO | kind::DMA => entry.vaddr != 0 && entry.len != 0,
        kind::IRQ => has_bit && entry.cptr != 0,
        _ => entry.signal_bit == NO_BIT,
    };
    ok.then_some(())
}
