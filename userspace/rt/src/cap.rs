//! This server's capability slots: allocation, receiving, minting badged copies of its own endpoint.
//!
//! Badges of calls: a client's channel badge is below 2^16. A capability that the server mints for a client carries
//! `object << 16 | channel badge` ([`badge`]), so a call through it still tells whose session buffer its windows lie in.
//!
//! A capability that arrives in a message takes a free slot and belongs to the receiver, who gives it back with [`delete`]. One message
//! brings at most one capability to a foreign object; copies of the server's own endpoint arrive *unwrapped*: as the badge only ([`own_badge`]).

use crate::cell::Local;
use crate::slots::Slots;
use ipc_wire::{CapList, RawCap};
use smi_env::{CPtr, map};
use smi_sys::call::Received;
use smi_sys::invoke::{self, Slot};
use smi_sys::{CapRights, SysError, message};

/// Bit of a [`RawCap`] that marks an unwrapped capability: the rest is the badge.
const UNWRAPPED: u64 = 1 << 63;

struct Table {
    slots: Slots,
    /// The empty slot that the next received capability goes to.
    receive: Option<u64>,
    /// Slots to empty once the reply that carries them is sent.
    transient: [u64; 3],
    transient_len: usize,
}

static TABLE: Local<Table> =
    Local::new(Table { slots: Slots::empty(), receive: None, transient: [0; 3], transient_len: 0 });

/// No free slot, or the kernel refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CapError {
    /// All slots are in use.
    NoSlot,
    /// The kernel's answer.
    Kernel(SysError),
}

pub(crate) fn init(free: core::ops::Range<u64>) {
    TABLE.with(|table| table.slots.reset(free));
    prepare_receive();
}

fn own(slot: u64) -> Slot {
    Slot::flat(CPtr(map::CAP_CNODE), slot)
}

/// Takes a free slot.
pub fn alloc() -> Result<CPtr, CapError> {
    TABLE.with(|table| table.slots.alloc()).map(CPtr).ok_or(CapError::NoSlot)
}

/// Deletes a capability and frees its slot. Unwrapped ones and foreign slots are ignored.
pub fn delete(cap: CPtr) {
    if cap.0 & UNWRAPPED != 0 || cap.0 < map::CAP_FIRST {
        return;
    }
    if invoke::cnode_delete(own(cap.0)).is_ok() {
        TABLE.with(|table| table.slots.release(cap.0));
    }
}

/// The badge of a capability that a server mints for a client: `object` (47 bits, not 0) and the client's channel badge.
pub const fn badge(object: u64, client: u64) -> u64 {
    (object << 16) | (client & 0xffff)
}

/// Object number of a call's badge; 0 for the channel itself.
pub const fn object_of(badge: u64) -> u64 {
    (badge & !map::SIGNAL_FLAG) >> 16
}

/// Channel badge of the client that a call's badge belongs to.
pub const fn client_of(badge: u64) -> u64 {
    badge & 0xffff
}

/// A copy of this server's endpoint with `badge`, to be handed to a client. Stays until [`delete`]d (which leaves the client's copy alone) or
/// revoked ([`revoke`]).
pub fn mint(badge: u64) -> Result<CPtr, CapError> {
    let cap = alloc()?;
    let rights = CapRights::WRITE | CapRights::GRANT | CapRights::GRANT_REPLY;
    match invoke::cnode_mint(own(cap.0), own(map::CAP_ENDPOINT), rights, badge) {
        Ok(()) => Ok(cap),
        Err(error) => {
            TABLE.with(|table| table.slots.release(cap.0));
            Err(CapError::Kernel(error))
        }
    }
}

/// As [`mint`], for one reply: the event loop deletes this copy when the reply is out. At most three between two replies.
pub fn mint_for_reply(badge: u64) -> Result<CPtr, CapError> {
    if TABLE.with(|table| table.transient_len) == 3 {
        return Err(CapError::NoSlot);
    }
    let cap = mint(badge)?;
    TABLE.with(|table| {
        table.transient[table.transient_len] = cap.0;
        table.transient_len += 1;
    });
    Ok(cap)
}

/// Takes a minted capability away from everybody that got a copy of this one.
pub fn revoke(cap: CPtr) -> Result<(), CapError> {
    invoke::cnode_revoke(own(cap.0)).map_err(CapError::Kernel)
}

/// Badge of a capability that arrived unwrapped: it was a copy of this server's own endpoint.
pub const fn own_badge(raw: RawCap) -> Option<u64> {
    if raw.0 & UNWRAPPED != 0 { Some(raw.0 & !UNWRAPPED) } else { None }
}

/// Deletes what [`mint_for_reply`] made.
pub(crate) fn drop_transient() {
    let (slots, len) = TABLE.with(|table| {
        let taken = (table.transient, table.transient_len);
        table.transient_len = 0;
        taken
    });
    slots[..len].iter().for_each(|slot| delete(CPtr(*slot)));
}

/// The capabilities of a message just received. Their slots belong to the caller of this function.
pub(crate) fn received(received: &Received) -> CapList {
    let count = received.info.extra_caps();
    if count == 0 {
        return CapList::EMPTY;
    }
    let mut caps = [RawCap(0); 3];
    for (i, cap) in caps.iter_mut().enumerate().take(count) {
        *cap = if received.info.caps_unwrapped() & (1 << i) != 0 {
            RawCap(UNWRAPPED | message::unwrapped_badge(i))
        } else {
            RawCap(TABLE.with(|table| table.receive.take()).unwrap_or(0))
        };
    }
    prepare_receive();
    CapList::new(&caps[..count])
}

/// Makes sure that an empty slot is named in the IPC buffer. With none left, capabilities do not arrive.
fn prepare_receive() {
    let slot = TABLE.with(|table| {
        if table.receive.is_none() {
            table.receive = table.slots.alloc();
        }
        table.receive
    });
    match slot {
        Some(slot) => message::set_receive_path(CPtr(map::CAP_CNODE), slot, 64),
        None => message::set_receive_path(CPtr::NULL, 0, 0), // no CNode, so no slot
    }
}
