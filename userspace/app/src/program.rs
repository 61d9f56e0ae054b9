//! Glue to the runtime: channels, the event loop, time.

use core::ptr::NonNull;

use ipc_api::{manager, timer};
use ipc_ring::{Duplex, Side};
use ipc_wire::{CallError, Dispatched, Incoming, Interface, LinkError, Reply, Request, Session, Str, Transport};
use smi_rt::serve::{Event, Loop, Message};
use smi_rt::transport::{ChannelExt, ChannelTransport};
use smi_rt::{CPtr, Channel, Env, cap, time};

use crate::port::Port;

/// The server through which programs meet.
const MANAGER: &str = "manager";
/// Time until an export that failed is tried again.
const RETRY_NS: u64 = 200_000_000;

fn channel(env: &Env, peer: &str) -> Channel {
    match env.channel(peer) {
        Ok(channel) => channel,
        Err(error) => panic!("channel to {peer}: {error}"),
    }
}

/// The way to a server found by its name; make a client of it. Gives the capability back when it is dropped.
#[derive(Debug)]
pub struct Remote {
    transport: ChannelTransport,
    /// The capability's slot; none if the server is at the other end of a channel.
    slot: Option<CPtr>,
}

impl Transport for Remote {
    fn call(&mut self, request: Request<'_>, reply: &mut [u8]) -> Result<Reply, LinkError> {
        self.transport.call(request, reply)
    }

    fn session(&self) -> &dyn Session {
        self.transport.session()
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.slot.into_iter().for_each(cap::delete);
    }
}

/// The server that has `name`, wherever it is. Calls on it fail with a [`LinkError`] when the server is gone; resolve the
/// name again to find the one that took its place. On a node without a manager, the server must be at the other end of a
/// channel.
pub fn resolve(env: &Env, name: &str) -> Result<Remote, CallError<manager::Error>> {
    let Ok(to_manager) = env.channel(MANAGER) else {
        return Ok(Remote { transport: channel(env, name).transport(), slot: None });
    };
    let transport = to_manager.transport();
    let cap = manager::Client::new(transport).resolve(name)?.raw();
    Ok(Remote { transport: transport.object(cap), slot: Some(CPtr(cap.0)) })
}

/// Waits, by the timer server. For programs that do nothing else meanwhile; calls to this program wait too.
pub fn sleep_ns(env: &Env, duration_ns: u64) {
    let until = time::now_ns() + duration_ns;
    let mut timer = timer::Client::new(channel(env, "timer").transport());
    while time::now_ns() < until {
        match timer.arm(until) {
            Ok(()) => {
                smi_rt::sys::wait(env.notification());
            }
            // The timer server is being restarted.
            Err(_) => smi_rt::sys::yield_now(),
        }
    }
}

/// Serves `interface` under `name` to all programs of all nodes, for ever. `handle` is the generated `dispatch` with its server.
pub fn serve(
    env: &'static Env,
    name: &str,
    interface: &'static Interface,
    mut handle: impl FnMut(&Incoming<'_>, &mut [u8]) -> Dispatched,
) -> ! {
    let mut events = Loop::new(env);
    let mut message = Message::new();
    let Ok(to_manager) = env.channel(MANAGER) else {
        defmt::info!("no manager here: serving this node's programs only");
        loop {
            if let Event::Call(call) = events.next(&mut message) {
                events.dispatch(call, &message, &mut handle);
            }
        }
    };
    let mut port = Port::new(ring(&to_manager));
    let mut exported = export(env, &to_manager, name);
    loop {
        if let Event::Call(call) = events.next(&mut message) {
            events.dispatch(call, &message, &mut handle);
        }
        let turn = port.turn(interface, &mut handle);
        if turn.signal {
            smi_rt::notify(&to_manager);
        }
        if turn.greeted || !exported {
            exported = export(env, &to_manager, name);
        }
    }
}

/// Gives this server its name. If that must wait (no quorum yet, manager not up, another node's
/// server has the name: this one then stands by), sets the alarm for the next attempt.
fn export(env: &Env, to_manager: &Channel, name: &str) -> bool {
    match manager::Client::new(to_manager.transport()).export(name) {
        Ok(_) => {
            defmt::info!("exported as {}", Str::<64>::truncated(name));
            true
        }
        Err(CallError::Server(error @ (manager::Error::BadName | manager::Error::NoPort))) => {
            panic!("cannot be exported as {name}: {error}")
        }
        Err(error) => {
            defmt::debug!("export of {} must wait: {}", Str::<64>::truncated(name), error);
            // Without an alarm, the manager's next Hello is the next attempt.
            let _ = timer::Client::new(channel(env, "timer").transport()).arm(time::now_ns() + RETRY_NS);
            false
        }
    }
}

fn ring(channel: &Channel) -> Duplex<'static> {
    let Some((region, base)) = channel.ring.and_then(|region| Some((region, NonNull::new(region.ptr)?))) else {
        panic!("the channel to {} has no ring", channel.peer)
    };
    // SAFETY: the ring part of this channel is shared with the manager only, mapped for the process's life, and this is
    // the one place that attaches to its client side, once: `serve` does not return.
    match unsafe { Duplex::attach(base, region.len, Side::Client) } {
        Ok(ring) => ring,
        Err(_) => panic!("the ring to {} is too small", channel.peer),
    }
}
