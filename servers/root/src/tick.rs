//! The supervisor's own clock: a thread that yields its whole budget, so that it runs once a period, and signals.
//!
//! The root task cannot lean on the timer server: that one may be what has to be restarted.

use crate::machine::{CNODE, Context, Failure, Machine, TCB, VSPACE};
use smi_rt::CPtr;
use smi_rt::sys::abi::{CNodeData, MessageInfo, Syscall};
use smi_rt::sys::{ObjectType, UserContext, debug, invoke};

/// Time between ticks, microseconds.
const PERIOD_US: u64 = 5_000;
/// Enough for one round.
const BUDGET_US: u64 = 100;

core::arch::global_asm!(
    ".pushsection .text.root_tick, \"ax\"",
    "root_tick:", // x20: the notification
    "mov x7, #{yield_}",
    "svc #0",
    "mov x0, x20",
    "mov x1, #{info}",
    "mov x7, #{send}",
    "svc #0",
    "b root_tick",
    ".popsection",
    yield_ = const Syscall::Yield.raw(),
    send = const Syscall::Send.raw(),
    info = const MessageInfo(0).0,
);

unsafe extern "C" {
    fn root_tick() -> !;
}

/// The thread.
pub struct Tick {
    tcb: CPtr,
    running: bool,
}

impl Tick {
    /// Makes the thread, stopped. It signals `notification`.
    pub fn new(machine: &mut Machine, notification: CPtr, priority: u8) -> Result<Tick, Failure> {
        let tcb = machine.object(ObjectType::Tcb, 0)?;
        let sched_context = machine.object(ObjectType::SchedContext, root::plan::SCHED_CONTEXT_BITS)?;
        let guard = CNodeData(0); // our own CNode capability has its guard already
        invoke::tcb_configure(tcb, CNODE, guard, VSPACE, 0, CPtr::NULL).during("configuring the tick")?;
        invoke::sched_control_configure(machine.sched_control, sched_context, BUDGET_US, PERIOD_US, 0, 0)
            .during("the tick's time")?;
        invoke::tcb_set_sched_params(tcb, TCB, priority, priority, sched_context, CPtr::NULL)
            .during("the tick's time")?;
        let context = UserContext { pc: root_tick as *const () as u64, x20: notification.0, ..UserContext::default() };
        invoke::tcb_write_registers(tcb, false, &context).during("the tick's registers")?;
        debug::name_thread(tcb, "root:tick");
        Ok(Tick { tcb, running: false })
    }

    /// Lets it tick, or not.
    pub fn set(&mut self, running: bool) {
        if running != self.running {
            self.running = running;
            // Both act on a thread of our own and have no errors (sheet §3.4).
            let _ = if running { invoke::tcb_resume(self.tcb) } else { invoke::tcb_suspend(self.tcb) };
        }
    }
}
