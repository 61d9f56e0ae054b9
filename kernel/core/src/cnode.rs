//! Operations on capability slots (sheet §3.5, §5.4).

use kernel_abi::{CapRights, Label};

use crate::cap::{Cap, FrameCap, Slot, UntypedCap};
use crate::cspace::{empty_target, target};
use crate::endpoint::Endpoint;
use crate::error::{Fail, LookupFailure, Preempted};
use crate::machine::{CoreId, Machine};
use crate::mem::Ptr;
use crate::syscall::{Answer, Invocation};
use crate::{Kernel, cdt};

/// A checked CNode invocation.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CNodeOp {
    Revoke(Ptr<Slot>),
    Delete(Ptr<Slot>),
    CancelBadgedSends { ep: Ptr<Endpoint>, badge: u64 },
    Insert { cap: Cap, src: Ptr<Slot>, dest: Ptr<Slot> },
    Move { cap: Cap, src: Ptr<Slot>, dest: Ptr<Slot> },
    Rotate { source: (Cap, Ptr<Slot>), pivot: (Cap, Ptr<Slot>), dest: Ptr<Slot> },
}

impl<M: Machine> Kernel<M> {
    /// Checks a CNode invocation; `root` is the invoked CNode.
    pub(crate) fn decode_cnode(&self, inv: &Invocation, root: &Cap) -> Result<CNodeOp, Fail> {
        let label = Label::from_raw(inv.label)
            .filter(|l| (Label::CNodeRevoke..=Label::CNodeRotate).contains(l))
            .ok_or(Fail::IllegalOperation)?;
        inv.need(2, 0)?;
        match label {
            Label::CNodeRevoke => Ok(CNodeOp::Revoke(target(root, inv.mr(0), inv.mr(1), false)?)),
            Label::CNodeDelete => Ok(CNodeOp::Delete(target(root, inv.mr(0), inv.mr(1), false)?)),
            Label::CNodeCancelBadgedSends => match target(root, inv.mr(0), inv.mr(1), false)?.cap() {
                Cap::Endpoint(e) if e.rights == CapRights::ALL_RIGHTS => {
                    Ok(CNodeOp::CancelBadgedSends { ep: e.ep, badge: e.badge })
                }
                _ => Err(Fail::IllegalOperation),
            },
            Label::CNodeRotate => decode_rotate(inv, root),
            _ => self.decode_transfer(inv, root, label),
        }
    }

    /// Copy, Mint, Move, Mutate.
    fn decode_transfer(&self, inv: &Invocation, root: &Cap, label: Label) -> Result<CNodeOp, Fail> {
        let dest = target(root, inv.mr(0), inv.mr(1), false)?;
        inv.need(4, 1)?;
        if !dest.is_empty() {
            return Err(Fail::DeleteFirst);
        }
        let src = target(&inv.extra_cap(0), inv.mr(2), inv.mr(3), true)?;
        if src.is_empty() {
            let failure = LookupFailure::MissingCapability { bits_left: inv.mr(3) };
            return Err(Fail::Lookup { source: true, failure });
        }
        let cap = src.cap();
        let (cap, copies) = match label {
            Label::CNodeCopy => {
                inv.need(5, 1)?;
                (self.derive_cap(src, cap.masked(CapRights::from_word(inv.mr(4))))?, true)
            }
            Label::CNodeMint => {
                inv.need(6, 1)?;
                let minted = cap.masked(CapRights::from_word(inv.mr(4))).with_data(inv.mr(5), false);
                (self.derive_cap(src, minted)?, true)
            }
            Label::CNodeMutate => {
                inv.need(5, 1)?;
                (cap.with_data(inv.mr(4), true), false)
            }
            _ => (cap, false),
        };
        if cap.is_null() {
            return Err(Fail::IllegalOperation);
        }
        Ok(if copies { CNodeOp::Insert { cap, src, dest } } else { CNodeOp::Move { cap, src, dest } })
    }

    /// Carries out a checked CNode invocation.
    pub(crate) fn invoke_cnode(&mut self, core: CoreId, op: CNodeOp) -> Result<Answer, Preempted> {
        match op {
            CNodeOp::Revoke(slot) => self.revoke(slot)?,
            CNodeOp::Delete(slot) => self.delete(slot)?,
            CNodeOp::CancelBadgedSends { badge: 0, .. } => {}
            CNodeOp::CancelBadgedSends { ep, badge } => self.cancel_badged_sends(core, ep, badge),
            CNodeOp::Insert { cap, src, dest } => cdt::insert_derived(cap, src, dest),
            CNodeOp::Move { cap, src, dest } => cdt::move_slot(cap, src, dest),
            CNodeOp::Rotate { source, pivot, dest } if dest == source.1 => {
                cdt::swap(source.0, source.1, pivot.0, pivot.1);
            }
            CNodeOp::Rotate { source, pivot, dest } => {
                cdt::move_slot(pivot.0, pivot.1, dest);
                cdt::move_slot(source.0, source.1, pivot.1);
            }
        }
        Ok(Answer::Done)
    }

    /// What a copy of the slot's capability would be (null: cannot be copied).
    pub(crate) fn derive(&self, src: Ptr<Slot>) -> Result<Cap, Fail> {
        self.derive_cap(src, src.cap())
    }

    /// As [`Kernel::derive`], for the slot's capability with changed rights or data.
    fn derive_cap(&self, src: Ptr<Slot>, cap: Cap) -> Result<Cap, Fail> {
        Ok(match cap {
            Cap::Null | Cap::Zombie(_) | Cap::IrqControl => Cap::Null,
            Cap::Untyped(UntypedCap { .. }) if cdt::has_children(self.window, src) => return Err(Fail::RevokeFirst),
            Cap::PageTable(table) if table.mapping.is_none() => return Err(Fail::IllegalOperation),
            Cap::VSpace { asid: 0, .. } => return Err(Fail::IllegalOperation),
            Cap::Frame(frame) => Cap::Frame(FrameCap { mapping: None, ..frame }),
            other => other,
        })
    }

    /// The (empty) slot that an issuing invocation names: `root`, index, depth.
    pub(crate) fn issue_target(&self, root: &Cap, index: u64, depth: u64) -> Result<Ptr<Slot>, Fail> {
        empty_target(root, index, depth)
    }
}

fn decode_rotate(inv: &Invocation, root: &Cap) -> Result<CNodeOp, Fail> {
    let dest = target(root, inv.mr(0), inv.mr(1), false)?;
    inv.need(8, 2)?;
    let [dest_badge, pivot_index, pivot_depth, pivot_badge, src_index, src_depth] =
        [2, 3, 4, 5, 6, 7].map(|i| inv.mr(i));
    let src = target(&inv.extra_cap(1), src_index, src_depth, true)?;
    let pivot = target(&inv.extra_cap(0), pivot_index, pivot_depth, true)?;
    if pivot == src || pivot == dest {
        return Err(Fail::IllegalOperation);
    }
    if dest != src && !dest.is_empty() {
        return Err(Fail::DeleteFirst);
    }
    let missing = |source, bits_left| Fail::Lookup { source, failure: LookupFailure::MissingCapability { bits_left } };
    if src.is_empty() {
        return Err(missing(true, src_depth));
    }
    if pivot.is_empty() {
        return Err(missing(false, pivot_depth));
    }
    let source_cap = src.cap().with_data(pivot_badge, true);
    let pivot_cap = pivot.cap().with_data(dest_badge, true);
    if source_cap.is_null() || pivot_cap.is_null() {
        return Err(Fail::IllegalOperation);
    }
    Ok(CNodeOp::Rotate { source: (source_cap, src), pivot: (pivot_cap, pivot), dest })
}
