//! From the first Rust instruction to the first user instruction: device tree, final page tables, devices, root task, cores.
//!
//! Everything handed over by the firmware is a claim: what does not hold is a message on the console and a halted node.
//!
//! Boot arguments (words of `/chosen/bootargs`; others are not the kernel's):
//!
//! | argument | meaning | default |
//! | --- | --- | --- |
//! | `kernel.root_cnode_bits=N` | radix of the root CNode, 12 to 15 | 13 |
//! | `kernel.domains=N` | number of domains, 2 to 16; 1: the domain scheduler with 4 | one domain |
//! | `kernel.max_irq=N` | highest interrupt number user land can have | 159, or what the distributor has if below 256 |
//! | `kernel.cores=N` | use at most so many cores | all, at most 8 |
//! | `kernel.user_counters=1` | every thread may read the counters and use the physical timer | only threads given the right |
//! | `kernel.panic=off` | a node that cannot go on switches itself off | its cores spin |

use crate::gic::Gic;
use crate::layout::{EARLY_DTB, MAX_CORES, PAGE, window};
use crate::mmu::{Builder, MapError};
use crate::{cache, console, elf, fpu, kprintln, layout, lock, mmu, panic, percore, psci, smp, timer, trap};
use bsp_board::{Blob, Board, HEADER_SIZE, MAX_REGIONS, Region, RegionSet, StartMethod, Uart, UartKind};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use kernel_core::machine::CacheOp;
use kernel_core::{BootConfig, UserImage};

core::arch::global_asm!(
    include_str!("asm/boot.s"),
    core_stacks = sym layout::CORE_STACKS,
    core_stack_size = const layout::CORE_STACK_SIZE,
    per_core = sym percore::PER_CORE,
    per_core_size = const size_of::<percore::PerCore>(),
    kernel_main = sym kernel_main,
    secondary_main = sym secondary_main,
);

/// Highest interrupt number given to user land on a distributor with 256 or more lines, unless `kernel.max_irq` says
/// otherwise: the reference platform's (ABI sheet, section 10).
const REFERENCE_MAX_IRQ: u32 = 159;
/// Radix of the root CNode unless `kernel.root_cnode_bits` says otherwise.
const ROOT_CNODE_BITS: u32 = 13;
/// Bounds of that radix: `kernel-core`'s.
const ROOT_CNODE_RANGE: core::ops::RangeInclusive<u64> = 12..=15;
/// Domains when the domain scheduler is merely switched on (`kernel.domains` or `kernel.domains=1`).
const DOMAINS: u64 = 4;
/// Most domains.
const MAX_DOMAINS: u64 = 16;
/// How long a secondary core may take to report, in milliseconds.
const CORE_START_MS: u64 = 200;

/// Halts the node with a reason.
macro_rules! refuse {
    ($($arg:tt)*) => {{
        kprintln!("kernel: cannot boot: {}", format_args!($($arg)*));
        halt_boot()
    }};
}

/// Nothing can run: stop, or switch off if that was asked for.
fn halt_boot() -> ! {
    if panic::switch_off() {
        psci::system_off();
    }
    smp::stop()
}

/// Where things are that must survive the switch to the final tables.
struct Early {
    /// Physical range of the device tree blob.
    tree: Region,
    memory: RegionSet<MAX_REGIONS>,
    gic: bsp_board::Gic,
    uart: Option<Uart>,
}

/// Entered from boot.s on core 0: MMU on (early tables), stack set, interrupts masked. `tree`: physical address of the
/// device tree; `offset`: virtual minus physical address of the image.
extern "C" fn kernel_main(tree: u64, offset: u64) -> ! {
    // SAFETY: core 0, first thing.
    unsafe { percore::init() };
    fpu::set_rights(0);
    mmu::empty_performance_monitors();
    early_console();
    let early = read_early(tree, offset);
    // SAFETY: once, on the boot core, with the offset boot.s has computed.
    let mut builder = unsafe { Builder::new(offset) };
    if let Err(error) = build_tables(&mut builder, &early) {
        refuse!("the kernel's page tables cannot be built: {error:?}");
    }
    // SAFETY: image, RAM, interrupt controller and console are mapped: all that is used from here on.
    unsafe { builder.activate() };
    mmu::empty_user_space();
    if let Some(uart) = early.uart {
        // SAFETY: mapped above; the kernel is its first user.
        unsafe { console::init(uart.kind, window(uart.registers.start)) };
    } else {
        console::disable();
    }
    start(&early, offset)
}

/// With the final tables on: everything else.
fn start(early: &Early, offset: u64) -> ! {
    // SAFETY: the blob lies in mapped RAM (checked by `read_early`) that nobody else uses.
    let bytes =
        unsafe { core::slice::from_raw_parts_mut(window(early.tree.start) as *mut u8, early.tree.size() as usize) };
    trim_tree(bytes);
    let blob = match Blob::new(bytes) {
        Ok(blob) => blob,
        Err(error) => refuse!("the device tree has changed: {error}"),
    };
    let board = match Board::from_blob(&blob) {
        Ok(board) => board,
        Err(error) => refuse!("the device tree has changed: {error}"),
    };
    psci::init(board.psci);
    panic::set_switch_off(board.bootargs.value("panic") == Some("off"));
    announce(&board, early);
    if board.bootargs.value("user_counters").is_some_and(|value| value != "0") {
        fpu::open_counters();
        fpu::set_rights(0);
    }

    let hz = board.timer_hz.map_or_else(timer::frequency, u64::from);
    if hz == 0 {
        refuse!("neither the device tree nor CNTFRQ_EL0 tells the timer's frequency");
    }
    let reserved = reserved(&board, early, offset);
    let image = load_root(&board, early, &reserved);
    let cores =
        board.cpus.len().min(MAX_CORES).min(board.bootargs.number("cores").unwrap_or(MAX_CORES as u64).max(1) as usize);

    smp::set_active(cores);
    let mut kernel = lock::lock(0);
    // SAFETY: mapped by `build_tables`; nobody else has it.
    kernel.machine.gic = unsafe { Gic::init(&early.gic) };
    if !kernel.machine.gic.init_core(0) {
        refuse!("this core has no GIC redistributor");
    }
    kernel.machine.memory = early.memory;
    kernel.machine.timer_irq = board.virtual_timer_irq;
    kernel.machine.gic.set_enabled(0, 0, board.virtual_timer_irq, true);

    let lines = kernel.machine.gic.lines();
    let default_max_irq = if lines >= 256 { REFERENCE_MAX_IRQ } else { lines - 1 };
    let memory = core_regions(&early.memory);
    let reserved_list = core_regions(&reserved);
    let option = |name, default| board.bootargs.number(name).unwrap_or(default);
    let root_cnode_bits = option("root_cnode_bits", u64::from(ROOT_CNODE_BITS));
    if !ROOT_CNODE_RANGE.contains(&root_cnode_bits) {
        refuse!("kernel.root_cnode_bits={root_cnode_bits}: it must be {ROOT_CNODE_RANGE:?}");
    }
    let num_domains = match board.bootargs.value("domains") {
        None => 1,
        Some("" | "1") => DOMAINS,
        Some(_) => option("domains", 0),
    };
    if !(1..=MAX_DOMAINS).contains(&num_domains) {
        refuse!("kernel.domains: it must be a number from 1 to {MAX_DOMAINS}");
    }
    let config = BootConfig {
        memory: memory.as_slice(),
        reserved: reserved_list.as_slice(),
        recycled: &[],
        image,
        fdt: blob.bytes(), // trimmed above
        timer_hz: hz,
        num_cores: cores,
        root_cnode_bits: root_cnode_bits as u32,
        num_domains: num_domains as usize,
        max_irq: option("max_irq", u64::from(default_max_irq)).min(u64::from(lines - 1)) as u32,
        timer_irq: board.virtual_timer_irq,
        sgi_targets: kernel.machine.gic.sgi_targets(),
    };
    if let Err(error) = kernel.boot(&config) {
        refuse!("the root task cannot be set up: {error:?}");
    }
    drop(kernel);
    start_cores(&board, cores, offset);
    kprintln!("kernel: entering the root task");
    resume(trap::leave(lock::lock(0), 0))
}

/// Goes to user mode for the first time on this core.
fn resume(context: *mut kernel_core::Context) -> ! {
    unsafe extern "C" {
        fn resume_user(context: *mut kernel_core::Context) -> !;
    }
    // SAFETY: the context to run by `trap::leave`.
    unsafe { resume_user(context) }
}

/// A console for messages before the device tree is understood, if the image says where one is.
fn early_console() {
    unsafe extern "C" {
        static early_console_address: u64;
    }
    // SAFETY: a word of the image's header that only the image builder writes; if set, it is a PL011 of the board this image
    // was made for.
    unsafe {
        let address = (&raw const early_console_address).read_volatile();
        if address != 0 {
            console::init(UartKind::Pl011, mmu::map_early_device(address));
        }
    }
}

/// Reads from the device tree what is needed to build the final tables.
fn read_early(tree: u64, offset: u64) -> Early {
    if tree == 0 || !tree.is_multiple_of(4) {
        refuse!("no device tree in x0 ({tree:#x})");
    }
    let vaddr = EARLY_DTB + (tree & ((2 << 20) - 1));
    // SAFETY: boot.s has mapped the blocks that hold the header and as many bytes as it claims (at most 2 MiB).
    let size = match bsp_board::claimed_size(unsafe { core::slice::from_raw_parts(vaddr as *const u8, HEADER_SIZE) }) {
        Ok(size) => size,
        Err(error) => refuse!("the device tree is broken: {error}"),
    };
    // SAFETY: as above.
    let bytes = unsafe { core::slice::from_raw_parts(vaddr as *const u8, size) };
    let blob = match Blob::new(bytes) {
        Ok(blob) => blob,
        Err(error) => refuse!("the device tree is broken: {error}"),
    };
    let board = match Board::from_blob(&blob) {
        Ok(board) => board,
        Err(error) => refuse!("the device tree cannot be used: {error}"),
    };
    let tree = Region { start: tree, end: tree + size as u64 };
    match usable_memory(&board, tree, offset) {
        Some(memory) => Early { tree, memory, gic: board.gic, uart: board.uart },
        None => refuse!("memory is too scattered, or does not hold the kernel and what was loaded with it"),
    }
}

/// RAM without what the firmware keeps, but with what is there for us even if it is marked as reserved: what was loaded
/// and the words that release cores.
fn usable_memory(board: &Board<'_>, tree: Region, offset: u64) -> Option<RegionSet<MAX_REGIONS>> {
    let mut memory = RegionSet::new();
    for region in board.memory.iter() {
        memory.add(region.shrink_to(PAGE)).ok()?;
    }
    let all = memory;
    for region in board.reserved.iter() {
        memory.subtract(region.grow_to(PAGE)).ok()?;
    }
    let image = own_image(offset);
    let releases = board.cpus.iter().filter_map(|cpu| match cpu.start {
        StartMethod::SpinTable(address) => Region::from_size(address, 8),
        _ => None,
    });
    for ours in [Some(image), Some(tree), board.initrd].into_iter().flatten().chain(releases) {
        let ours = ours.grow_to(PAGE);
        if !all.contains(&ours) {
            return None;
        }
        memory.add(ours).ok()?;
    }
    Some(memory)
}

/// Physical range of the kernel's image.
fn own_image(offset: u64) -> Region {
    let image = layout::image();
    Region { start: image.start - offset, end: image.end - offset }
}

fn build_tables(builder: &mut Builder, early: &Early) -> Result<(), MapError> {
    builder.map_image()?;
    builder.map_memory(&early.memory)?;
    for region in gic_regions(&early.gic).into_iter().flatten() {
        builder.map_device(region)?;
    }
    if let Some(uart) = early.uart {
        builder.map_device(Region { start: uart.registers.start, end: uart.registers.start + 1 })?;
    }
    Ok(())
}

/// The interrupt controller's registers that the kernel uses and nobody else may.
fn gic_regions(gic: &bsp_board::Gic) -> [Option<Region>; 1 + bsp_board::MAX_REDISTRIBUTORS] {
    let mut regions = [None; 1 + bsp_board::MAX_REDISTRIBUTORS];
    match gic {
        bsp_board::Gic::V2 { distributor, cpu_interface } => {
            // One page each: what follows (if anything) is aliases and the deactivate register, which we do not use.
            regions[0] = Region::from_size(distributor.start, PAGE);
            regions[1] = Region::from_size(cpu_interface.start, PAGE);
        }
        bsp_board::Gic::V3 { distributor, redistributors } => {
            regions[0] = Some(*distributor);
            regions[1..].copy_from_slice(redistributors);
        }
    }
    regions
}

/// Shortens the blob's claimed size to what is in use: the root task gets a copy of it.
fn trim_tree(bytes: &mut [u8]) {
    if let Ok(blob) = Blob::new(bytes) {
        let used = blob.used_size().next_multiple_of(8) as u32;
        if used as usize <= bytes.len() {
            bytes[4..8].copy_from_slice(&used.to_be_bytes());
        }
    }
}

fn announce(board: &Board<'_>, early: &Early) {
    let bytes: u64 = early.memory.iter().map(|r| r.size()).sum();
    let gic = match early.gic {
        bsp_board::Gic::V2 { .. } => "GICv2",
        bsp_board::Gic::V3 { .. } => "GICv3",
    };
    kprintln!("SMI kernel on {}: {} MiB, {gic}, {} cores", board.model, bytes >> 20, board.cpus.len());
    if board.dropped_regions > 0 {
        kprintln!("kernel: {} memory regions are not used: too many of them", board.dropped_regions);
    }
}

/// What user land must not get. Device regions as well as RAM.
fn reserved(board: &Board<'_>, early: &Early, offset: u64) -> RegionSet<32> {
    let mut reserved = RegionSet::new();
    let mut all_fit = true;
    let mut reserve = |region: Region| all_fit &= reserved.add(region).is_ok();
    board.reserved.iter().for_each(|r| reserve(r.grow_to(PAGE)));
    reserve(own_image(offset).grow_to(PAGE));
    let used = Region { start: early.tree.start, end: early.tree.end };
    reserve(used.grow_to(PAGE));
    gic_regions(&early.gic).into_iter().flatten().for_each(&mut reserve);
    for cpu in board.cpus.iter() {
        if let StartMethod::SpinTable(address) = cpu.start
            && let Some(word) = Region::from_size(address, 8)
        {
            reserve(word.grow_to(PAGE));
        }
    }
    if !all_fit {
        refuse!("too many reserved regions");
    }
    reserved
}

/// Loads the root task from the initial RAM disk into free RAM.
fn load_root(board: &Board<'_>, early: &Early, reserved: &RegionSet<32>) -> UserImage {
    let Some(initrd) = board.initrd else { refuse!("no root task: the device tree names no initial RAM disk") };
    // SAFETY: in mapped RAM by `usable_memory`; nobody writes there until the root task is loaded.
    let file = unsafe { core::slice::from_raw_parts(window(initrd.start) as *const u8, initrd.size() as usize) };
    let program = match elf::parse(file) {
        Ok(program) => program,
        Err(error) => refuse!("the root task cannot be loaded: {error}"),
    };
    let mut free = early.memory;
    let fits = reserved.iter().all(|r| free.subtract(r).is_ok()) && free.subtract(initrd.grow_to(PAGE)).is_ok();
    let Some(phys) = free.find(program.image.size(), PAGE).filter(|_| fits) else {
        refuse!("the root task needs {} KiB in one piece: not enough memory", program.image.size() >> 10)
    };
    // SAFETY: free RAM, mapped, overlapping neither the file nor anything else in use.
    let target = unsafe { core::slice::from_raw_parts_mut(window(phys.start) as *mut u8, phys.size() as usize) };
    elf::load(&program, file, target);
    cache::maintain(CacheOp::Unify, window(phys.start), phys.size());
    kprintln!(
        "kernel: root task of {} KiB at {:#x}, entry {:#x}",
        phys.size() >> 10,
        program.image.start,
        program.entry
    );
    UserImage {
        phys: kernel_core::Region { start: phys.start, end: phys.end },
        vaddr_start: program.image.start,
        entry: program.entry,
    }
}

/// A region set as kernel-core takes it.
struct CoreRegions<const N: usize> {
    regions: [kernel_core::Region; N],
    len: usize,
}

impl<const N: usize> CoreRegions<N> {
    fn as_slice(&self) -> &[kernel_core::Region] {
        &self.regions[..self.len]
    }
}

fn core_regions<const N: usize>(set: &RegionSet<N>) -> CoreRegions<N> {
    let mut list = CoreRegions { regions: [kernel_core::Region::default(); N], len: set.len() };
    for (slot, region) in list.regions.iter_mut().zip(set.iter()) {
        *slot = kernel_core::Region { start: region.start, end: region.end };
    }
    list
}

/// Which cores have reached Rust.
static STARTED: [AtomicBool; MAX_CORES] = [const { AtomicBool::new(false) }; MAX_CORES];
static TIMER_IRQ: AtomicU64 = AtomicU64::new(0);

/// Starts cores 1.. one after another.
fn start_cores(board: &Board<'_>, cores: usize, offset: u64) {
    TIMER_IRQ.store(u64::from(board.virtual_timer_irq), Ordering::Release);
    let own = mmu::own_affinity();
    let others = board.cpus.iter().filter(|cpu| cpu.mpidr != own);
    for (core, cpu) in (1..cores).zip(others) {
        if let Err(error) = start_core(core, cpu, offset) {
            refuse!("core {core} ({:#x}) does not start: {error}", cpu.mpidr);
        }
    }
}

fn start_core(core: usize, cpu: bsp_board::Cpu, offset: u64) -> Result<(), &'static str> {
    unsafe extern "C" {
        fn secondary_entry();
        fn secondary_spin();
        static mut secondary_index: u64;
    }
    match cpu.start {
        StartMethod::Psci => psci::cpu_on(cpu.mpidr, secondary_entry as *const () as u64 - offset, core as u64)
            .map_err(|_| "PSCI refuses")?,
        StartMethod::SpinTable(release) => {
            let release = window(release);
            // SAFETY: the release word is in RAM that is reserved from everyone else; the index is read by the released
            // core only, and cores are released one at a time. Both are read with caches off.
            unsafe {
                (&raw mut secondary_index).write_volatile(core as u64);
                cache::maintain(CacheOp::CleanInvalidate, &raw const secondary_index as u64, 8);
                (release as *mut u64).write_volatile(secondary_spin as *const () as u64 - offset);
            }
            cache::maintain(CacheOp::CleanInvalidate, release, 8);
            aarch64_cpu::asm::sev();
        }
        StartMethod::None => return Err("the device tree does not say how"),
    }
    let deadline = timer::now() + timer::frequency() * CORE_START_MS / 1000;
    while !STARTED[core].load(Ordering::Acquire) {
        if timer::now() > deadline {
            return Err("it does not answer");
        }
    }
    Ok(())
}

/// Entered from boot.s on every other core, as `kernel_main` but with the final tables on.
extern "C" fn secondary_main(core: usize) -> ! {
    fpu::set_rights(0);
    mmu::empty_performance_monitors();
    mmu::empty_user_space();
    let mut kernel = lock::lock(core);
    smp::set_parked(core, false);
    if !kernel.machine.gic.init_core(core) {
        refuse!("core {core} has no GIC redistributor");
    }
    kernel.machine.gic.set_enabled(core, core, TIMER_IRQ.load(Ordering::Acquire) as u32, true);
    timer::set_deadline(u64::MAX);
    kernel.start_core(core);
    STARTED[core].store(true, Ordering::Release);
    resume(trap::leave(kernel, core))
}
