//! Address spaces: page-table walk and descriptors, VSpace and page-table invocations (sheet §3.9, §9).
//!
//! Four levels of 512 descriptors, 4 KiB granule. A descriptor is written through the object window and then made visible
//! by [`Machine::table_sync`]; removing one also flushes the TLB.

use core::cell::Cell;

use kernel_abi::vm::{TABLE_INDEX_BITS, USER_TOP};
use kernel_abi::{Label, VmAttributes};

use crate::cap::{Cap, Mapping, PageTableCap, Slot};
use crate::error::{Fail, LookupFailure};
use crate::machine::{CacheOp, Machine};
use crate::mem::{Ptr, Window};
use crate::syscall::{Answer, Invocation};
use crate::tcb::{Tcb, TcbSlot};
use crate::{Kernel, cdt};

/// A translation table of any level.
#[repr(C, align(4096))]
pub struct Table {
    entries: [Cell<u64>; 1 << TABLE_INDEX_BITS],
}

const _: () = assert!(size_of::<Table>() == 1 << kernel_abi::object::PAGE_TABLE_BITS);

/// Bits of a descriptor (Arm ARM D8.3).
mod bits {
    pub const VALID: u64 = 1;
    /// Table at levels 0..=2, page at level 3; a block without it.
    pub const TABLE_OR_PAGE: u64 = 1 << 1;
    /// Index of the memory attributes in MAIR.
    pub const ATTR_SHIFT: u32 = 2;
    pub const ATTR_DEVICE_NGNRNE: u64 = 0;
    pub const ATTR_NORMAL: u64 = 4;
    /// AP[1]: EL0 access.
    pub const EL0: u64 = 1 << 6;
    /// AP[2]: read-only.
    pub const READ_ONLY: u64 = 1 << 7;
    pub const INNER_SHAREABLE: u64 = 3 << 8;
    pub const ACCESSED: u64 = 1 << 10;
    pub const NOT_GLOBAL: u64 = 1 << 11;
    pub const PRIVILEGED_EXECUTE_NEVER: u64 = 1 << 53;
    pub const USER_EXECUTE_NEVER: u64 = 1 << 54;
    pub const ADDRESS: u64 = 0x0000_FFFF_FFFF_F000;
}

/// log2 bytes covered by an entry of the root.
const ROOT_SHIFT: u32 = 39;
/// log2 bytes covered by an entry of the last level.
const PAGE_SHIFT: u32 = 12;

/// Where a walk ended: a descriptor that is no table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    table: Ptr<Table>,
    index: usize,
    /// log2 bytes the descriptor covers.
    pub shift: u32,
}

impl Found {
    fn cell(&self) -> &Cell<u64> {
        &self.table.entries[self.index]
    }

    /// The descriptor.
    pub fn entry(&self) -> u64 {
        self.cell().get()
    }

    /// Whether something is mapped here.
    pub fn is_mapped(&self) -> bool {
        self.entry() & bits::VALID != 0
    }

    /// Physical address of what is mapped.
    pub fn paddr(&self) -> u64 {
        self.entry() & bits::ADDRESS
    }

    /// Whether EL0 may write.
    pub fn writable(&self) -> bool {
        self.entry() & (bits::EL0 | bits::READ_ONLY) == bits::EL0
    }
}

fn index_of(vaddr: u64, shift: u32) -> usize {
    ((vaddr >> shift) & ((1 << TABLE_INDEX_BITS) - 1)) as usize
}

fn is_table(entry: u64, shift: u32) -> bool {
    shift > PAGE_SHIFT && entry & (bits::VALID | bits::TABLE_OR_PAGE) == bits::VALID | bits::TABLE_OR_PAGE
}

/// Follows the tables for `vaddr` to the first descriptor that is no table. At most four steps.
pub(crate) fn walk(window: Window, root: Ptr<Table>, vaddr: u64) -> Found {
    let mut found = Found { table: root, index: index_of(vaddr, ROOT_SHIFT), shift: ROOT_SHIFT };
    while is_table(found.entry(), found.shift) {
        let shift = found.shift - TABLE_INDEX_BITS;
        found = Found { table: window.at(found.paddr()), index: index_of(vaddr, shift), shift };
    }
    found
}

/// The descriptor of a page.
pub(crate) fn leaf(paddr: u64, shift: u32, read: bool, write: bool, attributes: VmAttributes) -> u64 {
    let mut entry = paddr | bits::VALID | bits::ACCESSED | bits::NOT_GLOBAL | bits::PRIVILEGED_EXECUTE_NEVER;
    if shift == PAGE_SHIFT {
        entry |= bits::TABLE_OR_PAGE;
    }
    entry |= if attributes.contains(VmAttributes::PAGE_CACHEABLE) {
        (bits::ATTR_NORMAL << bits::ATTR_SHIFT) | bits::INNER_SHAREABLE
    } else {
        bits::ATTR_DEVICE_NGNRNE << bits::ATTR_SHIFT
    };
    entry |= match (read, write) {
        (true, true) => bits::EL0,
        (true, false) => bits::EL0 | bits::READ_ONLY,
        (false, _) => 0,
    };
    if attributes.contains(VmAttributes::EXECUTE_NEVER) {
        entry |= bits::USER_EXECUTE_NEVER;
    }
    entry
}

/// A checked cache operation on a range that is mapped; `None`: nothing to do.
pub(crate) type FlushOp = Option<(CacheOp, u64, u64)>;

/// A checked page-table invocation.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PageTableOp {
    Map { found: Found, cap: PageTableCap },
    Unmap(PageTableCap),
}

impl<M: Machine> Kernel<M> {
    /// Checks that an argument is an assigned VSpace; `n` is its capability number.
    pub(crate) fn vspace_arg(&self, cap: &Cap, n: u64) -> Result<(Ptr<Table>, u16), Fail> {
        match *cap {
            Cap::VSpace { root, asid } if asid != 0 => Ok((root, asid)),
            _ => Err(Fail::InvalidCapability(n)),
        }
    }

    /// Checks that an ASID still belongs to a root.
    pub(crate) fn check_asid(&self, root: Ptr<Table>, asid: u16, n: u64) -> Result<(), Fail> {
        match self.asid_root(asid) {
            None => Err(Fail::lookup(LookupFailure::InvalidRoot)),
            Some(found) if found == root => Ok(()),
            Some(_) => Err(Fail::InvalidCapability(n)),
        }
    }

    /// The translation a thread runs with; `None` if its VSpace is absent or no longer valid.
    pub(crate) fn space_of(&self, tcb: Ptr<Tcb>) -> Option<(u64, u16)> {
        match tcb.slot(TcbSlot::VTable).cap() {
            Cap::VSpace { root, asid } if self.asid_root(asid) == Some(root) => Some((self.window.paddr(root), asid)),
            _ => None,
        }
    }

    /// Writes a descriptor; `asid` and `vaddr` say whose translation goes if there was one.
    pub(crate) fn write_entry(&mut self, found: &Found, entry: u64, asid: u16, vaddr: u64) {
        let was_mapped = found.is_mapped();
        if was_mapped && entry & bits::VALID != 0 {
            // Break before make (Arm ARM D8.14).
            found.cell().set(0);
            self.machine.table_sync();
            self.machine.tlb_flush_page(asid, vaddr);
        }
        found.cell().set(entry);
        self.machine.table_sync();
        if was_mapped {
            self.machine.tlb_flush_page(asid, vaddr);
        }
    }

    /// Checks a cache operation on a VSpace.
    pub(crate) fn decode_vspace(&self, inv: &Invocation, root: Ptr<Table>, asid: u16) -> Result<FlushOp, Fail> {
        let op = match Label::from_raw(inv.label) {
            Some(Label::ARMVSpaceCleanData) => CacheOp::Clean,
            Some(Label::ARMVSpaceInvalidateData) => CacheOp::Invalidate,
            Some(Label::ARMVSpaceCleanInvalidateData) => CacheOp::CleanInvalidate,
            Some(Label::ARMVSpaceUnifyInstruction) => CacheOp::Unify,
            _ => return Err(Fail::IllegalOperation),
        };
        inv.need(2, 0)?;
        let (start, end) = (inv.mr(0), inv.mr(1));
        if end <= start {
            return Err(Fail::InvalidArgument(1));
        }
        if end > USER_TOP {
            return Err(Fail::IllegalOperation);
        }
        if asid == 0 {
            return Err(Fail::InvalidCapability(0));
        }
        self.check_asid(root, asid, 0)?;
        let found = walk(self.window, root, start);
        if !found.is_mapped() {
            return Ok(None);
        }
        let page = start & !((1 << found.shift) - 1);
        let last = page + ((1 << found.shift) - 1);
        if end - 1 > last {
            return Err(Fail::Range(start, last));
        }
        if op == CacheOp::Invalidate && !found.writable() {
            return Err(Fail::IllegalOperation);
        }
        Ok(Some((op, found.paddr() + (start - page), end - start)))
    }

    /// Carries out a checked cache operation.
    pub(crate) fn invoke_flush(&mut self, op: FlushOp) -> Answer {
        if let Some((op, paddr, len)) = op {
            self.machine.cache(op, paddr, len);
        }
        Answer::Done
    }

    /// Checks a page-table invocation.
    pub(crate) fn decode_page_table(&self, inv: &Invocation, cap: &PageTableCap) -> Result<PageTableOp, Fail> {
        match Label::from_raw(inv.label) {
            Some(Label::ARMPageTableMap) => {}
            Some(Label::ARMPageTableUnmap) if cdt::is_final(inv.slot) => return Ok(PageTableOp::Unmap(*cap)),
            Some(Label::ARMPageTableUnmap) => return Err(Fail::RevokeFirst),
            _ => return Err(Fail::IllegalOperation),
        }
        inv.need(2, 1)?;
        if cap.mapping.is_some() {
            return Err(Fail::InvalidCapability(0));
        }
        let (root, asid) = self.vspace_arg(&inv.extra_cap(0), 1)?;
        let vaddr = inv.mr(0);
        if vaddr > USER_TOP {
            return Err(Fail::InvalidArgument(0));
        }
        self.check_asid(root, asid, 1)?;
        let found = walk(self.window, root, vaddr);
        if found.shift == PAGE_SHIFT || found.is_mapped() {
            return Err(Fail::DeleteFirst);
        }
        let vaddr = vaddr & !((1 << found.shift) - 1);
        let cap = PageTableCap { mapping: Some(Mapping { asid, vaddr }), ..*cap };
        Ok(PageTableOp::Map { found, cap })
    }

    /// Carries out a checked page-table invocation on the capability in `slot`.
    pub(crate) fn invoke_page_table(&mut self, slot: Ptr<Slot>, op: PageTableOp) -> Answer {
        match op {
            PageTableOp::Map { found, cap } => self.map_table(slot, &found, cap),
            PageTableOp::Unmap(cap) => {
                self.unmap_table(&cap);
                slot.set_cap(Cap::PageTable(PageTableCap { mapping: None, ..cap }));
                for entry in &cap.table.entries {
                    entry.set(0);
                }
            }
        }
        Answer::Done
    }

    /// Links a table at a free descriptor and notes it in its capability.
    pub(crate) fn map_table(&mut self, slot: Ptr<Slot>, found: &Found, cap: PageTableCap) {
        let entry = self.window.paddr(cap.table) | bits::VALID | bits::TABLE_OR_PAGE;
        if let Some(at) = cap.mapping {
            slot.set_cap(Cap::PageTable(cap));
            self.write_entry(found, entry, at.asid, at.vaddr);
        }
    }

    /// Removes a table from its address space, if it is still there.
    pub(crate) fn unmap_table(&mut self, cap: &PageTableCap) {
        let Some(at) = cap.mapping else { return };
        let Some(root) = self.asid_root(at.asid) else { return };
        let paddr = self.window.paddr(cap.table);
        let mut found = Found { table: root, index: index_of(at.vaddr, ROOT_SHIFT), shift: ROOT_SHIFT };
        while is_table(found.entry(), found.shift) {
            if found.paddr() == paddr {
                found.cell().set(0);
                self.machine.table_sync();
                // Walks below this entry may be cached for its whole range.
                self.machine.tlb_flush_asid(at.asid);
                return;
            }
            let shift = found.shift - TABLE_INDEX_BITS;
            found = Found { table: self.window.at(found.paddr()), index: index_of(at.vaddr, shift), shift };
        }
    }
}
