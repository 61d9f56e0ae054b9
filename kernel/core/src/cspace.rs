//! Capability addresses (sheet §5.2).

use crate::cap::{Cap, Slot};
use crate::error::{Fail, LookupFailure};
use crate::mem::Ptr;
use crate::tcb::{Tcb, TcbSlot};

/// Bits of a capability address.
pub(crate) const WORD_BITS: u64 = 64;

/// Walks from a CNode capability along the low `bits` bits of `address`. Returns the slot and the bits left over at a slot that
/// holds no CNode. Each step consumes at least one bit, so there are at most 64.
pub fn resolve(root: &Cap, address: u64, bits: u64) -> Result<(Ptr<Slot>, u64), LookupFailure> {
    let Cap::CNode(mut node) = *root else { return Err(LookupFailure::InvalidRoot) };
    let mut left = bits;
    loop {
        let guard_size = u64::from(node.guard_size);
        let level = guard_size + u64::from(node.radix);
        let guard_fits = guard_size <= left && {
            // The top `guard_size` of the remaining bits.
            let found = if guard_size == 0 { 0 } else { (address >> (left - guard_size)) & ((1 << guard_size) - 1) };
            found == node.guard
        };
        if !guard_fits {
            let (guard_found, bits_found) = (node.guard, guard_size);
            return Err(LookupFailure::GuardMismatch { bits_left: left, guard_found, bits_found });
        }
        if level > left {
            return Err(LookupFailure::DepthMismatch { bits_left: left, bits_found: level });
        }
        left -= level;
        let slot = node.slot((address >> left) & (node.len() - 1));
        if left == 0 {
            return Ok((slot, 0));
        }
        match slot.cap() {
            Cap::CNode(next) => node = next,
            _ => return Ok((slot, left)),
        }
    }
}

/// The slot a thread means by `cptr`.
pub(crate) fn lookup(tcb: Ptr<Tcb>, cptr: u64) -> Result<Ptr<Slot>, LookupFailure> {
    resolve(&tcb.slot(TcbSlot::CTable).cap(), cptr, WORD_BITS).map(|(slot, _)| slot)
}

/// The slot a CNode operation means by (`index`, `depth`) under `root`.
pub(crate) fn target(root: &Cap, index: u64, depth: u64, source: bool) -> Result<Ptr<Slot>, Fail> {
    let failed = |failure| Fail::Lookup { source, failure };
    let Cap::CNode(_) = root else { return Err(failed(LookupFailure::InvalidRoot)) };
    if !(1..=WORD_BITS).contains(&depth) {
        return Err(Fail::Range(1, WORD_BITS));
    }
    match resolve(root, index, depth).map_err(failed)? {
        (slot, 0) => Ok(slot),
        (_, bits_left) => Err(failed(LookupFailure::DepthMismatch { bits_left, bits_found: 0 })),
    }
}

/// As [`target`] on the destination side, for a slot that must be empty.
pub(crate) fn empty_target(root: &Cap, index: u64, depth: u64) -> Result<Ptr<Slot>, Fail> {
    let slot = target(root, index, depth, false)?;
    if slot.is_empty() { Ok(slot) } else { Err(Fail::DeleteFirst) }
}
