//! The service: the engine between its sockets and its files. One [`Service::turn`] serves everything that is ready.
//!
//! A turn reads from every ready connection once, commits what was written by one append, sends the replies, and begins again until
//! nothing moves. So the writes of all connections that were ready together share one durable append.

use crate::engine::{Actions, Config, ConnId, Db, Event, FileOp};
use crate::files::{Files, FilesError};
use crate::recovery::Recovered;
use crate::sockets::{Ready, Received, Sockets, SocketsLost};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;
use ipc_api::socket;

/// Most bytes read from a connection per round.
const READ: usize = 16 * 1024;
/// How long writes are refused after the disks were full.
const FULL_PAUSE_MS: u64 = 2000;

/// Why the service must end. Its supervisor decides what follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The sockets are lost.
    Sockets(SocketsLost),
    /// The files are lost.
    Files(FilesError),
}

/// Replies that the socket has not taken yet.
#[derive(Default)]
struct Out {
    bytes: Vec<u8>,
    at: usize,
    /// The engine has no more for it.
    last: bool,
}

/// See the module's documentation.
pub struct Service<S: Sockets, F: Files> {
    sockets: S,
    files: F,
    config: Config,
    db: Db,
    out: BTreeMap<u32, Out>,
    dirty: BTreeSet<u32>,
    /// What is added to the shell's clock to get the database's time.
    offset_ms: u64,
    buffer: Vec<u8>,
}

impl<S: Sockets, F: Files> Service<S, F> {
    /// A service on recovered data. `clock_ms` is the shell's clock: milliseconds since whenever, never going back.
    pub fn new(sockets: S, files: F, config: Config, recovered: Recovered, clock_ms: u64) -> Service<S, F> {
        // The database's time goes on from where the log ends, also when this node's clock is behind it.
        let offset_ms = recovered.time.saturating_sub(clock_ms);
        let db = Db::new(config.clone(), recovered, clock_ms + offset_ms);
        Service {
            sockets,
            files,
            config,
            db,
            out: BTreeMap::new(),
            dirty: BTreeSet::new(),
            offset_ms,
            buffer: vec![0; READ],
        }
    }

    /// The engine; for statistics.
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// The shell's clock at which a turn is due though nothing is ready.
    pub fn deadline_ms(&self) -> Option<u64> {
        self.db.deadline().map(|at| at.saturating_sub(self.offset_ms))
    }

    /// Serves what is ready until nothing moves.
    pub fn turn(&mut self, clock_ms: u64) -> Result<(), End> {
        let now = clock_ms + self.offset_ms;
        loop {
            let (moved, more) = self.read_ready(now)?;
            self.step(now, Event::Round)?;
            let moved = self.write_dirty(now)? || moved;
            if !moved && !more && self.dirty.is_empty() {
                return Ok(());
            }
        }
    }

    /// One round over what is ready: whether anything was done, and whether not all was shown.
    fn read_ready(&mut self, now: u64) -> Result<(bool, bool), End> {
        let mut ready = Vec::new();
        let more = self.sockets.poll(&mut ready).map_err(End::Sockets)?;
        let mut moved = false;
        for Ready { object, flags } in ready {
            if self.sockets.is_listener(object) {
                if flags & socket::CLOSED != 0 {
                    return Err(End::Sockets(SocketsLost::PortInUse));
                }
                moved |= self.accept_all(now)?;
                continue;
            }
            if flags & socket::CLOSED != 0 {
                self.drop_conn(now, object)?;
                moved = true;
                continue;
            }
            if flags & socket::WRITE != 0 {
                self.dirty.insert(object);
            }
            if flags & socket::READ != 0 {
                moved |= self.read(now, object)?;
            }
        }
        Ok((moved, more && moved))
    }

    fn accept_all(&mut self, now: u64) -> Result<bool, End> {
        let mut moved = false;
        while let Some(object) = self.sockets.accept().map_err(End::Sockets)? {
            moved = true;
            self.out.insert(object, Out::default());
            self.step(now, Event::Opened(conn(object)))?;
        }
        Ok(moved)
    }

    fn read(&mut self, now: u64, object: u32) -> Result<bool, End> {
        if !self.out.contains_key(&object) {
            // Not ours (any more): nothing waits for its bytes.
            self.sockets.close(object);
            return Ok(true);
        }
        if !self.db.wants_input(conn(object)) {
            return Ok(false);
        }
        let mut buffer = core::mem::take(&mut self.buffer);
        let received = self.sockets.recv(object, &mut buffer);
        let result = match received {
            Received::Bytes(count) => self.step(now, Event::Input(conn(object), &buffer[..count])).map(|()| true),
            Received::Nothing => Ok(false),
            Received::End => self.drop_conn(now, object).map(|()| true),
        };
        self.buffer = buffer;
        result
    }

    /// Sends what the connections' replies are, as far as they are taken; whether any were. (Then a connection that was held back may
    /// have room again, and the bytes that wait for it have been shown already.)
    fn write_dirty(&mut self, now: u64) -> Result<bool, End> {
        let mut moved = false;
        for object in core::mem::take(&mut self.dirty) {
            let Some(out) = self.out.get_mut(&object) else { continue };
            let mut sent = 0;
            let mut broken = false;
            while out.at < out.bytes.len() {
                match self.sockets.send(object, &out.bytes[out.at..]) {
                    Some(0) => break,
                    Some(count) => {
                        out.at += count;
                        sent += count;
                    }
                    None => {
                        broken = true;
                        break;
                    }
                }
            }
            if out.at == out.bytes.len() {
                out.bytes.clear();
                out.at = 0;
                broken |= out.last;
            }
            moved |= broken || sent > 0;
            if broken {
                self.drop_conn(now, object)?;
            } else if sent > 0 {
                self.step(now, Event::Sent(conn(object), sent))?;
            }
        }
        Ok(moved)
    }

    fn drop_conn(&mut self, now: u64, object: u32) -> Result<(), End> {
        self.out.remove(&object);
        self.dirty.remove(&object);
        self.sockets.close(object);
        self.step(now, Event::Closed(conn(object)))
    }

    /// Gives the engine an event and does what it asks for, to the end.
    fn step(&mut self, now: u64, event: Event<'_>) -> Result<(), End> {
        let mut actions = Actions::default();
        self.db.step(now, event, &mut actions);
        loop {
            for (id, bytes) in actions.replies.drain(..) {
                let object = id.0 as u32;
                if let Some(out) = self.out.get_mut(&object) {
                    out.bytes.extend_from_slice(&bytes);
                    self.dirty.insert(object);
                }
            }
            for id in actions.close.drain(..) {
                let object = id.0 as u32;
                if let Some(out) = self.out.get_mut(&object) {
                    out.last = true;
                    self.dirty.insert(object);
                }
            }
            let Some(op) = actions.file.take() else { return Ok(()) };
            match (self.files.perform(&op), &op) {
                (Ok(()), _) => self.db.step(now, Event::FileDone, &mut actions),
                (Err(FilesError::NoSpace), FileOp::AppendLog(_)) => return self.reload(now),
                (Err(FilesError::NoSpace), FileOp::CreateNext | FileOp::AppendNext(_)) => {
                    self.db.step(now, Event::NextFailed, &mut actions);
                }
                (Err(error), _) => return Err(End::Files(error)),
            }
        }
    }

    /// The log had no room: the engine is ahead of it and its clients must not hear of what is lost. All connections are closed
    /// (the outcome of their last requests is unknown to them), and the engine begins again from the file.
    fn reload(&mut self, now: u64) -> Result<(), End> {
        for object in core::mem::take(&mut self.out).into_keys() {
            self.sockets.close(object);
        }
        self.dirty.clear();
        let recovered = self.files.recover().map_err(End::Files)?;
        self.db = Db::new(self.config.clone(), recovered, now);
        self.db.refuse_writes(now + FULL_PAUSE_MS);
        Ok(())
    }
}

fn conn(object: u32) -> ConnId {
    ConnId(object as u64)
}
