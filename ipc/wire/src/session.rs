//! The session buffer: memory shared by the two ends of a channel, for data too big for a message.
//!
//! The peer can write to it at any time, so it is only ever copied from and to; a length or offset never lives in it.

use core::cell::Cell;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::LinkError;

/// Access to a session buffer by copying.
pub trait Session {
    /// Its size in bytes.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies `out.len()` bytes from `offset` on. [`LinkError::BadMessage`] if they do not all lie in the buffer.
    fn read(&self, offset: usize, out: &mut [u8]) -> Result<(), LinkError>;

    /// Copies `data` to `offset` on. [`LinkError::BadMessage`] if it does not fit; then nothing is written.
    fn write(&self, offset: usize, data: &[u8]) -> Result<(), LinkError>;
}

/// A channel without a session buffer.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSession;

impl Session for NoSession {
    fn len(&self) -> usize {
        0
    }

    fn read(&self, _offset: usize, out: &mut [u8]) -> Result<(), LinkError> {
        if out.is_empty() { Ok(()) } else { Err(LinkError::BadMessage) }
    }

    fn write(&self, _offset: usize, data: &[u8]) -> Result<(), LinkError> {
        if data.is_empty() { Ok(()) } else { Err(LinkError::BadMessage) }
    }
}

/// A session buffer in private memory: for relayed calls, tests, and the mock transport.
#[derive(Clone, Copy)]
pub struct CellSession<'a>(&'a [Cell<u8>]);

impl<'a> CellSession<'a> {
    /// Uses `memory` as session buffer.
    pub fn new(memory: &'a mut [u8]) -> Self {
        Self(Cell::from_mut(memory).as_slice_of_cells())
    }

    /// Uses already shared `cells` as session buffer.
    pub fn from_cells(cells: &'a [Cell<u8>]) -> Self {
        Self(cells)
    }

    fn slice(&self, offset: usize, len: usize) -> Result<&'a [Cell<u8>], LinkError> {
        let end = offset.checked_add(len).ok_or(LinkError::BadMessage)?;
        self.0.get(offset..end).ok_or(LinkError::BadMessage)
    }
}

impl Session for CellSession<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn read(&self, offset: usize, out: &mut [u8]) -> Result<(), LinkError> {
        let from = self.slice(offset, out.len())?;
        out.iter_mut().zip(from).for_each(|(to, from)| *to = from.get());
        Ok(())
    }

    fn write(&self, offset: usize, data: &[u8]) -> Result<(), LinkError> {
        let to = self.slice(offset, data.len())?;
        to.iter().zip(data).for_each(|(to, from)| to.set(*from));
        Ok(())
    }
}

/// Where in the session buffer a window lies, as written in the payload: a claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct WindowRef {
    /// First byte.
    pub offset: u32,
    /// Bytes.
    pub len: u32,
}

impl WindowRef {
    /// Whether the window lies in a session buffer of `size` bytes.
    pub fn fits(self, size: usize) -> bool {
        u64::from(self.offset) + u64::from(self.len) <= size as u64
    }
}

/// A checked window the server reads from (`in buffer`).
#[derive(Clone, Copy)]
pub struct InWindow<'a> {
    session: &'a dyn Session,
    at: WindowRef,
}

/// A checked window the server writes to (`out buffer`).
#[derive(Clone, Copy)]
pub struct OutWindow<'a> {
    session: &'a dyn Session,
    at: WindowRef,
}

/// The part `[skip, skip + len)` of a window as an offset in the session buffer.
fn part(at: WindowRef, skip: usize, len: usize) -> Result<usize, LinkError> {
    match skip.checked_add(len) {
        Some(end) if end <= at.len as usize => Ok(at.offset as usize + skip),
        _ => Err(LinkError::BadMessage),
    }
}

impl<'a> InWindow<'a> {
    /// Checks the claim; [`LinkError::BadMessage`] if it lies outside the session buffer.
    pub fn check(session: &'a dyn Session, at: WindowRef) -> Result<Self, LinkError> {
        if at.fits(session.len()) { Ok(Self { session, at }) } else { Err(LinkError::BadMessage) }
    }

    /// Its size in bytes.
    pub fn len(&self) -> usize {
        self.at.len as usize
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.at.len == 0
    }

    /// Copies `out.len()` bytes out of the window from `skip` on; [`LinkError::BadMessage`] if there are fewer.
    pub fn read(&self, skip: usize, out: &mut [u8]) -> Result<(), LinkError> {
        self.session.read(part(self.at, skip, out.len())?, out)
    }
}

impl<'a> OutWindow<'a> {
    /// Checks the claim; [`LinkError::BadMessage`] if it lies outside the session buffer.
    pub fn check(session: &'a dyn Session, at: WindowRef) -> Result<Self, LinkError> {
        if at.fits(session.len()) { Ok(Self { session, at }) } else { Err(LinkError::BadMessage) }
    }

    /// Where it lies: a server that answers later keeps this and checks it again then.
    pub fn at(&self) -> WindowRef {
        self.at
    }

    /// Its size in bytes.
    pub fn len(&self) -> usize {
        self.at.len as usize
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.at.len == 0
    }

    /// Copies `data` into the window at `skip`; [`LinkError::BadMessage`] if it does not fit.
    pub fn write(&self, skip: usize, data: &[u8]) -> Result<(), LinkError> {
        self.session.write(part(self.at, skip, data.len())?, data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_do_not_leave_the_buffer() {
        let mut memory = [0u8; 16];
        let session = CellSession::new(&mut memory);
        assert!(InWindow::check(&session, WindowRef { offset: 8, len: 9 }).is_err());
        assert!(InWindow::check(&session, WindowRef { offset: u32::MAX, len: u32::MAX }).is_err());
        let window = OutWindow::check(&session, WindowRef { offset: 8, len: 8 }).expect("fits");
        assert!(window.write(1, &[1; 8]).is_err());
        assert!(window.write(usize::MAX, &[1]).is_err());
        window.write(4, &[7; 4]).expect("fits");
        let back = InWindow::check(&session, window.at()).expect("fits");
        let mut out = [0; 8];
        back.read(0, &mut out).expect("fits");
        assert_eq!(out, [0, 0, 0, 0, 7, 7, 7, 7]);
        assert!(back.read(1, &mut out).is_err());
    }

    #[test]
    fn no_session_holds_nothing() {
        assert!(NoSession.read(0, &mut [0]).is_err() && NoSession.write(0, &[0]).is_err());
        assert!(InWindow::check(&NoSession, WindowRef::default()).is_ok());
    }
}
