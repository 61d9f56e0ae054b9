//! Deletion, revocation and the destruction of objects (sheet §5.5).
//!
//! Deleting the last capability to a *container* (CNode, TCB) means deleting what its slots hold, which may be containers in
//! turn, to any depth. There is no recursion and no stack for that:
//!
//! * The deleted slot becomes a **zombie** that counts down the container's slots, last to first.
//! * A container found inside becomes a zombie, too, and **floats**: its zombie changes places with whatever is in its own first slot,
//!   and joins the *graveyard*, a list threaded through such zombies. The slot it was found in now holds an ordinary
//!   capability and the countdown goes on. A floating container is unreachable for user land.
//! * A zombie whose count is 0 stays until the graveyard is empty, then its slot is emptied: so a finished deletion means that
//!   everything below is gone, and a restarted one goes on where it was.
//!
//! Each step is a bounded piece of work with a preemption point behind it. A floating zombie is in the derivation list like
//! any capability: revoking the untyped memory under it meets it there and works the graveyard off until it is gone.

use crate::cap::{Cap, Slot, ZombieCap, ZombieKind};
use crate::error::Preempted;
use crate::machine::Machine;
use crate::mem::Ptr;
use crate::tcb::{Tcb, TcbSlot};
use crate::{Kernel, cdt};

impl<M: Machine> Kernel<M> {
    /// Deletes all descendants of a slot.
    pub(crate) fn revoke(&mut self, slot: Ptr<Slot>) -> Result<(), Preempted> {
        while let Some(child) = slot.next().filter(|next| cdt::is_child(self.window, slot, *next)) {
            self.delete(child)?;
            self.preemption_point(1)?;
        }
        Ok(())
    }

    /// Empties a slot; the last capability to an object takes the object with it.
    pub(crate) fn delete(&mut self, slot: Ptr<Slot>) -> Result<(), Preempted> {
        while self.drain_step(slot) {
            self.preemption_point(1)?;
        }
        self.delete_step(slot);
        while let Cap::Zombie(zombie) = slot.cap() {
            if zombie.floating || (zombie.remaining == 0 && self.graveyard.is_some()) {
                self.reap_step();
            } else if zombie.remaining == 0 {
                cdt::remove(slot);
            } else {
                self.zombie_step(slot, zombie);
            }
            self.preemption_point(1)?;
        }
        Ok(())
    }

    /// Sends off one thread that waits on an object whose last capability is to be deleted. False: nobody waits (any more).
    fn drain_step(&mut self, slot: Ptr<Slot>) -> bool {
        let waiter = match slot.cap() {
            Cap::Endpoint(e) => e.ep.queue().head,
            Cap::Notification(n) => n.ntfn.queue().head,
            _ => None,
        };
        match waiter {
            Some(tcb) if cdt::is_final(slot) => {
                self.restart_waiter(self.this_core, tcb);
                true
            }
            _ => false,
        }
    }

    /// Deletes a capability that is no zombie, or turns it into one. All there is to do for anything but containers.
    pub(crate) fn delete_step(&mut self, slot: Ptr<Slot>) {
        let cap = slot.cap();
        if matches!(cap, Cap::Null | Cap::Zombie(_)) {
            return;
        }
        let last = cdt::is_final(slot);
        let container = match cap {
            Cap::CNode(node) if last => Some((node.slots, ZombieKind::CNode(node.radix))),
            Cap::Tcb(tcb) if last => {
                self.tcb_destroy(tcb);
                Some((tcb.slot(TcbSlot::CTable), ZombieKind::Tcb))
            }
            _ => None,
        };
        match container {
            Some((slots, kind)) => {
                slot.set_cap(Cap::Zombie(ZombieCap {
                    slots,
                    kind,
                    remaining: kind.len(),
                    floating: false,
                    next: None,
                }));
            }
            None => {
                self.finalise(&cap, last);
                cdt::remove(slot);
            }
        }
    }

    /// One step of a container's countdown; `holder` is the slot that holds its zombie.
    fn zombie_step(&mut self, holder: Ptr<Slot>, zombie: ZombieCap) {
        let victim = zombie.slots.index(zombie.remaining - 1);
        if victim != holder {
            match victim.cap() {
                Cap::Null => {}
                Cap::Zombie(inner) if inner.remaining == 0 => cdt::remove(victim),
                Cap::Zombie(inner) => return self.float(victim, inner),
                _ if self.drain_step(victim) => return,
                _ => return self.delete_step(victim),
            }
        }
        holder.set_cap(Cap::Zombie(ZombieCap { remaining: zombie.remaining - 1, ..zombie }));
    }

    /// Moves a zombie into its own container and onto the graveyard; what was there takes its place.
    fn float(&mut self, slot: Ptr<Slot>, zombie: ZombieCap) {
        let first = zombie.slots;
        let floating = ZombieCap { floating: true, next: self.graveyard, ..zombie };
        cdt::swap(Cap::Zombie(floating), slot, first.cap(), first);
        self.graveyard = Some(first);
    }

    /// One step of work on the graveyard.
    fn reap_step(&mut self) {
        let Some(holder) = self.graveyard else { return };
        match holder.cap() {
            Cap::Zombie(zombie) if zombie.remaining > 0 => self.zombie_step(holder, zombie),
            Cap::Zombie(zombie) => {
                self.graveyard = zombie.next;
                cdt::remove(holder);
            }
            _ => self.graveyard = None,
        }
    }

    /// The effects of deleting one capability; `last` if its object goes with it. Containers are handled by zombies.
    fn finalise(&mut self, cap: &Cap, last: bool) {
        let core = self.this_core;
        match *cap {
            Cap::Frame(frame) => self.unmap_frame(&frame),
            Cap::Endpoint(e) if last => self.cancel_all_ipc(core, e.ep),
            Cap::Notification(n) if last => {
                if let Some(tcb) = n.ntfn.bound.get() {
                    self.unbind_notification(tcb);
                }
                if let Some(sc) = n.ntfn.sc.get() {
                    self.sc_unbind_notification(sc);
                }
                self.cancel_all_signals(core, n.ntfn);
            }
            Cap::Reply { reply, .. } if last => self.reply_destroy(core, reply),
            Cap::SchedContext { sc, .. } if last => self.sc_destroy(core, sc),
            Cap::PageTable(table) if last => self.unmap_table(&table),
            Cap::VSpace { root, asid } if last => self.asid_delete(asid, root),
            Cap::AsidPool { pool, base } if last => self.asid_pool_delete(base, pool),
            Cap::IrqHandler { line } if last => self.irq_release(line),
            _ => {}
        }
    }

    /// Ends a thread; its slots are left to the zombie.
    fn tcb_destroy(&mut self, tcb: Ptr<Tcb>) {
        let core = self.this_core;
        self.unbind_notification(tcb);
        self.suspend(core, tcb);
        if let Some(sc) = tcb.sc.get() {
            self.complete_yield_of(sc);
            self.sc_detach(core, sc);
        }
        self.machine.fpu_release(tcb.context().as_ptr());
        self.all_threads_remove(tcb);
    }

    /// After `units` of work: every hundred units asks whether something more urgent waits.
    pub(crate) fn preemption_point(&mut self, units: u32) -> Result<(), Preempted> {
        let core = self.this_core;
        let c = &mut self.cores[core];
        c.work += units;
        if c.work < kernel_abi::consts::WORK_UNITS_PER_PREEMPTION {
            return Ok(());
        }
        c.work = 0;
        self.now = self.now.max(self.machine.now());
        self.account(core);
        let c = &self.cores[core];
        let spent = c.cur_sc.is_some_and(|sc| sc.configured() && !sc.sufficient(c.consumed, self.min_budget));
        if spent || self.machine.irq_pending(core) { Err(Preempted) } else { Ok(()) }
    }
}
