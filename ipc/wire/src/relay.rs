//! Carrying a call whose bulk data lies in one node's session buffer to a server elsewhere.
//!
//! The relay does not understand methods; it follows the interface's table. On the client's node [`gather`] packs the
//! windows into one byte string and rewrites the request to refer to it; on the server's node that string (grown to
//! [`Packed::total`]) is the session buffer of `dispatch`; its tail from [`Packed::sent`] on is what the server wrote,
//! and goes back to [`scatter`].

use zerocopy::{FromBytes, IntoBytes};

use crate::desc::{Direction, Method};
use crate::{LinkError, Session, WindowRef};

/// How the windows of one call are packed: first all `in`, then all `out`, without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Bytes of the `in` windows: what travels with the request.
    pub sent: usize,
    /// Bytes of all windows: the size of the session buffer the server needs.
    pub total: usize,
}

impl Packed {
    /// Bytes that travel back with the reply.
    pub fn returned(&self) -> usize {
        self.total - self.sent
    }
}

/// One window of the request, checked against nothing yet.
fn window(request: &[u8], offset: usize) -> Result<WindowRef, LinkError> {
    let bytes = request.get(offset..offset + 8).ok_or(LinkError::BadMessage)?;
    WindowRef::read_from_bytes(bytes).map_err(|_| LinkError::BadMessage)
}

/// Visits all windows in packing order: `visit(offset in payload, direction, window, place in the packed string)`.
fn for_each(
    method: &Method,
    request: &[u8],
    mut visit: impl FnMut(usize, Direction, WindowRef, usize) -> Result<(), LinkError>,
) -> Result<Packed, LinkError> {
    let mut packed = Packed { sent: 0, total: 0 };
    for pass in [Direction::In, Direction::Out] {
        for (offset, direction) in method.request.windows().filter(|(_, direction)| *direction == pass) {
            let at = window(request, offset)?;
            visit(offset, direction, at, packed.total)?;
            packed.total = packed.total.checked_add(at.len as usize).ok_or(LinkError::BadMessage)?;
        }
        if pass == Direction::In {
            packed.sent = packed.total;
        }
    }
    Ok(packed)
}

/// The sizes of a request's windows. [`LinkError::BadMessage`] if the request has not the method's size.
pub fn measure(method: &Method, request: &[u8]) -> Result<Packed, LinkError> {
    if request.len() != method.request.size {
        return Err(LinkError::BadMessage);
    }
    for_each(method, request, |_, _, _, _| Ok(()))
}

/// On the client's node: copies the `in` windows from `session` to `data` and rewrites `request` to the packed places.
///
/// `data` must have at least [`Packed::sent`] bytes. Errors leave `request` as it was.
pub fn gather(
    method: &Method,
    request: &mut [u8],
    session: &dyn Session,
    data: &mut [u8],
) -> Result<Packed, LinkError> {
    let packed = measure(method, request)?;
    for_each(method, request, |_, direction, at, place| {
        if !at.fits(session.len()) {
            return Err(LinkError::BadMessage);
        }
        if direction == Direction::Out {
            return Ok(());
        }
        let to = data.get_mut(place..place + at.len as usize).ok_or(LinkError::BadMessage)?;
        session.read(at.offset as usize, to)
    })?;
    if u32::try_from(packed.total).is_err() {
        return Err(LinkError::BadMessage);
    }
    rewrite(method, request);
    Ok(packed)
}

/// Points the windows of a checked request to their packed places.
fn rewrite(method: &Method, request: &mut [u8]) {
    let mut place = 0u32;
    for pass in [Direction::In, Direction::Out] {
        for (offset, _) in method.request.windows().filter(|(_, direction)| *direction == pass) {
            let Ok(at) = window(request, offset) else { return };
            let moved = WindowRef { offset: place, len: at.len };
            request[offset..offset + 8].copy_from_slice(moved.as_bytes());
            place += at.len;
        }
    }
}

/// On the client's node: copies what the server wrote (`data`, [`Packed::returned`] bytes) to the `out` windows of the
/// *original* request. [`LinkError::BadMessage`] if the length is not that; then nothing is written.
pub fn scatter(method: &Method, request: &[u8], session: &dyn Session, data: &[u8]) -> Result<(), LinkError> {
    let packed = measure(method, request)?;
    if data.len() != packed.returned() {
        return Err(LinkError::BadMessage);
    }
    for_each(method, request, |_, direction, at, place| {
        if direction == Direction::In {
            return Ok(());
        }
        let start = place - packed.sent;
        session.write(at.offset as usize, &data[start..start + at.len as usize])
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CellSession;
    use crate::desc::{Field, Shape, Type};

    /// An out window before an in window, and a number between them.
    const METHOD: Method = Method {
        ordinal: 1,
        name: "mix",
        idempotent: true,
        request: Shape {
            size: 24,
            caps: &[],
            fields: &[
                Field { name: "to", offset: 0, ty: Type::Window(Direction::Out) },
                Field { name: "n", offset: 8, ty: Type::Unsigned(8) },
                Field { name: "from", offset: 16, ty: Type::Window(Direction::In) },
            ],
        },
        reply: Shape { size: 0, caps: &[], fields: &[] },
    };

    fn request(to: WindowRef, from: WindowRef) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(to.as_bytes());
        bytes[8] = 9;
        bytes[16..].copy_from_slice(from.as_bytes());
        bytes
    }

    #[test]
    fn windows_go_there_and_back() {
        let mut memory = *b"....abcd........";
        let session = CellSession::new(&mut memory);
        let original = request(WindowRef { offset: 10, len: 3 }, WindowRef { offset: 4, len: 4 });
        let mut moved = original;
        let mut data = [0; 4];
        let packed = gather(&METHOD, &mut moved, &session, &mut data).expect("well-formed");
        assert_eq!((packed, &data), (Packed { sent: 4, total: 7 }, b"abcd"));
        assert_eq!(moved, request(WindowRef { offset: 4, len: 3 }, WindowRef { offset: 0, len: 4 }));
        scatter(&METHOD, &original, &session, b"xyz").expect("well-formed");
        assert_eq!(&memory, b"....abcd..xyz...");
    }

    #[test]
    fn lies_change_nothing() {
        let mut memory = [0u8; 16];
        let session = CellSession::new(&mut memory);
        let far = request(WindowRef { offset: 10, len: 7 }, WindowRef { offset: 4, len: 4 });
        let mut moved = far;
        assert_eq!(gather(&METHOD, &mut moved, &session, &mut [0; 4]), Err(LinkError::BadMessage));
        assert_eq!(moved, far);
        let fine = request(WindowRef { offset: 0, len: 2 }, WindowRef { offset: 4, len: 4 });
        assert_eq!(gather(&METHOD, &mut { fine }, &session, &mut [0; 3]), Err(LinkError::BadMessage));
        assert_eq!(scatter(&METHOD, &fine, &session, b"abc"), Err(LinkError::BadMessage));
        assert_eq!(measure(&METHOD, &fine[..16]), Err(LinkError::BadMessage));
        assert_eq!(memory, [0; 16]);
    }
}
