//! Scheduling contexts: budgets, refills, and the invocations on them (sheet §3.6, §8).
//!
//! A context is a ring of refills ordered by time whose amounts add up to its budget. Period 0 means round robin: then the head
//! holds what is left and the tail what was used. Amounts and times are timer ticks.
//!
//! Always while configured: `1 <= count <= max`, the amounts sum up to `budget`, times do not decrease (not round robin).

use core::cell::Cell;

use kernel_abi::{Label, sched as abi};

use crate::Kernel;
use crate::cap::Cap;
use crate::error::Fail;
use crate::machine::{CoreId, Machine};
use crate::mem::{Link, Ptr};
use crate::notification::Notification;
use crate::reply::Reply;
use crate::syscall::{Answer, Invocation};
use crate::tcb::{Tcb, is_blocked, queued};

/// A scheduling context: 96 bytes and then its refills.
#[repr(C, align(128))]
pub struct SchedContext {
    pub(crate) period: Cell<u64>,
    pub(crate) budget: Cell<u64>,
    /// Ticks used since the last report.
    pub(crate) consumed: Cell<u64>,
    pub(crate) badge: Cell<u64>,
    pub(crate) tcb: Link<Tcb>,
    /// Newest reply of the call chain.
    pub(crate) reply: Link<Reply>,
    pub(crate) ntfn: Link<Notification>,
    /// Thread whose YieldTo is pending.
    pub(crate) yield_from: Link<Tcb>,
    pub(crate) core: Cell<u32>,
    /// Refill slots in use by the configuration; 0 = not configured.
    max: Cell<u32>,
    head: Cell<u32>,
    count: Cell<u32>,
    sporadic: Cell<u32>,
    pad: [Cell<u32>; 3],
    first_refills: [Refill; 2],
}

/// An amount of time and when it becomes usable.
#[repr(C)]
pub struct Refill {
    time: Cell<u64>,
    amount: Cell<u64>,
}

const REFILLS_OFFSET: u64 = 96;
const _: () = {
    assert!(core::mem::offset_of!(SchedContext, first_refills) as u64 == REFILLS_OFFSET);
    assert!(size_of::<SchedContext>() as u64 == kernel_abi::object::CORE_SCHED_CONTEXT_BYTES);
    assert!(size_of::<Refill>() as u64 == kernel_abi::object::REFILL_BYTES);
};

/// Parameters of a configuration, in ticks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScParams {
    pub budget: u64,
    /// 0 = round robin.
    pub period: u64,
    pub max: u32,
    pub badge: u64,
    pub sporadic: bool,
}

impl SchedContext {
    /// Has parameters.
    #[inline]
    pub fn configured(&self) -> bool {
        self.max.get() != 0
    }

    /// Budget equals period.
    #[inline]
    pub fn round_robin(&self) -> bool {
        self.period.get() == 0
    }

    #[inline]
    pub(crate) fn is_sporadic(&self) -> bool {
        self.sporadic.get() != 0
    }

    /// Budget in ticks.
    pub fn budget(&self) -> u64 {
        self.budget.get()
    }

    /// The bound thread.
    pub fn thread(&self) -> Option<Ptr<Tcb>> {
        self.tcb.get()
    }

    /// Newest reply of the call chain.
    pub fn newest_reply(&self) -> Option<Ptr<Reply>> {
        self.reply.get()
    }
}

impl Ptr<SchedContext> {
    /// Slot `index` of the ring's storage, below `max`.
    #[inline]
    fn storage(self, index: u32) -> Ptr<Refill> {
        self.at_offset::<Refill>(REFILLS_OFFSET).index(u64::from(index))
    }

    /// The `n`th refill from the head.
    #[inline]
    fn refill(self, n: u32) -> Ptr<Refill> {
        let at = self.head.get() + n;
        let max = self.max.get();
        self.storage(if at >= max { at - max } else { at })
    }

    #[inline]
    fn head_refill(self) -> Ptr<Refill> {
        self.refill(0)
    }

    #[inline]
    fn tail_refill(self) -> Ptr<Refill> {
        self.refill(self.count.get() - 1)
    }

    /// The refills as (time, amount), head first.
    pub fn refills(self) -> impl Iterator<Item = (u64, u64)> {
        let count = if self.configured() { self.count.get() } else { 0 };
        (0..count).map(move |n| (self.refill(n).time.get(), self.refill(n).amount.get()))
    }

    /// When the head becomes usable.
    #[inline]
    pub(crate) fn head_time(self) -> u64 {
        self.head_refill().time.get()
    }

    /// What the head holds.
    #[inline]
    pub(crate) fn head_amount(self) -> u64 {
        self.head_refill().amount.get()
    }

    fn pop_head(self) -> (u64, u64) {
        let refill = self.head_refill();
        let at = self.head.get() + 1;
        self.head.set(if at == self.max.get() { 0 } else { at });
        self.count.set(self.count.get() - 1);
        (refill.time.get(), refill.amount.get())
    }

    fn push_tail(self, time: u64, amount: u64) {
        self.count.set(self.count.get() + 1);
        let refill = self.tail_refill();
        refill.time.set(time);
        refill.amount.set(amount);
    }

    /// Appends with the merge rule (sheet §8.3).
    fn append(self, time: u64, amount: u64) {
        if self.count.get() == 0 {
            return self.push_tail(time, amount);
        }
        let tail = self.tail_refill();
        let tail_amount = tail.amount.get();
        if tail.time.get().saturating_add(tail_amount) >= time {
            tail.amount.set(tail_amount + amount);
        } else if self.count.get() < self.max.get() {
            self.push_tail(time, amount);
        } else {
            tail.time.set(time.saturating_sub(tail_amount));
            tail.amount.set(tail_amount + amount);
        }
    }

    /// Fresh refills: all of the budget from `now` on.
    pub(crate) fn refill_new(self, params: &ScParams, now: u64) {
        self.set_params(params);
        self.head.set(0);
        self.count.set(0);
        self.push_tail(now, params.budget);
        if params.period == 0 {
            self.push_tail(now, 0);
        }
    }

    fn set_params(self, params: &ScParams) {
        self.period.set(params.period);
        self.budget.set(params.budget);
        self.max.set(params.max);
    }

    /// New parameters for a running context: no more than the old head is usable at once.
    pub(crate) fn refill_update(self, params: &ScParams, now: u64) {
        let (head_time, head_amount) = (self.head_time(), self.head_amount());
        let time = if head_time <= now { now } else { head_time };
        self.set_params(params);
        self.head.set(0);
        self.count.set(0);
        if head_amount >= params.budget {
            self.push_tail(time, params.budget);
        } else {
            self.push_tail(time, head_amount);
            self.push_tail(time.saturating_add(params.period), params.budget - head_amount);
        }
    }

    /// Charges `usage` ticks to a context that is not round robin.
    pub(crate) fn charge(self, usage: u64, min: u64) {
        let mut left = self.skip_whole_budgets(usage);
        let period = self.period.get();
        while left > 0 && self.head_amount() <= left {
            let amount = self.head_amount();
            left -= amount;
            let (time, amount) = self.pop_head();
            self.append(time.saturating_add(period), amount);
        }
        if left > 0 {
            let head = self.head_refill();
            let time = head.time.get();
            head.amount.set(head.amount.get() - left);
            head.time.set(time.saturating_add(left));
            self.append(time.saturating_add(period), left);
        }
        while self.count.get() > 1 && self.head_amount() < min {
            let (_, amount) = self.pop_head();
            let next = self.head_refill();
            next.amount.set(next.amount.get() + amount);
            next.time.set(next.time.get().saturating_sub(amount));
        }
    }

    /// Overruns of many budgets (a stopped machine) shift all refills at once, which keeps `charge` bounded.
    fn skip_whole_budgets(self, usage: u64) -> u64 {
        let whole = (usage / self.budget.get()).saturating_sub(1);
        if whole == 0 {
            return usage;
        }
        let shift = whole.saturating_mul(self.period.get());
        for n in 0..self.count.get() {
            let refill = self.refill(n);
            refill.time.set(refill.time.get().saturating_add(shift));
        }
        usage - whole * self.budget.get()
    }

    /// Charges round-robin time: from head to tail.
    pub(crate) fn charge_round_robin(self, usage: u64) {
        let (head, tail) = (self.head_refill(), self.tail_refill());
        let used = usage.min(head.amount.get());
        head.amount.set(head.amount.get() - used);
        tail.amount.set(tail.amount.get() + used);
    }

    /// A round-robin slice is over: all is usable again.
    pub(crate) fn reset_round_robin(self) {
        let (head, tail) = (self.head_refill(), self.tail_refill());
        head.amount.set(head.amount.get() + tail.amount.get());
        tail.amount.set(0);
    }

    /// A head too short to run on is made up: a round-robin slice starts anew, others merge into the next refill.
    pub(crate) fn top_up(self, min: u64) {
        if self.head_amount() >= min {
            return;
        }
        if self.round_robin() { self.reset_round_robin() } else { self.charge(0, min) }
    }

    /// The unblock check: a usable head starts now and takes in what overlaps it.
    pub(crate) fn unblock_check(self, now: u64) {
        if self.round_robin() || self.head_time() > now {
            return;
        }
        self.head_refill().time.set(now);
        while self.count.get() > 1 {
            let next = self.refill(1);
            if next.time.get() > now.saturating_add(self.head_amount()) {
                return;
            }
            let (time, amount) = self.pop_head();
            let head = self.head_refill();
            head.time.set(time);
            head.amount.set(head.amount.get() + amount);
        }
    }

    /// Whether the head is usable at `now` and lasts at least `min` beyond `usage`.
    #[inline]
    pub(crate) fn has_budget(self, now: u64, usage: u64, min: u64) -> bool {
        self.configured() && self.head_time() <= now && self.sufficient(usage, min)
    }

    /// Whether the head lasts at least `min` beyond `usage`.
    #[inline]
    pub(crate) fn sufficient(self, usage: u64, min: u64) -> bool {
        self.head_amount() >= usage.saturating_add(min)
    }
}

/// A checked invocation on a scheduling context.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ScOp {
    BindTcb(Ptr<Tcb>),
    BindNotification(Ptr<Notification>),
    Unbind,
    UnbindTcb,
    UnbindNotification,
    Consumed,
    YieldTo(Ptr<Tcb>),
}

/// A checked ConfigureFlags.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConfigureOp {
    sc: Ptr<SchedContext>,
    core: usize,
    params: ScParams,
}

impl<M: Machine> Kernel<M> {
    pub(crate) fn us_to_ticks(&self, us: u64) -> u64 {
        (u128::from(us) * u128::from(self.ticks_per_ms) / 1000) as u64
    }

    pub(crate) fn ticks_to_us(&self, ticks: u64) -> u64 {
        (u128::from(ticks) * 1000 / u128::from(self.ticks_per_ms)) as u64
    }

    /// Greatest period in microseconds (sheet §8.6).
    pub(crate) fn max_period_us(&self) -> u64 {
        u64::MAX / self.ticks_per_ms / 8
    }

    /// Checks SchedControl_ConfigureFlags.
    pub(crate) fn decode_sched_control(&self, inv: &Invocation, core: usize) -> Result<ConfigureOp, Fail> {
        if inv.label != Label::SchedControlConfigureFlags.raw() {
            return Err(Fail::IllegalOperation);
        }
        inv.need(5, 1)?;
        let [budget, period, extra, badge, flags] = [0, 1, 2, 3, 4].map(|i| inv.mr(i));
        let max = self.max_period_us();
        if budget > max || period > max || budget < abi::MIN_BUDGET_US || period < abi::MIN_BUDGET_US {
            return Err(Fail::Range(abi::MIN_BUDGET_US, max));
        }
        if budget > period {
            return Err(Fail::Range(abi::MIN_BUDGET_US, period));
        }
        let Cap::SchedContext { sc, bits } = inv.extra_cap(0) else { return Err(Fail::InvalidCapability(1)) };
        let max_extra = kernel_abi::object::max_extra_refills(bits);
        if extra > max_extra {
            return Err(Fail::Range(0, max_extra));
        }
        let round_robin = budget == period;
        let params = ScParams {
            budget: self.us_to_ticks(budget),
            period: if round_robin { 0 } else { self.us_to_ticks(period) },
            max: (abi::MIN_REFILLS + if round_robin { 0 } else { extra }) as u32,
            badge,
            sporadic: flags & abi::SCHED_CONTEXT_SPORADIC != 0,
        };
        Ok(ConfigureOp { sc, core, params })
    }

    /// Gives a scheduling context its parameters.
    pub(crate) fn invoke_sched_control(&mut self, core: CoreId, op: &ConfigureOp) -> Answer {
        let ConfigureOp { sc, core: target, ref params } = *op;
        let tcb = sc.tcb.get();
        if let Some(tcb) = tcb {
            self.stall_thread(core, tcb);
            self.commit_sc(sc);
            self.sched_remove(tcb);
        }
        let active = sc.configured() && !sc.round_robin() && tcb.is_some_and(|t| t.runnable());
        if params.period != 0 && active {
            sc.refill_update(params, self.now);
        } else {
            sc.refill_new(params, self.now);
        }
        sc.badge.set(params.badge);
        sc.sporadic.set(u32::from(params.sporadic));
        sc.core.set(target as u32);
        if let Some(tcb) = tcb {
            self.migrate(core, tcb, target);
            self.sc_resume(tcb);
            self.enqueue_rescheduled(core, tcb);
        }
        Answer::Done
    }

    /// Checks an invocation on a scheduling context.
    pub(crate) fn decode_sc(&self, inv: &Invocation, sc: Ptr<SchedContext>) -> Result<ScOp, Fail> {
        match Label::from_raw(inv.label) {
            Some(Label::SchedContextBind) => {
                inv.need(0, 1)?;
                match inv.extra_cap(0) {
                    Cap::Tcb(tcb) => {
                        let blocked = is_blocked(tcb) && !sc.released(self.now, self.min_budget);
                        if sc.tcb.is_some() || tcb.sc.is_some() || blocked {
                            return Err(Fail::IllegalOperation);
                        }
                        Ok(ScOp::BindTcb(tcb))
                    }
                    Cap::Notification(n) if sc.ntfn.is_some() || n.ntfn.sc.is_some() => Err(Fail::IllegalOperation),
                    Cap::Notification(n) => Ok(ScOp::BindNotification(n.ntfn)),
                    _ => Err(Fail::InvalidCapability(1)),
                }
            }
            Some(Label::SchedContextUnbind) => {
                if sc.tcb.is(inv.thread) {
                    Err(Fail::IllegalOperation)
                } else {
                    Ok(ScOp::Unbind)
                }
            }
            Some(Label::SchedContextUnbindObject) => {
                inv.need(0, 1)?;
                match inv.extra_cap(0) {
                    Cap::Tcb(tcb) if !sc.tcb.is(tcb) || tcb == inv.thread => Err(Fail::IllegalOperation),
                    Cap::Tcb(_) => Ok(ScOp::UnbindTcb),
                    Cap::Notification(n) if !sc.ntfn.is(n.ntfn) => Err(Fail::IllegalOperation),
                    Cap::Notification(_) => Ok(ScOp::UnbindNotification),
                    _ => Err(Fail::InvalidCapability(1)),
                }
            }
            Some(Label::SchedContextConsumed) => Ok(ScOp::Consumed),
            Some(Label::SchedContextYieldTo) => {
                let tcb = sc.tcb.get().ok_or(Fail::IllegalOperation)?;
                if tcb == inv.thread || tcb.priority() > inv.thread.mcp.get() {
                    return Err(Fail::IllegalOperation);
                }
                Ok(ScOp::YieldTo(tcb))
            }
            _ => Err(Fail::IllegalOperation),
        }
    }

    /// Carries out a checked invocation on a scheduling context.
    pub(crate) fn invoke_sc(&mut self, inv: &Invocation, sc: Ptr<SchedContext>, op: ScOp) -> Answer {
        let core = inv.core;
        match op {
            ScOp::BindTcb(tcb) => self.sc_bind_tcb(core, sc, tcb),
            ScOp::BindNotification(ntfn) => {
                sc.ntfn.set(Some(ntfn));
                ntfn.sc.set(Some(sc));
            }
            ScOp::Unbind => self.sc_unbind_all(core, sc),
            ScOp::UnbindTcb => self.sc_unbind_tcb(core, sc),
            ScOp::UnbindNotification => self.sc_unbind_notification(sc),
            ScOp::Consumed => return Answer::One(self.take_consumed(sc)),
            ScOp::YieldTo(tcb) => return self.yield_to(inv, sc, tcb),
        }
        Answer::Done
    }

    /// Microseconds used since the last report.
    pub(crate) fn take_consumed(&mut self, sc: Ptr<SchedContext>) -> u64 {
        self.ticks_to_us(sc.consumed.take())
    }

    /// Binds a free context to a thread without one.
    pub(crate) fn sc_bind_tcb(&mut self, core: CoreId, sc: Ptr<SchedContext>, tcb: Ptr<Tcb>) {
        sc.tcb.set(Some(tcb));
        tcb.sc.set(Some(sc));
        self.migrate(core, tcb, sc.core.get() as usize);
        if tcb.runnable() {
            self.sc_unblock(sc);
            self.sc_resume(tcb);
            self.enqueue_rescheduled(core, tcb);
        }
    }

    /// Head of the queue and a full reschedule, if the thread can run and is not running.
    fn enqueue_rescheduled(&mut self, core: CoreId, tcb: Ptr<Tcb>) {
        let target = tcb.core.get() as usize;
        if tcb.schedulable() && tcb.queued.get() == queued::NO && self.cores[target].current != Some(tcb) {
            self.ready_push_head(tcb);
        }
        self.reschedule(core, target);
    }

    /// Takes the thread off its context: it keeps its state but cannot run.
    pub(crate) fn sc_unbind_tcb(&mut self, core: CoreId, sc: Ptr<SchedContext>) {
        self.sc_detach(core, sc);
    }

    pub(crate) fn sc_unbind_notification(&mut self, sc: Ptr<SchedContext>) {
        if let Some(ntfn) = sc.ntfn.take() {
            ntfn.sc.set(None);
        }
    }

    /// Thread, notification and call chain.
    pub(crate) fn sc_unbind_all(&mut self, core: CoreId, sc: Ptr<SchedContext>) {
        self.sc_detach(core, sc);
        self.sc_unbind_notification(sc);
        if let Some(reply) = sc.reply.take() {
            reply.set_sc(None);
        }
    }

    /// The thread bound to the context, if any, loses it.
    pub(crate) fn sc_detach(&mut self, core: CoreId, sc: Ptr<SchedContext>) {
        let Some(tcb) = sc.tcb.get() else { return };
        self.stall_thread(core, tcb);
        self.sched_remove(tcb);
        tcb.sc.set(None);
        sc.tcb.set(None);
    }

    /// Moves a context to a thread that has none, from whoever has it.
    pub(crate) fn sc_donate(&mut self, core: CoreId, sc: Ptr<SchedContext>, to: Ptr<Tcb>) {
        self.sc_detach(core, sc);
        sc.tcb.set(Some(to));
        to.sc.set(Some(sc));
        self.migrate(core, to, sc.core.get() as usize);
    }

    /// A dying context: unbound from everything, not configured.
    pub(crate) fn sc_destroy(&mut self, core: CoreId, sc: Ptr<SchedContext>) {
        self.complete_yield_of(sc);
        self.sc_unbind_all(core, sc);
        for c in &mut self.cores {
            if c.cur_sc == Some(sc) {
                c.cur_sc = None;
                c.consumed = 0;
            }
        }
        sc.max.set(0);
    }

    /// Runs the context's thread ahead of the caller, see sheet §8.7.
    fn yield_to(&mut self, inv: &Invocation, sc: Ptr<SchedContext>, tcb: Ptr<Tcb>) -> Answer {
        let (core, caller) = (inv.core, inv.thread);
        self.complete_yield_of(sc);
        self.sc_resume(tcb);
        if !tcb.schedulable() {
            return Answer::One(self.take_consumed(sc));
        }
        let other_core = tcb.core.get() as usize != core;
        let runs_now = other_core && self.cores[tcb.core.get() as usize].current == Some(tcb);
        if !runs_now {
            self.sched_remove(tcb);
        }
        if other_core || tcb.priority() < caller.priority() {
            if !runs_now {
                self.ready_push_head(tcb);
                if other_core {
                    self.reschedule(core, tcb.core.get() as usize);
                }
            }
            return Answer::One(self.take_consumed(sc));
        }
        sc.yield_from.set(Some(caller));
        caller.yield_to.set(Some(sc));
        caller.yield_call.set(u8::from(inv.call));
        self.ready_push_head(caller);
        self.ready_push_head(tcb);
        self.reschedule(core, core);
        Answer::Later
    }

    /// Finishes the YieldTo that waits on this context.
    pub(crate) fn complete_yield_of(&mut self, sc: Ptr<SchedContext>) {
        if let Some(tcb) = sc.yield_from.get() {
            self.complete_yield(tcb);
        }
    }

    /// Gives a thread the result of its YieldTo.
    pub(crate) fn complete_yield(&mut self, tcb: Ptr<Tcb>) {
        let Some(sc) = tcb.yield_to.take() else { return };
        sc.yield_from.set(None);
        let consumed = self.take_consumed(sc);
        if tcb.yield_call.take() != 0 {
            crate::syscall::answer_one(tcb, consumed);
        }
    }

    /// Forgets a thread's pending YieldTo.
    pub(crate) fn drop_yield_to(&mut self, tcb: Ptr<Tcb>) {
        if let Some(sc) = tcb.yield_to.take() {
            sc.yield_from.set(None);
        }
    }
}

impl Ptr<SchedContext> {
    /// Configured, usable and sufficient: a blocked thread may be given it.
    pub(crate) fn released(self, now: u64, min: u64) -> bool {
        self.has_budget(now, 0, min)
    }
}
