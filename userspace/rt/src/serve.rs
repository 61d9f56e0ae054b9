//! The event loop of a server: calls on its endpoint and signals on its notification, in one place.
//!
//! Every call holds a reply object until it is answered, at once or later. When all are held, calls wait in the kernel's queue (their callers
//! stay blocked) and only signals are delivered: back-pressure, not loss.

use crate::cap;
use crate::replies::{Replies, Token};
use crate::session::RegionSession;
use ipc_wire::{Caller, CapList, Dispatched, Incoming, LinkError, MAX_PAYLOAD, RawCap, Reply};
use smi_env::{CPtr, Env, map};
use smi_sys::call::{FastRegisters, Received};
use smi_sys::{MessageInfo, message};

/// Room for the payload of one call.
pub struct Message {
    bytes: [u8; MAX_PAYLOAD],
    len: usize,
}

impl Message {
    /// Empty.
    pub const fn new() -> Message {
        Message { bytes: [0; MAX_PAYLOAD], len: 0 }
    }

    /// The payload of the call that was received into this.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Default for Message {
    fn default() -> Self {
        Message::new()
    }
}

/// A call that waits for its answer. Its payload is in the [`Message`] that was given to [`Loop::next`].
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Badge of the capability that was called: `object << 16 | channel badge`, see [`crate::cap`].
    pub badge: u64,
    /// The 52-bit label.
    pub label: u64,
    /// Capabilities that came along; they belong to this server now.
    pub caps: CapList,
    /// Names the call for [`Loop::reply`].
    pub token: Token,
}

/// What [`Loop::next`] brings.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// A client calls.
    Call(Call),
    /// Signals: the bits of the notification word (see `Channel::mask`, `Irq::mask`), without the flag bit.
    Signals(u64),
}

/// The token does not name an unanswered call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answered;

/// An answer that goes out with the next receive.
struct Queued {
    reply: CPtr,
    label: u64,
    len: usize,
    caps: CapList,
}

/// The event loop.
pub struct Loop {
    env: &'static Env,
    replies: Replies,
    queued: Option<Queued>,
    out: [u8; MAX_PAYLOAD],
}

impl Loop {
    /// The loop of this server. Once.
    pub fn new(env: &'static Env) -> Loop {
        Loop { env, replies: Replies::new(env.reply_count()), queued: None, out: [0; MAX_PAYLOAD] }
    }

    /// Waits for the next event. Sends the answer of the last [`dispatch`](Self::dispatch), if it is still here, in the same system call.
    pub fn next(&mut self, into: &mut Message) -> Event {
        let Some(index) = self.replies.peek() else {
            self.flush();
            return Event::Signals(smi_sys::wait(self.env.notification()) & !map::SIGNAL_FLAG);
        };
        let reply = self.reply_cap(index);
        let endpoint = self.env.self_endpoint();
        let received = match self.queued.take() {
            None => smi_sys::recv(endpoint, reply),
            Some(queued) => {
                let (info, mrs) = self.pack(&queued);
                if queued.reply == reply {
                    smi_sys::reply_recv(endpoint, info, mrs, reply)
                } else {
                    smi_sys::nb_send_recv(queued.reply, info, mrs, endpoint, reply)
                }
            }
        };
        self.event(received, into)
    }

    /// Events that are there already, without waiting: `None` if there are none.
    pub fn poll(&mut self, into: &mut Message) -> Option<Event> {
        self.flush();
        let Some(index) = self.replies.peek() else {
            let bits = smi_sys::poll(self.env.notification()) & !map::SIGNAL_FLAG;
            return (bits != 0).then_some(Event::Signals(bits));
        };
        let received = smi_sys::nb_recv(self.env.self_endpoint(), self.reply_cap(index));
        (received.badge != 0).then(|| self.event(received, into))
    }

    /// Lets a generated `dispatch` function handle a call. Its answer is sent by the next [`next`](Self::next), [`poll`](Self::poll) or [`flush`](Self::flush).
    pub fn dispatch(
        &mut self,
        call: Call,
        message: &Message,
        handle: impl FnOnce(&Incoming<'_>, &mut [u8]) -> Dispatched,
    ) {
        let session = self.session(call.badge);
        let incoming = Incoming {
            from: Caller { badge: call.badge, token: call.token.word() },
            label: call.label,
            bytes: message.bytes(),
            caps: call.caps.as_slice(),
            session: &session,
        };
        self.flush();
        match handle(&incoming, &mut self.out) {
            Dispatched::Pending(_) => {}
            Dispatched::Reply(reply) => {
                if reply.label >= 0x100 {
                    call.caps.as_slice().iter().for_each(|cap| cap::delete(CPtr(cap.0)));
                }
                if let Some(index) = self.replies.take(call.token) {
                    let len = reply.len.min(MAX_PAYLOAD);
                    let reply = Queued { reply: self.reply_cap(index), label: reply.label, len, caps: reply.caps };
                    self.queued = Some(reply);
                }
            }
        }
    }

    /// Answers a call now: label, payload (at most `MAX_PAYLOAD` bytes), capabilities.
    pub fn reply(&mut self, token: Token, reply: Reply, payload: &[u8]) -> Result<(), Answered> {
        self.flush();
        let index = self.replies.take(token).ok_or(Answered)?;
        let payload = &payload[..payload.len().min(MAX_PAYLOAD)];
        let (mrs, words) = message::pack(payload);
        let count = set_caps(&reply.caps);
        smi_sys::send(self.reply_cap(index), message::info(reply.label, count, words), mrs);
        cap::drop_transient();
        Ok(())
    }

    /// Answers a call now with a link error.
    pub fn refuse(&mut self, token: Token, error: LinkError) -> Result<(), Answered> {
        self.reply(token, Reply::link_error(error), &[])
    }

    /// Sends the answer that waits for the next receive, for a server that has long work before it.
    pub fn flush(&mut self) {
        if let Some(queued) = self.queued.take() {
            let (info, mrs) = self.pack(&queued);
            smi_sys::send(queued.reply, info, mrs);
            cap::drop_transient();
        }
    }

    /// The session buffer of the client that a call's badge belongs to.
    pub fn session(&self, badge: u64) -> RegionSession {
        self.env
            .client_by_badge(cap::client_of(badge))
            .map_or(RegionSession::NONE, |channel| RegionSession::of(&channel))
    }

    /// Calls that are unanswered.
    pub fn outstanding(&self) -> usize {
        self.replies.outstanding()
    }

    fn reply_cap(&self, index: usize) -> CPtr {
        self.env.reply(index).unwrap_or(CPtr::NULL)
    }

    fn pack(&self, queued: &Queued) -> (MessageInfo, FastRegisters) {
        let (mrs, words) = message::pack(&self.out[..queued.len]);
        let count = set_caps(&queued.caps);
        (message::info(queued.label, count, words), mrs)
    }

    fn event(&mut self, received: Received, into: &mut Message) -> Event {
        if received.badge & map::SIGNAL_FLAG != 0 {
            cap::drop_transient();
            return Event::Signals(received.badge & !map::SIGNAL_FLAG);
        }
        into.len = message::unpack(&received, &mut into.bytes);
        let caps = cap::received(&received);
        cap::drop_transient();
        // `peek` gave the object we received with, so there is one to hold.
        let token = self.replies.hold().unwrap_or(Token::from_word(u64::MAX));
        Event::Call(Call { badge: received.badge, label: received.info.label(), caps, token })
    }
}

/// Names a reply's capabilities in the IPC buffer; returns their number.
fn set_caps(caps: &CapList) -> usize {
    let mut cptrs = [CPtr::NULL; 3];
    let caps: &[RawCap] = caps.as_slice();
    cptrs.iter_mut().zip(caps).for_each(|(to, from)| *to = CPtr(from.0));
    message::set_caps(&cptrs[..caps.len()]);
    caps.len()
}
