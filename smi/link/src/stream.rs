//! One direction of a stream: cutting messages into segments, and putting segments together again.
//!
//! A stream is all messages of one lane for one port. Segments are numbered; any of them may be lost, repeated or overtaken
//! in flight, and messages come out once, whole and in order. Memory is bounded at both ends: the sender by
//! [`SEND_MAX`], the receiver by the credit it grants ([`WINDOW`] segments past the last in order) and by the
//! reassembly budget that its session hands in.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::rc::Rc;
use alloc::vec::Vec;

use crate::wire::{SEGMENT_MAX, Segment, StreamId};

/// Most bytes of one message.
pub const MESSAGE_MAX: usize = 1 << 20;
/// Bytes that may wait in one stream before it counts as full. One message is always taken by an empty stream.
pub const SEND_MAX: usize = 1 << 20;
/// Segments that the peer may send beyond the last one received in order.
pub(crate) const WINDOW: u64 = 128;
/// Bytes of messages delivered and not yet consumed at which a stream stops granting credit.
pub(crate) const UNREAD_MAX: usize = 256 << 10;

/// Where a segment stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not sent yet, or to be sent again.
    Waiting,
    /// Last sent in the frame with this counter.
    Sent(u64),
    Acked,
}

struct Outgoing {
    message: Rc<[u8]>,
    start: usize,
    len: usize,
    state: State,
}

/// The sending half of a stream.
pub(crate) struct Sender {
    /// Number of `segments[0]`.
    base: u64,
    segments: VecDeque<Outgoing>,
    /// First segment that was never sent.
    next: u64,
    lost: BTreeSet<u64>,
    /// The peer takes segments below this.
    limit: u64,
    queued: usize,
}

impl Sender {
    pub fn new() -> Sender {
        Sender { base: 0, segments: VecDeque::new(), next: 0, lost: BTreeSet::new(), limit: WINDOW, queued: 0 }
    }

    /// True if a message of `len` bytes would be taken now.
    pub fn has_room(&self, len: usize) -> bool {
        self.segments.is_empty() || self.queued + len <= SEND_MAX
    }

    /// Queues a message. The caller has checked its length and [`Sender::has_room`].
    pub fn push(&mut self, message: &[u8]) {
        let message: Rc<[u8]> = message.into();
        let mut start = 0;
        loop {
            let len = (message.len() - start).min(SEGMENT_MAX);
            self.segments.push_back(Outgoing { message: message.clone(), start, len, state: State::Waiting });
            start += len;
            if start == message.len() {
                break;
            }
        }
        self.queued += message.len();
    }

    /// Data bytes of the segment that should go next, lost ones first; `None` if there is none or no credit.
    pub fn next_len(&self) -> Option<usize> {
        self.next_seq().map(|seq| self.segments[(seq - self.base) as usize].len)
    }

    fn next_seq(&self) -> Option<u64> {
        if let Some(seq) = self.lost.first() {
            return Some(*seq);
        }
        let end = self.base + self.segments.len() as u64;
        (self.next < end && self.next < self.limit).then_some(self.next)
    }

    /// Takes the next segment to be sent in frame `counter`.
    pub fn take(&mut self, stream: StreamId, counter: u64) -> Option<Segment<'_>> {
        let seq = self.next_seq()?;
        if !self.lost.remove(&seq) {
            self.next += 1;
        }
        let s = &mut self.segments[(seq - self.base) as usize];
        s.state = State::Sent(counter);
        let end = s.start + s.len;
        Some(Segment {
            stream,
            seq,
            first: s.start == 0,
            last: end == s.message.len(),
            total: s.message.len() as u32,
            data: &s.message[s.start..end],
        })
    }

    fn segment(&mut self, seq: u64) -> Option<&mut Outgoing> {
        self.segments.get_mut(seq.checked_sub(self.base)? as usize)
    }

    /// The peer has segment `seq`.
    pub fn acked(&mut self, seq: u64) {
        if let Some(s) = self.segment(seq) {
            s.state = State::Acked;
            self.lost.remove(&seq);
        }
        while let Some(s) = self.segments.pop_front_if(|s| s.state == State::Acked) {
            self.base += 1;
            self.queued -= s.len;
        }
    }

    /// Frame `counter`, which carried segment `seq`, is taken for lost. Sent again unless a later frame carried it too.
    pub fn frame_lost(&mut self, seq: u64, counter: u64) {
        if let Some(s) = self.segment(seq)
            && s.state == State::Sent(counter)
        {
            s.state = State::Waiting;
            self.lost.insert(seq);
        }
    }

    /// The peer grants segments below `limit`; older grants that arrive late change nothing.
    pub fn credit(&mut self, limit: u64) {
        self.limit = self.limit.max(limit);
    }
}

struct Piece {
    first: bool,
    last: bool,
    total: u32,
    data: Vec<u8>,
}

/// The receiving half of a stream.
pub(crate) struct Receiver {
    /// The next segment in order.
    next: u64,
    /// Segments below this were granted to the peer.
    granted: u64,
    waiting: BTreeMap<u64, Piece>,
    /// The message being put together, and its full length.
    partial: Option<(Vec<u8>, usize)>,
    /// Bytes delivered and not yet consumed.
    unread: usize,
}

/// The peer breaks the protocol; its session is not worth keeping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Violation;

impl Receiver {
    pub fn new() -> Receiver {
        Receiver { next: 0, granted: WINDOW, waiting: BTreeMap::new(), partial: None, unread: 0 }
    }

    /// Takes a segment. `Ok(false)` means that it was refused for lack of credit and must not be acknowledged.
    pub fn accept(&mut self, s: &Segment<'_>) -> Result<bool, Violation> {
        if s.total as usize > MESSAGE_MAX {
            return Err(Violation);
        }
        if s.seq >= self.granted {
            return Ok(false);
        }
        if s.seq >= self.next {
            let piece = Piece { first: s.first, last: s.last, total: s.total, data: s.data.to_vec() };
            self.waiting.entry(s.seq).or_insert(piece);
        }
        Ok(true)
    }

    /// The next whole message, if there is one. `budget` is what the session's messages under reassembly may still grow by; a
    /// message that does not fit waits until others are done.
    pub fn next_message(&mut self, budget: &mut usize) -> Result<Option<Vec<u8>>, Violation> {
        while let Some(piece) = self.waiting.get(&self.next) {
            if piece.first != self.partial.is_none() {
                return Err(Violation);
            }
            if piece.first && !piece.last {
                let total = piece.total as usize;
                if total > *budget {
                    return Ok(None);
                }
                *budget -= total;
            }
            if let Some(message) = self.append_next(budget)? {
                self.unread += message.len();
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    /// Moves the next piece to the message under reassembly; gives the message if that was its last piece.
    fn append_next(&mut self, budget: &mut usize) -> Result<Option<Vec<u8>>, Violation> {
        let Some(piece) = self.waiting.remove(&self.next) else { return Ok(None) };
        self.next += 1;
        let (mut message, total) = match self.partial.take() {
            Some(partial) => partial,
            None if piece.last => (Vec::new(), piece.total as usize),
            None => (Vec::with_capacity(piece.total as usize), piece.total as usize),
        };
        message.extend_from_slice(&piece.data);
        if message.len() > total || piece.total as usize != total || piece.last != (message.len() == total) {
            return Err(Violation);
        }
        if !piece.last {
            self.partial = Some((message, total));
            return Ok(None);
        }
        if !piece.first {
            *budget += total;
        }
        Ok(Some(message))
    }

    /// The user is done with `len` delivered bytes.
    pub fn consumed(&mut self, len: usize) {
        self.unread = self.unread.saturating_sub(len);
    }

    /// A limit worth telling the peer, if there is one: half a window more than it knows of.
    pub fn grant(&mut self) -> Option<u64> {
        let limit = self.next + WINDOW;
        let worth = self.unread <= UNREAD_MAX && limit - self.granted >= WINDOW / 2;
        worth.then(|| {
            self.granted = limit;
            limit
        })
    }

    /// The limit last granted.
    pub fn granted(&self) -> u64 {
        self.granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smi_cluster::{Lane, PortId};

    const ID: StreamId = StreamId { lane: Lane::Log, port: PortId(1) };

    /// Sends all that credit allows, in the given order of arrival, and returns what comes out.
    fn round(tx: &mut Sender, rx: &mut Receiver, budget: &mut usize, reverse: bool) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        while let Some(s) = tx.take(ID, 0) {
            sent.push((s.seq, s.first, s.last, s.total, s.data.to_vec()));
        }
        if reverse {
            sent.reverse();
        }
        let mut out = Vec::new();
        for (seq, first, last, total, data) in sent {
            let s = Segment { stream: ID, seq, first, last, total, data: &data };
            if rx.accept(&s).unwrap() {
                tx.acked(seq);
            }
            while let Some(m) = rx.next_message(budget).unwrap() {
                out.push(m);
            }
        }
        out
    }

    #[test]
    fn messages_of_all_sizes_come_out_in_order_when_segments_arrive_backwards() {
        let (mut tx, mut rx, mut budget) = (Sender::new(), Receiver::new(), MESSAGE_MAX);
        let messages: Vec<Vec<u8>> =
            [0, 1, SEGMENT_MAX, SEGMENT_MAX + 1, 5 * SEGMENT_MAX].iter().map(|n| vec![*n as u8; *n]).collect();
        for m in &messages {
            tx.push(m);
        }
        assert_eq!(round(&mut tx, &mut rx, &mut budget, true), messages);
        assert_eq!(budget, MESSAGE_MAX);
        assert!(tx.segments.is_empty() && tx.queued == 0);
    }

    #[test]
    fn the_sender_stops_without_credit_and_a_slow_user_gives_none() {
        let (mut tx, mut rx, mut budget) = (Sender::new(), Receiver::new(), MESSAGE_MAX);
        let big = vec![7; MESSAGE_MAX];
        tx.push(&big);
        assert!(!tx.has_room(1));
        let mut out = Vec::new();
        for _ in 0..20 {
            out.extend(round(&mut tx, &mut rx, &mut budget, false));
            if let Some(limit) = rx.grant() {
                tx.credit(limit);
            }
        }
        assert_eq!(out, [big]);
        // The message was delivered and never consumed: the stream has stopped granting.
        for _ in 0..1000 {
            tx.push(&[1; SEGMENT_MAX]);
        }
        for _ in 0..20 {
            round(&mut tx, &mut rx, &mut budget, false);
            assert_eq!(rx.grant(), None);
        }
        assert_eq!(tx.next_len(), None);
        rx.consumed(2 << 20);
        assert!(rx.grant().is_some());
    }

    #[test]
    fn segments_that_contradict_each_other_are_violations() {
        let seg = |seq, first, last, total, data| Segment { stream: ID, seq, first, last, total, data };
        let cases: [&[Segment<'_>]; 5] = [
            &[seg(0, false, true, 1, b"x")],
            &[seg(0, true, false, 2, b"x"), seg(1, true, true, 2, b"x")],
            &[seg(0, true, true, 2, b"x")],
            &[seg(0, true, false, 2, b"xx")],
            &[seg(0, true, false, 3, b"x"), seg(1, false, true, 2, b"x")],
        ];
        for case in cases {
            let (mut rx, mut budget) = (Receiver::new(), MESSAGE_MAX);
            for s in case {
                assert_eq!(rx.accept(s), Ok(true));
            }
            assert_eq!(rx.next_message(&mut budget), Err(Violation), "{case:?}");
        }
        assert_eq!(Receiver::new().accept(&seg(0, true, false, MESSAGE_MAX as u32 + 1, b"")), Err(Violation));
        assert_eq!(Receiver::new().accept(&seg(WINDOW, true, true, 0, b"")), Ok(false));
    }

    #[test]
    fn a_message_beyond_the_budget_waits() {
        let (mut tx, mut rx) = (Sender::new(), Receiver::new());
        tx.push(&[1; 2 * SEGMENT_MAX]);
        let mut budget = SEGMENT_MAX;
        assert!(round(&mut tx, &mut rx, &mut budget, false).is_empty());
        budget = 2 * SEGMENT_MAX;
        assert!(rx.next_message(&mut budget).unwrap().is_some());
    }
}
