//! Invariant checker for tests: one check per property, over everything the kernel can reach.
//!
//! Runs on the host after every step of the tests. Reads only; on a broken invariant it says which and where.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ptr::NonNull;

use crate::Kernel;
use crate::cap::{Cap, Slot};
use crate::context::Context;
use crate::endpoint::{Endpoint, EpState};
use crate::machine::Machine;
use crate::mem::Ptr;
use crate::notification::Notification;
use crate::reply::Reply;
use crate::schedctx::SchedContext;
use crate::tcb::{State, TCB_SLOTS, Tcb, TcbSlot, queued};

type Check = Result<(), String>;

macro_rules! ensure {
    ($cond:expr, $($what:tt)*) => { if !$cond { return Err(format!($($what)*)); } };
}

/// Everything that was found.
struct Survey {
    slots: BTreeMap<u64, Ptr<Slot>>,
    threads: BTreeMap<u64, Ptr<Tcb>>,
}

impl<M: Machine> Kernel<M> {
    /// The register files of all threads, newest first.
    pub fn threads(&self) -> impl Iterator<Item = NonNull<Context>> {
        self.all_tcbs().map(Ptr::context)
    }

    /// Physical address of the page table that the current thread of core 0 has at `cptr`.
    pub fn table_paddr(&self, cptr: u64) -> Option<u64> {
        let slot = crate::cspace::lookup(self.cores[0].current?, cptr).ok()?;
        match slot.cap() {
            Cap::PageTable(t) => Some(self.window.paddr(t.table)),
            _ => None,
        }
    }

    /// Type of the capability that the thread `reader` has at `cptr`.
    pub fn tag(&self, reader: *const Context, cptr: u64) -> Option<kernel_abi::CapTag> {
        let reader = self.all_tcbs().find(|t| core::ptr::eq(t.context().as_ptr(), reader))?;
        Some(self.identify(reader, cptr))
    }

    /// Physical address of the slot that the thread `reader` has at `cptr`, and of the object in it (RAM objects only).
    pub fn locate(&self, reader: *const Context, cptr: u64) -> Option<(u64, Option<u64>)> {
        let reader = self.all_tcbs().find(|t| core::ptr::eq(t.context().as_ptr(), reader))?;
        let slot = crate::cspace::lookup(reader, cptr).ok()?;
        Some((self.window.paddr(slot), slot.cap().memory(self.window).map(|m| m.0)))
    }

    /// Refills (time, amount) of the scheduling context that thread `reader` has at `cptr`.
    pub fn refills(&self, reader: *const Context, cptr: u64) -> Option<Vec<(u64, u64)>> {
        let reader = self.all_tcbs().find(|t| core::ptr::eq(t.context().as_ptr(), reader))?;
        match crate::cspace::lookup(reader, cptr).ok()?.cap() {
            Cap::SchedContext { sc, .. } => Some(sc.refills().collect()),
            _ => None,
        }
    }

    fn all_tcbs(&self) -> impl Iterator<Item = Ptr<Tcb>> + use<M> {
        core::iter::successors(self.all_threads, |t| t.all_next.get())
    }

    /// Checks all invariants.
    ///
    /// # Errors
    /// The first broken one, in words.
    pub fn audit(&self) -> Result<(), String> {
        let survey = self.survey()?;
        check_list(&survey)?;
        self.check_memory(&survey)?;
        self.check_queues(&survey)?;
        for slot in survey.slots.values() {
            match slot.cap() {
                Cap::Endpoint(e) => check_endpoint(e.ep)?,
                Cap::Notification(n) => check_notification(n.ntfn)?,
                Cap::Reply { reply, .. } => check_reply(reply)?,
                Cap::SchedContext { sc, .. } => check_sc(sc)?,
                _ => {}
            }
        }
        for tcb in survey.threads.values() {
            self.check_thread(*tcb)?;
        }
        Ok(())
    }

    /// Finds all slots: hidden slots of threads, interrupt slots, what they lead to, and list neighbours.
    fn survey(&self) -> Result<Survey, String> {
        let mut survey = Survey { slots: BTreeMap::new(), threads: BTreeMap::new() };
        let mut work: Vec<Ptr<Slot>> = Vec::new();
        let mut nodes = BTreeSet::new();
        for tcb in self.all_tcbs() {
            ensure!(survey.threads.insert(tcb.addr(), tcb).is_none(), "thread {tcb:?} twice in the list of all");
            work.extend((0..TCB_SLOTS as u64).map(|i| tcb.slot(TcbSlot::CTable).index(i)));
        }
        if let Some(slots) = self.irq_slots {
            work.extend((0..Self::irq_lines(self.num_cores, self.max_irq)).map(|i| slots.index(i)));
        }
        work.extend(self.graveyard);
        while let Some(slot) = work.pop() {
            if slot.is_empty() {
                ensure!(slot.next().is_none() && slot.prev().is_none(), "empty slot {slot:?} has links");
                continue;
            }
            if survey.slots.insert(slot.addr(), slot).is_some() {
                continue;
            }
            work.extend(slot.next());
            work.extend(slot.prev());
            let inside = match slot.cap() {
                Cap::CNode(node) => Some((node.slots, node.len())),
                Cap::Tcb(tcb) => Some((tcb.slot(TcbSlot::CTable), TCB_SLOTS as u64)),
                Cap::Zombie(z) => Some((z.slots, z.kind.len())),
                _ => None,
            };
            if let Some((first, count)) = inside
                && nodes.insert(first.addr())
            {
                work.extend((0..count).map(|i| first.index(i)));
            }
        }
        Ok(survey)
    }

    /// Objects do not overlap; nothing lives above an untyped's watermark.
    fn check_memory(&self, survey: &Survey) -> Check {
        let mut objects: Vec<(u64, u64, Cap)> = Vec::new();
        let mut untypeds = Vec::new();
        for slot in survey.slots.values() {
            let cap = slot.cap();
            match (cap, cap.memory(self.window)) {
                (Cap::Untyped(u), _) => {
                    ensure!(u.used <= u.size(), "watermark of {u:x?} beyond its end");
                    untypeds.push(u);
                }
                (_, Some((start, len))) => objects.push((start, start + len, cap)),
                _ => {}
            }
        }
        objects.sort_by_key(|o| (o.0, core::cmp::Reverse(o.1)));
        let mut widest: Option<(u64, u64, Cap)> = None;
        for o in &objects {
            if let Some(w) = widest.filter(|w| o.0 < w.1) {
                let frames = matches!((w.2, o.2), (Cap::Frame(_), Cap::Frame(_)));
                let same = (w.0, w.1) == (o.0, o.1) && (frames || crate::cdt::same_object(&w.2, &o.2));
                ensure!(same, "{:x?} overlaps {:x?}", o.2, w.2);
            } else {
                widest = Some(*o);
            }
        }
        for u in &untypeds {
            let free = (u.paddr + u.used, u.paddr + u.size());
            if let Some(o) = objects.iter().find(|o| o.0 < free.1 && o.1 > free.0) {
                return Err(format!("{:x?} lives above the watermark of {u:x?}", o.2));
            }
            for v in &untypeds {
                let apart = v.paddr >= u.paddr + u.size() || v.paddr + v.size() <= u.paddr;
                let inside = v.paddr >= u.paddr && v.paddr + v.size() <= u.paddr + u.used;
                let around = u.paddr >= v.paddr && u.paddr + u.size() <= v.paddr + v.used;
                let same = core::ptr::eq(u, v) || (u.paddr, u.bits) == (v.paddr, v.bits);
                ensure!(apart || inside || around || same, "{u:x?} and {v:x?} overlap");
            }
        }
        Ok(())
    }

    /// Ready and release queues hold exactly the threads that say so, in order.
    fn check_queues(&self, survey: &Survey) -> Check {
        let mut found = BTreeMap::new();
        for core in 0..self.num_cores {
            for domain in 0..self.num_domains {
                let Some(queues) = self.ready_queues(core, domain) else { continue };
                for priority in 0..=255u8 {
                    let mut tcb = queues.first(priority);
                    ensure!(tcb.is_some() == queues.marked(priority), "ready bitmap wrong at priority {priority}");
                    let mut before = None;
                    while let Some(t) = tcb {
                        let place = (t.core.get() as usize, t.domain.get() as usize, t.priority());
                        ensure!(place == (core, domain, priority), "thread {t:?} in the wrong ready queue");
                        ensure!(t.schedulable(), "ready thread {t:?} is not schedulable: {:?}", t.state());
                        ensure!(t.sched_prev.get() == before, "ready queue link of {t:?}");
                        ensure!(found.insert(t.addr(), queued::READY).is_none(), "thread {t:?} queued twice");
                        before = tcb;
                        tcb = t.sched_next.get();
                    }
                }
            }
            let mut tcb = self.cores[core].release;
            let mut last = 0;
            while let Some(t) = tcb {
                let sc = t.sc.get().ok_or_else(|| format!("released thread {t:?} without a context"))?;
                ensure!(t.runnable() && sc.configured(), "thread {t:?} in the release queue cannot run");
                ensure!(sc.head_time() >= last, "release queue out of order at {t:?}");
                ensure!(t.core.get() as usize == core, "thread {t:?} in another core's release queue");
                ensure!(found.insert(t.addr(), queued::RELEASE).is_none(), "thread {t:?} queued twice");
                last = sc.head_time();
                tcb = t.sched_next.get();
            }
        }
        for t in survey.threads.values() {
            let in_queue = found.get(&t.addr()).copied().unwrap_or(queued::NO);
            ensure!(t.queued.get() == in_queue, "thread {t:?} says queued {} but is {in_queue}", t.queued.get());
            let running = self.cores.iter().any(|c| c.current == Some(*t));
            ensure!(!(running && in_queue != queued::NO), "running thread {t:?} is queued");
            let lost = t.schedulable() && !running && in_queue == queued::NO;
            ensure!(!lost, "schedulable thread {t:?} is in no queue");
        }
        for c in &self.cores {
            if let Some(t) = c.current {
                ensure!(t.schedulable() && t.state() == State::Running, "current thread {t:?}: {:?}", t.state());
                ensure!(c.cur_sc == t.sc.get(), "the charged context is not the current thread's");
            }
        }
        Ok(())
    }

    fn check_thread(&self, tcb: Ptr<Tcb>) -> Check {
        if let Some(sc) = tcb.sc.get() {
            ensure!(sc.tcb.is(tcb), "thread {tcb:?} has context {sc:?} of another");
            ensure!(sc.core.get() == tcb.core.get(), "thread {tcb:?} is not on its context's core");
            check_sc(sc)?;
        }
        if let Some(ntfn) = tcb.bound.get() {
            ensure!(ntfn.bound.is(tcb), "thread {tcb:?} bound to a notification of another");
        }
        if let Some(sc) = tcb.yield_to.get() {
            ensure!(sc.yield_from.is(tcb), "pending yield of {tcb:?}");
        }
        let state = tcb.state();
        let waits_ep = matches!(state, State::BlockedOnSend | State::BlockedOnReceive);
        ensure!(tcb.wait_ep.is_some() == waits_ep, "thread {tcb:?} {state:?}: endpoint link");
        let waits_ntfn = state == State::BlockedOnNotification;
        ensure!(tcb.wait_ntfn.is_some() == waits_ntfn, "thread {tcb:?} {state:?}: notification link");
        match tcb.reply.get() {
            Some(reply) => {
                let waits = matches!(state, State::BlockedOnReply | State::BlockedOnReceive);
                ensure!(waits, "thread {tcb:?} {state:?} holds a reply object");
                ensure!(reply.tcb.is(tcb), "reply object {reply:?} of {tcb:?} belongs to another");
            }
            None => ensure!(state != State::BlockedOnReply, "thread {tcb:?} waits for a reply on nothing"),
        }
        let queue = match (tcb.wait_ep.get(), tcb.wait_ntfn.get()) {
            (Some(ep), _) => {
                let expected = if state == State::BlockedOnSend { EpState::Send } else { EpState::Recv };
                ensure!(ep.state() == expected, "endpoint {ep:?} is {:?}", ep.state());
                ep.queue()
            }
            (_, Some(ntfn)) => ntfn.queue(),
            _ => return Ok(()),
        };
        ensure!(queue.iter().any(|t| t == tcb), "thread {tcb:?} is not in the queue it waits in");
        Ok(())
    }
}

/// The derivation list: neighbours agree, no circles, nothing left out.
fn check_list(survey: &Survey) -> Check {
    let mut seen = 0;
    for slot in survey.slots.values() {
        if let Some(next) = slot.next() {
            ensure!(!next.is_empty(), "list neighbour {next:?} of {slot:?} is empty");
            ensure!(next.prev() == Some(*slot), "list link {slot:?} -> {next:?} is one-way");
        }
        if let Some(prev) = slot.prev() {
            ensure!(prev.next() == Some(*slot), "list link {slot:?} <- {prev:?} is one-way");
        } else {
            let mut at = Some(*slot);
            while let Some(s) = at {
                seen += 1;
                ensure!(seen <= survey.slots.len(), "derivation list is circular");
                at = s.next();
            }
        }
    }
    ensure!(seen == survey.slots.len(), "derivation list holds {seen} of {} slots", survey.slots.len());
    // All capabilities to one object stand together.
    let mut ended: Vec<Cap> = Vec::new();
    for slot in survey.slots.values() {
        let cap = slot.cap();
        let starts = slot.prev().is_none_or(|p| !crate::cdt::same_object(&p.cap(), &cap));
        if starts && crate::cdt::same_object(&cap, &cap) {
            ensure!(!ended.iter().any(|c| crate::cdt::same_object(c, &cap)), "capabilities to {cap:x?} stand apart");
            ended.push(cap);
        }
    }
    Ok(())
}

fn check_waiters(queue: crate::queue::Queue, what: &str) -> Result<Vec<Ptr<Tcb>>, String> {
    let mut all: Vec<Ptr<Tcb>> = Vec::new();
    for t in queue.iter() {
        ensure!(t.wait_prev.get() == all.last().copied(), "{what}: queue link of {t:?}");
        ensure!(all.last().is_none_or(|p| p.priority() >= t.priority()), "{what}: queue out of order at {t:?}");
        ensure!(!all.contains(&t), "{what}: queue is circular");
        all.push(t);
    }
    ensure!(queue.tail == all.last().copied(), "{what}: queue tail");
    Ok(all)
}

fn check_endpoint(ep: Ptr<Endpoint>) -> Check {
    let waiters = check_waiters(ep.queue(), "endpoint")?;
    ensure!(waiters.is_empty() == (ep.state() == EpState::Idle), "endpoint {ep:?}: state {:?}", ep.state());
    let state = if ep.state() == EpState::Send { State::BlockedOnSend } else { State::BlockedOnReceive };
    for t in waiters {
        ensure!(t.wait_ep.is(ep) && t.state() == state, "waiter {t:?} of endpoint {ep:?} is {:?}", t.state());
    }
    Ok(())
}

fn check_notification(ntfn: Ptr<Notification>) -> Check {
    let waiters = check_waiters(ntfn.queue(), "notification")?;
    ensure!(waiters.is_empty() || !ntfn.is_active(), "notification {ntfn:?} is active with waiters");
    for t in waiters {
        let ok = t.wait_ntfn.is(ntfn) && t.state() == State::BlockedOnNotification;
        ensure!(ok, "waiter {t:?} of notification {ntfn:?} is {:?}", t.state());
    }
    if let Some(t) = ntfn.bound.get() {
        ensure!(t.bound.is(ntfn), "notification {ntfn:?} bound one-way");
    }
    if let Some(sc) = ntfn.sc.get() {
        ensure!(sc.ntfn.is(ntfn), "notification {ntfn:?} has a context one-way");
    }
    Ok(())
}

fn check_reply(reply: Ptr<Reply>) -> Check {
    if let Some(t) = reply.tcb.get() {
        ensure!(t.reply.is(reply), "reply object {reply:?} names a thread one-way");
    }
    if let Some(older) = reply.older() {
        ensure!(older.newer() == Some(reply), "call chain at {reply:?}: older");
    }
    if let Some(newer) = reply.newer() {
        ensure!(newer.older() == Some(reply), "call chain at {reply:?}: newer");
    }
    if let Some(sc) = reply.sc() {
        ensure!(sc.reply.is(reply), "call chain at {reply:?}: head");
    }
    Ok(())
}

/// Links, and the budget: nothing lost, nothing made, times in order.
fn check_sc(sc: Ptr<SchedContext>) -> Check {
    if let Some(t) = sc.tcb.get() {
        ensure!(t.sc.is(sc), "context {sc:?} names a thread one-way");
    }
    if let Some(reply) = sc.reply.get() {
        ensure!(reply.sc() == Some(sc), "context {sc:?} names a reply one-way");
    }
    if let Some(t) = sc.yield_from.get() {
        ensure!(t.yield_to.is(sc), "context {sc:?}: pending yield one-way");
    }
    if !sc.configured() {
        return Ok(());
    }
    let refills: Vec<_> = sc.refills().collect();
    let sum: u64 = refills.iter().map(|r| r.1).sum();
    ensure!(sum == sc.budget(), "context {sc:?}: refills {refills:?} do not add up to {}", sc.budget());
    if !sc.round_robin() {
        let ordered = refills.windows(2).all(|w| w[0].0.saturating_add(w[0].1) <= w[1].0);
        ensure!(ordered, "context {sc:?}: refills {refills:?} out of order");
    }
    Ok(())
}
