//! The server's end of a port: calls from the cluster, and their answers.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use ipc_ring::{Duplex, PopError};
use ipc_wire::{
    Caller, CellSession, Dispatched, Incoming, Interface, Label, LinkError, MAX_PAYLOAD, Method, Reply, relay,
    reply_label,
};
use smi_port::{ToManager, ToServer};

use crate::{CLUSTER_BADGE, CLUSTER_TOKEN};

/// Answers that wait for room in the ring; with so many, no further call is taken.
const MAX_BACKLOG: usize = 64;

/// What [`Port::turn`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// The manager is there (again): names must be exported (again).
    pub greeted: bool,
    /// The manager must be signalled.
    pub signal: bool,
}

/// The server's end of a port.
pub struct Port {
    ring: Duplex<'static>,
    record: Vec<u8>,
    backlog: VecDeque<Vec<u8>>,
}

/// An answer, ready to be sent.
struct Answer {
    label: u64,
    payload: Vec<u8>,
    window: Vec<u8>,
}

impl Answer {
    fn refuse(error: LinkError) -> Self {
        Self { label: error.label(), payload: vec![], window: vec![] }
    }
}

impl Port {
    /// The port on the manager channel's ring (attached as client).
    pub fn new(ring: Duplex<'static>) -> Self {
        // The manager's half is as large as ours.
        let record = vec![0; ring.tx.max_record()];
        Self { ring, record, backlog: VecDeque::new() }
    }

    /// Executes all calls that are there. `handle` is a generated `dispatch`; a call that it leaves pending is
    /// answered by [`reply`](Self::reply).
    pub fn turn(
        &mut self,
        interface: &'static Interface,
        mut handle: impl FnMut(&Incoming<'_>, &mut [u8]) -> Dispatched,
    ) -> Turn {
        let mut turn = Turn::default();
        loop {
            self.push_backlog(&mut turn);
            if self.backlog.len() >= MAX_BACKLOG {
                return turn; // the manager signals when there is room
            }
            self.ring.rx.wake();
            let popped = self.ring.rx.pop(&mut self.record);
            turn.signal |= self.ring.rx.space_wanted();
            let len = match popped {
                Some(Ok(len)) => len,
                // The manager answers its caller when no answer comes.
                Some(Err(PopError::Corrupt | PopError::BufferTooSmall(_))) => continue,
                None if self.ring.rx.sleep() => return turn,
                None => continue,
            };
            match ToServer::decode(&self.record[..len]) {
                Ok(ToServer::Hello { .. }) => turn.greeted = true,
                Ok(ToServer::Call { call, label, payload, window, .. }) => {
                    if let Some(answer) = execute(interface, call, label, payload, window, &mut handle) {
                        self.queue(call, &answer);
                    }
                }
                // Peers, tables and proposals are for servers that are part of the cluster's machinery.
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// Answers a call that was left pending: its token, the reply, the payload. False if the token is not of a call from
    /// the cluster.
    pub fn reply(&mut self, token: u64, reply: Reply, payload: &[u8]) -> bool {
        if token & CLUSTER_TOKEN == 0 {
            return false;
        }
        let payload = payload.get(..reply.len).unwrap_or(&[]).to_vec();
        self.queue(token & !CLUSTER_TOKEN, &Answer { label: reply.label, payload, window: vec![] });
        true
    }

    fn queue(&mut self, call: u64, answer: &Answer) {
        let Answer { label, payload, window } = answer;
        let record = ToManager::Reply { call, label: *label, payload, window }.encode();
        let fits = record.len() <= self.ring.tx.max_record();
        let refusal = ToManager::Reply { call, label: LinkError::BadMessage.label(), payload: &[], window: &[] };
        let record = if fits { record } else { refusal.encode() };
        self.backlog.push_back(record.parts().concat());
    }

    /// Puts queued answers into the ring, as far as there is room.
    fn push_backlog(&mut self, turn: &mut Turn) {
        while let Some(record) = self.backlog.front() {
            if self.ring.tx.push(&[record]).is_err() {
                return;
            }
            turn.signal |= self.ring.tx.wants_signal();
            self.backlog.pop_front();
        }
    }
}

/// Executes one call. `None` if the answer comes later.
fn execute(
    interface: &'static Interface,
    call: u64,
    label: u64,
    payload: &[u8],
    window: &[u8],
    handle: &mut impl FnMut(&Incoming<'_>, &mut [u8]) -> Dispatched,
) -> Option<Answer> {
    let Some(method) = interface.method(Label::from_bits(label)).filter(|method| carriable(method)) else {
        return Some(Answer::refuse(LinkError::NoMethod));
    };
    let packed = match relay::measure(method, payload) {
        Ok(packed) if packed.sent == window.len() && packed.returned() <= smi_port::MAX_MESSAGE => packed,
        _ => return Some(Answer::refuse(LinkError::BadMessage)),
    };
    let mut memory = window.to_vec();
    memory.resize(packed.total, 0);
    let mut buffer = [0; MAX_PAYLOAD];
    let session = CellSession::new(&mut memory);
    let from = Caller { badge: CLUSTER_BADGE, token: call | CLUSTER_TOKEN };
    let reply = match handle(&Incoming { from, label, bytes: payload, caps: &[], session: &session }, &mut buffer) {
        Dispatched::Reply(reply) => reply,
        // The bytes for an `out buffer` would have no place to go to when the answer comes.
        Dispatched::Pending(_) if packed.returned() > 0 => Reply::link_error(LinkError::NoMethod),
        Dispatched::Pending(_) => return None,
    };
    let window = if reply.label == reply_label::OK { memory.split_off(packed.sent) } else { vec![] };
    let payload = buffer.get(..reply.len).unwrap_or(&[]).to_vec();
    Some(Answer { label: reply.label, payload, window })
}

/// Whether a method can be called from another node: capabilities do not travel.
fn carriable(method: &Method) -> bool {
    method.request.caps.is_empty() && method.reply.caps.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::ptr::NonNull;
    use ipc_api::greeter::{self, Error, Server};
    use ipc_ring::Side;
    use ipc_wire::{Answer as Answered, Refusal, Str};

    struct Greeter {
        later: Option<u64>,
    }

    impl Server for Greeter {
        fn greet(&mut self, caller: Caller, name: &str) -> Answered<Str<64>, Error> {
            assert_eq!((caller.badge, caller.token & CLUSTER_TOKEN != 0), (CLUSTER_BADGE, true));
            match name {
                "" => Err(Error::Nameless.into()),
                "slow" => {
                    self.later = Some(caller.token);
                    Err(Refusal::Pending)
                }
                _ => Ok(Str::format(format_args!("Hello, {name}!"))),
            }
        }
    }

    fn pair(len: usize) -> (Port, Duplex<'static>) {
        let base = NonNull::from(Box::leak(vec![0u64; len / 8].into_boxed_slice())).cast();
        // SAFETY: leaked memory made for this, each side attached once.
        let [client, server] =
            [Side::Client, Side::Server].map(|side| unsafe { Duplex::attach(base, len, side) }.expect("large"));
        (Port::new(client), server)
    }

    /// The greeter's request payload.
    fn request(name: &str) -> Vec<u8> {
        let mut bytes = vec![0; greeter::INTERFACE.methods[0].request.size];
        bytes[0] = name.len() as u8;
        bytes[2..2 + name.len()].copy_from_slice(name.as_bytes());
        bytes
    }

    fn send(manager: &mut Duplex<'_>, call: u64, label: u64, payload: &[u8], window: &[u8]) {
        let record = ToServer::Call { call, from: smi_port_node(), label, payload, window };
        manager.tx.push(&record.encode().parts()).expect("room");
    }

    fn smi_port_node() -> smi_cluster::NodeId {
        smi_cluster::NodeId(2)
    }

    fn turn(port: &mut Port, greeter: &mut Greeter) -> Turn {
        port.turn(&greeter::INTERFACE, |call, reply| greeter::dispatch(greeter, call, reply))
    }

    /// All answers: call, label, payload.
    fn answers(manager: &mut Duplex<'_>) -> Vec<(u64, u64, Vec<u8>)> {
        let mut record = [0; 4096];
        let mut out = vec![];
        while let Some(len) = manager.rx.pop(&mut record) {
            match ToManager::decode(&record[..len.expect("sane")]) {
                Ok(ToManager::Reply { call, label, payload, window: [] }) => out.push((call, label, payload.to_vec())),
                other => panic!("{other:?}"),
            }
        }
        out
    }

    #[test]
    fn calls_from_the_cluster_are_answered() {
        let (mut port, mut manager) = pair(64 * 1024);
        let mut greeter = Greeter { later: None };
        let hello = ToServer::Hello { node: smi_port_node(), incarnation: 1 };
        manager.tx.push(&hello.encode().parts()).expect("room");
        send(&mut manager, 7, greeter::label::GREET, &request("you"), &[]);
        send(&mut manager, 8, greeter::label::GREET, &request(""), &[]);
        send(&mut manager, 9, greeter::label::GREET, &request("slow"), &[]);
        manager.tx.push(&[b"nonsense"]).expect("room");
        assert_eq!(turn(&mut port, &mut greeter), Turn { greeted: true, signal: true });
        let [(7, 0, ok), (8, 1, refused)] = &answers(&mut manager)[..] else { panic!("two answers") };
        assert_eq!((&ok[2..13], refused[0]), (&b"Hello, you!"[..], 1));
        let mut buffer = [0; MAX_PAYLOAD];
        let reply = greeter::reply::greet(&Str::truncated("at last"), &mut buffer);
        assert!(port.reply(greeter.later.expect("kept"), reply, &buffer));
        assert!(!port.reply(5, reply, &buffer), "a token of a local call");
        turn(&mut port, &mut greeter);
        let [(9, 0, late)] = &answers(&mut manager)[..] else { panic!("one answer") };
        assert_eq!(&late[2..9], b"at last");
    }

    #[test]
    fn malformed_calls_are_refused() {
        let (mut port, mut manager) = pair(64 * 1024);
        let mut greeter = Greeter { later: None };
        send(&mut manager, 1, greeter::label::GREET + 1, &request("a"), &[]);
        send(&mut manager, 2, greeter::label::GREET, &request("a")[8..], &[]);
        send(&mut manager, 3, greeter::label::GREET, &request("a"), &[1]);
        send(&mut manager, 4, greeter::label::GREET, &[0xff; 40], &[]);
        turn(&mut port, &mut greeter);
        let (method, message) = (LinkError::NoMethod.label(), LinkError::BadMessage.label());
        let expected =
            [(1, method), (2, message), (3, message), (4, message)].map(|(call, label)| (call, label, vec![]));
        assert_eq!(answers(&mut manager), expected);
    }

    #[test]
    fn a_full_ring_holds_calls_back_and_loses_no_answer() {
        let (mut port, mut manager) = pair(4 * 1024);
        let mut greeter = Greeter { later: None };
        let (mut sent, mut answered) = (0u64, 0u64);
        for round in 0..3000 {
            let payload = request("someone");
            let record = ToServer::Call {
                call: sent,
                from: smi_port_node(),
                label: greeter::label::GREET,
                payload: &payload,
                window: &[],
            };
            if manager.tx.push(&record.encode().parts()).is_ok() {
                sent += 1;
            }
            turn(&mut port, &mut greeter);
            if round % 100 == 99 {
                for (call, ..) in answers(&mut manager) {
                    assert_eq!(call, answered);
                    answered += 1;
                }
            }
        }
        for _ in 0..200 {
            turn(&mut port, &mut greeter);
            answered += answers(&mut manager).len() as u64;
        }
        assert!(sent > 200);
        assert_eq!(answered, sent);
    }
}
