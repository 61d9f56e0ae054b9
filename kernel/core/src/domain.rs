//! Domains: a fixed time table of disjoint sets of threads (sheet §3.7, §8.8).

use kernel_abi::Label;
use kernel_abi::sched::{DOMAIN_DURATION_BITS, MAX_DOMAINS};

use crate::Kernel;
use crate::cap::Cap;
use crate::error::Fail;
use crate::machine::{CoreId, Machine};
use crate::mem::Ptr;
use crate::syscall::{Answer, Invocation};
use crate::tcb::{Tcb, queued};

/// Entries of the schedule when there are several domains, and when there is one.
pub(crate) const SCHEDULE_ENTRIES: usize = 100;
const SCHEDULE_ENTRIES_ONE: usize = 2;

/// An entry of the domain schedule; (0, 0) marks the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub domain: u8,
    /// Ticks.
    pub duration: u64,
}

impl Entry {
    pub const END: Self = Self { domain: 0, duration: 0 };
    /// What runs after boot: domain 0, as long as can be said.
    pub const BOOT: Self = Self { domain: 0, duration: (1 << DOMAIN_DURATION_BITS) - 1 };
}

const _: () = assert!(MAX_DOMAINS <= u8::MAX as usize);

/// A checked invocation of the domain capability.
#[derive(Clone, Copy, Debug)]
pub(crate) enum DomainOp {
    Set { tcb: Ptr<Tcb>, domain: u8 },
    Configure { index: usize, entry: Entry },
    SetStart(usize),
}

impl<M: Machine> Kernel<M> {
    fn schedule_len(&self) -> u64 {
        (if self.num_domains > 1 { SCHEDULE_ENTRIES } else { SCHEDULE_ENTRIES_ONE }) as u64
    }

    /// Checks an invocation of the domain capability.
    pub(crate) fn decode_domain(&self, inv: &Invocation) -> Result<DomainOp, Fail> {
        let domains = self.num_domains as u64;
        match Label::from_raw(inv.label) {
            Some(Label::DomainSetSet) => {
                inv.need(1, 0)?;
                let domain = inv.mr(0);
                if domain >= domains {
                    return Err(Fail::InvalidArgument(0));
                }
                inv.need(1, 1)?;
                let Cap::Tcb(tcb) = inv.extra_cap(0) else { return Err(Fail::InvalidArgument(1)) };
                Ok(DomainOp::Set { tcb, domain: domain as u8 })
            }
            Some(Label::DomainScheduleConfigure) => {
                inv.need(3, 0)?;
                let [index, domain, duration] = [0, 1, 2].map(|i| inv.mr(i));
                if index >= self.schedule_len() - 1 {
                    return Err(Fail::Range(0, self.schedule_len() - 2));
                }
                if domain >= domains {
                    return Err(Fail::Range(0, domains - 1));
                }
                if duration >> DOMAIN_DURATION_BITS != 0 {
                    return Err(Fail::InvalidArgument(2));
                }
                if duration == 0 && domain != 0 {
                    return Err(Fail::InvalidArgument(1));
                }
                if duration == 0 && index as usize == self.domain_start {
                    return Err(Fail::InvalidArgument(2));
                }
                Ok(DomainOp::Configure { index: index as usize, entry: Entry { domain: domain as u8, duration } })
            }
            Some(Label::DomainScheduleSetStart) => {
                inv.need(1, 0)?;
                let index = inv.mr(0);
                if index >= self.schedule_len() {
                    return Err(Fail::Range(0, self.schedule_len() - 1));
                }
                if self.domain_schedule[index as usize] == Entry::END {
                    return Err(Fail::InvalidArgument(0));
                }
                Ok(DomainOp::SetStart(index as usize))
            }
            _ => Err(Fail::IllegalOperation),
        }
    }

    /// Carries out a checked invocation of the domain capability.
    pub(crate) fn invoke_domain(&mut self, core: CoreId, op: DomainOp) -> Answer {
        match op {
            DomainOp::Set { tcb, domain } => self.set_domain(core, tcb, domain),
            DomainOp::Configure { index, entry } => self.domain_schedule[index] = entry,
            DomainOp::SetStart(index) => {
                self.domain_start = index;
                for c in 0..self.num_cores {
                    self.enter_domain(c, index);
                    self.reschedule(core, c);
                }
            }
        }
        Answer::Done
    }

    fn set_domain(&mut self, core: CoreId, tcb: Ptr<Tcb>, domain: u8) {
        self.stall_thread(core, tcb);
        let was_ready = tcb.queued.get() == queued::READY;
        self.ready_remove(tcb);
        tcb.domain.set(domain);
        if was_ready {
            self.ready_push_head(tcb);
        }
        self.reschedule(core, tcb.core.get() as usize);
    }

    fn enter_domain(&mut self, core: CoreId, index: usize) {
        let entry = self.domain_schedule[index];
        let c = &mut self.cores[core];
        c.domain_index = index;
        c.domain = usize::from(entry.domain);
        c.domain_time = entry.duration;
    }

    /// At kernel exit: goes on to the next entry when the current domain's time is over.
    pub(crate) fn next_domain_if_over(&mut self, core: CoreId) {
        if self.num_domains == 1 || self.cores[core].domain_time != 0 {
            return;
        }
        let next = self.cores[core].domain_index + 1;
        let wraps = next >= SCHEDULE_ENTRIES || self.domain_schedule[next] == Entry::END;
        self.enter_domain(core, if wraps { self.domain_start } else { next });
        self.reschedule(core, core);
    }
}
