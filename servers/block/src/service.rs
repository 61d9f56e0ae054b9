//! The driver's end of the block channels: sessions, windows, fairness between clients.
//!
//! Each client has a bound on requests under way; a request that finds no room waits in its client's ring, and the others
//! go on. Every accepted request is answered exactly once in its session, or not at all once the session is over.

use ipc_ring::{Duplex, PopError};
use ipc_wire::Session;
use virtio::Mmio;

use crate::BLOCK_SIZE;
use crate::disk::{Completed, Disk, DiskError, MAX_FLIGHTS};
use crate::record::{Geometry, Op, RECORD_BYTES, Reply, Request, Status};

/// Most clients.
pub const MAX_CLIENTS: usize = 4;
/// Requests of one client under way or answered but not yet in its ring.
const MAX_OPEN: usize = MAX_FLIGHTS / 2;

/// Blocks of the disk that a client may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First block.
    pub first: u64,
    /// Blocks.
    pub blocks: u64,
}

/// Counts since the driver was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Blocks read.
    pub blocks_read: u64,
    /// Blocks written.
    pub blocks_written: u64,
    /// Flushes done.
    pub flushes: u64,
    /// Requests that the device failed.
    pub errors: u64,
    /// Requests and records refused before they reached the device.
    pub refused: u64,
}

/// No more clients than [`MAX_CLIENTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyClients;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Until Hello.
    Silent,
    /// Hello has come; requests of the session before are still with the device.
    Draining(u64),
    /// In a session.
    Open(u64),
}

impl Phase {
    fn is_draining(self) -> bool {
        matches!(self, Phase::Draining(_))
    }
}

/// A request as it was submitted.
#[derive(Clone, Copy)]
struct Submit {
    token: u64,
    op: Op,
    block: u64,
    count: u32,
    slot: u32,
}

struct Client<'a, D> {
    ring: Duplex<'a>,
    data: D,
    window: Window,
    phase: Phase,
    /// Taken from the ring, waiting for room.
    held: Option<Submit>,
    /// With the device, of this session or one before.
    in_flight: usize,
    /// Answers that found the ring full, oldest first.
    backlog: [Option<Reply>; MAX_OPEN + 1],
    backlog_len: usize,
    signal: bool,
}

/// A request with the device.
#[derive(Clone, Copy)]
struct Flight {
    client: usize,
    /// The session it belongs to.
    session: u64,
    submit: Submit,
}

/// The driver.
pub struct Service<'a, M, D> {
    disk: Disk<M>,
    clients: [Option<Client<'a, D>>; MAX_CLIENTS],
    flights: [Option<Flight>; MAX_FLIGHTS],
    counts: Counts,
}

impl<'a, M: Mmio, D: Session> Service<'a, M, D> {
    /// Serves `disk` to nobody yet.
    pub fn new(disk: Disk<M>) -> Self {
        let (clients, flights) = ([const { None }; MAX_CLIENTS], [const { None }; MAX_FLIGHTS]);
        Self { disk, clients, flights, counts: Counts::default() }
    }

    /// Adds a client with its ring (attached as server), data area and window, which is cut to the disk. Returns its
    /// number.
    pub fn add_client(&mut self, ring: Duplex<'a>, data: D, window: Window) -> Result<usize, TooManyClients> {
        let number = self.clients.iter().position(Option::is_none).ok_or(TooManyClients)?;
        let first = window.first.min(self.disk.blocks());
        let window = Window { first, blocks: window.blocks.min(self.disk.blocks() - first) };
        self.clients[number] = Some(Client {
            ring,
            data,
            window,
            phase: Phase::Silent,
            held: None,
            in_flight: 0,
            backlog: [None; MAX_OPEN + 1],
            backlog_len: 0,
            // A client that greeted a predecessor must greet again.
            signal: true,
        });
        Ok(number)
    }

    /// A client's window.
    pub fn window(&self, client: usize) -> Option<Window> {
        self.clients.get(client)?.as_ref().map(|client| client.window)
    }

    /// The disk.
    pub fn disk(&self) -> &Disk<M> {
        &self.disk
    }

    /// Counts since the start.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Takes the device's interrupt back; [`run`](Self::run) does the work.
    pub fn acknowledge(&mut self) {
        self.disk.acknowledge();
    }

    /// Does all there is to do and calls `signal` for each client that must be told. Returns when every further step needs a
    /// signal or an interrupt, which will come. An error means that the device must be reset: restart the driver.
    pub fn run(&mut self, mut signal: impl FnMut(usize)) -> Result<(), DiskError> {
        loop {
            self.disk.set_interrupts(false);
            while self.round()? {}
            for (number, client) in self.clients.iter_mut().enumerate() {
                if let Some(client) = client
                    && core::mem::take(&mut client.signal)
                {
                    signal(number);
                }
            }
            let completed = self.disk.set_interrupts(true);
            let asleep = self.clients.iter_mut().flatten().all(Client::sleep);
            if asleep && !completed {
                return Ok(());
            }
        }
    }

    /// One turn of device and clients. Returns whether anything was done.
    fn round(&mut self) -> Result<bool, DiskError> {
        let mut worked = false;
        while let Some(completed) = self.disk.complete()? {
            self.finish(completed);
            worked = true;
        }
        for number in 0..MAX_CLIENTS {
            worked |= self.serve(number);
        }
        self.disk.announce();
        Ok(worked)
    }

    /// Answers a request that the device is done with.
    fn finish(&mut self, completed: Completed) {
        let flight = self.flights.get_mut(completed.tag as usize).and_then(Option::take);
        if let Some(Flight { client, session, submit }) = flight
            && let Some(client) = &mut self.clients[client]
        {
            client.in_flight -= 1;
            self.counts.count(submit, completed.ok);
            let status = if completed.ok { Status::Ok } else { Status::Media };
            if client.phase == Phase::Open(session) {
                if completed.ok && submit.op == Op::Read {
                    for (i, buffer) in completed.blocks.iter().enumerate() {
                        // In the area: `check` has looked, and it does not shrink.
                        let _ = client.data.write((submit.slot as usize + i) * BLOCK_SIZE, buffer.bytes());
                    }
                }
                client.answer(Reply::Done { session, token: submit.token, status });
            }
        }
        self.disk.recycle(completed);
    }

    /// Takes from one client what it asks and there is room for.
    fn serve(&mut self, number: usize) -> bool {
        let mut worked = false;
        loop {
            let Some(client) = &mut self.clients[number] else { return worked };
            worked |= client.push_backlog();
            if let Phase::Draining(session) = client.phase {
                if client.in_flight > 0 {
                    return worked;
                }
                client.open(session, &self.disk);
                worked = true;
            }
            let Some(submit) = client.next(&mut self.counts) else {
                if client.phase.is_draining() && client.in_flight == 0 {
                    continue; // a Hello has come, and nothing is in its way
                }
                return worked;
            };
            worked = true;
            if !self.start(number, submit) {
                return worked;
            }
        }
    }

    /// Checks a request and gives it to the device, or answers it. False if there is no room; then it is held.
    fn start(&mut self, number: usize, submit: Submit) -> bool {
        let Some(client) = &mut self.clients[number] else { return true };
        let Phase::Open(session) = client.phase else { return true };
        let verdict = client.check(&submit, &self.disk);
        if let Err(status) = verdict {
            self.counts.refused += 1;
            client.answer(Reply::Done { session, token: submit.token, status });
            return true;
        }
        if submit.op == Op::Flush && !self.disk.cached() {
            self.counts.flushes += 1;
            client.answer(Reply::Done { session, token: submit.token, status: Status::Ok });
            return true;
        }
        let Some(tag) = self.flights.iter().position(Option::is_none) else {
            client.held = Some(submit);
            return false;
        };
        let (data, slot) = (&client.data, submit.slot as usize);
        let block = client.window.first + submit.block;
        let started = self.disk.submit(tag as u32, submit.op, block, submit.count, |i, buffer| {
            // In the area, as above.
            let _ = data.read((slot + i) * BLOCK_SIZE, buffer);
        });
        if started {
            client.in_flight += 1;
            self.flights[tag] = Some(Flight { client: number, session, submit });
        } else {
            client.held = Some(submit);
        }
        started
    }
}

impl Counts {
    fn count(&mut self, submit: Submit, ok: bool) {
        match submit.op {
            _ if !ok => self.errors += 1,
            Op::Read => self.blocks_read += u64::from(submit.count),
            Op::Write => self.blocks_written += u64::from(submit.count),
            Op::Flush => self.flushes += 1,
        }
    }
}

impl<D: Session> Client<'_, D> {
    /// Whether all that this client can have under way is.
    fn is_full(&self) -> bool {
        self.in_flight + self.backlog_len >= MAX_OPEN
    }

    /// Begins a session.
    fn open<M: Mmio>(&mut self, session: u64, disk: &Disk<M>) {
        // Answers of the session before mean nothing any more.
        self.backlog_len = 0;
        self.held = None;
        self.phase = Phase::Open(session);
        let slots = u32::try_from(self.data.len() / BLOCK_SIZE).unwrap_or(u32::MAX);
        let geometry = Geometry {
            blocks: self.window.blocks,
            max_blocks: disk.max_blocks().min(slots),
            read_only: disk.read_only(),
            cached: disk.cached(),
        };
        self.answer(Reply::Ready { session, geometry });
    }

    /// The next request of the session, if one is there and another may be under way.
    fn next(&mut self, counts: &mut Counts) -> Option<Submit> {
        if self.is_full() || self.phase.is_draining() {
            return None;
        }
        if let Some(held) = self.held.take() {
            return Some(held);
        }
        self.ring.rx.wake();
        loop {
            let mut record = [0; RECORD_BYTES];
            let popped = self.ring.rx.pop(&mut record)?;
            self.signal |= self.ring.rx.space_wanted();
            let request = match popped {
                Ok(len) => Request::decode(&record[..len]).ok(),
                Err(PopError::BufferTooSmall(_)) => None,
                Err(PopError::Corrupt) => {
                    // Requests are lost: the client must begin anew.
                    self.phase = Phase::Silent;
                    None
                }
            };
            match (request, self.phase) {
                (Some(Request::Hello { session }), _) => {
                    self.phase = Phase::Draining(session);
                    return None;
                }
                (Some(Request::Submit { token, op, block, count, slot }), Phase::Open(_)) => {
                    return Some(Submit { token, op, block, count, slot });
                }
                // In front of Hello: meant for a predecessor.
                (Some(_), _) => {}
                (None, _) => counts.refused += 1,
            }
        }
    }

    /// Whether a request may go to the device.
    fn check<M: Mmio>(&self, submit: &Submit, disk: &Disk<M>) -> Result<(), Status> {
        if submit.op == Op::Flush {
            let plain = submit.block == 0 && submit.count == 0 && submit.slot == 0;
            return if plain { Ok(()) } else { Err(Status::BadRequest) };
        }
        let slots = (self.data.len() / BLOCK_SIZE) as u64;
        if submit.count == 0
            || submit.count > disk.max_blocks()
            || u64::from(submit.slot) + u64::from(submit.count) > slots
        {
            return Err(Status::BadRequest);
        }
        let end = submit.block.checked_add(submit.count.into()).ok_or(Status::OutOfWindow)?;
        if end > self.window.blocks {
            return Err(Status::OutOfWindow);
        }
        if submit.op == Op::Write && disk.read_only() {
            return Err(Status::ReadOnly);
        }
        Ok(())
    }

    /// Queues an answer. There is room: at most `MAX_OPEN` are owed, and Ready.
    fn answer(&mut self, reply: Reply) {
        self.backlog[self.backlog_len] = Some(reply);
        self.backlog_len += 1;
        self.push_backlog();
    }

    /// Puts queued answers into the ring. Returns whether any went.
    fn push_backlog(&mut self) -> bool {
        let mut sent = 0;
        for reply in self.backlog[..self.backlog_len].iter().flatten() {
            if self.ring.tx.push(&[&reply.encode()]).is_err() {
                break;
            }
            sent += 1;
        }
        if sent > 0 {
            self.backlog.copy_within(sent..self.backlog_len, 0);
            self.backlog_len -= sent;
            self.signal |= self.ring.tx.wants_signal();
        }
        sent > 0
    }

    /// Asks for signals. False if there is something to do at once. A client that waits for the device or for room in its
    /// ring need not be asked: an interrupt or its signal comes.
    fn sleep(&mut self) -> bool {
        let waits = self.is_full() || self.held.is_some() || self.phase.is_draining();
        waits || self.ring.rx.sleep()
    }
}
