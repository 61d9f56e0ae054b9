//! Frames: mapping, unmapping, cache operations (sheet §3.9, §9.3).

use kernel_abi::vm::USER_TOP;
use kernel_abi::{CapRights, Label, VmAttributes};

use crate::Kernel;
use crate::cap::{Cap, FrameCap, Mapping, Slot};
use crate::error::{Fail, LookupFailure};
use crate::machine::{CacheOp, Machine};
use crate::mem::Ptr;
use crate::syscall::{Answer, Invocation};
use crate::vspace::{self, FlushOp, Found};

/// A checked frame invocation.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FrameOp {
    Map { found: Found, entry: u64, cap: FrameCap },
    Unmap(FrameCap),
    Flush(FlushOp),
    GetAddress(u64),
}

impl<M: Machine> Kernel<M> {
    /// Checks a frame invocation.
    pub(crate) fn decode_frame(&self, inv: &Invocation, frame: &FrameCap) -> Result<FrameOp, Fail> {
        match Label::from_raw(inv.label) {
            Some(Label::ARMPageMap) => self.decode_map(inv, frame),
            Some(Label::ARMPageUnmap) => Ok(FrameOp::Unmap(*frame)),
            Some(Label::ARMPageGetAddress) => Ok(FrameOp::GetAddress(frame.paddr)),
            Some(Label::ARMPageCleanData) => self.decode_flush(inv, frame, CacheOp::Clean),
            Some(Label::ARMPageInvalidateData) => self.decode_flush(inv, frame, CacheOp::Invalidate),
            Some(Label::ARMPageCleanInvalidateData) => self.decode_flush(inv, frame, CacheOp::CleanInvalidate),
            Some(Label::ARMPageUnifyInstruction) => self.decode_flush(inv, frame, CacheOp::Unify),
            _ => Err(Fail::IllegalOperation),
        }
    }

    fn decode_map(&self, inv: &Invocation, frame: &FrameCap) -> Result<FrameOp, Fail> {
        inv.need(3, 1)?;
        let (root, asid) = self.vspace_arg(&inv.extra_cap(0), 1)?;
        self.check_asid(root, asid, 1)?;
        let (vaddr, rights, attributes) = (inv.mr(0), CapRights::from_word(inv.mr(1)), inv.mr(2));
        if !vaddr.is_multiple_of(frame.size.bytes()) {
            return Err(Fail::Alignment);
        }
        match frame.mapping {
            Some(at) if at.asid != asid => return Err(Fail::InvalidCapability(1)),
            Some(at) if at.vaddr != vaddr => return Err(Fail::InvalidArgument(0)),
            Some(_) => {}
            None if vaddr.checked_add(frame.size.bytes() - 1).is_none_or(|last| last > USER_TOP) => {
                return Err(Fail::InvalidArgument(0));
            }
            None => {}
        }
        let found = vspace::walk(self.window, root, vaddr);
        if found.shift != frame.size.bits() {
            return Err(Fail::lookup(LookupFailure::MissingCapability { bits_left: u64::from(found.shift) }));
        }
        let read = frame.read && rights.contains(CapRights::READ);
        let write = frame.write && rights.contains(CapRights::WRITE);
        let attributes = VmAttributes::from_bits_truncate(attributes);
        let entry = vspace::leaf(frame.paddr, found.shift, read, write, attributes);
        let cap = FrameCap { mapping: Some(Mapping { asid, vaddr }), ..*frame };
        Ok(FrameOp::Map { found, entry, cap })
    }

    fn decode_flush(&self, inv: &Invocation, frame: &FrameCap, op: CacheOp) -> Result<FrameOp, Fail> {
        inv.need(2, 0)?;
        let at = frame.mapping.ok_or(Fail::IllegalOperation)?;
        let root = self.asid_root(at.asid).ok_or(Fail::lookup(LookupFailure::InvalidRoot))?;
        let (start, end) = (inv.mr(0), inv.mr(1));
        if end <= start {
            return Err(Fail::InvalidArgument(1));
        }
        if start >= frame.size.bytes() || end > frame.size.bytes() {
            return Err(Fail::InvalidArgument(0));
        }
        let found = vspace::walk(self.window, root, at.vaddr);
        if !maps(&found, frame) {
            return Err(Fail::InvalidCapability(0));
        }
        if op == CacheOp::Invalidate && !found.writable() {
            return Err(Fail::IllegalOperation);
        }
        Ok(FrameOp::Flush(Some((op, frame.paddr + start, end - start))))
    }

    /// Carries out a checked frame invocation on the capability in `slot`.
    pub(crate) fn invoke_frame(&mut self, slot: Ptr<Slot>, op: FrameOp) -> Answer {
        match op {
            FrameOp::Map { found, entry, cap } => {
                slot.set_cap(Cap::Frame(cap));
                if let Some(at) = cap.mapping {
                    self.write_entry(&found, entry, at.asid, at.vaddr);
                }
            }
            FrameOp::Unmap(cap) => {
                self.unmap_frame(&cap);
                slot.set_cap(Cap::Frame(FrameCap { mapping: None, ..cap }));
            }
            FrameOp::Flush(op) => return self.invoke_flush(op),
            FrameOp::GetAddress(paddr) => return Answer::One(paddr),
        }
        Answer::Done
    }

    /// Removes the mapping a capability made, if it is still there.
    pub(crate) fn unmap_frame(&mut self, cap: &FrameCap) {
        let Some(at) = cap.mapping else { return };
        let Some(root) = self.asid_root(at.asid) else { return };
        let found = vspace::walk(self.window, root, at.vaddr);
        if maps(&found, cap) {
            self.write_entry(&found, 0, at.asid, at.vaddr);
        }
    }
}

/// Whether a descriptor maps this very frame.
fn maps(found: &Found, frame: &FrameCap) -> bool {
    found.is_mapped() && found.shift == frame.size.bits() && found.paddr() == frame.paddr
}
