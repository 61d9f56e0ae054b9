//! The kernel's object model: capabilities, threads, IPC, scheduling, address spaces; host-testable.
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
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

pub mod boot;
pub mod context;
pub mod fault;
pub mod machine;

use core::ptr::NonNull;

pub use boot::{BootConfig, BootError, Region, UserImage};
pub use context::Context;
pub use fault::UserFault;
pub use kernel_abi as abi;
pub use machine::{CacheOp, CoreId, MAX_CORES, Machine};

/// The kernel's whole state besides the objects in untyped memory.
pub struct Kernel<M> {
    /// The machine.
    pub machine: M,
}

impl<M: Machine> Kernel<M> {
    /// A kernel that has not booted: no objects, no threads.
    pub const fn new(machine: M) -> Self {
        Self { machine }
    }

    /// Builds the initial task and schedules it on core 0.
    ///
    /// # Errors
    /// [`BootError`]: the configuration cannot be booted; a message for the console, nothing runs.
    pub fn boot(&mut self, _config: &BootConfig<'_>) -> Result<(), BootError> {
        Err(BootError::BadConfig)
    }

    /// Joins another core, after `boot`.
    pub fn start_core(&mut self, _core: CoreId) {}

    /// `svc` from user mode on this core.
    pub fn handle_syscall(&mut self, _core: CoreId) {}

    /// Another synchronous exception from user mode on this core.
    pub fn handle_user_fault(&mut self, _core: CoreId, _fault: UserFault) {}

    /// Interrupt `irq` (its number read from the controller), from user mode or from the idle wait.
    pub fn handle_interrupt(&mut self, _core: CoreId, _irq: u32) {}

    /// Another core asked this one to schedule.
    pub fn handle_reschedule(&mut self, _core: CoreId) {}

    /// The context to run on this core; `None`: idle.
    pub fn current(&self, _core: CoreId) -> Option<NonNull<Context>> {
        None
    }

    /// Name of the thread that runs on this core, for panic messages, printed byte by byte.
    pub fn current_name(&self, _core: CoreId, _put: &mut dyn FnMut(u8)) {}
}
