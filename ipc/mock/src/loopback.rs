//! A channel to a server in the same process.

use core::cell::Cell;

use ipc_wire::{Caller, CellSession, Dispatched, Incoming, LinkError, MAX_PAYLOAD, Reply, Request, Session, Transport};

use crate::Restart;

/// The server's end: usually a closure around a generated `dispatch`.
pub trait Service {
    /// Handles a call; the reply's payload goes to the start of `reply`.
    fn call(&mut self, incoming: &Incoming<'_>, reply: &mut [u8]) -> Dispatched;

    /// The reply of a call that was left pending, as the server would send it later; `None` if it never comes.
    fn settle(&mut self, _token: u64, _reply: &mut [u8]) -> Option<Reply> {
        None
    }

    /// Forgets everything, as a restarted server would.
    fn restart(&mut self) {}
}

impl<F: FnMut(&Incoming<'_>, &mut [u8]) -> Dispatched> Service for F {
    fn call(&mut self, incoming: &Incoming<'_>, reply: &mut [u8]) -> Dispatched {
        self(incoming, reply)
    }
}

/// A channel with a session buffer of `SESSION` bytes.
pub struct Loopback<S, const SESSION: usize = 0> {
    service: S,
    badge: u64,
    calls: u64,
    memory: [Cell<u8>; SESSION],
}

impl<F: FnMut(&Incoming<'_>, &mut [u8]) -> Dispatched> Loopback<F> {
    /// A channel without session buffer to a function around a generated `dispatch`.
    pub fn new(dispatch: F) -> Self {
        Self::serving(dispatch)
    }
}

impl<S: Service, const SESSION: usize> Loopback<S, SESSION> {
    /// A channel to `service`.
    pub fn serving(service: S) -> Self {
        Self { service, badge: 1, calls: 0, memory: [const { Cell::new(0) }; SESSION] }
    }

    /// The badge that the server sees.
    pub fn set_badge(&mut self, badge: u64) {
        self.badge = badge;
    }

    /// The server.
    pub fn service(&mut self) -> &mut S {
        &mut self.service
    }

    /// Calls that have reached the server.
    pub fn calls(&self) -> u64 {
        self.calls
    }
}

impl<S, const SESSION: usize> Session for Loopback<S, SESSION> {
    fn len(&self) -> usize {
        SESSION
    }

    fn read(&self, offset: usize, out: &mut [u8]) -> Result<(), LinkError> {
        CellSession::from_cells(&self.memory).read(offset, out)
    }

    fn write(&self, offset: usize, data: &[u8]) -> Result<(), LinkError> {
        CellSession::from_cells(&self.memory).write(offset, data)
    }
}

impl<S: Service, const SESSION: usize> Transport for Loopback<S, SESSION> {
    fn call(&mut self, request: Request<'_>, reply: &mut [u8]) -> Result<Reply, LinkError> {
        self.calls += 1;
        let token = self.calls;
        let mut payload = [0; MAX_PAYLOAD];
        let session = CellSession::from_cells(&self.memory);
        let incoming = Incoming {
            from: Caller { badge: self.badge, token },
            label: request.label,
            bytes: request.bytes,
            caps: request.caps,
            session: &session,
        };
        let head = match self.service.call(&incoming, &mut payload) {
            Dispatched::Reply(head) => head,
            Dispatched::Pending(token) => self.service.settle(token, &mut payload).ok_or(LinkError::Deadline)?,
        };
        let len = head.len.min(reply.len()).min(MAX_PAYLOAD);
        reply[..len].copy_from_slice(&payload[..len]);
        Ok(head)
    }

    fn session(&self) -> &dyn Session {
        self
    }
}

impl<S: Service, const SESSION: usize> Restart for Loopback<S, SESSION> {
    fn restart(&mut self) {
        self.service.restart();
    }
}
