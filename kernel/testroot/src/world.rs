//! What the root task was given, and what tests are made of: slots, objects, mappings, threads.
//!
//! Objects come out of one untyped (`pool`), capabilities go to slots from `base` on; [`World::clean_up`] revokes the one
//! and empties the others, so that every test starts the same.

use crate::report::Outcome;
use crate::sys::{self, Message, invoke};
use core::ptr::addr_of;
use core::sync::atomic::{AtomicU64, Ordering};
use kernel_abi::ext::ExtLabel;
use kernel_abi::{BootInfo, Label, ObjectType};

/// Own TCB.
pub const TCB: u64 = 1;
/// Own CNode; a slot's number is its capability address.
pub const CNODE: u64 = 2;
/// Own address space.
pub const VSPACE: u64 = 3;
/// IRQ control.
pub const IRQ_CONTROL: u64 = 4;
/// ASID control.
pub const ASID_CONTROL: u64 = 5;
/// The initial ASID pool.
pub const ASID_POOL: u64 = 6;
/// Domain schedule.
pub const DOMAIN: u64 = 11;
/// All rights.
pub const ALL_RIGHTS: u64 = 15;
/// Default VM attributes: cacheable, executable.
pub const DEFAULT_ATTRIBUTES: u64 = 3;
/// Execute never, cacheable.
pub const DATA_ATTRIBUTES: u64 = 5;
/// Device, execute never.
pub const DEVICE_ATTRIBUTES: u64 = 4;

/// Where the program is linked.
const IMAGE_BASE: u64 = 0x40_0000;
/// Addresses nobody uses: for the tests' own mappings. The topmost table over them is there (the image needs it).
pub const FREE_VADDR: u64 = 0x10_0000_0000;

const MAX_THREADS: usize = 12;
const THREAD_STACK: usize = 0x4000;

/// Stack and IPC buffer of a test thread; the buffer is on a page of its own because its frame goes to the thread.
#[repr(C, align(4096))]
struct ThreadMemory {
    buffer: [u8; 4096],
    stack: [u8; THREAD_STACK],
}

/// Bytes of a thread's memory: its buffer is at the start, its stack ends at the end.
pub const THREAD_MEMORY_SIZE: u64 = size_of::<ThreadMemory>() as u64;

static mut THREAD_MEMORY: [ThreadMemory; MAX_THREADS] =
    [const { ThreadMemory { buffer: [0; 4096], stack: [0; THREAD_STACK] } }; MAX_THREADS];

/// A thread of this program.
#[derive(Clone, Copy)]
pub struct Thread {
    /// Its TCB.
    pub tcb: u64,
    /// Its scheduling context.
    pub sc: u64,
}

/// How to make a thread.
#[derive(Clone, Copy)]
pub struct Spec {
    /// Priority.
    pub priority: u64,
    /// Fault endpoint, 0 for none.
    pub fault_endpoint: u64,
    /// Budget and period in µs; equal = round robin. (0, 0): no scheduling context.
    pub budget: (u64, u64),
    /// Core.
    pub core: u64,
    /// Whether it runs at once.
    pub run: bool,
}

impl Spec {
    /// A thread of this priority on core 0, running at once. Its slice is long: a host that stops the machine for some
    /// milliseconds must not change the order in which threads run.
    pub const fn at(priority: u64) -> Self {
        Self { priority, fault_endpoint: 0, budget: (1_000_000, 1_000_000), core: 0, run: true }
    }
}

/// A thread that does one small thing for the tests whenever it is asked to.
#[derive(Clone, Copy)]
struct Helper {
    thread: Thread,
    /// Starts it.
    go: u64,
    /// It signals that it is done.
    done: u64,
}

impl Helper {
    const NONE: Self = Self { thread: Thread { tcb: 0, sc: 0 }, go: 0, done: 0 };
}

/// What the sleeper waits on and what it signals.
static SLEEPER: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
/// The same of the runner.
static RUNNER: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

extern "C" fn sleeper(_: u64) -> ! {
    loop {
        sys::wait(SLEEPER[0].load(Ordering::Relaxed));
        sys::yield_now();
        sys::signal(SLEEPER[1].load(Ordering::Relaxed));
    }
}

extern "C" fn runner(_: u64) -> ! {
    loop {
        sys::wait(RUNNER[0].load(Ordering::Relaxed));
        sys::signal(RUNNER[1].load(Ordering::Relaxed));
    }
}

/// The root task's possessions.
pub struct World {
    /// What the kernel has told us.
    pub info: &'static BootInfo,
    /// The tests' untyped.
    pub pool: u64,
    base: u64,
    next: u64,
    threads: usize,
    permanent_threads: usize,
    sleeper: Helper,
    runner: Helper,
}

impl World {
    /// Looks through the boot info for a pool.
    pub fn new(info: &'static BootInfo) -> Self {
        let slot = info.empty.start;
        let mut world = Self {
            info,
            pool: 0,
            base: slot,
            next: slot,
            threads: 0,
            permanent_threads: 0,
            sleeper: Helper::NONE,
            runner: Helper::NONE,
        };
        world.pool = world.find_untyped(|bits, device| !device && bits >= 24).expect("no untyped of 16 MiB");
        world
    }

    /// The smallest initial untyped that satisfies `wanted(size_bits, is_device)`.
    pub fn find_untyped(&self, wanted: impl Fn(u32, bool) -> bool) -> Option<u64> {
        let count = (self.info.untyped.end - self.info.untyped.start) as usize;
        let list = &self.info.untyped_list[..count];
        let fitting = list.iter().enumerate().filter(|(_, u)| wanted(u32::from(u.size_bits), u.is_device != 0));
        fitting.min_by_key(|(_, u)| u.size_bits).map(|(i, _)| self.info.untyped.start + i as u64)
    }

    /// The initial untyped that covers a physical address, with its first address.
    pub fn untyped_at(&self, paddr: u64) -> Option<(u64, u64)> {
        let count = (self.info.untyped.end - self.info.untyped.start) as usize;
        let covers = |u: &kernel_abi::UntypedDesc| paddr >= u.paddr && paddr - u.paddr < 1 << u.size_bits;
        let index = self.info.untyped_list[..count].iter().position(covers)?;
        Some((self.info.untyped.start + index as u64, self.info.untyped_list[index].paddr))
    }

    /// Whether the device tree that the kernel has handed over contains these bytes.
    pub fn tree_contains(&self, text: &str) -> bool {
        let start = core::ptr::from_ref(self.info) as u64 + kernel_abi::bootinfo::EXTRA_BOOTINFO_OFFSET;
        // SAFETY: the kernel maps `extra_len` bytes there and nobody writes them.
        let tree = unsafe { core::slice::from_raw_parts(start as *const u8, self.info.extra_len as usize) };
        tree.windows(text.len()).any(|w| w == text.as_bytes())
    }

    /// Whether this is the reference platform: some tests know its addresses and interrupt numbers.
    pub fn is_virt(&self) -> bool {
        self.tree_contains("linux,dummy-virt")
    }

    /// Radix of the root CNode.
    pub fn radix(&self) -> u64 {
        self.info.init_thread_cnode_size_bits
    }

    /// `count` empty slots in a row.
    pub fn slots(&mut self, count: u64) -> u64 {
        let slot = self.next;
        self.next += count;
        assert!(self.next <= self.info.empty.end, "out of slots");
        slot
    }

    /// An empty slot.
    pub fn slot(&mut self) -> u64 {
        self.slots(1)
    }

    /// A new object.
    pub fn make(&mut self, kind: ObjectType, size_bits: u64) -> Outcome<u64> {
        self.make_many(kind, size_bits, 1)
    }

    /// New objects in consecutive slots.
    pub fn make_many(&mut self, kind: ObjectType, size_bits: u64, count: u64) -> Outcome<u64> {
        let slot = self.slots(count);
        ensure_ok!(retype(self.pool, kind, size_bits, slot, count));
        Ok(slot)
    }

    /// A new endpoint.
    pub fn endpoint(&mut self) -> Outcome<u64> {
        self.make(ObjectType::Endpoint, 0)
    }

    /// A new notification.
    pub fn notification(&mut self) -> Outcome<u64> {
        self.make(ObjectType::Notification, 0)
    }

    /// A new reply object.
    pub fn reply(&mut self) -> Outcome<u64> {
        self.make(ObjectType::Reply, 0)
    }

    /// A copy of the capability in `source` with a badge.
    pub fn badged(&mut self, source: u64, badge: u64) -> Outcome<u64> {
        self.minted(source, ALL_RIGHTS, badge)
    }

    /// A copy of the capability in `source` with fewer rights and a badge.
    pub fn minted(&mut self, source: u64, rights: u64, badge: u64) -> Outcome<u64> {
        let slot = self.slot();
        ensure_ok!(mint(slot, source, rights, badge));
        Ok(slot)
    }

    /// Makes the page tables that `vaddr` needs in the own address space; fails if all are there.
    pub fn map_tables(&mut self, vspace: u64, vaddr: u64, levels: usize) -> Outcome<u64> {
        let first = self.make_many(ObjectType::PageTable, 0, levels as u64)?;
        for i in 0..levels as u64 {
            ensure_ok!(invoke(first + i, Label::ARMPageTableMap, &[vaddr, 0], &[vspace]));
        }
        Ok(first)
    }

    /// A new small page, mapped read-write at `vaddr` (whose tables exist).
    pub fn map_new_page(&mut self, vaddr: u64) -> Outcome<u64> {
        let frame = self.make(ObjectType::SmallPage, 0)?;
        ensure_ok!(invoke(frame, Label::ARMPageMap, &[vaddr, ALL_RIGHTS, DATA_ATTRIBUTES], &[VSPACE]));
        Ok(frame)
    }

    /// A configured scheduling context of the given size.
    pub fn sched_context(
        &mut self,
        size_bits: u64,
        budget: u64,
        period: u64,
        extra: u64,
        badge: u64,
        flags: u64,
    ) -> Outcome<u64> {
        let sc = self.make(ObjectType::SchedContext, size_bits)?;
        let words = [budget, period, extra, badge, flags];
        ensure_ok!(invoke(self.info.sched_control.start, Label::SchedControlConfigureFlags, &words, &[sc]));
        Ok(sc)
    }

    /// A new thread of this program that executes `entry(argument)`.
    pub fn thread(&mut self, spec: Spec, entry: extern "C" fn(u64) -> !, argument: u64) -> Outcome<Thread> {
        let memory = self.threads;
        ensure!(memory < MAX_THREADS);
        self.threads += 1;
        let tcb = self.make(ObjectType::Tcb, 0)?;
        let sc = if spec.budget.0 == 0 { 0 } else { self.make(ObjectType::SchedContext, 8)? };
        self.set_up_thread(memory, tcb, sc, spec, entry, argument)?;
        Ok(Thread { tcb, sc })
    }

    fn set_up_thread(
        &mut self,
        memory: usize,
        tcb: u64,
        sc: u64,
        spec: Spec,
        entry: extern "C" fn(u64) -> !,
        argument: u64,
    ) -> Outcome {
        let base = addr_of!(THREAD_MEMORY) as u64 + (memory * size_of::<ThreadMemory>()) as u64;
        let frame = self.slot();
        ensure_ok!(copy(frame, self.image_frame(base)));
        ensure_ok!(invoke(tcb, Label::TCBConfigure, &[0, 0, base], &[CNODE, VSPACE, frame]));
        if sc != 0 {
            let control = self.info.sched_control.start + spec.core;
            let words = [spec.budget.0, spec.budget.1, 0, 0, 0];
            ensure_ok!(invoke(control, Label::SchedControlConfigureFlags, &words, &[sc]));
        }
        let caps = [TCB, sc, spec.fault_endpoint];
        ensure_ok!(invoke(tcb, Label::TCBSetSchedParams, &[spec.priority, spec.priority], &caps));
        // SAFETY: this thread memory is not in use: its former thread, if any, has been revoked.
        unsafe { *((base + 968) as *mut u64) = tcb };
        let stack = base + size_of::<ThreadMemory>() as u64;
        let words = context(entry as *const () as u64, stack, argument, base);
        ensure_ok!(write_registers(tcb, spec.run, &words));
        Ok(())
    }

    /// The capability to the frame of this program's page at `vaddr`.
    pub fn image_frame(&self, vaddr: u64) -> u64 {
        self.info.user_image_frames.start + (vaddr - IMAGE_BASE) / 4096
    }

    /// Starts the threads that are there for all tests: the one that looks after them, and the helpers. Their memory is
    /// not the tests'.
    pub fn start_helpers(&mut self, entry: extern "C" fn(u64) -> !) {
        let pool = self.pool;
        self.pool = self.find_untyped(|bits, device| !device && (14..24).contains(&bits)).unwrap_or(pool);
        let spec = Spec { run: false, ..Spec::at(0) };
        let thread = self.thread(spec, entry, 0).unwrap_or_else(|fail| panic!("no watchdog: {fail}"));
        sys::name_thread(thread.tcb, "watchdog");
        for tcb in [thread.tcb, TCB] {
            let answer = sys::call(tcb, ExtLabel::SmiTcbSetCounterAccess.raw(), &[1], &[]);
            assert!(answer.label == 0, "no counter access: error {}", answer.label);
        }
        let answer = invoke(thread.tcb, Label::TCBResume, &[], &[]);
        assert!(answer.label == 0, "watchdog does not start: error {}", answer.label);
        self.make_helpers().unwrap_or_else(|fail| panic!("no helpers: {fail}"));
        self.pool = pool;
        self.base = self.next;
        self.permanent_threads = self.threads;
    }

    /// IPC buffer of the thread made last, while that thread does not run.
    pub fn last_buffer(&mut self) -> &'static mut kernel_abi::IpcBuffer {
        let index = self.threads - 1;
        // SAFETY: the buffer's thread does not run (this function's condition), and the test uses one such reference at a time.
        unsafe { &mut *((addr_of!(THREAD_MEMORY) as u64 + (index * size_of::<ThreadMemory>()) as u64) as *mut _) }
    }

    /// Stops the thread made last and takes back its stack and buffer.
    pub fn stop_last(&mut self, thread: Thread) -> Outcome {
        ensure_ok!(invoke(thread.tcb, Label::TCBSuspend, &[], &[]));
        self.threads -= 1;
        Ok(())
    }

    /// Lets all threads with a higher priority than `priority` run until they block: waits for a thread of that priority.
    pub fn let_run(&mut self, priority: u64) -> Outcome {
        ensure_ok!(invoke(self.runner.thread.tcb, Label::TCBSetPriority, &[priority], &[TCB]));
        sys::signal(self.runner.go);
        ensure_eq!(sys::wait(self.runner.done).badge, 1);
        Ok(())
    }

    /// Lets everybody else run for about this long. No clock is needed for it: a thread that gives up the budget of its
    /// period runs again when the next one begins.
    pub fn sleep(&mut self, milliseconds: u64) -> Outcome {
        let words = [500, milliseconds * 1000, 0, 0, 0];
        let control = self.info.sched_control.start;
        ensure_ok!(invoke(control, Label::SchedControlConfigureFlags, &words, &[self.sleeper.thread.sc]));
        sys::signal(self.sleeper.go);
        ensure_eq!(sys::wait(self.sleeper.done).badge, 1);
        Ok(())
    }

    /// Makes a helper thread with its two notifications; `which` are the words it finds them in.
    fn make_helper(&mut self, which: &[AtomicU64; 2], spec: Spec, entry: extern "C" fn(u64) -> !) -> Outcome<Helper> {
        let (go, done) = (self.notification()?, self.notification()?);
        which[0].store(go, Ordering::Relaxed);
        which[1].store(self.badged(done, 1)?, Ordering::Relaxed);
        let go = self.badged(go, 1)?;
        let thread = self.thread(spec, entry, 0)?;
        Ok(Helper { thread, go, done })
    }

    fn make_helpers(&mut self) -> Outcome {
        let spec = Spec { budget: (500, 1000), ..Spec::at(254) };
        self.sleeper = self.make_helper(&SLEEPER, spec, sleeper)?;
        self.runner = self.make_helper(&RUNNER, Spec::at(1), runner)?;
        sys::name_thread(self.sleeper.thread.tcb, "sleeper");
        sys::name_thread(self.runner.thread.tcb, "runner");
        Ok(())
    }

    /// Undoes everything a test has made.
    pub fn clean_up(&mut self) -> Outcome {
        ensure_ok!(invoke(CNODE, Label::CNodeRevoke, &[self.pool, 64], &[]));
        for slot in self.base..self.next {
            ensure_ok!(delete(slot));
        }
        self.next = self.base;
        self.threads = self.permanent_threads;
        Ok(())
    }
}

/// Register words of a thread that starts at `entry(argument)`.
pub fn context(entry: u64, stack: u64, argument: u64, tpidr: u64) -> [u64; 36] {
    let mut words = [0; 36];
    words[0] = entry;
    words[1] = stack;
    words[3] = argument;
    words[34] = tpidr;
    words
}

/// TCB_WriteRegisters of all given words.
pub fn write_registers(tcb: u64, resume: bool, words: &[u64]) -> Message {
    let mut message = [0; 38];
    message[0] = u64::from(resume);
    message[1] = words.len() as u64;
    message[2..2 + words.len()].copy_from_slice(words);
    invoke(tcb, Label::TCBWriteRegisters, &message[..2 + words.len()], &[])
}

/// Untyped_Retype into slots of the own CNode.
pub fn retype(untyped: u64, kind: ObjectType, size_bits: u64, slot: u64, count: u64) -> Message {
    invoke(untyped, Label::UntypedRetype, &[kind.raw(), size_bits, 0, 0, slot, count], &[CNODE])
}

/// CNode_Copy within the own CNode, all rights.
pub fn copy(dest: u64, source: u64) -> Message {
    invoke(CNODE, Label::CNodeCopy, &[dest, 64, source, 64, ALL_RIGHTS], &[CNODE])
}

/// CNode_Mint within the own CNode.
pub fn mint(dest: u64, source: u64, rights: u64, badge: u64) -> Message {
    invoke(CNODE, Label::CNodeMint, &[dest, 64, source, 64, rights, badge], &[CNODE])
}

/// CNode_Delete in the own CNode.
pub fn delete(slot: u64) -> Message {
    invoke(CNODE, Label::CNodeDelete, &[slot, 64], &[])
}

/// CNode_Revoke in the own CNode.
pub fn revoke(slot: u64) -> Message {
    invoke(CNODE, Label::CNodeRevoke, &[slot, 64], &[])
}

/// Ends the calling thread (not the first one).
pub fn exit() -> ! {
    loop {
        let tcb = sys::buffer().user_data;
        invoke(tcb, Label::TCBSuspend, &[], &[]);
    }
}
