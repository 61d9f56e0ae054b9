//! The initial task: boot information, slots, start state.

mod common;

use common::*;
use kernel_core::abi::slots::InitialCap;
use kernel_core::abi::{CapTag, Label};
use kernel_core::{BootError, Kernel, Region};

#[test]
fn root_starts_as_told() {
    let mut k = Kernel::new(Mock::new());
    k.boot(&config(&MEMORY, &RESERVED)).unwrap();
    // SAFETY: the root's context, made of cells.
    let c = unsafe { k.current(0).unwrap().as_ref() };
    assert_eq!((c.elr.get(), c.sp.get(), c.spsr.get()), (IMAGE_VADDR + 0x40, 0, 0x40));
    assert_eq!(c.x[0].get(), IMAGE_VADDR + 0x5000);
    assert!(c.x[1..].iter().all(|x| x.get() == 0));
    assert_eq!((c.tpidr.get(), c.tpidrro.get()), (0, 0));
    let mut name = String::new();
    k.current_name(0, &mut |b| name.push(b as char));
    assert_eq!(name, "rootserver");
    assert!(matches!(
        k.machine.did.borrow().iter().find(|d| matches!(d, Did::Space(..))),
        Some(Did::Space(0, Some((_, 1))))
    ));
    assert_eq!(k.machine.deadline[0], 1000 + us(5000));
    k.audit().unwrap();
}

#[test]
fn boot_info_describes_the_slots() {
    let mut w = World::new();
    let info = w.bootinfo_paddr();
    let word = |i: u64| w.read(info + i);
    assert_eq!(word(0), 16 + 17);
    assert_eq!((word(8), word(16), word(24)), (0, 1, 0));
    assert_eq!(word(32), IMAGE_VADDR + 0x4000);
    let paging = (word(88), word(96));
    let extra = (word(120), word(128));
    let control = (word(152), word(160));
    let frames = (word(72), word(80));
    let untyped = (word(168), word(176));
    let empty = (word(40), word(48));
    assert_eq!(paging, (16, 19));
    assert_eq!(extra, (19, 20));
    assert_eq!(control, (20, 21));
    assert_eq!(frames, (21, 25));
    assert_eq!(untyped.0, 25);
    assert_eq!(empty, (untyped.1, 1 << ROOT_BITS));
    assert_eq!(word(136), u64::from(ROOT_BITS));

    let tag = |w: &mut World, slot: u64| CapTag::from_raw(w.identify(slot)).unwrap();
    for (slot, expected) in [
        (InitialCap::ThreadTcb, CapTag::Tcb),
        (InitialCap::ThreadCNode, CapTag::CNode),
        (InitialCap::ThreadVSpace, CapTag::VSpace),
        (InitialCap::IrqControl, CapTag::IrqControl),
        (InitialCap::AsidControl, CapTag::AsidControl),
        (InitialCap::ThreadAsidPool, CapTag::AsidPool),
        (InitialCap::IoPortControl, CapTag::Null),
        (InitialCap::BootInfoFrame, CapTag::Frame),
        (InitialCap::ThreadIpcBuffer, CapTag::Frame),
        (InitialCap::Domain, CapTag::Domain),
        (InitialCap::ThreadSchedContext, CapTag::SchedContext),
    ] {
        assert_eq!(tag(&mut w, slot.raw()), expected, "{slot:?}");
    }
    assert_eq!(tag(&mut w, 16), CapTag::PageTable);
    assert_eq!(tag(&mut w, 20), CapTag::SchedControl);
    assert_eq!(tag(&mut w, 21), CapTag::Frame);
    assert_eq!(tag(&mut w, 25), CapTag::Untyped);
    assert_eq!(tag(&mut w, empty.0), CapTag::Null);

    // Image frame 1 and the device tree chunk.
    let frame = w.ok(22, Label::ARMPageGetAddress, &[], &[])[0];
    assert_eq!(frame, RAM + 0x10_1000);
    let fdt = w.ok(19, Label::ARMPageGetAddress, &[], &[])[0];
    assert_eq!((w.read(fdt), w.read(fdt + 8)), (6, 33));
    assert_eq!(w.read(fdt + 16), u64::from_le_bytes(*b"device t"));
}

#[test]
fn untypeds_cover_everything_once() {
    let mut w = World::new();
    let info = w.bootinfo_paddr();
    let (start, end) = (w.read(info + 168), w.read(info + 176));
    let list: Vec<_> = (0..end - start)
        .map(|i| (w.read(info + 184 + 16 * i), w.read(info + 192 + 16 * i)))
        .map(|(paddr, bits)| (paddr, 1u64 << (bits & 0xff), bits >> 8 != 0))
        .collect();
    let first_ram = list.iter().position(|u| !u.2).unwrap();
    assert!(list[first_ram..].iter().all(|u| !u.2), "devices first");
    assert_eq!((list[0].0, list[0].1), (0, 1 << 27));
    assert_eq!((list[1].0, list[1].1), (0x0800_1000, 1 << 12));
    let device: u64 = list[..first_ram].iter().map(|u| u.1).sum();
    assert_eq!(device, (1 << 40) - RAM_BYTES - 0x2000);
    for pair in list[first_ram..].windows(2) {
        assert!(pair[0].0 + pair[0].1 <= pair[1].0);
    }
    // Only the reserved megabyte, the image and the kernel's block are missing.
    let ram: u64 = list[first_ram..].iter().map(|u| u.1).sum();
    let missing = RAM_BYTES - ram - 0x10_0000 - 0x4000;
    assert!((1 << (ROOT_BITS + 5)..(1 << (ROOT_BITS + 5)) + 0x4_0000).contains(&missing), "{missing:#x}");
}

#[test]
fn bad_configurations_are_refused() {
    let try_boot = |change: &dyn Fn(&mut kernel_core::BootConfig<'_>)| {
        let mut k: Kernel<Mock> = World::new().k;
        let mut c = config(&MEMORY, &RESERVED);
        change(&mut c);
        k.boot(&c)
    };
    assert_eq!(try_boot(&|c| c.num_cores = 0), Err(BootError::BadConfig));
    assert_eq!(try_boot(&|c| c.num_cores = 99), Err(BootError::BadConfig));
    assert_eq!(try_boot(&|c| c.root_cnode_bits = 11), Err(BootError::BadConfig));
    assert_eq!(try_boot(&|c| c.num_domains = 17), Err(BootError::BadConfig));
    assert_eq!(try_boot(&|c| c.timer_hz = 0), Err(BootError::BadConfig));
    assert_eq!(try_boot(&|c| c.image.phys.start += 1), Err(BootError::BadImage));
    assert_eq!(try_boot(&|c| c.image.phys = Region { start: 0, end: 0x1000 }), Err(BootError::BadImage));
    assert_eq!(try_boot(&|c| c.image.vaddr_start = 0xffff_ffff_ffff_f000), Err(BootError::BadImage));
    const TINY: [Region; 1] = [Region { start: RAM, end: RAM + 0x10_8000 }];
    assert_eq!(try_boot(&|c| c.memory = &TINY), Err(BootError::OutOfMemory));
}
