//! The shell: rings, timer, supervisor and calls on one side, [`Manager`] on the other. No decisions here.
//!
//! First the disk says who this node is ([`start`]). If it does not, the console is told why and the node stays outside its
//! cluster: it answers calls with an error and sends nothing.

mod disk;
mod ports;
mod start;
mod supervise;

use alloc::vec::Vec;
use disk::Disk;
use ipc_api::{manager, timer};
use ipc_wire::{CapList, LinkError, MAX_PAYLOAD, RawCap, Reply, relay, reply_label};
use net::{MAX_FRAME, NetClient};
use ports::PortRings;
use smi_manager::calls::{Answer, Invocation};
use smi_manager::desk::{self, Desk};
use smi_manager::status::Status;
use smi_manager::{Action, Event, Manager};
use smi_rt::replies::Token;
use smi_rt::serve::{self, Call, Loop, Message};
use smi_rt::transport::ChannelTransport;
use smi_rt::{Channel, Env, cap, time};
use supervise::Supervisor;

/// Frames taken from the network before everything else gets its turn.
const FRAME_BATCH: usize = 64;

/// The process's entry.
pub fn main(env: &'static Env) -> ! {
    let mut events = Loop::new(env);
    let mut shell = match start::start(env) {
        Ok(shell) => shell,
        Err(unfit) => start::stay_outside(env, &unfit, &mut events),
    };
    let mut message = Message::new();
    let mut busy = true;
    loop {
        let event = if busy { events.poll(&mut message) } else { Some(events.next(&mut message)) };
        let mut signals = 0;
        match event {
            Some(serve::Event::Call(call)) => shell.on_call(call, &message, &mut events),
            Some(serve::Event::Signals(bits)) => signals = bits,
            None => {}
        }
        busy = shell.turn(&mut events, signals);
    }
}

/// The channel with a server that the manager cannot do without.
fn channel(env: &Env, name: &str) -> Channel {
    match env.channel(name) {
        Ok(channel) => channel,
        Err(error) => panic!("channel '{name}': {error}"),
    }
}

struct Shell {
    manager: Manager,
    net: NetClient<'static>,
    net_channel: Channel,
    disk: Disk,
    ports: PortRings,
    timer: timer::Client<ChannelTransport>,
    /// The deadline that the timer has, if its signal has not come.
    armed_ns: Option<u64>,
    supervisor: Supervisor,
    /// What the manager wants done.
    actions: Vec<Action>,
}

impl Shell {
    /// A client's call: of the manager itself, or through a capability to a resource.
    fn on_call(&mut self, call: Call, message: &Message, events: &mut Loop) {
        let now_ns = time::now_ns();
        let object = cap::object_of(call.badge);
        if object == 0 {
            let mut mint = |object, client| {
                let minted = cap::mint_for_reply(cap::badge(object, client)).ok()?;
                Some(RawCap(minted.0))
            };
            let mut desk = Desk { manager: &mut self.manager, now_ns, mint: &mut mint };
            events.dispatch(call, message, |incoming, reply| manager::dispatch(&mut desk, incoming, reply));
            return;
        }
        let caps = call.caps.as_slice();
        let session = events.session(call.badge);
        let invocation = Invocation {
            token: call.token.word(),
            badge: call.badge,
            label: call.label,
            payload: message.bytes(),
            has_caps: !caps.is_empty(),
            session: &session,
        };
        self.manager.step(now_ns, Event::Invoke { object, call: invocation }, &mut self.actions);
        // Capabilities do not leave the node; the manager has refused the call.
        caps.iter().for_each(|raw| cap::delete(smi_rt::CPtr(raw.0)));
    }

    /// One round over everything that may have something. Returns whether there is more to do at once.
    fn turn(&mut self, events: &mut Loop, signals: u64) -> bool {
        let now = time::now_ns();
        for done in self.supervisor.poll(now, signals) {
            let event = Event::Supervised { program: &done.program, running: done.running, ok: done.ok };
            self.manager.step(now, event, &mut self.actions);
        }
        if self.armed_ns.is_some_and(|at| at <= now) {
            self.armed_ns = None;
        }
        let more_frames = self.take_frames(now);
        self.disk.poll(now, &mut self.manager, &mut self.actions);
        self.ports.take_records(now, &mut self.manager, &mut self.actions);
        self.manager.step(now, Event::Tick, &mut self.actions);
        self.carry_out(now, events);
        self.ports.put_records(now, &mut self.manager);
        self.signal_drivers();
        let more_records = self.ports.sleep(&self.manager);
        let deadlines = [self.manager.deadline_ns(), self.supervisor.deadline_ns()];
        more_frames || more_records || self.wait_until(deadlines.into_iter().flatten().min())
    }

    fn take_frames(&mut self, now: u64) -> bool {
        let mut frame = [0; MAX_FRAME];
        for _ in 0..FRAME_BATCH {
            let Some(len) = self.net.receive(&mut frame) else { return false };
            self.manager.step(now, Event::Frame(&frame[..len]), &mut self.actions);
        }
        true
    }

    fn signal_drivers(&mut self) {
        if self.net.wants_signal() {
            smi_rt::notify(&self.net_channel);
        }
        self.disk.signal();
    }

    /// Has the timer wake us at `deadline`. True if that is now.
    fn wait_until(&mut self, deadline: Option<u64>) -> bool {
        let Some(at) = deadline else { return false };
        if at <= time::now_ns() {
            return true;
        }
        if self.armed_ns.is_none_or(|armed| at < armed) {
            match self.timer.arm(at) {
                Ok(()) => self.armed_ns = Some(at),
                Err(_) => defmt::error!("timer-failed"),
            }
        }
        false
    }

    /// Carries out what the manager wants; what comes back at once may want more.
    fn carry_out(&mut self, now: u64, events: &mut Loop) {
        while !self.actions.is_empty() {
            for action in core::mem::take(&mut self.actions) {
                match action {
                    // A full ring is a lossy wire: the link sends again.
                    Action::Frame(frame) => drop(self.net.send(&[&frame])),
                    Action::Answer(answer) => self.answer(&answer, events),
                    Action::Exported { token, result } => {
                        let mut payload = [0; MAX_PAYLOAD];
                        let reply = desk::exported(result, &mut payload);
                        let _ = events.reply(Token::from_word(token), reply, &payload[..reply.len]);
                    }
                    Action::Disk(action) => self.disk.submit(action),
                    Action::Start(program) => self.supervisor.order(now, program, true),
                    Action::Stop(program) => self.supervisor.order(now, program, false),
                    Action::Status(status) => tell(&status),
                }
            }
            self.disk.poll(now, &mut self.manager, &mut self.actions);
        }
    }

    /// Answers a call through a capability: windows first, then the reply. An unknown token means that the client is gone.
    fn answer(&mut self, answer: &Answer, events: &mut Loop) {
        let mut label = answer.label;
        if label == reply_label::OK
            && let Some((_, method)) = ipc_api::find(answer.request_label)
        {
            let session = events.session(answer.badge);
            if let Err(error) = relay::scatter(method, &answer.request, &session, &answer.window) {
                label = error.label();
            }
        }
        let payload = if label == answer.label { &answer.payload[..] } else { &[] };
        let reply = Reply { label, len: payload.len(), caps: CapList::EMPTY };
        let _ = events.reply(Token::from_word(answer.token), reply, payload);
    }
}

/// Puts a status line in the log. Its text is the interface: scenarios look for it.
fn tell(status: &Status) {
    let line = desk::line(status);
    match status {
        Status::NodeDown { .. }
        | Status::LinkDown { .. }
        | Status::Refused(_)
        | Status::Fenced { fenced: true }
        | Status::RedundancyLost { .. }
        | Status::ServiceFailed { .. } => defmt::warn!("{=str}", line.as_str()),
        _ => defmt::info!("{=str}", line.as_str()),
    }
}

/// Refuses every call: the node is not in its cluster.
fn refuse_all(events: &mut Loop) -> ! {
    let mut message = Message::new();
    loop {
        if let serve::Event::Call(call) = events.next(&mut message) {
            let _ = events.refuse(call.token, LinkError::NoQuorum);
        }
    }
}
