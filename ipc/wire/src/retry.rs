//! Sending again what may be sent again.

use crate::{Interface, Label, LinkError, Reply, Request, Session, Transport};

/// A transport that repeats calls of *idempotent* methods when the server was restarted under them or was busy.
///
/// All other calls go out once: whether a restarted server has executed them is unknown, and the client must ask.
#[derive(Clone, Copy, Debug)]
pub struct Retry<T> {
    transport: T,
    interface: &'static Interface,
    attempts: u32,
}

impl<T: Transport> Retry<T> {
    /// Repeats up to `attempts` calls in all, of `interface`'s idempotent methods, over `transport`.
    pub const fn new(transport: T, interface: &'static Interface, attempts: u32) -> Self {
        Self { transport, interface, attempts }
    }

    /// The transport below.
    pub fn inner(&mut self) -> &mut T {
        &mut self.transport
    }

    fn may_repeat(&self, label: u64) -> bool {
        self.interface.method(Label::from_bits(label)).is_some_and(|method| method.idempotent)
    }
}

/// Errors after which the same call may succeed at once.
fn passing(error: LinkError) -> bool {
    matches!(error, LinkError::Restarted | LinkError::Busy)
}

impl<T: Transport> Transport for Retry<T> {
    fn call(&mut self, request: Request<'_>, reply: &mut [u8]) -> Result<Reply, LinkError> {
        // Capabilities leave the sender's hands with the first attempt.
        let repeat = self.may_repeat(request.label) && request.caps.is_empty();
        let mut left = if repeat { self.attempts.max(1) } else { 1 };
        loop {
            left -= 1;
            let answer = self.transport.call(request, reply);
            let error = match &answer {
                Ok(reply) => LinkError::from_label(reply.label),
                Err(error) => Some(*error),
            };
            if left == 0 || !error.is_some_and(passing) {
                return answer;
            }
        }
    }

    fn session(&self) -> &dyn Session {
        self.transport.session()
    }
}
