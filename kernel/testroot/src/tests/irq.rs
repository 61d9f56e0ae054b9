//! Interrupts: control, handlers, and real ones from the serial port, the physical timer and software.

use crate::report::Outcome;
use crate::sys::{self, Message, invoke};
use crate::world::{
    CNODE, DEVICE_ATTRIBUTES, FREE_VADDR, IRQ_CONTROL, TCB, VSPACE, World, copy, delete, retype, revoke,
};
use core::arch::asm;
use kernel_abi::ext::{CounterAccess, ExtLabel};
use kernel_abi::{Label, ObjectType};

const UART_PADDR: u64 = 0x900_0000;
const UART_IRQ: u64 = 33;
const KERNEL_TIMER_IRQ: u64 = 27;
const PHYSICAL_TIMER_IRQ: u64 = 30;

/// Greatest interrupt number: the reference platform's, else more than any controller has.
fn max_irq(world: &World) -> u64 {
    if world.is_virt() { 159 } else { 1019 }
}

fn get(irq: u64, slot: u64) -> Message {
    invoke(IRQ_CONTROL, Label::IRQIssueIRQHandler, &[irq, slot, 64], &[CNODE])
}

/// A handler for an interrupt that belongs to a core; kernels with several cores want to know which.
fn get_private(world: &World, irq: u64, slot: u64) -> Message {
    if world.info.num_nodes == 1 {
        return get(irq, slot);
    }
    let label = kernel_abi::label::ARM_IRQ_ISSUE_IRQ_HANDLER_TRIGGER_CORE;
    invoke(IRQ_CONTROL, label, &[irq, 0, slot, 64, 0], &[CNODE])
}

fn ack(handler: u64) -> Message {
    invoke(handler, Label::IRQAckIRQ, &[], &[])
}

fn set_notification(handler: u64, notification: u64) -> Message {
    invoke(handler, Label::IRQSetIRQHandler, &[], &[notification])
}

pub fn control_errors(world: &mut World) -> Outcome {
    let (slot, max) = (world.slot(), max_irq(world));
    ensure_error!(invoke(IRQ_CONTROL, Label::TCBResume, &[], &[]), IllegalOperation);
    ensure_error!(invoke(IRQ_CONTROL, Label::IRQIssueIRQHandler, &[40, slot], &[CNODE]), TruncatedMessage);
    ensure_error!(invoke(IRQ_CONTROL, Label::IRQIssueIRQHandler, &[40, slot, 64], &[]), TruncatedMessage);
    let beyond = get(max + 1, slot);
    ensure_eq!(beyond.label, kernel_abi::Error::RangeError.raw());
    let max = if world.is_virt() { max } else { beyond.word(1) };
    ensure_error!(get(max + 1, slot), RangeError, 0, max);
    ensure_error!(get_private(world, KERNEL_TIMER_IRQ, slot), RevokeFirst);
    ensure_error!(get(40, TCB), DeleteFirst);
    ensure_error!(invoke(IRQ_CONTROL, Label::IRQIssueIRQHandler, &[40, slot, 0], &[CNODE]), RangeError, 1, 64);
    let trigger = |irq, t| invoke(IRQ_CONTROL, Label::ARMIRQIssueIRQHandlerTrigger, &[irq, t, slot, 64], &[CNODE]);
    ensure_error!(trigger(max + 1, 1), RangeError, 0, max);
    ensure_ok!(trigger(max, 1));
    ensure_eq!(sys::identify(slot), 16);
    let other = world.slot();
    ensure_error!(get(max, other), RevokeFirst);
    Ok(())
}

/// Registers of the serial port.
struct Uart(u64);

impl Uart {
    fn write(&self, offset: u64, value: u32) {
        // SAFETY: mapped by the test.
        unsafe { ((self.0 + offset) as *mut u32).write_volatile(value) };
    }

    /// Sends a byte that shows little: raises the transmit interrupt once it has gone.
    fn send(&self) {
        self.write(0, u32::from(b'\n'));
    }

    fn mask(&self, bits: u32) {
        self.write(0x38, bits);
    }

    fn clear(&self) {
        self.write(0x44, 0x7ff);
    }
}

pub fn uart(world: &mut World) -> Outcome {
    if !world.is_virt() {
        return Ok(());
    }
    let Some((untyped, base)) = world.untyped_at(UART_PADDR) else { fail!("no untyped for the serial port") };
    ensure_eq!(base, UART_PADDR);
    let frame = world.slot();
    ensure_ok!(retype(untyped, ObjectType::SmallPage, 0, frame, 1));
    world.map_tables(VSPACE, FREE_VADDR, 2)?;
    ensure_ok!(invoke(frame, Label::ARMPageMap, &[FREE_VADDR, 15, DEVICE_ATTRIBUTES], &[VSPACE]));
    let uart = Uart(FREE_VADDR);
    let (notification, handler) = (world.notification()?, world.slot());
    let badged = world.badged(notification, 0x100)?;
    ensure_ok!(get(UART_IRQ, handler));
    ensure_ok!(set_notification(handler, badged));
    uart.clear();
    uart.mask(1 << 5);
    for _ in 0..3 {
        uart.send();
        ensure_eq!(sys::wait(notification).badge, 0x100);
        // Masked until acknowledged, whatever the device does.
        uart.clear();
        uart.send();
        world.sleep(2)?;
        ensure_eq!(sys::nb_wait(notification).badge, 0);
        ensure_ok!(ack(handler));
        ensure_eq!(sys::wait(notification).badge, 0x100);
        uart.clear();
        ensure_ok!(ack(handler));
        ensure_ok!(ack(handler));
        ensure_eq!(sys::nb_wait(notification).badge, 0);
    }
    uart.mask(0);
    uart.clear();
    Ok(())
}

pub fn sgi(world: &mut World) -> Outcome {
    if world.info.num_nodes > 1 {
        return Ok(()); // there are no SGI capabilities then
    }
    let (notification, handler, signal) = (world.notification()?, world.slot(), world.slot());
    let badged = world.badged(notification, 8)?;
    let issue =
        |irq, target, slot| invoke(IRQ_CONTROL, Label::ARMIRQIssueSGISignal, &[irq, target, slot, 64], &[CNODE]);
    ensure_error!(issue(16, 0, signal), RangeError, 0, 15);
    ensure_error!(issue(3, 999, signal), InvalidArgument, 1);
    ensure_error!(issue(3, 0, TCB), DeleteFirst);
    ensure_ok!(issue(3, 0, signal));
    ensure_eq!(sys::identify(signal), 27);
    ensure_ok!(get(3, handler));
    ensure_ok!(set_notification(handler, badged));
    for _ in 0..3 {
        ensure_ok!(sys::call(signal, 0, &[], &[]));
        ensure_eq!(sys::wait(notification).badge, 8);
        ensure_ok!(ack(handler));
    }
    Ok(())
}

pub fn physical_timer(world: &mut World) -> Outcome {
    let (notification, handler) = (world.notification()?, world.slot());
    let badged = world.badged(notification, 2)?;
    ensure_ok!(get_private(world, PHYSICAL_TIMER_IRQ, handler));
    ensure_ok!(set_notification(handler, badged));
    let access = |bits| sys::call(TCB, ExtLabel::SmiTcbSetCounterAccess.raw(), &[bits], &[]);
    ensure_ok!(access(CounterAccess::all().bits()));
    let period = sys::counter_frequency() / 500;
    for _ in 0..5 {
        let start = sys::counter();
        // SAFETY: the timer is this thread's for the time of the test.
        unsafe { asm!("msr cntp_tval_el0, {0}", "msr cntp_ctl_el0, {1}", "isb", in(reg) period, in(reg) 1u64) };
        ensure_eq!(sys::wait(notification).badge, 2);
        ensure!(sys::counter() - start >= period);
        // SAFETY: as above.
        unsafe { asm!("msr cntp_ctl_el0, xzr", "isb") };
        ensure_ok!(ack(handler));
    }
    ensure_eq!(sys::nb_wait(notification).badge, 0);
    ensure_ok!(access(CounterAccess::VIRTUAL_COUNTER.bits()));
    Ok(())
}

pub fn handler_lifetime(world: &mut World) -> Outcome {
    let (handler, spare) = (world.slot(), world.slot());
    let (notification, endpoint) = (world.notification()?, world.endpoint()?);
    ensure_ok!(get(50, handler));
    ensure_error!(set_notification(handler, endpoint), InvalidCapability, 0);
    let mute = world.minted(notification, 2, 0)?;
    ensure_error!(set_notification(handler, mute), InvalidCapability, 0);
    ensure_error!(invoke(handler, Label::IRQSetIRQHandler, &[], &[]), TruncatedMessage);
    ensure_ok!(set_notification(handler, notification));
    ensure_ok!(invoke(handler, Label::IRQClearIRQHandler, &[], &[]));
    ensure_ok!(invoke(handler, Label::IRQClearIRQHandler, &[], &[]));
    ensure_ok!(set_notification(handler, notification));
    ensure_ok!(copy(spare, handler));
    ensure_ok!(delete(handler));
    ensure_error!(get(50, handler), RevokeFirst);
    ensure_ok!(delete(spare));
    ensure_ok!(get(50, handler));
    // Revoking the control capability takes all handlers away.
    ensure_ok!(revoke(IRQ_CONTROL));
    ensure_eq!(sys::identify(handler), 0);
    ensure_ok!(get(50, handler));
    Ok(())
}
