//! What the root task owns: its slots, the node's memory, and a window through which it sees pages of others.

use alloc::vec::Vec;
use core::fmt;
use root::untyped::{AllocError, Memory, Piece, Split, pieces_for};
use smi_rt::CPtr;
use smi_rt::sys::abi::BootInfo;
use smi_rt::sys::abi::slots::InitialCap;
use smi_rt::sys::invoke::{self, Slot};
use smi_rt::sys::{CapRights, ObjectType, SysError, VmAttributes};

/// Own CNode: one level, so slot numbers are capability addresses.
pub const CNODE: CPtr = CPtr(InitialCap::ThreadCNode.raw());
/// Own address space.
pub const VSPACE: CPtr = CPtr(InitialCap::ThreadVSpace.raw());
/// Own thread.
pub const TCB: CPtr = CPtr(InitialCap::ThreadTcb.raw());
/// Address-space identifiers.
pub const ASID_POOL: CPtr = CPtr(InitialCap::ThreadAsidPool.raw());
/// Interrupts.
pub const IRQ_CONTROL: CPtr = CPtr(InitialCap::IrqControl.raw());

/// Where foreign pages are looked at.
const WINDOW: u64 = 0x20_0000_0000;
/// log2 of the pieces that small permanent objects come from.
const OBJECT_PIECE_BITS: u32 = 16;
/// Bytes of a page.
pub const PAGE: u64 = 4096;

/// Why a step failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// No memory of that size is left.
    OutOfMemory,
    /// The root CNode is full.
    OutOfSlots,
    /// The kernel refused an invocation: which, and why.
    Kernel(&'static str, SysError),
    /// The boot info makes no sense: what.
    BootInfo(&'static str),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::OutOfMemory => f.write_str("out of memory"),
            Failure::OutOfSlots => f.write_str("out of capability slots (boot with kernel.root_cnode_bits=14)"),
            Failure::Kernel(what, error) => write!(f, "{what}: {error}"),
            Failure::BootInfo(what) => write!(f, "boot info: {what}"),
        }
    }
}

/// Names the invocation that an error comes from.
pub trait Context<T> {
    /// The failure of step `what`.
    fn during(self, what: &'static str) -> Result<T, Failure>;
}

impl<T> Context<T> for Result<T, SysError> {
    fn during(self, what: &'static str) -> Result<T, Failure> {
        self.map_err(|error| Failure::Kernel(what, error))
    }
}

/// Slot of the root CNode.
pub fn own(cap: CPtr) -> Slot {
    Slot::flat(CNODE, cap.0)
}

/// The root task's holdings.
pub struct Machine {
    slots: Slots,
    /// Ordinary memory.
    pub memory: Memory,
    /// Device memory.
    device_memory: Memory,
    /// The piece that small permanent objects are made from.
    objects: Option<Piece>,
    /// Scheduling control of core 0.
    pub sched_control: CPtr,
}

/// Free slots of the root CNode. Runs are never given back: whoever has one keeps and reuses it.
struct Slots {
    next: u64,
    end: u64,
}

impl Slots {
    fn take(&mut self, count: u64) -> Result<CPtr, Failure> {
        let first = self.next;
        self.next = first.checked_add(count).filter(|next| *next <= self.end).ok_or(Failure::OutOfSlots)?;
        Ok(CPtr(first))
    }
}

impl Split for Slots {
    type Error = Failure;

    fn split(&mut self, piece: Piece) -> Result<(CPtr, CPtr), Failure> {
        let slot = self.take(2)?;
        invoke::untyped_retype(piece.cap, ObjectType::Untyped, piece.bits - 1, CNODE, slot.0, 2)
            .during("splitting memory")?;
        Ok((slot, CPtr(slot.0 + 1)))
    }
}

impl From<AllocError<Failure>> for Failure {
    fn from(error: AllocError<Failure>) -> Failure {
        match error {
            AllocError::Exhausted => Failure::OutOfMemory,
            AllocError::Split(failure) => failure,
        }
    }
}

impl Machine {
    /// Takes what the kernel hands over.
    pub fn new(info: &BootInfo) -> Result<Machine, Failure> {
        if info.empty.start >= info.empty.end || info.sched_control.start >= info.sched_control.end {
            return Err(Failure::BootInfo("no empty slots or no scheduling control"));
        }
        let count = info.untyped.end.saturating_sub(info.untyped.start) as usize;
        let list = info.untyped_list.get(..count).ok_or(Failure::BootInfo("too many untyped capabilities"))?;
        let (mut memory, mut device_memory) = (Memory::default(), Memory::default());
        for (i, desc) in list.iter().enumerate() {
            let cap = CPtr(info.untyped.start + i as u64);
            let piece = Piece { cap, paddr: desc.paddr, bits: desc.size_bits as u32 };
            if desc.is_device != 0 { device_memory.add(piece) } else { memory.add(piece) }
        }
        let slots = Slots { next: info.empty.start, end: info.empty.end };
        let sched_control = CPtr(info.sched_control.start);
        Ok(Machine { slots, memory, device_memory, objects: None, sched_control })
    }

    /// Empty slots that are left.
    pub fn slots_left(&self) -> u64 {
        self.slots.end - self.slots.next
    }

    /// A run of empty slots, for good.
    pub fn slots(&mut self, count: u64) -> Result<CPtr, Failure> {
        self.slots.take(count)
    }

    /// Memory of exactly 2^`bits` bytes.
    pub fn piece(&mut self, bits: u32) -> Result<Piece, Failure> {
        Ok(self.memory.alloc(bits, &mut self.slots)?)
    }

    /// A small object for good.
    pub fn object(&mut self, kind: ObjectType, size_bits: u32) -> Result<CPtr, Failure> {
        let slot = self.slots.take(1)?;
        if let Some(piece) = self.objects {
            match invoke::untyped_retype(piece.cap, kind, size_bits, CNODE, slot.0, 1) {
                Ok(()) => return Ok(slot),
                Err(SysError::NotEnoughMemory(_)) => {}
                Err(error) => return Err(Failure::Kernel("making an object", error)),
            }
        }
        let piece = self.piece(OBJECT_PIECE_BITS)?;
        self.objects = Some(piece);
        invoke::untyped_retype(piece.cap, kind, size_bits, CNODE, slot.0, 1).during("making an object")?;
        Ok(slot)
    }

    /// Pages for good, in consecutive slots; not necessarily adjacent in memory.
    pub fn frames(&mut self, count: u64) -> Result<CPtr, Failure> {
        let first = self.slots.take(count)?;
        let mut done = 0;
        for bits in pieces_for(count * PAGE, 12) {
            let piece = self.piece(bits)?;
            retype_all(piece.cap, ObjectType::SmallPage, 0, CPtr(first.0 + done), 1 << (bits - 12))?;
            done += 1 << (bits - 12);
        }
        Ok(first)
    }

    /// Physically contiguous pages for good, and their physical address.
    pub fn contiguous_frames(&mut self, count: u64) -> Result<(CPtr, u64), Failure> {
        let piece = self.piece((count * PAGE).next_power_of_two().trailing_zeros())?;
        let first = self.slots.take(count)?;
        retype_all(piece.cap, ObjectType::SmallPage, 0, first, count)?;
        Ok((first, piece.paddr))
    }

    /// The frame of device registers at a page-aligned physical address, for good.
    pub fn device_frame(&mut self, paddr: u64) -> Result<CPtr, Failure> {
        let piece = self.device_memory.alloc_at(paddr, 12, &mut self.slots)?;
        let slot = self.slots.take(1)?;
        invoke::untyped_retype(piece.cap, ObjectType::SmallPage, 0, CNODE, slot.0, 1)
            .during("making a device frame")?;
        Ok(slot)
    }

    /// Makes page tables of the window. Once, before the first [`Window`].
    pub fn open_window(&mut self) -> Result<(), Failure> {
        loop {
            let table = self.object(ObjectType::PageTable, 0)?;
            match invoke::page_table_map(table, VSPACE, WINDOW) {
                Ok(()) => {}
                Err(SysError::DeleteFirst) => return Ok(()), // all levels are there
                Err(error) => return Err(Failure::Kernel("mapping the window", error)),
            }
        }
    }
}

/// Makes `count` objects in consecutive slots, in as many invocations as the kernel wants.
pub fn retype_all(untyped: CPtr, kind: ObjectType, size_bits: u32, first: CPtr, count: u64) -> Result<(), Failure> {
    let mut done = 0;
    while done < count {
        let now = (count - done).min(smi_rt::sys::abi::object::RETYPE_FAN_OUT_LIMIT);
        invoke::untyped_retype(untyped, kind, size_bits, CNODE, first.0 + done, now).during("making objects")?;
        done += now;
    }
    Ok(())
}

/// A page of somebody else, mapped here for a moment.
pub struct Window {
    frame: CPtr,
}

impl Window {
    /// Maps an unmapped frame, as ordinary memory or as device registers.
    pub fn open(frame: CPtr, device: bool) -> Result<Window, Failure> {
        let attributes = if device {
            VmAttributes::EXECUTE_NEVER
        } else {
            VmAttributes::PAGE_CACHEABLE | VmAttributes::EXECUTE_NEVER
        };
        invoke::page_map(frame, VSPACE, WINDOW, CapRights::READ_WRITE, attributes).during("looking at a page")?;
        Ok(Window { frame })
    }

    /// Copies bytes to the start of the page.
    pub fn write(&mut self, bytes: &[u8]) {
        let target = core::ptr::with_exposed_provenance_mut::<u8>(WINDOW as usize);
        let len = bytes.len().min(PAGE as usize);
        // SAFETY: a page is mapped at the window, writable, while `self` lives; no reference into it exists.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), target, len) }
    }

    /// The 8-byte word at a multiple of 8 in the page.
    pub fn word(&self, offset: u64) -> u64 {
        let offset = (offset % PAGE) & !7;
        // SAFETY: in the mapped page, aligned; volatile because its owner may be changing it.
        unsafe { core::ptr::with_exposed_provenance::<u64>((WINDOW + offset) as usize).read_volatile() }
    }

    /// The 4-byte device register at a multiple of 4 in the page.
    pub fn register(&self, offset: u64) -> u32 {
        let offset = (offset % PAGE) & !3;
        // SAFETY: in the mapped page, aligned.
        unsafe { core::ptr::with_exposed_provenance::<u32>((WINDOW + offset) as usize).read_volatile() }
    }

    /// Makes code that was written visible to instruction fetch, by whoever maps the page.
    pub fn publish_code(&self) -> Result<(), Failure> {
        invoke::page_unify_instruction(self.frame, 0, PAGE).during("publishing code")
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // Unmapping never fails (sheet §3.9).
        let _ = invoke::page_unmap(self.frame);
    }
}

/// Copies a capability within the root CNode into an empty slot.
pub fn copy_to(dest: CPtr, source: CPtr, rights: CapRights) -> Result<(), Failure> {
    invoke::cnode_copy(own(dest), own(source), rights).during("copying a capability")
}

/// Empties slots of the root CNode.
pub fn delete_all(slots: &[CPtr]) {
    for slot in slots {
        // An empty slot is no error; nothing else can go wrong with a slot of one's own.
        let _ = invoke::cnode_delete(own(*slot));
    }
}

/// Consecutive capabilities.
pub fn run(first: CPtr, count: u64) -> Vec<CPtr> {
    (first.0..first.0 + count).map(CPtr).collect()
}
