//! Message transfer: registers, IPC buffers, capabilities (sheet §1.4, §7.2).

use kernel_abi::MessageInfo;
use kernel_abi::ipc_buffer::{CAPS_OFFSET, MSG_OFFSET, RECEIVE_OFFSET};
use kernel_abi::message::{FAST_MESSAGE_REGISTERS, MSG_MAX_EXTRA_CAPS};

use crate::cap::{Cap, Slot};
use crate::endpoint::Endpoint;
use crate::machine::Machine;
use crate::mem::{Ptr, Window};
use crate::tcb::{Tcb, TcbSlot};
use crate::{Kernel, cdt, cspace};

/// Register of MR0.
pub(crate) const MR0: usize = 2;
/// Register of the badge and the invoked capability.
pub(crate) const BADGE: usize = 0;
/// Register of the message info.
pub(crate) const INFO: usize = 1;

/// A thread's IPC buffer: physical address in RAM.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buffer {
    window: Window,
    paddr: u64,
}

impl Buffer {
    /// Message register `i`.
    #[inline]
    pub fn msg(self, i: usize) -> u64 {
        self.window.read(self.paddr + (MSG_OFFSET + 8 * i) as u64)
    }

    /// Sets message register `i`.
    #[inline]
    pub fn set_msg(self, i: usize, value: u64) {
        self.window.write(self.paddr + (MSG_OFFSET + 8 * i) as u64, value);
    }

    /// CPtr of extra capability `i`.
    pub fn cap(self, i: usize) -> u64 {
        self.window.read(self.paddr + (CAPS_OFFSET + 8 * i) as u64)
    }

    fn set_badge(self, i: usize, badge: u64) {
        self.window.write(self.paddr + (CAPS_OFFSET + 8 * i) as u64, badge);
    }

    /// Receive path: CNode, index, depth.
    fn receive_path(self) -> [u64; 3] {
        [0, 8, 16].map(|o| self.window.read(self.paddr + RECEIVE_OFFSET as u64 + o))
    }

    /// Byte `i` of the message area.
    pub fn msg_byte(self, i: usize) -> u8 {
        self.window.read_byte(self.paddr + (MSG_OFFSET + i) as u64)
    }
}

/// The thread's IPC buffer for sending, or for receiving (`write`); `None` if it has none that can be used so.
pub(crate) fn buffer_of(window: Window, tcb: Ptr<Tcb>, write: bool) -> Option<Buffer> {
    let vaddr = tcb.ipc_buffer.get();
    let Cap::Frame(frame) = tcb.slot(TcbSlot::Buffer).cap() else { return None };
    if frame.device || !frame.read || (write && !frame.write) {
        return None;
    }
    Some(Buffer { window, paddr: frame.paddr + (vaddr & (frame.size.bytes() - 1)) })
}

/// Message register `i` of a thread that sends from `buffer`.
#[inline]
pub(crate) fn message_word(tcb: Ptr<Tcb>, buffer: Option<Buffer>, i: usize) -> u64 {
    if i < FAST_MESSAGE_REGISTERS { tcb.x(MR0 + i) } else { buffer.map_or(0, |b| b.msg(i)) }
}

/// Sets message register `i` of a thread that receives into `buffer`; false if there is no place for it.
#[inline]
pub(crate) fn set_message_word(tcb: Ptr<Tcb>, buffer: Option<Buffer>, i: usize, value: u64) -> bool {
    if i < FAST_MESSAGE_REGISTERS {
        tcb.set_x(MR0 + i, value);
        return true;
    }
    if let Some(buffer) = buffer {
        buffer.set_msg(i, value);
    }
    buffer.is_some()
}

/// Copies message words; returns how many arrived.
fn copy_words(from: Ptr<Tcb>, out: Option<Buffer>, to: Ptr<Tcb>, into: Option<Buffer>, length: usize) -> usize {
    let fast = length.min(FAST_MESSAGE_REGISTERS);
    for i in 0..fast {
        to.set_x(MR0 + i, from.x(MR0 + i));
    }
    let (Some(out), Some(into)) = (out, into) else { return fast };
    for i in fast..length {
        into.set_msg(i, out.msg(i));
    }
    length
}

impl<M: Machine> Kernel<M> {
    /// Delivers the sender's message, or its fault, to the receiver. `ep` is the endpoint it goes through (none for replies).
    pub(crate) fn transfer(
        &mut self,
        from: Ptr<Tcb>,
        ep: Option<Ptr<Endpoint>>,
        badge: u64,
        grant: bool,
        to: Ptr<Tcb>,
    ) {
        let into = buffer_of(self.window, to, true);
        let info = if from.fault.get() != 0 {
            self.fault_message(from, to, into)
        } else {
            self.normal_transfer(from, ep, grant, to, into)
        };
        to.set_x(BADGE, badge);
        to.set_x(INFO, info.0);
    }

    fn normal_transfer(
        &mut self,
        from: Ptr<Tcb>,
        ep: Option<Ptr<Endpoint>>,
        grant: bool,
        to: Ptr<Tcb>,
        into: Option<Buffer>,
    ) -> MessageInfo {
        let info = MessageInfo(from.x(INFO));
        let length = info.length();
        let need_buffer = length > FAST_MESSAGE_REGISTERS || (grant && info.extra_caps() > 0);
        let out = if need_buffer { buffer_of(self.window, from, false) } else { None };
        let length = copy_words(from, out, to, into, length);
        let (mut caps, mut unwrapped) = (0, 0);
        if let (true, Some(out), Some(into)) = (grant, out, into) {
            (caps, unwrapped) = self.transfer_caps(from, info.extra_caps(), out, ep, to, into);
        }
        MessageInfo::new(info.label(), unwrapped, caps, length)
    }

    /// Passes extra capabilities; returns how many were processed and which were unwrapped.
    fn transfer_caps(
        &mut self,
        from: Ptr<Tcb>,
        count: usize,
        out: Buffer,
        ep: Option<Ptr<Endpoint>>,
        to: Ptr<Tcb>,
        into: Buffer,
    ) -> (usize, u64) {
        let mut slots = [None; MSG_MAX_EXTRA_CAPS];
        for (i, slot) in slots.iter_mut().enumerate().take(count) {
            match cspace::lookup(from, out.cap(i)) {
                Ok(found) => *slot = Some(found),
                Err(_) => return (0, 0),
            }
        }
        let mut receive = if count > 0 { receive_slot(to, into) } else { None };
        let mut unwrapped = 0;
        for (i, slot) in slots.iter().enumerate().take(count) {
            let Some(src) = *slot else { return (i, unwrapped) };
            match src.cap() {
                Cap::Endpoint(e) if Some(e.ep) == ep => {
                    into.set_badge(i, e.badge);
                    unwrapped |= 1 << i;
                }
                _ => {
                    let Some(dest) = receive.take() else { return (i, unwrapped) };
                    match self.derive(src) {
                        Ok(cap) if !cap.is_null() => cdt::insert_derived(cap, src, dest),
                        _ => return (i, unwrapped),
                    }
                }
            }
        }
        (count, unwrapped)
    }
}

/// The receiver's receive slot, if its path leads to an empty slot.
fn receive_slot(to: Ptr<Tcb>, into: Buffer) -> Option<Ptr<Slot>> {
    let [cnode, index, depth] = into.receive_path();
    let root = cspace::lookup(to, cnode).ok()?;
    let slot = cspace::target(&root.cap(), index, depth, false).ok()?;
    slot.is_empty().then_some(slot)
}
