//! System calls: the traps' common part, invocation of capabilities, answers (sheet §1, §3.2, §12).

use kernel_abi::message::{FAST_MESSAGE_REGISTERS, MSG_MAX_EXTRA_CAPS};
use kernel_abi::{CapRights, CapTag, MessageInfo, Syscall};

use crate::cap::{Cap, Slot};
use crate::endpoint::SendMode;
use crate::error::{Fail, LookupFailure, Preempted};
use crate::fault::Fault;
use crate::ipc::{self, BADGE, Buffer, INFO, MR0};
use crate::machine::{CoreId, Machine};
use crate::mem::Ptr;
use crate::tcb::{State, Tcb};
use crate::{Kernel, cspace};

/// A message to a kernel object, as decoders see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Invocation {
    pub core: CoreId,
    /// The invoking thread.
    pub thread: Ptr<Tcb>,
    /// Label of the message.
    pub label: u64,
    /// Message registers that can be read.
    pub length: usize,
    /// An answer is expected.
    pub call: bool,
    /// The slot that was invoked.
    pub slot: Ptr<Slot>,
    buffer: Option<Buffer>,
    extra: [Option<Ptr<Slot>>; MSG_MAX_EXTRA_CAPS],
}

impl Invocation {
    /// Message register `i`; 0 beyond the length.
    #[inline]
    pub fn mr(&self, i: usize) -> u64 {
        if i < self.length { ipc::message_word(self.thread, self.buffer, i) } else { 0 }
    }

    /// Fails unless there are that many message registers and extra capabilities.
    pub fn need(&self, words: usize, caps: usize) -> Result<(), Fail> {
        let have = self.extra.iter().flatten().count();
        if self.length < words || have < caps { Err(Fail::Truncated) } else { Ok(()) }
    }

    /// Slot of extra capability `i`, which [`Invocation::need`] has asked for.
    pub fn extra_slot(&self, i: usize) -> Ptr<Slot> {
        // A decoder that forgot to ask gets the invoked slot, never a panic.
        debug_assert!(self.extra[i].is_some());
        self.extra[i].unwrap_or(self.slot)
    }

    /// Extra capability `i`.
    pub fn extra_cap(&self, i: usize) -> Cap {
        self.extra_slot(i).cap()
    }
}

/// What a successful invocation answers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// No results.
    Done,
    /// One result word.
    One(u64),
    /// The first registers of another thread.
    Registers(Ptr<Tcb>, usize),
    /// The result will be set when the thread next runs.
    Later,
}

/// How an invocation ended.
enum Outcome {
    Answer(Answer),
    /// A message was passed: the thread's registers and state are already right.
    Passed,
    Failed(Fail),
    Preempted,
}

/// Gives a thread a successful answer of one word.
pub(crate) fn answer_one(tcb: Ptr<Tcb>, value: u64) {
    tcb.set_x(MR0, value);
    tcb.set_x(INFO, MessageInfo::new(0, 0, 0, 1).0);
    tcb.set_x(BADGE, 0);
}

/// The parameters of a send half.
#[derive(Clone, Copy, Debug)]
struct Send {
    cptr: u64,
    blocking: bool,
    call: bool,
    donate: bool,
    /// Send half of a combined call: some capabilities may not be invoked.
    half: bool,
}

impl<M: Machine> Kernel<M> {
    /// Carries out the system call in the current thread's registers.
    pub(crate) fn syscall(&mut self, core: CoreId, thread: Ptr<Tcb>) {
        let number = thread.x(7) as i64;
        let Some(call) = Syscall::from_raw(number).filter(|c| c.is_api()) else {
            return self.other_syscall(core, thread, number);
        };
        if !self.check_budget(core) {
            return restart(thread);
        }
        match self.api_syscall(core, thread, call) {
            Ok(()) => {}
            Err(Preempted) => {
                restart(thread);
                self.check_budget(core);
            }
        }
    }

    fn api_syscall(&mut self, core: CoreId, thread: Ptr<Tcb>, call: Syscall) -> Result<(), Preempted> {
        let send =
            |cptr: usize, blocking, call| Send { cptr: thread.x(cptr), blocking, call, donate: call, half: false };
        let half = |cptr: usize| Send { cptr: thread.x(cptr), blocking: false, call: false, donate: true, half: true };
        match call {
            Syscall::Send => self.send(core, thread, send(0, true, false)),
            Syscall::NBSend => self.send(core, thread, send(0, false, false)),
            Syscall::Call => self.send(core, thread, send(0, true, true)),
            Syscall::Recv => self.receive(core, thread, true, true),
            Syscall::NBRecv => self.receive(core, thread, false, true),
            Syscall::Wait => self.receive(core, thread, true, false),
            Syscall::NBWait => self.receive(core, thread, false, false),
            Syscall::ReplyRecv => self.send_receive(core, thread, half(6), true),
            Syscall::NBSendRecv => self.send_receive(core, thread, half(8), true),
            Syscall::NBSendWait => self.send_receive(core, thread, half(6), false),
            Syscall::Yield => {
                self.yield_slice(core);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn send_receive(&mut self, core: CoreId, thread: Ptr<Tcb>, send: Send, reply: bool) -> Result<(), Preempted> {
        self.send(core, thread, send)?;
        // The send half may have stopped the thread (it can destroy itself through an untyped).
        if thread.state() == State::Running { self.receive(core, thread, true, reply) } else { Ok(()) }
    }

    // -- send --

    fn send(&mut self, core: CoreId, thread: Ptr<Tcb>, send: Send) -> Result<(), Preempted> {
        let slot = match cspace::lookup(thread, send.cptr) {
            Ok(slot) => slot,
            Err(failure) => return self.send_lookup_failed(core, thread, send, send.cptr, failure),
        };
        let info = MessageInfo(thread.x(INFO));
        let cap = slot.cap();
        if let Some(done) = self.send_message(core, thread, &cap, send) {
            // IPC objects look the extra capabilities up themselves, but a bad one stops a blocking send here.
            return done;
        }
        let buffer = if info.extra_caps() > 0 || info.length() > FAST_MESSAGE_REGISTERS {
            ipc::buffer_of(self.window, thread, false)
        } else {
            None
        };
        let extra = match self.extra_caps(thread, info, buffer) {
            Ok(extra) => extra,
            Err((cptr, failure)) => return self.send_lookup_failed(core, thread, send, cptr, failure),
        };
        let length = if buffer.is_some() { info.length() } else { info.length().min(FAST_MESSAGE_REGISTERS) };
        let inv = Invocation { core, thread, label: info.label(), length, call: send.call, slot, buffer, extra };
        thread.set_state(State::Restart);
        let outcome = self.invoke(&inv, &cap, send.half);
        self.finish(thread, send.call, outcome)
    }

    /// IPC objects: passes the message. `None` if the capability is a kernel object's.
    fn send_message(&mut self, core: CoreId, thread: Ptr<Tcb>, cap: &Cap, send: Send) -> Option<Result<(), Preempted>> {
        if !matches!(cap, Cap::Endpoint(_) | Cap::Notification(_) | Cap::Reply { .. }) {
            return None;
        }
        let info = MessageInfo(thread.x(INFO));
        if info.extra_caps() > 0 {
            let buffer = ipc::buffer_of(self.window, thread, false);
            if let Err((cptr, failure)) = self.extra_caps(thread, info, buffer) {
                return Some(self.send_lookup_failed(core, thread, send, cptr, failure));
            }
        }
        let outcome = match cap {
            Cap::Endpoint(ep) if ep.rights.contains(CapRights::WRITE) => {
                let mode = SendMode { blocking: send.blocking, call: send.call, donate: send.donate };
                self.send_ipc(core, thread, ep, mode);
                Outcome::Passed
            }
            Cap::Notification(n) if n.rights.contains(CapRights::WRITE) => {
                self.signal(core, n.ntfn, n.badge);
                Outcome::Answer(Answer::Done)
            }
            Cap::Reply { reply, grant } => {
                self.reply_to(core, thread, *reply, *grant);
                Outcome::Answer(Answer::Done)
            }
            _ => Outcome::Failed(Fail::InvalidCapability(0)),
        };
        Some(self.finish(thread, send.call, outcome))
    }

    /// Looks up the extra capabilities; on failure which one and how.
    #[allow(clippy::type_complexity, reason = "used once")]
    fn extra_caps(
        &self,
        thread: Ptr<Tcb>,
        info: MessageInfo,
        buffer: Option<Buffer>,
    ) -> Result<[Option<Ptr<Slot>>; MSG_MAX_EXTRA_CAPS], (u64, LookupFailure)> {
        let mut extra = [None; MSG_MAX_EXTRA_CAPS];
        let Some(buffer) = buffer else { return Ok(extra) };
        for (i, slot) in extra.iter_mut().enumerate().take(info.extra_caps()) {
            let cptr = buffer.cap(i);
            *slot = Some(cspace::lookup(thread, cptr).map_err(|failure| (cptr, failure))?);
        }
        Ok(extra)
    }

    fn send_lookup_failed(
        &mut self,
        core: CoreId,
        thread: Ptr<Tcb>,
        send: Send,
        cptr: u64,
        failure: LookupFailure,
    ) -> Result<(), Preempted> {
        if send.blocking {
            self.fault(core, thread, Fault::Cap { cptr, receiving: false, failure });
        }
        Ok(())
    }

    /// Decodes and carries out an invocation of a kernel object.
    fn invoke(&mut self, inv: &Invocation, cap: &Cap, half: bool) -> Outcome {
        let barred = matches!(
            cap,
            Cap::Tcb(_) | Cap::CNode(_) | Cap::Domain | Cap::SchedControl { .. } | Cap::SchedContext { .. }
        );
        if half && barred {
            return Outcome::Failed(Fail::InvalidCapability(0));
        }
        match self.decode_and_act(inv, cap) {
            Ok(Ok(answer)) => Outcome::Answer(answer),
            Ok(Err(Preempted)) => Outcome::Preempted,
            Err(fail) => Outcome::Failed(fail),
        }
    }

    fn decode_and_act(&mut self, inv: &Invocation, cap: &Cap) -> Result<Result<Answer, Preempted>, Fail> {
        Ok(match *cap {
            Cap::Untyped(_) => {
                let op = self.decode_untyped(inv)?;
                self.invoke_untyped(inv, &op)
            }
            Cap::Tcb(tcb) => {
                let op = self.decode_tcb(inv, tcb)?;
                self.invoke_tcb(inv, tcb, op)
            }
            Cap::CNode(_) => {
                let op = self.decode_cnode(inv, cap)?;
                self.invoke_cnode(inv.core, op)
            }
            Cap::SchedControl { core } => {
                let op = self.decode_sched_control(inv, core)?;
                Ok(self.invoke_sched_control(inv.core, &op))
            }
            Cap::SchedContext { sc, .. } => {
                let op = self.decode_sc(inv, sc)?;
                Ok(self.invoke_sc(inv, sc, op))
            }
            Cap::Domain => {
                let op = self.decode_domain(inv)?;
                Ok(self.invoke_domain(inv.core, op))
            }
            Cap::IrqControl => {
                let op = self.decode_irq_control(inv)?;
                Ok(self.invoke_irq_control(inv, op))
            }
            Cap::IrqHandler { line } => {
                let op = self.decode_irq_handler(inv)?;
                Ok(self.invoke_irq_handler(line, op))
            }
            Cap::SgiSignal { irq, target } => {
                self.machine.send_sgi(irq, target);
                Ok(Answer::Done)
            }
            Cap::VSpace { root, asid } => {
                let op = self.decode_vspace(inv, root, asid)?;
                Ok(self.invoke_flush(op))
            }
            Cap::PageTable(table) => {
                let op = self.decode_page_table(inv, &table)?;
                Ok(self.invoke_page_table(inv.slot, op))
            }
            Cap::Frame(frame) => {
                let op = self.decode_frame(inv, &frame)?;
                Ok(self.invoke_frame(inv.slot, op))
            }
            Cap::AsidControl => {
                let op = self.decode_asid_control(inv)?;
                Ok(self.invoke_asid_control(op))
            }
            Cap::AsidPool { pool, base } => {
                let op = self.decode_asid_pool(inv, pool, base)?;
                Ok(self.invoke_asid_pool(pool, op))
            }
            Cap::Null | Cap::Zombie(_) => return Err(Fail::InvalidCapability(0)),
            Cap::Endpoint(_) | Cap::Notification(_) | Cap::Reply { .. } => return Err(Fail::InvalidCapability(0)),
        })
    }

    /// Writes the answer (Call only) and lets the thread go on, if it still can.
    fn finish(&mut self, thread: Ptr<Tcb>, call: bool, outcome: Outcome) -> Result<(), Preempted> {
        match outcome {
            Outcome::Preempted => return Err(Preempted),
            Outcome::Passed => return Ok(()),
            // The invocation stopped or restarted the thread itself: no answer.
            _ if !thread.runnable() => return Ok(()),
            Outcome::Answer(answer) if call => self.answer(thread, &answer),
            Outcome::Failed(fail) => {
                self.log_failure(thread, fail);
                if call {
                    self.answer_failure(thread, fail);
                }
            }
            Outcome::Answer(_) => {}
        }
        thread.set_state(State::Running);
        Ok(())
    }

    fn answer(&mut self, thread: Ptr<Tcb>, answer: &Answer) {
        let length = match answer {
            Answer::Later => return,
            Answer::One(word) => return answer_one(thread, *word),
            Answer::Done => 0,
            Answer::Registers(tcb, count) => {
                let buffer = ipc::buffer_of(self.window, thread, true);
                (0..*count).take_while(|i| ipc::set_message_word(thread, buffer, *i, tcb.register(*i))).count()
            }
        };
        thread.set_x(INFO, MessageInfo::new(0, 0, 0, length).0);
        thread.set_x(BADGE, 0);
    }

    fn answer_failure(&mut self, thread: Ptr<Tcb>, fail: Fail) {
        let (error, (words, count)) = fail.answer();
        let buffer = if count > FAST_MESSAGE_REGISTERS { ipc::buffer_of(self.window, thread, true) } else { None };
        let words = words.iter().take(count).enumerate();
        let length = words.take_while(|(i, word)| ipc::set_message_word(thread, buffer, *i, **word)).count();
        thread.set_x(INFO, MessageInfo::new(error.raw(), 0, 0, length).0);
        thread.set_x(BADGE, 0);
    }

    // -- receive --

    fn receive(&mut self, core: CoreId, thread: Ptr<Tcb>, blocking: bool, with_reply: bool) -> Result<(), Preempted> {
        let cptr = thread.x(BADGE);
        let fail = |cptr, failure| Fault::Cap { cptr, receiving: true, failure };
        let missing = LookupFailure::MissingCapability { bits_left: 0 };
        let cap = match cspace::lookup(thread, cptr) {
            Ok(slot) => slot.cap(),
            Err(failure) => {
                self.fault(core, thread, fail(cptr, failure));
                return Ok(());
            }
        };
        match cap {
            Cap::Endpoint(ep) if ep.rights.contains(CapRights::READ) => {
                let mut reply = None;
                if with_reply {
                    let cptr = thread.x(6);
                    match cspace::lookup(thread, cptr).map(|slot| slot.cap()) {
                        Ok(Cap::Reply { reply: object, .. }) => reply = Some(object),
                        Ok(_) => {
                            self.fault(core, thread, fail(cptr, missing));
                            return Ok(());
                        }
                        Err(failure) => {
                            self.fault(core, thread, fail(cptr, failure));
                            return Ok(());
                        }
                    }
                }
                self.receive_ipc(core, thread, ep.ep, blocking, reply);
            }
            Cap::Notification(n)
                if n.rights.contains(CapRights::READ) && n.ntfn.bound.get().is_none_or(|t| t == thread) =>
            {
                self.receive_signal(core, thread, n.ntfn, blocking);
            }
            _ => self.fault(core, thread, fail(cptr, missing)),
        }
        Ok(())
    }

    // -- everything else --

    /// Numbers outside the API group: debug calls, or an unknown system call.
    fn other_syscall(&mut self, core: CoreId, thread: Ptr<Tcb>, number: i64) {
        let ok = match Syscall::from_raw(number) {
            Some(Syscall::DebugSendIPI | Syscall::DebugGetThreadAffinity) if self.num_cores == 1 => false,
            Some(call) => {
                self.debug_syscall(core, thread, call);
                true
            }
            None => false,
        };
        if ok {
            return;
        }
        if !self.check_budget(core) {
            return restart(thread);
        }
        self.fault(core, thread, Fault::UnknownSyscall);
    }

    /// Type tag of the capability at `cptr` in the thread's CSpace.
    pub(crate) fn identify(&self, thread: Ptr<Tcb>, cptr: u64) -> CapTag {
        cspace::lookup(thread, cptr).map_or(CapTag::Null, |slot| slot.cap().tag())
    }
}

/// The thread will execute its system call again (unless it has been stopped).
pub(crate) fn restart(thread: Ptr<Tcb>) {
    if thread.runnable() {
        thread.set_state(State::Restart);
    }
}
