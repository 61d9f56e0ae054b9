//! The driver's end of the net channels: frames between the card and its clients' rings.

use ipc_ring::{Duplex, PopError};
use virtio::Mmio;

use crate::card::{Card, CardError};
use crate::{Filter, HEADER};

/// Most clients.
pub const MAX_CLIENTS: usize = 4;
/// Frames taken from one source before the others have their turn.
const BATCH: usize = 64;

/// Counts since the driver was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames handed to clients.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Frames handed to the device.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Received frames that a client missed because its ring was full.
    pub dropped_receive: u64,
    /// Records that are no frames.
    pub refused_send: u64,
}

/// No more clients than [`MAX_CLIENTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyClients;

struct Client<'a> {
    ring: Duplex<'a>,
    filter: Filter,
    signal: bool,
}

/// The driver.
pub struct Service<'a, M> {
    card: Card<M>,
    clients: [Option<Client<'a>>; MAX_CLIENTS],
    filters: [Option<Filter>; MAX_CLIENTS],
    counts: Counts,
    /// Whether a client has more to send than the card has room for.
    blocked: bool,
}

impl<'a, M: Mmio> Service<'a, M> {
    /// Serves `card` to nobody yet.
    pub fn new(card: Card<M>) -> Self {
        let (clients, filters) = ([const { None }; MAX_CLIENTS], [None; MAX_CLIENTS]);
        Self { card, clients, filters, counts: Counts::default(), blocked: false }
    }

    /// Adds a client with its ring (attached as server). Returns its number.
    pub fn add_client(&mut self, ring: Duplex<'a>, filter: Filter) -> Result<usize, TooManyClients> {
        let number = self.clients.iter().position(Option::is_none).ok_or(TooManyClients)?;
        self.filters[number] = Some(filter);
        // A client may be waiting for room that a predecessor never made.
        self.clients[number] = Some(Client { ring, filter, signal: true });
        Ok(number)
    }

    /// The card.
    pub fn card(&self) -> &Card<M> {
        &self.card
    }

    /// Counts since the start.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Takes the device's interrupt back; [`run`](Self::run) does the work.
    pub fn acknowledge(&mut self) {
        self.card.acknowledge();
    }

    /// Does all there is to do and calls `signal` for each client that must be told. Returns when every further step needs
    /// a signal or an interrupt, which will come. An error means that the device must be reset: restart the driver.
    pub fn run(&mut self, mut signal: impl FnMut(usize)) -> Result<(), CardError> {
        loop {
            self.card.set_interrupts(false, false);
            while self.round(&mut signal)? {}
            let more = self.card.set_interrupts(true, self.blocked);
            // A client whose frames wait for the card need not signal: the card's interrupt comes.
            let blocked = self.blocked;
            let asleep = self.clients.iter_mut().flatten().all(|client| client.ring.rx.sleep() || blocked);
            if asleep && !more {
                return Ok(());
            }
        }
    }

    /// One turn of each source. Returns whether any was not exhausted.
    fn round(&mut self, signal: &mut impl FnMut(usize)) -> Result<bool, CardError> {
        let mut more = self.receive()?;
        self.blocked = false;
        for number in 0..MAX_CLIENTS {
            more |= self.send(number)?;
        }
        self.card.announce();
        for (number, client) in self.clients.iter_mut().enumerate() {
            if let Some(client) = client
                && core::mem::take(&mut client.signal)
            {
                signal(number);
            }
        }
        Ok(more)
    }

    /// From the card to the clients. Returns whether there may be more.
    fn receive(&mut self) -> Result<bool, CardError> {
        let Self { card, clients, filters, counts, .. } = self;
        for _ in 0..BATCH {
            let received = card.receive(|frame| {
                for client in clients.iter_mut().flatten() {
                    if client.filter.accepts(frame, filters.iter().flatten().copied()) {
                        client.deliver(frame, counts);
                    }
                }
            })?;
            if !received {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// From one client to the card. Returns whether there may be more.
    fn send(&mut self, number: usize) -> Result<bool, CardError> {
        let Some(client) = &mut self.clients[number] else { return Ok(false) };
        client.ring.rx.wake();
        for _ in 0..BATCH {
            if client.ring.rx.is_empty() {
                return Ok(false);
            }
            if !self.card.can_send()? {
                self.blocked = true;
                return Ok(false);
            }
            let mut length = 0;
            let sent = self.card.send(|room| match client.ring.rx.pop(room)? {
                Ok(len) if len >= HEADER => {
                    length = len;
                    Some(len)
                }
                Ok(_) | Err(PopError::BufferTooSmall(_) | PopError::Corrupt) => None,
            });
            client.signal |= client.ring.rx.space_wanted();
            if sent {
                self.counts.sent += 1;
                self.counts.sent_bytes += length as u64;
            } else {
                self.counts.refused_send += 1;
            }
        }
        Ok(true)
    }
}

impl Client<'_> {
    fn deliver(&mut self, frame: &[u8], counts: &mut Counts) {
        if self.ring.tx.push(&[frame]).is_ok() {
            counts.received += 1;
            counts.received_bytes += frame.len() as u64;
        } else {
            counts.dropped_receive += 1;
        }
        self.signal |= self.ring.tx.wants_signal();
    }
}
