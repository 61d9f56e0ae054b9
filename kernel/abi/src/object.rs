//! Object types and sizes for `Untyped_Retype` (sheet §2.2, §2.3).

numbered! {
    /// The `type` argument of `Untyped_Retype`.
    ObjectType: u64 {
        /// A smaller untyped.
        Untyped = 0,
        /// Thread.
        Tcb = 1,
        /// Endpoint.
        Endpoint = 2,
        /// Notification.
        Notification = 3,
        /// CNode with 2^size_bits slots.
        CNode = 4,
        /// Scheduling context of 2^size_bits bytes.
        SchedContext = 5,
        /// Reply object.
        Reply = 6,
        /// 1 GiB frame.
        HugePage = 7,
        /// Root of an address space.
        VSpace = 8,
        /// 4 KiB frame.
        SmallPage = 9,
        /// 2 MiB frame.
        LargePage = 10,
        /// Page table of any lower level.
        PageTable = 11,
    }
}

/// Number of object types.
pub const NUM_OBJECT_TYPES: u64 = 12;
const _: () = assert!(ObjectType::ALL.len() as u64 == NUM_OBJECT_TYPES);

/// log2 bytes of a capability slot.
pub const SLOT_BITS: u32 = 5;
/// log2 bytes of a TCB.
pub const TCB_BITS: u32 = 11;
/// log2 bytes of an endpoint.
pub const ENDPOINT_BITS: u32 = 4;
/// log2 bytes of a notification.
pub const NOTIFICATION_BITS: u32 = 6;
/// log2 bytes of a reply object.
pub const REPLY_BITS: u32 = 5;
/// Least log2 bytes of a scheduling context.
pub const MIN_SCHED_CONTEXT_BITS: u32 = 7;
/// Bytes of a scheduling context with its two obligatory refills.
pub const CORE_SCHED_CONTEXT_BYTES: u64 = 128;
/// Bytes of a further refill.
pub const REFILL_BYTES: u64 = 16;
/// log2 bytes of a small page.
pub const SMALL_PAGE_BITS: u32 = 12;
/// log2 bytes of a large page.
pub const LARGE_PAGE_BITS: u32 = 21;
/// log2 bytes of a huge page.
pub const HUGE_PAGE_BITS: u32 = 30;
/// log2 bytes of a page table.
pub const PAGE_TABLE_BITS: u32 = 12;
/// log2 bytes of a VSpace root.
pub const VSPACE_BITS: u32 = 12;
/// log2 bytes of an ASID pool.
pub const ASID_POOL_BITS: u32 = 12;
/// Least log2 bytes of an untyped.
pub const MIN_UNTYPED_BITS: u32 = 4;
/// Greatest log2 bytes of an untyped.
pub const MAX_UNTYPED_BITS: u32 = 47;
/// Greatest number of objects one retype makes.
pub const RETYPE_FAN_OUT_LIMIT: u64 = 256;

impl ObjectType {
    /// log2 of the object's size in bytes; `size_bits` counts only for untyped, CNode and scheduling context.
    pub const fn size_bits(self, size_bits: u32) -> u32 {
        match self {
            Self::Untyped | Self::SchedContext => size_bits,
            Self::CNode => size_bits + SLOT_BITS,
            Self::Tcb => TCB_BITS,
            Self::Endpoint => ENDPOINT_BITS,
            Self::Notification => NOTIFICATION_BITS,
            Self::Reply => REPLY_BITS,
            Self::HugePage => HUGE_PAGE_BITS,
            Self::LargePage => LARGE_PAGE_BITS,
            Self::SmallPage => SMALL_PAGE_BITS,
            Self::PageTable => PAGE_TABLE_BITS,
            Self::VSpace => VSPACE_BITS,
        }
    }

    /// Whether device memory may become this.
    pub const fn device_allowed(self) -> bool {
        matches!(self, Self::Untyped | Self::SmallPage | Self::LargePage | Self::HugePage)
    }
}

/// Greatest `extra_refills` of a scheduling context of 2^`size_bits` bytes.
pub const fn max_extra_refills(size_bits: u32) -> u64 {
    ((1u64 << size_bits) - CORE_SCHED_CONTEXT_BYTES) / REFILL_BYTES
}

const _: () = {
    assert!(max_extra_refills(7) == 0);
    assert!(max_extra_refills(8) == 8);
    assert!(max_extra_refills(12) == 248);
};
