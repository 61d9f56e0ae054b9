//! A virtio network device (virtio 1.2, section 5.1).
//!
//! Receive buffers are always with the device; a received frame is looked at in place and its buffer goes straight back.
//! Frames to send are copied into a free buffer.

use core::fmt;

use virtio::{Access, Buffer, Device, DeviceError, DmaMemory, Kind, Mmio, Queue, QueueError};

use crate::{MAX_FRAME, MIN_FRAME};

const RECEIVE: u32 = 0;
const TRANSMIT: u32 = 1;
/// Descriptors of each queue.
const QUEUE_SIZE: usize = 256;
/// `virtio_net_hdr` in front of each frame; all zeros, as no offload is used.
const HEADER_BYTES: usize = 12;
/// Bytes of a buffer: header and longest frame, rounded up to whole cache lines.
const BUFFER_BYTES: usize = (HEADER_BYTES + MAX_FRAME).next_multiple_of(64);

const FEATURE_MAC: u64 = 1 << 5;
const FEATURE_STATUS: u64 = 1 << 16;
const CONFIG_MAC: usize = 0;
const CONFIG_STATUS: usize = 6;
const STATUS_LINK_UP: u16 = 1;

/// The card cannot be driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CardError {
    /// The device.
    Device(DeviceError),
    /// The DMA memory holds no queues and a few buffers.
    Memory,
    /// The device has no address.
    NoAddress,
    /// The device broke the protocol while running.
    Queue(QueueError),
}

impl fmt::Display for CardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(error) => error.fmt(f),
            Self::Memory => f.write_str("not enough DMA memory"),
            Self::NoAddress => f.write_str("the card has no address"),
            Self::Queue(error) => write!(f, "the card broke the virtio protocol: {error:?}"),
        }
    }
}

impl From<DeviceError> for CardError {
    fn from(error: DeviceError) -> Self {
        Self::Device(error)
    }
}

impl From<QueueError> for CardError {
    fn from(error: QueueError) -> Self {
        Self::Queue(error)
    }
}

/// The card.
pub struct Card<M> {
    device: Device<M>,
    receive: Queue<QUEUE_SIZE>,
    transmit: Queue<QUEUE_SIZE>,
    /// Free transmit buffers, a stack.
    free: [Option<Buffer>; QUEUE_SIZE],
    free_len: usize,
    mac: [u8; 6],
    unannounced: [bool; 2],
}

impl<M: Mmio> Card<M> {
    /// Resets the device and sets it to work, with all of `memory`: half for receiving, half for sending.
    pub fn open(registers: M, mut memory: DmaMemory) -> Result<Self, CardError> {
        let mut device = Device::open(registers, Kind::Net, FEATURE_MAC | FEATURE_STATUS)?;
        if device.features() & FEATURE_MAC == 0 {
            return Err(CardError::NoAddress);
        }
        let mac = device.config(CONFIG_MAC)?;
        let receive = Queue::new(&mut memory).ok_or(CardError::Memory)?;
        let transmit = Queue::new(&mut memory).ok_or(CardError::Memory)?;
        device.set_queue(RECEIVE, &receive)?;
        device.set_queue(TRANSMIT, &transmit)?;
        let free = [const { None }; QUEUE_SIZE];
        let mut card = Self { device, receive, transmit, free, free_len: 0, mac, unannounced: [false; 2] };
        let each = (memory.left() / BUFFER_BYTES / 2).min(QUEUE_SIZE);
        for _ in 0..each {
            let buffer = |memory: &mut DmaMemory| memory.cut(BUFFER_BYTES, 64).ok_or(CardError::Memory);
            let (one, other) = (buffer(&mut memory)?, buffer(&mut memory)?);
            card.offer(one);
            card.put_free(other);
        }
        if each < 2 {
            return Err(CardError::Memory);
        }
        // Nobody waits for a sent frame; buffers are taken back when the next are wanted.
        card.transmit.set_interrupts(false);
        card.device.start();
        card.announce();
        Ok(card)
    }

    /// The card's own address.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Whether the link is up; a card that cannot tell says yes.
    pub fn link_up(&self) -> Result<bool, CardError> {
        if self.device.features() & FEATURE_STATUS == 0 {
            return Ok(true);
        }
        Ok(u16::from_le_bytes(self.device.config(CONFIG_STATUS)?) & STATUS_LINK_UP != 0)
    }

    /// Gives the device a buffer to receive into. There is room: no more buffers than descriptors are ever made.
    fn offer(&mut self, buffer: Buffer) {
        if self.receive.add(core::iter::once((buffer, Access::DeviceWrites))).is_ok() {
            self.unannounced[RECEIVE as usize] = true;
        }
    }

    fn put_free(&mut self, buffer: Buffer) {
        self.free[self.free_len] = Some(buffer);
        self.free_len += 1;
    }

    fn take_free(&mut self) -> Option<Buffer> {
        self.free_len = self.free_len.checked_sub(1)?;
        self.free[self.free_len].take()
    }

    /// Shows the next received frame to `look` and gives its buffer back to the device. False if there is none.
    pub fn receive(&mut self, look: impl FnOnce(&[u8])) -> Result<bool, CardError> {
        let mut received = None;
        let used = self.receive.pop(|buffer| received = Some(buffer))?;
        let (Some(used), Some(buffer)) = (used, received) else { return Ok(false) };
        if let Some(frame) = buffer.bytes().get(HEADER_BYTES..used.written) {
            look(frame);
        }
        self.offer(buffer);
        Ok(true)
    }

    /// Whether a frame can be sent now. Takes sent buffers back.
    pub fn can_send(&mut self) -> Result<bool, CardError> {
        let (free, len) = (&mut self.free, &mut self.free_len);
        while self
            .transmit
            .pop(|buffer| {
                free[*len] = Some(buffer);
                *len += 1;
            })?
            .is_some()
        {}
        Ok(self.free_len > 0)
    }

    /// Sends the frame that `fill` writes to the start of a buffer of [`MAX_FRAME`] bytes, whose length it returns; frames
    /// shorter than [`MIN_FRAME`] are padded. False, and nothing is sent, if there is no room
    /// ([`can_send`](Self::can_send)) or `fill` has no frame.
    pub fn send(&mut self, fill: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        let Some(mut buffer) = self.take_free() else { return false };
        let room = &mut buffer.bytes_mut()[HEADER_BYTES..HEADER_BYTES + MAX_FRAME];
        let Some(filled) = fill(room).filter(|len| *len <= MAX_FRAME) else {
            self.put_free(buffer);
            return false;
        };
        let len = filled.max(MIN_FRAME);
        room[filled..len].fill(0);
        self.unannounced[TRANSMIT as usize] = true;
        self.transmit.add_prefix((buffer, Access::DeviceReads), HEADER_BYTES + len).is_ok()
    }

    /// Tells the device of offered and sent buffers.
    pub fn announce(&mut self) {
        for (index, queue) in [(RECEIVE, &self.receive), (TRANSMIT, &self.transmit)] {
            if core::mem::take(&mut self.unannounced[index as usize]) && queue.wants_notify() {
                self.device.notify(index);
            }
        }
    }

    /// Takes the interrupt back.
    pub fn acknowledge(&mut self) {
        self.device.acknowledge();
    }

    /// Asks for an interrupt at the next received frame and, if `sent`, at the next sent one. True if one is there
    /// already.
    pub fn set_interrupts(&mut self, on: bool, sent: bool) -> bool {
        self.receive.set_interrupts(on);
        self.transmit.set_interrupts(on && sent);
        self.receive.has_used() || sent && self.transmit.has_used()
    }
}
