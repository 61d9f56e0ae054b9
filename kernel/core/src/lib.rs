//! The kernel's object model: capabilities, threads, IPC, scheduling, address spaces; host-testable.
//!
//! One file per kernel object. Each invocation is *decoded* (`decode_*`: only looks, may refuse) into a small operation, and
//! then *acted* on (`invoke_*`: cannot fail; long ones can be preempted with their progress kept). All raw memory access is in
//! [`mem`]; what the machine must do is in [`machine`].
//!
//! # How the machine layer uses it
//!
//! One [`Kernel`] for all cores, in a static, behind one lock. Per core:
//!
//! 1. Core 0: [`Kernel::new`], then [`Kernel::boot`]; other cores: [`Kernel::start_core`].
//! 2. [`Kernel::current`] names the context to run: restore it and `eret`; `None`: wait for an interrupt without the lock.
//! 3. On a trap from user mode save the registers into that same context (`fault_ip` as told there), take the lock, call
//!    exactly one of [`Kernel::handle_syscall`], [`Kernel::handle_user_fault`], [`Kernel::handle_interrupt`],
//!    [`Kernel::handle_reschedule`]; each ends with scheduling. Go to 2. From the idle wait only the last two are called.
//!
//! The kernel's timer interrupt goes to [`Kernel::handle_interrupt`] like any other; the machine layer ends it at the
//! controller itself (no [`Machine::irq_hold`] is called for it).
//!
//! # Known limits
//!
//! * Entering an endpoint's, notification's or release queue walks over the waiting threads behind the place (sheet §7.1: queues are
//!   ordered); CancelBadgedSends looks at every queued sender. The number of threads bounds both, no preemption point does.
//! * Cache maintenance of a large or huge page and the end of an ASID pool (512 TLB flushes) are one step.
//! * A CSpace root that only its thread still holds is not replaced (IllegalOperation): the replacement would be a long deletion.
//! * A thread that suspends itself executes its Suspend again when it is resumed, as the system call was not finished.
//! * With several cores shared interrupts are served by core 0, and software-generated interrupts belong to the kernel.
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]
#![allow(rustdoc::private_intra_doc_links, reason = "the docs are read by those who build the kernel")]

#[cfg(feature = "audit")]
extern crate alloc;

pub mod asid;
#[cfg(feature = "audit")]
mod audit;
pub mod boot;
pub mod cap;
pub mod cdt;
mod cnode;
pub mod context;
pub mod cspace;
pub mod debug;
mod delete;
mod domain;
pub mod endpoint;
pub mod error;
pub mod fault;
mod ipc;
mod irq;
pub mod machine;
pub mod mem;
pub mod notification;
mod page;
pub mod queue;
pub mod reply;
pub mod sched;
pub mod schedctx;
mod syscall;
pub mod tcb;
mod untyped;
pub mod vspace;

use core::ptr::NonNull;

pub use boot::{BootConfig, BootError, Region, UserImage};
pub use context::Context;
pub use fault::UserFault;
pub use kernel_abi as abi;
pub use machine::{CacheOp, CoreId, MAX_CORES, Machine};

use asid::AsidPool;
use cap::Slot;
use mem::{Ptr, Window, Word};
use sched::{Action, Core};
use tcb::Tcb;

/// The kernel's whole state besides the objects in untyped memory.
pub struct Kernel<M> {
    /// The machine.
    pub machine: M,
    /// Print a line for every refused invocation.
    pub verbose: bool,
    window: Window,
    cores: [Core; MAX_CORES],
    num_cores: usize,
    /// The core that executes the kernel.
    this_core: CoreId,
    /// Counter at this kernel entry.
    now: u64,
    ticks_per_ms: u64,
    /// Least time worth running for, in ticks.
    min_budget: u64,
    num_domains: usize,
    domain_schedule: [domain::Entry; domain::SCHEDULE_ENTRIES],
    domain_start: usize,
    asid_pools: [Option<Ptr<AsidPool>>; asid::NUM_POOLS],
    irq_slots: Option<Ptr<Slot>>,
    irq_states: Option<Ptr<Word>>,
    max_irq: u32,
    timer_irq: u32,
    sgi_targets: u32,
    /// Newest floating zombie, see [`delete`].
    graveyard: Option<Ptr<Slot>>,
    all_threads: Option<Ptr<Tcb>>,
}

impl<M: Machine> Kernel<M> {
    /// A kernel that has not booted: no objects, no threads.
    pub const fn new(machine: M) -> Self {
        let mut domain_schedule = [domain::Entry::END; domain::SCHEDULE_ENTRIES];
        domain_schedule[0] = domain::Entry::BOOT;
        Self {
            machine,
            verbose: false,
            window: Window::new(0),
            cores: [Core::NEW; MAX_CORES],
            num_cores: 1,
            this_core: 0,
            now: 0,
            ticks_per_ms: 1,
            min_budget: 0,
            num_domains: 1,
            domain_schedule,
            domain_start: 0,
            asid_pools: [None; asid::NUM_POOLS],
            irq_slots: None,
            irq_states: None,
            max_irq: 0,
            timer_irq: 0,
            sgi_targets: 0,
            graveyard: None,
            all_threads: None,
        }
    }

    /// A core begins to run threads. `boot` does it for core 0.
    pub fn start_core(&mut self, core: CoreId) {
        self.this_core = core;
        self.now = self.now.max(self.machine.now());
        self.cores[core].last = self.now;
        self.cores[core].online = true;
        self.cores[core].action = Action::Choose;
        self.exit(core);
    }

    /// `svc` from user mode on this core.
    pub fn handle_syscall(&mut self, core: CoreId) {
        self.enter(core);
        // No current thread: it was stopped by another core after its trap and will do it again.
        if let Some(thread) = self.cores[core].current {
            self.syscall(core, thread);
        }
        self.exit(core);
    }

    /// Another synchronous exception from user mode on this core.
    pub fn handle_user_fault(&mut self, core: CoreId, fault: UserFault) {
        self.enter(core);
        if let Some(thread) = self.cores[core].current {
            if self.check_budget(core) {
                self.fault(core, thread, fault::Fault::User(fault));
            } else {
                syscall::restart(thread);
            }
        }
        self.exit(core);
    }

    /// Interrupt `irq` (its number read from the controller), from user mode or from the idle wait.
    pub fn handle_interrupt(&mut self, core: CoreId, irq: u32) {
        self.enter(core);
        if irq == self.timer_irq {
            // The timer stays raised until it is set again: forget what it was set to.
            self.cores[core].deadline = 0;
        } else {
            self.irq_deliver(core, irq);
        }
        self.check_budget(core);
        self.exit(core);
    }

    /// Another core asked this one to schedule.
    pub fn handle_reschedule(&mut self, core: CoreId) {
        self.enter(core);
        self.check_budget(core);
        self.reschedule(core, core);
        self.exit(core);
    }

    /// The context to run on this core; `None`: idle.
    pub fn current(&self, core: CoreId) -> Option<NonNull<Context>> {
        self.cores[core].current.map(Ptr::context)
    }

    /// Name of the thread that runs on this core, for panic messages, printed byte by byte.
    pub fn current_name(&self, core: CoreId, put: &mut dyn FnMut(u8)) {
        if let Some(tcb) = self.cores[core].current {
            tcb.name(put);
        }
    }
}
