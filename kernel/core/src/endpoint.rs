//! Endpoints: where senders and receivers meet (sheet §7.1).
//!
//! Sixteen bytes: a queue of waiting threads, all senders or all receivers, ordered by priority and FIFO among equals.
//! Always: an idle endpoint's queue is empty, any other's is not; a queued thread's `wait_ep` names the endpoint.

use core::cell::Cell;

use kernel_abi::CapRights;

use crate::cap::EndpointCap;
use crate::machine::{CoreId, Machine};
use crate::mem::{Link, Ptr};
use crate::reply::Reply;
use crate::tcb::{State, Tcb, blocked};
use crate::{Kernel, queue};

/// An endpoint object.
#[repr(C, align(16))]
pub struct Endpoint {
    /// First waiting thread; state in the low bits (TCBs are 2048-byte aligned).
    head: Cell<u64>,
    tail: Link<Tcb>,
}

const _: () = assert!(size_of::<Endpoint>() == 1 << kernel_abi::object::ENDPOINT_BITS);

/// Who waits on an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum EpState {
    /// Nobody.
    Idle = 0,
    /// Senders.
    Send = 1,
    /// Receivers.
    Recv = 2,
}

const STATE_MASK: u64 = 3;

impl Endpoint {
    /// Who waits.
    #[inline]
    pub fn state(&self) -> EpState {
        match self.head.get() & STATE_MASK {
            1 => EpState::Send,
            2 => EpState::Recv,
            _ => EpState::Idle,
        }
    }

    /// The waiting threads.
    #[inline]
    pub fn queue(&self) -> queue::Queue {
        queue::Queue { head: Ptr::unpack(self.head.get() & !STATE_MASK), tail: self.tail.get() }
    }

    #[inline]
    fn set(&self, state: EpState, queue: queue::Queue) {
        let state = if queue.head.is_none() { EpState::Idle } else { state };
        self.head.set(queue.head.map_or(0, Ptr::addr) | state as u64);
        self.tail.set(queue.tail);
    }

    /// Appends a thread, by priority.
    fn enqueue(&self, state: EpState, tcb: Ptr<Tcb>) {
        let mut queue = self.queue();
        queue.insert(tcb);
        self.set(state, queue);
    }

    /// Takes a queued thread out.
    fn remove(&self, tcb: Ptr<Tcb>) {
        let state = self.state();
        let mut queue = self.queue();
        queue.remove(tcb);
        self.set(state, queue);
    }
}

/// How a message is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendMode {
    /// Wait for a receiver.
    pub blocking: bool,
    /// An answer is expected.
    pub call: bool,
    /// The receiver may get the sender's scheduling context.
    pub donate: bool,
}

impl<M: Machine> Kernel<M> {
    /// Sends the thread's message (or fault) through an endpoint.
    pub(crate) fn send_ipc(&mut self, core: CoreId, thread: Ptr<Tcb>, cap: &EndpointCap, mode: SendMode) {
        let ep = cap.ep;
        if ep.state() != EpState::Recv {
            if mode.blocking {
                block_sender(thread, cap, mode.call);
            }
            return;
        }
        let Some(dest) = ep.queue().head else { return };
        ep.remove(dest);
        dest.wait_ep.set(None);
        let reply = dest.reply.take();
        if let Some(reply) = reply {
            reply.tcb.set(None);
        }
        let rights = cap.rights;
        self.transfer(thread, Some(ep), cap.badge, rights.contains(CapRights::GRANT), dest);
        if mode.call || thread.fault.get() != 0 {
            let may_reply = rights.intersects(CapRights::GRANT | CapRights::GRANT_REPLY);
            self.await_reply(core, thread, dest, reply.filter(|_| may_reply), mode.donate);
        } else if mode.donate
            && let Some(sc) = thread.sc.get()
            && !dest.sc.is_some()
        {
            self.sc_donate(core, sc, dest);
        }
        dest.set_state(State::Running);
        self.made_runnable(core, dest);
    }

    /// The caller now waits for an answer on `reply`, or stops for good if there is none.
    fn await_reply(
        &mut self,
        core: CoreId,
        caller: Ptr<Tcb>,
        callee: Ptr<Tcb>,
        reply: Option<Ptr<Reply>>,
        donate: bool,
    ) {
        match reply {
            Some(reply) => self.reply_push(core, caller, callee, reply, donate),
            None => {
                caller.fault.set(0);
                caller.set_state(State::Inactive);
            }
        }
    }

    /// Receives from an endpoint: `reply` is the reply object to use, if any.
    pub(crate) fn receive_ipc(
        &mut self,
        core: CoreId,
        thread: Ptr<Tcb>,
        ep: Ptr<Endpoint>,
        blocking: bool,
        reply: Option<Ptr<Reply>>,
    ) {
        // A reply object still used by, or armed for, another thread ends that wait.
        if let Some(waiting) = reply.and_then(|r| r.tcb.get()) {
            self.cancel_ipc(waiting);
        }
        if let Some(ntfn) = thread.bound.get() {
            if ntfn.is_active() {
                return self.collect_signal(core, thread, ntfn);
            }
            if blocking {
                self.return_sc(core, thread, ntfn);
            }
        }
        match ep.state() {
            EpState::Send => self.receive_queued(core, thread, ep, reply),
            _ if !blocking => thread.set_x(0, 0),
            _ => {
                thread.set_state(State::BlockedOnReceive);
                thread.wait_ep.set(Some(ep));
                thread.reply.set(reply);
                if let Some(reply) = reply {
                    reply.tcb.set(Some(thread));
                }
                ep.enqueue(EpState::Recv, thread);
            }
        }
    }

    /// Takes the message of the first queued sender.
    fn receive_queued(&mut self, core: CoreId, thread: Ptr<Tcb>, ep: Ptr<Endpoint>, reply: Option<Ptr<Reply>>) {
        let Some(sender) = ep.queue().head else { return };
        ep.remove(sender);
        sender.wait_ep.set(None);
        let flags = sender.blocked.get();
        self.transfer(sender, Some(ep), sender.badge.get(), flags & blocked::GRANT != 0, thread);
        if flags & blocked::CALL != 0 || sender.fault.get() != 0 {
            let may_reply = flags & (blocked::GRANT | blocked::GRANT_REPLY) != 0;
            let donate = sender.fault.get() != kernel_abi::FaultType::Timeout.raw() as u8;
            self.await_reply(core, sender, thread, reply.filter(|_| may_reply), donate);
        } else {
            sender.set_state(State::Running);
            self.made_runnable(core, sender);
        }
    }

    /// Ends a thread's wait on an endpoint, notification or reply; it becomes Inactive and forgets its fault.
    /// Nothing for a thread that does not wait.
    pub(crate) fn cancel_ipc(&mut self, tcb: Ptr<Tcb>) {
        match tcb.state() {
            State::BlockedOnSend | State::BlockedOnReceive => {
                if let Some(ep) = tcb.wait_ep.take() {
                    ep.remove(tcb);
                }
                if let Some(reply) = tcb.reply.take() {
                    reply.tcb.set(None);
                }
            }
            State::BlockedOnNotification => {
                if let Some(ntfn) = tcb.wait_ntfn.take() {
                    ntfn.remove(tcb);
                }
            }
            State::BlockedOnReply => self.reply_detach_caller(tcb),
            State::Inactive | State::Running | State::Restart => return,
        }
        tcb.fault.set(0);
        tcb.set_state(State::Inactive);
    }

    /// Restarts every thread queued on a dying endpoint; those queued with a fault become Inactive.
    pub(crate) fn cancel_all_ipc(&mut self, core: CoreId, ep: Ptr<Endpoint>) {
        while let Some(tcb) = ep.queue().head {
            self.restart_waiter(core, tcb);
        }
    }

    /// Restarts the senders with this badge. One pass over the queue as it is now.
    pub(crate) fn cancel_badged_sends(&mut self, core: CoreId, ep: Ptr<Endpoint>, badge: u64) {
        if ep.state() != EpState::Send {
            return;
        }
        let mut next = ep.queue().head;
        while let Some(tcb) = next {
            next = tcb.wait_next.get();
            if tcb.badge.get() == badge {
                self.restart_waiter(core, tcb);
            }
        }
    }

    /// Takes a thread off the endpoint or notification it waits on and lets it do its system call again.
    pub(crate) fn restart_waiter(&mut self, core: CoreId, tcb: Ptr<Tcb>) {
        let faulted = tcb.fault.get() != 0;
        self.cancel_ipc(tcb);
        if !faulted {
            tcb.set_state(State::Restart);
            self.made_runnable(core, tcb);
        }
    }

    /// Puts a waiting thread where its changed priority belongs.
    pub(crate) fn endpoint_reorder(&mut self, tcb: Ptr<Tcb>) {
        if let Some(ep) = tcb.wait_ep.get() {
            let state = ep.state();
            ep.remove(tcb);
            ep.enqueue(state, tcb);
        }
    }
}

/// Queues a sender.
fn block_sender(thread: Ptr<Tcb>, cap: &EndpointCap, call: bool) {
    let mut flags = 0;
    for (set, bit) in [
        (call, blocked::CALL),
        (cap.rights.contains(CapRights::GRANT), blocked::GRANT),
        (cap.rights.contains(CapRights::GRANT_REPLY), blocked::GRANT_REPLY),
    ] {
        flags |= if set { bit } else { 0 };
    }
    thread.set_state(State::BlockedOnSend);
    thread.wait_ep.set(Some(cap.ep));
    thread.badge.set(cap.badge);
    thread.blocked.set(flags);
    cap.ep.enqueue(EpState::Send, thread);
}
