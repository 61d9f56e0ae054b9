//! The parts of stubs and dispatch that are the same for all interfaces. Called by generated code.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, TryFromBytes};

use crate::{
    Bytes, CallError, Cap, CapList, Dispatched, Incoming, LinkError, RawCap, Refusal, Reply, Session, WindowRef, Wire,
    reply_label,
};

/// Rounds up to whole message registers.
pub const fn words(bytes: usize) -> usize {
    bytes.div_ceil(8) * 8
}

/// Buffer for a reply whose result takes `bytes`: an error code takes one word.
pub const fn reply_buffer(bytes: usize) -> usize {
    if bytes < 8 { 8 } else { bytes }
}

/// Places the windows of one call one after the other in the session buffer.
pub struct WindowPlan {
    used: usize,
    size: usize,
}

impl WindowPlan {
    /// Starts at the front of `session`.
    pub fn new(session: &dyn Session) -> Self {
        Self { used: 0, size: session.len() }
    }

    /// The next window of `len` bytes; [`LinkError::BadMessage`] if the session buffer is too small for it.
    pub fn place(&mut self, len: usize) -> Result<WindowRef, LinkError> {
        let end = self.used.checked_add(len).filter(|end| *end <= self.size).ok_or(LinkError::BadMessage)?;
        let offset = u32::try_from(self.used).map_err(|_| LinkError::BadMessage)?;
        let len = u32::try_from(len).map_err(|_| LinkError::BadMessage)?;
        // Windows start at 8 bytes each, so that either side may copy whole words.
        self.used = words(end);
        Ok(WindowRef { offset, len })
    }
}

/// Client side: sorts a reply into result payload, server error or link error.
///
/// `size` and `caps` are what the method's result must have.
pub fn sort_reply<'a, E: TryFrom<u16>>(
    reply: &Reply,
    buffer: &'a [u8],
    size: usize,
    caps: usize,
) -> Result<&'a [u8], CallError<E>> {
    match reply.label {
        reply_label::OK if reply.len == size && reply.caps.as_slice().len() == caps => {
            buffer.get(..size).ok_or(CallError::Link(LinkError::BadMessage))
        }
        reply_label::SERVER_ERROR if reply.len == 8 => {
            let code = buffer.get(..8).and_then(|bytes| u64::read_from_bytes(bytes).ok());
            let error = code.and_then(|code| u16::try_from(code).ok()).and_then(|code| E::try_from(code).ok());
            Err(error.map_or(CallError::Link(LinkError::BadMessage), CallError::Server))
        }
        label => Err(CallError::Link(LinkError::from_label(label).unwrap_or(LinkError::BadMessage))),
    }
}

/// Server side: writes a result into `buffer`.
pub fn ok_reply<T: IntoBytes + Immutable>(result: &T, caps: &[RawCap], buffer: &mut [u8]) -> Reply {
    let bytes = result.as_bytes();
    match buffer.get_mut(..bytes.len()) {
        Some(to) => {
            to.copy_from_slice(bytes);
            Reply { label: reply_label::OK, len: bytes.len(), caps: CapList::new(caps) }
        }
        // Only a caller that gave less than `MAX_PAYLOAD` gets here.
        None => Reply::link_error(LinkError::BadMessage),
    }
}

/// Server side: writes an error of the interface into `buffer`.
pub fn error_reply(code: u16, buffer: &mut [u8]) -> Reply {
    match buffer.get_mut(..8) {
        Some(to) => {
            to.copy_from_slice(&u64::from(code).to_le_bytes());
            Reply { label: reply_label::SERVER_ERROR, len: 8, caps: CapList::EMPTY }
        }
        None => Reply::link_error(LinkError::BadMessage),
    }
}

/// Server side: what becomes of a call whose method gave no result.
pub fn refuse<E: Into<u16>>(refusal: Refusal<E>, token: u64, buffer: &mut [u8]) -> Dispatched {
    match refusal {
        Refusal::Error(error) => Dispatched::Reply(error_reply(error.into(), buffer)),
        Refusal::Link(error) => Dispatched::Reply(Reply::link_error(error)),
        Refusal::Pending => Dispatched::Pending(token),
    }
}

/// Client side: text for a `str<N>` parameter; [`LinkError::BadMessage`] if it is too long.
pub fn text<const N: usize>(text: &str) -> Result<Bytes<N>, LinkError> {
    data(text.as_bytes())
}

/// Client side: data for a `bytes<N>` parameter; [`LinkError::BadMessage`] if it is too long.
pub fn data<const N: usize>(data: &[u8]) -> Result<Bytes<N>, LinkError> {
    Bytes::new(data).map_err(|_| LinkError::BadMessage)
}

/// A payload's layout out of its bytes, which must have exactly its size.
pub fn read<T: TryFromBytes + KnownLayout + Immutable>(bytes: &[u8]) -> Result<T, LinkError> {
    T::try_read_from_bytes(bytes).map_err(|_| LinkError::BadMessage)
}

/// Server side: the layout of a request that must bring `caps` capabilities.
pub fn request<T: TryFromBytes + KnownLayout + Immutable>(
    incoming: &Incoming<'_>,
    caps: usize,
) -> Result<T, LinkError> {
    if incoming.caps.len() == caps { read(incoming.bytes) } else { Err(LinkError::BadMessage) }
}

/// Server side: a request without payload that must bring `caps` capabilities.
pub fn check_empty(incoming: &Incoming<'_>, caps: usize) -> Result<(), LinkError> {
    if incoming.bytes.is_empty() && incoming.caps.len() == caps { Ok(()) } else { Err(LinkError::BadMessage) }
}

/// A value out of its layout.
pub fn value<T: Wire>(raw: &T::Raw) -> Result<T, LinkError> {
    T::from_raw(raw).ok_or(LinkError::BadMessage)
}

/// The capability at `index`.
pub fn cap<I>(caps: &[RawCap], index: usize) -> Result<Cap<I>, LinkError> {
    caps.get(index).copied().map(Cap::new).ok_or(LinkError::BadMessage)
}
