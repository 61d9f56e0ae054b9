//! Bytes on the wire: the frame header and the chunks inside a sealed frame.
//!
//! A frame is `Ethernet header | link header | body`. The body of a handshake frame is a Noise message; the body of a
//! sealed frame is a sequence of chunks, encrypted, and a 16-byte tag; the link header is its associated data. All
//! fields are little-endian, except those of the Ethernet header. What arrives is a claim: [`Frame::parse`] and
//! [`Chunks`] check lengths and kinds before anything is believed, and never index past what they were given.

use alloc::vec::Vec;
use smi_cluster::{Lane, NodeId, PortId};
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// EtherType of the link: IEEE 802 local experimental EtherType 1.
pub const ETHERTYPE: u16 = 0x88B5;
/// Version of the frame format.
pub const VERSION: u8 = 1;
/// Most bytes behind the Ethernet header.
pub const MTU: usize = 1500;
/// Bytes of the Ethernet header.
pub const ETHERNET: usize = 14;
/// Bytes of the link header.
pub const HEADER: usize = size_of::<Header>();
/// Bytes of the authentication tag at the end of a sealed body.
pub const TAG: usize = 16;
/// Most bytes of chunks in one sealed frame.
pub const BODY_MAX: usize = MTU - HEADER - TAG;
/// Bytes of a segment chunk before its data.
pub const SEGMENT_OVERHEAD: usize = 19;
/// Bytes of an acknowledgement chunk.
pub const ACK_LEN: usize = 45;
/// Bytes of a credit chunk.
pub const CREDIT_LEN: usize = 12;
/// Bytes of a datagram chunk before its data.
pub const DATAGRAM_OVERHEAD: usize = 5;
/// Most message bytes in one segment: a full segment and an acknowledgement fit one frame.
pub const SEGMENT_MAX: usize = BODY_MAX - ACK_LEN - SEGMENT_OVERHEAD;
/// Most bytes of an unreliable datagram.
pub const DATAGRAM_MAX: usize = BODY_MAX - ACK_LEN - DATAGRAM_OVERHEAD;

const _: () = assert!(SEGMENT_MAX >= 1300 && SEGMENT_MAX <= u16::MAX as usize);

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    /// First handshake message.
    Init = 1,
    /// Second handshake message.
    Response = 2,
    /// Sealed chunks.
    Sealed = 3,
    /// "I refused your Init": a hint in the clear, believed by nobody, only logged.
    Refusal = 4,
}

impl Kind {
    fn from_number(n: u8) -> Option<Kind> {
        [Kind::Init, Kind::Response, Kind::Sealed, Kind::Refusal].into_iter().find(|k| *k as u8 == n)
    }
}

/// The link header, as it stands on the wire.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Header {
    version: u8,
    kind: u8,
    src: U16,
    dst: U16,
    /// Bytes of the body (an Ethernet frame may be padded).
    len: U16,
    /// First half of the cluster id: tells foreign traffic apart cheaply. The handshake binds all of it.
    cluster: [u8; 8],
    session: U32,
    epoch: U64,
    counter: U64,
}

/// The fields of a header that the caller chooses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Address {
    pub src_mac: [u8; 6],
    pub dst_mac: [u8; 6],
    pub src: NodeId,
    pub dst: NodeId,
    pub cluster: [u8; 8],
}

/// A frame that has been cut into its parts, nothing of it authenticated yet.
pub(crate) struct Frame<'a> {
    pub kind: Kind,
    pub src_mac: [u8; 6],
    pub src: NodeId,
    pub dst: NodeId,
    pub cluster: [u8; 8],
    pub session: u32,
    pub epoch: u64,
    pub counter: u64,
    /// The header's bytes: associated data of a sealed body.
    pub header: &'a [u8],
    pub body: &'a [u8],
}

/// Why bytes are not a frame of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NotAFrame {
    /// Another EtherType, or too short to say.
    Foreign,
    /// Our EtherType, but a version that we do not speak; who says so.
    Version(NodeId),
    /// Our EtherType and version, but inconsistent lengths or an unknown kind.
    Malformed,
}

impl<'a> Frame<'a> {
    /// Cuts a received Ethernet frame into its parts.
    pub fn parse(bytes: &'a [u8]) -> Result<Frame<'a>, NotAFrame> {
        let (ethernet, rest) = bytes.split_at_checked(ETHERNET).ok_or(NotAFrame::Foreign)?;
        if ethernet[12..14] != ETHERTYPE.to_be_bytes() {
            return Err(NotAFrame::Foreign);
        }
        let (header_bytes, rest) = rest.split_at_checked(HEADER).ok_or(NotAFrame::Malformed)?;
        let header = Header::read_from_bytes(header_bytes).map_err(|_| NotAFrame::Malformed)?;
        if header.version != VERSION {
            return Err(NotAFrame::Version(NodeId(header.src.get())));
        }
        let kind = Kind::from_number(header.kind).ok_or(NotAFrame::Malformed)?;
        let body = rest.get(..header.len.get() as usize).ok_or(NotAFrame::Malformed)?;
        let mut src_mac = [0; 6];
        src_mac.copy_from_slice(&ethernet[6..12]);
        Ok(Frame {
            kind,
            src_mac,
            src: NodeId(header.src.get()),
            dst: NodeId(header.dst.get()),
            cluster: header.cluster,
            session: header.session.get(),
            epoch: header.epoch.get(),
            counter: header.counter.get(),
            header: header_bytes,
            body,
        })
    }
}

/// Starts a frame: Ethernet and link header for a body of `len` bytes, which the caller appends.
pub(crate) fn start_frame(a: &Address, kind: Kind, session: u32, epoch: u64, counter: u64, len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(ETHERNET + HEADER + len);
    out.extend_from_slice(&a.dst_mac);
    out.extend_from_slice(&a.src_mac);
    out.extend_from_slice(&ETHERTYPE.to_be_bytes());
    let header = Header {
        version: VERSION,
        kind: kind as u8,
        src: U16::new(a.src.0),
        dst: U16::new(a.dst.0),
        len: U16::new(len as u16),
        cluster: a.cluster,
        session: U32::new(session),
        epoch: U64::new(epoch),
        counter: U64::new(counter),
    };
    out.extend_from_slice(header.as_bytes());
    out
}

/// A stream of messages: all messages of one lane for one port. Orders by urgency.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct StreamId {
    pub lane: Lane,
    pub port: PortId,
}

/// A piece of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Segment<'a> {
    pub stream: StreamId,
    /// Number of this segment in its stream, from 0.
    pub seq: u64,
    /// It opens a message.
    pub first: bool,
    /// It closes a message.
    pub last: bool,
    /// Bytes of the whole message.
    pub total: u32,
    pub data: &'a [u8],
}

/// Which sealed frames arrived: `largest` and those of the 256 before it whose bit is set (bit 0 = `largest - 1`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ack {
    pub largest: u64,
    /// How long `largest` waited for this acknowledgement, in microseconds.
    pub delay_us: u32,
    pub before: [u64; 4],
}

/// One chunk of a sealed frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Chunk<'a> {
    Ack(Ack),
    /// The peer may send segments with `seq < limit`.
    Credit {
        stream: StreamId,
        limit: u64,
    },
    Segment(Segment<'a>),
    Datagram {
        port: PortId,
        data: &'a [u8],
    },
    /// Asks for an acknowledgement, nothing else.
    Ping,
}

const ACK: u8 = 1;
const CREDIT: u8 = 2;
const SEGMENT: u8 = 3;
const DATAGRAM: u8 = 4;
const PING: u8 = 5;
const FIRST: u8 = 1;
const LAST: u8 = 2;

impl Chunk<'_> {
    /// Appends the chunk's bytes.
    pub fn put(&self, out: &mut Vec<u8>) {
        match self {
            Chunk::Ack(ack) => {
                out.push(ACK);
                out.extend_from_slice(&ack.largest.to_le_bytes());
                out.extend_from_slice(&ack.delay_us.to_le_bytes());
                for word in ack.before {
                    out.extend_from_slice(&word.to_le_bytes());
                }
            }
            Chunk::Credit { stream, limit } => {
                out.push(CREDIT);
                put_stream(out, *stream);
                out.extend_from_slice(&limit.to_le_bytes());
            }
            Chunk::Segment(s) => {
                out.push(SEGMENT);
                put_stream(out, s.stream);
                out.extend_from_slice(&s.seq.to_le_bytes());
                out.push(if s.first { FIRST } else { 0 } | if s.last { LAST } else { 0 });
                out.extend_from_slice(&s.total.to_le_bytes());
                out.extend_from_slice(&(s.data.len() as u16).to_le_bytes());
                out.extend_from_slice(s.data);
            }
            Chunk::Datagram { port, data } => {
                out.push(DATAGRAM);
                out.extend_from_slice(&port.0.to_le_bytes());
                out.extend_from_slice(&(data.len() as u16).to_le_bytes());
                out.extend_from_slice(data);
            }
            Chunk::Ping => out.push(PING),
        }
    }
}

fn put_stream(out: &mut Vec<u8>, stream: StreamId) {
    out.extend_from_slice(&stream.port.0.to_le_bytes());
    out.push(stream.lane as u8);
}

/// Reads the chunks of an opened body one after the other; `Err` once, at the first that is malformed.
pub(crate) struct Chunks<'a> {
    rest: &'a [u8],
}

/// A chunk's bytes make no sense.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Malformed;

impl<'a> Chunks<'a> {
    pub fn new(body: &'a [u8]) -> Chunks<'a> {
        Chunks { rest: body }
    }

    fn bytes(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.rest.split_at_checked(n).ok_or(Malformed)?;
        self.rest = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.bytes(N)?.try_into().map_err(|_| Malformed)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn stream(&mut self) -> Result<StreamId, Malformed> {
        let port = PortId(self.u16()?);
        let [lane] = self.array()?;
        Ok(StreamId { lane: Lane::from_number(lane).ok_or(Malformed)?, port })
    }

    fn ack(&mut self) -> Result<Ack, Malformed> {
        let largest = self.u64()?;
        let delay_us = self.u32()?;
        let mut before = [0; 4];
        for word in &mut before {
            *word = self.u64()?;
        }
        Ok(Ack { largest, delay_us, before })
    }

    fn segment(&mut self) -> Result<Segment<'a>, Malformed> {
        let stream = self.stream()?;
        let seq = self.u64()?;
        let [flags] = self.array()?;
        let total = self.u32()?;
        let len = self.u16()? as usize;
        if flags & !(FIRST | LAST) != 0 || len > total as usize {
            return Err(Malformed);
        }
        let data = self.bytes(len)?;
        Ok(Segment { stream, seq, first: flags & FIRST != 0, last: flags & LAST != 0, total, data })
    }

    fn chunk(&mut self) -> Result<Chunk<'a>, Malformed> {
        match self.array::<1>()?[0] {
            ACK => Ok(Chunk::Ack(self.ack()?)),
            CREDIT => Ok(Chunk::Credit { stream: self.stream()?, limit: self.u64()? }),
            SEGMENT => Ok(Chunk::Segment(self.segment()?)),
            DATAGRAM => {
                let port = PortId(self.u16()?);
                let len = self.u16()? as usize;
                Ok(Chunk::Datagram { port, data: self.bytes(len)? })
            }
            PING => Ok(Chunk::Ping),
            _ => Err(Malformed),
        }
    }
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Result<Chunk<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let chunk = self.chunk();
        if chunk.is_err() {
            self.rest = &[];
        }
        Some(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Chunk<'static>> {
        let stream = StreamId { lane: Lane::Repair, port: PortId(0x1234) };
        vec![
            Chunk::Ack(Ack { largest: 7, delay_us: 9, before: [1, 2, 3, u64::MAX] }),
            Chunk::Credit { stream, limit: 99 },
            Chunk::Segment(Segment { stream, seq: 5, first: true, last: false, total: 40, data: b"hello" }),
            Chunk::Datagram { port: PortId(3), data: b"beat" },
            Chunk::Ping,
        ]
    }

    #[test]
    fn chunks_survive_the_wire_and_have_the_stated_sizes() {
        let mut body = Vec::new();
        for chunk in samples() {
            chunk.put(&mut body);
        }
        assert_eq!(body.len(), ACK_LEN + CREDIT_LEN + SEGMENT_OVERHEAD + 5 + DATAGRAM_OVERHEAD + 4 + 1);
        let back: Vec<_> = Chunks::new(&body).map(Result::unwrap).collect();
        assert_eq!(back, samples());
    }

    #[test]
    fn truncated_chunks_are_malformed_not_a_panic() {
        for chunk in samples() {
            let mut body = Vec::new();
            chunk.put(&mut body);
            for len in 1..body.len() {
                let last = Chunks::new(&body[..len]).last();
                assert_eq!(last, Some(Err(Malformed)), "{chunk:?} cut to {len}");
            }
        }
        assert_eq!(Chunks::new(&[77]).next(), Some(Err(Malformed)));
    }

    #[test]
    fn a_frame_is_parsed_behind_padding_and_refused_when_short() {
        let a = Address { src_mac: [1; 6], dst_mac: [2; 6], src: NodeId(3), dst: NodeId(4), cluster: [5; 8] };
        let mut bytes = start_frame(&a, Kind::Sealed, 6, 7, 8, 3);
        bytes.extend_from_slice(b"abc");
        bytes.extend_from_slice(&[0; 20]);
        let f = Frame::parse(&bytes).ok().unwrap();
        assert_eq!(
            (f.kind, f.src, f.dst, f.session, f.epoch, f.counter),
            (Kind::Sealed, NodeId(3), NodeId(4), 6, 7, 8)
        );
        assert_eq!(f.body, b"abc");
        assert_eq!(Frame::parse(&bytes[..52]).err(), Some(NotAFrame::Malformed));
        assert_eq!(Frame::parse(&bytes[..9]).err(), Some(NotAFrame::Foreign));
        bytes[12] = 8;
        assert_eq!(Frame::parse(&bytes).err(), Some(NotAFrame::Foreign));
    }
}
