//! Interrupts: issuing handlers, delivering to notifications (sheet §3.8, §10).
//!
//! A *line* is an index into the interrupt table: 32 private lines (SGI, PPI) for each core, then the shared ones. With one core a
//! line is the GIC's INTID. Each line has a slot for the notification capability and a state word.

use kernel_abi::consts::NUM_SGIS;
use kernel_abi::{CapRights, Label};

use crate::cap::{Cap, Slot};
use crate::cdt::Marks;
use crate::error::Fail;
use crate::machine::{CoreId, Machine};
use crate::mem::Ptr;
use crate::syscall::{Answer, Invocation};
use crate::{Kernel, cdt};

/// Private interrupts of a core.
const PRIVATE: u32 = 32;

/// States of a line.
mod state {
    pub const FREE: u64 = 0;
    pub const ISSUED: u64 = 1;
    /// The kernel's own.
    pub const RESERVED: u64 = 2;
}

/// A checked IRQControl invocation.
#[derive(Clone, Copy, Debug)]
pub(crate) enum IrqControlOp {
    Handler { line: u32, edge: Option<bool>, dest: Ptr<Slot> },
    Sgi { irq: u32, target: u32, dest: Ptr<Slot> },
}

/// A checked IRQHandler invocation.
#[derive(Clone, Copy, Debug)]
pub(crate) enum IrqHandlerOp {
    Ack,
    Set(Ptr<Slot>),
    Clear,
}

impl<M: Machine> Kernel<M> {
    /// Number of lines.
    pub(crate) const fn irq_lines(num_cores: usize, max_irq: u32) -> u64 {
        num_cores as u64 * PRIVATE as u64 + (max_irq + 1 - PRIVATE) as u64
    }

    fn irq_line(&self, core: CoreId, irq: u32) -> u32 {
        if irq < PRIVATE { core as u32 * PRIVATE + irq } else { (self.num_cores as u32 - 1) * PRIVATE + irq }
    }

    /// Core and INTID of a line. Shared lines are served by core 0.
    fn irq_of(&self, line: u32) -> (CoreId, u32) {
        let private = self.num_cores as u32 * PRIVATE;
        if line < private {
            ((line / PRIVATE) as usize, line % PRIVATE)
        } else {
            (0, line - (self.num_cores as u32 - 1) * PRIVATE)
        }
    }

    fn irq_slot(&self, line: u32) -> Option<Ptr<Slot>> {
        self.irq_slots.map(|s| s.index(u64::from(line)))
    }

    fn irq_state(&self, line: u32) -> u64 {
        self.irq_states.map_or(state::RESERVED, |s| s.index(u64::from(line)).0.get())
    }

    fn set_irq_state(&mut self, line: u32, to: u64) {
        if let Some(states) = self.irq_states {
            states.index(u64::from(line)).0.set(to);
        }
    }

    /// Marks the kernel's own interrupts (boot).
    pub(crate) fn irq_reserve(&mut self) {
        for core in 0..self.num_cores {
            self.set_irq_state(self.irq_line(core, self.timer_irq), state::RESERVED);
            if self.num_cores > 1 {
                // Software-generated interrupts carry the kernel's messages between cores.
                for sgi in 0..NUM_SGIS as u32 {
                    self.set_irq_state(self.irq_line(core, sgi), state::RESERVED);
                }
            }
        }
    }

    /// Checks an IRQControl invocation.
    pub(crate) fn decode_irq_control(&self, inv: &Invocation) -> Result<IrqControlOp, Fail> {
        match Label::from_raw(inv.label) {
            Some(Label::IRQIssueIRQHandler) => {
                inv.need(3, 1)?;
                self.decode_get(inv, None, 1)
            }
            Some(Label::ARMIRQIssueIRQHandlerTrigger) => {
                inv.need(4, 1)?;
                self.decode_get(inv, Some(inv.mr(1) != 0), 2)
            }
            Some(Label::ARMIRQIssueSGISignal) if self.num_cores > 1 => self.decode_get_core(inv),
            Some(Label::ARMIRQIssueSGISignal) => {
                inv.need(4, 1)?;
                let (irq, target) = (inv.mr(0), inv.mr(1));
                if irq >= NUM_SGIS {
                    return Err(Fail::Range(0, NUM_SGIS - 1));
                }
                if target >= u64::from(self.sgi_targets) {
                    return Err(Fail::InvalidArgument(1));
                }
                let dest = self.issue_target(&inv.extra_cap(0), inv.mr(2), inv.mr(3))?;
                Ok(IrqControlOp::Sgi { irq: irq as u32, target: target as u32, dest })
            }
            _ => Err(Fail::IllegalOperation),
        }
    }

    fn check_irq(&self, irq: u64) -> Result<u32, Fail> {
        let max = u64::from(self.max_irq);
        if irq > max { Err(Fail::Range(0, max)) } else { Ok(irq as u32) }
    }

    /// Get and GetTrigger; the slot's index and depth are message registers `at` and `at + 1`.
    fn decode_get(&self, inv: &Invocation, edge: Option<bool>, at: usize) -> Result<IrqControlOp, Fail> {
        let irq = self.check_irq(inv.mr(0))?;
        if self.num_cores > 1 && irq < PRIVATE {
            return Err(Fail::IllegalOperation);
        }
        self.decode_line(inv, self.irq_line(0, irq), edge, at)
    }

    /// GetTriggerCore.
    fn decode_get_core(&self, inv: &Invocation) -> Result<IrqControlOp, Fail> {
        inv.need(5, 1)?;
        let irq = self.check_irq(inv.mr(0))?;
        let target = inv.mr(4);
        if target >= self.num_cores as u64 {
            return Err(Fail::InvalidArgument(4));
        }
        self.decode_line(inv, self.irq_line(target as usize, irq), Some(inv.mr(1) != 0), 2)
    }

    fn decode_line(&self, inv: &Invocation, line: u32, edge: Option<bool>, at: usize) -> Result<IrqControlOp, Fail> {
        if self.irq_state(line) != state::FREE {
            return Err(Fail::RevokeFirst);
        }
        let dest = self.issue_target(&inv.extra_cap(0), inv.mr(at), inv.mr(at + 1))?;
        Ok(IrqControlOp::Handler { line, edge, dest })
    }

    /// Issues a handler or signal capability.
    pub(crate) fn invoke_irq_control(&mut self, inv: &Invocation, op: IrqControlOp) -> Answer {
        let (cap, dest) = match op {
            IrqControlOp::Handler { line, edge, dest } => {
                let (core, irq) = self.irq_of(line);
                if let Some(edge) = edge {
                    self.machine.irq_set_trigger(core, irq, edge);
                }
                self.set_irq_state(line, state::ISSUED);
                self.machine.irq_enable(core, irq);
                (Cap::IrqHandler { line }, dest)
            }
            IrqControlOp::Sgi { irq, target, dest } => (Cap::SgiSignal { irq, target }, dest),
        };
        cdt::insert_after(inv.slot, dest, cap, Marks::ORIGINAL);
        Answer::Done
    }

    /// Checks an IRQHandler invocation.
    pub(crate) fn decode_irq_handler(&self, inv: &Invocation) -> Result<IrqHandlerOp, Fail> {
        match Label::from_raw(inv.label) {
            Some(Label::IRQAckIRQ) => Ok(IrqHandlerOp::Ack),
            Some(Label::IRQClearIRQHandler) => Ok(IrqHandlerOp::Clear),
            Some(Label::IRQSetIRQHandler) => {
                inv.need(0, 1)?;
                match inv.extra_cap(0) {
                    Cap::Notification(n) if n.rights.contains(CapRights::WRITE) => {
                        Ok(IrqHandlerOp::Set(inv.extra_slot(0)))
                    }
                    _ => Err(Fail::InvalidCapability(0)),
                }
            }
            _ => Err(Fail::IllegalOperation),
        }
    }

    /// Carries out a checked IRQHandler invocation.
    pub(crate) fn invoke_irq_handler(&mut self, line: u32, op: IrqHandlerOp) -> Answer {
        match op {
            IrqHandlerOp::Ack => {
                let (core, irq) = self.irq_of(line);
                self.machine.irq_ack(core, irq);
            }
            IrqHandlerOp::Set(src) => {
                if let Some(slot) = self.irq_slot(line) {
                    let cap = src.cap();
                    if slot != src {
                        self.delete_step(slot);
                        cdt::insert_derived(cap, src, slot);
                    }
                }
            }
            IrqHandlerOp::Clear => {
                if let Some(slot) = self.irq_slot(line) {
                    self.delete_step(slot);
                }
            }
        }
        Answer::Done
    }

    /// The last handler capability is gone: the line is free and masked.
    pub(crate) fn irq_release(&mut self, line: u32) {
        if let Some(slot) = self.irq_slot(line) {
            self.delete_step(slot);
        }
        self.set_irq_state(line, state::FREE);
        let (core, irq) = self.irq_of(line);
        self.machine.irq_disable(core, irq);
    }

    /// An interrupt for user land.
    pub(crate) fn irq_deliver(&mut self, core: CoreId, irq: u32) {
        self.machine.irq_hold(core, irq);
        if irq > self.max_irq {
            return;
        }
        let line = self.irq_line(core, irq);
        match self.irq_slot(line).map(|slot| slot.cap()) {
            Some(Cap::Notification(n)) if self.irq_state(line) == state::ISSUED => self.signal(core, n.ntfn, n.badge),
            _ => self.log_stray_irq(irq),
        }
    }
}
