//! The directory zone behind the block driver: the core's reads, writes and flushes in the driver's pieces.
//!
//! Order: the core waits for a write's answer before the flush that makes it durable, and the driver keeps exactly that promise, so nothing else is needed.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec;
use alloc::vec::Vec;
use block::{BLOCK_SIZE, BlockClient, Event as BlockEvent, SubmitError, Token};
use smi_cluster::layout::DIRECTORY;
use smi_core::io;
use smi_manager::{Action, Event, Manager};
use smi_rt::Channel;
use smi_rt::session::RegionSession;

/// What a request of ours was for.
enum Purpose {
    /// Part of a read, at this byte of the whole.
    Read {
        token: u64,
        at: usize,
    },
    Write {
        token: u64,
    },
    Flush {
        token: u64,
    },
}

/// A request that the driver had no room for yet.
enum Request {
    Read { block: u64, count: u32 },
    Write { block: u64, bytes: Vec<u8> },
    Flush,
}

/// A read that is not complete.
struct Reading {
    bytes: Vec<u8>,
    missing: usize,
    failed: bool,
}

pub(super) struct Disk {
    client: BlockClient<'static, RegionSession>,
    channel: Channel,
    waiting: VecDeque<(Request, Purpose)>,
    under_way: BTreeMap<u64, Purpose>,
    readings: BTreeMap<u64, Reading>,
}

impl Disk {
    pub fn new(client: BlockClient<'static, RegionSession>, channel: Channel) -> Disk {
        let (waiting, under_way, readings) = (VecDeque::new(), BTreeMap::new(), BTreeMap::new());
        Disk { client, channel, waiting, under_way, readings }
    }

    /// Takes a request of the core. Blocks count from the start of the directory zone.
    pub fn submit(&mut self, action: io::Action) {
        match action {
            io::Action::Read { token, block, count } => self.read(token, block, count),
            io::Action::Write { token, block, bytes } => {
                let request = Request::Write { block: DIRECTORY.first + u64::from(block), bytes };
                self.waiting.push_back((request, Purpose::Write { token }));
            }
            io::Action::Flush { token } => self.waiting.push_back((Request::Flush, Purpose::Flush { token })),
            _ => {}
        }
        self.push();
    }

    fn read(&mut self, token: u64, block: u32, count: u32) {
        let bytes = vec![0; count as usize * BLOCK_SIZE];
        let most = self.client.max_blocks().max(1);
        let mut pieces = 0;
        for first in (0..count).step_by(most as usize) {
            let request = Request::Read {
                block: DIRECTORY.first + u64::from(block) + u64::from(first),
                count: most.min(count - first),
            };
            let at = first as usize * BLOCK_SIZE;
            self.waiting.push_back((request, Purpose::Read { token, at }));
            pieces += 1;
        }
        self.readings.insert(token, Reading { bytes, missing: pieces, failed: false });
    }

    /// Hands waiting requests to the driver, as many as it takes.
    fn push(&mut self) {
        while let Some((request, _)) = self.waiting.front() {
            let submitted = match request {
                Request::Read { block, count } => self.client.read(*block, *count),
                Request::Write { block, bytes } => self.client.write(*block, bytes),
                Request::Flush => self.client.flush(),
            };
            match submitted {
                Ok(token) => {
                    if let Some((_, purpose)) = self.waiting.pop_front() {
                        self.under_way.insert(token.0, purpose);
                    }
                }
                Err(SubmitError::Full | SubmitError::NotReady) => return,
                Err(SubmitError::BadSize) => panic!("a request of the directory that no disk can serve"),
            }
        }
    }

    /// Hands completions to the manager.
    pub fn poll(&mut self, now: u64, manager: &mut Manager, out: &mut Vec<Action>) {
        while let Some(event) = self.client.poll() {
            if let BlockEvent::Done(token, result) = event
                && let Some(purpose) = self.under_way.remove(&token.0)
            {
                self.done(now, token, purpose, result.is_ok(), manager, out);
            }
        }
        self.push();
    }

    fn done(
        &mut self,
        now: u64,
        token: Token,
        purpose: Purpose,
        ok: bool,
        manager: &mut Manager,
        out: &mut Vec<Action>,
    ) {
        match purpose {
            Purpose::Write { token } if ok => manager.step(now, Event::Disk(io::Event::Written { token }), out),
            Purpose::Flush { token } if ok => manager.step(now, Event::Disk(io::Event::Flushed { token }), out),
            Purpose::Write { token } | Purpose::Flush { token } => {
                defmt::error!("disk-failed");
                manager.step(now, Event::Disk(io::Event::IoFailed { token }), out);
            }
            Purpose::Read { token: whole, at } => self.piece_done(now, token, whole, at, ok, manager, out),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a completion has this many facts")]
    fn piece_done(
        &mut self,
        now: u64,
        token: Token,
        whole: u64,
        at: usize,
        ok: bool,
        manager: &mut Manager,
        out: &mut Vec<Action>,
    ) {
        let len = self.client.blocks_of(token).unwrap_or(0) as usize * BLOCK_SIZE;
        let Some(reading) = self.readings.get_mut(&whole) else { return self.client.forget(token) };
        let copied = ok && reading.bytes.get_mut(at..at + len).is_some_and(|to| self.client.take(token, to));
        reading.failed |= !copied;
        reading.missing -= 1;
        if reading.missing > 0 {
            return;
        }
        if let Some(done) = self.readings.remove(&whole) {
            let data = (!done.failed).then_some(&done.bytes[..]);
            manager.step(now, Event::Disk(io::Event::ReadBack { token: whole, data }), out);
        }
    }

    /// Wakes the driver if it must be.
    pub fn signal(&mut self) {
        if self.client.wants_signal() {
            smi_rt::notify(&self.channel);
        }
    }
}
