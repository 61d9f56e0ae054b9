//! Random system calls by random threads: whatever user land does, all invariants hold after each step.
//!
//! A failing run prints its seed; `SEED=n STEPS=m cargo test -p kernel-core --test trace one_seed` replays it.

mod common;

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
    untypeds: Vec<u64>,
    /// Untyped with all buffer frames, never revoked.
    log: Vec<String>,
}

impl Trace {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let domains = if rng.one_in(3) { 3 } else { 1 };
        let mut w = World::with(|c| c.num_domains = domains);
        let untypeds = (0..3).map(|_| w.make(ObjectType::Untyped, 15)).collect();
        // A crowd to begin with.
        for _ in 0..4 {
            let priority = rng.below(4) + 100;
            w.spawn(priority);
        }
        w.ok(1, Label::TCBSetPriority, &[101], &[1]);
        Self { w, rng, untypeds, log: Vec::new() }
    }

    fn slot(&mut self) -> u64 {
        FIRST + self.rng.below(SLOTS)
    }

    /// A slot that holds such a capability, mostly.
    fn holding(&mut self, tag: CapTag) -> u64 {
        for _ in 0..12 {
            let slot = if self.rng.one_in(5) { 1 + self.rng.below(self.w.next_slot) } else { self.slot() };
            if self.w.k.tag(self.w.root.context, slot) == Some(tag) {
                return slot;
            }
        }
        self.slot()
    }

    fn words(&mut self, n: usize) -> Vec<u64> {
        (0..n).map(|_| self.rng.pick(&[0, 1, 2, 3, 5, 20, 64, 100, 4096, u64::MAX])).collect()
    }

    /// Executes a system call of the current thread.
    fn go(&mut self, call: Syscall, cptr: u64, label: u64, words: &[u64], caps: &[u64]) {
        let buffer = self.w.running().is_some_and(|c| self.w.buffers.contains_key(&(c as usize)));
        let words = if buffer { words } else { &words[..words.len().min(4)] };
        let caps = if buffer { caps } else { &[] };
        self.log.push(format!("{call:?} {cptr} label {label} {words:x?} {caps:?}"));
        self.w.put_message(words, caps);
        self.w.cur().x[0].set(cptr);
        self.w.cur().x[1].set(MessageInfo::new(label, 0, caps.len(), words.len()).0);
        self.w.cur().x[7].set(call.raw() as u64);
        self.w.trap_unchecked();
    }

    fn invoke(&mut self, cptr: u64, label: Label, words: &[u64], caps: &[u64]) {
        let call = if self.rng.one_in(10) { Syscall::Send } else { Syscall::Call };
        self.go(call, cptr, label.raw(), words, caps);
    }

    fn step(&mut self) {
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
            6..=7 => self.invoke(tcb, Label::TCBResume, &[], &[]),
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
        let label = self.rng.below(3);
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
                let control = self.w.sched_control_slot();
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
            3 => {
                self.log.push("user fault".into());
                let c = self.w.cur();
                c.fault_ip.set(c.elr.get());
                self.w.k.handle_user_fault(0, UserFault::Vm { addr: 1, fsr: 2, instruction: false });
            }
            _ => {
                self.log.push(format!("irq {irq}"));
                self.w.k.handle_interrupt(0, irq as u32);
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

fn run(seed: u64, steps: usize) {
    let mut t = Trace::new(seed);
    let mut idle = 0;
    for n in 0..steps {
        t.step();
        if let Err(what) = t.w.k.audit() {
            let from = t.log.len().saturating_sub(12);
            panic!("seed {seed} step {n}: {what}\n{}", t.log[from..].join("\n"));
        }
        idle = if t.w.running().is_some() { 0 } else { idle + 1 };
        if idle > 20 {
            // Everybody waits for everybody: nothing more can happen.
            break;
        }
    }
}

#[test]
fn many_seeds() {
    let seeds: u64 = std::env::var("SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(40);
    for seed in 0..seeds {
        run(seed, 400);
    }
}

#[test]
fn one_seed() {
    let number = |name: &str| std::env::var(name).ok().and_then(|s| s.parse().ok());
    if let Some(seed) = number("SEED") {
        run(seed, number("STEPS").unwrap_or(400) as usize);
    }
}
