//! One peer: shaking hands, and which session is the living one.
//!
//! Without a session, a node sends `Init` again and again. If both do, the lower id's counts and the lower ignores the
//! other's. The responder keeps its new session aside until a sealed frame under the new keys proves that the initiator
//! has them too; so a replayed `Init` costs one answer and never disturbs a living session.

use alloc::vec::Vec;
use smi_cluster::NodeId;
use smi_cluster::identity::Member;

use crate::crypto::{Drbg, HANDSHAKE_LEN, Hello, Initiator, Parties, Responder};
use crate::limit::{Bucket, Reporter};
use crate::session::{Received, Session, Verdict};
use crate::wire::{Address, Frame, Kind, start_frame};
use crate::{Action, DownReason, Receipt, Refusal, Refused, Stats};

/// Time between the first two `Init`s, and the longest.
const RETRY_MIN_NS: u64 = 50_000_000;
const RETRY_MAX_NS: u64 = 500_000_000;

/// A peer's word that it refuses us counts after so long without a session: by then we know better, if its key is another.
const HINT_AFTER_NS: u64 = 2_000_000_000;

/// This node's side of all handshakes.
pub(crate) struct Local {
    pub cluster: [u8; 16],
    pub key: [u8; 32],
    pub node: NodeId,
    pub mac: [u8; 6],
    pub incarnation: u64,
    pub epoch: u64,
    pub rng: Drbg,
}

impl Local {
    fn parties(&self, initiator: NodeId, responder: NodeId) -> Parties<'_> {
        Parties { key: &self.key, cluster: &self.cluster, initiator, responder }
    }

    fn hello(&mut self) -> Hello {
        Hello { incarnation: self.incarnation, session: self.rng.next_u32(), epoch: self.epoch }
    }

    fn address(&self, peer: &Peer) -> Address {
        let mut cluster = [0; 8];
        cluster.copy_from_slice(&self.cluster[..8]);
        Address { src_mac: self.mac, dst_mac: peer.mac, src: self.node, dst: peer.node, cluster }
    }
}

/// Our `Init`, until it is answered.
struct Attempt {
    initiator: Initiator,
    session: u32,
    since_ns: u64,
    next_ns: u64,
    interval_ns: u64,
}

/// A session that we answered and that the initiator has not confirmed.
struct Pending {
    session: Session,
    /// The initiator's session number, which our response carries.
    remote: u32,
    response: Vec<u8>,
}

/// One other member.
pub(crate) struct Peer {
    pub node: NodeId,
    pub mac: [u8; 6],
    pub session: Option<Session>,
    attempt: Option<Attempt>,
    /// No new attempt before this: the peer's own is being answered.
    quiet_until_ns: u64,
    pending: Option<Pending>,
    /// Ephemeral key of the `Init` behind `pending` or the living session: a repetition is recognised by it.
    answered: Option<[u8; 32]>,
    /// A handshake message of the peer was under another key, and none under ours since.
    wrong_key: bool,
    bucket: Bucket,
    reporter: Reporter,
}

impl Peer {
    pub fn new(member: &Member) -> Peer {
        Peer {
            node: member.node,
            mac: member.internal_mac,
            session: None,
            attempt: None,
            quiet_until_ns: 0,
            pending: None,
            answered: None,
            wrong_key: false,
            bucket: Bucket::new(),
            reporter: Reporter::new(),
        }
    }

    /// Ends the living session, if there is one, and forgets half-made ones.
    pub fn end_session(&mut self, reason: DownReason, out: &mut Vec<Action>) {
        self.pending = None;
        if let Some(session) = self.session.take() {
            out.push(Action::PeerDown { node: self.node, incarnation: session.incarnation, reason });
        }
    }

    /// See [`crate::Link::deadline_ns`].
    pub fn deadline_ns(&self) -> Option<u64> {
        match (&self.session, &self.attempt) {
            (Some(session), _) => session.deadline_ns(),
            (None, Some(attempt)) => Some(attempt.next_ns),
            (None, None) => Some(self.quiet_until_ns),
        }
    }

    /// Sends what is due: `Init` without a session, sealed frames with one.
    pub fn tick(&mut self, now: u64, local: &mut Local, out: &mut Vec<Action>) {
        if let Some(session) = &mut self.session {
            let mut frames = Vec::new();
            session.flush(now, local.epoch, &mut frames);
            out.extend(frames.into_iter().map(Action::FrameOut));
            return;
        }
        if self.attempt.is_none() {
            if now < self.quiet_until_ns {
                return;
            }
            let hello = local.hello();
            let mut rng = local.rng.fork();
            // Building a handshake from constants fails only for reasons that a test would have shown.
            let Ok(initiator) = Initiator::start(&local.parties(local.node, self.node), hello, &mut rng) else {
                return;
            };
            let attempt =
                Attempt { initiator, session: hello.session, since_ns: now, next_ns: now, interval_ns: RETRY_MIN_NS };
            self.attempt = Some(attempt);
        }
        let address = local.address(self);
        if let Some(attempt) = &mut self.attempt
            && attempt.next_ns <= now
        {
            let body = &attempt.initiator.message;
            out.push(Action::FrameOut(clear_frame(&address, Kind::Init, attempt.session, local.epoch, body)));
            attempt.next_ns = now + attempt.interval_ns;
            attempt.interval_ns = (attempt.interval_ns * 2).min(RETRY_MAX_NS);
        }
    }

    /// Takes a frame that says it comes from this peer.
    pub fn on_frame(
        &mut self,
        now: u64,
        frame: &Frame<'_>,
        local: &mut Local,
        stats: &mut Stats,
        out: &mut Vec<Action>,
    ) {
        match frame.kind {
            Kind::Sealed => self.on_sealed(now, frame, stats, out),
            Kind::Init => self.on_init(now, frame, local, stats, out),
            Kind::Response => self.on_response(now, frame, local, stats, out),
            Kind::Refusal => {
                stats.ignored += 1;
                let attempt = self.attempt.as_ref().filter(|a| a.session == frame.session);
                if !self.wrong_key && attempt.is_some_and(|a| now >= a.since_ns + HINT_AFTER_NS) {
                    self.report(now, Refusal::ByPeer, out);
                }
            }
        }
    }

    fn on_sealed(&mut self, now: u64, frame: &Frame<'_>, stats: &mut Stats, out: &mut Vec<Action>) {
        let mut received = Vec::new();
        if let Some(session) = self.session.as_mut().filter(|s| s.local == frame.session) {
            match session.on_frame(now, frame, &mut received) {
                Verdict::Taken => {}
                Verdict::Stale => stats.stale += 1,
                Verdict::Forged => {
                    stats.forged += 1;
                    self.report(now, Refusal::Forged, out);
                }
                Verdict::Broken => self.end_session(DownReason::Violation, out),
            }
            return self.deliver(frame.session, received, out);
        }
        let Some(pending) = self.pending.as_mut().filter(|p| p.session.local == frame.session) else {
            stats.ignored += 1;
            return;
        };
        match pending.session.on_frame(now, frame, &mut received) {
            Verdict::Taken => {
                if let Some(pending) = self.pending.take() {
                    self.establish(pending.session, out);
                }
                self.deliver(frame.session, received, out);
            }
            Verdict::Stale => stats.stale += 1,
            Verdict::Forged => stats.forged += 1,
            Verdict::Broken => self.pending = None,
        }
    }

    fn deliver(&self, session: u32, received: Vec<Received>, out: &mut Vec<Action>) {
        let from = self.node;
        out.extend(received.into_iter().map(|r| match r {
            Received::Datagram { port, bytes } => Action::DeliverDatagram { from, port, bytes },
            Received::Message { stream, bytes } => {
                let receipt = Receipt { from, session, stream, len: bytes.len() };
                Action::Deliver { from, port: stream.port, lane: stream.lane, receipt, bytes }
            }
        }));
    }

    /// `session` is the living one from now on.
    fn establish(&mut self, session: Session, out: &mut Vec<Action>) {
        self.end_session(DownReason::Replaced, out);
        self.attempt = None;
        self.wrong_key = false;
        out.push(Action::PeerUp { node: self.node, incarnation: session.incarnation });
        self.session = Some(session);
    }

    fn on_init(&mut self, now: u64, frame: &Frame<'_>, local: &mut Local, stats: &mut Stats, out: &mut Vec<Action>) {
        let Some(ephemeral) = ephemeral(frame.body) else {
            stats.ignored += 1;
            return;
        };
        if self.answered == Some(ephemeral) && (self.pending.is_some() || self.session.is_some()) {
            // Our response was lost, or the network repeats itself.
            return self.answer_again(now, local, out);
        }
        if !self.bucket.take(now) {
            stats.ignored += 1;
            return;
        }
        stats.handshakes += 1;
        let mut rng = local.rng.fork();
        let parties = local.parties(self.node, local.node);
        let Ok(responder) = Responder::read(&parties, frame.body, &mut rng) else {
            return self.refuse(now, frame, local, out);
        };
        if self.session.is_none() && local.node < self.node {
            return; // Our own Init is under way and counts.
        }
        // Ours is withdrawn; a late answer to it must not replace the session that now begins.
        self.attempt = None;
        self.quiet_until_ns = now + RETRY_MAX_NS;
        self.answer(responder, ephemeral, local, out);
    }

    fn answer(&mut self, responder: Responder, ephemeral: [u8; 32], local: &mut Local, out: &mut Vec<Action>) {
        let (peer, hello) = (responder.peer, local.hello());
        let Ok((response, keys)) = responder.answer(hello) else { return };
        let session = Session::new(local.address(self), hello.session, peer, keys);
        out.push(self.response_frame(local, peer.session, &response));
        self.pending = Some(Pending { session, remote: peer.session, response });
        self.answered = Some(ephemeral);
    }

    fn answer_again(&mut self, now: u64, local: &Local, out: &mut Vec<Action>) {
        if let Some(pending) = &self.pending
            && self.bucket.take(now)
        {
            out.push(self.response_frame(local, pending.remote, &pending.response));
        }
    }

    fn response_frame(&self, local: &Local, to_session: u32, response: &[u8]) -> Action {
        Action::FrameOut(clear_frame(&local.address(self), Kind::Response, to_session, local.epoch, response))
    }

    fn on_response(
        &mut self,
        now: u64,
        frame: &Frame<'_>,
        local: &mut Local,
        stats: &mut Stats,
        out: &mut Vec<Action>,
    ) {
        let address = local.address(self);
        let attempt = self.attempt.as_mut().filter(|a| a.session == frame.session);
        let Some(attempt) = attempt.filter(|_| frame.body.len() == HANDSHAKE_LEN && self.bucket.take(now)) else {
            stats.ignored += 1;
            return;
        };
        stats.handshakes += 1;
        let Ok((hello, keys)) = attempt.initiator.finish(frame.body) else {
            self.wrong_key = true;
            return self.report(now, Refusal::WrongKey, out);
        };
        let mut session = Session::new(address, attempt.session, hello, keys);
        session.ping();
        self.answered = None;
        self.establish(session, out);
    }

    /// Turns an `Init` away, and says so to its sender (as a hint for its log).
    fn refuse(&mut self, now: u64, frame: &Frame<'_>, local: &Local, out: &mut Vec<Action>) {
        let hint = clear_frame(&local.address(self), Kind::Refusal, frame.session, 0, &[Refusal::WrongKey as u8]);
        out.push(Action::FrameOut(hint));
        self.wrong_key = true;
        self.report(now, Refusal::WrongKey, out);
    }

    fn report(&mut self, now: u64, reason: Refusal, out: &mut Vec<Action>) {
        if let Some(suppressed) = self.reporter.report(now) {
            out.push(Action::Refused(Refused { claims: self.node, mac: self.mac, reason, suppressed }));
        }
    }
}

fn ephemeral(body: &[u8]) -> Option<[u8; 32]> {
    (body.len() == HANDSHAKE_LEN).then(|| body[..32].try_into().ok()).flatten()
}

fn clear_frame(address: &Address, kind: Kind, session: u32, epoch: u64, body: &[u8]) -> Vec<u8> {
    let mut frame = start_frame(address, kind, session, epoch, 0, body.len());
    frame.extend_from_slice(body);
    frame
}
