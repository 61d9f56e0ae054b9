//! Deadline service on the EL0 physical timer.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod server {
    use ::timer::{Deadlines, MAX_CLIENTS};
    use ipc_api::timer::{self, Error};
    use ipc_wire::{Answer, Caller, LinkError};
    use smi_rt::serve::{Event, Loop, Message};
    use smi_rt::sys::counter;
    use smi_rt::{CPtr, Env, cap, time};
    use timer::Server;

    smi_rt::entry!(main);

    /// The service: deadlines on the node's clock (the virtual counter), alarms on the physical one.
    struct Timer {
        deadlines: Deadlines,
        /// Signals each client; null if there is none with that number.
        signals: [CPtr; MAX_CLIENTS],
        /// Ticks per second.
        frequency: u64,
        /// Physical minus virtual counter: 0 unless a hypervisor hides time.
        offset: u64,
    }

    fn main(env: &'static Env) -> ! {
        let irq = match env.irq() {
            Ok(irq) => irq,
            Err(error) => panic!("the timer interrupt: {error}"),
        };
        counter::physical_timer_stop();
        let mut server = Timer::new(env);
        smi_rt::ack(&irq); // one that a predecessor left
        defmt::info!("clock of {} Hz", server.frequency);
        let mut events = Loop::new(env);
        let mut message = Message::new();
        loop {
            match events.next(&mut message) {
                Event::Call(call) => {
                    events.dispatch(call, &message, |incoming, reply| timer::dispatch(&mut server, incoming, reply));
                }
                Event::Signals(bits) if bits & irq.mask() != 0 => {
                    server.fire();
                    smi_rt::ack(&irq);
                }
                Event::Signals(_) => {}
            }
        }
    }

    impl Timer {
        fn new(env: &Env) -> Timer {
            let mut signals = [CPtr::NULL; MAX_CLIENTS];
            for channel in env.clients() {
                if let Some(signal) = signals.get_mut(channel.badge as usize - 1) {
                    *signal = channel.signal;
                }
            }
            let virtual_count = counter::virtual_count();
            let offset = counter::physical_count().wrapping_sub(virtual_count);
            // The second reading is some ticks later: less than a millisecond is not an offset.
            let frequency = counter::frequency();
            let offset = if offset < frequency / 1000 { 0 } else { offset };
            Timer { deadlines: Deadlines::new(), signals, frequency, offset }
        }

        /// Signals everybody whose time has come, and sets the alarm for the next.
        fn fire(&mut self) {
            while let Some(client) = self.deadlines.expire(time::now_ns()) {
                smi_rt::sys::signal(self.signals[client as usize - 1]);
            }
            match self.deadlines.next() {
                Some(at) => {
                    let ticks = time::ns_to_ticks(at, self.frequency).saturating_add(self.offset);
                    counter::physical_timer_arm(ticks);
                }
                None => counter::physical_timer_stop(),
            }
        }
    }

    impl Server for Timer {
        fn arm(&mut self, caller: Caller, deadline_ns: u64) -> Answer<(), Error> {
            self.deadlines.arm(cap::client_of(caller.badge), deadline_ns).map_err(|_| LinkError::NoRights)?;
            self.fire();
            Ok(())
        }

        fn disarm(&mut self, caller: Caller) -> Answer<(), Error> {
            self.deadlines.disarm(cap::client_of(caller.badge)).map_err(|_| LinkError::NoRights)?;
            self.fire();
            Ok(())
        }
    }
}

#[cfg(not(target_os = "none"))]
fn main() {}
