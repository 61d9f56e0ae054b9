//! Threads: layout, states and the invocations on a TCB capability (sheet §3.4, §6).

use core::cell::Cell;

use kernel_abi::context as order;
use kernel_abi::ext::{CounterAccess, ExtLabel};
use kernel_abi::{CNodeData, CapRights, Label};

use crate::cap::{CNodeCap, Cap, EndpointCap, Slot};
use crate::context::Context;
use crate::endpoint::Endpoint;
use crate::error::{Fail, Preempted};
use crate::machine::{CoreId, Machine, thread_flags};
use crate::mem::{Link, Ptr};
use crate::notification::Notification;
use crate::reply::Reply;
use crate::schedctx::SchedContext;
use crate::syscall::{Answer, Invocation};
use crate::{Kernel, cdt};

/// A thread control block: 2048 bytes, registers first.
#[repr(C, align(2048))]
pub struct Tcb {
    /// Saved registers, at offset 0 for the trap code.
    pub context: Context,
    pub(crate) state: Cell<u8>,
    pub(crate) priority: Cell<u8>,
    pub(crate) mcp: Cell<u8>,
    pub(crate) domain: Cell<u8>,
    /// Which scheduler queue the thread stands in: [`queued`].
    pub(crate) queued: Cell<u8>,
    /// [`crate::fault`] type of the pending fault, 0 = none.
    pub(crate) fault: Cell<u8>,
    /// [`blocked`] bits of a queued sender.
    pub(crate) blocked: Cell<u8>,
    /// A Call waits for the result of YieldTo.
    pub(crate) yield_call: Cell<u8>,
    pub(crate) core: Cell<u32>,
    pub(crate) api_flags: Cell<u32>,
    pub(crate) sc: Link<SchedContext>,
    pub(crate) bound: Link<Notification>,
    /// Receiver: the armed reply object. Caller: the one it waits on.
    pub(crate) reply: Link<Reply>,
    /// Endpoint the thread is queued on.
    pub(crate) wait_ep: Link<Endpoint>,
    /// Notification the thread is queued on.
    pub(crate) wait_ntfn: Link<Notification>,
    /// Badge of a queued sender.
    pub(crate) badge: Cell<u64>,
    pub(crate) sched_next: Link<Tcb>,
    pub(crate) sched_prev: Link<Tcb>,
    pub(crate) wait_next: Link<Tcb>,
    pub(crate) wait_prev: Link<Tcb>,
    pub(crate) yield_to: Link<SchedContext>,
    /// Virtual address of the IPC buffer, 0 = none.
    pub(crate) ipc_buffer: Cell<u64>,
    /// Words of the pending fault.
    pub(crate) fault_words: [Cell<u64>; 4],
    pub(crate) all_next: Link<Tcb>,
    pub(crate) all_prev: Link<Tcb>,
    pad: [Cell<u64>; 4],
    /// Hidden slots: [`TcbSlot`].
    slots: [Slot; TCB_SLOTS],
    /// NUL-terminated.
    name: [Cell<u8>; NAME_BYTES],
    pad2: [Cell<u64>; 2],
}

/// Number of hidden slots.
pub const TCB_SLOTS: usize = 5;
/// Offset of the hidden slots.
pub const SLOTS_OFFSET: u64 = 1024;
const NAME_BYTES: usize = kernel_abi::consts::MAX_THREAD_NAME + 1;

const _: () = {
    assert!(size_of::<Tcb>() == 1 << kernel_abi::object::TCB_BITS);
    assert!(core::mem::offset_of!(Tcb, slots) as u64 == SLOTS_OFFSET);
    assert!(core::mem::offset_of!(Tcb, context) == 0);
};

/// The hidden slots of a TCB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcbSlot {
    /// CSpace root.
    CTable = 0,
    /// VSpace root.
    VTable = 1,
    /// IPC buffer frame.
    Buffer = 2,
    /// Fault endpoint.
    Fault = 3,
    /// Timeout endpoint.
    Timeout = 4,
}

/// Thread states (sheet §6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the sheet's names")]
#[repr(u8)]
pub enum State {
    Inactive = 0,
    Running = 1,
    Restart = 2,
    BlockedOnReceive = 3,
    BlockedOnSend = 4,
    BlockedOnReply = 5,
    BlockedOnNotification = 6,
}

/// Values of `Tcb::queued`.
pub(crate) mod queued {
    pub const NO: u8 = 0;
    pub const READY: u8 = 1;
    pub const RELEASE: u8 = 2;
}

/// Bits of `Tcb::blocked`.
pub(crate) mod blocked {
    pub const CALL: u8 = 1;
    pub const GRANT: u8 = 2;
    pub const GRANT_REPLY: u8 = 4;
}

impl Tcb {
    /// The thread's state.
    #[inline]
    pub fn state(&self) -> State {
        match self.state.get() {
            1 => State::Running,
            2 => State::Restart,
            3 => State::BlockedOnReceive,
            4 => State::BlockedOnSend,
            5 => State::BlockedOnReply,
            6 => State::BlockedOnNotification,
            _ => State::Inactive,
        }
    }

    #[inline]
    pub(crate) fn set_state(&self, state: State) {
        self.state.set(state as u8);
    }

    /// Running or about to restart.
    #[inline]
    pub fn runnable(&self) -> bool {
        matches!(self.state(), State::Running | State::Restart)
    }

    /// May be chosen to run: runnable, with a configured scheduling context, not waiting for a refill.
    #[inline]
    pub fn schedulable(&self) -> bool {
        self.runnable() && self.queued.get() != queued::RELEASE && self.sc.get().is_some_and(|sc| sc.configured())
    }

    /// Current priority.
    #[inline]
    pub fn priority(&self) -> u8 {
        self.priority.get()
    }

    /// Domain.
    pub fn domain(&self) -> u8 {
        self.domain.get()
    }

    /// Register i.
    #[inline]
    pub(crate) fn x(&self, i: usize) -> u64 {
        self.context.x[i].get()
    }

    #[inline]
    pub(crate) fn set_x(&self, i: usize, value: u64) {
        self.context.x[i].set(value);
    }

    /// Reads a register by its place in the user context.
    pub(crate) fn register(&self, index: usize) -> u64 {
        self.register_cell(index).get()
    }

    fn register_cell(&self, index: usize) -> &Cell<u64> {
        match order::ORDER[index] {
            order::Reg::Pc => &self.context.fault_ip,
            order::Reg::Sp => &self.context.sp,
            order::Reg::Spsr => &self.context.spsr,
            order::Reg::X(n) => &self.context.x[n as usize],
            order::Reg::Tpidr => &self.context.tpidr,
            order::Reg::Tpidrro => &self.context.tpidrro,
        }
    }

    /// Writes a register by its place in the user context: the PC sets both PCs, SPSR is sanitised.
    pub(crate) fn set_register(&self, index: usize, value: u64) {
        match order::ORDER[index] {
            order::Reg::Pc => {
                self.context.fault_ip.set(value);
                self.context.elr.set(value);
            }
            order::Reg::Spsr => self.context.spsr.set(sanitise_spsr(value)),
            _ => self.register_cell(index).set(value),
        }
    }

    /// Calls `put` with each byte of the name.
    pub fn name(&self, put: &mut dyn FnMut(u8)) {
        for byte in self.name.iter().map(Cell::get).take_while(|b| *b != 0) {
            put(byte);
        }
    }

    /// Sets the name, cut to what fits.
    pub(crate) fn set_name(&self, bytes: impl Iterator<Item = u8>) {
        let mut len = 0;
        for byte in bytes.take(NAME_BYTES - 1) {
            self.name[len].set(byte);
            len += 1;
        }
        self.name[len].set(0);
    }
}

impl Ptr<Tcb> {
    /// One of the hidden slots.
    #[inline]
    pub fn slot(self, which: TcbSlot) -> Ptr<Slot> {
        self.at_offset::<Slot>(SLOTS_OFFSET).index(which as u64)
    }
}

/// Keeps NZCV, forces the rest to user mode.
pub(crate) fn sanitise_spsr(value: u64) -> u64 {
    (value & order::SPSR_USER_MASK) | order::SPSR_USER_BASE
}

/// What a hidden slot is to become.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Install {
    /// The derived capability; null empties the slot.
    cap: Cap,
    /// Where it was derived from.
    src: Ptr<Slot>,
}

/// A checked TCB invocation.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TcbOp {
    ReadRegisters { suspend: bool, count: usize },
    WriteRegisters { resume: bool, count: usize },
    CopyRegisters { source: Ptr<Tcb>, flags: u64 },
    SetSpace { fault: Option<Install>, cspace: Install, vspace: Install, buffer: Option<BufferOp> },
    SetBuffer(BufferOp),
    SetPriority(u8),
    SetMcp(u8),
    SetSchedParams { priority: u8, mcp: u8, sc: ScOp, fault: Install },
    SetTimeout(Install),
    Suspend,
    Resume,
    Bind(Ptr<Notification>),
    Unbind,
    SetTls(u64),
    SetFlags { clear: u64, set: u64 },
    SetCounterAccess(CounterAccess),
}

/// New IPC buffer; `install` is `None` for no buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BufferOp {
    vaddr: u64,
    install: Option<Install>,
}

/// What SetSchedParams does with the scheduling context.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ScOp {
    Keep,
    Unbind,
    Bind(Ptr<SchedContext>),
}

impl<M: Machine> Kernel<M> {
    /// A new thread in fresh, zeroed memory.
    pub(crate) fn init_tcb(&mut self, core: CoreId, tcb: Ptr<Tcb>) {
        tcb.context.spsr.set(order::SPSR_USER_BASE);
        tcb.domain.set(self.cores[core].domain as u8);
        tcb.core.set(core as u32);
        self.all_threads_add(tcb);
        if let Some(creator) = self.cores[core].current {
            let name = creator.name.iter().map(Cell::get).take_while(|b| *b != 0);
            tcb.set_name(b"child of: '".iter().copied().chain(name).chain([b'\'']));
        }
    }

    /// Adds to the list of all threads (debug output).
    pub(crate) fn all_threads_add(&mut self, tcb: Ptr<Tcb>) {
        tcb.all_prev.set(None);
        tcb.all_next.set(self.all_threads);
        if let Some(next) = self.all_threads {
            next.all_prev.set(Some(tcb));
        }
        self.all_threads = Some(tcb);
    }

    pub(crate) fn all_threads_remove(&mut self, tcb: Ptr<Tcb>) {
        match tcb.all_prev.get() {
            Some(prev) => prev.all_next.set(tcb.all_next.get()),
            None => self.all_threads = tcb.all_next.get(),
        }
        if let Some(next) = tcb.all_next.get() {
            next.all_prev.set(tcb.all_prev.get());
        }
    }

    /// Stops a thread for good: whatever it waits for is cancelled (sheet §6.1).
    pub(crate) fn suspend(&mut self, core: CoreId, tcb: Ptr<Tcb>) {
        self.stall_thread(core, tcb);
        self.cancel_ipc(tcb);
        if tcb.state() == State::Running {
            tcb.context.fault_ip.set(tcb.context.elr.get());
        }
        tcb.set_state(State::Inactive);
        self.sched_remove(tcb);
        self.drop_yield_to(tcb);
    }

    /// Lets a stopped thread run at its restart PC.
    pub(crate) fn resume(&mut self, core: CoreId, tcb: Ptr<Tcb>) {
        if tcb.runnable() {
            return;
        }
        self.cancel_ipc(tcb);
        tcb.fault.set(0);
        tcb.set_state(State::Restart);
        self.made_runnable(core, tcb);
    }

    /// Checks a TCB invocation.
    pub(crate) fn decode_tcb(&self, inv: &Invocation, tcb: Ptr<Tcb>) -> Result<TcbOp, Fail> {
        match Label::from_raw(inv.label) {
            Some(Label::TCBReadRegisters) => self.decode_read_registers(inv, tcb),
            Some(Label::TCBWriteRegisters) => self.decode_write_registers(inv, tcb),
            Some(Label::TCBCopyRegisters) => {
                inv.need(1, 1)?;
                let Cap::Tcb(source) = inv.extra_cap(0) else { return Err(Fail::InvalidCapability(1)) };
                Ok(TcbOp::CopyRegisters { source, flags: inv.mr(0) })
            }
            Some(Label::TCBConfigure) => self.decode_configure(inv, tcb),
            Some(Label::TCBSetPriority) => Ok(TcbOp::SetPriority(self.decode_priority(inv)?)),
            Some(Label::TCBSetMCPriority) => Ok(TcbOp::SetMcp(self.decode_priority(inv)?)),
            Some(Label::TCBSetSchedParams) => self.decode_sched_params(inv, tcb),
            Some(Label::TCBSetTimeoutEndpoint) => {
                inv.need(0, 1)?;
                Ok(TcbOp::SetTimeout(self.derive_handler(inv, 0)?))
            }
            Some(Label::TCBSetIPCBuffer) => {
                inv.need(1, 1)?;
                Ok(TcbOp::SetBuffer(self.derive_buffer(inv, inv.mr(0), 0)?))
            }
            Some(Label::TCBSetSpace) => {
                inv.need(2, 3)?;
                self.check_space_replaceable(tcb)?;
                let cspace = self.derive_cspace(inv, inv.mr(0), 1)?;
                let vspace = self.derive_vspace(inv, 2)?;
                let fault = self.derive_handler(inv, 0)?;
                Ok(TcbOp::SetSpace { fault: Some(fault), cspace, vspace, buffer: None })
            }
            Some(Label::TCBSuspend) => Ok(TcbOp::Suspend),
            Some(Label::TCBResume) => Ok(TcbOp::Resume),
            Some(Label::TCBBindNotification) => self.decode_bind(inv, tcb),
            Some(Label::TCBUnbindNotification) => {
                if tcb.bound.is_some() {
                    Ok(TcbOp::Unbind)
                } else {
                    Err(Fail::IllegalOperation)
                }
            }
            Some(Label::TCBSetTLSBase) => {
                inv.need(1, 0)?;
                Ok(TcbOp::SetTls(inv.mr(0)))
            }
            Some(Label::TCBSetFlags) => {
                inv.need(2, 0)?;
                Ok(TcbOp::SetFlags { clear: inv.mr(0), set: inv.mr(1) })
            }
            _ if inv.label == ExtLabel::SmiTcbSetCounterAccess.raw() => {
                inv.need(1, 0)?;
                let access = CounterAccess::from_bits(inv.mr(0)).ok_or(Fail::IllegalOperation)?;
                Ok(TcbOp::SetCounterAccess(access))
            }
            _ => Err(Fail::IllegalOperation),
        }
    }

    fn decode_read_registers(&self, inv: &Invocation, tcb: Ptr<Tcb>) -> Result<TcbOp, Fail> {
        inv.need(2, 0)?;
        let max = order::USER_CONTEXT_WORDS as u64;
        let count = inv.mr(1);
        if count < 1 || count > max {
            return Err(Fail::Range(1, max));
        }
        if tcb == inv.thread {
            return Err(Fail::IllegalOperation);
        }
        Ok(TcbOp::ReadRegisters { suspend: inv.mr(0) & 1 != 0, count: count as usize })
    }

    fn decode_write_registers(&self, inv: &Invocation, tcb: Ptr<Tcb>) -> Result<TcbOp, Fail> {
        inv.need(2, 0)?;
        let count = inv.mr(1);
        if (inv.length as u64 - 2) < count {
            return Err(Fail::Truncated);
        }
        if tcb == inv.thread {
            return Err(Fail::IllegalOperation);
        }
        let count = count.min(order::USER_CONTEXT_WORDS as u64) as usize;
        Ok(TcbOp::WriteRegisters { resume: inv.mr(0) & 1 != 0, count })
    }

    fn decode_configure(&self, inv: &Invocation, tcb: Ptr<Tcb>) -> Result<TcbOp, Fail> {
        inv.need(3, 3)?;
        let buffer = self.derive_buffer(inv, inv.mr(2), 2)?;
        self.check_space_replaceable(tcb)?;
        let cspace = self.derive_cspace(inv, inv.mr(0), 0)?;
        let vspace = self.derive_vspace(inv, 1)?;
        Ok(TcbOp::SetSpace { fault: None, cspace, vspace, buffer: Some(buffer) })
    }

    /// Priority argument MR0, bounded by the MCP of the authority TCB (extra capability 0).
    fn decode_priority(&self, inv: &Invocation) -> Result<u8, Fail> {
        inv.need(1, 1)?;
        let Cap::Tcb(authority) = inv.extra_cap(0) else { return Err(Fail::InvalidCapability(1)) };
        check_priority(inv.mr(0), authority)
    }

    fn decode_sched_params(&self, inv: &Invocation, tcb: Ptr<Tcb>) -> Result<TcbOp, Fail> {
        inv.need(2, 3)?;
        let Cap::Tcb(authority) = inv.extra_cap(0) else { return Err(Fail::InvalidCapability(1)) };
        let mcp = check_priority(inv.mr(0), authority)?;
        let priority = check_priority(inv.mr(1), authority)?;
        let sc = self.decode_sc_of(inv, tcb)?;
        let fault = self.derive_handler(inv, 2)?;
        Ok(TcbOp::SetSchedParams { priority, mcp, sc, fault })
    }

    /// The scheduling-context argument of SetSchedParams (extra capability 1).
    fn decode_sc_of(&self, inv: &Invocation, tcb: Ptr<Tcb>) -> Result<ScOp, Fail> {
        match inv.extra_cap(1) {
            Cap::SchedContext { sc, .. } => {
                if tcb.sc.is(sc) {
                    return Ok(ScOp::Keep);
                }
                let blocked = is_blocked(tcb) && !sc.released(self.now, self.min_budget);
                if tcb.sc.is_some() || sc.tcb.is_some() || blocked {
                    return Err(Fail::IllegalOperation);
                }
                Ok(ScOp::Bind(sc))
            }
            Cap::Null if tcb == inv.thread => Err(Fail::IllegalOperation),
            Cap::Null if tcb.sc.is_some() => Ok(ScOp::Unbind),
            Cap::Null => Ok(ScOp::Keep),
            _ => Err(Fail::InvalidCapability(2)),
        }
    }

    fn decode_bind(&self, inv: &Invocation, tcb: Ptr<Tcb>) -> Result<TcbOp, Fail> {
        inv.need(0, 1)?;
        if tcb.bound.is_some() {
            return Err(Fail::IllegalOperation);
        }
        let Cap::Notification(cap) = inv.extra_cap(0) else { return Err(Fail::IllegalOperation) };
        if !cap.rights.contains(CapRights::READ) || cap.ntfn.has_waiters() || cap.ntfn.bound.is_some() {
            return Err(Fail::IllegalOperation);
        }
        Ok(TcbOp::Bind(cap.ntfn))
    }

    /// Replacing the spaces must not start (or meet) a long deletion.
    fn check_space_replaceable(&self, tcb: Ptr<Tcb>) -> Result<(), Fail> {
        for which in [TcbSlot::CTable, TcbSlot::VTable] {
            let slot = tcb.slot(which);
            match slot.cap() {
                Cap::Zombie(_) => return Err(Fail::IllegalOperation),
                Cap::CNode(_) | Cap::Tcb(_) if cdt::is_final(slot) => return Err(Fail::IllegalOperation),
                _ => {}
            }
        }
        Ok(())
    }

    fn derive_cspace(&self, inv: &Invocation, data: u64, index: usize) -> Result<Install, Fail> {
        let src = inv.extra_slot(index);
        let cap = match src.cap() {
            Cap::CNode(c) if data != 0 => {
                Cap::CNode(CNodeCap::with_guard(c, CNodeData(data)).ok_or(Fail::IllegalOperation)?)
            }
            cap @ Cap::CNode(_) => cap,
            _ => return Err(Fail::IllegalOperation),
        };
        Ok(Install { cap, src })
    }

    fn derive_vspace(&self, inv: &Invocation, index: usize) -> Result<Install, Fail> {
        let src = inv.extra_slot(index);
        match src.cap() {
            cap @ Cap::VSpace { asid, .. } if asid != 0 => Ok(Install { cap, src }),
            _ => Err(Fail::IllegalOperation),
        }
    }

    fn derive_buffer(&self, inv: &Invocation, vaddr: u64, index: usize) -> Result<BufferOp, Fail> {
        if vaddr == 0 {
            return Ok(BufferOp { vaddr, install: None });
        }
        let src = inv.extra_slot(index);
        let cap = self.derive(src)?;
        match cap {
            Cap::Frame(f) if !f.device => {}
            _ => return Err(Fail::IllegalOperation),
        }
        if !vaddr.is_multiple_of(1 << kernel_abi::ipc_buffer::IPC_BUFFER_SIZE_BITS) {
            return Err(Fail::Alignment);
        }
        Ok(BufferOp { vaddr, install: Some(Install { cap, src }) })
    }

    /// A fault or timeout handler: null, or an endpoint that can be called.
    fn derive_handler(&self, inv: &Invocation, index: usize) -> Result<Install, Fail> {
        let src = inv.extra_slot(index);
        match src.cap() {
            Cap::Null => Ok(Install { cap: Cap::Null, src }),
            cap @ Cap::Endpoint(e) if is_handler(&e) => Ok(Install { cap, src }),
            _ => Err(Fail::InvalidCapability(index as u64 + 1)),
        }
    }

    /// Carries out a checked TCB invocation.
    pub(crate) fn invoke_tcb(&mut self, inv: &Invocation, tcb: Ptr<Tcb>, op: TcbOp) -> Result<Answer, Preempted> {
        let core = inv.core;
        match op {
            TcbOp::ReadRegisters { suspend, count } => return Ok(self.read_registers(inv, tcb, suspend, count)),
            TcbOp::WriteRegisters { resume, count } => self.write_registers(inv, tcb, resume, count),
            TcbOp::CopyRegisters { source, flags } => self.copy_registers(core, tcb, source, flags),
            TcbOp::SetSpace { fault, cspace, vspace, buffer } => {
                self.stall_thread(core, tcb);
                if let Some(fault) = fault {
                    self.install(tcb, TcbSlot::Fault, fault)?;
                }
                self.install(tcb, TcbSlot::CTable, cspace)?;
                self.install(tcb, TcbSlot::VTable, vspace)?;
                if let Some(buffer) = buffer {
                    self.set_buffer(tcb, buffer)?;
                }
            }
            TcbOp::SetBuffer(buffer) => {
                self.stall_thread(core, tcb);
                self.set_buffer(tcb, buffer)?;
            }
            TcbOp::SetPriority(priority) => self.set_priority(core, tcb, priority),
            TcbOp::SetMcp(mcp) => tcb.mcp.set(mcp),
            TcbOp::SetSchedParams { priority, mcp, sc, fault } => {
                self.install(tcb, TcbSlot::Fault, fault)?;
                tcb.mcp.set(mcp);
                self.set_priority(core, tcb, priority);
                self.set_sc(core, tcb, sc);
            }
            TcbOp::SetTimeout(handler) => self.install(tcb, TcbSlot::Timeout, handler)?,
            TcbOp::Suspend => self.suspend(core, tcb),
            TcbOp::Resume => self.resume(core, tcb),
            TcbOp::Bind(ntfn) => {
                ntfn.bound.set(Some(tcb));
                tcb.bound.set(Some(ntfn));
            }
            TcbOp::Unbind => self.unbind_notification(tcb),
            TcbOp::SetTls(base) => {
                self.stall_thread(core, tcb);
                tcb.context.tpidr.set(base);
            }
            TcbOp::SetFlags { clear, set } => {
                let flags = (u64::from(tcb.api_flags.get()) & !clear) | (set & order::TCB_FLAG_MASK);
                self.stall_thread(core, tcb);
                tcb.api_flags.set(flags as u32);
                self.set_context_flag(tcb, thread_flags::FPU_DISABLED, flags & order::TCB_FLAG_FPU_DISABLED != 0);
                return Ok(Answer::One(flags));
            }
            TcbOp::SetCounterAccess(access) => {
                self.stall_thread(core, tcb);
                let has = |bit| access.contains(bit);
                self.set_context_flag(tcb, thread_flags::VIRTUAL_COUNTER, has(CounterAccess::VIRTUAL_COUNTER));
                self.set_context_flag(tcb, thread_flags::PHYSICAL_TIMER, has(CounterAccess::PHYSICAL_TIMER));
            }
        }
        Ok(Answer::Done)
    }

    fn set_context_flag(&mut self, tcb: Ptr<Tcb>, flag: u64, on: bool) {
        let flags = tcb.context.flags.get();
        tcb.context.flags.set(if on { flags | flag } else { flags & !flag });
    }

    fn read_registers(&mut self, inv: &Invocation, tcb: Ptr<Tcb>, suspend: bool, count: usize) -> Answer {
        if suspend {
            self.suspend(inv.core, tcb);
        } else {
            self.stall_thread(inv.core, tcb);
        }
        Answer::Registers(tcb, count)
    }

    fn write_registers(&mut self, inv: &Invocation, tcb: Ptr<Tcb>, resume: bool, count: usize) {
        self.stall_thread(inv.core, tcb);
        for i in 0..count {
            tcb.set_register(i, inv.mr(2 + i));
        }
        if resume {
            self.resume(inv.core, tcb);
        }
    }

    fn copy_registers(&mut self, core: CoreId, tcb: Ptr<Tcb>, source: Ptr<Tcb>, flags: u64) {
        let [suspend_source, resume_target, frame, integer] = [1, 2, 4, 8].map(|bit| flags & bit != 0);
        if suspend_source {
            self.suspend(core, source);
        } else {
            self.stall_thread(core, source);
        }
        if resume_target {
            self.resume(core, tcb);
        }
        self.stall_thread(core, tcb);
        if frame {
            for i in 0..order::FRAME_REGISTERS {
                tcb.set_register(i, source.register(i));
            }
        }
        if integer {
            for i in order::FRAME_REGISTERS..order::USER_CONTEXT_WORDS {
                tcb.set_register(i, source.register(i));
            }
        }
    }

    /// Replaces a hidden slot's capability.
    fn install(&mut self, tcb: Ptr<Tcb>, which: TcbSlot, new: Install) -> Result<(), Preempted> {
        let slot = tcb.slot(which);
        self.delete(slot)?;
        if !new.cap.is_null() {
            cdt::insert_derived(new.cap, new.src, slot);
        }
        Ok(())
    }

    fn set_buffer(&mut self, tcb: Ptr<Tcb>, buffer: BufferOp) -> Result<(), Preempted> {
        self.delete(tcb.slot(TcbSlot::Buffer))?;
        tcb.ipc_buffer.set(buffer.vaddr);
        match buffer.install {
            Some(new) => self.install(tcb, TcbSlot::Buffer, new),
            None => Ok(()),
        }
    }

    fn set_sc(&mut self, core: CoreId, tcb: Ptr<Tcb>, op: ScOp) {
        match op {
            ScOp::Keep => {}
            ScOp::Unbind => {
                if let Some(sc) = tcb.sc.get() {
                    self.sc_unbind_tcb(core, sc);
                }
            }
            ScOp::Bind(sc) => self.sc_bind_tcb(core, sc, tcb),
        }
    }

    /// Breaks the bond between a thread and its notification, if there is one.
    pub(crate) fn unbind_notification(&mut self, tcb: Ptr<Tcb>) {
        if let Some(ntfn) = tcb.bound.take() {
            ntfn.bound.set(None);
        }
    }

    /// Changes the priority; queues are kept in order (sheet §6.4).
    pub(crate) fn set_priority(&mut self, core: CoreId, tcb: Ptr<Tcb>, priority: u8) {
        let was_ready = tcb.queued.get() == queued::READY;
        if was_ready {
            self.ready_remove(tcb);
        }
        tcb.priority.set(priority);
        if was_ready {
            self.ready_push_head(tcb);
        }
        if was_ready || self.cores[tcb.core.get() as usize].current == Some(tcb) {
            self.reschedule(core, tcb.core.get() as usize);
        }
        match tcb.state() {
            State::BlockedOnReceive | State::BlockedOnSend => self.endpoint_reorder(tcb),
            State::BlockedOnNotification => self.notification_reorder(tcb),
            _ => {}
        }
    }
}

/// Whether an endpoint capability can be a fault handler.
pub(crate) fn is_handler(cap: &EndpointCap) -> bool {
    cap.rights.contains(CapRights::WRITE) && cap.rights.intersects(CapRights::GRANT | CapRights::GRANT_REPLY)
}

/// Whether a thread waits for something (and is not merely inactive).
pub(crate) fn is_blocked(tcb: Ptr<Tcb>) -> bool {
    matches!(
        tcb.state(),
        State::BlockedOnReceive | State::BlockedOnSend | State::BlockedOnReply | State::BlockedOnNotification
    )
}

fn check_priority(priority: u64, authority: Ptr<Tcb>) -> Result<u8, Fail> {
    let mcp = authority.mcp.get();
    match u8::try_from(priority) {
        Ok(p) if p <= mcp => Ok(p),
        _ => Err(Fail::Range(0, u64::from(mcp))),
    }
}
