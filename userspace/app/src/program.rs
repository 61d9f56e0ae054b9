//! Glue to the runtime: channels, the event loop, time.

use core::ptr::NonNull;

use ipc_api::{manager, timer};
use ipc_ring::{Duplex, Side};
use ipc_wire::{CallError, Dispatched, Incoming, Interface, LinkError, Str};
use smi_rt::serve::{Event, Loop, Message};
use smi_rt::transport::{ChannelExt, ChannelTransport};
use smi_rt::{Channel, Env, time};

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

/// A capability to the server that has `name`, wherever it is; make a client of it. Its calls fail with a
/// [`LinkError`] while nothing serves the name, and go on when something does again. On a node without a manager, the
/// server must be at the other end of a channel.
pub fn resolve(env: &Env, name: &str) -> Result<ChannelTransport, CallError<manager::Error>> {
    let Ok(to_manager) = env.channel(MANAGER) else { return Ok(channel(env, name).transport()) };
    let transport = to_manager.transport();
    let cap = manager::Client::new(transport).resolve(name)?;
    Ok(transport.object(cap.raw()))
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
            let alarm = timer::Client::new(channel(env, "timer").transport()).arm(time::now_ns() + RETRY_NS);
            if let Err(CallError::Link(error)) = alarm {
                // Without an alarm, the manager's next Hello is the next attempt.
                let _: LinkError = error;
            }
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
