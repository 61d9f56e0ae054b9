//! The interfaces `socket`, `listener` and `stream`, served to local programs.
//!
//! An object's number in its capability's badge is its [`Handle`]; the badge also names the client, in whose session buffer the
//! windows of a call lie. Making the capability needs the kernel, so the shell passes in how.

use crate::Nanos;
use crate::directory::Directory;
use crate::server::{CallError, ClientId, Handle, Ready, SocketServer};
use alloc::vec;
use alloc::vec::Vec;
use ipc_api::{listener, socket, stream};
use ipc_wire::{Answer, Caller, Cap, Dispatched, InWindow, Incoming, LinkError, OutWindow, RawCap, Reply};
use smi_cluster::Vid;

/// How badges are put together: `object << 16 | client` (the runtime's convention).
const CLIENT_BITS: u32 = 16;
/// Most bytes that one `recv` or `send` moves.
pub const MAX_IO: usize = stream::IO_MAX as usize;
/// Most events that one `poll` gives.
pub const MAX_EVENTS: usize = 256;

/// The server behind its interfaces, for one call.
pub struct Desk<'a> {
    /// The server.
    pub server: &'a mut SocketServer,
    /// The directory's table.
    pub directory: &'a Directory,
    /// The time.
    pub now: Nanos,
    /// (object, client's badge) to a capability for the reply.
    pub mint: &'a mut dyn FnMut(u64, u64) -> Option<RawCap>,
    /// Room for [`MAX_IO`] bytes on their way.
    pub scratch: &'a mut Vec<u8>,
}

fn client(caller: Caller) -> ClientId {
    ClientId(caller.badge & ((1 << CLIENT_BITS) - 1))
}

fn handle(caller: Caller) -> Handle {
    // A number beyond 32 bits was never given out; zero never is.
    Handle(u32::try_from(caller.badge >> CLIENT_BITS).unwrap_or(0))
}

impl Desk<'_> {
    /// Handles a call of whichever of the three interfaces the capability is for.
    pub fn dispatch(&mut self, incoming: &Incoming<'_>, buffer: &mut [u8]) -> Dispatched {
        let object = handle(incoming.from);
        if incoming.from.badge >> CLIENT_BITS == 0 {
            socket::dispatch(self, incoming, buffer)
        } else if self.server.is_listener(object) {
            listener::dispatch(self, incoming, buffer)
        } else if self.server.is_stream(object) {
            stream::dispatch(self, incoming, buffer)
        } else if incoming.label == listener::label::ACCEPT || incoming.label == listener::label::CLOSE {
            Dispatched::Reply(listener::reply::error(listener::Error::Gone, buffer))
        } else {
            Dispatched::Reply(stream::reply::error(stream::Error::Gone, buffer))
        }
    }

    fn minted<I>(&mut self, object: Handle, caller: Caller) -> Result<Cap<I>, LinkError> {
        match (self.mint)(object.0 as u64, client(caller).0) {
            Some(raw) => Ok(Cap::new(raw)),
            None => {
                // Nobody will ever hold it.
                let _ = self.server.close(self.now, object);
                Err(LinkError::Busy)
            }
        }
    }
}

fn socket_error(error: CallError) -> socket::Error {
    match error {
        CallError::NotHere => socket::Error::NotHere,
        CallError::PortInUse => socket::Error::PortInUse,
        _ => socket::Error::TooMany,
    }
}

fn listener_error(error: CallError) -> listener::Error {
    match error {
        CallError::WouldBlock => listener::Error::WouldBlock,
        CallError::PortInUse => listener::Error::PortInUse,
        _ => listener::Error::Gone,
    }
}

fn stream_error(error: CallError) -> stream::Error {
    match error {
        CallError::WouldBlock => stream::Error::WouldBlock,
        CallError::Reset => stream::Error::Reset,
        CallError::Finished => stream::Error::Finished,
        _ => stream::Error::Gone,
    }
}

impl socket::Server for Desk<'_> {
    fn open(&mut self, caller: Caller, vid: u128) -> Answer<(), socket::Error> {
        let vid = Vid(vid);
        let group = self.directory.group_of(vid).ok_or(socket::Error::Unknown)?;
        self.server.open(self.now, client(caller), vid, group).map_err(socket_error)?;
        Ok(())
    }

    fn listen(&mut self, caller: Caller, port: u16, backlog: u16) -> Answer<socket::ListenResult, socket::Error> {
        let object = self.server.listen(self.now, client(caller), port, backlog.into()).map_err(socket_error)?;
        Ok(socket::ListenResult { object: object.0, listener: self.minted(object, caller)? })
    }

    fn poll(&mut self, caller: Caller, events: OutWindow<'_>) -> Answer<u32, socket::Error> {
        let room = (events.len() / socket::EVENT_BYTES as usize).min(MAX_EVENTS);
        let mut list = vec![Ready { handle: Handle(0), flags: 0 }; room];
        let count = self.server.poll(client(caller), &mut list).map_err(socket_error)?;
        let mut bytes = Vec::with_capacity(count * socket::EVENT_BYTES as usize);
        for event in &list[..count] {
            bytes.extend_from_slice(&event.handle.0.to_le_bytes());
            bytes.extend_from_slice(&event.flags.to_le_bytes());
        }
        events.write(0, &bytes)?;
        Ok(count as u32)
    }

    fn stats(&mut self, _: Caller) -> Answer<socket::Stats, socket::Error> {
        let (router, own, connections) = self.server.counters();
        Ok(socket::Stats {
            connections: connections as u64,
            forwarded: own.forwarded,
            refused: router.refused,
            malformed: router.malformed + router.fragments + own.malformed,
            stale: own.stale,
            homeless: router.homeless + own.no_stack,
            rivals: router.rivals,
            routing: self.server.routing(),
        })
    }
}

impl listener::Server for Desk<'_> {
    fn accept(&mut self, caller: Caller) -> Answer<listener::AcceptResult, listener::Error> {
        let accepted = self.server.accept(self.now, handle(caller)).map_err(listener_error)?;
        let stream = self.minted(accepted.handle, caller)?;
        let peer =
            listener::Peer { object: accepted.handle.0, address: accepted.address.octets(), port: accepted.port };
        Ok(listener::AcceptResult { peer, stream })
    }

    fn close(&mut self, caller: Caller) -> Answer<(), listener::Error> {
        self.server.close(self.now, handle(caller)).map_err(listener_error)?;
        Ok(())
    }
}

impl stream::Server for Desk<'_> {
    fn recv(&mut self, caller: Caller, data: OutWindow<'_>) -> Answer<u32, stream::Error> {
        let len = data.len().min(MAX_IO);
        self.scratch.resize(len, 0);
        let count = self.server.recv(self.now, handle(caller), self.scratch).map_err(stream_error)?;
        data.write(0, &self.scratch[..count])?;
        Ok(count as u32)
    }

    fn send(&mut self, caller: Caller, data: InWindow<'_>) -> Answer<u32, stream::Error> {
        let len = data.len().min(MAX_IO);
        self.scratch.resize(len, 0);
        data.read(0, self.scratch)?;
        let count = self.server.send(self.now, handle(caller), self.scratch).map_err(stream_error)?;
        Ok(count as u32)
    }

    fn shutdown(&mut self, caller: Caller) -> Answer<(), stream::Error> {
        self.server.shutdown(self.now, handle(caller)).map_err(stream_error)?;
        Ok(())
    }

    fn close(&mut self, caller: Caller) -> Answer<(), stream::Error> {
        self.server.close(self.now, handle(caller)).map_err(stream_error)?;
        Ok(())
    }
}

/// The reply to a call that cannot be dispatched at all yet: the server does not know its node.
pub fn not_ready() -> Reply {
    Reply::link_error(LinkError::Busy)
}
