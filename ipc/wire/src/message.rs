//! One call, from both sides.

use crate::{CapList, LinkError, RawCap, Session};

/// Labels of replies.
pub mod reply_label {
    /// The payload is the method's result.
    pub const OK: u64 = 0;
    /// The first payload word is the interface's error code.
    pub const SERVER_ERROR: u64 = 1;
    // From 0x100: a `LinkError`, without payload.
}

/// A call as it leaves the client.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The 52 bits of a [`crate::Label`].
    pub label: u64,
    /// The payload; a multiple of 8 bytes, at most [`crate::MAX_PAYLOAD`].
    pub bytes: &'a [u8],
    /// Capabilities to hand over, at most [`crate::MAX_CAPS`].
    pub caps: &'a [RawCap],
}

/// A reply's head; the payload is in the buffer that was given for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// One of [`reply_label`], or a link error's label.
    pub label: u64,
    /// Payload bytes. On the client's side this may exceed the buffer, of which then only the start was filled.
    pub len: usize,
    /// Capabilities handed back.
    pub caps: CapList,
}

impl Reply {
    /// A reply that carries only a link error.
    pub const fn link_error(error: LinkError) -> Self {
        Self { label: error.label(), len: 0, caps: CapList::EMPTY }
    }
}

/// The way to one server: what a client stub is generic over.
pub trait Transport {
    /// Sends `request` and waits for the reply, whose payload goes to the start of `reply`.
    ///
    /// A reply whose label is a link error may be returned either as `Ok` or as that `Err`: stubs treat both alike.
    fn call(&mut self, request: Request<'_>, reply: &mut [u8]) -> Result<Reply, LinkError>;

    /// The session buffer of this channel; [`crate::NoSession`] if it has none.
    fn session(&self) -> &dyn Session;
}

impl<T: Transport + ?Sized> Transport for &mut T {
    fn call(&mut self, request: Request<'_>, reply: &mut [u8]) -> Result<Reply, LinkError> {
        (**self).call(request, reply)
    }

    fn session(&self) -> &dyn Session {
        (**self).session()
    }
}

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Caller {
    /// The badge of the endpoint capability the call came through: names the client, cannot be forged.
    pub badge: u64,
    /// Names this very call; a server that returns [`crate::Refusal::Pending`] keeps it to answer later.
    pub token: u64,
}

/// A call as it reaches a server: claims, until `dispatch` has checked them.
#[derive(Clone, Copy)]
pub struct Incoming<'a> {
    /// Who calls.
    pub from: Caller,
    /// The label bits.
    pub label: u64,
    /// The payload.
    pub bytes: &'a [u8],
    /// Received capabilities.
    pub caps: &'a [RawCap],
    /// The caller's session buffer.
    pub session: &'a dyn Session,
}

/// What `dispatch` made of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dispatched {
    /// Answer now; the payload is in the buffer given to `dispatch`.
    Reply(Reply),
    /// The server keeps the call with this token and answers later.
    Pending(u64),
}
