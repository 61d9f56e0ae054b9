//! Random system calls by random threads: whatever user land does, all invariants hold after each step.
//!
//! A failing run prints its seed; `SEED=n STEPS=m cargo test -p kernel-core --test trace one_seed` replays it.

mod common;

use std::collections::BTreeMap;

use common::*;
use kernel_core::UserFault;
use kernel_core::abi::{CNodeData, CapTag, Label, MessageInfo, ObjectType, Syscall};

/// splitmix64.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Slots the trace plays with.
const FIRST: u64 = 2000;
const SLOTS: u64 = 96;
const TRACE_VADDR: u64 = 0x50_0000;

struct Trace {
    w: World,
    rng: Rng,
    cores: usize,
    untypeds: Vec<u64>,
    /// TCBs made at the start.
    crowd: Vec<u64>,
    /// What was done, for the message of a failing run.
    log: Vec<String>,
    counts: BTreeMap<(String, bool), u64>,
}

impl Trace {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let domains = if rng.one_in(3) { 3 } else { 1 };
        let cores = 1 + rng.below(3) as usize;
        let mut w = World::with(|c| {
            c.num_domains = domains;
            c.num_cores = cores;
        });
        for core in 1..cores {
            w.k.start_core(core);
        }
        let untypeds = (0..3).map(|_| w.make(ObjectType::Untyped, 15)).collect();
        // A crowd to begin with.
        let mut crowd = Vec::new();
        for _ in 0..8 {
            let priority = rng.below(4) + 100;
            crowd.push(w.spawn(priority).tcb);
        }
        // Something of everything, spread over the slots.
        let kinds = [ObjectType::Endpoint, ObjectType::Notification, ObjectType::Reply, ObjectType::SchedContext];
        let more =
            [ObjectType::CNode, ObjectType::Tcb, ObjectType::SmallPage, ObjectType::PageTable, ObjectType::VSpace];
        for (i, kind) in kinds.iter().cycle().take(16).chain(&more).enumerate() {
            let bits = match kind {
                ObjectType::SchedContext => 8,
                ObjectType::CNode => 3,
                _ => 0,
            };
            let slot = FIRST + (i as u64 * 7) % SLOTS;
            let untyped = w.untyped;
            w.ok(untyped, Label::UntypedRetype, &[kind.raw(), bits, 0, 0, slot, 1], &[2]);
        }
        w.ok(1, Label::TCBSetPriority, &[101], &[1]);
        Self { w, rng, cores, untypeds, crowd, log: Vec::new(), counts: BTreeMap::new() }
    }

    fn slot(&mut self) -> u64 {
        FIRST + self.rng.below(SLOTS)
    }

    /// A slot that holds such a capability, mostly.
    fn holding(&mut self, tag: CapTag) -> u64 {
        for _ in 0..12 {
            let slot = if self.rng.one_in(5) { 1 + self.rng.below(self.w.next_slot) } else { self.slot() };
            // The root task's own thread and context stay as they are.
            if slot != 1 && slot != 14 && self.w.k.tag(self.w.root.context, slot) == Some(tag) {
                return slot;
            }
        }
        self.slot()
    }

    fn words(&mut self, n: usize) -> Vec<u64> {
        (0..n).map(|_| self.rng.pick(&[0, 1, 2, 3, 5, 20, 64, 100, 4096, u64::MAX])).collect()
    }

    /// Whether this is to be done: the root task never blocks or faults, so that the trace goes on, and the others mostly
    /// do not fault, so that they meet.
    fn spares(&mut self, call: Syscall, cptr: u64) -> bool {
        let tag = |cptr| self.w.k.tag(self.w.root.context, cptr);
        let reply = self.w.cur().x[6].get();
        if !self.w.runs(&self.w.root) {
            let receives = !matches!(call, Syscall::Call | Syscall::Send | Syscall::NBSend | Syscall::Yield);
            let waits = matches!(call, Syscall::Wait | Syscall::NBWait | Syscall::NBSendWait);
            let fine = match tag(cptr) {
                Some(CapTag::Endpoint) => waits || tag(reply) == Some(CapTag::Reply),
                Some(CapTag::Notification) => true,
                _ => false,
            };
            return !receives || fine || self.rng.one_in(20);
        }
        match call {
            Syscall::Send | Syscall::Call => tag(cptr) != Some(CapTag::Endpoint),
            Syscall::NBWait => tag(cptr) == Some(CapTag::Endpoint),
            Syscall::NBRecv => tag(cptr) == Some(CapTag::Endpoint) && tag(reply) == Some(CapTag::Reply),
            Syscall::NBSend | Syscall::Yield => true,
            _ => false,
        }
    }

    /// Executes a system call of the current thread.
    fn go(&mut self, call: Syscall, cptr: u64, label: u64, words: &[u64], caps: &[u64]) {
        if !self.spares(call, cptr) {
            return;
        }
        let buffer = self.w.running().is_some_and(|c| self.w.buffers.contains_key(&(c as usize)));
        let words = if buffer { words } else { &words[..words.len().min(4)] };
        let caps = if buffer { caps } else { &[] };
        self.log.push(format!("core {}: {call:?} {cptr} label {label} {words:x?} {caps:?}", self.w.core));
        self.w.put_message(words, caps);
        self.w.cur().x[0].set(cptr);
        self.w.cur().x[1].set(MessageInfo::new(label, 0, caps.len(), words.len()).0);
        self.w.cur().x[7].set(call.raw() as u64);
        let me = self.w.running().unwrap();
        self.w.trap_unchecked();
        self.count(me, call, label);
    }

    /// Counts what succeeded, to see that the traces do something.
    fn count(&mut self, me: *const kernel_core::Context, call: Syscall, label: u64) {
        let done = self.w.running() == Some(me) && MessageInfo(self.w.cur().x[1].get()).label() == 0;
        let what = match Label::from_raw(label) {
            Some(l) if call == Syscall::Call => format!("{l:?}"),
            _ => format!("{call:?}"),
        };
        *self.counts.entry((what, done)).or_insert(0) += 1;
    }

    fn invoke(&mut self, cptr: u64, label: Label, words: &[u64], caps: &[u64]) {
        let call = if self.rng.one_in(10) { Syscall::Send } else { Syscall::Call };
        self.go(call, cptr, label.raw(), words, caps);
    }

    fn step(&mut self) {
        // Any core may enter the kernel next; sometimes with its reschedule interrupt.
        self.w.core = self.rng.below(self.cores as u64) as usize;
        if self.rng.one_in(3) {
            self.log.push(format!("core {}: reschedule", self.w.core));
            self.w.k.handle_reschedule(self.w.core);
        }
        if self.rng.one_in(40) {
            let left = self.rng.below(3) as i64;
            self.w.k.machine.pending_in.set(left);
        } else {
            self.w.k.machine.pending_in.set(-1);
        }
        if self.w.running().is_none() || self.rng.one_in(12) {
            let ticks = us(self.rng.pick(&[1, 15, 30, 300, 2_000, 12_000]));
            self.log.push(format!("pass {ticks}"));
            return self.w.pass_unchecked(ticks);
        }
        // The root task builds and repairs, the others talk.
        if !self.w.runs(&self.w.root) && !self.rng.one_in(3) {
            return self.message();
        }
        match self.rng.below(20) {
            0..=4 => self.retype(),
            5..=8 => self.cnode(),
            9..=11 => self.thread(),
            12..=15 => self.message(),
            16 => self.sched(),
            17 => self.space(),
            18 => self.interrupt(),
            _ => self.anything(),
        }
    }

    fn retype(&mut self) {
        let untyped =
            if self.rng.one_in(4) { self.holding(CapTag::Untyped) } else { self.rng.pick(&self.untypeds.clone()) };
        let kind = self.rng.pick(ObjectType::ALL);
        let bits = match kind {
            ObjectType::Untyped => 4 + self.rng.below(9),
            ObjectType::CNode => 1 + self.rng.below(4),
            ObjectType::SchedContext => 7 + self.rng.below(2),
            _ => 0,
        };
        let (slot, count) = (self.slot(), 1 + self.rng.below(3));
        self.invoke(untyped, Label::UntypedRetype, &[kind.raw(), bits, 0, 0, slot, count], &[2]);
    }

    fn cnode(&mut self) {
        let (dest, src) = (self.slot(), self.slot());
        let tag = self.rng.pick(&[CapTag::CNode, CapTag::Endpoint, CapTag::Untyped, CapTag::Tcb, CapTag::Frame]);
        let src = if self.rng.one_in(2) { self.holding(tag) } else { src };
        let badge = self.rng.pick(&[0, 1, 2, CNodeData::new(0, 62).0]);
        // Sometimes into or out of another CNode.
        let node = if self.rng.one_in(3) { self.holding(CapTag::CNode) } else { 2 };
        let (root, index, depth) =
            if node == 2 { (2, dest, 64) } else { (node, self.rng.below(8), 1 + self.rng.below(3)) };
        match self.rng.below(12) {
            0..=2 => self.invoke(root, Label::CNodeCopy, &[index, depth, src, 64, 15], &[2]),
            3..=4 => self.invoke(root, Label::CNodeMint, &[index, depth, src, 64, self.rng.0 & 15, badge], &[2]),
            5 => self.invoke(root, Label::CNodeMove, &[index, depth, src, 64], &[2]),
            6 => self.invoke(2, Label::CNodeMove, &[dest, 64, index, depth], &[root]),
            7 => self.invoke(root, Label::CNodeMutate, &[index, depth, src, 64, badge], &[2]),
            8 => {
                let pivot = self.slot();
                self.invoke(2, Label::CNodeRotate, &[dest, 64, 0, pivot, 64, 0, src, 64], &[2, 2]);
            }
            9 => self.invoke(root, Label::CNodeDelete, &[index, depth], &[]),
            10 => {
                let victim = if self.rng.one_in(6) { self.rng.pick(&self.untypeds.clone()) } else { src };
                self.invoke(2, Label::CNodeRevoke, &[victim, 64], &[]);
            }
            _ => {
                let label = self.rng.pick(&[Label::CNodeDelete, Label::CNodeCancelBadgedSends]);
                let victim = if label == Label::CNodeDelete { dest } else { src };
                self.invoke(2, label, &[victim, 64], &[]);
            }
        }
    }

    fn thread(&mut self) {
        let (tcb, other) = (self.holding(CapTag::Tcb), self.holding(CapTag::Tcb));
        let (ep, n, sc) =
            (self.holding(CapTag::Endpoint), self.holding(CapTag::Notification), self.holding(CapTag::SchedContext));
        let priority = 98 + self.rng.below(6);
        match self.rng.below(16) {
            0..=3 => {
                let node = if self.rng.one_in(6) { self.holding(CapTag::CNode) } else { 2 };
                self.invoke(tcb, Label::TCBSetSpace, &[0, 0], &[ep, node, 3]);
            }
            4..=5 => self.invoke(tcb, Label::TCBSetSchedParams, &[200, priority], &[1, sc, ep]),
            6 => self.invoke(tcb, Label::TCBResume, &[], &[]),
            7 => {
                let tcb = self.rng.pick(&self.crowd.clone());
                self.invoke(tcb, Label::TCBResume, &[], &[]);
            }
            8 => self.invoke(tcb, Label::TCBSuspend, &[], &[]),
            9 => self.invoke(tcb, Label::TCBSetPriority, &[priority], &[1]),
            10 => self.invoke(tcb, Label::TCBBindNotification, &[], &[n]),
            11 => self.invoke(tcb, Label::TCBUnbindNotification, &[], &[]),
            12 => self.invoke(tcb, Label::TCBSetTimeoutEndpoint, &[], &[ep]),
            13 => {
                let frame = self.holding(CapTag::Frame);
                self.invoke(tcb, Label::TCBSetIPCBuffer, &[BUFFER_VADDR], &[frame]);
            }
            14 => {
                let flags = self.rng.below(16);
                self.invoke(tcb, Label::TCBCopyRegisters, &[flags], &[other]);
            }
            _ => {
                let domain = self.rng.below(4);
                self.invoke(11, Label::DomainSetSet, &[domain], &[tcb]);
            }
        }
    }

    fn message(&mut self) {
        let tag = self.rng.pick(&[CapTag::Endpoint, CapTag::Endpoint, CapTag::Notification, CapTag::Reply]);
        let (to, from) = (self.holding(tag), self.holding(CapTag::Endpoint));
        let source = if self.rng.one_in(4) { self.holding(CapTag::Notification) } else { from };
        let reply = self.holding(CapTag::Reply);
        let words = self.rng.below(7) as usize;
        let words = self.words(words);
        let caps: Vec<u64> = (0..self.rng.below(4)).map(|_| self.slot()).collect();
        let call = self.rng.pick(&[
            Syscall::Call,
            Syscall::Send,
            Syscall::NBSend,
            Syscall::Recv,
            Syscall::NBRecv,
            Syscall::Wait,
            Syscall::NBWait,
            Syscall::ReplyRecv,
            Syscall::NBSendRecv,
            Syscall::NBSendWait,
            Syscall::Yield,
        ]);
        let label = 0x100 + self.rng.below(3);
        let cur = self.w.cur();
        cur.x[8].set(to);
        cur.x[6].set(reply);
        let sends = matches!(call, Syscall::Call | Syscall::Send | Syscall::NBSend);
        if call == Syscall::NBSendWait {
            cur.x[6].set(to);
        }
        // A receive path for capabilities.
        if let Some(buffer) = self.w.running().and_then(|c| self.w.buffers.get(&(c as usize)).copied()) {
            let slot = self.slot();
            for (i, word) in [2, slot, 64].into_iter().enumerate() {
                self.w.write(buffer + 1000 + 8 * i as u64, word);
            }
        }
        self.go(call, if sends { to } else { source }, label, &words, &caps);
    }

    fn sched(&mut self) {
        let (sc, tcb, n) =
            (self.holding(CapTag::SchedContext), self.holding(CapTag::Tcb), self.holding(CapTag::Notification));
        let object = self.rng.pick(&[tcb, n]);
        match self.rng.below(7) {
            0 | 1 => {
                let budget = self.rng.pick(&[20, 100, 1_000, 10_000]);
                let period = budget * self.rng.pick(&[1, 2, 10]);
                let (extra, flags) = (self.rng.below(4), self.rng.below(2));
                let control = self.w.sched_control_slot() + self.rng.below(self.cores as u64);
                self.invoke(control, Label::SchedControlConfigureFlags, &[budget, period, extra, 7, flags], &[sc]);
            }
            2 => self.invoke(sc, Label::SchedContextBind, &[], &[object]),
            3 => self.invoke(sc, Label::SchedContextUnbindObject, &[], &[object]),
            4 => self.invoke(sc, Label::SchedContextUnbind, &[], &[]),
            5 => self.invoke(sc, Label::SchedContextConsumed, &[], &[]),
            _ => self.invoke(sc, Label::SchedContextYieldTo, &[], &[]),
        }
    }

    fn space(&mut self) {
        let (v, t, f) = (self.holding(CapTag::VSpace), self.holding(CapTag::PageTable), self.holding(CapTag::Frame));
        let space = if self.rng.one_in(2) { 3 } else { v };
        let vaddr = TRACE_VADDR + 4096 * self.rng.below(4);
        match self.rng.below(8) {
            0 => self.invoke(6, Label::ARMASIDPoolAssign, &[], &[v]),
            1 | 2 => self.invoke(t, Label::ARMPageTableMap, &[vaddr, 0], &[v]),
            3 => self.invoke(t, Label::ARMPageTableUnmap, &[], &[]),
            4 | 5 => self.invoke(f, Label::ARMPageMap, &[vaddr, 3, 1], &[space]),
            6 => self.invoke(f, Label::ARMPageUnmap, &[], &[]),
            _ => {
                let (slot, ut) = (self.slot(), self.holding(CapTag::Untyped));
                self.invoke(5, Label::ARMASIDControlMakePool, &[slot, 64], &[ut, 2]);
            }
        }
    }

    fn interrupt(&mut self) {
        let (h, n, slot) = (self.holding(CapTag::IrqHandler), self.holding(CapTag::Notification), self.slot());
        let irq = 32 + self.rng.below(4);
        match self.rng.below(5) {
            0 => self.invoke(4, Label::IRQIssueIRQHandler, &[irq, slot, 64], &[2]),
            1 => self.invoke(h, Label::IRQSetIRQHandler, &[], &[n]),
            2 => self.invoke(h, Label::IRQAckIRQ, &[], &[]),
            3 if self.w.runs(&self.w.root) => {}
            3 => {
                self.log.push("user fault".into());
                let c = self.w.cur();
                c.fault_ip.set(c.elr.get());
                self.w.k.handle_user_fault(self.w.core, UserFault::Vm { addr: 1, fsr: 2, instruction: false });
            }
            _ => {
                self.log.push(format!("irq {irq}"));
                self.w.k.handle_interrupt(self.w.core, irq as u32);
            }
        }
    }

    /// Any label on any capability with any words.
    fn anything(&mut self) {
        let words = self.rng.below(9) as usize;
        let words = self.words(words);
        let caps: Vec<u64> = (0..self.rng.below(4)).map(|_| self.slot()).collect();
        let (slot, label) = (self.slot(), self.rng.pick(Label::ALL));
        self.invoke(slot, label, &words, &caps);
    }
}

fn run(seed: u64, steps: usize) -> BTreeMap<(String, bool), u64> {
    let mut t = Trace::new(seed);
    let mut idle = 0;
    for n in 0..steps {
        t.step();
        if let Err(what) = t.w.k.audit() {
            let from = t.log.len().saturating_sub(12);
            panic!("seed {seed} step {n}: {what}\n{}", t.log[from..].join("\n"));
        }
        idle = if (0..t.cores).any(|c| t.w.k.current(c).is_some()) { 0 } else { idle + 1 };
        if idle > 20 {
            // Everybody waits for everybody: nothing more can happen.
            break;
        }
    }
    t.counts
}

#[test]
fn many_seeds() {
    let seeds: u64 = std::env::var("SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(20);
    let mut counts = BTreeMap::new();
    for seed in 0..seeds {
        for (what, n) in run(seed, 400) {
            *counts.entry(what).or_insert(0) += n;
        }
    }
    println!("{counts:#?}");
    // The traces must reach the interesting operations, not only their refusals.
    for label in [
        Label::UntypedRetype,
        Label::CNodeCopy,
        Label::CNodeMint,
        Label::CNodeMove,
        Label::CNodeRotate,
        Label::CNodeDelete,
        Label::CNodeRevoke,
        Label::TCBSetSpace,
        Label::TCBSetSchedParams,
        Label::SchedControlConfigureFlags,
        Label::SchedContextBind,
        Label::ARMPageTableMap,
        Label::IRQIssueIRQHandler,
    ] {
        let done = counts.get(&(format!("{label:?}"), true)).copied().unwrap_or(0);
        assert!(done > 0, "{label:?} never succeeded");
    }
}

#[test]
fn one_seed() {
    let number = |name: &str| std::env::var(name).ok().and_then(|s| s.parse().ok());
    if let Some(seed) = number("SEED") {
        run(seed, number("STEPS").unwrap_or(400) as usize);
    }
}
