//! Reply objects and call chains (sheet §7.3).
//!
//! A reply object is free (`tcb` none), armed (its thread is BlockedOnReceive) or in use (BlockedOnReply). The replies over
//! which one scheduling context was donated form a stack: the context names the newest (`SchedContext::reply`), which names
//! the context (`sc`); `older`/`newer` link the stack. Always: `a.older == b` iff `b.newer == a`; `sc` only on the newest.

use core::cell::Cell;

use crate::Kernel;
use crate::fault;
use crate::machine::{CoreId, Machine};
use crate::mem::{Link, Ptr};
use crate::schedctx::SchedContext;
use crate::tcb::{State, Tcb};

/// A reply object.
#[repr(C, align(32))]
pub struct Reply {
    pub(crate) tcb: Link<Tcb>,
    pub(crate) older: Link<Reply>,
    /// The newer reply of the stack (tag 0), or the scheduling context (tag 1) for the newest.
    up: Cell<u64>,
    pad: Cell<u64>,
}

const _: () = assert!(size_of::<Reply>() == 1 << kernel_abi::object::REPLY_BITS);

const UP_IS_SC: u64 = 1;

impl Reply {
    /// The thread that waits with or on this object.
    pub fn thread(&self) -> Option<Ptr<Tcb>> {
        self.tcb.get()
    }

    /// The scheduling context whose newest reply this is.
    pub fn sc(&self) -> Option<Ptr<SchedContext>> {
        let up = self.up.get();
        if up & UP_IS_SC != 0 { Ptr::unpack(up & !UP_IS_SC) } else { None }
    }

    /// The newer reply of the stack.
    pub fn newer(&self) -> Option<Ptr<Reply>> {
        let up = self.up.get();
        if up & UP_IS_SC == 0 { Ptr::unpack(up) } else { None }
    }

    /// The older reply of the stack.
    pub fn older(&self) -> Option<Ptr<Reply>> {
        self.older.get()
    }

    pub(crate) fn set_sc(&self, sc: Option<Ptr<SchedContext>>) {
        self.up.set(sc.map_or(0, |sc| sc.addr() | UP_IS_SC));
    }

    fn set_newer(&self, newer: Option<Ptr<Reply>>) {
        self.up.set(newer.map_or(0, Ptr::addr));
    }
}

impl<M: Machine> Kernel<M> {
    /// The caller blocks on `reply`; its scheduling context goes to a callee that has none, recorded in the chain.
    pub(crate) fn reply_push(
        &mut self,
        core: CoreId,
        caller: Ptr<Tcb>,
        callee: Ptr<Tcb>,
        reply: Ptr<Reply>,
        donate: bool,
    ) {
        reply.tcb.set(Some(caller));
        caller.reply.set(Some(reply));
        caller.set_state(State::BlockedOnReply);
        if !donate || callee.sc.is_some() {
            return;
        }
        let Some(sc) = caller.sc.get() else { return };
        if let Some(old) = sc.reply.get() {
            old.set_newer(Some(reply));
            reply.older.set(Some(old));
        }
        reply.set_sc(Some(sc));
        sc.reply.set(Some(reply));
        self.sc_donate(core, sc, callee);
    }

    /// Frees a reply object whose caller gets its answer: the newest of a chain hands the scheduling context back.
    fn reply_pop(&mut self, core: CoreId, reply: Ptr<Reply>, caller: Ptr<Tcb>) {
        if let Some(sc) = reply.sc() {
            let older = reply.older.take();
            sc.reply.set(older);
            if let Some(older) = older {
                older.set_sc(Some(sc));
            }
            reply.set_sc(None);
            if !caller.sc.is_some() {
                self.sc_donate(core, sc, caller);
            }
        }
        reply_unlink(reply);
        caller.reply.set(None);
    }

    /// Takes a caller off its reply object without an answer: the chain breaks here, the scheduling context stays where it is.
    pub(crate) fn reply_detach_caller(&mut self, caller: Ptr<Tcb>) {
        if let Some(reply) = caller.reply.take() {
            reply_unlink(reply);
        }
    }

    /// Answers the caller waiting on `reply` with the sender's message; nothing if nobody waits.
    pub(crate) fn reply_to(&mut self, core: CoreId, sender: Ptr<Tcb>, reply: Ptr<Reply>, grant: bool) {
        let Some(caller) = reply.tcb.get().filter(|t| t.state() == State::BlockedOnReply) else { return };
        self.reply_pop(core, reply, caller);
        let fault = caller.fault.get();
        if fault == 0 {
            self.transfer(sender, None, 0, grant, caller);
            caller.set_state(State::Running);
        } else {
            let restart = self.fault_reply(sender, caller);
            caller.fault.set(0);
            caller.set_state(if restart { State::Restart } else { State::Inactive });
        }
        self.replied(core, caller, u64::from(fault));
    }

    /// Sets an answered thread going: at once if it has budget, else by a timeout fault or the release queue.
    fn replied(&mut self, core: CoreId, caller: Ptr<Tcb>, answered_fault: u64) {
        let Some(sc) = caller.sc.get().filter(|_| caller.runnable()) else { return };
        self.sc_unblock(sc);
        if sc.configured()
            && !sc.round_robin()
            && !self.sc_has_budget(sc)
            && answered_fault != kernel_abi::FaultType::Timeout.raw()
            && fault::timeout_handler(caller).is_some()
        {
            self.timeout_fault(core, caller);
            return;
        }
        self.made_runnable(core, caller);
    }

    /// A dying reply object: its waiter is cancelled; a caller that heads its chain gets the scheduling context back first.
    pub(crate) fn reply_destroy(&mut self, core: CoreId, reply: Ptr<Reply>) {
        let Some(tcb) = reply.tcb.get() else { return };
        match tcb.state() {
            State::BlockedOnReply => {
                self.reply_pop(core, reply, tcb);
                tcb.fault.set(0);
                tcb.set_state(State::Inactive);
            }
            _ => self.cancel_ipc(tcb),
        }
    }
}

/// Frees a reply object and breaks its chain at this place.
fn reply_unlink(reply: Ptr<Reply>) {
    if let Some(sc) = reply.sc() {
        sc.reply.set(None);
    }
    if let Some(newer) = reply.newer() {
        newer.older.set(None);
    }
    if let Some(older) = reply.older.take() {
        older.set_newer(None);
    }
    reply.set_sc(None);
    reply.tcb.set(None);
}
