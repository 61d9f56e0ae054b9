//! Console server: see the library for what it does; this gives it its line and clients, and answers calls.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod server {
    use core::ptr::NonNull;

    use ::console::uart::{Pl011, REGISTERS};
    use ::console::{Console, Full};
    use console::{Error, READ_MAX, Server, Stats};
    use ipc_api::console;
    use ipc_ring::{Duplex, Side};
    use ipc_wire::{Answer, Bytes, Caller, Refusal};
    use smi_rt::replies::Token;
    use smi_rt::serve::{Event, Loop, Message};
    use smi_rt::{Channel, Env};

    smi_rt::entry!(main);

    struct Front {
        console: Console<'static, Pl011>,
        /// Who waits for input.
        reader: Option<Caller>,
    }

    fn main(env: &'static Env) -> ! {
        let irq = match env.irq() {
            Ok(irq) => irq,
            Err(error) => panic!("interrupt of the line: {error}"),
        };
        let mut front = Front::new(env);
        smi_rt::ack(&irq); // one that a predecessor left
        let mut events = Loop::new(env);
        let mut message = Message::new();
        front.console.run();
        loop {
            match events.next(&mut message) {
                Event::Call(call) => {
                    events.dispatch(call, &message, |incoming, reply| console::dispatch(&mut front, incoming, reply));
                }
                Event::Signals(bits) if bits & irq.mask() != 0 => {
                    front.console.uart().acknowledge();
                    front.console.run();
                    smi_rt::ack(&irq);
                }
                Event::Signals(_) => {}
            }
            front.console.run();
            front.feed_reader(&mut events);
        }
    }

    impl Front {
        fn new(env: &'static Env) -> Self {
            let device = match env.device("mmio") {
                Ok(device) if device.region.len >= REGISTERS => device.region,
                Ok(_) => panic!("registers of the line are cut short"),
                Err(error) => panic!("registers of the line: {error}"),
            };
            let base = NonNull::new(device.ptr).unwrap_or(NonNull::dangling());
            // SAFETY: the manifest gives the line to this process alone, and the root task maps its registers for the
            // process's life. The kernel writes to the data register too, which does no harm.
            let uart = unsafe { Pl011::new(base) };
            let mut front = Front { console: Console::new(uart), reader: None };
            for channel in env.clients().filter(|channel| channel.ring.is_some()) {
                if let Err(why) = front.add(&channel) {
                    panic!("client {}: {why}", channel.peer);
                }
            }
            front
        }

        fn add(&mut self, channel: &Channel) -> Result<(), &'static str> {
            let region = channel.ring.ok_or("its channel has no ring")?;
            let base = NonNull::new(region.ptr).ok_or("its ring is nowhere")?;
            // SAFETY: the ring part of this channel is shared with its client only, mapped for the process's life, and
            // this is the one place that attaches to its server side.
            let ring =
                unsafe { Duplex::attach(base, region.len, Side::Server) }.map_err(|_| "its ring is too small")?;
            self.console.add_client(ring).map(|_| ()).map_err(|_| "one too many")
        }

        fn input(&mut self) -> Bytes<{ READ_MAX as usize }> {
            let mut bytes = [0; READ_MAX as usize];
            let len = self.console.read(&mut bytes);
            Bytes::new(&bytes[..len]).unwrap_or_default()
        }

        /// Answers who waits for input, if some has come.
        fn feed_reader(&mut self, events: &mut Loop) {
            if !self.console.has_input() {
                return;
            }
            let Some(reader) = self.reader.take() else { return };
            let mut payload = [0; ipc_wire::MAX_PAYLOAD];
            let reply = console::reply::read(&self.input(), &mut payload);
            // A reader that is gone does not get it, and nobody else may.
            let _ = events.reply(Token::from_word(reader.token), reply, &payload[..reply.len]);
        }
    }

    impl Server for Front {
        fn write(&mut self, _caller: Caller, text: &str) -> Answer<(), Error> {
            self.console.write_line(text).map_err(|Full| Error::Full)?;
            Ok(())
        }

        fn read(&mut self, caller: Caller) -> Answer<Bytes<{ READ_MAX as usize }>, Error> {
            if self.reader.is_some_and(|reader| reader.badge != caller.badge) {
                return Err(Error::Taken.into());
            }
            if self.console.has_input() {
                return Ok(self.input());
            }
            self.reader = Some(caller); // its successor, if the same client was restarted
            Err(Refusal::Pending)
        }

        fn stats(&mut self, _caller: Caller) -> Answer<Stats, Error> {
            let counts = self.console.counts();
            Ok(Stats {
                sent: counts.sent,
                received: counts.received,
                dropped_receive: counts.dropped_receive,
                records: counts.records,
                refused: counts.refused,
            })
        }
    }
}

#[cfg(not(target_os = "none"))]
fn main() {}
