//! Faults on the way, on any transport.

use ipc_wire::{LinkError, Reply, Request, Session, Transport};

/// What happens to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// The request never arrives; the client hears this error.
    LoseRequest(LinkError),
    /// The server executes the call, but its answer never arrives; the client hears this error.
    LoseReply(LinkError),
    /// The server is restarted before it sees the call, and forgets its state.
    RestartBefore,
    /// The server executes the call and is restarted before it answers, and forgets its state.
    RestartAfter,
    /// The answer takes this long, in nanoseconds; above the deadline it does not arrive, though the server executed it.
    Delay(u64),
}

/// A transport whose server can be restarted.
pub trait Restart {
    /// Makes the server forget its state.
    fn restart(&mut self);
}

/// A transport with faults by a plan: a function of the number of the call, from 0.
pub struct Faulty<T, P> {
    transport: T,
    plan: P,
    calls: u64,
    deadline_ns: u64,
    elapsed_ns: u64,
}

impl<T: Transport + Restart, P: FnMut(u64) -> Fault> Faulty<T, P> {
    /// Puts faults by `plan` on `transport`. No deadline.
    pub fn new(transport: T, plan: P) -> Self {
        Self { transport, plan, calls: 0, deadline_ns: u64::MAX, elapsed_ns: 0 }
    }

    /// Sets how long a call may take, in nanoseconds.
    pub fn set_deadline(&mut self, deadline_ns: u64) {
        self.deadline_ns = deadline_ns;
    }

    /// The transport below.
    pub fn inner(&mut self) -> &mut T {
        &mut self.transport
    }

    /// Virtual time spent in delays and deadlines, in nanoseconds.
    pub fn elapsed_ns(&self) -> u64 {
        self.elapsed_ns
    }
}

impl<T: Transport + Restart, P: FnMut(u64) -> Fault> Transport for Faulty<T, P> {
    fn call(&mut self, request: Request<'_>, reply: &mut [u8]) -> Result<Reply, LinkError> {
        let fault = (self.plan)(self.calls);
        self.calls += 1;
        match fault {
            Fault::None => self.transport.call(request, reply),
            Fault::LoseRequest(error) => Err(error),
            Fault::LoseReply(error) => {
                self.transport.call(request, &mut [])?;
                Err(error)
            }
            Fault::RestartBefore => {
                self.transport.restart();
                Err(LinkError::Restarted)
            }
            Fault::RestartAfter => {
                self.transport.call(request, &mut [])?;
                self.transport.restart();
                Err(LinkError::Restarted)
            }
            Fault::Delay(time_ns) => {
                self.elapsed_ns = self.elapsed_ns.saturating_add(time_ns.min(self.deadline_ns));
                let answer = self.transport.call(request, reply);
                if time_ns > self.deadline_ns { Err(LinkError::Deadline) } else { answer }
            }
        }
    }

    fn session(&self) -> &dyn Session {
        self.transport.session()
    }
}
