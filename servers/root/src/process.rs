//! One server's process: made from its plan, and taken down without a trace.

use crate::devices::Devices;
use crate::machine::{
    ASID_POOL, CNODE, Context, Failure, IRQ_CONTROL, Machine, PAGE, TCB, Window, copy_to, delete_all, own, retype_all,
    run,
};
use alloc::vec::Vec;
use ipc_wire::LinkError;
use root::elf::Access;
use root::manifest::{Manifest, PAGE as MANIFEST_PAGE};
use root::plan::{DeviceInfo, Plan, rights};
use root::untyped::Piece;
use smi_env::{Role, layout, map};
use smi_rt::CPtr;
use smi_rt::sys::abi::ext::CounterAccess;
use smi_rt::sys::abi::{CNodeData, MessageInfo};
use smi_rt::sys::invoke::{self, Slot};
use smi_rt::sys::{CapRights, ObjectType, SysError, UserContext, VmAttributes, debug, nb_send};

const _: () = assert!(MANIFEST_PAGE == PAGE);

/// Memory of a channel, shared for good.
#[derive(Clone, Copy)]
pub struct Shared {
    /// First of its frames.
    pub frames: CPtr,
    /// How many.
    pub count: u64,
}

impl Shared {
    /// Its frames.
    pub fn frames(&self) -> impl Iterator<Item = CPtr> + use<> {
        (self.frames.0..self.frames.0 + self.count).map(CPtr)
    }
}

/// A capability that goes into a slot of the server's CSpace.
pub struct Grant {
    /// Slot in the server's CNode.
    pub slot: u64,
    /// Ours.
    pub source: CPtr,
    /// Rights of the copy.
    pub rights: CapRights,
    /// Badge; 0 makes a plain copy.
    pub badge: u64,
}

/// A server's process: what stays over restarts (slots, memory, device), and how to fill it.
pub struct Process {
    /// The plan.
    pub plan: Plan<'static>,
    /// First of the run of slots for the plan's objects.
    objects: CPtr,
    /// Memory that holds them; empty until the first start.
    pieces: Vec<Piece>,
    /// Slots for copies of frames: of registers, and of channels of which this is the server's end. The client's end and DMA
    /// memory are mapped through the frames' own capabilities.
    copies: Vec<CPtr>,
    /// Frames of registers.
    registers: Vec<CPtr>,
    /// Frames of DMA memory.
    dma: Option<(Shared, u64)>,
    /// Interrupt handler.
    irq: Option<CPtr>,
    device: Option<DeviceInfo>,
}

impl Process {
    /// Reserves what the plan needs for good.
    pub fn new(
        machine: &mut Machine,
        devices: &mut Devices,
        manifest: &Manifest,
        index: usize,
        plan: Plan<'static>,
        device: Option<DeviceInfo>,
    ) -> Result<Process, Failure> {
        let mut registers = Vec::new();
        let mut irq = None;
        if let Some(device) = device {
            let (paddr, len) = device.registers;
            let first = paddr & !(PAGE - 1);
            for page in (first..paddr + len).step_by(PAGE as usize) {
                registers.push(devices.frame(machine, page)?);
            }
            let handler = machine.slots(1)?;
            take_interrupt(own(handler), device.irq)?;
            irq = Some(handler);
        }
        let dma_len = manifest.servers[index].dma;
        let dma = match dma_len / PAGE {
            0 => None,
            count => {
                let (frames, paddr) = machine.contiguous_frames(count)?;
                Some((Shared { frames, count }, paddr))
            }
        };
        let served = plan.ends.iter().filter(|e| e.role == Role::Server);
        let shared: u64 = served.map(|e| manifest.channels[e.channel].region() / PAGE).sum();
        let copy_count = shared + registers.len() as u64;
        let copies = run(machine.slots(copy_count)?, copy_count);
        let objects = machine.slots(plan.object_count())?;
        Ok(Process { plan, objects, pieces: Vec::new(), copies, registers, dma, irq, device })
    }

    /// The object that is `index`-th of its type.
    fn object(&self, kind: ObjectType, index: u64) -> CPtr {
        // The plan has at least one of every type that is asked for; the null capability makes the kernel refuse otherwise.
        self.plan.first(kind).map_or(CPtr::NULL, |first| CPtr(self.objects.0 + first + index))
    }

    /// The server's thread.
    pub fn tcb(&self) -> CPtr {
        self.object(ObjectType::Tcb, 0)
    }

    /// Slot of the server's CSpace.
    pub fn slot(&self, index: u64) -> Slot {
        let root = self.object(ObjectType::CNode, 0);
        Slot { root, index, depth: self.plan.cnode_bits as u64 }
    }

    /// Puts a capability into the server's CSpace.
    pub fn grant(&self, grant: &Grant) -> Result<(), Failure> {
        let (dest, source) = (self.slot(grant.slot), own(grant.source));
        match grant.badge {
            0 => invoke::cnode_copy(dest, source, grant.rights),
            badge => invoke::cnode_mint(dest, source, grant.rights, badge),
        }
        .during("giving a capability")
    }

    /// Makes all objects and fills the address space; the thread does not run yet.
    pub fn build(
        &mut self,
        machine: &mut Machine,
        shared: &[Shared],
        environment: &[u8; layout::SIZE],
    ) -> Result<(), Failure> {
        if self.pieces.is_empty() {
            for bits in self.plan.pieces.clone() {
                self.pieces.push(machine.piece(bits)?);
            }
        }
        self.make_objects()?;
        let vspace = self.object(ObjectType::VSpace, 0);
        invoke::asid_pool_assign(ASID_POOL, vspace).during("naming the address space")?;
        for (i, vaddr) in self.plan.tables.iter().enumerate() {
            let table = self.object(ObjectType::PageTable, i as u64);
            invoke::page_table_map(table, vspace, *vaddr).during("mapping a page table")?;
        }
        self.map_own_pages(vspace, environment)?;
        self.map_shared(vspace, shared)
    }

    fn make_objects(&self) -> Result<(), Failure> {
        let mut pieces = self.pieces.iter();
        let (mut piece, mut room) = (CPtr::NULL, 0u64);
        for group in &self.plan.groups {
            let bits = group.kind.size_bits(group.size_bits);
            let mut done = 0;
            while done < group.count {
                if room >> bits == 0 {
                    let next = pieces.next().ok_or(Failure::OutOfMemory)?;
                    (piece, room) = (next.cap, 1 << next.bits);
                }
                let now = (group.count - done).min(room >> bits);
                let slot = CPtr(self.objects.0 + group.first + done);
                retype_all(piece, group.kind, group.size_bits, slot, now)?;
                done += now;
                room -= now << bits;
            }
        }
        Ok(())
    }

    fn map_own_pages(&self, vspace: CPtr, environment: &[u8; layout::SIZE]) -> Result<(), Failure> {
        for (i, page) in self.plan.pages.iter().enumerate() {
            let frame = self.object(ObjectType::SmallPage, i as u64);
            let data = match page.vaddr.checked_sub(map::ENV) {
                Some(offset) if offset < layout::SIZE as u64 => &environment[offset as usize..][..PAGE as usize],
                _ => page.data,
            };
            if !data.is_empty() {
                let mut window = Window::open(frame, false)?;
                window.write(data);
                if page.access == Access::Execute {
                    window.publish_code()?;
                }
            }
            map_page(frame, vspace, page.vaddr, rights(page.access), page.access == Access::Execute)?;
        }
        for (i, vaddr) in self.plan.large_pages.iter().enumerate() {
            map_page(self.object(ObjectType::LargePage, i as u64), vspace, *vaddr, CapRights::READ_WRITE, false)?;
        }
        Ok(())
    }

    /// Maps channel regions, registers and DMA memory.
    fn map_shared(&self, vspace: CPtr, shared: &[Shared]) -> Result<(), Failure> {
        let mut copies = self.copies.iter();
        let mut copy = |frame: CPtr| {
            let slot = *copies.next().ok_or(Failure::OutOfSlots)?;
            copy_to(slot, frame, CapRights::READ_WRITE).map(|()| slot)
        };
        for end in &self.plan.ends {
            let Some(region) = shared.get(end.channel) else { continue };
            for (i, frame) in region.frames().enumerate() {
                let frame = if end.role == Role::Server { copy(frame)? } else { frame };
                map_page(frame, vspace, end.vaddr + i as u64 * PAGE, CapRights::READ_WRITE, false)?;
            }
        }
        for (i, frame) in self.registers.iter().enumerate() {
            let (frame, vaddr) = (copy(*frame)?, self.plan.mmio_vaddr + i as u64 * PAGE);
            invoke::page_map(frame, vspace, vaddr, CapRights::READ_WRITE, VmAttributes::EXECUTE_NEVER)
                .during("mapping registers")?;
        }
        for (i, frame) in self.dma.iter().flat_map(|(region, _)| region.frames()).enumerate() {
            map_page(frame, vspace, self.plan.dma_vaddr + i as u64 * PAGE, CapRights::READ_WRITE, false)?;
        }
        Ok(())
    }

    /// Takes shared memory out of the address space.
    fn unmap_shared(&self, shared: &[Shared]) {
        delete_all(&self.copies);
        let called = self.plan.ends.iter().filter(|e| e.role == Role::Client).filter_map(|e| shared.get(e.channel));
        for frame in called.chain(self.dma.iter().map(|(region, _)| region)).flat_map(Shared::frames) {
            // Unmapping never fails (sheet §3.9).
            let _ = invoke::page_unmap(frame);
        }
    }

    /// The environment's bytes.
    pub fn environment(
        &self,
        manifest: &Manifest,
        index: usize,
        restarts: u64,
        counter: CounterAccess,
        out: &mut [u8; layout::SIZE],
    ) -> Result<(), root::plan::PlanError> {
        let paddr = self.dma.map_or(0, |(_, paddr)| paddr);
        let plan = &self.plan;
        plan.environment(manifest, index, restarts, counter.bits(), self.device.as_ref(), paddr)?.finish(out);
        Ok(())
    }

    /// Gives the server its reply objects, its interrupt, its own CNode, endpoint and notification.
    pub fn grant_own(
        &self,
        endpoint: CPtr,
        notification: CPtr,
        irq_notification: Option<CPtr>,
        replies: u64,
    ) -> Result<(), Failure> {
        let all = CapRights::ALL_RIGHTS;
        self.grant(&Grant { slot: map::CAP_ENDPOINT, source: endpoint, rights: all, badge: 0 })?;
        self.grant(&Grant {
            slot: map::CAP_NOTIFICATION,
            source: notification,
            rights: CapRights::READ_WRITE,
            badge: 0,
        })?;
        // The guard makes slot numbers capability addresses.
        let guard = self.guard();
        let cnode = self.object(ObjectType::CNode, 0);
        self.grant(&Grant { slot: map::CAP_CNODE, source: cnode, rights: all, badge: guard.0 })?;
        for i in 0..replies {
            let source = self.object(ObjectType::Reply, i);
            self.grant(&Grant { slot: self.plan.reply_first + i, source, rights: all, badge: 0 })?;
        }
        if let (Some((_, slot)), Some(handler), Some(notification)) = (self.plan.irq, self.irq, irq_notification) {
            self.grant(&Grant { slot, source: handler, rights: all, badge: 0 })?;
            invoke::irq_set_notification(handler, notification).during("binding the interrupt")?;
            // A predecessor may have died between an interrupt and its acknowledgement.
            invoke::irq_ack(handler).during("enabling the interrupt")?;
        }
        Ok(())
    }

    fn guard(&self) -> CNodeData {
        CNodeData::new(0, 64 - self.plan.cnode_bits)
    }

    /// Sets up the thread and lets it run.
    pub fn launch(&self, machine: &Machine, how: &Launch<'_>) -> Result<(), Failure> {
        let tcb = self.tcb();
        let sched_context = self.object(ObjectType::SchedContext, 0);
        let buffer = self.object(ObjectType::SmallPage, self.plan.ipc_page as u64);
        let cnode = self.object(ObjectType::CNode, 0);
        let vspace = self.object(ObjectType::VSpace, 0);
        invoke::tcb_configure(tcb, cnode, self.guard(), vspace, map::IPC_BUFFER, buffer)
            .during("configuring the thread")?;
        invoke::sched_control_configure(machine.sched_control, sched_context, how.budget_us, how.period_us, 0, 0)
            .during("the thread's time")?;
        invoke::tcb_set_sched_params(tcb, TCB, how.priority, how.priority, sched_context, how.fault_endpoint)
            .during("the thread's priority")?;
        invoke::tcb_bind_notification(tcb, how.notification).during("binding the notification")?;
        if !how.counter.is_empty() {
            invoke::tcb_set_counter_access(tcb, how.counter).during("giving the clock")?;
        }
        debug::name_thread(tcb, how.name);
        let context = UserContext { pc: self.plan.entry, sp: map::STACK_TOP, x0: map::ENV, ..UserContext::default() };
        invoke::tcb_write_registers(tcb, true, &context).during("starting the thread")
    }

    /// Stops the thread and answers whoever waits for a reply. Also after a start that failed halfway.
    pub fn stop(&self) {
        if self.pieces.is_empty() {
            return;
        }
        // An error means that the object was never made.
        let _ = invoke::tcb_suspend(self.tcb());
        let restarted = MessageInfo::new(LinkError::Restarted.label(), 0, 0, 0);
        let replies = self.plan.groups.iter().find(|g| g.kind == ObjectType::Reply).map_or(0, |g| g.count);
        for i in 0..replies {
            nb_send(self.object(ObjectType::Reply, i), restarted, [0; 4]);
        }
    }

    /// Releases everything that the stopped process owned.
    pub fn release(&self, shared: &[Shared]) {
        self.unmap_shared(shared);
        for piece in &self.pieces {
            // A slot of our own: there is no error.
            let _ = invoke::cnode_revoke(own(piece.cap));
        }
    }

    /// The 8-byte word at an address of the server's own memory, through a copy of the page's capability in `scratch`.
    pub fn peek(&self, scratch: CPtr, vaddr: u64) -> Option<u64> {
        let page = self.plan.page_at(vaddr).filter(|_| vaddr.is_multiple_of(8))?;
        let frame = self.object(ObjectType::SmallPage, page as u64);
        copy_to(scratch, frame, CapRights::READ_WRITE).ok()?;
        let word = Window::open(scratch, false).ok().map(|window| window.word(vaddr));
        delete_all(&[scratch]);
        word
    }
}

/// Makes the handler of an interrupt, for the first core: all servers run there.
fn take_interrupt(dest: Slot, (irq, edge): (u32, bool)) -> Result<(), Failure> {
    match invoke::irq_control_get_trigger(IRQ_CONTROL, irq, edge, dest) {
        // A kernel with several cores wants to know whose private interrupt is meant.
        Err(SysError::IllegalOperation) => invoke::irq_control_get_trigger_core(IRQ_CONTROL, irq, edge, dest, 0),
        other => other,
    }
    .during("taking the interrupt")
}

/// How a thread is started.
pub struct Launch<'a> {
    /// Name in the kernel's reports.
    pub name: &'a str,
    /// Priority.
    pub priority: u8,
    /// Budget, microseconds.
    pub budget_us: u64,
    /// Period, microseconds.
    pub period_us: u64,
    /// Use of the generic timer.
    pub counter: CounterAccess,
    /// Where faults are told.
    pub fault_endpoint: CPtr,
    /// The server's notification.
    pub notification: CPtr,
}

fn map_page(frame: CPtr, vspace: CPtr, vaddr: u64, rights: CapRights, execute: bool) -> Result<(), Failure> {
    let never = if execute { VmAttributes::empty() } else { VmAttributes::EXECUTE_NEVER };
    invoke::page_map(frame, vspace, vaddr, rights, VmAttributes::PAGE_CACHEABLE | never).during("mapping a page")
}

/// Gives a client the endpoint capability of a channel again, unless it still has it.
pub fn renew(client: &Process, grant: &Grant) -> Result<(), Failure> {
    match client.grant(grant) {
        Ok(()) | Err(Failure::Kernel(_, SysError::DeleteFirst)) => Ok(()),
        Err(failure) => Err(failure),
    }
}

/// Takes all copies of an endpoint away: callers see that nobody answers.
pub fn withdraw(endpoint: CPtr) {
    let _ = invoke::cnode_revoke(Slot::flat(CNODE, endpoint.0));
}
