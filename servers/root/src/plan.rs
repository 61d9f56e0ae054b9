//! Everything about one server's process, computed before anything is made: kernel objects, pages and their contents, page tables,
//! capability slots, notification bits, addresses of shared memory.
//!
//! The same inputs give the same plan, so a restart reuses the slots and memory of the first start.

use crate::elf::{Access, Program};
use crate::manifest::{Channel, Manifest, ROOT_INDEX};
use crate::untyped::pieces_for;
use alloc::vec::Vec;
use kernel_abi::object::{LARGE_PAGE_BITS, SMALL_PAGE_BITS};
use kernel_abi::{CapRights, ObjectType};
use smi_env::layout::{Entry, Header, NO_BIT, SIZE as ENV_SIZE, kind, set_text};
use smi_env::{Full, Role, Writer, map};
use zerocopy::FromZeros;

const PAGE: u64 = 1 << SMALL_PAGE_BITS;
const LARGE: u64 = 1 << LARGE_PAGE_BITS;
/// log2 bytes of a scheduling context: room for eight extra refills.
pub const SCHED_CONTEXT_BITS: u32 = 8;
/// log2 of the granule in which a server's memory is taken.
const POOL_GRANULE_BITS: u32 = 16;
/// Smallest CNode of a server, log2 slots.
const MIN_CNODE_BITS: u32 = 7;

/// A run of equal objects. Groups are in order of size, largest first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Group {
    /// Type.
    pub kind: ObjectType,
    /// The `size_bits` argument of the retype.
    pub size_bits: u32,
    /// How many.
    pub count: u64,
    /// Index of the first among all of the server's objects.
    pub first: u64,
}

/// A page of the server's own memory. Page `i` is object `i` of its size's group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page<'a> {
    /// Where it is mapped.
    pub vaddr: u64,
    /// What may be done with it.
    pub access: Access,
    /// What it starts with; the rest is zero.
    pub data: &'a [u8],
}

/// One end of a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct End {
    /// Index in the manifest.
    pub channel: usize,
    /// Which end.
    pub role: Role,
    /// The other server, or [`ROOT_INDEX`].
    pub peer: u16,
    /// Bit of this server's notification word.
    pub bit: u32,
    /// Badge of the client's calls.
    pub badge: u64,
    /// Slot of the endpoint capability; 0 on the server's end.
    pub call_slot: u64,
    /// Slot of the capability that signals the peer.
    pub signal_slot: u64,
    /// Address of the shared region; 0 if none.
    pub vaddr: u64,
}

/// What the machine has for the manifest's device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceInfo {
    /// Physical address and bytes of the registers; 0 bytes if there are none.
    pub registers: (u64, u64),
    /// Interrupt number (GIC INTID) and whether it is edge triggered.
    pub irq: (u32, bool),
}

/// One server's process.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    /// First instruction.
    pub entry: u64,
    /// Objects.
    pub groups: Vec<Group>,
    /// log2 sizes of the pieces of memory that hold them, largest first.
    pub pieces: Vec<u32>,
    /// 4 KiB pages.
    pub pages: Vec<Page<'a>>,
    /// Index in `pages` of the IPC buffer's page; the environment's two follow.
    pub ipc_page: usize,
    /// Addresses of 2 MiB pages.
    pub large_pages: Vec<u64>,
    /// Addresses at which to map page tables, in order.
    pub tables: Vec<u64>,
    /// log2 slots of the CNode.
    pub cnode_bits: u32,
    /// Ends of channels.
    pub ends: Vec<End>,
    /// Interrupt: notification bit and slot of the handler.
    pub irq: Option<(u32, u64)>,
    /// Address of the page with the device's registers; 0 if none.
    pub mmio_vaddr: u64,
    /// Address of the DMA memory; 0 if none.
    pub dma_vaddr: u64,
    /// First reply object's slot.
    pub reply_first: u64,
    /// Free slots.
    pub free: (u64, u64),
}

/// A plan cannot be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PlanError {
    /// The program's memory and its stack or heap would not fit.
    TooLarge,
    /// More capability slots than a CNode of 2^16.
    TooManySlots,
    /// More entries than the environment holds.
    EnvironmentFull,
}

impl core::fmt::Display for PlanError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            PlanError::TooLarge => "the program needs too much memory",
            PlanError::TooManySlots => "the server needs too many capability slots",
            PlanError::EnvironmentFull => "the server has too many channels and devices",
        })
    }
}

impl From<Full> for PlanError {
    fn from(_: Full) -> Self {
        PlanError::EnvironmentFull
    }
}

/// Bit of `server`'s notification word for a channel: its place among the server's channels.
pub fn bit_of(manifest: &Manifest, server: u16, channel: usize) -> u32 {
    manifest.channels_of(server).position(|(i, _)| i == channel).unwrap_or(0) as u32
}

/// Badge of a channel's calls: its place, from 1, among the channels of which `server` is the called end.
pub fn badge_of(manifest: &Manifest, channel: usize) -> u64 {
    let server = manifest.channels.get(channel).map_or(ROOT_INDEX, |c| c.server);
    1 + manifest.channels.iter().take(channel).filter(|c| c.server == server).count() as u64
}

/// Makes the plan of server `index`.
pub fn plan<'a>(
    manifest: &Manifest,
    index: usize,
    program: &Program<'a>,
    device: Option<&DeviceInfo>,
) -> Result<Plan<'a>, PlanError> {
    let server = &manifest.servers[index];
    let mut next_region = map::REGIONS;
    let mut place = |len: u64| match len {
        0 => 0,
        len => {
            let vaddr = next_region;
            next_region += len.next_multiple_of(PAGE) + PAGE; // an unmapped page after each
            vaddr
        }
    };

    let mut slot = map::CAP_FIRST;
    let mut take = |count: u64| {
        slot += count;
        slot - count
    };
    let ends: Vec<End> = manifest
        .channels_of(index as u16)
        .map(|(i, c)| end(manifest, index as u16, i, c, &mut take, &mut place))
        .collect();
    let irq = device.map(|_| (ends.len() as u32, take(1)));
    let mmio_vaddr = place(device.map_or(0, |d| register_pages(d.registers) * PAGE));
    let dma_vaddr = place(server.dma);
    let reply_first = take(server.replies as u64);
    let free_first = take(server.slots as u64);
    let cnode_bits = slot.next_power_of_two().trailing_zeros().max(MIN_CNODE_BITS);
    if cnode_bits > 16 {
        return Err(PlanError::TooManySlots);
    }

    let (pages, ipc_page, large_pages) = memory(program, server.stack, server.heap)?;
    let regions = ends.iter().map(|e| (e.vaddr, manifest.channels[e.channel].region()));
    let fixed = [(mmio_vaddr, if mmio_vaddr == 0 { 0 } else { PAGE }), (dma_vaddr, server.dma)];
    let tables = tables(pages.iter().map(|p| p.vaddr), &large_pages, regions.chain(fixed));
    let groups = groups(pages.len(), large_pages.len(), tables.len(), cnode_bits, server.replies);
    let bytes = groups.iter().map(|g| g.count << g.kind.size_bits(g.size_bits)).sum();
    Ok(Plan {
        entry: program.entry,
        pieces: pieces_for(bytes, POOL_GRANULE_BITS),
        groups,
        pages,
        ipc_page,
        large_pages,
        tables,
        cnode_bits,
        ends,
        irq,
        mmio_vaddr,
        dma_vaddr,
        reply_first,
        free: (free_first, free_first + server.slots as u64),
    })
}

/// Pages that a run of registers touches.
fn register_pages((paddr, len): (u64, u64)) -> u64 {
    if len == 0 { 0 } else { (paddr % PAGE + len).div_ceil(PAGE) }
}

fn end(
    manifest: &Manifest,
    server: u16,
    index: usize,
    channel: &Channel,
    take: &mut impl FnMut(u64) -> u64,
    place: &mut impl FnMut(u64) -> u64,
) -> End {
    let (role, peer) =
        if channel.client == server { (Role::Client, channel.server) } else { (Role::Server, channel.client) };
    End {
        channel: index,
        role,
        peer,
        bit: bit_of(manifest, server, index),
        badge: badge_of(manifest, index),
        call_slot: if role == Role::Client { take(1) } else { 0 },
        signal_slot: take(1),
        vaddr: place(channel.region()),
    }
}

/// The server's own memory: image, stack, heap, IPC buffer, environment.
#[allow(clippy::type_complexity, reason = "small pages, place of the IPC buffer, large pages")]
fn memory<'a>(program: &Program<'a>, stack: u64, heap: u64) -> Result<(Vec<Page<'a>>, usize, Vec<u64>), PlanError> {
    let total = program.segments.iter().map(|s| s.len).sum::<u64>() + stack + heap;
    if total > 1 << 31 {
        return Err(PlanError::TooLarge);
    }
    let mut pages = Vec::new();
    for segment in &program.segments {
        for i in 0..segment.pages() {
            let rest = segment.data.get((i * PAGE) as usize..).unwrap_or(&[]);
            let data = &rest[..rest.len().min(PAGE as usize)];
            pages.push(Page { vaddr: segment.vaddr + i * PAGE, access: segment.access, data });
        }
    }
    let mut zeroed = |start: u64, len: u64| {
        let page = |vaddr| Page { vaddr, access: Access::Write, data: &[] };
        pages.extend((start..start + len).step_by(PAGE as usize).map(page));
    };
    zeroed(map::STACK_TOP - stack, stack);
    let whole = heap / LARGE * LARGE;
    let large_pages = (map::HEAP..map::HEAP + whole).step_by(LARGE as usize).collect();
    zeroed(map::HEAP + whole, heap - whole);
    let ipc_page = pages.len();
    pages.push(Page { vaddr: map::IPC_BUFFER, access: Access::Write, data: &[] });
    for i in 0..ENV_SIZE as u64 / PAGE {
        pages.push(Page { vaddr: map::ENV + i * PAGE, access: Access::Read, data: &[] });
    }
    Ok((pages, ipc_page, large_pages))
}

/// Where page tables have to be mapped: for each level from the top, once per span that the level's entry covers.
fn tables(small: impl Iterator<Item = u64>, large: &[u64], regions: impl Iterator<Item = (u64, u64)>) -> Vec<u64> {
    let mut small: Vec<u64> = small.collect();
    for (start, len) in regions {
        small.extend((start..start + len).step_by(PAGE as usize));
    }
    let mut out = Vec::new();
    for (bits, with_large) in [(39, true), (30, true), (21, false)] {
        let spans = small.iter().chain(large.iter().filter(|_| with_large)).map(|v| v >> bits << bits);
        let mut spans: Vec<u64> = spans.collect();
        spans.sort_unstable();
        spans.dedup();
        out.extend(spans);
    }
    out
}

/// All objects in order of size.
fn groups(pages: usize, large: usize, tables: usize, cnode_bits: u32, replies: u16) -> Vec<Group> {
    let mut groups = [
        (ObjectType::LargePage, 0, large as u64),
        (ObjectType::CNode, cnode_bits, 1),
        (ObjectType::SmallPage, 0, pages as u64),
        (ObjectType::PageTable, 0, tables as u64),
        (ObjectType::VSpace, 0, 1),
        (ObjectType::Tcb, 0, 1),
        (ObjectType::SchedContext, SCHED_CONTEXT_BITS, 1),
        (ObjectType::Reply, 0, replies as u64),
    ]
    .map(|(kind, size_bits, count)| Group { kind, size_bits, count, first: 0 });
    groups.sort_by_key(|g| core::cmp::Reverse(g.kind.size_bits(g.size_bits)));
    let mut first = 0;
    for group in &mut groups {
        group.first = first;
        first += group.count;
    }
    groups.into_iter().filter(|g| g.count > 0).collect()
}

impl Plan<'_> {
    /// Number of objects.
    pub fn object_count(&self) -> u64 {
        self.groups.iter().map(|g| g.count).sum()
    }

    /// Index of the first object of a type; types that the plan has none of give `None`.
    pub fn first(&self, kind: ObjectType) -> Option<u64> {
        self.groups.iter().find(|g| g.kind == kind).map(|g| g.first)
    }

    /// Bytes of the server's own memory.
    pub fn bytes(&self) -> u64 {
        self.pieces.iter().map(|bits| 1u64 << bits).sum()
    }

    /// Index in `pages` of the page that holds `vaddr`.
    pub fn page_at(&self, vaddr: u64) -> Option<usize> {
        self.pages.iter().position(|p| p.vaddr == vaddr & !(PAGE - 1))
    }

    /// Whether an address that is not mapped lies where the stack would grow to.
    pub fn is_below_stack(&self, vaddr: u64) -> bool {
        (map::STACK_TOP - map::STACK_MAX..map::STACK_TOP).contains(&vaddr) && self.page_at(vaddr).is_none()
    }

    /// The environment that the server will find.
    pub fn environment(
        &self,
        manifest: &Manifest,
        index: usize,
        restarts: u64,
        counter_access: u64,
        device: Option<&DeviceInfo>,
        dma_paddr: u64,
    ) -> Result<Writer, PlanError> {
        let server = &manifest.servers[index];
        let mut header = Header {
            source_id: index as u32,
            heap_vaddr: map::HEAP,
            heap_len: server.heap,
            stack_low: map::STACK_TOP - server.stack,
            stack_len: server.stack,
            reply_first: self.reply_first,
            reply_count: server.replies as u64,
            free_first: self.free.0,
            free_end: self.free.1,
            restarts,
            counter_access,
            ..Header::new_zeroed()
        };
        text(&mut header.name, &server.name)?;
        text(&mut header.args, &server.args)?;
        let mut writer = Writer::new(header);
        for end in &self.ends {
            writer.push(channel_entry(manifest, end)?)?;
        }
        if let Some(device) = device {
            self.device_entries(server, device, &mut writer)?;
        }
        if self.dma_vaddr != 0 {
            let entry = Entry { vaddr: self.dma_vaddr, len: server.dma, aux: dma_paddr, ..entry("dma", kind::DMA)? };
            writer.push(entry)?;
        }
        Ok(writer)
    }

    fn device_entries(
        &self,
        server: &crate::manifest::Server,
        device: &DeviceInfo,
        writer: &mut Writer,
    ) -> Result<(), PlanError> {
        let (paddr, len) = device.registers;
        if len > 0 {
            let mut mmio =
                Entry { vaddr: self.mmio_vaddr + paddr % PAGE, len, aux: paddr, ..entry("mmio", kind::MMIO)? };
            if let Some(name) = server.device {
                text(&mut mmio.arg, &alloc::format!("{name}"))?;
            }
            writer.push(mmio)?;
        }
        if let Some((bit, slot)) = self.irq {
            writer.push(Entry { cptr: slot, signal_bit: bit, ..entry("irq", kind::IRQ)? })?;
        }
        Ok(())
    }
}

fn channel_entry(manifest: &Manifest, end: &End) -> Result<Entry, PlanError> {
    let channel = &manifest.channels[end.channel];
    let role = if end.role == Role::Client { kind::CLIENT } else { kind::SERVER };
    let mut entry = Entry {
        signal_bit: end.bit,
        cptr: end.call_slot,
        signal: end.signal_slot,
        badge: end.badge,
        vaddr: end.vaddr,
        len: channel.region(),
        aux: channel.ring,
        ..entry(manifest.name_of(end.peer), role)?
    };
    text(&mut entry.arg, &channel.arg)?;
    Ok(entry)
}

fn entry(name: &str, kind: u32) -> Result<Entry, PlanError> {
    let mut entry = Entry { kind, signal_bit: NO_BIT, ..Entry::new_zeroed() };
    text(&mut entry.name, name)?;
    Ok(entry)
}

fn text(field: &mut [u8], value: &str) -> Result<(), PlanError> {
    set_text(field, value).ok_or(PlanError::EnvironmentFull)
}

/// Rights of a page's mapping.
pub fn rights(access: Access) -> CapRights {
    if access == Access::Write { CapRights::READ_WRITE } else { CapRights::READ }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::tests::elf;
    use crate::manifest::tests::{channel, server};
    use smi_env::Env;

    fn system() -> Manifest {
        let mut file = server("file");
        file.heap = (4 << 20) + 0x3000;
        file.dma = 0x4000;
        file.args = "hello".into();
        let mut to_file = channel(1, 0);
        (to_file.ring, to_file.buffer, to_file.arg) = (0x1000, 0x2000, "x".into());
        Manifest {
            servers: [file, server("db"), server("console")].into(),
            channels: [channel(1, 2), to_file, channel(0, 2), channel(0, ROOT_INDEX)].into(),
            services: Vec::new(),
        }
    }

    fn image() -> Vec<u8> {
        let text = [0x11; 0x1801];
        elf(0x40_0000, &[(5, 0x40_0000, 0x1801, &text), (6, 0x40_2000, 0x2000, b"data")])
    }

    const DEVICE: DeviceInfo = DeviceInfo { registers: (0xa00_3e00, 0x200), irq: (79, true) };

    #[test]
    fn every_byte_and_slot_has_its_place() {
        let (manifest, image) = (system(), image());
        let program = Program::parse(&image).unwrap();
        let plan = plan(&manifest, 0, &program, Some(&DEVICE)).unwrap();

        // 2 + 2 image pages, 16 of stack, 3 of heap beyond the large pages, IPC buffer, environment.
        assert_eq!(plan.pages.len(), 4 + 16 + 3 + 1 + 2);
        assert_eq!(plan.large_pages, [map::HEAP, map::HEAP + LARGE]);
        assert_eq!(plan.pages[1].data.len(), 0x801);
        assert_eq!(plan.pages[2].data, b"data");
        assert!(plan.pages[3].data.is_empty());
        assert_eq!(plan.page_at(map::STACK_TOP - 8), Some(4 + 15));
        assert_eq!(plan.page_at(map::STACK_TOP - 0x1_0000 - 1), None, "guard below the stack");
        assert!(plan.is_below_stack(map::STACK_TOP - 0x1_0000 - 1) && !plan.is_below_stack(map::STACK_TOP - 8));
        assert_eq!(plan.pages[plan.ipc_page].vaddr, map::IPC_BUFFER);

        // One top table, 4 of 1 GiB (image, IPC and stack, heap, regions), and for 4 KiB pages: image, IPC, stack, heap, regions.
        assert_eq!(plan.tables.len(), 1 + 4 + 5);
        let sizes: Vec<u32> = plan.groups.iter().map(|g| g.kind.size_bits(g.size_bits)).collect();
        assert!(sizes.is_sorted_by(|a, b| a >= b));
        assert_eq!(plan.object_count(), plan.groups.last().map(|g| g.first + g.count).unwrap());
        assert!(plan.bytes() >= 4 << 20 && plan.bytes() < (4 << 20) + (1 << 19));

        // Slots: db's channel (server end): 1; console (client): 2; root (client): 2; interrupt: 1; replies; free.
        assert_eq!(plan.reply_first, map::CAP_FIRST + 6);
        assert_eq!(plan.free, (map::CAP_FIRST + 14, map::CAP_FIRST + 14 + 64));
        assert_eq!(plan.cnode_bits, 7);
    }

    #[test]
    fn both_ends_of_a_channel_agree() {
        let (manifest, image) = (system(), image());
        let program = Program::parse(&image).unwrap();
        let file = plan(&manifest, 0, &program, None).unwrap();
        let db = plan(&manifest, 1, &program, None).unwrap();
        let at_file = file.ends.iter().find(|e| e.peer == 1).unwrap();
        let at_db = db.ends.iter().find(|e| e.peer == 0).unwrap();
        assert_eq!((at_file.role, at_db.role), (Role::Server, Role::Client));
        assert_eq!((at_file.badge, at_db.badge), (1, 1));
        assert_eq!(bit_of(&manifest, 0, at_db.channel), at_file.bit);
        // The console has two clients with different badges.
        assert_eq!((badge_of(&manifest, 0), badge_of(&manifest, 2)), (1, 2));
        // Root is called with badges of its own.
        assert_eq!(badge_of(&manifest, 3), 1);
    }

    #[test]
    fn the_environment_says_the_same_as_the_plan() {
        let (manifest, image) = (system(), image());
        let program = Program::parse(&image).unwrap();
        let plan = plan(&manifest, 0, &program, Some(&DEVICE)).unwrap();
        let writer = plan.environment(&manifest, 0, 3, 1, Some(&DEVICE), 0x4444_0000).unwrap();
        #[repr(align(8))]
        struct Bytes([u8; ENV_SIZE]);
        let bytes = Box::leak(Box::new(Bytes([0; ENV_SIZE])));
        writer.finish(&mut bytes.0);
        let env = Env::check(&bytes.0).unwrap();
        assert_eq!((env.name(), env.args(), env.restarts()), ("file", "hello", 3));
        let db = env.channel("db").unwrap();
        assert_eq!((db.role, db.badge, db.arg), (Role::Server, 1, "x"));
        assert_eq!((db.ring.unwrap().len, db.buffer.unwrap().len), (0x1000, 0x2000));
        assert!(env.channel("root").unwrap().call.is_some());
        let mmio = env.device("mmio").unwrap();
        assert_eq!((mmio.region.ptr as u64 % PAGE, mmio.paddr), (0xe00, 0xa00_3e00));
        assert_eq!(env.irq().unwrap().bit, 3);
        assert_eq!((env.dma().unwrap().paddr, env.dma().unwrap().region.len), (0x4444_0000, 0x4000));
        assert_eq!(env.free_slots(), plan.free.0..plan.free.1);
    }
}
