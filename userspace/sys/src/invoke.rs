//! Typed invocations of kernel objects (sheet §3). Each function is one Call on the object's capability; its errors are the kernel's.
//!
//! Index and depth arguments follow the API; [`Slot`] bundles them with the CNode that they are resolved under.

use crate::call::call;
use crate::error::{Result, SysError};
use crate::message::{self, with_buffer};
use crate::{CPtr, CapRights, ObjectType, UserContext, VmAttributes};
use kernel_abi::context::USER_CONTEXT_WORDS;
use kernel_abi::ext::{CounterAccess, ExtLabel};
use kernel_abi::label::ARM_IRQ_ISSUE_IRQ_HANDLER_TRIGGER_CORE;
use kernel_abi::{CNodeData, Label};

/// A capability slot: `index` resolved under `root` to `depth` bits. Depth 64 addresses a one-level CSpace directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// CNode capability.
    pub root: CPtr,
    /// Index under it.
    pub index: u64,
    /// Bits to resolve, 1..=64.
    pub depth: u64,
}

impl Slot {
    /// Slot `index` of a one-level CSpace whose root is `root` (guard and radix make 64 bits).
    pub const fn flat(root: CPtr, index: u64) -> Slot {
        Slot { root, index, depth: 64 }
    }
}

fn invoke(service: CPtr, label: u64, args: &[u64], caps: &[CPtr]) -> Result<[u64; 4]> {
    let mut mrs = [0u64; 4];
    let fast = args.len().min(4);
    mrs[..fast].copy_from_slice(&args[..fast]);
    if args.len() > 4 {
        with_buffer(|buffer| buffer.msg[4..args.len()].copy_from_slice(&args[4..]));
    }
    message::set_caps(caps);
    let answer = call(service, message::info(label, caps.len(), args.len()), mrs);
    match SysError::decode(answer.info.label(), answer.mrs) {
        None => Ok(answer.mrs),
        Some(error) => Err(error),
    }
}

/// Makes `count` objects in the slots from `node_offset` of the CNode `root` itself.
pub fn untyped_retype(
    untyped: CPtr,
    kind: ObjectType,
    size_bits: u32,
    root: CPtr,
    node_offset: u64,
    count: u64,
) -> Result<()> {
    let args = [kind.raw(), size_bits as u64, 0, 0, node_offset, count];
    invoke(untyped, Label::UntypedRetype.raw(), &args, &[root]).map(drop)
}

/// Copies a capability, removing rights.
pub fn cnode_copy(dest: Slot, src: Slot, rights: CapRights) -> Result<()> {
    let args = [dest.index, dest.depth, src.index, src.depth, rights.bits()];
    invoke(dest.root, Label::CNodeCopy.raw(), &args, &[src.root]).map(drop)
}

/// Copies a capability with a badge (endpoint, notification) or guard (CNode).
pub fn cnode_mint(dest: Slot, src: Slot, rights: CapRights, badge: u64) -> Result<()> {
    let args = [dest.index, dest.depth, src.index, src.depth, rights.bits(), badge];
    invoke(dest.root, Label::CNodeMint.raw(), &args, &[src.root]).map(drop)
}

/// Moves a capability.
pub fn cnode_move(dest: Slot, src: Slot) -> Result<()> {
    let args = [dest.index, dest.depth, src.index, src.depth];
    invoke(dest.root, Label::CNodeMove.raw(), &args, &[src.root]).map(drop)
}

/// Empties a slot; no error if it is empty.
pub fn cnode_delete(slot: Slot) -> Result<()> {
    invoke(slot.root, Label::CNodeDelete.raw(), &[slot.index, slot.depth], &[]).map(drop)
}

/// Deletes everything derived from the capability in the slot.
pub fn cnode_revoke(slot: Slot) -> Result<()> {
    invoke(slot.root, Label::CNodeRevoke.raw(), &[slot.index, slot.depth], &[]).map(drop)
}

/// Sets a thread's CSpace (with guard), VSpace and IPC buffer.
pub fn tcb_configure(
    tcb: CPtr,
    cspace: CPtr,
    guard: CNodeData,
    vspace: CPtr,
    buffer: u64,
    buffer_frame: CPtr,
) -> Result<()> {
    invoke(tcb, Label::TCBConfigure.raw(), &[guard.0, 0, buffer], &[cspace, vspace, buffer_frame]).map(drop)
}

/// Sets priorities, scheduling context and fault endpoint.
pub fn tcb_set_sched_params(
    tcb: CPtr,
    authority: CPtr,
    mcp: u8,
    priority: u8,
    sched_context: CPtr,
    fault_endpoint: CPtr,
) -> Result<()> {
    let args = [mcp as u64, priority as u64];
    invoke(tcb, Label::TCBSetSchedParams.raw(), &args, &[authority, sched_context, fault_endpoint]).map(drop)
}

/// Sets the priority.
pub fn tcb_set_priority(tcb: CPtr, authority: CPtr, priority: u8) -> Result<()> {
    invoke(tcb, Label::TCBSetPriority.raw(), &[priority as u64], &[authority]).map(drop)
}

/// Sets the endpoint that is told when the thread's budget runs out.
pub fn tcb_set_timeout_endpoint(tcb: CPtr, endpoint: CPtr) -> Result<()> {
    invoke(tcb, Label::TCBSetTimeoutEndpoint.raw(), &[], &[endpoint]).map(drop)
}

/// Stops a thread.
pub fn tcb_suspend(tcb: CPtr) -> Result<()> {
    invoke(tcb, Label::TCBSuspend.raw(), &[], &[]).map(drop)
}

/// Lets a thread run.
pub fn tcb_resume(tcb: CPtr) -> Result<()> {
    invoke(tcb, Label::TCBResume.raw(), &[], &[]).map(drop)
}

/// Binds a notification: its signals end the thread's receives.
pub fn tcb_bind_notification(tcb: CPtr, notification: CPtr) -> Result<()> {
    invoke(tcb, Label::TCBBindNotification.raw(), &[], &[notification]).map(drop)
}

/// Reads all registers of another thread, without stopping it.
pub fn tcb_read_registers(tcb: CPtr) -> Result<UserContext> {
    let mrs = invoke(tcb, Label::TCBReadRegisters.raw(), &[0, USER_CONTEXT_WORDS as u64], &[])?;
    let mut words = [0u64; USER_CONTEXT_WORDS];
    words[..4].copy_from_slice(&mrs);
    with_buffer(|buffer| words[4..].copy_from_slice(&buffer.msg[4..USER_CONTEXT_WORDS]));
    Ok(context_of(&words))
}

/// Writes all registers of another thread and, if `resume`, lets it run.
pub fn tcb_write_registers(tcb: CPtr, resume: bool, context: &UserContext) -> Result<()> {
    let mut args = [0u64; 2 + USER_CONTEXT_WORDS];
    args[0] = resume as u64;
    args[1] = USER_CONTEXT_WORDS as u64;
    args[2..].copy_from_slice(&words_of(context));
    invoke(tcb, Label::TCBWriteRegisters.raw(), &args, &[]).map(drop)
}

/// Says what a thread may read of the generic timer (our extension).
pub fn tcb_set_counter_access(tcb: CPtr, access: CounterAccess) -> Result<()> {
    invoke(tcb, ExtLabel::SmiTcbSetCounterAccess.raw(), &[access.bits()], &[]).map(drop)
}

/// Gives a scheduling context its budget and period, in microseconds. Equal values mean round robin.
pub fn sched_control_configure(
    control: CPtr,
    sched_context: CPtr,
    budget_us: u64,
    period_us: u64,
    extra_refills: u64,
    badge: u64,
) -> Result<()> {
    let args = [budget_us, period_us, extra_refills, badge, 0];
    invoke(control, Label::SchedControlConfigureFlags.raw(), &args, &[sched_context]).map(drop)
}

/// Binds a scheduling context to a thread or notification.
pub fn sched_context_bind(sched_context: CPtr, object: CPtr) -> Result<()> {
    invoke(sched_context, Label::SchedContextBind.raw(), &[], &[object]).map(drop)
}

/// Unbinds a scheduling context from everything.
pub fn sched_context_unbind(sched_context: CPtr) -> Result<()> {
    invoke(sched_context, Label::SchedContextUnbind.raw(), &[], &[]).map(drop)
}

/// Makes the handler of interrupt `irq` (GIC INTID) in an empty slot. `edge` is the trigger.
pub fn irq_control_get_trigger(control: CPtr, irq: u32, edge: bool, dest: Slot) -> Result<()> {
    let args = [irq as u64, edge as u64, dest.index, dest.depth];
    invoke(control, Label::ARMIRQIssueIRQHandlerTrigger.raw(), &args, &[dest.root]).map(drop)
}

/// As [`irq_control_get_trigger`], for a private interrupt of a given core: kernels with several cores want it so.
pub fn irq_control_get_trigger_core(control: CPtr, irq: u32, edge: bool, dest: Slot, core: u64) -> Result<()> {
    let args = [irq as u64, edge as u64, dest.index, dest.depth, core];
    invoke(control, ARM_IRQ_ISSUE_IRQ_HANDLER_TRIGGER_CORE.raw(), &args, &[dest.root]).map(drop)
}

/// Lets the interrupt come again.
pub fn irq_ack(handler: CPtr) -> Result<()> {
    invoke(handler, Label::IRQAckIRQ.raw(), &[], &[]).map(drop)
}

/// Says which (badged) notification an interrupt signals.
pub fn irq_set_notification(handler: CPtr, notification: CPtr) -> Result<()> {
    invoke(handler, Label::IRQSetIRQHandler.raw(), &[], &[notification]).map(drop)
}

/// Takes the notification away from an interrupt.
pub fn irq_clear(handler: CPtr) -> Result<()> {
    invoke(handler, Label::IRQClearIRQHandler.raw(), &[], &[]).map(drop)
}

/// Maps a page. Errors: `FailedLookup` with `bits_left` = log2 of what a missing table would cover.
pub fn page_map(frame: CPtr, vspace: CPtr, vaddr: u64, rights: CapRights, attributes: VmAttributes) -> Result<()> {
    invoke(frame, Label::ARMPageMap.raw(), &[vaddr, rights.bits(), attributes.bits()], &[vspace]).map(drop)
}

/// Unmaps a page.
pub fn page_unmap(frame: CPtr) -> Result<()> {
    invoke(frame, Label::ARMPageUnmap.raw(), &[], &[]).map(drop)
}

/// Makes instructions written to `start..end` of a mapped page visible to instruction fetch.
pub fn page_unify_instruction(frame: CPtr, start: u64, end: u64) -> Result<()> {
    invoke(frame, Label::ARMPageUnifyInstruction.raw(), &[start, end], &[]).map(drop)
}

/// Physical address of a frame.
pub fn page_get_address(frame: CPtr) -> Result<u64> {
    invoke(frame, Label::ARMPageGetAddress.raw(), &[], &[]).map(|mrs| mrs[0])
}

/// Maps a page table at the next missing level over `vaddr`.
pub fn page_table_map(table: CPtr, vspace: CPtr, vaddr: u64) -> Result<()> {
    invoke(table, Label::ARMPageTableMap.raw(), &[vaddr, VmAttributes::DEFAULT.bits()], &[vspace]).map(drop)
}

/// Gives a VSpace an ASID.
pub fn asid_pool_assign(pool: CPtr, vspace: CPtr) -> Result<()> {
    invoke(pool, Label::ARMASIDPoolAssign.raw(), &[], &[vspace]).map(drop)
}

fn words_of(context: &UserContext) -> [u64; USER_CONTEXT_WORDS] {
    // SAFETY: a `UserContext` is exactly these words (const assertions beside its definition), without padding.
    unsafe { core::mem::transmute(*context) }
}

fn context_of(words: &[u64; USER_CONTEXT_WORDS]) -> UserContext {
    // SAFETY: as in `words_of`; every bit pattern is a valid context.
    unsafe { core::mem::transmute(*words) }
}
