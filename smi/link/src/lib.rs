//! Node-to-node link: authenticated, reliable, ordered streams over raw Ethernet (sans-IO).
//!
//! A [`Link`] is one node's end of the links to all other members of its cluster. It speaks frames of its own EtherType, no
//! IP. It has no clock, no randomness and no NIC: [`Link::step`] takes the time and an [`Event`] and appends
//! [`Action`]s; [`Link::deadline_ns`] says when it wants the next [`Event::Tick`]. Frames leave at `Tick`: give it after every
//! batch of events, so that messages and acknowledgements share frames.
//!
//! * **Who may talk.** Members are configured with their MAC addresses. A pair of nodes shakes hands (module `crypto`) under
//!   the cluster key; a node with another key is [`Action::Refused`] and nothing else happens. Frames are sealed; the header with
//!   cluster, nodes, session, membership epoch and counter is their associated data. What does not authenticate, or was
//!   seen before, or comes from an older membership epoch than the session has seen, has no effect, and costs bounded work.
//! * **Sessions.** A session joins one incarnation of each end. If the peer reboots or either end gives the session up
//!   ([`Event::Expel`]), all state of it is dropped, unsent messages included, and the user hears [`Action::PeerDown`] before
//!   the next [`Action::PeerUp`]. A silent peer is not a down peer: who is down is the directory's decision, not the
//!   link's. Eviction is cryptographic: an expelled incarnation's session keys are gone, and it gets new ones only by a new handshake.
//! * **Streams.** Messages of at most [`MESSAGE_MAX`] bytes for one (port, lane) arrive once, whole, and in order, as long
//!   as the session lives. Lanes have strict priority. Flow control is by credit: the user gives each [`Receipt`]
//!   back when it is done with a message ([`Event::Consumed`]).
//! * **Datagrams** go out at once and may be lost, repeated never.
//!
//! Neighbours: `smi-cluster` has the vocabulary; `smi-manager` drives the link and is its only user; the simulator runs it too.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod crypto;
mod limit;
mod pace;
mod peer;
mod session;
mod stream;
mod window;
mod wire;

use alloc::vec::Vec;
use smi_cluster::identity::Member;
use smi_cluster::{Lane, NodeId, PortId};

use crypto::Drbg;
use limit::Reporter;
use peer::{Local, Peer};
use wire::{Frame, NotAFrame, StreamId};

pub use stream::{MESSAGE_MAX, SEND_MAX};
pub use wire::{DATAGRAM_MAX, ETHERTYPE, MTU};

/// What a link needs to know about its node and cluster.
#[derive(Clone)]
pub struct Config<'a> {
    /// The cluster's id.
    pub cluster: [u8; 16],
    /// The cluster's key.
    pub key: [u8; 32],
    /// This node.
    pub node: NodeId,
    /// Raised at each boot of this node; tells peers that older sessions are over.
    pub incarnation: u64,
    /// All members with their internal MAC addresses, this node among them.
    pub members: &'a [Member],
    /// Seed of all random choices; must never repeat for the same key. See [`seed`].
    pub seed: [u8; 32],
}

/// Derives a [`Config::seed`] from the cluster key and whatever is at hand that differs between nodes and boots (node id,
/// incarnation, clock, device entropy). Secret because the key is.
pub fn seed(key: &[u8; 32], differs: &[&[u8]]) -> [u8; 32] {
    let mut state = *key;
    for bytes in differs {
        for chunk in bytes.chunks(24) {
            let mut mixed = [0; 32];
            Drbg::new(state).fill(&mut mixed);
            mixed.iter_mut().zip(chunk).for_each(|(m, b)| *m ^= b);
            mixed[31] ^= chunk.len() as u8;
            state = mixed;
        }
    }
    let mut out = [0; 32];
    Drbg::new(state).fill(&mut out);
    out
}

/// What happens to a link.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// An Ethernet frame arrived on the internal segment.
    FrameIn(&'a [u8]),
    /// A message for the same port on node `to`. Taken if [`Link::has_room`], else [`Action::Unsent`].
    Send {
        /// Receiver.
        to: NodeId,
        /// Port on both ends.
        port: PortId,
        /// Priority.
        lane: Lane,
        /// At most [`MESSAGE_MAX`] bytes.
        bytes: &'a [u8],
    },
    /// An unreliable message of at most [`DATAGRAM_MAX`] bytes. Dropped if there is no session.
    Datagram {
        /// Receiver.
        to: NodeId,
        /// Port on both ends.
        port: PortId,
        /// The message.
        bytes: &'a [u8],
    },
    /// The user is done with a delivered message.
    Consumed(Receipt),
    /// The directory has declared the peer's incarnation dead: its session is over.
    Expel(NodeId),
    /// The membership epoch is now this (never lowered).
    Epoch(u64),
    /// Time has passed, or a batch of events is over.
    Tick,
}

/// Goes with a delivered message and comes back with [`Event::Consumed`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Receipt {
    from: NodeId,
    session: u32,
    stream: StreamId,
    len: usize,
}

/// What the user of a link has to do or know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Put this Ethernet frame on the internal segment.
    FrameOut(Vec<u8>),
    /// A message arrived.
    Deliver {
        /// Sender.
        from: NodeId,
        /// Port.
        port: PortId,
        /// The lane it came on.
        lane: Lane,
        /// To be given back when the message is dealt with.
        receipt: Receipt,
        /// The message.
        bytes: Vec<u8>,
    },
    /// A datagram arrived.
    DeliverDatagram {
        /// Sender.
        from: NodeId,
        /// Port.
        port: PortId,
        /// The message.
        bytes: Vec<u8>,
    },
    /// A session with this incarnation of the peer begins.
    PeerUp {
        /// The peer.
        node: NodeId,
        /// Its incarnation.
        incarnation: u64,
    },
    /// The session is over. What was under way in either direction is lost.
    PeerDown {
        /// The peer.
        node: NodeId,
        /// The incarnation that is gone.
        incarnation: u64,
        /// Why.
        reason: DownReason,
    },
    /// Somebody was turned away. At most one report each 5 s and peer, less often if it goes on.
    Refused(Refused),
    /// A message to be sent was not taken.
    Unsent {
        /// Receiver.
        to: NodeId,
        /// Port.
        port: PortId,
        /// Why.
        reason: UnsentReason,
    },
}

/// Why a session ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DownReason {
    /// The peer began a new session: it rebooted, or it had given up this one.
    Replaced,
    /// [`Event::Expel`].
    Expelled,
    /// The peer broke the protocol.
    Violation,
}

/// Why a message was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnsentReason {
    /// There is no session with that node.
    NoPeer,
    /// The stream is full; wait for it to drain.
    Full,
    /// Longer than [`MESSAGE_MAX`] ([`DATAGRAM_MAX`] for a datagram).
    TooLong,
}

/// Who was turned away and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused {
    /// The node that it says it is.
    pub claims: NodeId,
    /// The MAC address it used.
    pub mac: [u8; 6],
    /// Why.
    pub reason: Refusal,
    /// Like reports that were held back since the last.
    pub suppressed: u32,
}

/// Why somebody is turned away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Refusal {
    /// It shakes hands under another cluster key.
    WrongKey = 1,
    /// It belongs to another cluster.
    WrongCluster = 2,
    /// It is no configured member, or uses a member's id from another MAC address.
    NotAMember = 3,
    /// It speaks another version of the link.
    WrongVersion = 4,
    /// Frames that name a living session do not authenticate.
    Forged = 5,
    /// The peer says that it refuses us, and we have not seen why (unauthenticated hint).
    ByPeer = 6,
}

impl Refusal {
    /// A fixed word for logs.
    pub fn word(self) -> &'static str {
        match self {
            Refusal::WrongKey => "wrong-key",
            Refusal::WrongCluster => "wrong-cluster",
            Refusal::NotAMember => "not-a-member",
            Refusal::WrongVersion => "wrong-version",
            Refusal::Forged => "forged-frames",
            Refusal::ByPeer => "refused-by-peer",
        }
    }
}

/// Counters since the link began.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Stats {
    /// Frames received.
    pub frames_in: u64,
    /// Frames sent.
    pub frames_out: u64,
    /// Frames ignored: foreign, malformed, not for us, of no living session.
    pub ignored: u64,
    /// Sealed frames seen before, too old, or of an older epoch.
    pub stale: u64,
    /// Sealed frames of a living session that did not authenticate.
    pub forged: u64,
    /// Handshake messages that cost cryptographic work.
    pub handshakes: u64,
}

/// One node's end of its links.
pub struct Link {
    local: Local,
    peers: Vec<Peer>,
    strangers: Reporter,
    stats: Stats,
}

impl Link {
    /// A link that has no sessions yet; it starts to shake hands at the first [`Event::Tick`].
    pub fn new(config: &Config<'_>) -> Link {
        let own = config.members.iter().find(|m| m.node == config.node);
        let local = Local {
            cluster: config.cluster,
            key: config.key,
            node: config.node,
            mac: own.map_or([0; 6], |m| m.internal_mac),
            incarnation: config.incarnation,
            epoch: 0,
            rng: Drbg::new(config.seed),
        };
        let others = config.members.iter().filter(|m| m.node != config.node);
        Link { local, peers: others.map(Peer::new).collect(), strangers: Reporter::new(), stats: Stats::default() }
    }

    /// Handles `event` at time `now_ns` (monotonic) and appends what has to be done to `out`.
    pub fn step(&mut self, now_ns: u64, event: Event<'_>, out: &mut Vec<Action>) {
        match event {
            Event::FrameIn(bytes) => self.on_frame(now_ns, bytes, out),
            Event::Send { to, port, lane, bytes } => self.send(to, StreamId { lane, port }, bytes, out),
            Event::Datagram { to, port, bytes } => self.datagram(to, port, bytes, out),
            Event::Consumed(receipt) => self.consumed(&receipt),
            Event::Expel(node) => {
                if let Some(peer) = self.peer(node) {
                    peer.end_session(DownReason::Expelled, out);
                }
            }
            Event::Epoch(epoch) => self.local.epoch = self.local.epoch.max(epoch),
            Event::Tick => self.tick(now_ns, out),
        }
    }

    /// When the link wants [`Event::Tick`] at the latest, if nothing happens before. Time 0 means "at once".
    pub fn deadline_ns(&self) -> Option<u64> {
        self.peers.iter().filter_map(Peer::deadline_ns).min()
    }

    /// True if there is a session with `node`.
    pub fn is_up(&self, node: NodeId) -> bool {
        self.session(node).is_some()
    }

    /// The incarnation of `node` that we have a session with.
    pub fn incarnation(&self, node: NodeId) -> Option<u64> {
        self.session(node).map(|s| s.incarnation)
    }

    /// Smoothed round-trip time to `node` in nanoseconds, once measured.
    pub fn round_trip_ns(&self, node: NodeId) -> Option<u64> {
        self.session(node).and_then(session::Session::srtt_ns)
    }

    /// True if a message of `len` bytes to (node, port, lane) would be taken now.
    pub fn has_room(&self, to: NodeId, port: PortId, lane: Lane, len: usize) -> bool {
        self.session(to).is_some_and(|s| s.has_room(StreamId { lane, port }, len))
    }

    /// Counters, for status and tests.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    fn session(&self, node: NodeId) -> Option<&session::Session> {
        self.peers.iter().find(|p| p.node == node)?.session.as_ref()
    }

    fn peer(&mut self, node: NodeId) -> Option<&mut Peer> {
        self.peers.iter_mut().find(|p| p.node == node)
    }

    fn send(&mut self, to: NodeId, stream: StreamId, bytes: &[u8], out: &mut Vec<Action>) {
        let refused = match self.peer(to).and_then(|p| p.session.as_mut()) {
            _ if bytes.len() > MESSAGE_MAX => UnsentReason::TooLong,
            None => UnsentReason::NoPeer,
            Some(session) if session.has_room(stream, bytes.len()) => return session.send(stream, bytes),
            Some(_) => UnsentReason::Full,
        };
        out.push(Action::Unsent { to, port: stream.port, reason: refused });
    }

    fn datagram(&mut self, to: NodeId, port: PortId, bytes: &[u8], out: &mut Vec<Action>) {
        if bytes.len() > DATAGRAM_MAX {
            out.push(Action::Unsent { to, port, reason: UnsentReason::TooLong });
        } else if let Some(session) = self.peer(to).and_then(|p| p.session.as_mut()) {
            session.datagram(port, bytes);
        }
    }

    fn consumed(&mut self, receipt: &Receipt) {
        if let Some(session) = self.peer(receipt.from).and_then(|p| p.session.as_mut())
            && session.local == receipt.session
        {
            session.consumed(receipt.stream, receipt.len);
        }
    }

    fn tick(&mut self, now_ns: u64, out: &mut Vec<Action>) {
        let before = out.len();
        for peer in &mut self.peers {
            peer.tick(now_ns, &mut self.local, out);
        }
        self.stats.frames_out += (out.len() - before) as u64;
    }

    fn on_frame(&mut self, now_ns: u64, bytes: &[u8], out: &mut Vec<Action>) {
        self.stats.frames_in += 1;
        match Frame::parse(bytes) {
            Ok(frame) => self.on_parsed(now_ns, &frame, out),
            Err(NotAFrame::Version(claims)) => {
                self.stats.ignored += 1;
                let mut mac = [0; 6];
                mac.copy_from_slice(&bytes[6..12]);
                self.refuse_stranger(now_ns, claims, mac, Refusal::WrongVersion, out);
            }
            Err(NotAFrame::Foreign | NotAFrame::Malformed) => self.stats.ignored += 1,
        }
    }

    fn on_parsed(&mut self, now_ns: u64, frame: &Frame<'_>, out: &mut Vec<Action>) {
        if frame.dst != self.local.node {
            self.stats.ignored += 1;
            return;
        }
        if frame.cluster != self.local.cluster[..8] {
            self.stats.ignored += 1;
            return self.refuse_stranger(now_ns, frame.src, frame.src_mac, Refusal::WrongCluster, out);
        }
        let known = self.peers.iter_mut().find(|p| p.node == frame.src && p.mac == frame.src_mac);
        match known {
            Some(peer) => peer.on_frame(now_ns, frame, &mut self.local, &mut self.stats, out),
            None => {
                self.stats.ignored += 1;
                self.refuse_stranger(now_ns, frame.src, frame.src_mac, Refusal::NotAMember, out);
            }
        }
    }

    fn refuse_stranger(&mut self, now: u64, claims: NodeId, mac: [u8; 6], reason: Refusal, out: &mut Vec<Action>) {
        if let Some(suppressed) = self.strangers.report(now) {
            out.push(Action::Refused(Refused { claims, mac, reason, suppressed }));
        }
    }
}
