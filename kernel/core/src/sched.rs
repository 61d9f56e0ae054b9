//! The scheduler: ready and release queues, time accounting, the decision at every kernel exit (sheet §8.4, §8.5).
//!
//! Always, between kernel entries: the running thread stands in no queue; a thread in a ready queue is schedulable and its
//! context's head is usable; a thread in a release queue waits for its head's time.

use core::cell::Cell;

use kernel_abi::sched::NUM_PRIORITIES;

use crate::Kernel;
use crate::fault;
use crate::machine::{CoreId, Machine};
use crate::mem::{Link, Ptr};
use crate::schedctx::SchedContext;
use crate::tcb::{State, Tcb, queued};

/// Ready queues of one domain on one core: a bit per non-empty priority, two ends per queue.
#[repr(C)]
pub struct ReadyQueues {
    bits: [Cell<u64>; NUM_PRIORITIES / 64],
    heads: [Link<Tcb>; NUM_PRIORITIES],
    tails: [Link<Tcb>; NUM_PRIORITIES],
}

impl ReadyQueues {
    /// Highest priority with a ready thread.
    #[inline]
    pub fn highest(&self) -> Option<u8> {
        for (i, word) in self.bits.iter().enumerate().rev() {
            let word = word.get();
            if word != 0 {
                return Some((i as u32 * 64 + 63 - word.leading_zeros()) as u8);
            }
        }
        None
    }

    /// First thread of a queue.
    #[inline]
    pub fn first(&self, priority: u8) -> Option<Ptr<Tcb>> {
        self.heads[priority as usize].get()
    }

    /// Whether the bitmap says that a queue has threads.
    pub fn marked(&self, priority: u8) -> bool {
        self.bits[priority as usize / 64].get() & (1 << (priority % 64)) != 0
    }

    fn mark(&self, priority: u8, on: bool) {
        let word = &self.bits[priority as usize / 64];
        let bit = 1 << (priority % 64);
        word.set(if on { word.get() | bit } else { word.get() & !bit });
    }

    fn push(&self, tcb: Ptr<Tcb>, at_head: bool) {
        let p = tcb.priority();
        let (head, tail) = (&self.heads[p as usize], &self.tails[p as usize]);
        let (prev, next) = if at_head { (None, head.get()) } else { (tail.get(), None) };
        tcb.sched_prev.set(prev);
        tcb.sched_next.set(next);
        match prev {
            Some(t) => t.sched_next.set(Some(tcb)),
            None => head.set(Some(tcb)),
        }
        match next {
            Some(t) => t.sched_prev.set(Some(tcb)),
            None => tail.set(Some(tcb)),
        }
        self.mark(p, true);
    }

    fn remove(&self, tcb: Ptr<Tcb>) {
        let p = tcb.priority();
        let (prev, next) = (tcb.sched_prev.take(), tcb.sched_next.take());
        match prev {
            Some(t) => t.sched_next.set(next),
            None => self.heads[p as usize].set(next),
        }
        match next {
            Some(t) => t.sched_prev.set(prev),
            None => self.tails[p as usize].set(prev),
        }
        if prev.is_none() && next.is_none() {
            self.mark(p, false);
        }
    }
}

/// What the kernel entry has decided about the next thread so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Go on with the current thread if it can run.
    Resume,
    /// Look at the queues.
    Choose,
    /// This thread was woken (and is in no queue).
    Candidate(Ptr<Tcb>),
}

/// What a core's user translation is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    /// This.
    Loaded(Option<(u64, u16)>),
    /// Something that is gone: must be loaded anew at the next exit.
    Stale,
}

/// State of one core.
pub(crate) struct Core {
    pub current: Option<Ptr<Tcb>>,
    pub action: Action,
    /// The context that is charged.
    pub cur_sc: Option<Ptr<SchedContext>>,
    /// Counter at the last kernel entry.
    pub last: u64,
    /// Ticks since then that are not charged yet.
    pub consumed: u64,
    /// What the machine's timer is set to.
    pub deadline: u64,
    /// First of the release queue, by head refill time.
    pub release: Option<Ptr<Tcb>>,
    /// Ready queues of the domains, one after the other.
    pub ready: Option<Ptr<ReadyQueues>>,
    /// Current domain, its place in the schedule and the ticks it has left.
    pub domain: usize,
    pub domain_index: usize,
    pub domain_time: u64,
    /// What the machine was told last.
    pub space: Space,
    pub flags: u64,
    /// Runs threads.
    pub online: bool,
    /// Units since the last preemption check.
    pub work: u32,
}

impl Core {
    pub const NEW: Self = Self {
        current: None,
        action: Action::Choose,
        cur_sc: None,
        last: 0,
        consumed: 0,
        deadline: u64::MAX,
        release: None,
        ready: None,
        domain: 0,
        domain_index: 0,
        domain_time: u64::MAX,
        space: Space::Stale,
        flags: 0,
        online: false,
        work: 0,
    };
}

impl<M: Machine> Kernel<M> {
    /// Ready queues of a domain on a core.
    #[inline]
    pub(crate) fn ready_queues(&self, core: CoreId, domain: usize) -> Option<Ptr<ReadyQueues>> {
        debug_assert!(domain < self.num_domains);
        self.cores[core].ready.map(|r| r.index(domain as u64))
    }

    #[inline]
    fn queues_of(&self, tcb: Ptr<Tcb>) -> Option<Ptr<ReadyQueues>> {
        self.ready_queues(tcb.core.get() as usize, tcb.domain.get() as usize)
    }

    fn ready_push(&mut self, tcb: Ptr<Tcb>, at_head: bool) {
        debug_assert!(tcb.queued.get() == queued::NO && tcb.schedulable());
        if let Some(queues) = self.queues_of(tcb) {
            queues.push(tcb, at_head);
            tcb.queued.set(queued::READY);
        }
    }

    /// Puts a schedulable, unqueued thread at the head of its ready queue.
    pub(crate) fn ready_push_head(&mut self, tcb: Ptr<Tcb>) {
        self.ready_push(tcb, true);
    }

    /// ... at the tail.
    pub(crate) fn ready_push_tail(&mut self, tcb: Ptr<Tcb>) {
        self.ready_push(tcb, false);
    }

    /// Takes a thread out of its ready queue, if it is in one.
    pub(crate) fn ready_remove(&mut self, tcb: Ptr<Tcb>) {
        if tcb.queued.get() == queued::READY
            && let Some(queues) = self.queues_of(tcb)
        {
            queues.remove(tcb);
            tcb.queued.set(queued::NO);
        }
    }

    /// Takes a thread out of whatever scheduler queue it is in; a candidate is forgotten.
    pub(crate) fn sched_remove(&mut self, tcb: Ptr<Tcb>) {
        match tcb.queued.get() {
            queued::READY => self.ready_remove(tcb),
            queued::RELEASE => self.release_remove(tcb),
            _ => {
                let core = &mut self.cores[tcb.core.get() as usize];
                if core.action == Action::Candidate(tcb) {
                    core.action = Action::Choose;
                }
            }
        }
    }

    /// Puts a thread into the release queue of its core: by head refill time, behind equals.
    fn release_insert(&mut self, tcb: Ptr<Tcb>, sc: Ptr<SchedContext>) {
        let core = &mut self.cores[tcb.core.get() as usize];
        let time = sc.head_time();
        let (mut prev, mut next) = (None, core.release);
        while let Some(t) = next.filter(|t| t.sc.get().is_some_and(|s| s.head_time() <= time)) {
            prev = next;
            next = t.sched_next.get();
        }
        tcb.sched_prev.set(prev);
        tcb.sched_next.set(next);
        match prev {
            Some(t) => t.sched_next.set(Some(tcb)),
            None => core.release = Some(tcb),
        }
        if let Some(t) = next {
            t.sched_prev.set(Some(tcb));
        }
        tcb.queued.set(queued::RELEASE);
    }

    fn release_remove(&mut self, tcb: Ptr<Tcb>) {
        let (prev, next) = (tcb.sched_prev.take(), tcb.sched_next.take());
        match prev {
            Some(t) => t.sched_next.set(next),
            None => self.cores[tcb.core.get() as usize].release = next,
        }
        if let Some(t) = next {
            t.sched_prev.set(prev);
        }
        tcb.queued.set(queued::NO);
    }

    /// A thread without usable budget waits for its next refill.
    fn postpone(&mut self, tcb: Ptr<Tcb>, sc: Ptr<SchedContext>) {
        self.commit_sc(sc);
        self.sched_remove(tcb);
        self.release_insert(tcb, sc);
    }

    /// Ticks of the running slice not yet charged to this context.
    fn uncharged(&self, sc: Ptr<SchedContext>) -> u64 {
        self.cores.iter().find(|c| c.cur_sc == Some(sc)).map_or(0, |c| c.consumed)
    }

    /// Whether a thread could run on the context right now.
    pub(crate) fn sc_has_budget(&self, sc: Ptr<SchedContext>) -> bool {
        sc.has_budget(self.now, self.uncharged(sc), self.min_budget)
    }

    /// The unblock check of sporadic contexts.
    pub(crate) fn sc_unblock(&mut self, sc: Ptr<SchedContext>) {
        if sc.configured() && sc.is_sporadic() {
            sc.unblock_check(self.now);
        }
    }

    /// Sends a runnable thread without usable budget to the release queue. A round-robin context never waits: a slice too short
    /// to run on starts anew.
    pub(crate) fn sc_resume(&mut self, tcb: Ptr<Tcb>) {
        if let Some(sc) = tcb.sc.get()
            && tcb.schedulable()
            && !self.sc_has_budget(sc)
        {
            if sc.round_robin() {
                self.commit_sc(sc);
                return sc.reset_round_robin();
            }
            let core = tcb.core.get() as usize;
            self.postpone(tcb, sc);
            self.remote_timer(core);
        }
    }

    /// A thread has become runnable: it is queued, postponed or becomes the candidate.
    pub(crate) fn made_runnable(&mut self, core: CoreId, tcb: Ptr<Tcb>) {
        let Some(sc) = tcb.sc.get() else { return };
        self.sc_unblock(sc);
        self.sc_resume(tcb);
        if tcb.schedulable() {
            self.woken(core, tcb);
        }
    }

    /// Queue placement of a woken thread (sheet §8.5); the comparison with the current thread is left to the exit.
    fn woken(&mut self, core: CoreId, tcb: Ptr<Tcb>) {
        let target = tcb.core.get() as usize;
        if tcb.queued.get() != queued::NO || self.cores[target].current == Some(tcb) {
            return;
        }
        if target != core {
            self.ready_push_head(tcb);
            return self.remote_wakeup(tcb, target);
        }
        if tcb.domain.get() as usize != self.cores[core].domain {
            return self.ready_push_head(tcb);
        }
        match self.cores[core].action {
            Action::Resume => self.cores[core].action = Action::Candidate(tcb),
            Action::Choose => self.ready_push_head(tcb),
            Action::Candidate(first) if first == tcb => {}
            Action::Candidate(first) => {
                self.cores[core].action = Action::Choose;
                if first.schedulable() && first.queued.get() == queued::NO {
                    self.ready_push_head(first);
                }
                self.ready_push_head(tcb);
            }
        }
    }

    /// The target core must look at its queues before it goes on.
    pub(crate) fn reschedule(&mut self, core: CoreId, target: CoreId) {
        if target != core {
            if self.cores[target].online {
                self.machine.send_reschedule(target);
            }
            return;
        }
        if let Action::Candidate(tcb) = self.cores[core].action {
            self.cores[core].action = Action::Choose;
            if tcb.schedulable() && tcb.queued.get() == queued::NO {
                self.ready_push_head(tcb);
            }
        }
        self.cores[core].action = Action::Choose;
    }

    fn remote_wakeup(&mut self, tcb: Ptr<Tcb>, target: CoreId) {
        let remote = &self.cores[target];
        let runs_higher = remote.current.is_some_and(|c| c.priority() >= tcb.priority());
        if remote.online && !runs_higher {
            self.machine.send_reschedule(target);
        }
    }

    /// Another core's release queue changed: it must set its timer again.
    fn remote_timer(&mut self, target: CoreId) {
        if target != self.this_core && self.cores[target].online {
            self.machine.send_reschedule(target);
        }
    }

    // -- time --

    /// Kernel entry: takes the time; the difference belongs to the current context.
    pub(crate) fn enter(&mut self, core: CoreId) {
        self.this_core = core;
        self.now = self.now.max(self.machine.now());
        self.account(core);
        self.cores[core].action = Action::Resume;
    }

    /// Adds the time since a core's last entry to its running slice.
    pub(crate) fn account(&mut self, core: CoreId) {
        let now = self.now;
        let many = self.num_domains > 1;
        let c = &mut self.cores[core];
        let delta = now - c.last;
        c.last = now;
        c.consumed += delta;
        if many {
            c.domain_time = c.domain_time.saturating_sub(delta);
        }
    }

    /// Charges the running slice if this context is the one being charged on some core.
    pub(crate) fn commit_sc(&mut self, sc: Ptr<SchedContext>) {
        if let Some(core) = self.cores.iter().position(|c| c.cur_sc == Some(sc)) {
            self.commit(core);
        }
    }

    /// Charges the running slice.
    pub(crate) fn commit(&mut self, core: CoreId) {
        let c = &mut self.cores[core];
        let used = core::mem::take(&mut c.consumed);
        let Some(sc) = c.cur_sc else { return };
        if used == 0 || !sc.configured() {
            return;
        }
        if sc.round_robin() {
            sc.charge_round_robin(used);
        } else {
            sc.charge(used, self.min_budget);
        }
        sc.consumed.set(sc.consumed.get() + used);
    }

    /// Whether the current context lasts for another kernel entry and the domain's time is not over; if not, the
    /// consequences are drawn (sheet §8.4) and the current thread may be queued or blocked.
    pub(crate) fn check_budget(&mut self, core: CoreId) -> bool {
        let c = &self.cores[core];
        if let Some(sc) = c.cur_sc
            && sc.configured()
            && !sc.sufficient(c.consumed, self.min_budget)
        {
            self.end_slice(core, sc, c.consumed, true);
            return false;
        }
        if self.num_domains > 1 && self.cores[core].domain_time == 0 {
            self.reschedule(core, core);
            return false;
        }
        true
    }

    /// Ends the head refill of the current context: `usage` ticks are charged, the thread goes to where it belongs.
    fn end_slice(&mut self, core: CoreId, sc: Ptr<SchedContext>, usage: u64, ran_out: bool) {
        let used = core::mem::take(&mut self.cores[core].consumed);
        sc.consumed.set(sc.consumed.get() + used);
        if sc.round_robin() {
            sc.reset_round_robin();
        } else {
            sc.charge(usage, self.min_budget);
        }
        self.reschedule(core, core);
        let Some(tcb) = self.cores[core].current.filter(|t| t.schedulable() && t.sc.is(sc)) else { return };
        if ran_out && !sc.round_robin() && fault::timeout_handler(tcb).is_some() {
            self.timeout_fault(core, tcb);
        } else if self.sc_has_budget(sc) {
            self.ready_push_tail(tcb);
        } else {
            self.postpone(tcb, sc);
        }
    }

    /// Yield: gives up what is left of the head refill.
    pub(crate) fn yield_slice(&mut self, core: CoreId) {
        if let Some(sc) = self.cores[core].cur_sc.filter(|sc| sc.configured()) {
            let usage = sc.head_amount().max(self.cores[core].consumed);
            self.end_slice(core, sc, usage, false);
        }
    }

    // -- the decision --

    /// Kernel exit: chooses the thread to run and makes the core ready for it.
    pub(crate) fn exit(&mut self, core: CoreId) {
        self.release_due(core);
        self.next_domain_if_over(core);
        loop {
            let next = self.decide(core);
            self.cores[core].current = next;
            self.cores[core].action = Action::Resume;
            if self.switch_sc(core, next) {
                break;
            }
            // The thread had to be postponed: one fewer in the ready queues.
            self.cores[core].action = Action::Choose;
        }
        self.set_timer(core);
        self.activate(core);
    }

    /// Wakes the threads whose refill has become usable.
    fn release_due(&mut self, core: CoreId) {
        while let Some(tcb) = self.cores[core].release {
            if tcb.sc.get().is_some_and(|sc| sc.head_time() > self.now) {
                return;
            }
            self.release_remove(tcb);
            if tcb.schedulable() {
                self.woken(core, tcb);
            }
        }
    }

    fn decide(&mut self, core: CoreId) -> Option<Ptr<Tcb>> {
        let current = self.cores[core].current.filter(|t| self.can_continue(core, *t));
        match (self.cores[core].action, current) {
            (Action::Resume, Some(current)) => Some(current),
            (Action::Candidate(tcb), Some(current)) => {
                if tcb.priority() > current.priority() {
                    self.ready_push_head(current);
                    Some(tcb)
                } else {
                    self.ready_push(tcb, tcb.priority() < current.priority());
                    Some(current)
                }
            }
            (Action::Candidate(tcb), None) => {
                if self.highest_ready(core).is_none_or(|p| tcb.priority() >= p) {
                    return Some(tcb);
                }
                self.ready_push_head(tcb);
                self.choose(core)
            }
            (_, current) => {
                if let Some(current) = current {
                    self.ready_push_head(current);
                }
                self.choose(core)
            }
        }
    }

    /// Whether the current thread may go on: schedulable, not queued meanwhile, still of this core and domain.
    fn can_continue(&mut self, core: CoreId, tcb: Ptr<Tcb>) -> bool {
        if !tcb.schedulable() || tcb.queued.get() != queued::NO {
            return false;
        }
        if tcb.core.get() as usize == core && tcb.domain.get() as usize == self.cores[core].domain {
            return true;
        }
        self.ready_push_head(tcb);
        let target = tcb.core.get() as usize;
        if target != core {
            self.machine.fpu_release(tcb.context().as_ptr());
            self.remote_wakeup(tcb, target);
        }
        false
    }

    fn highest_ready(&self, core: CoreId) -> Option<u8> {
        self.ready_queues(core, self.cores[core].domain)?.highest()
    }

    fn choose(&mut self, core: CoreId) -> Option<Ptr<Tcb>> {
        let queues = self.ready_queues(core, self.cores[core].domain)?;
        let tcb = queues.first(queues.highest()?)?;
        self.ready_remove(tcb);
        Some(tcb)
    }

    /// Makes the next thread's context the one that is charged. False: it has no budget, the thread was postponed.
    fn switch_sc(&mut self, core: CoreId, next: Option<Ptr<Tcb>>) -> bool {
        let sc = next.and_then(|t| t.sc.get());
        if self.cores[core].cur_sc == sc {
            return true;
        }
        self.commit(core);
        self.cores[core].cur_sc = sc;
        let (Some(tcb), Some(sc)) = (next, sc) else { return true };
        if !sc.is_sporadic() {
            sc.unblock_check(self.now);
        }
        sc.top_up(self.min_budget);
        if sc.has_budget(self.now, 0, self.min_budget) {
            return true;
        }
        self.postpone(tcb, sc);
        false
    }

    fn set_timer(&mut self, core: CoreId) {
        let c = &self.cores[core];
        let mut deadline = u64::MAX;
        if let Some(sc) = c.cur_sc {
            deadline = c.last.saturating_add(sc.head_amount().saturating_sub(c.consumed));
        }
        if let Some(sc) = c.release.and_then(|t| t.sc.get()) {
            deadline = deadline.min(sc.head_time());
        }
        if self.num_domains > 1 {
            deadline = deadline.min(c.last.saturating_add(c.domain_time));
        }
        if deadline != self.cores[core].deadline {
            self.cores[core].deadline = deadline;
            self.machine.set_deadline(core, deadline);
        }
    }

    /// Last step: the PC of a restarting thread, pending results, address space and rights.
    fn activate(&mut self, core: CoreId) {
        let Some(tcb) = self.cores[core].current else {
            // Idle keeps the last translation, unless it is gone.
            if self.cores[core].space == Space::Stale {
                self.load_space(core, None);
            }
            return;
        };
        if tcb.state() == State::Restart {
            tcb.context.elr.set(tcb.context.fault_ip.get());
            tcb.set_state(State::Running);
        }
        if tcb.yield_to.is_some() {
            self.complete_yield(tcb);
        }
        let space = self.space_of(tcb);
        if Space::Loaded(space) != self.cores[core].space {
            self.load_space(core, space);
        }
        let flags = tcb.context.flags.get();
        if flags != self.cores[core].flags {
            self.cores[core].flags = flags;
            self.machine.set_thread_flags(core, flags);
        }
    }

    fn load_space(&mut self, core: CoreId, space: Option<(u64, u16)>) {
        self.cores[core].space = Space::Loaded(space);
        self.machine.set_vspace(core, space);
    }

    // -- several cores --

    /// If the thread runs on another core, stops it there: it is then merely ready, with its registers saved.
    pub(crate) fn stall_thread(&mut self, core: CoreId, tcb: Ptr<Tcb>) {
        let target = tcb.core.get() as usize;
        if target == core || self.cores[target].current != Some(tcb) {
            return;
        }
        self.machine.stall(target);
        self.account(target);
        self.commit(target);
        self.cores[target].current = None;
        self.cores[target].cur_sc = None;
        if tcb.state() == State::Running {
            // It may be in the middle of a trap that the kernel has not looked at: it will be taken again.
            tcb.set_state(State::Restart);
        }
        if tcb.schedulable() {
            self.ready_push_head(tcb);
        }
        self.reschedule(core, target);
    }

    /// Moves a thread that is not running elsewhere to another core.
    pub(crate) fn migrate(&mut self, core: CoreId, tcb: Ptr<Tcb>, target: CoreId) {
        if tcb.core.get() as usize == target {
            return;
        }
        self.stall_thread(core, tcb);
        self.sched_remove(tcb);
        self.machine.fpu_release(tcb.context().as_ptr());
        tcb.core.set(target as u32);
    }
}
