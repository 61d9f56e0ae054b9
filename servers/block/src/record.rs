//! Records of the ring between a client and the block driver. All are [`RECORD_BYTES`] long, little-endian, unused bytes zero.
//!
//! Records are claims: `decode` checks the form, the driver checks windows and slots.

use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Bytes of every record.
pub const RECORD_BYTES: usize = 40;

/// What every record looks like.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Layout {
    kind: u8,
    status: u8,
    flags: u8,
    zero: u8,
    /// Blocks; in Ready: most blocks of one request.
    count: U32,
    session: U64,
    token: U64,
    /// Block; in Ready: blocks in the window.
    block: U64,
    /// First slot of the data area.
    slot: U32,
    zero2: U32,
}

const _: () = assert!(size_of::<Layout>() == RECORD_BYTES);

const HELLO: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 3;
const FLUSH: u8 = 4;
const READY: u8 = 0x81;
const DONE: u8 = 0x82;

const FLAG_READ_ONLY: u8 = 1;
const FLAG_CACHED: u8 = 2;

/// A record that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadRecord;

/// What to do with blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// From the disk to the data area.
    Read,
    /// From the data area to the disk.
    Write,
    /// Make completed writes durable; no blocks.
    Flush,
}

/// Client to driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// A session starts; everything before it is forgotten.
    Hello {
        /// Its number, different from every earlier one on this channel.
        session: u64,
    },
    /// Do something.
    Submit {
        /// Comes back with the completion.
        token: u64,
        /// What.
        op: Op,
        /// First block in the window.
        block: u64,
        /// Blocks; 0 for a flush.
        count: u32,
        /// First slot of the data area.
        slot: u32,
    },
}

/// The window a client has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Blocks in the window.
    pub blocks: u64,
    /// Most blocks of one request.
    pub max_blocks: u32,
    /// Whether writes are refused.
    pub read_only: bool,
    /// Whether the device has a write cache, so that only a flush makes writes durable.
    pub cached: bool,
}

/// How a request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// Blocks outside the window: the client's fault.
    OutOfWindow = 1,
    /// The device failed it.
    Media = 2,
    /// A write to a read-only device.
    ReadOnly = 3,
    /// Count or data slots make no sense: the client's fault.
    BadRequest = 4,
}

/// Driver to client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The session has started.
    Ready {
        /// Its number, from the Hello.
        session: u64,
        /// What the client may use.
        geometry: Geometry,
    },
    /// A request is done.
    Done {
        /// The session it was submitted in.
        session: u64,
        /// Its token.
        token: u64,
        /// How it went.
        status: Status,
    },
}

fn empty(kind: u8) -> Layout {
    Layout { kind, ..Layout::new_zeroed() }
}

fn bytes(layout: &Layout) -> [u8; RECORD_BYTES] {
    zerocopy::transmute!(*layout)
}

/// Reads a record and checks that decoding lost nothing: unused fields are zero.
fn read<T>(
    bytes: &[u8],
    decode: impl Fn(&Layout) -> Option<T>,
    encode: impl Fn(&T) -> [u8; RECORD_BYTES],
) -> Result<T, BadRecord> {
    let layout = Layout::read_from_bytes(bytes).map_err(|_| BadRecord)?;
    let value = decode(&layout).ok_or(BadRecord)?;
    if encode(&value) == *bytes { Ok(value) } else { Err(BadRecord) }
}

impl Request {
    /// The record.
    pub fn encode(&self) -> [u8; RECORD_BYTES] {
        bytes(&match *self {
            Self::Hello { session } => Layout { session: session.into(), ..empty(HELLO) },
            Self::Submit { token, op, block, count, slot } => {
                let kind = match op {
                    Op::Read => READ,
                    Op::Write => WRITE,
                    Op::Flush => FLUSH,
                };
                let (token, block, count, slot) = (token.into(), block.into(), count.into(), slot.into());
                Layout { token, block, count, slot, ..empty(kind) }
            }
        })
    }

    /// The request that `bytes` are.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadRecord> {
        let decode = |layout: &Layout| {
            let op = match layout.kind {
                HELLO => return Some(Self::Hello { session: layout.session.get() }),
                READ => Op::Read,
                WRITE => Op::Write,
                FLUSH => Op::Flush,
                _ => return None,
            };
            let (token, block) = (layout.token.get(), layout.block.get());
            Some(Self::Submit { token, op, block, count: layout.count.get(), slot: layout.slot.get() })
        };
        read(bytes, decode, Self::encode)
    }
}

impl Status {
    fn from_code(code: u8) -> Option<Self> {
        let all = [Self::Ok, Self::OutOfWindow, Self::Media, Self::ReadOnly, Self::BadRequest];
        all.into_iter().find(|status| *status as u8 == code)
    }
}

impl Reply {
    /// The record.
    pub fn encode(&self) -> [u8; RECORD_BYTES] {
        bytes(&match *self {
            Self::Ready { session, geometry } => {
                let flag = |set: bool, flag: u8| if set { flag } else { 0 };
                let flags = flag(geometry.read_only, FLAG_READ_ONLY) | flag(geometry.cached, FLAG_CACHED);
                let (session, count) = (session.into(), geometry.max_blocks.into());
                Layout { session, count, block: geometry.blocks.into(), flags, ..empty(READY) }
            }
            Self::Done { session, token, status } => {
                Layout { session: session.into(), token: token.into(), status: status as u8, ..empty(DONE) }
            }
        })
    }

    /// The reply that `bytes` are.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadRecord> {
        let decode = |layout: &Layout| {
            let session = layout.session.get();
            match layout.kind {
                READY => Some(Self::Ready {
                    session,
                    geometry: Geometry {
                        blocks: layout.block.get(),
                        max_blocks: layout.count.get(),
                        read_only: layout.flags & FLAG_READ_ONLY != 0,
                        cached: layout.flags & FLAG_CACHED != 0,
                    },
                }),
                DONE => {
                    let status = Status::from_code(layout.status)?;
                    Some(Self::Done { session, token: layout.token.get(), status })
                }
                _ => None,
            }
        };
        read(bytes, decode, Self::encode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_the_ring() {
        let submit = |op| Request::Submit { token: 1 << 40, op, block: 1 << 33, count: 7, slot: 3 };
        for request in [Request::Hello { session: u64::MAX }, submit(Op::Read), submit(Op::Write), submit(Op::Flush)] {
            assert_eq!(Request::decode(&request.encode()), Ok(request));
            assert_eq!(Reply::decode(&request.encode()), Err(BadRecord));
        }
        let geometry = Geometry { blocks: 9, max_blocks: 8, read_only: false, cached: true };
        let done = |status| Reply::Done { session: 5, token: 6, status };
        for reply in [Reply::Ready { session: 5, geometry }, done(Status::Ok), done(Status::BadRequest)] {
            assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
            assert_eq!(Request::decode(&reply.encode()), Err(BadRecord));
        }
    }

    #[test]
    fn every_stray_byte_is_refused() {
        let record = Request::Hello { session: 0 }.encode();
        for at in 0..RECORD_BYTES {
            let mut bytes = record;
            bytes[at] ^= 0x80;
            let session = (8..16).contains(&at);
            assert_eq!(Request::decode(&bytes).is_ok(), session, "byte {at}");
        }
        assert_eq!(Request::decode(&record[1..]), Err(BadRecord));
    }
}
