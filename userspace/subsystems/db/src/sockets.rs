//! Connections as the service sees them, and the same over the interfaces `socket`, `listener` and `stream`.

use crate::way::Way;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use ipc_api::{listener, socket, stream};
use ipc_wire::{CallError, LinkError, RawCap};

/// What can be done with an object now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ready {
    /// The listener's or stream's number.
    pub object: u32,
    /// Bits of [`ipc_api::socket`].
    pub flags: u32,
}

/// What a read gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// So many bytes.
    Bytes(usize),
    /// Nothing yet.
    Nothing,
    /// The stream has ended or is broken.
    End,
}

/// The service can no longer be here: it must stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SocketsLost {
    /// The group is carried by another node.
    NotHere,
    /// The port belongs to another resource.
    PortInUse,
    /// The socket server was restarted or is gone; all connections are lost with it.
    Server,
}

/// The network as the service uses it.
pub trait Sockets {
    /// What is ready, added to `ready`; whether there is more.
    fn poll(&mut self, ready: &mut Vec<Ready>) -> Result<bool, SocketsLost>;
    /// Whether the number is the listener's.
    fn is_listener(&self, object: u32) -> bool;
    /// The next connection's number.
    fn accept(&mut self) -> Result<Option<u32>, SocketsLost>;
    /// Reads.
    fn recv(&mut self, object: u32, buffer: &mut [u8]) -> Received;
    /// Writes; gives how many bytes were taken, or `None` if the stream is broken.
    fn send(&mut self, object: u32, data: &[u8]) -> Option<usize>;
    /// Lets go of a stream.
    fn close(&mut self, object: u32);
}

const EVENTS: usize = 64;

/// [`Sockets`] through the socket server.
pub struct IpcSockets<W: Way> {
    socket: socket::Client<W>,
    listener: listener::Client<W>,
    listener_object: u32,
    streams: BTreeMap<u32, (RawCap, stream::Client<W>)>,
}

impl<W: Way> IpcSockets<W> {
    /// Says who we are. Earlier connections are closed by that.
    pub fn open(way: &W, vid: u128) -> Result<socket::Client<W>, CallError<socket::Error>> {
        let mut socket = socket::Client::new(way.again());
        socket.open(vid)?;
        Ok(socket)
    }

    /// Opens the service's port.
    pub fn listen(
        mut socket: socket::Client<W>,
        port: u16,
        backlog: u16,
    ) -> Result<IpcSockets<W>, CallError<socket::Error>> {
        let made = socket.listen(port, backlog)?;
        let listener = listener::Client::new(socket.transport().to(made.listener.raw()));
        Ok(IpcSockets { socket, listener, listener_object: made.object, streams: BTreeMap::new() })
    }
}

fn lost(error: CallError<socket::Error>) -> SocketsLost {
    match error {
        CallError::Server(socket::Error::PortInUse) => SocketsLost::PortInUse,
        CallError::Server(_) => SocketsLost::NotHere,
        CallError::Link(_) => SocketsLost::Server,
    }
}

impl<W: Way> Sockets for IpcSockets<W> {
    fn poll(&mut self, ready: &mut Vec<Ready>) -> Result<bool, SocketsLost> {
        let mut bytes = [0; EVENTS * socket::EVENT_BYTES as usize];
        let count = self.socket.poll(&mut bytes).map_err(lost)? as usize;
        for event in bytes.chunks_exact(socket::EVENT_BYTES as usize).take(count) {
            let word = |at: usize| u32::from_le_bytes([event[at], event[at + 1], event[at + 2], event[at + 3]]);
            ready.push(Ready { object: word(0), flags: word(4) });
        }
        Ok(count >= EVENTS)
    }

    fn is_listener(&self, object: u32) -> bool {
        object == self.listener_object
    }

    fn accept(&mut self) -> Result<Option<u32>, SocketsLost> {
        match self.listener.accept() {
            Ok(accepted) => {
                let cap = accepted.stream.raw();
                let client = stream::Client::new(self.socket.transport().to(cap));
                self.streams.insert(accepted.peer.object, (cap, client));
                Ok(Some(accepted.peer.object))
            }
            Err(CallError::Server(listener::Error::WouldBlock)) | Err(CallError::Link(LinkError::Busy)) => Ok(None),
            Err(CallError::Server(listener::Error::PortInUse)) => Err(SocketsLost::PortInUse),
            Err(CallError::Server(listener::Error::Gone)) => Err(SocketsLost::NotHere),
            Err(CallError::Link(_)) => Err(SocketsLost::Server),
        }
    }

    fn recv(&mut self, object: u32, buffer: &mut [u8]) -> Received {
        let Some((_, client)) = self.streams.get_mut(&object) else { return Received::End };
        let len = buffer.len().min(stream::IO_MAX as usize);
        match client.recv(&mut buffer[..len]) {
            Ok(0) => Received::End,
            Ok(count) => Received::Bytes((count as usize).min(buffer.len())),
            Err(CallError::Server(stream::Error::WouldBlock)) => Received::Nothing,
            Err(_) => Received::End,
        }
    }

    fn send(&mut self, object: u32, data: &[u8]) -> Option<usize> {
        let (_, client) = self.streams.get_mut(&object)?;
        match client.send(&data[..data.len().min(stream::IO_MAX as usize)]) {
            Ok(count) => Some((count as usize).min(data.len())),
            Err(CallError::Server(stream::Error::WouldBlock)) => Some(0),
            Err(_) => None,
        }
    }

    fn close(&mut self, object: u32) {
        if let Some((cap, mut stream)) = self.streams.remove(&object) {
            // If it is gone already, so much the better.
            let _ = stream.close();
            stream.transport().release(cap);
        }
    }
}
