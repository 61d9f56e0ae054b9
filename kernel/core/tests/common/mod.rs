//! A machine made of a `Vec`, and a world to play user threads in: whoever is current makes the next system call.
#![allow(dead_code, missing_docs, reason = "shared by several test crates, each uses a part")]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use kernel_core::abi::{Error, Label, MessageInfo, ObjectType, Syscall, slots::InitialCap};
use kernel_core::{BootConfig, CacheOp, Context, CoreId, Kernel, MAX_CORES, Machine, Region, UserImage};

pub const RAM: u64 = 0x4000_0000;
/// Less under Miri, which keeps books on every byte.
pub const RAM_BYTES: u64 = if cfg!(miri) { 8 << 20 } else { 64 << 20 };
const UNTYPED_BITS: u64 = if cfg!(miri) { 20 } else { 24 };
pub const HZ: u64 = 62_500_000;
/// Ticks of a microsecond times two.
pub const TICKS_PER_2US: u64 = 125;
pub const TIMER_IRQ: u32 = 27;
pub const ROOT_BITS: u32 = 12;

/// Microseconds in ticks.
pub const fn us(us: u64) -> u64 {
    us * TICKS_PER_2US / 2
}

pub struct Arena {
    base: *mut u8,
}

impl Arena {
    const LAYOUT: Layout = match Layout::from_size_align(RAM_BYTES as usize, 2 << 20) {
        Ok(l) => l,
        Err(_) => panic!(),
    };

    fn new() -> Self {
        // SAFETY: the layout is not empty.
        let base = unsafe { alloc_zeroed(Self::LAYOUT) };
        assert!(!base.is_null());
        base.expose_provenance();
        Self { base }
    }

    fn ptr(&self, paddr: u64) -> *mut u64 {
        assert!(paddr >= RAM && paddr + 8 <= RAM + RAM_BYTES && paddr.is_multiple_of(8));
        self.base.wrapping_add((paddr - RAM) as usize).cast()
    }

    pub fn read(&self, paddr: u64) -> u64 {
        // SAFETY: inside the arena.
        unsafe { self.ptr(paddr).read_volatile() }
    }

    pub fn write(&self, paddr: u64, value: u64) {
        // SAFETY: inside the arena.
        unsafe { self.ptr(paddr).write_volatile(value) }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.base, Self::LAYOUT) }
    }
}

/// What the kernel asked of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Did {
    Space(CoreId, Option<(u64, u16)>),
    FlushPage(u16, u64),
    FlushAsid(u16),
    Enable(u32),
    Disable(u32),
    Hold(u32),
    Ack(u32),
    Trigger(u32, bool),
    Sgi(u32, u32),
    Flags(CoreId, u64),
    Reschedule(CoreId),
    Stall(CoreId),
    Cache(CacheOp, u64, u64),
    Halt,
}

pub struct Mock {
    pub arena: Arena,
    pub now: u64,
    /// Ticks that pass with each look at the clock (long operations).
    pub tick: Cell<u64>,
    pub elapsed: Cell<u64>,
    pub deadline: [u64; MAX_CORES],
    pub did: RefCell<Vec<Did>>,
    pub out: String,
    /// Preemption points left until an interrupt is pending; negative: never.
    pub pending_in: Cell<i64>,
}

impl Mock {
    pub fn new() -> Self {
        Self {
            arena: Arena::new(),
            now: 1000,
            tick: Cell::new(0),
            elapsed: Cell::new(0),
            deadline: [u64::MAX; MAX_CORES],
            did: RefCell::new(Vec::new()),
            out: String::new(),
            pending_in: Cell::new(-1),
        }
    }

    fn note(&self, did: Did) {
        self.did.borrow_mut().push(did);
    }
}

impl Machine for Mock {
    fn window_offset(&self) -> u64 {
        (self.arena.base.addr() as u64).wrapping_sub(RAM)
    }
    fn cache(&self, op: CacheOp, paddr: u64, len: u64) {
        self.note(Did::Cache(op, paddr, len));
    }
    fn set_vspace(&mut self, core: CoreId, space: Option<(u64, u16)>) {
        self.note(Did::Space(core, space));
    }
    fn table_sync(&self) {}
    fn tlb_flush_page(&self, asid: u16, vaddr: u64) {
        self.note(Did::FlushPage(asid, vaddr));
    }
    fn tlb_flush_asid(&self, asid: u16) {
        self.note(Did::FlushAsid(asid));
    }
    fn now(&self) -> u64 {
        self.elapsed.set(self.elapsed.get() + self.tick.get());
        self.now + self.elapsed.get()
    }
    fn set_deadline(&mut self, core: CoreId, deadline: u64) {
        self.deadline[core] = deadline;
    }
    fn irq_enable(&mut self, _core: CoreId, irq: u32) {
        self.note(Did::Enable(irq));
    }
    fn irq_disable(&mut self, _core: CoreId, irq: u32) {
        self.note(Did::Disable(irq));
    }
    fn irq_hold(&mut self, _core: CoreId, irq: u32) {
        self.note(Did::Hold(irq));
    }
    fn irq_ack(&mut self, _core: CoreId, irq: u32) {
        self.note(Did::Ack(irq));
    }
    fn irq_set_trigger(&mut self, _core: CoreId, irq: u32, edge: bool) {
        self.note(Did::Trigger(irq, edge));
    }
    fn irq_pending(&self, _core: CoreId) -> bool {
        let left = self.pending_in.get();
        if left > 0 {
            self.pending_in.set(left - 1);
        }
        left == 0
    }
    fn send_sgi(&mut self, irq: u32, target: u32) {
        self.note(Did::Sgi(irq, target));
    }
    fn set_thread_flags(&mut self, core: CoreId, flags: u64) {
        self.note(Did::Flags(core, flags));
    }
    fn fpu_release(&mut self, _context: *mut Context) {}
    fn send_reschedule(&mut self, core: CoreId) {
        self.note(Did::Reschedule(core));
    }
    fn stall(&mut self, core: CoreId) {
        self.note(Did::Stall(core));
    }
    fn putc(&mut self, byte: u8) {
        self.out.push(byte as char);
    }
    fn halt(&mut self) {
        self.note(Did::Halt);
    }
}

/// An answer: error code (or label) and message words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub badge: u64,
    pub label: u64,
    pub words: Vec<u64>,
}

impl Reply {
    pub fn error(&self) -> Error {
        Error::from_raw(self.label).unwrap()
    }
}

/// A thread made by the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Capabilities in the root CNode.
    pub tcb: u64,
    pub sc: u64,
    pub buffer: u64,
    /// Physical address of the IPC buffer.
    pub buffer_paddr: u64,
    pub context: *const Context,
}

pub struct World {
    pub k: Kernel<Mock>,
    pub core: CoreId,
    pub next_slot: u64,
    /// Untyped used for objects.
    pub untyped: u64,
    /// Context -> physical address of its IPC buffer.
    pub buffers: BTreeMap<usize, u64>,
    pub root: Thread,
}

pub const BUFFER_VADDR: u64 = 0x6000_0000;
pub const IMAGE_VADDR: u64 = 0x40_0000;

pub fn config<'a>(memory: &'a [Region], reserved: &'a [Region]) -> BootConfig<'a> {
    BootConfig {
        memory,
        reserved,
        recycled: &[],
        image: UserImage {
            phys: Region { start: RAM + 0x10_0000, end: RAM + 0x10_4000 },
            vaddr_start: IMAGE_VADDR,
            entry: IMAGE_VADDR + 0x40,
        },
        fdt: b"device tree bytes",
        timer_hz: HZ,
        num_cores: 1,
        root_cnode_bits: ROOT_BITS,
        num_domains: 1,
        max_irq: 159,
        timer_irq: TIMER_IRQ,
        sgi_targets: 8,
    }
}

pub const MEMORY: [Region; 1] = [Region { start: RAM, end: RAM + RAM_BYTES }];
pub const RESERVED: [Region; 3] = [
    Region { start: RAM, end: RAM + 0x10_0000 },
    Region { start: 0x0800_0000, end: 0x0800_1000 },
    Region { start: 0x0801_0000, end: 0x0801_1000 },
];

impl World {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut BootConfig<'_>)) -> Self {
        let mut k = Kernel::new(Mock::new());
        let mut config = config(&MEMORY, &RESERVED);
        change(&mut config);
        k.boot(&config).unwrap();
        let context = k.current(0).unwrap().as_ptr().cast_const();
        let root = Thread {
            tcb: InitialCap::ThreadTcb.raw(),
            sc: InitialCap::ThreadSchedContext.raw(),
            buffer: InitialCap::ThreadIpcBuffer.raw(),
            buffer_paddr: 0,
            context,
        };
        let mut w = Self { k, core: 0, next_slot: 0, untyped: 0, buffers: BTreeMap::new(), root };
        let paddr = w.call(root.buffer, Label::ARMPageGetAddress, &[], &[]).words[0];
        w.buffers.insert(context as usize, paddr);
        w.root.buffer_paddr = paddr;
        let info = w.bootinfo_paddr();
        w.next_slot = w.read(info + 40);
        w.untyped = w.find_untyped(UNTYPED_BITS);
        w
    }

    pub fn bootinfo_paddr(&mut self) -> u64 {
        self.call(InitialCap::BootInfoFrame.raw(), Label::ARMPageGetAddress, &[], &[]).words[0]
    }

    /// Slot of a RAM untyped of at least 2^bits bytes.
    pub fn find_untyped(&mut self, bits: u64) -> u64 {
        let info = self.bootinfo_paddr();
        let (start, end) = (self.read(info + 168), self.read(info + 176));
        (start..end)
            .find(|slot| {
                let desc = self.read(info + 184 + 16 * (slot - start) + 8);
                desc & 0xff >= bits && desc >> 8 == 0
            })
            .unwrap()
    }

    pub fn read(&self, paddr: u64) -> u64 {
        self.k.machine.arena.read(paddr)
    }

    pub fn write(&self, paddr: u64, value: u64) {
        self.k.machine.arena.write(paddr, value);
    }

    /// The running thread's registers.
    pub fn cur(&self) -> &Context {
        // SAFETY: the current thread's TCB is alive and its context consists of cells.
        unsafe { &*self.k.current(self.core).expect("a thread runs").as_ptr() }
    }

    pub fn running(&self) -> Option<*const Context> {
        self.k.current(self.core).map(|c| c.as_ptr().cast_const())
    }

    pub fn runs(&self, t: &Thread) -> bool {
        self.running() == Some(t.context)
    }

    pub fn ctx(&self, t: &Thread) -> &Context {
        // SAFETY: test threads' TCBs stay allocated in the arena.
        unsafe { &*t.context }
    }

    fn cur_buffer(&self) -> Option<u64> {
        self.buffers.get(&(self.running()? as usize)).copied()
    }

    /// Puts message words and capability addresses where the current thread sends from.
    pub fn put_message(&self, words: &[u64], caps: &[u64]) {
        for (i, w) in words.iter().enumerate() {
            if i < 4 {
                self.cur().x[2 + i].set(*w);
            } else {
                self.write(self.cur_buffer().unwrap() + 8 + 8 * i as u64, *w);
            }
        }
        for (i, c) in caps.iter().enumerate() {
            self.write(self.cur_buffer().unwrap() + 976 + 8 * i as u64, *c);
        }
    }

    /// `svc`: the current thread executes a system call with the registers it has.
    pub fn svc(&mut self, call: Syscall) {
        self.svc_raw(call.raw() as u64);
    }

    pub fn svc_raw(&mut self, number: u64) {
        self.cur().x[7].set(number);
        self.trap();
    }

    /// Executes the `svc` at the current PC again.
    pub fn trap(&mut self) {
        let cur = self.cur();
        cur.fault_ip.set(cur.elr.get());
        cur.elr.set(cur.elr.get() + 4);
        self.k.handle_syscall(self.core);
        self.check();
    }

    pub fn check(&self) {
        if cfg!(miri) {
            return;
        }
        self.k.audit().unwrap();
    }

    /// Message in a thread's registers and buffer.
    pub fn message(&self, t: *const Context) -> Reply {
        // SAFETY: as `ctx`.
        let c = unsafe { &*t };
        let info = MessageInfo(c.x[1].get());
        let buffer = self.buffers.get(&(t as usize));
        let words = (0..info.length())
            .map(|i| if i < 4 { c.x[2 + i].get() } else { self.read(buffer.unwrap() + 8 + 8 * i as u64) })
            .collect();
        Reply { badge: c.x[0].get(), label: info.label(), words }
    }

    /// Starts a Call; the caller may block.
    pub fn start(&mut self, call: Syscall, cptr: u64, label: u64, words: &[u64], caps: &[u64]) {
        self.put_message(words, caps);
        self.cur().x[0].set(cptr);
        self.cur().x[1].set(MessageInfo::new(label, 0, caps.len(), words.len()).0);
        self.svc(call);
    }

    /// Invokes a kernel object and returns the answer, executing the call again as long as it is preempted.
    pub fn call_raw(&mut self, cptr: u64, label: u64, words: &[u64], caps: &[u64]) -> Reply {
        let me = self.running().unwrap();
        self.put_message(words, caps);
        self.cur().x[0].set(cptr);
        self.cur().x[1].set(MessageInfo::new(label, 0, caps.len(), words.len()).0);
        self.cur().x[7].set(Syscall::Call.raw() as u64);
        let pc = self.cur().elr.get();
        loop {
            self.trap();
            if self.running() != Some(me) || self.cur().elr.get() != pc {
                break;
            }
        }
        self.message(me)
    }

    pub fn call(&mut self, cptr: u64, label: Label, words: &[u64], caps: &[u64]) -> Reply {
        self.call_raw(cptr, label.raw(), words, caps)
    }

    /// An invocation that must succeed.
    pub fn ok(&mut self, cptr: u64, label: Label, words: &[u64], caps: &[u64]) -> Vec<u64> {
        let reply = self.call(cptr, label, words, caps);
        assert_eq!(reply.error(), Error::NoError, "{label:?} {words:x?} {caps:?}: {reply:x?}");
        reply.words
    }

    /// An invocation that must fail with this error and words.
    pub fn err(&mut self, cptr: u64, label: Label, words: &[u64], caps: &[u64], error: Error, detail: &[u64]) {
        let reply = self.call(cptr, label, words, caps);
        assert_eq!((reply.error(), reply.words.as_slice()), (error, detail), "{label:?} {words:x?} {caps:?}");
    }

    /// A free slot of the root CNode.
    pub fn slot(&mut self) -> u64 {
        self.next_slot += 1;
        self.next_slot - 1
    }

    /// Makes an object of the world's untyped in a fresh slot.
    pub fn make(&mut self, kind: ObjectType, bits: u64) -> u64 {
        let slot = self.slot();
        let untyped = self.untyped;
        self.ok(untyped, Label::UntypedRetype, &[kind.raw(), bits, 0, 0, slot, 1], &[2]);
        slot
    }

    pub fn mint(&mut self, src: u64, rights: u64, badge: u64) -> u64 {
        let slot = self.slot();
        self.ok(2, Label::CNodeMint, &[slot, 64, src, 64, rights, badge], &[2]);
        slot
    }

    pub fn copy(&mut self, src: u64) -> u64 {
        let slot = self.slot();
        self.ok(2, Label::CNodeCopy, &[slot, 64, src, 64, 15], &[2]);
        slot
    }

    pub fn delete(&mut self, slot: u64) {
        self.ok(2, Label::CNodeDelete, &[slot, 64], &[]);
    }

    pub fn revoke(&mut self, slot: u64) {
        self.ok(2, Label::CNodeRevoke, &[slot, 64], &[]);
    }

    pub fn identify(&mut self, cptr: u64) -> u64 {
        self.cur().x[0].set(cptr);
        self.svc(Syscall::DebugCapIdentify);
        self.cur().x[0].get()
    }

    pub fn sched_control(&mut self) -> u64 {
        let info = self.bootinfo_paddr();
        self.read(info + 152)
    }

    /// A scheduling context: budget and period in microseconds.
    pub fn make_sc(&mut self, budget: u64, period: u64) -> u64 {
        let sc = self.make(ObjectType::SchedContext, 8);
        self.configure_sc(sc, budget, period, 0);
        sc
    }

    pub fn configure_sc(&mut self, sc: u64, budget: u64, period: u64, flags: u64) {
        let control = self.sched_control();
        self.ok(control, Label::SchedControlConfigureFlags, &[budget, period, 0, 0x5c, flags], &[sc]);
    }

    /// A thread with its own buffer in the root's spaces; not yet resumed. `sc` 0: passive.
    pub fn make_thread(&mut self, priority: u64, sc: u64) -> Thread {
        let tcb = self.make(ObjectType::Tcb, 0);
        let buffer = self.make(ObjectType::SmallPage, 0);
        let buffer_paddr = self.ok(buffer, Label::ARMPageGetAddress, &[], &[])[0];
        self.ok(tcb, Label::TCBConfigure, &[0, 0, BUFFER_VADDR], &[2, 3, buffer]);
        self.ok(tcb, Label::TCBSetPriority, &[priority], &[1]);
        if sc != 0 {
            self.ok(sc, Label::SchedContextBind, &[], &[tcb]);
        }
        let context = self.context_of(tcb);
        self.buffers.insert(context as usize, buffer_paddr);
        Thread { tcb, sc, buffer, buffer_paddr, context }
    }

    /// Where a TCB lies: found by writing a mark into it.
    fn context_of(&mut self, tcb: u64) -> *const Context {
        let mark = 0x7A3E_0000_0000 + tcb;
        self.ok(tcb, Label::TCBWriteRegisters, &[0, 2, 0x1000, mark], &[]);
        let found = self.k.threads().find(|c| {
            // SAFETY: contexts of living threads.
            unsafe { c.as_ref() }.sp.get() == mark
        });
        found.unwrap().as_ptr().cast_const()
    }

    /// A round-robin thread that is ready to run; root goes on, at the highest priority from now.
    pub fn spawn(&mut self, priority: u64) -> Thread {
        self.ok(1, Label::TCBSetPriority, &[255], &[1]);
        let sc = self.make_sc(10_000, 10_000);
        let t = self.make_thread(priority, sc);
        self.resume(&t);
        t
    }

    pub fn resume(&mut self, t: &Thread) {
        self.ok(t.tcb, Label::TCBResume, &[], &[]);
    }

    /// Lets time pass and, if the timer is due, delivers its interrupt.
    pub fn pass(&mut self, ticks: u64) {
        self.k.machine.now += ticks;
        let now = self.k.machine.now + self.k.machine.elapsed.get();
        if now >= self.k.machine.deadline[self.core] {
            self.k.handle_interrupt(self.core, TIMER_IRQ);
            self.check();
        }
    }

    pub fn did(&mut self) -> Vec<Did> {
        self.k.machine.did.take()
    }
}

impl World {
    /// Lets a ready thread of lower priority run by putting the root's priority below it for a moment: the thread becomes
    /// current and root waits in its ready queue.
    pub fn park_root(&mut self, t: &Thread) {
        assert!(self.runs(&self.root));
        self.set_root_priority(0);
        assert!(self.runs(t));
    }

    pub fn set_root_priority(&mut self, priority: u64) {
        let root = self.root;
        self.put_message(&[priority], &[1]);
        self.start(Syscall::Call, root.tcb, Label::TCBSetPriority.raw(), &[priority], &[1]);
    }
}

impl World {
    /// As `identify`, leaving the current thread's registers as they are.
    pub fn identify_quietly(&mut self, cptr: u64) -> u64 {
        let c = self.running().unwrap();
        // SAFETY: the current thread's context.
        let c = unsafe { &*c };
        let saved: Vec<u64> = c.x.iter().map(|x| x.get()).collect();
        let pcs = (c.elr.get(), c.fault_ip.get());
        let tag = self.identify(cptr);
        for (x, value) in c.x.iter().zip(saved) {
            x.set(value);
        }
        c.elr.set(pcs.0);
        c.fault_ip.set(pcs.1);
        tag
    }

    /// Deletes a slot where that may let another thread run.
    pub fn delete_waking(&mut self, slot: u64) {
        self.start(Syscall::Call, 2, Label::CNodeDelete.raw(), &[slot, 64], &[]);
    }
}

impl World {
    /// A 4 KiB device frame.
    pub fn device_frame(&mut self) -> u64 {
        let info = self.bootinfo_paddr();
        let device = self.read(info + 168);
        let slot = self.slot();
        self.ok(device, Label::UntypedRetype, &[ObjectType::SmallPage.raw(), 0, 0, 0, slot, 1], &[2]);
        slot
    }

    /// The last-level descriptor of `vaddr` in the table that `table` denotes.
    pub fn last_level_entry(&mut self, table: u64, vaddr: u64) -> u64 {
        let paddr = self.k.table_paddr(table).unwrap();
        self.read(paddr + 8 * ((vaddr >> 12) & 511))
    }
}

impl World {
    /// Refills of a scheduling context: (ticks from `base`, amount in ticks).
    pub fn refills(&self, sc: u64, base: u64) -> Vec<(u64, u64)> {
        let list = self.k.refills(self.root.context, sc).unwrap();
        list.into_iter().map(|(t, a)| (t.wrapping_sub(base), a)).collect()
    }
}

impl World {
    /// As `trap`, without checking the invariants.
    pub fn trap_unchecked(&mut self) {
        let cur = self.cur();
        cur.fault_ip.set(cur.elr.get());
        cur.elr.set(cur.elr.get() + 4);
        self.k.handle_syscall(self.core);
    }

    /// As `pass`, without checking the invariants.
    pub fn pass_unchecked(&mut self, ticks: u64) {
        self.k.machine.now += ticks;
        if self.k.machine.now >= self.k.machine.deadline[self.core] {
            self.k.handle_interrupt(self.core, TIMER_IRQ);
        }
    }

    /// The slot of the first SchedControl capability: behind paging and device-tree frames.
    pub fn sched_control_slot(&self) -> u64 {
        20
    }
}
