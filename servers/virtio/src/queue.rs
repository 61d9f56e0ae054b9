//! Split virtqueues (virtio 1.2, section 2.7).
//!
//! Layout of the shared memory: descriptor table (16 bytes each), then the available ring, then the used ring.

use core::sync::atomic::{Ordering, fence};

use crate::memory::{Buffer, DmaMemory, Shared};

const DESC_BYTES: usize = 16;
const DESC_NEXT: u16 = 1;
const DESC_WRITE: u16 = 2;
/// Either ring: flags and index come before the entries.
const RING_HEAD: usize = 4;
const NO_INTERRUPT: u16 = 1;
const NO_NOTIFY: u16 = 1;
/// End of the free list.
const END: u16 = u16::MAX;

/// Who writes a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The device reads it.
    DeviceReads,
    /// The device writes it.
    DeviceWrites,
}

/// A chain was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddError {
    /// Fewer descriptors are free than the chain has parts.
    Full,
    /// A chain without parts, or with buffers that the device reads after ones that it writes.
    BadChain,
}

/// The device broke the protocol. The queue is no longer usable: reset the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueError {
    /// It reports a chain that it was not given.
    NotInFlight,
    /// It says that it wrote more than it was given room for.
    TooLong,
}

/// A chain that the device is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// What [`Queue::add`] returned for it.
    pub head: u16,
    /// Bytes that the device wrote.
    pub written: usize,
}

struct Descriptor {
    /// The buffer while the device has it.
    buffer: Option<Buffer>,
    /// The next of the chain, or of the free list.
    next: u16,
    writable: bool,
    /// Whether a chain starts here.
    head: bool,
}

/// A virtqueue of `SIZE` descriptors, a power of two of at most 2^15.
pub struct Queue<const SIZE: usize> {
    shared: Shared,
    /// The driver's own view of the table, which the device cannot change.
    table: [Descriptor; SIZE],
    free: u16,
    free_count: usize,
    available: u16,
    used: u16,
}

impl<const SIZE: usize> Queue<SIZE> {
    const AVAILABLE: usize = DESC_BYTES * SIZE;
    const USED: usize = (Self::AVAILABLE + RING_HEAD + 2 * SIZE + 2).next_multiple_of(4);
    const BYTES: usize = Self::USED + RING_HEAD + 8 * SIZE + 2;
    const GOOD: () = assert!(SIZE.is_power_of_two() && SIZE <= 1 << 15);

    /// A queue in a piece of `memory`; `None` if there is no room.
    pub fn new(memory: &mut DmaMemory) -> Option<Self> {
        let () = Self::GOOD;
        let shared = Shared::new(memory.cut(Self::BYTES, 64)?);
        let table = core::array::from_fn(|i| Descriptor {
            buffer: None,
            next: if i + 1 < SIZE { i as u16 + 1 } else { END },
            writable: false,
            head: false,
        });
        Some(Self { shared, table, free: 0, free_count: SIZE, available: 0, used: 0 })
    }

    /// Physical addresses of descriptor table, available ring and used ring.
    pub fn addresses(&self) -> [u64; 3] {
        [0, Self::AVAILABLE, Self::USED].map(|offset| self.shared.paddr() + offset as u64)
    }

    /// Descriptors that are free.
    pub fn free(&self) -> usize {
        self.free_count
    }

    /// Gives the device a chain of buffers; all that it reads come before all that it writes. Returns the chain's name.
    /// An error drops the iterator and what is in it: compare its length with [`free`](Self::free) before.
    pub fn add(&mut self, parts: impl ExactSizeIterator<Item = (Buffer, Access)>) -> Result<u16, AddError> {
        self.add_cut(parts, usize::MAX)
    }

    /// Gives the device a chain of one buffer, of which it sees only the first `len` bytes.
    pub fn add_prefix(&mut self, part: (Buffer, Access), len: usize) -> Result<u16, AddError> {
        self.add_cut(core::iter::once(part), len)
    }

    fn add_cut(
        &mut self,
        parts: impl ExactSizeIterator<Item = (Buffer, Access)>,
        longest: usize,
    ) -> Result<u16, AddError> {
        let count = parts.len();
        if count == 0 {
            return Err(AddError::BadChain);
        }
        if count > self.free_count {
            return Err(AddError::Full);
        }
        let head = self.free;
        let mut writing = false;
        for (i, (buffer, access)) in parts.take(count).enumerate() {
            let writable = access == Access::DeviceWrites;
            // A defect of the driver, not of the device: its chains have a fixed form.
            assert!(writable || !writing, "the device reads after it writes");
            writing = writable;
            let index = self.free;
            let descriptor = &mut self.table[index as usize];
            self.free = descriptor.next;
            let flags = if writable { DESC_WRITE } else { 0 } | if i + 1 < count { DESC_NEXT } else { 0 };
            let at = index as usize * DESC_BYTES;
            self.shared.write64(at, buffer.paddr());
            self.shared.write32(at + 8, buffer.len().min(longest) as u32);
            self.shared.write16(at + 12, flags, Ordering::Relaxed);
            self.shared.write16(at + 14, descriptor.next, Ordering::Relaxed);
            descriptor.writable = writable;
            descriptor.head = i == 0;
            if i + 1 == count {
                descriptor.next = END;
            }
            descriptor.buffer = Some(buffer);
        }
        self.free_count -= count;
        let slot = self.available as usize % SIZE;
        self.shared.write16(Self::AVAILABLE + RING_HEAD + 2 * slot, head, Ordering::Relaxed);
        self.available = self.available.wrapping_add(1);
        // Release: the device sees chain and entry before the index.
        self.shared.write16(Self::AVAILABLE + 2, self.available, Ordering::Release);
        Ok(head)
    }

    /// Whether the device wants to be told of added chains. Ask after a batch of [`add`](Self::add).
    pub fn wants_notify(&self) -> bool {
        // The index must be out before the flag is read, or both sides may go to sleep.
        fence(Ordering::SeqCst);
        self.shared.read16(Self::USED, Ordering::Relaxed) & NO_NOTIFY == 0
    }

    /// Whether the device should interrupt when it is done with a chain. When switching on, [`pop`](Self::pop) once
    /// more before sleeping.
    pub fn set_interrupts(&mut self, on: bool) {
        let flags = if on { 0 } else { NO_INTERRUPT };
        self.shared.write16(Self::AVAILABLE, flags, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Whether the device is done with a chain that was not popped yet.
    pub fn has_used(&self) -> bool {
        self.shared.read16(Self::USED + 2, Ordering::Acquire) != self.used
    }

    /// Takes back the next chain that the device is done with; `give` gets its buffers in order. `None` if there is
    /// none.
    pub fn pop(&mut self, mut give: impl FnMut(Buffer)) -> Result<Option<Used>, QueueError> {
        if !self.has_used() {
            return Ok(None);
        }
        let slot = self.used as usize % SIZE;
        let entry = Self::USED + RING_HEAD + 8 * slot;
        let (id, written) = (self.shared.read32(entry), self.shared.read32(entry + 4) as usize);
        let head = u16::try_from(id).ok().filter(|head| self.is_head(*head)).ok_or(QueueError::NotInFlight)?;
        if written > self.room(head) {
            return Err(QueueError::TooLong);
        }
        self.used = self.used.wrapping_add(1);
        self.release(head, &mut give);
        Ok(Some(Used { head, written }))
    }

    fn is_head(&self, index: u16) -> bool {
        self.table.get(index as usize).is_some_and(|descriptor| descriptor.head)
    }

    /// Bytes of a chain that the device may write.
    fn room(&self, head: u16) -> usize {
        self.chain(head).filter(|one| one.writable).filter_map(|one| one.buffer.as_ref()).map(Buffer::len).sum()
    }

    fn chain(&self, head: u16) -> impl Iterator<Item = &Descriptor> {
        let first = self.table.get(head as usize);
        core::iter::successors(first, |descriptor| self.table.get(descriptor.next as usize)).take(SIZE)
    }

    fn release(&mut self, head: u16, give: &mut impl FnMut(Buffer)) {
        self.table[head as usize].head = false;
        let mut index = head;
        while let Some(descriptor) = self.table.get_mut(index as usize) {
            let next = descriptor.next;
            descriptor.next = self.free;
            self.free = index;
            self.free_count += 1;
            descriptor.buffer.take().into_iter().for_each(&mut *give);
            index = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake;

    #[test]
    fn buffers_come_back_in_order_after_many_rounds() {
        let mut memory = fake::memory(64 * 1024);
        let mut queue = Queue::<8>::new(&mut memory).expect("room");
        let device = fake::Ring::new(queue.addresses(), 8);
        let mut pool: std::vec::Vec<Buffer> = (0..6).map(|_| memory.cut(16, 16).expect("room")).collect();
        let addresses: std::vec::Vec<u64> = pool.iter().map(Buffer::paddr).collect();
        // More rounds than an index has values, so that everything wraps (Miri, which is slow, sees the ring wrap).
        for round in 0..if cfg!(miri) { 50 } else { 70_000u32 } {
            pool[0].bytes_mut()[0] = round as u8;
            let [a, b, c] = [pool.remove(0), pool.remove(0), pool.remove(0)];
            let parts = [(a, Access::DeviceReads), (b, Access::DeviceWrites), (c, Access::DeviceWrites)];
            let head = queue.add(parts.into_iter()).expect("room");
            assert_eq!(queue.free(), 5);
            assert!(!queue.has_used());
            let chain = device.take().expect("one chain");
            assert_eq!(chain.reads.concat()[0], round as u8);
            device.put(&chain, &[round as u8; 20]);
            let mut back = std::vec::Vec::new();
            let used = queue.pop(|buffer| back.push(buffer)).expect("sane").expect("one");
            assert_eq!(used, Used { head, written: 20 });
            assert_eq!((back[1].bytes()[15], back[2].bytes()[3], back[2].bytes()[4]), (round as u8, round as u8, 0));
            back[2].bytes_mut().fill(0);
            pool.extend(back);
            assert_eq!(queue.free(), 8);
        }
        pool.sort_by_key(Buffer::paddr);
        assert_eq!(pool.iter().map(Buffer::paddr).collect::<std::vec::Vec<_>>(), addresses);
    }

    #[test]
    fn chains_complete_out_of_order() {
        let mut memory = fake::memory(64 * 1024);
        let mut queue = Queue::<4>::new(&mut memory).expect("room");
        let device = fake::Ring::new(queue.addresses(), 4);
        let mut one = || core::iter::once((memory.cut(8, 8).expect("room"), Access::DeviceWrites));
        let heads: std::vec::Vec<u16> = (0..4).map(|_| queue.add(one()).expect("room")).collect();
        assert_eq!(queue.add(one()), Err(AddError::Full));
        assert_eq!(queue.add(core::iter::empty()), Err(AddError::BadChain));
        let chains: std::vec::Vec<_> = (0..4).map(|_| device.take().expect("chain")).collect();
        for i in [2, 0, 3, 1] {
            device.put(&chains[i], &[i as u8; 8]);
        }
        for i in [2, 0, 3, 1] {
            let used = queue.pop(|buffer| assert_eq!(buffer.bytes(), [i as u8; 8])).expect("sane").expect("one");
            assert_eq!(used.head, heads[i]);
        }
        assert_eq!(queue.pop(drop), Ok(None));
    }

    #[test]
    fn a_lying_device_is_an_error() {
        let mut memory = fake::memory(64 * 1024);
        let mut queue = Queue::<4>::new(&mut memory).expect("room");
        let device = fake::Ring::new(queue.addresses(), 4);
        let buffer = memory.cut(8, 8).expect("room");
        queue.add(core::iter::once((buffer, Access::DeviceWrites))).expect("room");
        device.report(3, 0);
        assert_eq!(queue.pop(drop), Err(QueueError::NotInFlight));
        device.rewrite(0x1_0000, 0);
        assert_eq!(queue.pop(drop), Err(QueueError::NotInFlight));
        device.rewrite(0, 9);
        assert_eq!(queue.pop(drop), Err(QueueError::TooLong));
        device.rewrite(0, 8);
        assert_eq!(queue.pop(drop), Ok(Some(Used { head: 0, written: 8 })));
        device.report(0, 8);
        assert_eq!(queue.pop(drop), Err(QueueError::NotInFlight));
    }

    #[test]
    fn notifications_follow_the_flags() {
        let mut memory = fake::memory(4096);
        let mut queue = Queue::<4>::new(&mut memory).expect("room");
        let device = fake::Ring::new(queue.addresses(), 4);
        assert!(queue.wants_notify() && device.wants_interrupts());
        device.suppress_notify(true);
        queue.set_interrupts(false);
        assert!(!queue.wants_notify() && !device.wants_interrupts());
    }
}
