//! Rings of variable-size records in memory shared by two processes: one producer and one consumer each way.
//!
//! A shared region holds two rings ([`Duplex`]): the first half carries records from the channel's client to its server, the
//! second half the answers. Memory that is all zeros is a valid empty ring, so nobody has to go first.
//!
//! What always holds:
//! * Each header field has one writer. Positions live in the shared memory, so a process that was restarted goes on where
//!   its predecessor stopped; a record is visible only once complete.
//! * The peer is not trusted: positions and lengths are checked against the ring before use, and a record's bytes are copied out
//!   before anybody looks at them. A peer that writes nonsense loses its own records ([`PopError::Corrupt`]) and harms nobody.
//! * No operation blocks, allocates, or loops longer than one record.
//!
//! Restart: [`Duplex::attach`] raises this side's generation and drops what its predecessor, if any, had not read.
//! The other side sees [`Consumer::peer_generation`] change and repeats what it still wants; a protocol whose requests must not be
//! reordered across that point (the block driver's) puts a marker record in front.
//!
//! Signals: who is told, and when, is up to the caller: [`Producer::wants_signal`] after a push and
//! [`Consumer::space_wanted`] after a pop say whether the peer sleeps and needs one.
#![cfg_attr(not(test), no_std)]

use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering, fence};

/// Bytes of a ring's header, in front of its data.
const HEADER: usize = 128;
/// Records start at multiples of this.
const ALIGN: usize = 8;
/// Bytes of the length word in front of each record.
const PREFIX: usize = 8;
/// The length word of the filler at the end of the data, where a record would not fit in one piece.
const SKIP: u32 = u32::MAX;
/// The smallest region that holds two useful rings.
pub const MIN_REGION: usize = 2 * (HEADER + 256);

/// A ring's header. The producer's fields and the consumer's are on cache lines of their own.
#[repr(C)]
struct Header {
    /// Producer: bytes ever written, modulo 2^32.
    tail: AtomicU32,
    /// Producer: how often a producer attached.
    producer_generation: AtomicU32,
    /// Producer: set when a push found no room; cleared by the consumer that makes some.
    space_wanted: AtomicU32,
    _pad0: [u32; 13],
    /// Consumer: bytes ever read, modulo 2^32.
    head: AtomicU32,
    /// Consumer: how often a consumer attached.
    consumer_generation: AtomicU32,
    /// Consumer: non-zero while it is awake and will look again before it sleeps.
    awake: AtomicU32,
    _pad1: [u32; 13],
}

const _: () = assert!(size_of::<Header>() == HEADER);

/// The two ends of a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Produces into the first half, consumes from the second.
    Client,
    /// Produces into the second half, consumes from the first.
    Server,
}

/// The region cannot hold two rings: too small, or not 8-byte aligned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadRegion;

/// A record was not pushed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PushError {
    /// No room now; the consumer will see that space is wanted.
    Full,
    /// The record is longer than [`Producer::max_record`] and will never fit.
    TooLong,
}

/// A record was not popped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PopError {
    /// The peer broke the protocol; everything that it had queued is dropped.
    Corrupt,
    /// The next record has this many bytes and the buffer fewer; the record was dropped.
    BufferTooSmall(usize),
}

/// One ring's memory. Shared by the typed ends below.
struct Raw<'a> {
    header: NonNull<Header>,
    data: NonNull<u8>,
    /// Bytes of data: a power of two, so that positions may wrap.
    capacity: u32,
    _region: PhantomData<&'a [AtomicU32]>,
}

// SAFETY: a `Raw` is one end of a ring; both ends only touch shared words atomically and data bytes by the ownership that head and
// tail define, so an end may move to another thread.
unsafe impl Send for Raw<'_> {}

impl Raw<'_> {
    /// # Safety
    /// `base..base+len` is shared memory that stays mapped, readable and writable for the ring's life, 8-byte aligned, and used only as
    /// a ring. `len` is at least `HEADER + 256`.
    unsafe fn new(base: NonNull<u8>, len: usize) -> Self {
        let room = (len - HEADER).min(1 << 30);
        let capacity = 1u32 << room.ilog2();
        // SAFETY: `HEADER < len`, so the data start is inside the region.
        let data = unsafe { base.add(HEADER) };
        Raw { header: base.cast(), data, capacity, _region: PhantomData }
    }

    fn header(&self) -> &Header {
        // SAFETY: the header is in the region (see `new`), aligned, and all of its fields are atomics or padding.
        unsafe { self.header.as_ref() }
    }

    fn write(&self, position: u32, bytes: &[u8]) {
        let offset = (position & (self.capacity - 1)) as usize;
        assert!(offset + bytes.len() <= self.capacity as usize);
        // SAFETY: in bounds by the assertion; the producer owns the bytes between tail and head + capacity.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), self.data.add(offset).as_ptr(), bytes.len()) }
    }

    fn read(&self, position: u32, bytes: &mut [u8]) {
        let offset = (position & (self.capacity - 1)) as usize;
        assert!(offset + bytes.len() <= self.capacity as usize);
        // SAFETY: in bounds by the assertion; a well-behaved producer does not write between head and tail, and what a
        // hostile one leaves there is only bytes.
        unsafe { core::ptr::copy_nonoverlapping(self.data.add(offset).as_ptr(), bytes.as_mut_ptr(), bytes.len()) }
    }

    fn read_len(&self, position: u32) -> u32 {
        let mut word = [0; 4];
        self.read(position, &mut word);
        u32::from_le_bytes(word)
    }

    /// Bytes from `position` to the end of the data.
    fn until_end(&self, position: u32) -> u32 {
        self.capacity - (position & (self.capacity - 1))
    }
}

/// Bytes that a record of `len` bytes takes in the ring.
fn footprint(len: usize) -> usize {
    PREFIX + len.next_multiple_of(ALIGN)
}

/// The writing end of a ring.
pub struct Producer<'a> {
    raw: Raw<'a>,
    tail: u32,
}

impl Producer<'_> {
    /// The longest record that always fits an empty ring, in bytes.
    pub fn max_record(&self) -> usize {
        self.raw.capacity as usize / 2 - PREFIX
    }

    /// Appends one record made of `parts` in order.
    pub fn push(&mut self, parts: &[&[u8]]) -> Result<(), PushError> {
        let len: usize = parts.iter().map(|p| p.len()).sum();
        if len > self.max_record() {
            return Err(PushError::TooLong);
        }
        let need = footprint(len) as u32;
        let to_end = self.raw.until_end(self.tail);
        let skip = if need > to_end { to_end } else { 0 };
        if self.free() < need + skip {
            self.raw.header().space_wanted.store(1, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if self.free() < need + skip {
                return Err(PushError::Full);
            }
            self.raw.header().space_wanted.store(0, Ordering::Relaxed);
        }
        if skip > 0 {
            self.raw.write(self.tail, &SKIP.to_le_bytes());
        }
        let start = self.tail.wrapping_add(skip);
        self.raw.write(start, &(len as u32).to_le_bytes());
        let mut at = start.wrapping_add(PREFIX as u32);
        for part in parts {
            self.raw.write(at, part);
            at = at.wrapping_add(part.len() as u32);
        }
        self.tail = start.wrapping_add(need);
        self.raw.header().tail.store(self.tail, Ordering::Release);
        Ok(())
    }

    /// Whether the consumer may be asleep and needs a signal to see what was pushed.
    pub fn wants_signal(&self) -> bool {
        fence(Ordering::SeqCst);
        self.raw.header().awake.load(Ordering::Relaxed) == 0
    }

    /// How often a consumer has attached: a change means that the peer was restarted and has dropped unread records.
    pub fn peer_generation(&self) -> u32 {
        self.raw.header().consumer_generation.load(Ordering::Acquire)
    }

    /// Bytes free. A consumer that claims impossible positions has, for us, no room.
    fn free(&self) -> u32 {
        let used = self.tail.wrapping_sub(self.raw.header().head.load(Ordering::Acquire));
        self.raw.capacity.saturating_sub(used)
    }
}

/// The reading end of a ring.
pub struct Consumer<'a> {
    raw: Raw<'a>,
    head: u32,
}

impl Consumer<'_> {
    /// Copies the next record into `buffer` and returns its length; `None` if there is none.
    pub fn pop(&mut self, buffer: &mut [u8]) -> Option<Result<usize, PopError>> {
        loop {
            let tail = self.raw.header().tail.load(Ordering::Acquire);
            let queued = tail.wrapping_sub(self.head);
            if queued == 0 {
                return None;
            }
            if queued > self.raw.capacity || !queued.is_multiple_of(ALIGN as u32) || queued < PREFIX as u32 {
                return Some(Err(self.resync(tail)));
            }
            let to_end = self.raw.until_end(self.head);
            let len = self.raw.read_len(self.head);
            if len == SKIP {
                if to_end >= queued {
                    return Some(Err(self.resync(tail)));
                }
                self.advance(to_end);
                continue; // at most once: after a skip the position is the data's start
            }
            let size = footprint(len as usize);
            if len > self.raw.capacity || size > queued as usize || size > to_end as usize {
                return Some(Err(self.resync(tail)));
            }
            let result = match buffer.get_mut(..len as usize) {
                Some(target) => {
                    self.raw.read(self.head.wrapping_add(PREFIX as u32), target);
                    Ok(len as usize)
                }
                None => Err(PopError::BufferTooSmall(len as usize)),
            };
            self.advance(size as u32);
            return Some(result);
        }
    }

    /// Length in bytes of the next record, without taking it; `None` if the ring is empty or the record is malformed (the next
    /// [`pop`](Self::pop) says so).
    pub fn next_len(&self) -> Option<usize> {
        let tail = self.raw.header().tail.load(Ordering::Acquire);
        let queued = tail.wrapping_sub(self.head);
        if queued < PREFIX as u32 || queued > self.raw.capacity || !queued.is_multiple_of(ALIGN as u32) {
            return None;
        }
        match self.raw.read_len(self.head) {
            SKIP => {
                let to_end = self.raw.until_end(self.head);
                let next = self.head.wrapping_add(to_end);
                (to_end < queued).then(|| self.raw.read_len(next) as usize)
            }
            len => Some(len as usize),
        }
    }

    /// Whether a record (or something malformed) is waiting.
    pub fn is_empty(&self) -> bool {
        self.raw.header().tail.load(Ordering::Acquire) == self.head
    }

    /// Tells the producer that no signals are needed until [`sleep`](Self::sleep): the consumer is at work.
    pub fn wake(&mut self) {
        self.raw.header().awake.store(1, Ordering::Relaxed);
    }

    /// Asks for signals again. Returns true if it is safe to sleep; false if records arrived meanwhile: go on.
    #[must_use]
    pub fn sleep(&mut self) -> bool {
        self.raw.header().awake.store(0, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.is_empty()
    }

    /// Whether the producer found the ring full since the last call, and so waits for a signal now that there is room.
    pub fn space_wanted(&mut self) -> bool {
        fence(Ordering::SeqCst);
        self.raw.header().space_wanted.swap(0, Ordering::AcqRel) != 0
    }

    /// How often a producer has attached: a change means that the peer was restarted.
    pub fn peer_generation(&self) -> u32 {
        self.raw.header().producer_generation.load(Ordering::Acquire)
    }

    fn advance(&mut self, bytes: u32) {
        self.head = self.head.wrapping_add(bytes);
        self.raw.header().head.store(self.head, Ordering::Release);
    }

    /// Drops everything queued after a protocol violation.
    fn resync(&mut self, tail: u32) -> PopError {
        self.head = tail & !(ALIGN as u32 - 1);
        self.raw.header().head.store(self.head, Ordering::Release);
        PopError::Corrupt
    }
}

/// One side's two ends of a channel's rings.
pub struct Duplex<'a> {
    /// Records to the peer.
    pub tx: Producer<'a>,
    /// Records from the peer.
    pub rx: Consumer<'a>,
}

impl Duplex<'_> {
    /// Attaches one side to a shared region: raises its generation, drops what a predecessor had not read, asks for signals. The first
    /// to attach finds what the peer has sent before.
    ///
    /// # Safety
    /// `base..base+len` is memory shared by exactly two processes (or threads), mapped readable and writable for the life of the
    /// result, used only as rings, with at most one live `Duplex` of each side.
    pub unsafe fn attach(base: NonNull<u8>, len: usize, side: Side) -> Result<Self, BadRegion> {
        if len < MIN_REGION || !(base.as_ptr() as usize).is_multiple_of(ALIGN) {
            return Err(BadRegion);
        }
        let half = (len / 2) & !(ALIGN - 1);
        // SAFETY: both halves lie in the caller's region, are aligned, and `half >= HEADER + 256` by the check above.
        let (first, second) = unsafe { (Raw::new(base, half), Raw::new(base.add(half), half)) };
        let (tx, rx) = match side {
            Side::Client => (first, second),
            Side::Server => (second, first),
        };
        let tail = tx.header().tail.load(Ordering::Acquire) & !(ALIGN as u32 - 1);
        // What came before there was any consumer is for us; what a predecessor had not read is not.
        let unread = if rx.header().consumer_generation.load(Ordering::Relaxed) == 0 {
            &rx.header().head
        } else {
            &rx.header().tail
        };
        let head = unread.load(Ordering::Acquire) & !(ALIGN as u32 - 1);
        rx.header().head.store(head, Ordering::Release);
        rx.header().awake.store(0, Ordering::Relaxed);
        bump(&rx.header().consumer_generation);
        bump(&tx.header().producer_generation);
        Ok(Duplex { tx: Producer { raw: tx, tail }, rx: Consumer { raw: rx, head } })
    }

    /// This side's own generation, as the peer sees it in [`peer_generation`](Self::peer_generation): different for every attach.
    pub fn generation(&self) -> u64 {
        let consumer = self.rx.raw.header().consumer_generation.load(Ordering::Acquire);
        let producer = self.tx.raw.header().producer_generation.load(Ordering::Acquire);
        (u64::from(consumer) << 32) | u64::from(producer)
    }

    /// The peer's generation as seen from both rings: any change means that it was restarted.
    pub fn peer_generation(&self) -> u64 {
        ((self.tx.peer_generation() as u64) << 32) | self.rx.peer_generation() as u64
    }
}

fn bump(generation: &AtomicU32) {
    generation.store(generation.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
}
