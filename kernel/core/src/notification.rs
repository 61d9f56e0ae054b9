//! Notifications: a word of signals, its waiters, a bound thread and a scheduling context (sheet §7.4, §7.5).
//!
//! Always: waiters only while idle or waiting (word 0); a bound TCB names the notification and is named by it.

use core::cell::Cell;

use crate::Kernel;
use crate::machine::{CoreId, Machine};
use crate::mem::{Link, Ptr};
use crate::queue::Queue;
use crate::schedctx::SchedContext;
use crate::tcb::{State, Tcb};

/// A notification object.
#[repr(C, align(64))]
pub struct Notification {
    head: Link<Tcb>,
    tail: Link<Tcb>,
    /// Collected badges.
    word: Cell<u64>,
    /// Signalled and not yet collected (a badge of 0 signals, too).
    active: Cell<u64>,
    pub(crate) bound: Link<Tcb>,
    pub(crate) sc: Link<SchedContext>,
    pad: [Cell<u64>; 2],
}

const _: () = assert!(size_of::<Notification>() == 1 << kernel_abi::object::NOTIFICATION_BITS);

impl Notification {
    /// Signalled, not collected.
    #[inline]
    pub fn is_active(&self) -> bool {
        self.active.get() != 0
    }

    /// Whether threads wait.
    pub fn has_waiters(&self) -> bool {
        self.head.is_some()
    }

    /// The bound thread.
    pub fn bound_thread(&self) -> Option<Ptr<Tcb>> {
        self.bound.get()
    }

    /// The waiting threads.
    pub fn queue(&self) -> Queue {
        Queue { head: self.head.get(), tail: self.tail.get() }
    }

    fn set_queue(&self, queue: Queue) {
        self.head.set(queue.head);
        self.tail.set(queue.tail);
    }

    fn insert(&self, tcb: Ptr<Tcb>) {
        let mut queue = self.queue();
        queue.insert(tcb);
        self.set_queue(queue);
    }

    /// Takes a waiting thread out.
    pub(crate) fn remove(&self, tcb: Ptr<Tcb>) {
        let mut queue = self.queue();
        queue.remove(tcb);
        self.set_queue(queue);
    }
}

impl<M: Machine> Kernel<M> {
    /// Signals with a badge.
    pub(crate) fn signal(&mut self, core: CoreId, ntfn: Ptr<Notification>, badge: u64) {
        if let Some(waiter) = ntfn.queue().head {
            ntfn.remove(waiter);
            waiter.wait_ntfn.set(None);
            return self.deliver_signal(core, ntfn, waiter, badge);
        }
        if !ntfn.is_active()
            && let Some(bound) = ntfn.bound.get().filter(|t| t.state() == State::BlockedOnReceive)
        {
            self.cancel_ipc(bound);
            return self.deliver_signal(core, ntfn, bound, badge);
        }
        ntfn.active.set(1);
        ntfn.word.set(ntfn.word.get() | badge);
    }

    /// Wakes a thread with a signal.
    fn deliver_signal(&mut self, core: CoreId, ntfn: Ptr<Notification>, tcb: Ptr<Tcb>, badge: u64) {
        tcb.set_x(0, badge);
        tcb.set_state(State::Running);
        self.lend_sc(core, tcb, ntfn);
        self.made_runnable(core, tcb);
    }

    /// Waits for a signal, or polls.
    pub(crate) fn receive_signal(&mut self, core: CoreId, thread: Ptr<Tcb>, ntfn: Ptr<Notification>, blocking: bool) {
        if ntfn.is_active() {
            self.collect_signal(core, thread, ntfn);
        } else if blocking {
            thread.set_state(State::BlockedOnNotification);
            thread.wait_ntfn.set(Some(ntfn));
            ntfn.insert(thread);
            self.return_sc(core, thread, ntfn);
        } else {
            thread.set_x(0, 0);
        }
    }

    /// The running thread takes the signals of an active notification.
    pub(crate) fn collect_signal(&mut self, core: CoreId, thread: Ptr<Tcb>, ntfn: Ptr<Notification>) {
        thread.set_x(0, ntfn.word.take());
        ntfn.active.set(0);
        self.lend_sc(core, thread, ntfn);
        if thread.sc.is_some() {
            self.sc_resume(thread);
        }
    }

    /// Gives the notification's unused scheduling context to a thread that has none.
    fn lend_sc(&mut self, core: CoreId, tcb: Ptr<Tcb>, ntfn: Ptr<Notification>) {
        if let Some(sc) = ntfn.sc.get()
            && !tcb.sc.is_some()
            && !sc.tcb.is_some()
        {
            self.sc_donate(core, sc, tcb);
        }
    }

    /// Takes back the notification's scheduling context from a thread that goes to wait.
    pub(crate) fn return_sc(&mut self, core: CoreId, tcb: Ptr<Tcb>, ntfn: Ptr<Notification>) {
        if let Some(sc) = ntfn.sc.get().filter(|sc| tcb.sc.is(*sc)) {
            self.sc_detach(core, sc);
        }
    }

    /// A dying notification: unbound everywhere, waiters do their system call again.
    pub(crate) fn cancel_all_signals(&mut self, core: CoreId, ntfn: Ptr<Notification>) {
        while let Some(tcb) = ntfn.queue().head {
            self.restart_waiter(core, tcb);
        }
    }

    /// Puts a waiting thread where its changed priority belongs.
    pub(crate) fn notification_reorder(&mut self, tcb: Ptr<Tcb>) {
        if let Some(ntfn) = tcb.wait_ntfn.get() {
            ntfn.remove(tcb);
            ntfn.insert(tcb);
        }
    }
}
