//! Boot: what the machine layer found, and the construction of the initial task (sheet §11).
//!
//! The kernel takes one block of RAM, from the top of the last free region that is large enough, for the root task's objects
//! and its own tables; everything else becomes untyped capabilities.

use kernel_abi::bootinfo::{EXTRA_BOOTINFO_OFFSET, MAX_BOOTINFO_UNTYPEDS};
use kernel_abi::object::{self as size, MAX_UNTYPED_BITS, MIN_UNTYPED_BITS, SLOT_BITS};
use kernel_abi::sched::{BOOT_THREAD_TIME_SLICE_MS, MAX_DOMAINS, MAX_PRIO, MIN_REFILLS};
use kernel_abi::slots::{InitialCap, NUM_INITIAL_CAPS};
use kernel_abi::vm::{PADDR_USER_DEVICE_TOP, USER_TOP};
use kernel_abi::{BootInfo, ExtraId, VmAttributes, context as order};

use crate::Kernel;
use crate::cap::{CNodeCap, Cap, FrameCap, FrameSize, Mapping, PageTableCap, Slot, UntypedCap};
use crate::cdt::{self, Marks};
use crate::debug::print;
use crate::machine::{CacheOp, MAX_CORES, Machine};
use crate::mem::{Ptr, Window};
use crate::sched::ReadyQueues;
use crate::schedctx::{ScParams, SchedContext};
use crate::tcb::{State, Tcb, TcbSlot};
use crate::vspace::{self, Table};

/// A half-open range of physical addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Region {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

/// The root task's image, already loaded: physically contiguous, page aligned, zero-filled between segments.
#[derive(Clone, Copy, Debug)]
pub struct UserImage {
    /// Where it lies in RAM, page aligned.
    pub phys: Region,
    /// Virtual address of `phys.start` (the image is linear: vaddr = paddr - phys.start + vaddr_start).
    pub vaddr_start: u64,
    /// Entry point.
    pub entry: u64,
}

/// Everything the core needs to know to boot.
#[derive(Clone, Copy, Debug)]
pub struct BootConfig<'a> {
    /// RAM inside the object window, ascending, not overlapping.
    pub memory: &'a [Region],
    /// What user land must not get, in any order: kernel image, device tree, the kernel's devices (interrupt controller;
    /// not the UART). The user image is added by the core.
    pub reserved: &'a [Region],
    /// Memory used only for booting and now free (inside a reserved range), handed out before the other RAM.
    pub recycled: &'a [Region],
    /// The root task.
    pub image: UserImage,
    /// Flattened device tree for the root task; empty = none.
    pub fdt: &'a [u8],
    /// Ticks per second of [`crate::machine::Machine::now`].
    pub timer_hz: u64,
    /// Number of cores that will run (1..=[`crate::machine::MAX_CORES`]).
    pub num_cores: usize,
    /// Radix of the root CNode, 12..=15 (boot option `kernel.root_cnode_bits`).
    pub root_cnode_bits: u32,
    /// Number of domains, 1..=16 (boot option `kernel.domains`).
    pub num_domains: usize,
    /// Greatest interrupt number user land can get a handler for (159 on `virt`).
    pub max_irq: u32,
    /// The kernel's own timer interrupt, never issued.
    pub timer_irq: u32,
    /// CPU interfaces an SGI can name (8 on GICv2).
    pub sgi_targets: u32,
}

/// Why the system cannot be booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootError {
    /// A number in the configuration is outside its bounds.
    BadConfig,
    /// The user image is not page aligned, not in RAM, or its addresses are not user addresses.
    BadImage,
    /// More regions than the kernel keeps track of.
    TooManyRegions,
    /// No free region is large enough for the initial objects.
    OutOfMemory,
    /// The root CNode has too few slots for the initial capabilities.
    OutOfSlots,
}

const PAGE: u64 = 4096;
/// ASID of the root task.
const ROOT_ASID: u16 = 1;
/// Most regions, free or device, at any moment.
const MAX_REGIONS: usize = 64;

/// A list of disjoint regions, ascending.
struct Regions {
    list: [Region; MAX_REGIONS],
    len: usize,
}

impl Regions {
    const fn new() -> Self {
        Self { list: [Region { start: 0, end: 0 }; MAX_REGIONS], len: 0 }
    }

    fn as_slice(&self) -> &[Region] {
        &self.list[..self.len]
    }

    fn push(&mut self, region: Region) -> Result<(), BootError> {
        if region.start >= region.end {
            return Ok(());
        }
        *self.list.get_mut(self.len).ok_or(BootError::TooManyRegions)? = region;
        self.len += 1;
        Ok(())
    }

    /// Takes a range out of all regions.
    fn subtract(&mut self, hole: Region) -> Result<(), BootError> {
        if hole.start >= hole.end {
            return Ok(());
        }
        let mut left = Self::new();
        for r in self.as_slice() {
            left.push(Region { start: r.start, end: r.end.min(hole.start) })?;
            left.push(Region { start: r.start.max(hole.end), end: r.end })?;
        }
        *self = left;
        Ok(())
    }

    /// Takes `bytes`, aligned, from the top of the last region that has them.
    fn take_top(&mut self, bytes: u64, align: u64) -> Result<u64, BootError> {
        for r in self.as_slice().iter().rev() {
            if let Some(start) = r.end.checked_sub(bytes).map(|s| s & !(align - 1))
                && start >= r.start
            {
                self.subtract(Region { start, end: start + bytes })?;
                return Ok(start);
            }
        }
        Err(BootError::OutOfMemory)
    }
}

/// Virtual addresses of the root task.
#[derive(Clone, Copy)]
struct Layout {
    image: u64,
    ipc_buffer: u64,
    bootinfo: u64,
    extra: u64,
    end: u64,
}

impl Layout {
    fn new(config: &BootConfig<'_>, extra_len: u64) -> Result<Self, BootError> {
        let image = config.image;
        let aligned = [image.phys.start, image.phys.end, image.vaddr_start].iter().all(|a| a.is_multiple_of(PAGE));
        let in_ram = config.memory.iter().any(|r| r.start <= image.phys.start && image.phys.end <= r.end);
        if !aligned || !in_ram || image.phys.start >= image.phys.end {
            return Err(BootError::BadImage);
        }
        let bytes = image.phys.end - image.phys.start;
        let ipc_buffer = image.vaddr_start.checked_add(bytes).ok_or(BootError::BadImage)?;
        if ipc_buffer > USER_TOP - (1 << 32) {
            return Err(BootError::BadImage);
        }
        let bootinfo = ipc_buffer + PAGE;
        let extra = bootinfo + EXTRA_BOOTINFO_OFFSET;
        Ok(Self {
            image: image.vaddr_start,
            ipc_buffer,
            bootinfo,
            extra,
            end: extra + extra_len.next_multiple_of(PAGE),
        })
    }

    /// Number of tables whose entry covers 2^`shift` bytes needed for the whole range.
    fn tables(&self, shift: u32) -> u64 {
        ((self.end - 1) >> shift) - (self.image >> shift) + 1
    }
}

/// Tables a page-table entry may point to: spans of the 1st, 2nd and 3rd level.
const TABLE_SPANS: [u32; 3] = [39, 30, 21];

/// Hands out consecutive, aligned parts of the kernel's block.
struct Block {
    at: u64,
}

impl Block {
    fn take(&mut self, bytes: u64, align: u64) -> u64 {
        let start = self.at.next_multiple_of(align);
        self.at = start + bytes;
        start
    }
}

/// Where everything in the kernel's block is.
struct Placement {
    cnode: u64,
    vspace: u64,
    pool: u64,
    ipc_buffer: u64,
    bootinfo: u64,
    extra: u64,
    tables: u64,
    tcb: u64,
    sc: u64,
    irq_slots: u64,
    irq_states: u64,
    ready: u64,
    end: u64,
}

impl Placement {
    fn new(base: u64, config: &BootConfig<'_>, layout: &Layout, lines: u64) -> Self {
        let mut block = Block { at: base };
        let cnode_bytes = 1 << (config.root_cnode_bits + SLOT_BITS);
        let tables: u64 = TABLE_SPANS.iter().map(|s| layout.tables(*s)).sum();
        let queues = (config.num_cores * config.num_domains) as u64;
        Self {
            cnode: block.take(cnode_bytes, cnode_bytes),
            vspace: block.take(PAGE, PAGE),
            pool: block.take(PAGE, PAGE),
            ipc_buffer: block.take(PAGE, PAGE),
            bootinfo: block.take(PAGE, PAGE),
            extra: block.take(layout.end - layout.extra, PAGE),
            tables: block.take(tables * PAGE, PAGE),
            tcb: block.take(1 << size::TCB_BITS, 1 << size::TCB_BITS),
            sc: block.take(1 << size::MIN_SCHED_CONTEXT_BITS, 1 << size::MIN_SCHED_CONTEXT_BITS),
            irq_slots: block.take(lines << SLOT_BITS, 1 << SLOT_BITS),
            irq_states: block.take(lines * 8, 8),
            ready: block.take(queues * size_of::<ReadyQueues>() as u64, 8),
            end: block.take(0, PAGE),
        }
    }
}

/// The root CNode being filled.
struct RootCNode {
    cap: CNodeCap,
    next: u64,
}

impl RootCNode {
    fn put(&self, at: InitialCap, cap: Cap) -> Ptr<Slot> {
        let slot = self.cap.slot(at.raw());
        cdt::insert_alone(slot, cap, Marks::ORIGINAL);
        slot
    }

    fn push(&mut self, cap: Cap) -> Result<Ptr<Slot>, BootError> {
        if self.next >= self.cap.len() {
            return Err(BootError::OutOfSlots);
        }
        let slot = self.cap.slot(self.next);
        self.next += 1;
        cdt::insert_alone(slot, cap, Marks::ORIGINAL);
        Ok(slot)
    }
}

/// Writes the boot-info frame.
struct InfoWriter {
    window: Window,
    paddr: u64,
}

impl InfoWriter {
    fn word(&self, offset: usize, value: u64) {
        self.window.write(self.paddr + offset as u64, value);
    }

    fn region(&self, offset: usize, start: u64, end: u64) {
        self.word(offset, start);
        self.word(offset + 8, end);
    }

    fn untyped(&self, index: u64, paddr: u64, bits: u32, device: bool) {
        let at = core::mem::offset_of!(BootInfo, untyped_list) + 16 * index as usize;
        self.word(at, paddr);
        self.word(at + 8, u64::from(bits) | (u64::from(device) << 8));
    }
}

impl<M: Machine> Kernel<M> {
    /// Builds the initial task and schedules it on core 0.
    ///
    /// # Errors
    /// [`BootError`]: the configuration cannot be booted; a message for the console, nothing runs.
    pub fn boot(&mut self, config: &BootConfig<'_>) -> Result<(), BootError> {
        self.take_config(config)?;
        let extra_len = if config.fdt.is_empty() { 0 } else { 16 + config.fdt.len() as u64 };
        let layout = Layout::new(config, extra_len)?;
        let (mut free, devices) = find_regions(config)?;

        let lines = Self::irq_lines(config.num_cores, config.max_irq);
        let align = (1 << (config.root_cnode_bits + SLOT_BITS)).max(PAGE);
        let bytes = Placement::new(0, config, &layout, lines).end;
        let base = free.take_top(bytes, align)?;
        self.window.zero(base, bytes);
        let place = Placement::new(base, config, &layout, lines);
        self.place_tables(config, &place);

        let mut root = self.root_cnode(config, &place);
        let info = InfoWriter { window: self.window, paddr: place.bootinfo };
        self.build_vspace(&mut root, &info, &layout, &place)?;
        self.build_extra(config, &mut root, &info, &layout, &place)?;
        self.build_sched_controls(&mut root, &info)?;
        self.map_image(config, &mut root, &info)?;
        self.build_untypeds(config, &mut root, &info, &free, &devices)?;
        self.finish_info(&root, &info, &layout, extra_len);
        self.start_root(config, &root, &layout, &place);
        self.start_core(0);
        Ok(())
    }

    fn take_config(&mut self, config: &BootConfig<'_>) -> Result<(), BootError> {
        let fits = (1..=MAX_CORES).contains(&config.num_cores)
            && (1..=MAX_DOMAINS).contains(&config.num_domains)
            && (12..=15).contains(&config.root_cnode_bits)
            && (1_000_000..=4_000_000_000).contains(&config.timer_hz)
            && (32..1020).contains(&config.max_irq)
            && config.timer_irq <= config.max_irq;
        if !fits {
            return Err(BootError::BadConfig);
        }
        self.window = Window::new(self.machine.window_offset());
        self.ticks_per_ms = config.timer_hz / 1000;
        self.min_budget = self.us_to_ticks(kernel_abi::sched::MIN_BUDGET_US);
        self.num_cores = config.num_cores;
        self.num_domains = config.num_domains;
        self.max_irq = config.max_irq;
        self.timer_irq = config.timer_irq;
        self.sgi_targets = config.sgi_targets;
        self.now = self.machine.now();
        Ok(())
    }

    /// The kernel's own tables.
    fn place_tables(&mut self, config: &BootConfig<'_>, place: &Placement) {
        self.irq_slots = Some(self.window.at(place.irq_slots));
        self.irq_states = Some(self.window.at(place.irq_states));
        self.irq_reserve();
        let ready: Ptr<ReadyQueues> = self.window.at(place.ready);
        for core in 0..config.num_cores {
            self.cores[core].ready = Some(ready.index((core * config.num_domains) as u64));
            self.cores[core].domain_time = self.domain_schedule[0].duration;
        }
        let pool = self.window.at(place.pool);
        self.asid_pools[0] = Some(pool);
    }

    /// The CNode with the capabilities in fixed slots.
    fn root_cnode(&mut self, config: &BootConfig<'_>, place: &Placement) -> RootCNode {
        let radix = config.root_cnode_bits;
        let cap = CNodeCap { slots: self.window.at(place.cnode), radix, guard: 0, guard_size: u64::BITS - radix };
        let root = RootCNode { cap, next: NUM_INITIAL_CAPS };
        root.put(InitialCap::ThreadTcb, Cap::Tcb(self.window.at(place.tcb)));
        root.put(InitialCap::ThreadCNode, Cap::CNode(cap));
        root.put(InitialCap::IrqControl, Cap::IrqControl);
        root.put(InitialCap::AsidControl, Cap::AsidControl);
        root.put(InitialCap::ThreadAsidPool, Cap::AsidPool { pool: self.window.at(place.pool), base: 0 });
        root.put(InitialCap::Domain, Cap::Domain);
        let sc = self.window.at(place.sc);
        root.put(InitialCap::ThreadSchedContext, Cap::SchedContext { sc, bits: size::MIN_SCHED_CONTEXT_BITS });
        root
    }

    /// The root table, its lower tables, the IPC buffer and the boot-info frame.
    fn build_vspace(
        &mut self,
        root: &mut RootCNode,
        info: &InfoWriter,
        layout: &Layout,
        place: &Placement,
    ) -> Result<(), BootError> {
        let vspace: Ptr<Table> = self.window.at(place.vspace);
        self.asid_set(ROOT_ASID, vspace);
        root.put(InitialCap::ThreadVSpace, Cap::VSpace { root: vspace, asid: ROOT_ASID });
        let first = root.next;
        let mut table = place.tables;
        for span in TABLE_SPANS {
            for n in 0..layout.tables(span) {
                let vaddr = ((layout.image >> span) + n) << span;
                let cap =
                    PageTableCap { table: self.window.at(table), mapping: Some(Mapping { asid: ROOT_ASID, vaddr }) };
                let slot = root.push(Cap::PageTable(cap))?;
                self.map_table(slot, &vspace::walk(self.window, vspace, vaddr), cap);
                table += PAGE;
            }
        }
        info.region(core::mem::offset_of!(BootInfo, user_image_paging), first, root.next);
        let data = VmAttributes::PAGE_CACHEABLE | VmAttributes::EXECUTE_NEVER;
        let bootinfo = self.map_boot_frame(place.bootinfo, layout.bootinfo, data);
        root.put(InitialCap::BootInfoFrame, bootinfo);
        let buffer = self.map_boot_frame(place.ipc_buffer, layout.ipc_buffer, data);
        root.put(InitialCap::ThreadIpcBuffer, buffer);
        Ok(())
    }

    /// Maps a page of the root task; returns its capability.
    fn map_boot_frame(&mut self, paddr: u64, vaddr: u64, attributes: VmAttributes) -> Cap {
        if let Some(vspace) = self.asid_root(ROOT_ASID) {
            let found = vspace::walk(self.window, vspace, vaddr);
            let entry = vspace::leaf(paddr, found.shift, true, true, attributes);
            self.write_entry(&found, entry, ROOT_ASID, vaddr);
        }
        Cap::Frame(FrameCap {
            paddr,
            size: FrameSize::Small,
            device: false,
            read: true,
            write: true,
            mapping: Some(Mapping { asid: ROOT_ASID, vaddr }),
        })
    }

    /// The device tree as extra boot information.
    fn build_extra(
        &mut self,
        config: &BootConfig<'_>,
        root: &mut RootCNode,
        info: &InfoWriter,
        layout: &Layout,
        place: &Placement,
    ) -> Result<(), BootError> {
        let first = root.next;
        for offset in (0..layout.end - layout.extra).step_by(PAGE as usize) {
            let cap = self.map_boot_frame(place.extra + offset, layout.extra + offset, VmAttributes::DEFAULT);
            root.push(cap)?;
        }
        if !config.fdt.is_empty() {
            self.window.write(place.extra, ExtraId::Fdt.raw());
            self.window.write(place.extra + 8, 16 + config.fdt.len() as u64);
            self.window.write_bytes(place.extra + 16, config.fdt);
        }
        info.region(core::mem::offset_of!(BootInfo, extra_bi_pages), first, root.next);
        Ok(())
    }

    fn build_sched_controls(&mut self, root: &mut RootCNode, info: &InfoWriter) -> Result<(), BootError> {
        let first = root.next;
        for core in 0..self.num_cores {
            root.push(Cap::SchedControl { core })?;
        }
        info.region(core::mem::offset_of!(BootInfo, sched_control), first, root.next);
        Ok(())
    }

    /// The image, page by page, read/write/execute.
    fn map_image(&mut self, config: &BootConfig<'_>, root: &mut RootCNode, info: &InfoWriter) -> Result<(), BootError> {
        let (first, phys) = (root.next, config.image.phys);
        for paddr in (phys.start..phys.end).step_by(PAGE as usize) {
            let vaddr = config.image.vaddr_start + (paddr - phys.start);
            let cap = self.map_boot_frame(paddr, vaddr, VmAttributes::DEFAULT);
            root.push(cap)?;
        }
        self.machine.cache(CacheOp::Unify, phys.start, phys.end - phys.start);
        info.region(core::mem::offset_of!(BootInfo, user_image_frames), first, root.next);
        Ok(())
    }

    /// Device memory, recycled memory, free RAM.
    fn build_untypeds(
        &mut self,
        config: &BootConfig<'_>,
        root: &mut RootCNode,
        info: &InfoWriter,
        free: &Regions,
        devices: &Regions,
    ) -> Result<(), BootError> {
        let first = root.next;
        let mut dropped = 0;
        let groups = [(devices.as_slice(), true), (config.recycled, false), (free.as_slice(), false)];
        for (regions, device) in groups {
            for region in regions {
                // Pieces below the least untyped size are lost.
                let mut at = region.start.next_multiple_of(1 << MIN_UNTYPED_BITS);
                while let Some(bits) = largest_piece(at, region.end) {
                    let count = root.next - first;
                    if count < MAX_BOOTINFO_UNTYPEDS as u64 && root.next < root.cap.len() {
                        let used = if device { 0 } else { 1 << bits };
                        root.push(Cap::Untyped(UntypedCap { paddr: at, bits, device, used }))?;
                        info.untyped(count, at, bits, device);
                    } else {
                        dropped += 1;
                    }
                    at += 1 << bits;
                }
            }
        }
        if dropped > 0 {
            print!(self, "kernel: {dropped} pieces of memory do not fit the boot information\n");
        }
        info.region(core::mem::offset_of!(BootInfo, untyped), first, root.next);
        Ok(())
    }

    fn finish_info(&mut self, root: &RootCNode, info: &InfoWriter, layout: &Layout, extra_len: u64) {
        use core::mem::offset_of;
        info.word(offset_of!(BootInfo, extra_len), extra_len);
        info.word(offset_of!(BootInfo, num_nodes), self.num_cores as u64);
        info.word(offset_of!(BootInfo, ipc_buffer), layout.ipc_buffer);
        info.word(offset_of!(BootInfo, init_thread_cnode_size_bits), u64::from(root.cap.radix));
        info.region(offset_of!(BootInfo, empty), root.next, root.cap.len());
    }

    /// The first thread.
    fn start_root(&mut self, config: &BootConfig<'_>, root: &RootCNode, layout: &Layout, place: &Placement) {
        let tcb: Ptr<Tcb> = self.window.at(place.tcb);
        let install = |at: InitialCap, which| {
            let src = root.cap.slot(at.raw());
            let cap = match src.cap() {
                Cap::Frame(f) => Cap::Frame(FrameCap { mapping: None, ..f }),
                cap => cap,
            };
            cdt::insert_derived(cap, src, tcb.slot(which));
        };
        install(InitialCap::ThreadCNode, TcbSlot::CTable);
        install(InitialCap::ThreadVSpace, TcbSlot::VTable);
        install(InitialCap::ThreadIpcBuffer, TcbSlot::Buffer);
        tcb.ipc_buffer.set(layout.ipc_buffer);
        tcb.priority.set(MAX_PRIO as u8);
        tcb.mcp.set(MAX_PRIO as u8);
        tcb.context.spsr.set(order::SPSR_USER_BASE);
        tcb.set_x(0, layout.bootinfo);
        tcb.context.elr.set(config.image.entry);
        tcb.context.fault_ip.set(config.image.entry);
        tcb.set_name(b"rootserver".iter().copied());
        self.all_threads_add(tcb);

        let sc: Ptr<SchedContext> = self.window.at(place.sc);
        let budget = self.us_to_ticks(BOOT_THREAD_TIME_SLICE_MS * 1000);
        let params = ScParams { budget, period: 0, max: MIN_REFILLS as u32, badge: 0, sporadic: false };
        sc.refill_new(&params, self.now);
        sc.tcb.set(Some(tcb));
        tcb.sc.set(Some(sc));
        tcb.set_state(State::Running);
        self.ready_push_head(tcb);
    }
}

/// Free RAM and device space.
fn find_regions(config: &BootConfig<'_>) -> Result<(Regions, Regions), BootError> {
    let (mut free, mut devices) = (Regions::new(), Regions::new());
    devices.push(Region { start: 0, end: PADDR_USER_DEVICE_TOP })?;
    let mut last_end = 0;
    for r in config.memory {
        if r.start < last_end || r.start >= r.end {
            return Err(BootError::BadConfig);
        }
        last_end = r.end;
        free.push(*r)?;
        devices.subtract(*r)?;
    }
    for r in config.reserved.iter().chain([&config.image.phys]) {
        free.subtract(*r)?;
        devices.subtract(*r)?;
    }
    Ok((free, devices))
}

/// log2 of the largest power of two that is aligned at `at` and fits below `end`; `None` below the least untyped size.
fn largest_piece(at: u64, end: u64) -> Option<u32> {
    let fits = end.checked_sub(at)?.checked_ilog2()?;
    // 0 counts as aligned to anything.
    let bits = fits.min(at.trailing_zeros()).min(MAX_UNTYPED_BITS);
    (bits >= MIN_UNTYPED_BITS).then_some(bits)
}
