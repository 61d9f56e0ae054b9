//! Orders to the supervisor, without waiting for it: making a process takes longer than the cluster waits for a heartbeat.
//!
//! An order is a message to which no reply is asked (lost if the supervisor is at work, so it is repeated). When the supervisor has dealt with an
//! order it signals its channel; only then it is asked how the program is, for then it answers at once.

use super::channel;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use ipc_api::supervisor::{self, State};
use ipc_wire::{CapList, LinkError, NoSession, Reply, Request, Session, Transport, reply_label};
use smi_core::table::Name;
use smi_rt::sys::{self, message};
use smi_rt::transport::{ChannelExt, ChannelTransport};
use smi_rt::{CPtr, Channel, Env};

/// After so long an order is repeated.
const REPEAT_NS: u64 = 500_000_000;

/// Sends requests that nobody answers; stubs are told that all went well.
struct OneWay(CPtr);

impl Transport for OneWay {
    fn call(&mut self, request: Request<'_>, _: &mut [u8]) -> Result<Reply, LinkError> {
        let (mrs, words) = message::pack(request.bytes);
        sys::nb_send(self.0, message::info(request.label, 0, words), mrs);
        Ok(Reply { label: reply_label::OK, len: 0, caps: CapList::EMPTY })
    }

    fn session(&self) -> &dyn Session {
        &NoSession
    }
}

/// What was ordered for a program and is not done yet.
struct Order {
    running: bool,
    again_ns: u64,
}

/// An order that was dealt with.
pub(super) struct Done {
    pub program: Name,
    pub running: bool,
    pub ok: bool,
}

pub(super) struct Supervisor {
    channel: Channel,
    one_way: supervisor::Client<OneWay>,
    client: supervisor::Client<ChannelTransport>,
    orders: BTreeMap<Name, Order>,
}

impl Supervisor {
    pub fn new(env: &Env) -> Supervisor {
        let channel = channel(env, "root");
        let one_way = supervisor::Client::new(OneWay(channel.call.unwrap_or(CPtr::NULL)));
        Supervisor { channel, one_way, client: supervisor::Client::new(channel.transport()), orders: BTreeMap::new() }
    }

    /// The interface, for questions before there are orders.
    pub fn client(&mut self) -> &mut supervisor::Client<ChannelTransport> {
        &mut self.client
    }

    /// Wants a program to run or not.
    pub fn order(&mut self, now: u64, program: Name, running: bool) {
        self.send(&program, running);
        self.orders.insert(program, Order { running, again_ns: now + REPEAT_NS });
    }

    fn send(&mut self, program: &Name, running: bool) {
        let name = program.as_str();
        // A name that is too long for the manifest shows as an unknown program when its state is asked.
        let _ = if running { self.one_way.start(name) } else { self.one_way.stop(name) };
    }

    /// When an order has to be repeated.
    pub fn deadline_ns(&self) -> Option<u64> {
        self.orders.values().map(|order| order.again_ns).min()
    }

    /// Looks after the orders; `signals` are those that have come. Returns the orders that are dealt with.
    pub fn poll(&mut self, now: u64, signals: u64) -> Vec<Done> {
        let mut done = Vec::new();
        let asked = signals & self.channel.mask() != 0;
        for (program, mut order) in core::mem::take(&mut self.orders) {
            match if asked { self.outcome(&program, order.running) } else { None } {
                Some(ok) => done.push(Done { program, running: order.running, ok }),
                None => {
                    if order.again_ns <= now {
                        order.again_ns = now + REPEAT_NS;
                        self.send(&program, order.running);
                    }
                    self.orders.insert(program, order);
                }
            }
        }
        done
    }

    /// Whether an order has succeeded; `None` if it was not dealt with yet.
    fn outcome(&mut self, program: &Name, running: bool) -> Option<bool> {
        let Ok(status) = self.client.status(program.as_str()) else { return Some(false) };
        match (status.state, running) {
            (State::Running | State::Waiting, true) | (State::Stopped | State::Failed | State::Absent, false) => {
                Some(true)
            }
            (State::Failed | State::Absent, true) => Some(false),
            (State::Stopped, true) | (State::Running | State::Waiting, false) => None,
        }
    }
}
