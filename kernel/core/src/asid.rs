//! Address-space identifiers: 128 pools of 512 (sheet §9.4). ASID 0 is never given out.

use kernel_abi::Label;
use kernel_abi::object::ASID_POOL_BITS;
use kernel_abi::vm::{ASID_POOL_INDEX_BITS, NUM_ASID_POOLS_BITS};

use crate::cap::{Cap, Slot};
use crate::cdt::Marks;
use crate::error::{Fail, LookupFailure};
use crate::machine::Machine;
use crate::mem::{Link, Ptr};
use crate::sched::Space;
use crate::syscall::{Answer, Invocation};
use crate::vspace::Table;
use crate::{Kernel, cdt};

/// ASIDs of a pool.
const POOL_SIZE: usize = 1 << ASID_POOL_INDEX_BITS;
/// Number of pools.
pub(crate) const NUM_POOLS: usize = 1 << NUM_ASID_POOLS_BITS;

/// The roots of a pool's address spaces.
#[repr(C, align(4096))]
pub struct AsidPool {
    roots: [Link<Table>; POOL_SIZE],
}

const _: () = assert!(size_of::<AsidPool>() == 1 << ASID_POOL_BITS);

/// A checked MakePool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MakePoolOp {
    pool: usize,
    untyped: Ptr<Slot>,
    dest: Ptr<Slot>,
}

/// A checked Assign: the VSpace's slot and root, its new ASID.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AssignOp {
    slot: Ptr<Slot>,
    root: Ptr<Table>,
    asid: u16,
}

fn split(asid: u16) -> (usize, usize) {
    (usize::from(asid) >> ASID_POOL_INDEX_BITS, usize::from(asid) & (POOL_SIZE - 1))
}

impl<M: Machine> Kernel<M> {
    /// The root that an ASID stands for.
    #[inline]
    pub(crate) fn asid_root(&self, asid: u16) -> Option<Ptr<Table>> {
        let (pool, index) = split(asid);
        if asid == 0 { None } else { self.asid_pools[pool]?.roots[index].get() }
    }

    /// Gives an ASID of an existing pool to a root (checked to be free).
    pub(crate) fn asid_set(&mut self, asid: u16, root: Ptr<Table>) {
        let (pool, index) = split(asid);
        if let Some(pool) = self.asid_pools[pool] {
            pool.roots[index].set(Some(root));
        }
    }

    /// A dying VSpace: its ASID becomes free.
    pub(crate) fn asid_delete(&mut self, asid: u16, root: Ptr<Table>) {
        if self.asid_root(asid) != Some(root) {
            return;
        }
        let (pool, index) = split(asid);
        if let Some(pool) = self.asid_pools[pool] {
            pool.roots[index].set(None);
        }
        self.asid_gone(asid);
    }

    /// A dying pool: its ASIDs are no longer valid.
    pub(crate) fn asid_pool_delete(&mut self, base: u16, pool: Ptr<AsidPool>) {
        let (number, _) = split(base);
        if self.asid_pools[number] != Some(pool) {
            return;
        }
        self.asid_pools[number] = None;
        for (i, root) in pool.roots.iter().enumerate() {
            if root.is_some() {
                self.asid_gone(base | i as u16);
            }
        }
    }

    /// No core may go on translating with this ASID.
    fn asid_gone(&mut self, asid: u16) {
        let core = self.this_core;
        for c in 0..self.num_cores {
            if !matches!(self.cores[c].space, Space::Loaded(Some((_, a))) if a == asid) {
                continue;
            }
            self.cores[c].space = Space::Stale;
            if c != core {
                match self.cores[c].current {
                    Some(tcb) => self.stall_thread(core, tcb),
                    None => self.reschedule(core, c),
                }
            }
        }
        self.machine.tlb_flush_asid(asid);
    }

    /// Checks ASIDControl_MakePool.
    pub(crate) fn decode_asid_control(&self, inv: &Invocation) -> Result<MakePoolOp, Fail> {
        if inv.label != Label::ARMASIDControlMakePool.raw() {
            return Err(Fail::IllegalOperation);
        }
        inv.need(2, 2)?;
        let pool = self.asid_pools.iter().position(|p| p.is_none()).ok_or(Fail::DeleteFirst)?;
        let untyped = inv.extra_slot(0);
        match untyped.cap() {
            Cap::Untyped(u) if u.bits == ASID_POOL_BITS && !u.device => {}
            _ => return Err(Fail::InvalidCapability(1)),
        }
        if cdt::has_children(self.window, untyped) {
            return Err(Fail::RevokeFirst);
        }
        let dest = self.issue_target(&inv.extra_cap(1), inv.mr(0), inv.mr(1))?;
        Ok(MakePoolOp { pool, untyped, dest })
    }

    /// Makes a pool of an untyped, which is full then.
    pub(crate) fn invoke_asid_control(&mut self, op: MakePoolOp) -> Answer {
        let Cap::Untyped(mut untyped) = op.untyped.cap() else { return Answer::Done };
        self.window.zero(untyped.paddr, untyped.size());
        untyped.used = untyped.size();
        op.untyped.set_cap(Cap::Untyped(untyped));
        let pool = self.window.at(untyped.paddr);
        self.asid_pools[op.pool] = Some(pool);
        let base = (op.pool << ASID_POOL_INDEX_BITS) as u16;
        cdt::insert_after(op.untyped, op.dest, Cap::AsidPool { pool, base }, Marks::NONE);
        Answer::Done
    }

    /// Checks ASIDPool_Assign.
    pub(crate) fn decode_asid_pool(&self, inv: &Invocation, pool: Ptr<AsidPool>, base: u16) -> Result<AssignOp, Fail> {
        if inv.label != Label::ARMASIDPoolAssign.raw() {
            return Err(Fail::IllegalOperation);
        }
        inv.need(0, 1)?;
        let slot = inv.extra_slot(0);
        let Cap::VSpace { root, asid: 0 } = slot.cap() else { return Err(Fail::InvalidCapability(1)) };
        match self.asid_pools[split(base).0] {
            None => return Err(Fail::lookup(LookupFailure::InvalidRoot)),
            Some(found) if found != pool => return Err(Fail::InvalidCapability(0)),
            Some(_) => {}
        }
        let free = |i: &usize| !pool.roots[*i].is_some() && (base | *i as u16) != 0;
        let index = (0..POOL_SIZE).find(free).ok_or(Fail::DeleteFirst)?;
        Ok(AssignOp { slot, root, asid: base | index as u16 })
    }

    /// Gives a VSpace its ASID.
    pub(crate) fn invoke_asid_pool(&mut self, pool: Ptr<AsidPool>, op: AssignOp) -> Answer {
        pool.roots[split(op.asid).1].set(Some(op.root));
        op.slot.set_cap(Cap::VSpace { root: op.root, asid: op.asid });
        Answer::Done
    }
}
