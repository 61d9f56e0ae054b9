//! What the root task is given at the start.

use crate::report::Outcome;
use crate::sys;
use crate::world::{TCB, World};
use kernel_abi::bootinfo::{EXTRA_BOOTINFO_OFFSET, MAX_BOOTINFO_UNTYPEDS};
use kernel_abi::{BootInfo, CapTag};

pub fn boot_info(world: &mut World) -> Outcome {
    let info = world.info;
    ensure_eq!(info.node_id, 0);
    ensure!(info.num_nodes >= 1);
    ensure_eq!(info.ipc_buffer % 4096, 0);
    ensure_eq!(info as *const BootInfo as u64, info.ipc_buffer + 4096);
    ensure_eq!(info.sched_control.end - info.sched_control.start, info.num_nodes);
    ensure_eq!(info.empty.end, 1 << info.init_thread_cnode_size_bits);
    ensure!(info.empty.start < info.empty.end);
    ensure_eq!(info.user_image_paging.start, 16);
    ensure_eq!(info.init_thread_domain, 0);
    ensure_eq!(info.shared_frames.end, 0);
    ensure!(info.extra_len > 16);
    let chunk = (info as *const BootInfo as u64 + EXTRA_BOOTINFO_OFFSET) as *const u64;
    // SAFETY: the kernel maps `extra_len` bytes there.
    let (id, length, magic) = unsafe { (*chunk, *chunk.add(1), *(chunk.add(2) as *const u32)) };
    ensure_eq!(id, 6);
    ensure_eq!(length, info.extra_len);
    ensure_eq!(u32::from_be(magic), 0xd00d_feedu32);
    Ok(())
}

pub fn initial_caps(world: &mut World) -> Outcome {
    let tags = [0, 12, 10, 9, 14, 11, 13, 0, 0, 1, 1, 20, 0, 0, 22, 0];
    for (slot, &tag) in tags.iter().enumerate() {
        ensure_eq!(sys::identify(slot as u64), tag);
    }
    let info = world.info;
    let runs = [
        (info.user_image_paging, CapTag::PageTable),
        (info.extra_bi_pages, CapTag::Frame),
        (info.sched_control, CapTag::SchedControl),
        (info.user_image_frames, CapTag::Frame),
        (info.untyped, CapTag::Untyped),
    ];
    let mut expected = 16;
    for (run, tag) in runs {
        ensure_eq!(run.start, expected);
        expected = run.end;
        for slot in run.start..run.end {
            ensure_eq!(sys::identify(slot), tag.raw());
        }
    }
    ensure_eq!(info.empty.start, expected);
    ensure_eq!(sys::identify(info.empty.end - 1), 0);
    Ok(())
}

pub fn untyped_list(world: &mut World) -> Outcome {
    let info = world.info;
    let count = (info.untyped.end - info.untyped.start) as usize;
    ensure!(count > 4 && count <= MAX_BOOTINFO_UNTYPEDS);
    let list = &info.untyped_list[..count];
    let mut ram_seen = false;
    for (i, u) in list.iter().enumerate() {
        ensure!((4..=47).contains(&u.size_bits));
        ensure_eq!(u.paddr & ((1 << u.size_bits) - 1), 0);
        ensure!(u.padding == [0; 6]);
        // Device memory first.
        ensure!(!(ram_seen && u.is_device != 0));
        ram_seen |= u.is_device == 0;
        for v in &list[..i] {
            ensure!(u.paddr + (1 << u.size_bits) <= v.paddr || v.paddr + (1 << v.size_bits) <= u.paddr);
        }
    }
    ensure!(ram_seen);
    // The serial port is for user land, the interrupt distributor is not.
    if world.is_virt() {
        ensure!(world.untyped_at(0x900_0000).is_some());
        ensure!(world.untyped_at(0x800_0000).is_none());
    }
    Ok(())
}

pub fn debug_calls(_: &mut World) -> Outcome {
    sys::name_thread(TCB, "testroot");
    let before = [u64::from(b'\n'), 1, 2, 3, 4, 5, 6, 0, 8];
    let after = sys::svc(kernel_abi::Syscall::DebugPutChar.raw(), before);
    ensure!(after[..7] == before[..7]);
    ensure_eq!(after[8], 8);
    ensure_eq!(sys::identify(1 << 40), 0);
    Ok(())
}
