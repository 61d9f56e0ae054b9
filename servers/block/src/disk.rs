//! A virtio block device (virtio 1.2, section 5.2), asynchronous, in blocks of [`BLOCK_SIZE`] bytes.

use core::fmt;

use virtio::{Access, Buffer, Device, DeviceError, DmaMemory, Kind, Mmio, Queue, QueueError};

use crate::pool::Pool;
use crate::record::Op;
use crate::{BLOCK_SIZE, MAX_BLOCKS};

/// Descriptors of the one queue.
const QUEUE_SIZE: usize = 256;
const QUEUE: u32 = 0;
/// Requests with the device at a time.
pub const MAX_FLIGHTS: usize = 32;
/// Most buffers of one block each.
pub const MAX_BUFFERS: usize = 512;

const FEATURE_READ_ONLY: u64 = 1 << 5;
const FEATURE_FLUSH: u64 = 1 << 9;
const SECTORS_PER_BLOCK: u64 = (BLOCK_SIZE / 512) as u64;

const TYPE_IN: u32 = 0;
const TYPE_OUT: u32 = 1;
const TYPE_FLUSH: u32 = 4;
const HEADER_BYTES: usize = 16;
/// What the status byte is before the device writes it.
const STATUS_UNSET: u8 = 0xff;

/// The disk cannot be driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskError {
    /// The device.
    Device(DeviceError),
    /// The DMA memory holds no queue and one buffer.
    Memory,
    /// The device broke the protocol while running.
    Queue(QueueError),
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(error) => error.fmt(f),
            Self::Memory => f.write_str("not enough DMA memory"),
            Self::Queue(error) => write!(f, "the disk broke the virtio protocol: {error:?}"),
        }
    }
}

impl From<DeviceError> for DiskError {
    fn from(error: DeviceError) -> Self {
        Self::Device(error)
    }
}

impl From<QueueError> for DiskError {
    fn from(error: QueueError) -> Self {
        Self::Queue(error)
    }
}

/// What a request is made of while it is with the device.
struct Flight {
    tag: u32,
    head: u16,
}

/// A request that the device is done with.
pub struct Completed {
    /// The tag it was submitted with.
    pub tag: u32,
    /// Whether it succeeded.
    pub ok: bool,
    /// Its block buffers, in order; give them back with [`Disk::recycle`].
    pub blocks: Pool<{ MAX_BLOCKS as usize }>,
}

/// The disk.
pub struct Disk<M> {
    device: Device<M>,
    queue: Queue<QUEUE_SIZE>,
    flights: [Option<Flight>; MAX_FLIGHTS],
    headers: Pool<MAX_FLIGHTS>,
    statuses: Pool<MAX_FLIGHTS>,
    buffers: Pool<MAX_BUFFERS>,
    buffer_count: usize,
    blocks: u64,
    unannounced: bool,
}

impl<M: Mmio> Disk<M> {
    /// Resets the device and sets it to work, with all of `memory`.
    pub fn open(registers: M, mut memory: DmaMemory) -> Result<Self, DiskError> {
        let mut device = Device::open(registers, Kind::Block, FEATURE_READ_ONLY | FEATURE_FLUSH)?;
        let queue = Queue::new(&mut memory).ok_or(DiskError::Memory)?;
        let (mut headers, mut statuses, mut buffers) = (Pool::new(), Pool::new(), Pool::new());
        for _ in 0..MAX_FLIGHTS {
            headers.push(memory.cut(HEADER_BYTES, HEADER_BYTES).ok_or(DiskError::Memory)?);
            statuses.push(memory.cut(1, 1).ok_or(DiskError::Memory)?);
        }
        while buffers.len() < MAX_BUFFERS
            && let Some(buffer) = memory.cut(BLOCK_SIZE, BLOCK_SIZE)
        {
            buffers.push(buffer);
        }
        let buffer_count = buffers.len();
        if buffer_count == 0 {
            return Err(DiskError::Memory);
        }
        let sectors = u64::from_le_bytes(device.config(0)?);
        device.set_queue(QUEUE, &queue)?;
        device.start();
        let flights = [const { None }; MAX_FLIGHTS];
        let blocks = sectors / SECTORS_PER_BLOCK;
        Ok(Self { device, queue, flights, headers, statuses, buffers, buffer_count, blocks, unannounced: false })
    }

    /// Whole blocks of the disk.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Whether it refuses writes.
    pub fn read_only(&self) -> bool {
        self.device.features() & FEATURE_READ_ONLY != 0
    }

    /// Whether it has a write cache. One without is durable at each completed write.
    pub fn cached(&self) -> bool {
        self.device.features() & FEATURE_FLUSH != 0
    }

    /// Most blocks of one request.
    pub fn max_blocks(&self) -> u32 {
        self.buffer_count.min(MAX_BLOCKS as usize) as u32
    }

    /// Requests with the device.
    pub fn in_flight(&self) -> usize {
        MAX_FLIGHTS - self.headers.len()
    }

    /// Whether a request of `count` blocks could be submitted now.
    pub fn has_room(&self, count: u32) -> bool {
        let count = count as usize;
        !self.headers.is_empty() && self.buffers.len() >= count && self.queue.free() >= count + 2
    }

    /// Gives a request to the device: `count` blocks from disk block `block` on, `tag` comes back. `fill` is called for each
    /// block of a write with its index and buffer. False, and nothing happens, if there is no room.
    #[must_use]
    pub fn submit(&mut self, tag: u32, op: Op, block: u64, count: u32, mut fill: impl FnMut(usize, &mut [u8])) -> bool {
        if !self.has_room(count) {
            return false;
        }
        let (kind, access) = match op {
            Op::Read => (TYPE_IN, Access::DeviceWrites),
            Op::Write => (TYPE_OUT, Access::DeviceReads),
            Op::Flush => (TYPE_FLUSH, Access::DeviceReads),
        };
        let (Some(mut header), Some(mut status)) = (self.headers.pop(), self.statuses.pop()) else { return false };
        let sector = if op == Op::Flush { 0 } else { block * SECTORS_PER_BLOCK };
        header.bytes_mut()[..4].copy_from_slice(&kind.to_le_bytes());
        header.bytes_mut()[8..].copy_from_slice(&sector.to_le_bytes());
        status.bytes_mut()[0] = STATUS_UNSET;
        let mut parts = Parts { header: Some(header), blocks: Pool::new(), access, status: Some(status) };
        for i in 0..count as usize {
            let Some(mut buffer) = self.buffers.pop() else { break };
            if op == Op::Write {
                fill(i, buffer.bytes_mut());
            }
            parts.blocks.push(buffer);
        }
        parts.blocks.reverse();
        // There is room: `has_room` has looked.
        let Ok(head) = self.queue.add(parts) else { return false };
        if let Some(free) = self.flights.iter_mut().find(|flight| flight.is_none()) {
            *free = Some(Flight { tag, head });
        }
        self.unannounced = true;
        true
    }

    /// Tells the device what was submitted.
    pub fn announce(&mut self) {
        if core::mem::take(&mut self.unannounced) && self.queue.wants_notify() {
            self.device.notify(QUEUE);
        }
    }

    /// The next request that the device is done with.
    pub fn complete(&mut self) -> Result<Option<Completed>, DiskError> {
        let (headers, statuses) = (&mut self.headers, &mut self.statuses);
        let mut blocks = Pool::new();
        let mut last = None;
        let mut first = true;
        let used = self.queue.pop(|buffer| {
            if core::mem::take(&mut first) {
                headers.push(buffer);
            } else if let Some(before) = last.replace(buffer) {
                blocks.push(before);
            }
        })?;
        let Some(used) = used else { return Ok(None) };
        let ok = last.as_ref().is_some_and(|status| status.bytes()[0] == 0);
        last.into_iter().for_each(|status| statuses.push(status));
        let flight = self.flights.iter_mut().find(|flight| flight.as_ref().is_some_and(|one| one.head == used.head));
        let tag = flight.and_then(Option::take).map_or(0, |flight| flight.tag);
        Ok(Some(Completed { tag, ok, blocks }))
    }

    /// Takes the buffers of a completed request back.
    pub fn recycle(&mut self, completed: Completed) {
        let mut blocks = completed.blocks;
        while let Some(buffer) = blocks.pop() {
            self.buffers.push(buffer);
        }
    }

    /// Takes the interrupt back.
    pub fn acknowledge(&mut self) {
        self.device.acknowledge();
    }

    /// Asks for interrupts, or for none while at work. True if something was completed meanwhile.
    pub fn set_interrupts(&mut self, on: bool) -> bool {
        self.queue.set_interrupts(on);
        self.queue.has_used()
    }
}

/// The chain of one request: header, blocks, status.
struct Parts {
    header: Option<Buffer>,
    /// The next block is the last of the pool.
    blocks: Pool<{ MAX_BLOCKS as usize }>,
    access: Access,
    status: Option<Buffer>,
}

impl Iterator for Parts {
    type Item = (Buffer, Access);

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(header) = self.header.take() {
            return Some((header, Access::DeviceReads));
        }
        if let Some(block) = self.blocks.pop() {
            return Some((block, self.access));
        }
        self.status.take().map(|status| (status, Access::DeviceWrites))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let count = usize::from(self.header.is_some()) + self.blocks.len() + usize::from(self.status.is_some());
        (count, Some(count))
    }
}

impl ExactSizeIterator for Parts {}
