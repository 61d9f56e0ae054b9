//! Capabilities: sixteen bytes in a slot, an `enum` in the hand.
//!
//! A [`Slot`] is a packed capability and its two derivation-list words (`cdt`). [`Cap`] is what code works with; packing is
//! exact, `Cap::unpack(cap.pack()) == cap`. Word 0 carries the type tag (the one `DebugCapIdentify` returns) in bits 59..=63.
//!
//! Handles are stored in 48 bits. Untyped and frame capabilities hold physical addresses, for device memory is not in the
//! object window.

use core::cell::Cell;

use kernel_abi::{CNodeData, CapRights, CapTag};

use crate::asid::AsidPool;
use crate::endpoint::Endpoint;
use crate::mem::{Ptr, Window};
use crate::notification::Notification;
use crate::reply::Reply;
use crate::schedctx::SchedContext;
use crate::tcb::{TCB_SLOTS, Tcb};
use crate::vspace::Table;

/// A capability slot: 32 bytes.
#[repr(C, align(32))]
pub struct Slot {
    words: [Cell<u64>; 2],
    /// Derivation list, see [`crate::cdt`].
    pub(crate) links: crate::cdt::Links,
}

const _: () = assert!(size_of::<Slot>() == 1 << kernel_abi::object::SLOT_BITS);

impl Slot {
    /// The capability in the slot.
    #[inline]
    pub fn cap(&self) -> Cap {
        Cap::unpack([self.words[0].get(), self.words[1].get()])
    }

    /// Stores a capability, leaving the derivation list alone.
    #[inline]
    pub(crate) fn set_cap(&self, cap: Cap) {
        let words = cap.pack();
        self.words[0].set(words[0]);
        self.words[1].set(words[1]);
    }

    /// Whether the slot holds nothing.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.words[0].get() >> TAG_SHIFT == 0
    }
}

/// Sizes of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameSize {
    /// 4 KiB.
    Small,
    /// 2 MiB.
    Large,
    /// 1 GiB.
    Huge,
}

impl FrameSize {
    /// log2 of the size in bytes.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Small => 12,
            Self::Large => 21,
            Self::Huge => 30,
        }
    }

    /// Size in bytes.
    pub const fn bytes(self) -> u64 {
        1 << self.bits()
    }
}

/// Where a frame or page table is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Address space; never 0.
    pub asid: u16,
    /// Virtual address.
    pub vaddr: u64,
}

/// Untyped memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UntypedCap {
    /// Physical address.
    pub paddr: u64,
    /// log2 bytes.
    pub bits: u32,
    /// Device memory.
    pub device: bool,
    /// Watermark: bytes from the start that are used, a multiple of 16.
    pub used: u64,
}

impl UntypedCap {
    /// Bytes.
    pub const fn size(&self) -> u64 {
        1 << self.bits
    }
}

/// A frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameCap {
    /// Physical address.
    pub paddr: u64,
    /// Size.
    pub size: FrameSize,
    /// Device memory.
    pub device: bool,
    /// Read.
    pub read: bool,
    /// Write.
    pub write: bool,
    /// Where this capability mapped it.
    pub mapping: Option<Mapping>,
}

/// An endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointCap {
    /// The object.
    pub ep: Ptr<Endpoint>,
    /// Badge, 0 = none.
    pub badge: u64,
    /// All four rights count.
    pub rights: CapRights,
}

/// A notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotificationCap {
    /// The object.
    pub ntfn: Ptr<Notification>,
    /// Badge, 0 = none.
    pub badge: u64,
    /// Read and Write count.
    pub rights: CapRights,
}

/// A CNode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CNodeCap {
    /// First slot.
    pub slots: Ptr<Slot>,
    /// log2 of the number of slots.
    pub radix: u32,
    /// Guard value, cut to its size.
    pub guard: u64,
    /// Guard bits.
    pub guard_size: u32,
}

impl CNodeCap {
    /// Number of slots.
    #[inline]
    pub const fn len(&self) -> u64 {
        1 << self.radix
    }

    /// Always false: a CNode has at least two slots.
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Slot `index`, below [`CNodeCap::len`].
    #[inline]
    pub fn slot(&self, index: u64) -> Ptr<Slot> {
        debug_assert!(index < self.len());
        self.slots.index(index)
    }

    /// The same capability with new guard data; `None` if guard and radix exceed a word.
    pub fn with_guard(self, data: CNodeData) -> Option<Self> {
        if data.guard_size() + self.radix > 64 {
            return None;
        }
        Some(Self { guard: data.guard(), guard_size: data.guard_size(), ..self })
    }
}

/// A page table of a lower level, or a VSpace root's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageTableCap {
    /// The table.
    pub table: Ptr<Table>,
    /// Where it is mapped.
    pub mapping: Option<Mapping>,
}

/// What a zombie used to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZombieKind {
    /// CNode of this radix.
    CNode(u32),
    /// Thread.
    Tcb,
}

/// A container (CNode or TCB) whose last capability is being deleted; see [`crate::delete`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZombieCap {
    /// First slot of the container.
    pub slots: Ptr<Slot>,
    /// What it was.
    pub kind: ZombieKind,
    /// Slots with this index and above are empty (except the zombie's own slot).
    pub remaining: u64,
    /// In the graveyard (it lies in its own container's first slot).
    pub floating: bool,
    /// Next in the graveyard.
    pub next: Option<Ptr<Slot>>,
}

/// A capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "variants are the capability types, fields their objects")]
pub enum Cap {
    Null,
    Untyped(UntypedCap),
    Frame(FrameCap),
    PageTable(PageTableCap),
    /// `asid` 0 = none assigned.
    VSpace {
        root: Ptr<Table>,
        asid: u16,
    },
    Endpoint(EndpointCap),
    Notification(NotificationCap),
    Reply {
        reply: Ptr<Reply>,
        grant: bool,
    },
    CNode(CNodeCap),
    Tcb(Ptr<Tcb>),
    SchedContext {
        sc: Ptr<SchedContext>,
        bits: u32,
    },
    SchedControl {
        core: usize,
    },
    AsidControl,
    /// `base` = first ASID of the pool.
    AsidPool {
        pool: Ptr<AsidPool>,
        base: u16,
    },
    IrqControl,
    /// `line` = index in the interrupt table, see [`crate::irq`].
    IrqHandler {
        line: u32,
    },
    SgiSignal {
        irq: u32,
        target: u32,
    },
    Domain,
    Zombie(ZombieCap),
}

/// Position of the type tag in word 0.
pub(crate) const TAG_SHIFT: u32 = 59;
/// Radix field value of a TCB zombie.
const ZOMBIE_TCB: u64 = 63;
/// Alignment of what a TCB zombie points to: its slots, at 1024 in the TCB.
const TCB_SLOTS_ALIGN_BITS: u32 = 10;

/// Bits `[shift, shift + width)` of a word.
#[inline]
const fn field(word: u64, shift: u32, width: u32) -> u64 {
    (word >> shift) & ((1 << width) - 1)
}

impl Cap {
    /// The type tag.
    pub fn tag(&self) -> CapTag {
        match self {
            Self::Null => CapTag::Null,
            Self::Untyped(_) => CapTag::Untyped,
            Self::Frame(_) => CapTag::Frame,
            Self::PageTable(_) => CapTag::PageTable,
            Self::VSpace { .. } => CapTag::VSpace,
            Self::Endpoint(_) => CapTag::Endpoint,
            Self::Notification(_) => CapTag::Notification,
            Self::Reply { .. } => CapTag::Reply,
            Self::CNode(_) => CapTag::CNode,
            Self::Tcb(_) => CapTag::Tcb,
            Self::SchedContext { .. } => CapTag::SchedContext,
            Self::SchedControl { .. } => CapTag::SchedControl,
            Self::AsidControl => CapTag::AsidControl,
            Self::AsidPool { .. } => CapTag::AsidPool,
            Self::IrqControl => CapTag::IrqControl,
            Self::IrqHandler { .. } => CapTag::IrqHandler,
            Self::SgiSignal { .. } => CapTag::SgiSignal,
            Self::Domain => CapTag::Domain,
            Self::Zombie(_) => CapTag::Zombie,
        }
    }

    /// Sixteen bytes.
    #[inline]
    fn pack(self) -> [u64; 2] {
        let tag = self.tag().raw() << TAG_SHIFT;
        let [w0, w1] = match self {
            Self::Null | Self::AsidControl | Self::IrqControl | Self::Domain => [0, 0],
            // w0: paddr/16 0..44, bits 44..50, device 50. w1: used/16.
            Self::Untyped(u) => [(u.paddr >> 4) | (u64::from(u.bits) << 44) | (u64::from(u.device) << 50), u.used >> 4],
            // w0: paddr/4096 0..36, size 36..38, device 38, read 39, write 40. w1: vaddr 0..48, asid 48..64.
            Self::Frame(f) => [
                (f.paddr >> 12)
                    | ((f.size as u64) << 36)
                    | (u64::from(f.device) << 38)
                    | (u64::from(f.read) << 39)
                    | (u64::from(f.write) << 40),
                pack_mapping(f.mapping),
            ],
            // w0: table. w1: mapping.
            Self::PageTable(t) => [t.table.pack(), pack_mapping(t.mapping)],
            Self::VSpace { root, asid } => [root.pack(), u64::from(asid)],
            // w0: object 0..48, rights 48..52. w1: badge.
            Self::Endpoint(e) => [e.ep.pack() | (e.rights.bits() << 48), e.badge],
            Self::Notification(n) => [n.ntfn.pack() | (n.rights.bits() << 48), n.badge],
            Self::Reply { reply, grant } => [reply.pack() | (u64::from(grant) << 48), 0],
            // w0: slots 0..48, radix 48..54. w1: guard size 0..6, guard 6..64.
            Self::CNode(c) => [c.slots.pack() | (u64::from(c.radix) << 48), CNodeData::new(c.guard, c.guard_size).0],
            Self::Tcb(tcb) => [tcb.pack(), 0],
            Self::SchedContext { sc, bits } => [sc.pack() | (u64::from(bits) << 48), 0],
            Self::SchedControl { core } => [core as u64, 0],
            Self::AsidPool { pool, base } => [pool.pack(), u64::from(base)],
            Self::IrqHandler { line } => [u64::from(line), 0],
            Self::SgiSignal { irq, target } => [u64::from(irq), u64::from(target)],
            // w0: slots with the remaining count in its alignment bits 0..48, radix 48..54, floating 54. w1: next.
            Self::Zombie(z) => {
                let radix = match z.kind {
                    ZombieKind::CNode(radix) => u64::from(radix),
                    ZombieKind::Tcb => ZOMBIE_TCB,
                };
                let head = z.slots.pack() | z.remaining | (radix << 48) | (u64::from(z.floating) << 54);
                [head, z.next.map_or(0, Ptr::pack)]
            }
        };
        [w0 | tag, w1]
    }

    /// The capability in sixteen bytes that [`Cap::pack`] made; anything else is `Null`.
    #[inline]
    fn unpack(words: [u64; 2]) -> Self {
        Self::unpack_inner(words).unwrap_or(Self::Null)
    }

    #[inline]
    fn unpack_inner([w0, w1]: [u64; 2]) -> Option<Self> {
        let rights = || CapRights::from_bits_truncate(field(w0, 48, 4));
        Some(match CapTag::from_raw(w0 >> TAG_SHIFT)? {
            CapTag::Null => Self::Null,
            CapTag::Untyped => Self::Untyped(UntypedCap {
                paddr: field(w0, 0, 44) << 4,
                bits: field(w0, 44, 6) as u32,
                device: field(w0, 50, 1) != 0,
                used: w1 << 4,
            }),
            CapTag::Frame => Self::Frame(FrameCap {
                paddr: field(w0, 0, 36) << 12,
                size: match field(w0, 36, 2) {
                    0 => FrameSize::Small,
                    1 => FrameSize::Large,
                    _ => FrameSize::Huge,
                },
                device: field(w0, 38, 1) != 0,
                read: field(w0, 39, 1) != 0,
                write: field(w0, 40, 1) != 0,
                mapping: unpack_mapping(w1),
            }),
            CapTag::PageTable => {
                Self::PageTable(PageTableCap { table: Ptr::unpack(field(w0, 0, 48))?, mapping: unpack_mapping(w1) })
            }
            CapTag::VSpace => Self::VSpace { root: Ptr::unpack(field(w0, 0, 48))?, asid: w1 as u16 },
            CapTag::Endpoint => {
                Self::Endpoint(EndpointCap { ep: Ptr::unpack(field(w0, 0, 48))?, badge: w1, rights: rights() })
            }
            CapTag::Notification => Self::Notification(NotificationCap {
                ntfn: Ptr::unpack(field(w0, 0, 48))?,
                badge: w1,
                rights: rights(),
            }),
            CapTag::Reply => Self::Reply { reply: Ptr::unpack(field(w0, 0, 48))?, grant: field(w0, 48, 1) != 0 },
            CapTag::CNode => Self::CNode(CNodeCap {
                slots: Ptr::unpack(field(w0, 0, 48))?,
                radix: field(w0, 48, 6) as u32,
                guard: CNodeData(w1).guard(),
                guard_size: CNodeData(w1).guard_size(),
            }),
            CapTag::Tcb => Self::Tcb(Ptr::unpack(field(w0, 0, 48))?),
            CapTag::SchedContext => {
                Self::SchedContext { sc: Ptr::unpack(field(w0, 0, 48))?, bits: field(w0, 48, 6) as u32 }
            }
            CapTag::SchedControl => Self::SchedControl { core: field(w0, 0, 8) as usize },
            CapTag::AsidControl => Self::AsidControl,
            CapTag::AsidPool => Self::AsidPool { pool: Ptr::unpack(field(w0, 0, 48))?, base: w1 as u16 },
            CapTag::IrqControl => Self::IrqControl,
            CapTag::IrqHandler => Self::IrqHandler { line: field(w0, 0, 32) as u32 },
            CapTag::SgiSignal => Self::SgiSignal { irq: field(w0, 0, 32) as u32, target: w1 as u32 },
            CapTag::Domain => Self::Domain,
            CapTag::Zombie => {
                let (kind, align) = match field(w0, 48, 6) {
                    ZOMBIE_TCB => (ZombieKind::Tcb, TCB_SLOTS_ALIGN_BITS),
                    radix => (ZombieKind::CNode(radix as u32), radix as u32 + kernel_abi::object::SLOT_BITS),
                };
                let low = (1 << align) - 1;
                let head = field(w0, 0, 48);
                Self::Zombie(ZombieCap {
                    slots: Ptr::unpack(head & !low)?,
                    kind,
                    remaining: head & low,
                    floating: field(w0, 54, 1) != 0,
                    next: Ptr::unpack(w1),
                })
            }
        })
    }

    /// Whether the capability is null.
    pub fn is_null(&self) -> bool {
        *self == Self::Null
    }

    /// The capability with its rights cut to `mask`. Types without rights are unchanged.
    pub fn masked(self, mask: CapRights) -> Self {
        match self {
            Self::Endpoint(e) => Self::Endpoint(EndpointCap { rights: e.rights & mask, ..e }),
            Self::Notification(n) => Self::Notification(NotificationCap { rights: n.rights & mask, ..n }),
            Self::Reply { reply, grant } => Self::Reply { reply, grant: grant && mask.contains(CapRights::GRANT) },
            Self::Frame(f) => Self::Frame(FrameCap {
                read: f.read && mask.contains(CapRights::READ),
                write: f.write && mask.contains(CapRights::WRITE),
                ..f
            }),
            other => other,
        }
    }

    /// The capability with badge or guard data applied: by Mint (`preserve` false) or by Mutate and Rotate (`preserve`
    /// true). Null if the data does not fit the capability.
    pub fn with_data(self, data: u64, preserve: bool) -> Self {
        match self {
            Self::Endpoint(e) if !preserve && e.badge == 0 => Self::Endpoint(EndpointCap { badge: data, ..e }),
            Self::Notification(n) if !preserve && n.badge == 0 => {
                Self::Notification(NotificationCap { badge: data, ..n })
            }
            Self::Endpoint(_) | Self::Notification(_) => Self::Null,
            Self::CNode(c) => c.with_guard(CNodeData(data)).map_or(Self::Null, Self::CNode),
            other => other,
        }
    }

    /// The memory the capability's object occupies: physical start and length in bytes. `None` for capabilities
    /// without memory.
    pub(crate) fn memory(&self, window: Window) -> Option<(u64, u64)> {
        use kernel_abi::object as size;
        let bits = match *self {
            Self::Untyped(u) => return Some((u.paddr, u.size())),
            Self::Frame(f) => return Some((f.paddr, f.size.bytes())),
            Self::PageTable(t) => return Some((window.paddr(t.table), 1 << size::PAGE_TABLE_BITS)),
            Self::VSpace { root, .. } => return Some((window.paddr(root), 1 << size::VSPACE_BITS)),
            Self::AsidPool { pool, .. } => return Some((window.paddr(pool), 1 << size::ASID_POOL_BITS)),
            Self::Endpoint(e) => return Some((window.paddr(e.ep), 1 << size::ENDPOINT_BITS)),
            Self::Notification(n) => return Some((window.paddr(n.ntfn), 1 << size::NOTIFICATION_BITS)),
            Self::Reply { reply, .. } => return Some((window.paddr(reply), 1 << size::REPLY_BITS)),
            Self::Tcb(tcb) => return Some((window.paddr(tcb), 1 << size::TCB_BITS)),
            Self::SchedContext { sc, bits } => return Some((window.paddr(sc), 1 << bits)),
            Self::CNode(c) => c.radix,
            Self::Zombie(ZombieCap { kind: ZombieKind::CNode(radix), .. }) => radix,
            Self::Zombie(z) => {
                return Some((window.paddr(z.slots) - crate::tcb::SLOTS_OFFSET, 1 << size::TCB_BITS));
            }
            _ => return None,
        };
        let slots = match *self {
            Self::CNode(c) => c.slots,
            Self::Zombie(z) => z.slots,
            _ => return None,
        };
        Some((window.paddr(slots), 1 << (bits + size::SLOT_BITS)))
    }
}

impl ZombieKind {
    /// Number of slots of the container.
    pub const fn len(self) -> u64 {
        match self {
            Self::CNode(radix) => 1 << radix,
            Self::Tcb => TCB_SLOTS as u64,
        }
    }

    /// Always false.
    pub const fn is_empty(self) -> bool {
        false
    }
}

#[inline]
fn pack_mapping(mapping: Option<Mapping>) -> u64 {
    mapping.map_or(0, |m| (m.vaddr & crate::mem::ADDR_MASK) | (u64::from(m.asid) << 48))
}

#[inline]
fn unpack_mapping(word: u64) -> Option<Mapping> {
    let asid = (word >> 48) as u16;
    (asid != 0).then_some(Mapping { asid, vaddr: word & crate::mem::ADDR_MASK })
}
