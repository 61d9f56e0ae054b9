//! Debug system calls and the kernel's own console lines (sheet §12).

use core::fmt::Write;

use kernel_abi::consts::MAX_THREAD_NAME;
use kernel_abi::{FaultType, Syscall};

use crate::cap::Cap;
use crate::error::Fail;
use crate::ipc;
use crate::machine::{CoreId, Machine};
use crate::mem::Ptr;
use crate::tcb::{Tcb, queued};
use crate::{Kernel, cspace};

/// Bytes of the IPC buffer's message area.
const MESSAGE_BYTES: usize = 8 * kernel_abi::message::MSG_MAX_LENGTH;

/// The console as a formatter.
pub struct Console<'a, M>(pub &'a mut M);

impl<M: Machine> Write for Console<'_, M> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        text.bytes().for_each(|b| self.0.putc(b));
        Ok(())
    }
}

/// Prints to the kernel's console. Console output cannot fail.
macro_rules! print {
    ($kernel:expr, $($arg:tt)*) => {{
        use core::fmt::Write as _;
        let _ = write!($crate::debug::Console(&mut $kernel.machine), $($arg)*);
    }};
}
pub(crate) use print;

impl<M: Machine> Kernel<M> {
    /// Carries out a debug call.
    pub(crate) fn debug_syscall(&mut self, core: CoreId, thread: Ptr<Tcb>, call: Syscall) {
        match call {
            Syscall::DebugPutChar => self.machine.putc(thread.x(0) as u8),
            Syscall::DebugDumpScheduler => self.dump_threads(),
            Syscall::DebugHalt => self.halt(core, "DebugHalt"),
            Syscall::DebugSnapshot => self.snapshot(),
            Syscall::DebugCapIdentify => thread.set_x(0, self.identify(thread, thread.x(0)).raw()),
            Syscall::DebugNameThread => self.name_thread(core, thread),
            Syscall::DebugSendIPI => self.machine.send_sgi(thread.x(1) as u32, thread.x(0) as u32),
            Syscall::DebugGetThreadAffinity => match self.tcb_argument(thread) {
                Some(tcb) => thread.set_x(0, u64::from(tcb.core.get())),
                None => self.halt(core, "DebugGetThreadAffinity: not a TCB"),
            },
            _ => {}
        }
    }

    fn tcb_argument(&self, thread: Ptr<Tcb>) -> Option<Ptr<Tcb>> {
        match cspace::lookup(thread, thread.x(0)).ok()?.cap() {
            Cap::Tcb(tcb) => Some(tcb),
            _ => None,
        }
    }

    fn name_thread(&mut self, core: CoreId, thread: Ptr<Tcb>) {
        let Some(tcb) = self.tcb_argument(thread) else {
            return self.halt(core, "DebugNameThread: not a TCB");
        };
        let Some(buffer) = ipc::buffer_of(self.window, thread, false) else {
            return self.halt(core, "DebugNameThread: no IPC buffer");
        };
        let Some(len) = (0..MESSAGE_BYTES).find(|i| buffer.msg_byte(*i) == 0) else {
            return self.halt(core, "DebugNameThread: name is not terminated");
        };
        tcb.set_name((0..len.min(MAX_THREAD_NAME)).map(|i| buffer.msg_byte(i)));
    }

    fn halt(&mut self, core: CoreId, why: &str) {
        print!(self, "{why}: user thread ");
        if let Some(thread) = self.cores[core].current {
            self.print_name(thread);
        }
        print!(self, "\n");
        self.machine.halt();
    }

    fn print_name(&mut self, tcb: Ptr<Tcb>) {
        let machine = &mut self.machine;
        tcb.name(&mut |b| machine.putc(b));
    }

    /// One line per thread.
    fn dump_threads(&mut self) {
        print!(self, "name state ip prio core queue\n");
        let mut next = self.all_threads;
        while let Some(tcb) = next {
            next = tcb.all_next.get();
            self.print_name(tcb);
            let queue = match tcb.queued.get() {
                queued::READY => "ready",
                queued::RELEASE => "release",
                _ => "-",
            };
            let ip = tcb.context.fault_ip.get();
            print!(self, " {:?} {ip:#x} {} {} {queue}\n", tcb.state(), tcb.priority(), tcb.core.get());
        }
    }

    /// What each thread is made of.
    fn snapshot(&mut self) {
        let mut next = self.all_threads;
        while let Some(tcb) = next {
            next = tcb.all_next.get();
            self.print_name(tcb);
            use crate::tcb::TcbSlot;
            print!(self, " = tcb {tcb:?}\n");
            for which in [TcbSlot::CTable, TcbSlot::VTable, TcbSlot::Buffer, TcbSlot::Fault, TcbSlot::Timeout] {
                let cap = tcb.slot(which).cap();
                print!(self, "  {which:?}: {cap:?}\n");
            }
            if let Some(sc) = tcb.sc.get() {
                let (budget, period) = (sc.budget.get(), sc.period.get());
                print!(self, "  sc {sc:?}: budget {budget} period {period} ticks\n");
            }
        }
    }

    /// A thread faulted and nobody handles it.
    pub(crate) fn log_unhandled(&mut self, thread: Ptr<Tcb>, kind: FaultType) {
        print!(self, "kernel: unhandled {kind:?} of thread \"");
        self.print_name(thread);
        let context = &thread.context;
        print!(self, "\": pc {:#x} sp {:#x} x30 {:#x}", context.fault_ip.get(), context.sp.get(), thread.x(30));
        let [a, b, c, _] = [0, 1, 2, 3].map(|i| thread.fault_words[i].get());
        print!(self, " details {a:#x} {b:#x} {c:#x}\n");
    }

    /// An interrupt came that nobody has a notification for.
    pub(crate) fn log_stray_irq(&mut self, irq: u32) {
        print!(self, "kernel: interrupt {irq} without a handler\n");
    }

    /// An invocation was refused (only with `verbose`).
    pub(crate) fn log_failure(&mut self, thread: Ptr<Tcb>, fail: Fail) {
        if !self.verbose {
            return;
        }
        print!(self, "kernel: invocation by \"");
        self.print_name(thread);
        let (cptr, info) = (thread.x(ipc::BADGE), kernel_abi::MessageInfo(thread.x(ipc::INFO)));
        print!(self, "\" at {:#x}: cap {cptr:#x} label {}: {fail:?}\n", thread.context.fault_ip.get(), info.label());
    }
}
