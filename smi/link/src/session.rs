//! A session with one incarnation of one peer: sealed frames, acknowledgements, retransmission, streams.
//!
//! Every sealed frame has its own counter (nonce, replay check and acknowledgement number in one) and is never sent
//! twice: what a lost frame carried goes out again in a new one. So acknowledgements and round-trip samples are
//! unambiguous, and one mechanism serves all streams. Always true: a frame is acknowledged only if all that it
//! carried was taken; at most `Pace::window` (plus a small reserve for the control lane) frames are in flight.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use smi_cluster::{Lane, PortId};

use crate::crypto::Keys;
use crate::pace::Pace;
use crate::stream::{MESSAGE_MAX, Receiver, Sender, Violation};
use crate::window::Window;
use crate::wire::{
    ACK_LEN, Ack, Address, BODY_MAX, CREDIT_LEN, Chunk, Chunks, DATAGRAM_OVERHEAD, Frame, Kind, SEGMENT_OVERHEAD,
    Segment, StreamId, TAG, start_frame,
};

/// Frames carrying data that arrive before an acknowledgement is due at once.
const ACK_EVERY: u32 = 4;
/// Longest wait of an acknowledgement for company: long enough for most answers, short against the time-out.
const ACK_DELAY_NS: u64 = 4_000_000;
/// A frame is lost when one sent this much later was acknowledged.
const REORDER: u64 = 4;
/// Frames beyond the congestion window that the control lane may use.
const CONTROL_RESERVE: usize = 16;
/// Datagrams that wait for the next flush; the oldest give way.
const DATAGRAMS_MAX: usize = 64;
/// Streams a direction; a peer that opens more breaks the protocol.
const STREAMS_MAX: usize = 256;
/// Bytes of messages under reassembly, over all streams of the peer.
const REASSEMBLY_MAX: usize = 4 * MESSAGE_MAX;

/// What a frame brought for the user.
pub(crate) enum Received {
    Message { stream: StreamId, bytes: Vec<u8> },
    Datagram { port: PortId, bytes: Vec<u8> },
}

/// What became of a sealed frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Authentic, new, and read.
    Taken,
    /// Seen before, too old, or of an older membership epoch.
    Stale,
    /// Did not authenticate.
    Forged,
    /// Authentic, but the peer breaks the protocol.
    Broken,
}

/// What an unacknowledged frame carried.
struct InFlight {
    at_ns: u64,
    segments: Vec<(StreamId, u64)>,
    credits: Vec<StreamId>,
    ping: bool,
}

/// Acknowledgements that we owe.
struct Owed {
    /// Frames with data since the last acknowledgement.
    frames: u32,
    /// When the acknowledgement must leave.
    due_ns: Option<u64>,
    largest_at_ns: u64,
}

/// State shared with one incarnation of one peer.
pub(crate) struct Session {
    address: Address,
    /// The number that frames to us carry.
    pub local: u32,
    remote: u32,
    pub incarnation: u64,
    keys: Keys,
    next_counter: u64,
    in_flight: BTreeMap<u64, InFlight>,
    pace: Pace,
    replay: Window<16>,
    /// Frames taken: what we acknowledge.
    taken: Window<5>,
    owed: Owed,
    peer_epoch: u64,
    senders: BTreeMap<StreamId, Sender>,
    receivers: BTreeMap<StreamId, Receiver>,
    /// Streams whose grant must be told again.
    regrant: BTreeSet<StreamId>,
    /// The port served last in each lane.
    served: [PortId; Lane::ALL.len()],
    datagrams: VecDeque<(PortId, Vec<u8>)>,
    ping: bool,
    budget: usize,
    /// Something happened since the last flush that may let frames go.
    dirty: bool,
}

impl Session {
    pub fn new(address: Address, local: u32, peer: crate::crypto::Hello, keys: Keys) -> Session {
        Session {
            address,
            local,
            remote: peer.session,
            incarnation: peer.incarnation,
            keys,
            next_counter: 0,
            in_flight: BTreeMap::new(),
            pace: Pace::new(),
            replay: Window::new(),
            taken: Window::new(),
            owed: Owed { frames: 0, due_ns: None, largest_at_ns: 0 },
            peer_epoch: peer.epoch,
            senders: BTreeMap::new(),
            receivers: BTreeMap::new(),
            regrant: BTreeSet::new(),
            served: [PortId(0); Lane::ALL.len()],
            datagrams: VecDeque::new(),
            ping: false,
            budget: REASSEMBLY_MAX,
            dirty: false,
        }
    }

    /// Asks the peer for an acknowledgement: confirms the session to it.
    pub fn ping(&mut self) {
        self.ping = true;
        self.dirty = true;
    }

    /// The smoothed round-trip time to the peer, once measured.
    pub fn srtt_ns(&self) -> Option<u64> {
        self.pace.srtt_ns()
    }

    /// True if the stream would take a message of `len` bytes.
    pub fn has_room(&self, stream: StreamId, len: usize) -> bool {
        match self.senders.get(&stream) {
            Some(sender) => sender.has_room(len),
            None => self.senders.len() < STREAMS_MAX,
        }
    }

    /// Queues a message; the caller has asked [`Session::has_room`].
    pub fn send(&mut self, stream: StreamId, message: &[u8]) {
        self.senders.entry(stream).or_insert_with(Sender::new).push(message);
        self.dirty = true;
    }

    /// Queues a datagram for the next flush.
    pub fn datagram(&mut self, port: PortId, bytes: &[u8]) {
        if self.datagrams.len() == DATAGRAMS_MAX {
            self.datagrams.pop_front();
        }
        self.datagrams.push_back((port, bytes.to_vec()));
        self.dirty = true;
    }

    /// The user is done with a delivered message of `len` bytes.
    pub fn consumed(&mut self, stream: StreamId, len: usize) {
        if let Some(receiver) = self.receivers.get_mut(&stream) {
            receiver.consumed(len);
            self.dirty = true;
        }
    }

    /// Takes a sealed frame addressed to this session.
    pub fn on_frame(&mut self, now_ns: u64, frame: &Frame<'_>, out: &mut Vec<Received>) -> Verdict {
        if !self.replay.is_fresh(frame.counter) {
            return Verdict::Stale;
        }
        let Ok(body) = self.keys.open(frame.counter, frame.header, frame.body) else { return Verdict::Forged };
        self.replay.mark(frame.counter);
        self.dirty = true;
        if frame.epoch < self.peer_epoch {
            return Verdict::Stale;
        }
        self.peer_epoch = frame.epoch;
        match self.on_chunks(now_ns, frame.counter, &body, out) {
            Ok(()) => Verdict::Taken,
            Err(Violation) => Verdict::Broken,
        }
    }

    fn on_chunks(&mut self, now: u64, counter: u64, body: &[u8], out: &mut Vec<Received>) -> Result<(), Violation> {
        let (mut eliciting, mut taken) = (false, true);
        for chunk in Chunks::new(body) {
            match chunk.map_err(|_| Violation)? {
                Chunk::Ack(ack) => self.on_ack(now, &ack)?,
                Chunk::Credit { stream, limit } => {
                    eliciting = true;
                    if let Some(sender) = self.senders.get_mut(&stream) {
                        sender.credit(limit);
                    }
                }
                Chunk::Segment(segment) => {
                    eliciting = true;
                    taken &= self.on_segment(&segment, out)?;
                }
                Chunk::Datagram { port, data } => out.push(Received::Datagram { port, bytes: data.to_vec() }),
                Chunk::Ping => eliciting = true,
            }
        }
        if taken {
            self.owe(now, counter, eliciting);
        }
        Ok(())
    }

    /// Notes that frame `counter` is to be acknowledged: soon if it carried data, at once if one before it is missing.
    fn owe(&mut self, now: u64, counter: u64, eliciting: bool) {
        let in_order = self.taken.largest().is_none_or(|largest| counter == largest + 1);
        if self.taken.largest().is_none_or(|largest| counter > largest) {
            self.owed.largest_at_ns = now;
        }
        self.taken.mark(counter);
        if eliciting {
            self.owed.frames += 1;
            let at_once = !in_order || self.owed.frames >= ACK_EVERY;
            let due = if at_once { now } else { now + ACK_DELAY_NS };
            self.owed.due_ns = Some(self.owed.due_ns.map_or(due, |d| d.min(due)));
        }
    }

    fn on_segment(&mut self, segment: &Segment<'_>, out: &mut Vec<Received>) -> Result<bool, Violation> {
        if !self.receivers.contains_key(&segment.stream) && self.receivers.len() == STREAMS_MAX {
            return Err(Violation);
        }
        let receiver = self.receivers.entry(segment.stream).or_insert_with(Receiver::new);
        if !receiver.accept(segment)? {
            return Ok(false);
        }
        let budget_before = self.budget;
        self.deliver(segment.stream, out)?;
        if self.budget > budget_before {
            // A long message is done: those that waited for the budget may go on.
            let streams: Vec<StreamId> = self.receivers.keys().copied().collect();
            for stream in streams {
                self.deliver(stream, out)?;
            }
        }
        Ok(true)
    }

    fn deliver(&mut self, stream: StreamId, out: &mut Vec<Received>) -> Result<(), Violation> {
        let Some(receiver) = self.receivers.get_mut(&stream) else { return Ok(()) };
        while let Some(bytes) = receiver.next_message(&mut self.budget)? {
            out.push(Received::Message { stream, bytes });
        }
        Ok(())
    }

    fn on_ack(&mut self, now: u64, ack: &Ack) -> Result<(), Violation> {
        if ack.largest >= self.next_counter {
            return Err(Violation);
        }
        let covered: Vec<u64> = self.in_flight.range(..=ack.largest).map(|(c, _)| *c).collect();
        for counter in covered {
            if is_acked(ack, counter) {
                self.frame_acked(now, counter, ack);
            } else if counter + REORDER <= ack.largest {
                self.pace.lost(counter, self.next_counter);
                self.frame_lost(counter);
            }
        }
        Ok(())
    }

    fn frame_acked(&mut self, now: u64, counter: u64, ack: &Ack) {
        let Some(frame) = self.in_flight.remove(&counter) else { return };
        if counter == ack.largest {
            let waited = u64::from(ack.delay_us) * 1000;
            self.pace.measured(now.saturating_sub(frame.at_ns).saturating_sub(waited));
        }
        self.pace.acked();
        for (stream, seq) in frame.segments {
            if let Some(sender) = self.senders.get_mut(&stream) {
                sender.acked(seq);
            }
        }
    }

    /// What frame `counter` carried has to go again.
    fn frame_lost(&mut self, counter: u64) {
        let Some(frame) = self.in_flight.remove(&counter) else { return };
        for (stream, seq) in frame.segments {
            if let Some(sender) = self.senders.get_mut(&stream) {
                sender.frame_lost(seq, counter);
            }
        }
        self.regrant.extend(frame.credits);
        self.ping |= frame.ping;
    }

    /// When [`Session::flush`] has something to do, if nothing else happens first; 0 for at once.
    pub fn deadline_ns(&self) -> Option<u64> {
        if self.dirty {
            return Some(0);
        }
        let resend = self.in_flight.first_key_value().map(|(_, frame)| frame.at_ns + self.pace.rto_ns());
        [resend, self.owed.due_ns].into_iter().flatten().min()
    }

    /// Handles timers and sends what may be sent, under membership epoch `epoch`. Returns whole Ethernet frames.
    pub fn flush(&mut self, now_ns: u64, epoch: u64, out: &mut Vec<Vec<u8>>) {
        self.dirty = false;
        self.time_out(now_ns);
        while let Some(frame) = self.next_frame(now_ns, epoch) {
            out.push(frame);
        }
    }

    fn time_out(&mut self, now: u64) {
        let rto = self.pace.rto_ns();
        let expired: Vec<u64> =
            self.in_flight.iter().take_while(|(_, f)| f.at_ns + rto <= now).map(|(c, _)| *c).collect();
        if expired.is_empty() {
            return;
        }
        self.pace.timed_out();
        for counter in expired {
            self.frame_lost(counter);
        }
    }

    /// Builds and seals the next frame; `None` if nothing has to go or nothing may.
    fn next_frame(&mut self, now: u64, epoch: u64) -> Option<Vec<u8>> {
        let counter = self.next_counter;
        let mut body = Vec::with_capacity(BODY_MAX);
        let carried = self.fill(&mut body, now, counter);
        let eliciting = !carried.segments.is_empty() || !carried.credits.is_empty() || carried.ping;
        let ack_due = self.owed.due_ns.is_some_and(|due| due <= now);
        if body.is_empty() && !ack_due {
            return None;
        }
        if self.owed.due_ns.is_some() {
            self.put_ack(&mut body, now);
        }
        self.next_counter += 1;
        if eliciting {
            self.in_flight.insert(counter, carried);
        }
        Some(self.seal(epoch, counter, &body))
    }

    /// Puts all but the acknowledgement into the body: control chunks first, then segments by lane.
    fn fill(&mut self, body: &mut Vec<u8>, now: u64, counter: u64) -> InFlight {
        let mut carried = InFlight { at_ns: now, segments: Vec::new(), credits: Vec::new(), ping: self.ping };
        let room = BODY_MAX - ACK_LEN;
        if core::mem::take(&mut self.ping) {
            Chunk::Ping.put(body);
        }
        while let Some((port, data)) =
            self.datagrams.pop_front_if(|d| body.len() + DATAGRAM_OVERHEAD + d.1.len() <= room)
        {
            Chunk::Datagram { port, data: &data }.put(body);
        }
        self.put_credits(body, room, &mut carried);
        while let Some(stream) = self.pick(room.saturating_sub(body.len() + SEGMENT_OVERHEAD)) {
            let Some(segment) = self.senders.get_mut(&stream).and_then(|s| s.take(stream, counter)) else { break };
            carried.segments.push((stream, segment.seq));
            Chunk::Segment(segment).put(body);
            self.served[stream.lane as usize] = stream.port;
        }
        carried
    }

    fn put_credits(&mut self, body: &mut Vec<u8>, room: usize, carried: &mut InFlight) {
        for (stream, receiver) in &mut self.receivers {
            if body.len() + CREDIT_LEN > room {
                break;
            }
            let again = self.regrant.remove(stream).then_some(receiver.granted());
            if let Some(limit) = receiver.grant().or(again) {
                Chunk::Credit { stream: *stream, limit }.put(body);
                carried.credits.push(*stream);
            }
        }
    }

    /// The stream whose segment goes next into `room` bytes: the most urgent lane first, its ports in turn.
    fn pick(&self, room: usize) -> Option<StreamId> {
        let in_flight = self.in_flight.len();
        let full = in_flight >= self.pace.window();
        let lanes = if full && in_flight >= self.pace.window() + CONTROL_RESERVE {
            &[][..]
        } else if full {
            &[Lane::Control][..]
        } else {
            &Lane::ALL[..]
        };
        let fits = |s: &Sender| s.next_len().is_some_and(|len| len <= room);
        lanes.iter().find_map(|lane| {
            let id = |port| StreamId { lane: *lane, port };
            let served = self.served[*lane as usize];
            let after = self.senders.range(id(served)..=id(PortId(u16::MAX))).filter(|(s, _)| s.port != served);
            let up_to = self.senders.range(id(PortId(0))..=id(served));
            after.chain(up_to).find(|(_, s)| fits(s)).map(|(stream, _)| *stream)
        })
    }

    fn put_ack(&mut self, body: &mut Vec<u8>, now: u64) {
        let Some(largest) = self.taken.largest() else { return };
        let delay_us = u32::try_from(now.saturating_sub(self.owed.largest_at_ns) / 1000).unwrap_or(u32::MAX);
        Chunk::Ack(Ack { largest, delay_us, before: self.taken.before() }).put(body);
        self.owed.frames = 0;
        self.owed.due_ns = None;
    }

    fn seal(&self, epoch: u64, counter: u64, body: &[u8]) -> Vec<u8> {
        let mut frame = start_frame(&self.address, Kind::Sealed, self.remote, epoch, counter, body.len() + TAG);
        let body_at = frame.len();
        frame.reserve(body.len() + TAG);
        frame.extend_from_slice(body);
        self.keys.seal(counter, &mut frame, body_at);
        frame
    }
}

fn is_acked(ack: &Ack, counter: u64) -> bool {
    match ack.largest - counter {
        0 => true,
        age => ack.before.get((age - 1) as usize / 64).is_some_and(|word| word >> ((age - 1) % 64) & 1 == 1),
    }
}
