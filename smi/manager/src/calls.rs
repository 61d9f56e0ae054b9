//! Calls through capabilities to virtual resources: on the caller's node and on the serving node.
//!
//! A call is executed at most once: its (node, boot, number) names it for ever, the serving node remembers which numbers it is executing and
//! keeps the replies of those that it has executed, so that a request that is sent again (because a session was replaced
//! in between) is recognised. The caller's node forgets a call when it is answered, at its deadline, or when the serving node is gone; each request says which
//! numbers are done with, and that frees the kept replies.
//!
//! Local resources are called the same way; only the messages do not leave the node.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use ipc_wire::{LinkError, MAX_PAYLOAD, Session, relay, reply_label};
use serde::{Deserialize, Serialize};
use smi_cluster::{NodeId, Vid};

/// Calls of this node that may be unanswered at once.
pub const MAX_OUTGOING: usize = 256;
/// Calls of one other node that may be executed here at once.
const MAX_RUNNING: usize = 256;
/// Bytes of replies kept for one node.
const MAX_KEPT_BYTES: usize = 1 << 20;
/// Most window bytes that a call carries, each way.
pub const MAX_WINDOW: usize = 48 * 1024;
/// Time after which a call is answered with [`LinkError::Deadline`].
pub const DEADLINE_NS: u64 = 5_000_000_000;

/// A call as it arrives from a local client.
#[derive(Clone, Copy)]
pub struct Invocation<'a> {
    /// Names the call for the answer.
    pub token: u64,
    /// The client's badge.
    pub badge: u64,
    /// The request's label.
    pub label: u64,
    /// The request's payload.
    pub payload: &'a [u8],
    /// Whether capabilities came along (they cannot leave the node).
    pub has_caps: bool,
    /// The client's session buffer.
    pub session: &'a dyn Session,
}

/// Where a resource is, according to the directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The node that serves it.
    pub node: NodeId,
    /// Tells resources apart that had the same VID one after the other.
    pub generation: u64,
}

/// A message between managers about a call.
#[derive(Serialize, Deserialize, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Execute this.
    Request {
        /// The call's number; rises.
        number: u64,
        /// Calls with smaller numbers are done with.
        floor: u64,
        /// The resource.
        vid: u128,
        /// Its generation, as the caller knows it.
        generation: u64,
        /// Label.
        label: u64,
        /// Payload, its windows packed (`ipc_wire::relay`).
        payload: &'a [u8],
        /// The `in` windows.
        window: &'a [u8],
    },
    /// It was executed, or could not be.
    Response {
        /// The call's number.
        number: u64,
        /// Label.
        label: u64,
        /// Payload.
        payload: &'a [u8],
        /// The `out` windows.
        window: &'a [u8],
    },
}

impl Message<'_> {
    fn encode(&self) -> Vec<u8> {
        // Serialising plain data into a vector cannot fail.
        postcard::to_allocvec(self).unwrap_or_default()
    }
}

/// What the calls want done.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this message to the manager of `to` (maybe this node).
    Send {
        /// The receiver.
        to: NodeId,
        /// An encoded [`Message`].
        bytes: Vec<u8>,
    },
    /// Answer the local client.
    Answer(Answer),
    /// Have the server behind `vid` execute a call.
    Execute {
        /// Comes back in [`Calls::on_reply`].
        call: u64,
        /// The caller's node.
        from: NodeId,
        /// The resource.
        vid: Vid,
        /// Its generation, as the caller knows it.
        generation: u64,
        /// Label.
        label: u64,
        /// Payload.
        payload: Vec<u8>,
        /// The `in` windows.
        window: Vec<u8>,
    },
}

/// The answer to a local client.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// Names the call.
    pub token: u64,
    /// The client's badge.
    pub badge: u64,
    /// The reply's label.
    pub label: u64,
    /// The reply's payload.
    pub payload: Vec<u8>,
    /// Label of the request.
    pub request_label: u64,
    /// The request as the client sent it: says where its windows are.
    pub request: Vec<u8>,
    /// Bytes for the `out` windows (`ipc_wire::relay::scatter`); empty if the call failed.
    pub window: Vec<u8>,
}

/// A call of a local client that is not answered yet.
struct Outgoing {
    token: u64,
    badge: u64,
    vid: Vid,
    place: Place,
    label: u64,
    idempotent: bool,
    /// As the client sent it.
    original: Vec<u8>,
    /// With packed windows.
    payload: Vec<u8>,
    window: Vec<u8>,
    /// Bytes that the reply's windows must have.
    returned: usize,
    deadline_ns: u64,
}

/// What is remembered of the calls of one node, for one boot of it.
struct Caller {
    boot: u64,
    floor: u64,
    running: BTreeSet<u64>,
    kept: BTreeMap<u64, Vec<u8>>,
    kept_bytes: usize,
}

impl Caller {
    fn new(boot: u64) -> Caller {
        Caller { boot, floor: 0, running: BTreeSet::new(), kept: BTreeMap::new(), kept_bytes: 0 }
    }

    fn raise_floor(&mut self, floor: u64) {
        while let Some(entry) = self.kept.first_entry() {
            if *entry.key() >= floor {
                break;
            }
            self.kept_bytes -= entry.remove().len();
        }
        self.floor = self.floor.max(floor);
    }

    fn keep(&mut self, number: u64, response: Vec<u8>) {
        self.kept_bytes += response.len();
        self.kept.insert(number, response);
        while self.kept_bytes > MAX_KEPT_BYTES
            && let Some((oldest, _)) = self.kept.first_key_value()
        {
            let floor = oldest + 1;
            self.raise_floor(floor);
        }
    }
}

/// All calls that this node's manager has a part in.
pub struct Calls {
    next_number: u64,
    outgoing: BTreeMap<u64, Outgoing>,
    callers: BTreeMap<NodeId, Caller>,
    next_call: u64,
    /// Call id given to a server -> (caller's node, its boot, number, resource).
    executing: BTreeMap<u64, (NodeId, u64, u64, Vid)>,
}

impl Default for Calls {
    fn default() -> Self {
        Calls::new()
    }
}

impl Calls {
    /// No calls.
    pub fn new() -> Calls {
        Calls {
            next_number: 1,
            outgoing: BTreeMap::new(),
            callers: BTreeMap::new(),
            next_call: 1,
            executing: BTreeMap::new(),
        }
    }

    /// A local client calls the resource `vid`, which is at `place`. An error is the immediate answer.
    pub fn invoke(
        &mut self,
        now_ns: u64,
        vid: Vid,
        place: Option<Place>,
        call: &Invocation<'_>,
        out: &mut Vec<Output>,
    ) -> Result<(), LinkError> {
        let (interface, method) = ipc_api::find(call.label).ok_or(LinkError::NoMethod)?;
        if interface.local || call.has_caps || !method.request.caps.is_empty() || !method.reply.caps.is_empty() {
            return Err(LinkError::NoMethod);
        }
        let place = place.ok_or(LinkError::NoPeer)?;
        if self.outgoing.len() >= MAX_OUTGOING {
            return Err(LinkError::Busy);
        }
        let size = relay::measure(method, call.payload)?;
        if size.sent > MAX_WINDOW || size.returned() > MAX_WINDOW {
            return Err(LinkError::BadMessage);
        }
        let mut payload = call.payload.to_vec();
        let mut window = alloc::vec![0; size.sent];
        relay::gather(method, &mut payload, call.session, &mut window)?;
        let number = self.next_number;
        self.next_number += 1;
        let outgoing = Outgoing {
            token: call.token,
            badge: call.badge,
            vid,
            place,
            label: call.label,
            idempotent: method.idempotent,
            original: call.payload.to_vec(),
            payload,
            window,
            returned: size.returned(),
            deadline_ns: now_ns + DEADLINE_NS,
        };
        self.outgoing.insert(number, outgoing);
        self.request(number, out);
        Ok(())
    }

    /// (Re)sends the request of an outgoing call.
    fn request(&self, number: u64, out: &mut Vec<Output>) {
        let Some(call) = self.outgoing.get(&number) else { return };
        let message = Message::Request {
            number,
            floor: self.outgoing.first_key_value().map_or(number, |(first, _)| *first),
            vid: call.vid.0,
            generation: call.place.generation,
            label: call.label,
            payload: &call.payload,
            window: &call.window,
        };
        out.push(Output::Send { to: call.place.node, bytes: message.encode() });
    }

    /// A message about a call from the manager of `from`, whose boot number is `boot`.
    pub fn on_message(&mut self, from: NodeId, boot: u64, bytes: &[u8], out: &mut Vec<Output>) {
        match postcard::from_bytes(bytes) {
            Ok(Message::Request { number, floor, vid, generation, label, payload, window }) => {
                let accepted = self.accept(from, boot, number, floor, out);
                if accepted {
                    let vid = Vid(vid);
                    let call = self.next_call;
                    self.next_call += 1;
                    self.executing.insert(call, (from, boot, number, vid));
                    let (payload, window) = (payload.to_vec(), window.to_vec());
                    out.push(Output::Execute { call, from, vid, generation, label, payload, window });
                }
            }
            Ok(Message::Response { number, label, payload, window }) => {
                self.on_response(from, number, label, payload, window, out)
            }
            Err(_) => {}
        }
    }

    /// Whether request `number` is new and has room. If not, it is answered here or ignored.
    fn accept(&mut self, from: NodeId, boot: u64, number: u64, floor: u64, out: &mut Vec<Output>) -> bool {
        let caller = self.callers.entry(from).or_insert_with(|| Caller::new(boot));
        if caller.boot != boot {
            *caller = Caller::new(boot);
        }
        if number < floor {
            return false;
        }
        caller.raise_floor(floor);
        if caller.running.contains(&number) {
            return false;
        }
        if let Some(response) = caller.kept.get(&number) {
            out.push(Output::Send { to: from, bytes: response.clone() });
            return false;
        }
        let refused = if number < caller.floor {
            LinkError::Restarted // executed long ago, and the reply is no longer kept
        } else if caller.running.len() >= MAX_RUNNING {
            LinkError::Busy
        } else {
            caller.running.insert(number);
            return true;
        };
        let response = Message::Response { number, label: refused.label(), payload: &[], window: &[] };
        out.push(Output::Send { to: from, bytes: response.encode() });
        false
    }

    /// A server answers `call`. Unknown and repeated answers are ignored.
    pub fn on_reply(&mut self, call: u64, label: u64, payload: &[u8], window: &[u8], out: &mut Vec<Output>) {
        let Some((from, boot, number, _)) = self.executing.remove(&call) else { return };
        let fits = payload.len() <= MAX_PAYLOAD && window.len() <= MAX_WINDOW;
        let message = match fits {
            true => Message::Response { number, label, payload, window },
            false => Message::Response { number, label: LinkError::BadMessage.label(), payload: &[], window: &[] },
        };
        let response = message.encode();
        let Some(caller) = self.callers.get_mut(&from).filter(|c| c.boot == boot) else { return };
        caller.running.remove(&number);
        caller.keep(number, response.clone());
        out.push(Output::Send { to: from, bytes: response });
    }

    /// The executing server of `call` will not answer.
    pub fn refuse(&mut self, call: u64, error: LinkError, out: &mut Vec<Output>) {
        self.on_reply(call, error.label(), &[], &[], out);
    }

    /// The server behind these resources was restarted or is gone: what it was executing is lost.
    pub fn server_lost(&mut self, serves: impl Fn(Vid) -> bool, out: &mut Vec<Output>) {
        let lost: Vec<u64> =
            self.executing.iter().filter(|(_, (.., vid))| serves(*vid)).map(|(call, _)| *call).collect();
        for call in lost {
            self.refuse(call, LinkError::Restarted, out);
        }
    }

    fn on_response(
        &mut self,
        from: NodeId,
        number: u64,
        label: u64,
        payload: &[u8],
        window: &[u8],
        out: &mut Vec<Output>,
    ) {
        let Some(call) = self.outgoing.get(&number).filter(|call| call.place.node == from) else { return };
        let window_fits = match label {
            reply_label::OK => window.len() == call.returned,
            reply_label::SERVER_ERROR => true,
            _ => LinkError::from_label(label).is_some(),
        };
        if !window_fits || payload.len() > MAX_PAYLOAD {
            return self.fail(number, LinkError::BadMessage, out);
        }
        let window = if label == reply_label::OK { window } else { &[] };
        self.answer(number, label, payload, window, out);
    }

    fn answer(&mut self, number: u64, label: u64, payload: &[u8], window: &[u8], out: &mut Vec<Output>) {
        let Some(call) = self.outgoing.remove(&number) else { return };
        out.push(Output::Answer(Answer {
            token: call.token,
            badge: call.badge,
            label,
            payload: payload.to_vec(),
            request_label: call.label,
            request: call.original,
            window: window.to_vec(),
        }));
    }

    fn fail(&mut self, number: u64, error: LinkError, out: &mut Vec<Output>) {
        self.answer(number, error.label(), &[], &[], out);
    }

    fn numbers(&self, which: impl Fn(&Outgoing) -> bool) -> Vec<u64> {
        self.outgoing.iter().filter(|(_, call)| which(call)).map(|(number, _)| *number).collect()
    }

    /// A session with `node` was replaced while it went on living: requests under way may have been lost, and are sent again.
    pub fn session_replaced(&mut self, node: NodeId, out: &mut Vec<Output>) {
        for number in self.numbers(|call| call.place.node == node) {
            self.request(number, out);
        }
        // Replies under way may have been lost, too; the caller asks for them again.
    }

    /// `node` was rebooted: what it was executing for us, and what it had asked of us, is gone.
    pub fn node_rebooted(&mut self, node: NodeId, out: &mut Vec<Output>) {
        self.callers.remove(&node);
        self.executing.retain(|_, (from, ..)| *from != node);
        for number in self.numbers(|call| call.place.node == node) {
            self.fail(number, LinkError::Restarted, out);
        }
    }

    /// The directory has changed: calls to resources that are no longer where they were are sent there if that is harmless, and fail if not.
    pub fn places_changed(&mut self, place_of: impl Fn(Vid) -> Option<Place>, out: &mut Vec<Output>) {
        for number in self.numbers(|call| place_of(call.vid) != Some(call.place)) {
            let Some(call) = self.outgoing.get_mut(&number) else { continue };
            match place_of(call.vid) {
                Some(place) if call.idempotent && place.generation == call.place.generation => {
                    call.place = place;
                    self.request(number, out);
                }
                Some(_) => self.fail(number, LinkError::Moved, out),
                None => self.fail(number, LinkError::Restarted, out),
            }
        }
    }

    /// The resources that calls under way are for.
    pub fn vids(&self) -> BTreeSet<Vid> {
        self.outgoing.values().map(|call| call.vid).collect()
    }

    /// The next deadline of an outgoing call.
    pub fn deadline_ns(&self) -> Option<u64> {
        self.outgoing.values().map(|call| call.deadline_ns).min()
    }

    /// Answers calls whose time is over.
    pub fn tick(&mut self, now_ns: u64, out: &mut Vec<Output>) {
        for number in self.numbers(|call| call.deadline_ns <= now_ns) {
            self.fail(number, LinkError::Deadline, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_api::greeter;
    use ipc_wire::NoSession;

    const CALLER: NodeId = NodeId(3);
    const HOME: NodeId = NodeId(1);
    const VID: Vid = Vid(7);
    const PLACE: Place = Place { node: HOME, generation: 5 };

    fn payload() -> Vec<u8> {
        let (_, method) = ipc_api::find(greeter::label::GREET).unwrap();
        vec![0; method.request.size]
    }

    fn invoke(calls: &mut Calls, token: u64) -> (Result<(), LinkError>, Vec<Output>) {
        let (bytes, mut out) = (payload(), Vec::new());
        let call = Invocation {
            token,
            badge: 9,
            label: greeter::label::GREET,
            payload: &bytes,
            has_caps: false,
            session: &NoSession,
        };
        (calls.invoke(0, VID, Some(PLACE), &call, &mut out), out)
    }

    fn sent(out: &[Output]) -> Vec<(NodeId, Vec<u8>)> {
        out.iter()
            .filter_map(|o| if let Output::Send { to, bytes } = o { Some((*to, bytes.clone())) } else { None })
            .collect()
    }

    fn answers(out: &[Output]) -> Vec<(u64, u64)> {
        out.iter().filter_map(|o| if let Output::Answer(a) = o { Some((a.token, a.label)) } else { None }).collect()
    }

    fn executed(out: &[Output]) -> Vec<u64> {
        out.iter().filter_map(|o| if let Output::Execute { call, .. } = o { Some(*call) } else { None }).collect()
    }

    #[test]
    fn a_call_goes_there_and_back() {
        let (mut a, mut b) = (Calls::new(), Calls::new());
        let (result, out) = invoke(&mut a, 1);
        assert_eq!(result, Ok(()));
        let mut at_home = Vec::new();
        b.on_message(CALLER, 1, &sent(&out)[0].1, &mut at_home);
        let call = executed(&at_home)[0];
        let mut back = Vec::new();
        b.on_reply(call, 0, &[1; 16], &[], &mut back);
        let mut end = Vec::new();
        a.on_message(HOME, 1, &sent(&back)[0].1, &mut end);
        assert_eq!(answers(&end), [(1, 0)]);
        // A second answer finds nothing.
        end.clear();
        a.on_message(HOME, 1, &sent(&back)[0].1, &mut end);
        assert!(end.is_empty());
    }

    #[test]
    fn a_repeated_request_is_executed_once_and_answered_again() {
        let (mut a, mut b) = (Calls::new(), Calls::new());
        let request = sent(&invoke(&mut a, 1).1).remove(0).1;
        let mut out = Vec::new();
        b.on_message(CALLER, 1, &request, &mut out);
        b.on_message(CALLER, 1, &request, &mut out);
        assert_eq!(executed(&out).len(), 1);
        let call = executed(&out)[0];
        out.clear();
        b.on_reply(call, 0, &[], &[], &mut out);
        b.on_message(CALLER, 1, &request, &mut out);
        assert_eq!(sent(&out).len(), 2);
        assert_eq!(sent(&out)[0], sent(&out)[1]);
        // The next request says that the first is done with; its reply is forgotten, and a stray repetition is ignored.
        a.on_message(HOME, 1, &sent(&out)[0].1, &mut Vec::new());
        let second = sent(&invoke(&mut a, 2).1).remove(0).1;
        out.clear();
        b.on_message(CALLER, 1, &second, &mut out);
        assert_eq!((executed(&out).len(), b.callers[&CALLER].kept.len()), (1, 0));
        out.clear();
        b.on_message(CALLER, 1, &request, &mut out);
        assert!(executed(&out).is_empty());
    }

    #[test]
    fn another_boot_of_the_caller_starts_afresh() {
        let mut b = Calls::new();
        let request = sent(&invoke(&mut Calls::new(), 1).1).remove(0).1;
        let mut out = Vec::new();
        b.on_message(CALLER, 1, &request, &mut out);
        let old = executed(&out)[0];
        b.on_message(CALLER, 2, &request, &mut out);
        assert_eq!(executed(&out).len(), 2);
        out.clear();
        b.on_reply(old, 0, &[], &[], &mut out);
        assert!(out.is_empty(), "the answer to a call of the old life goes nowhere");
    }

    #[test]
    fn the_loss_of_the_server_or_its_node_is_told() {
        let mut a = Calls::new();
        for token in 1..=3 {
            invoke(&mut a, token).0.unwrap();
        }
        let mut out = Vec::new();
        a.session_replaced(HOME, &mut out);
        assert_eq!(sent(&out).len(), 3);
        out.clear();
        // Greetings are idempotent: they follow the resource. Without a resource they fail.
        let moved = Place { node: NodeId(2), ..PLACE };
        a.places_changed(|_| Some(moved), &mut out);
        assert_eq!(sent(&out).iter().map(|(to, _)| *to).collect::<Vec<_>>(), [NodeId(2); 3]);
        out.clear();
        a.places_changed(|_| Some(Place { generation: 6, ..moved }), &mut out);
        assert_eq!(answers(&out), [1, 2, 3].map(|t| (t, LinkError::Moved.label())));
        invoke(&mut a, 4).0.unwrap();
        out.clear();
        a.node_rebooted(HOME, &mut out);
        assert_eq!(answers(&out), [(4, LinkError::Restarted.label())]);
        invoke(&mut a, 5).0.unwrap();
        out.clear();
        a.tick(DEADLINE_NS - 1, &mut out);
        assert!(out.is_empty());
        a.tick(DEADLINE_NS, &mut out);
        assert_eq!(answers(&out), [(5, LinkError::Deadline.label())]);
        assert_eq!(a.deadline_ns(), None);
    }

    #[test]
    fn a_restarted_server_loses_its_calls_only() {
        let mut b = Calls::new();
        let mut a = Calls::new();
        let mut out = Vec::new();
        b.on_message(CALLER, 1, &sent(&invoke(&mut a, 1).1)[0].1, &mut out);
        out.clear();
        b.server_lost(|vid| vid != VID, &mut out);
        assert!(out.is_empty());
        b.server_lost(|vid| vid == VID, &mut out);
        let response = sent(&out).remove(0).1;
        out.clear();
        a.on_message(HOME, 1, &response, &mut out);
        assert_eq!(answers(&out), [(1, LinkError::Restarted.label())]);
    }

    #[test]
    fn what_cannot_be_carried_is_refused_at_once() {
        let mut a = Calls::new();
        let bytes = payload();
        let good = Invocation {
            token: 1,
            badge: 1,
            label: greeter::label::GREET,
            payload: &bytes,
            has_caps: false,
            session: &NoSession,
        };
        let mut try_call = |call: &Invocation<'_>, place| a.invoke(0, VID, place, call, &mut Vec::new());
        assert_eq!(try_call(&good, None), Err(LinkError::NoPeer));
        assert_eq!(try_call(&Invocation { label: 0xdead, ..good }, Some(PLACE)), Err(LinkError::NoMethod));
        assert_eq!(try_call(&Invocation { has_caps: true, ..good }, Some(PLACE)), Err(LinkError::NoMethod));
        assert_eq!(try_call(&Invocation { payload: &[], ..good }, Some(PLACE)), Err(LinkError::BadMessage));
        for _ in 0..MAX_OUTGOING {
            assert_eq!(try_call(&good, Some(PLACE)), Ok(()));
        }
        assert_eq!(try_call(&good, Some(PLACE)), Err(LinkError::Busy));
    }

    #[test]
    fn kept_replies_are_bounded() {
        let mut caller = Caller::new(1);
        for number in 0..100 {
            caller.keep(number, vec![0; 40_000]);
        }
        assert!(caller.kept_bytes <= MAX_KEPT_BYTES && caller.kept.len() > 10);
        assert_eq!(caller.floor, *caller.kept.first_key_value().unwrap().0);
    }

    #[test]
    fn a_lying_response_does_not_reach_the_windows() {
        let mut a = Calls::new();
        invoke(&mut a, 1).0.unwrap();
        let lie = Message::Response { number: 1, label: 0, payload: &[], window: b"unasked" }.encode();
        let mut out = Vec::new();
        a.on_message(NodeId(2), 1, &lie, &mut out);
        assert!(out.is_empty(), "only the node that was asked may answer");
        a.on_message(HOME, 1, &lie, &mut out);
        assert_eq!(answers(&out), [(1, LinkError::BadMessage.label())]);
    }
}
