//! What the kernel tells the root task (sheet §11.4).

/// Entries of the untyped list.
pub const MAX_BOOTINFO_UNTYPEDS: usize = 230;
/// log2 of the boot-info frame.
pub const BOOTINFO_FRAME_BITS: u32 = 12;
/// Distance from the boot-info address to the extra boot info.
pub const EXTRA_BOOTINFO_OFFSET: u64 = 4096;

/// A half-open run of slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SlotRegion {
    /// First slot.
    pub start: u64,
    /// One past the last slot.
    pub end: u64,
}

/// What one untyped capability covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct UntypedDesc {
    /// Physical address.
    pub paddr: u64,
    /// log2 bytes.
    pub size_bits: u8,
    /// 1 for device memory.
    pub is_device: u8,
    /// Zero.
    pub padding: [u8; 6],
}

/// The boot-info frame's contents.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct BootInfo {
    /// Bytes of extra boot info including chunk headers.
    pub extra_len: u64,
    /// Core of the root task: 0.
    pub node_id: u64,
    /// Number of cores.
    pub num_nodes: u64,
    /// 0.
    pub num_io_pt_levels: u64,
    /// Virtual address of the IPC buffer.
    pub ipc_buffer: u64,
    /// Free slots of the root CNode.
    pub empty: SlotRegion,
    /// None.
    pub shared_frames: SlotRegion,
    /// Frames of the user image, ascending.
    pub user_image_frames: SlotRegion,
    /// Page tables of the user image.
    pub user_image_paging: SlotRegion,
    /// None.
    pub io_space_caps: SlotRegion,
    /// Frames of the extra boot info.
    pub extra_bi_pages: SlotRegion,
    /// Radix of the root CNode.
    pub init_thread_cnode_size_bits: u64,
    /// Domain of the root task: 0.
    pub init_thread_domain: u64,
    /// Scheduling control capabilities, one per core.
    pub sched_control: SlotRegion,
    /// Untyped capabilities.
    pub untyped: SlotRegion,
    /// Entry i describes slot `untyped.start + i`.
    pub untyped_list: [UntypedDesc; MAX_BOOTINFO_UNTYPEDS],
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<UntypedDesc>() == 16);
    assert!(size_of::<BootInfo>() == 3864);
    assert!(offset_of!(BootInfo, ipc_buffer) == 32);
    assert!(offset_of!(BootInfo, empty) == 40);
    assert!(offset_of!(BootInfo, shared_frames) == 56);
    assert!(offset_of!(BootInfo, user_image_frames) == 72);
    assert!(offset_of!(BootInfo, user_image_paging) == 88);
    assert!(offset_of!(BootInfo, io_space_caps) == 104);
    assert!(offset_of!(BootInfo, extra_bi_pages) == 120);
    assert!(offset_of!(BootInfo, init_thread_cnode_size_bits) == 136);
    assert!(offset_of!(BootInfo, init_thread_domain) == 144);
    assert!(offset_of!(BootInfo, sched_control) == 152);
    assert!(offset_of!(BootInfo, untyped) == 168);
    assert!(offset_of!(BootInfo, untyped_list) == 184);
};

/// Header of a chunk of extra boot info.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ExtraHeader {
    /// [`ExtraId`].
    pub id: u64,
    /// Bytes including this header.
    pub len: u64,
}

const _: () = assert!(size_of::<ExtraHeader>() == 16);

numbered! {
    /// Kind of an extra chunk (those that can occur here).
    ExtraId: u64 {
        /// Filler.
        Padding = 0,
        /// Flattened device tree.
        Fdt = 6,
    }
}
