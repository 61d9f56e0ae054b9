//! Client stubs over a channel: a Call on the server's endpoint, windows in the channel's session buffer.

use crate::cap;
use crate::session::RegionSession;
use ipc_wire::{LinkError, RawCap, Reply, Request, Session, Transport};
use smi_env::{CPtr, Channel};
use smi_sys::{call, message};

/// The way to a server: the channel's endpoint, or a capability that this server handed out.
#[derive(Clone, Copy, Debug)]
pub struct ChannelTransport {
    cap: CPtr,
    session: RegionSession,
}

impl ChannelTransport {
    /// To the server at the other end of `channel`. On the serving end, calls answer [`LinkError::NoPeer`].
    pub fn new(channel: &Channel) -> Self {
        ChannelTransport { cap: channel.call.unwrap_or(CPtr::NULL), session: RegionSession::of(channel) }
    }

    /// To an object of the same server, through a capability that it returned.
    pub fn object(&self, cap: RawCap) -> Self {
        ChannelTransport { cap: CPtr(cap.0), session: self.session }
    }
}

impl Transport for ChannelTransport {
    fn call(&mut self, request: Request<'_>, reply: &mut [u8]) -> Result<Reply, LinkError> {
        if request.bytes.len() > message::MAX_BYTES {
            return Err(LinkError::BadMessage);
        }
        let (mrs, words) = message::pack(request.bytes);
        let mut caps = [CPtr::NULL; 3];
        let count = request.caps.len().min(3);
        caps.iter_mut().zip(request.caps).for_each(|(to, from)| *to = CPtr(from.0));
        message::set_caps(&caps[..count]);
        let answer = call(self.cap, message::info(request.label, count, words), mrs);
        let label = answer.info.label();
        if (2..0x100).contains(&label) {
            return Err(LinkError::NoPeer); // the kernel's own answer: the slot is empty
        }
        message::unpack(&answer, reply);
        Ok(Reply { label, len: answer.info.length() * 8, caps: cap::received(&answer) })
    }

    fn session(&self) -> &dyn Session {
        &self.session
    }
}

/// Adds [`transport`](ChannelExt::transport) to channels.
pub trait ChannelExt {
    /// The transport for client stubs on this channel.
    fn transport(&self) -> ChannelTransport;
}

impl ChannelExt for Channel {
    fn transport(&self) -> ChannelTransport {
        ChannelTransport::new(self)
    }
}
