//! The client's end of a block channel.

use ipc_ring::Duplex;
use ipc_wire::Session;

use crate::record::{Geometry, Op, RECORD_BYTES, Reply, Request, Status};
use crate::spans::Spans;
use crate::{BLOCK_SIZE, MAX_BLOCKS};

/// Most requests that a client has under way or not yet taken.
pub const MAX_PENDING: usize = 64;

/// Names a request until it is taken. Rises with every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// A request was not accepted; nothing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubmitError {
    /// The driver has not answered yet: wait for [`Event::Ready`].
    NotReady,
    /// Too many under way, or no room in the data area: wait for a completion.
    Full,
    /// Zero blocks, more than [`BlockClient::max_blocks`], or bytes that are no whole blocks.
    BadSize,
}

/// What [`BlockClient::poll`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The driver is there (again); this is the window.
    Ready(Geometry),
    /// A request is done. A successful read waits for [`BlockClient::take`]; all others are over.
    Done(Token, Result<(), Status>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not in the ring yet.
    Waiting,
    /// With the driver.
    Sent,
    /// Read, not yet taken.
    Arrived,
}

#[derive(Clone, Copy)]
struct Pending {
    token: u64,
    op: Op,
    block: u64,
    count: u32,
    slot: u32,
    state: State,
}

/// A client of the block driver. Does not signal: after a batch of calls, ask [`wants_signal`](Self::wants_signal).
pub struct BlockClient<'a, D> {
    ring: Duplex<'a>,
    data: D,
    spans: Spans,
    /// By ascending token.
    pending: [Option<Pending>; MAX_PENDING],
    next_token: u64,
    max_blocks: u32,
    session: u64,
    /// The driver's generation that this session was opened with.
    peer: u64,
    /// Whether Hello is in the ring.
    greeted: bool,
    /// Whether the driver has answered it.
    ready: bool,
    /// Whether a driver has ever answered: from then on no predecessor's request touches the data area.
    started: bool,
    signal: bool,
}

impl<'a, D: Session> BlockClient<'a, D> {
    /// A client on the channel's ring (attached as client) and data area. Requests are accepted after [`Event::Ready`].
    pub fn new(ring: Duplex<'a>, data: D) -> Self {
        let spans = Spans::new(data.len() / BLOCK_SIZE);
        let max_blocks = spans.count().min(MAX_BLOCKS);
        let peer = ring.peer_generation();
        // Different from every predecessor's, which leaves low bits to count this client's own sessions.
        let session = ring.generation() << 32;
        let pending = [None; MAX_PENDING];
        let mut client = Self {
            ring,
            data,
            spans,
            pending,
            next_token: 1,
            max_blocks,
            session,
            peer,
            greeted: false,
            ready: false,
            started: false,
            signal: false,
        };
        client.push_waiting();
        client
    }

    /// Most blocks of one request; final once the driver is ready.
    pub fn max_blocks(&self) -> u32 {
        self.max_blocks
    }

    /// Asks for `count` blocks from `block` of the window on.
    pub fn read(&mut self, block: u64, count: u32) -> Result<Token, SubmitError> {
        self.submit(Op::Read, block, count, |_, _| ())
    }

    /// Writes whole blocks from `block` of the window on. The bytes are copied at once.
    pub fn write(&mut self, block: u64, bytes: &[u8]) -> Result<Token, SubmitError> {
        if !bytes.len().is_multiple_of(BLOCK_SIZE) {
            return Err(SubmitError::BadSize);
        }
        let count = u32::try_from(bytes.len() / BLOCK_SIZE).map_err(|_| SubmitError::BadSize)?;
        self.submit(Op::Write, block, count, |data, slot| {
            // The slots are ours and in the area, so this cannot fail.
            let _ = data.write(slot as usize * BLOCK_SIZE, bytes);
        })
    }

    /// Makes the writes that have completed so far durable.
    pub fn flush(&mut self) -> Result<Token, SubmitError> {
        self.enter(Op::Flush, 0, 0, 0)
    }

    /// Copies the blocks of a completed read to `out` and forgets the request. False if `token` is no such read or
    /// `out` has not exactly its size; then nothing happens.
    #[must_use]
    pub fn take(&mut self, token: Token, out: &mut [u8]) -> bool {
        let Some(index) = self.find(token.0) else { return false };
        let Some(one) = self.pending[index] else { return false };
        if one.state != State::Arrived || out.len() != one.count as usize * BLOCK_SIZE {
            return false;
        }
        let read = self.data.read(one.slot as usize * BLOCK_SIZE, out).is_ok();
        self.release(index);
        read
    }

    /// Forgets a completed read without its bytes.
    pub fn forget(&mut self, token: Token) {
        let arrived = |one: &Pending| one.state == State::Arrived;
        if let Some(index) = self.find(token.0).filter(|index| self.pending[*index].as_ref().is_some_and(arrived)) {
            self.release(index);
        }
    }

    /// Blocks of a request that is not over; for the size of [`take`](Self::take)'s buffer.
    pub fn blocks_of(&self, token: Token) -> Option<u32> {
        self.find(token.0).and_then(|index| self.pending[index]).map(|one| one.count)
    }

    /// What the driver has answered, one event at a time; `None` when there is nothing more for now. Call it after
    /// every signal until it gives `None`: it also notices a restart of the driver and submits again.
    pub fn poll(&mut self) -> Option<Event> {
        self.ring.rx.wake();
        loop {
            self.watch_peer();
            self.push_waiting();
            let mut record = [0; RECORD_BYTES];
            let event = match self.ring.rx.pop(&mut record) {
                Some(Ok(len)) => self.answer(&record[..len]),
                // Nonsense from the driver is dropped; its restart will say Hello.
                Some(Err(_)) => None,
                None if self.ring.rx.sleep() => return None,
                None => None,
            };
            if self.ring.rx.space_wanted() {
                self.signal = true;
            }
            if event.is_some() {
                return event;
            }
        }
    }

    /// Whether the driver must be signalled now. Clears the wish.
    pub fn wants_signal(&mut self) -> bool {
        core::mem::take(&mut self.signal)
    }

    /// Requests that are not over.
    pub fn pending(&self) -> usize {
        self.pending.iter().flatten().count()
    }

    fn find(&self, token: u64) -> Option<usize> {
        self.pending.iter().position(|one| one.is_some_and(|one| one.token == token))
    }

    fn submit(&mut self, op: Op, block: u64, count: u32, fill: impl FnOnce(&D, u32)) -> Result<Token, SubmitError> {
        if !self.started {
            return Err(SubmitError::NotReady);
        }
        if count == 0 || count > self.max_blocks() {
            return Err(SubmitError::BadSize);
        }
        let slot = self.spans.take(count).ok_or(SubmitError::Full)?;
        fill(&self.data, slot);
        let entered = self.enter(op, block, count, slot);
        if entered.is_err() {
            self.spans.free(slot, count);
        }
        entered
    }

    fn enter(&mut self, op: Op, block: u64, count: u32, slot: u32) -> Result<Token, SubmitError> {
        if !self.started {
            return Err(SubmitError::NotReady);
        }
        let free = self.pending.iter().position(Option::is_none).ok_or(SubmitError::Full)?;
        let token = self.next_token;
        self.next_token += 1;
        self.pending[free] = Some(Pending { token, op, block, count, slot, state: State::Waiting });
        self.push_waiting();
        Ok(Token(token))
    }

    fn release(&mut self, index: usize) {
        if let Some(one) = self.pending[index].take()
            && one.count > 0
        {
            self.spans.free(one.slot, one.count);
        }
    }

    /// A changed generation is another driver: a new session, everything unfinished again.
    fn watch_peer(&mut self) {
        let peer = self.ring.peer_generation();
        if peer == self.peer {
            return;
        }
        self.peer = peer;
        self.session = self.session.wrapping_add(1);
        self.greeted = false;
        self.ready = false;
        for one in self.pending.iter_mut().flatten().filter(|one| one.state == State::Sent) {
            one.state = State::Waiting;
        }
    }

    /// Pushes Hello and then, in order of tokens, what is not with the driver yet, as far as the ring has room.
    fn push_waiting(&mut self) {
        if !self.greeted {
            self.greeted = self.push(Request::Hello { session: self.session });
        }
        while self.greeted {
            let waiting = self.pending.iter_mut().flatten().filter(|one| one.state == State::Waiting);
            let Some(one) = waiting.min_by_key(|one| one.token) else { return };
            let Pending { token, op, block, count, slot, .. } = *one;
            if !self.push(Request::Submit { token, op, block, count, slot }) {
                return;
            }
            if let Some(index) = self.find(token)
                && let Some(one) = &mut self.pending[index]
            {
                one.state = State::Sent;
            }
        }
    }

    fn push(&mut self, request: Request) -> bool {
        let pushed = self.ring.tx.push(&[&request.encode()]).is_ok();
        self.signal |= pushed && self.ring.tx.wants_signal();
        pushed
    }

    fn answer(&mut self, record: &[u8]) -> Option<Event> {
        match Reply::decode(record) {
            Ok(Reply::Ready { session, geometry }) if session == self.session && !self.ready => {
                self.ready = true;
                self.started = true;
                self.max_blocks = self.max_blocks.min(geometry.max_blocks);
                Some(Event::Ready(geometry))
            }
            Ok(Reply::Done { session, token, status }) if session == self.session && self.ready => {
                self.done(token, status)
            }
            _ => None,
        }
    }

    fn done(&mut self, token: u64, status: Status) -> Option<Event> {
        let index = self.find(token)?;
        let one = self.pending[index].as_mut().filter(|one| one.state == State::Sent)?;
        if status == Status::Ok && one.op == Op::Read {
            one.state = State::Arrived;
        } else {
            self.release(index);
        }
        let result = if status == Status::Ok { Ok(()) } else { Err(status) };
        Some(Event::Done(Token(token), result))
    }
}
