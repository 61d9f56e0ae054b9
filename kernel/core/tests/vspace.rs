//! Address spaces, page tables, frames, ASIDs (sheet §3.9, §9).

mod common;

use common::*;
use kernel_core::CacheOp;
use kernel_core::abi::{CapTag, Error, Label, ObjectType};

const TOP: u64 = 0x7FFF_FFFF_FFFF;
const MAP: Label = Label::ARMPageMap;
const TABLE: Label = Label::ARMPageTableMap;

fn frame(w: &mut World) -> u64 {
    w.make(ObjectType::SmallPage, 0)
}

/// A VSpace with an ASID.
fn vspace(w: &mut World) -> u64 {
    let v = w.make(ObjectType::VSpace, 0);
    w.ok(6, Label::ARMASIDPoolAssign, &[], &[v]);
    v
}

/// A VSpace with all tables for `vaddr`.
fn space_at(w: &mut World, vaddr: u64) -> (u64, [u64; 3]) {
    let v = vspace(w);
    let tables = [0; 3].map(|_| {
        let t = w.make(ObjectType::PageTable, 0);
        w.ok(t, TABLE, &[vaddr, 0], &[v]);
        t
    });
    (v, tables)
}

#[test]
fn tables_and_pages_go_level_by_level() {
    let mut w = World::new();
    let v = vspace(&mut w);
    let f = frame(&mut w);
    let vaddr = 0x1234_5678_9000;
    for missing in [39, 30, 21] {
        w.err(f, MAP, &[vaddr, 3, 1], &[v], Error::FailedLookup, &[0, 2, missing]);
        let t = w.make(ObjectType::PageTable, 0);
        w.ok(t, TABLE, &[vaddr, 0], &[v]);
    }
    w.ok(f, MAP, &[vaddr, 3, 1], &[v]);
    let extra = w.make(ObjectType::PageTable, 0);
    w.err(extra, TABLE, &[vaddr, 0], &[v], Error::DeleteFirst, &[]);
    let large = w.make(ObjectType::LargePage, 0);
    w.err(large, MAP, &[vaddr & !0x1f_ffff, 3, 1], &[v], Error::FailedLookup, &[0, 2, 12]);
    w.ok(large, MAP, &[(vaddr & !0x1f_ffff) + 0x20_0000, 3, 1], &[v]);
    w.err(extra, TABLE, &[vaddr + 0x20_0000, 0], &[v], Error::DeleteFirst, &[]);
    let elsewhere = frame(&mut w);
    w.err(elsewhere, MAP, &[(vaddr & !0x1f_ffff) + 0x20_0000, 3, 1], &[v], Error::FailedLookup, &[0, 2, 21]);
}

#[test]
fn descriptors_have_the_right_bits() {
    let mut w = World::new();
    let vaddr = 0x40_0000_0000;
    let (_v, tables) = space_at(&mut w, vaddr);
    let v = _v;
    let f = frame(&mut w);
    let paddr = w.ok(f, Label::ARMPageGetAddress, &[], &[])[0];
    let entry = |w: &mut World| w.last_level_entry(tables[2], vaddr);
    const BASE: u64 = 3 | (1 << 10) | (1 << 11) | (1 << 53);
    const NORMAL: u64 = (4 << 2) | (3 << 8);
    w.ok(f, MAP, &[vaddr, 3, 3], &[v]);
    assert_eq!(entry(&mut w), paddr | BASE | NORMAL | (1 << 6));
    // Mapping again changes rights and attributes.
    w.ok(f, MAP, &[vaddr, 2, 1 | 4], &[v]);
    assert_eq!(entry(&mut w), paddr | BASE | NORMAL | (3 << 6) | (1 << 54));
    w.ok(f, MAP, &[vaddr, 1, 0], &[v]);
    assert_eq!(entry(&mut w), paddr | BASE);
    let read_only = w.mint(f, 2, 0);
    w.ok(f, Label::ARMPageUnmap, &[], &[]);
    assert_eq!(entry(&mut w), 0);
    w.ok(read_only, MAP, &[vaddr, 3, 1], &[v]);
    assert_eq!(entry(&mut w), paddr | BASE | NORMAL | (3 << 6));
}

#[test]
fn page_map_errors() {
    let mut w = World::new();
    let vaddr = 0x40_0000_0000;
    let (v, _) = space_at(&mut w, vaddr);
    let (v2, _) = space_at(&mut w, vaddr);
    let f = frame(&mut w);
    w.err(f, MAP, &[vaddr, 3], &[v], Error::TruncatedMessage, &[]);
    w.err(f, MAP, &[vaddr, 3, 1], &[], Error::TruncatedMessage, &[]);
    w.err(f, MAP, &[vaddr + 1, 3, 1], &[2], Error::InvalidCapability, &[1]);
    w.err(f, MAP, &[vaddr + 1, 3, 1], &[v], Error::AlignmentError, &[]);
    w.err(f, MAP, &[TOP + 1, 3, 1], &[v], Error::InvalidArgument, &[0]);
    w.err(f, MAP, &[!0xfff, 3, 1], &[v], Error::InvalidArgument, &[0]);
    w.ok(f, MAP, &[vaddr, 3, 1], &[v]);
    w.err(f, MAP, &[vaddr, 3, 1], &[v2], Error::InvalidCapability, &[1]);
    w.err(f, MAP, &[vaddr + 0x1000, 3, 1], &[v], Error::InvalidArgument, &[0]);
    w.err(f, TABLE, &[vaddr, 3], &[v], Error::IllegalOperation, &[]);
    // Another frame takes the place; the first one's capability is stale.
    let g = frame(&mut w);
    w.ok(g, MAP, &[vaddr, 3, 1], &[v]);
    w.err(f, Label::ARMPageCleanData, &[0, 64], &[], Error::InvalidCapability, &[0]);
    w.ok(f, Label::ARMPageUnmap, &[], &[]);
    w.ok(g, Label::ARMPageCleanData, &[0, 64], &[]);
    // Deleting a copy does not unmap, deleting the mapped capability does.
    let copy = w.copy(g);
    w.delete(copy);
    w.ok(g, Label::ARMPageCleanData, &[0, 64], &[]);
    w.did();
    w.delete(g);
    assert!(w.did().iter().any(|d| matches!(d, Did::FlushPage(_, a) if *a == vaddr)));
}

#[test]
fn table_errors_and_unmap() {
    let mut w = World::new();
    let vaddr = 0x40_0000_0000;
    let (v, tables) = space_at(&mut w, vaddr);
    let t = w.make(ObjectType::PageTable, 0);
    w.err(t, TABLE, &[vaddr], &[v], Error::TruncatedMessage, &[]);
    w.err(t, TABLE, &[vaddr, 0], &[], Error::TruncatedMessage, &[]);
    w.err(tables[0], TABLE, &[TOP + 1, 0], &[2], Error::InvalidCapability, &[0]);
    w.err(t, TABLE, &[TOP + 1, 0], &[2], Error::InvalidCapability, &[1]);
    w.err(t, TABLE, &[TOP + 1, 0], &[v], Error::InvalidArgument, &[0]);
    w.err(t, TABLE, &[vaddr, 0], &[v], Error::DeleteFirst, &[]);
    w.ok(t, Label::ARMPageTableUnmap, &[], &[]);
    let f = frame(&mut w);
    w.ok(f, MAP, &[vaddr, 3, 1], &[v]);
    let copy = w.copy(tables[2]);
    w.err(tables[2], Label::ARMPageTableUnmap, &[], &[], Error::RevokeFirst, &[]);
    w.delete(copy);
    w.ok(tables[2], Label::ARMPageTableUnmap, &[], &[]);
    w.err(f, Label::ARMPageCleanData, &[0, 64], &[], Error::InvalidCapability, &[0]);
    w.ok(tables[2], TABLE, &[vaddr, 0], &[v]);
    // The table was zeroed: nothing is mapped in it.
    let g = frame(&mut w);
    w.ok(g, MAP, &[vaddr + 0x1000, 3, 1], &[v]);
    w.err(f, Label::ARMPageCleanData, &[0, 64], &[], Error::InvalidCapability, &[0]);
}

#[test]
fn cache_operations() {
    let mut w = World::new();
    let vaddr = 0x40_0000_0000;
    let (v, _) = space_at(&mut w, vaddr);
    let f = frame(&mut w);
    let paddr = w.ok(f, Label::ARMPageGetAddress, &[], &[])[0];
    w.err(f, Label::ARMPageCleanData, &[0], &[], Error::TruncatedMessage, &[]);
    w.err(f, Label::ARMPageCleanData, &[0, 64], &[], Error::IllegalOperation, &[]);
    w.ok(f, MAP, &[vaddr, 3, 1], &[v]);
    w.err(f, Label::ARMPageCleanData, &[64, 64], &[], Error::InvalidArgument, &[1]);
    w.err(f, Label::ARMPageCleanData, &[64, 4097], &[], Error::InvalidArgument, &[0]);
    w.err(f, Label::ARMPageCleanData, &[4096, 4097], &[], Error::InvalidArgument, &[0]);
    w.did();
    w.ok(f, Label::ARMPageUnifyInstruction, &[8, 100], &[]);
    assert_eq!(w.did(), [Did::Cache(CacheOp::Unify, paddr + 8, 92)]);

    let clean = Label::ARMVSpaceCleanData;
    w.err(v, clean, &[vaddr], &[], Error::TruncatedMessage, &[]);
    w.err(v, clean, &[vaddr, vaddr], &[], Error::InvalidArgument, &[1]);
    w.err(v, clean, &[vaddr, TOP + 1], &[], Error::IllegalOperation, &[]);
    let unassigned = w.make(ObjectType::VSpace, 0);
    w.err(unassigned, clean, &[vaddr, vaddr + 1], &[], Error::InvalidCapability, &[0]);
    w.ok(v, clean, &[0x1000, 0x2000], &[]);
    assert_eq!(w.did(), []);
    w.err(v, clean, &[vaddr + 8, vaddr + 0x1001], &[], Error::RangeError, &[vaddr + 8, vaddr + 0xfff]);
    w.ok(v, clean, &[vaddr + 8, vaddr + 0x1000], &[]);
    assert_eq!(w.did(), [Did::Cache(CacheOp::Clean, paddr + 8, 0xff8)]);
    // Discarding needs a writable mapping.
    w.ok(f, MAP, &[vaddr, 2, 1], &[v]);
    w.err(v, Label::ARMVSpaceInvalidateData, &[vaddr, vaddr + 8], &[], Error::IllegalOperation, &[]);
    w.err(f, Label::ARMPageInvalidateData, &[0, 8], &[], Error::IllegalOperation, &[]);
    w.ok(f, Label::ARMPageCleanInvalidateData, &[0, 8], &[]);
    w.err(v, Label::ARMPageMap, &[], &[], Error::IllegalOperation, &[]);
}

#[test]
fn asid_pools() {
    let mut w = World::new();
    let make = Label::ARMASIDControlMakePool;
    let ut = w.make(ObjectType::Untyped, 12);
    let big = w.make(ObjectType::Untyped, 13);
    let dest = w.slot();
    w.err(5, Label::ARMASIDPoolAssign, &[], &[], Error::IllegalOperation, &[]);
    w.err(5, make, &[dest], &[ut, 2], Error::TruncatedMessage, &[]);
    w.err(5, make, &[dest, 64], &[ut], Error::TruncatedMessage, &[]);
    w.err(5, make, &[dest, 99], &[big, 2], Error::InvalidCapability, &[1]);
    let ep = w.slot();
    w.ok(ut, Label::UntypedRetype, &[ObjectType::Endpoint.raw(), 0, 0, 0, ep, 1], &[2]);
    w.err(5, make, &[dest, 99], &[ut, 2], Error::RevokeFirst, &[]);
    w.delete(ep);
    w.err(5, make, &[dest, 99], &[ut, 2], Error::RangeError, &[1, 64]);
    w.err(5, make, &[ut, 64], &[ut, 2], Error::DeleteFirst, &[]);
    w.ok(5, make, &[dest, 64], &[ut, 2]);
    assert_eq!(w.identify(dest), CapTag::AsidPool.raw());
    w.err(ut, Label::UntypedRetype, &[2, 0, 0, 0, ep, 1], &[2], Error::NotEnoughMemory, &[0]);

    let v = w.make(ObjectType::VSpace, 0);
    w.err(dest, Label::ARMASIDPoolAssign, &[], &[], Error::TruncatedMessage, &[]);
    w.err(dest, Label::ARMASIDPoolAssign, &[], &[3], Error::InvalidCapability, &[1]);
    w.ok(dest, Label::ARMASIDPoolAssign, &[], &[v]);
    w.err(dest, Label::ARMASIDPoolAssign, &[], &[v], Error::InvalidCapability, &[1]);
    let t = w.make(ObjectType::PageTable, 0);
    w.ok(t, TABLE, &[0, 0], &[v]);
    // The pool goes: its address spaces are no longer valid.
    w.did();
    w.delete(dest);
    assert!(w.did().contains(&Did::FlushAsid(512)));
    let f = frame(&mut w);
    w.err(f, MAP, &[0, 3, 1], &[v], Error::FailedLookup, &[0, 1]);
    // A pool of the same number, another address space in the same ASID.
    w.ok(5, make, &[dest, 64], &[ut, 2]);
    let v2 = w.make(ObjectType::VSpace, 0);
    w.ok(dest, Label::ARMASIDPoolAssign, &[], &[v2]);
    w.err(f, MAP, &[0, 3, 1], &[v], Error::InvalidCapability, &[1]);
    w.delete(v);
    w.err(f, MAP, &[0, 3, 1], &[v2], Error::FailedLookup, &[0, 2, 39]);
}

#[test]
fn a_pool_holds_its_number_of_spaces() {
    let mut w = World::with(|c| c.root_cnode_bits = 13);
    let v = w.make(ObjectType::VSpace, 0);
    // ASID 0 is never handed out, the root task has 1.
    let first = w.slot();
    let ut = w.untyped;
    w.ok(ut, Label::UntypedRetype, &[ObjectType::VSpace.raw(), 0, 0, 0, first, 256], &[2]);
    w.ok(ut, Label::UntypedRetype, &[ObjectType::VSpace.raw(), 0, 0, 0, first + 256, 254], &[2]);
    for i in 0..510 {
        w.ok(6, Label::ARMASIDPoolAssign, &[], &[first + i]);
    }
    w.err(6, Label::ARMASIDPoolAssign, &[], &[v], Error::DeleteFirst, &[]);
    w.delete(first + 100);
    w.ok(6, Label::ARMASIDPoolAssign, &[], &[v]);
}

#[test]
fn deleting_the_running_vspace_leaves_nothing_mapped() {
    let mut w = World::new();
    let t = w.spawn(20);
    let v = vspace(&mut w);
    w.ok(t.tcb, Label::TCBSetSpace, &[0, 0], &[w.next_slot, 2, v]);
    w.did();
    w.set_root_priority(5);
    assert!(matches!(w.did()[..], [Did::Space(0, Some((_, 2)))]));
    // Both capabilities go: slot and hidden slot (by revoking the original).
    let ut = w.untyped;
    let _ = ut;
    w.start(kernel_core::abi::Syscall::Call, 2, Label::CNodeRevoke.raw(), &[v, 64], &[]);
    assert!(w.did().contains(&Did::Space(0, None)));
    assert!(w.runs(&t));
}
