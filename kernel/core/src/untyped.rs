//! Untyped memory and Retype (sheet §2.4, §3.3).
//!
//! The watermark lives in the capability. Memory above it is zero and clean in RAM (not for device memory); so new objects
//! start zeroed. It is lowered only when the capability has no children, after zeroing what was used.

use kernel_abi::object::{self, MAX_UNTYPED_BITS, MIN_SCHED_CONTEXT_BITS, MIN_UNTYPED_BITS, RETYPE_FAN_OUT_LIMIT};
use kernel_abi::{CapRights, Label, ObjectType};

use crate::cap::{CNodeCap, Cap, EndpointCap, FrameCap, FrameSize, NotificationCap, PageTableCap, Slot, UntypedCap};
use crate::cdt::Marks;
use crate::cspace;
use crate::error::{Fail, LookupFailure, Preempted};
use crate::machine::{CacheOp, CoreId, Machine};
use crate::mem::Ptr;
use crate::syscall::{Answer, Invocation};
use crate::{Kernel, cdt};

/// A checked Retype.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RetypeOp {
    object: ObjectType,
    /// The `size_bits` argument.
    size_bits: u32,
    node: CNodeCap,
    offset: u64,
    count: u64,
    /// The untyped has no children: start from its beginning.
    reset: bool,
}

/// Most bytes zeroed at once; counts as this many chunks of 256 bytes.
const ZERO_BYTES: u64 = 4096;

impl<M: Machine> Kernel<M> {
    /// Checks Retype.
    pub(crate) fn decode_untyped(&self, inv: &Invocation) -> Result<RetypeOp, Fail> {
        if inv.label != Label::UntypedRetype.raw() {
            return Err(Fail::IllegalOperation);
        }
        inv.need(6, 1)?;
        let Cap::Untyped(untyped) = inv.slot.cap() else { return Err(Fail::InvalidCapability(0)) };
        let [kind, size_bits, index, depth, offset, count] = [0, 1, 2, 3, 4, 5].map(|i| inv.mr(i));
        let object = ObjectType::from_raw(kind).ok_or(Fail::InvalidArgument(0))?;
        let size_bits = check_size(object, size_bits)?;
        let node = destination(inv, index, depth)?;
        check_window(&node, offset, count)?;

        let reset = !cdt::has_children(self.window, inv.slot);
        let used = if reset { 0 } else { untyped.used };
        let free = untyped.size() - used;
        if (free >> object.size_bits(size_bits)) < count {
            return Err(Fail::NotEnoughMemory(free));
        }
        if untyped.device && !object.device_allowed() {
            return Err(Fail::InvalidArgument(1));
        }
        Ok(RetypeOp { object, size_bits, node, offset, count, reset })
    }

    /// Makes the objects.
    pub(crate) fn invoke_untyped(&mut self, inv: &Invocation, op: &RetypeOp) -> Result<Answer, Preempted> {
        if op.reset {
            self.reset_untyped(inv.slot)?;
        }
        let Cap::Untyped(mut untyped) = inv.slot.cap() else { return Ok(Answer::Done) };
        let bits = op.object.size_bits(op.size_bits);
        let start = untyped.used.next_multiple_of(1 << bits);
        untyped.used = start + (op.count << bits);
        inv.slot.set_cap(Cap::Untyped(untyped));
        for i in 0..op.count {
            let paddr = untyped.paddr + start + (i << bits);
            let cap = self.make_object(inv.core, op, paddr, untyped.device);
            cdt::insert_after(inv.slot, op.node.slot(op.offset + i), cap, Marks::ORIGINAL);
        }
        Ok(Answer::Done)
    }

    /// Zeroes the used part from the top down; the watermark follows, so a restart goes on where this stopped.
    fn reset_untyped(&mut self, slot: Ptr<Slot>) -> Result<(), Preempted> {
        let Cap::Untyped(mut untyped) = slot.cap() else { return Ok(()) };
        if untyped.device {
            untyped.used = 0;
            slot.set_cap(Cap::Untyped(untyped));
            return Ok(());
        }
        while untyped.used > 0 {
            let start = (untyped.used - 1) & !(ZERO_BYTES - 1);
            let len = untyped.used - start;
            self.window.zero(untyped.paddr + start, len);
            self.machine.cache(CacheOp::Clean, untyped.paddr + start, len);
            untyped.used = start;
            slot.set_cap(Cap::Untyped(untyped));
            self.preemption_point((len >> kernel_abi::consts::RESET_CHUNK_BITS) as u32 + 1)?;
        }
        Ok(())
    }

    /// The capability to a new object in zeroed memory.
    fn make_object(&mut self, core: CoreId, op: &RetypeOp, paddr: u64, device: bool) -> Cap {
        let frame = |size| Cap::Frame(FrameCap { paddr, size, device, read: true, write: true, mapping: None });
        match op.object {
            ObjectType::Untyped => Cap::Untyped(UntypedCap { paddr, bits: op.size_bits, device, used: 0 }),
            ObjectType::Tcb => {
                let tcb = self.window.at(paddr);
                self.init_tcb(core, tcb);
                Cap::Tcb(tcb)
            }
            ObjectType::Endpoint => {
                Cap::Endpoint(EndpointCap { ep: self.window.at(paddr), badge: 0, rights: CapRights::ALL_RIGHTS })
            }
            ObjectType::Notification => Cap::Notification(NotificationCap {
                ntfn: self.window.at(paddr),
                badge: 0,
                rights: CapRights::READ_WRITE,
            }),
            ObjectType::CNode => {
                Cap::CNode(CNodeCap { slots: self.window.at(paddr), radix: op.size_bits, guard: 0, guard_size: 0 })
            }
            ObjectType::SchedContext => {
                let sc: Ptr<crate::schedctx::SchedContext> = self.window.at(paddr);
                sc.core.set(core as u32);
                Cap::SchedContext { sc, bits: op.size_bits }
            }
            ObjectType::Reply => Cap::Reply { reply: self.window.at(paddr), grant: true },
            ObjectType::HugePage => frame(FrameSize::Huge),
            ObjectType::LargePage => frame(FrameSize::Large),
            ObjectType::SmallPage => frame(FrameSize::Small),
            ObjectType::PageTable => Cap::PageTable(PageTableCap { table: self.window.at(paddr), mapping: None }),
            ObjectType::VSpace => Cap::VSpace { root: self.window.at(paddr), asid: 0 },
        }
    }
}

/// The size argument against the type's bounds.
fn check_size(object: ObjectType, size_bits: u64) -> Result<u32, Fail> {
    let too_large = Fail::Range(0, u64::from(MAX_UNTYPED_BITS));
    if size_bits >= 64 || object.size_bits(size_bits as u32) > MAX_UNTYPED_BITS {
        return Err(too_large);
    }
    let size_bits = size_bits as u32;
    let least = match object {
        ObjectType::CNode => 1,
        ObjectType::Untyped => MIN_UNTYPED_BITS,
        ObjectType::SchedContext => MIN_SCHED_CONTEXT_BITS,
        _ => 0,
    };
    const _: () = assert!(object::SLOT_BITS + 1 < MAX_UNTYPED_BITS);
    if size_bits < least { Err(Fail::InvalidArgument(1)) } else { Ok(size_bits) }
}

/// The CNode that gets the new capabilities.
fn destination(inv: &Invocation, index: u64, depth: u64) -> Result<CNodeCap, Fail> {
    let root = inv.extra_cap(0);
    let cap = if depth == 0 { root } else { cspace::target(&root, index, depth, false)?.cap() };
    match cap {
        Cap::CNode(node) => Ok(node),
        _ => Err(Fail::lookup(LookupFailure::MissingCapability { bits_left: depth })),
    }
}

/// The run of destination slots.
fn check_window(node: &CNodeCap, offset: u64, count: u64) -> Result<(), Fail> {
    if offset >= node.len() {
        return Err(Fail::Range(0, node.len() - 1));
    }
    if !(1..=RETYPE_FAN_OUT_LIMIT).contains(&count) {
        return Err(Fail::Range(1, RETYPE_FAN_OUT_LIMIT));
    }
    let room = node.len() - offset;
    if count > room {
        return Err(Fail::Range(1, room));
    }
    if (offset..offset + count).any(|i| !node.slot(i).is_empty()) { Err(Fail::DeleteFirst) } else { Ok(()) }
}
