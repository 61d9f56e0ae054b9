//! virtio-net driver: see the library for what it does; this gives it its device, memory and clients.
//!
//! The argument of a client's channel is its filter (`net::Filter`); empty means every frame.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod server {
    use core::ptr::NonNull;

    use ::net::Filter;
    use ::net::card::Card;
    use ::net::service::{MAX_CLIENTS, Service};
    use ipc_api::net;
    use ipc_ring::{Duplex, Side};
    use ipc_wire::{Answer, Caller, LinkError};
    use net::{Error, Server, Stats};
    use smi_rt::serve::{Event, Loop, Message};
    use smi_rt::{Channel, Env};
    use virtio::{DmaMemory, Registers};

    smi_rt::entry!(main);

    /// The driver, and which client has which channel.
    struct Driver {
        service: Service<'static, Registers>,
        channels: [Option<Channel>; MAX_CLIENTS],
        interrupts: u64,
    }

    fn main(env: &'static Env) -> ! {
        let irq = match env.irq() {
            Ok(irq) => irq,
            Err(error) => panic!("interrupt of the card: {error}"),
        };
        let mut driver = Driver::new(env);
        smi_rt::ack(&irq); // one that a predecessor left
        defmt::info!("card {=[u8; 6]:02x}", driver.service.card().mac());
        driver.run();
        let mut events = Loop::new(env);
        let mut message = Message::new();
        loop {
            match events.next(&mut message) {
                Event::Call(call) => {
                    events.dispatch(call, &message, |incoming, reply| net::dispatch(&mut driver, incoming, reply));
                }
                Event::Signals(bits) => {
                    if bits & irq.mask() != 0 {
                        driver.interrupts += 1;
                        driver.service.acknowledge();
                        smi_rt::ack(&irq);
                    }
                    driver.run();
                }
            }
        }
    }

    impl Driver {
        fn new(env: &'static Env) -> Self {
            let card = match Card::open(registers(env), memory(env)) {
                Ok(card) => card,
                Err(error) => panic!("{error}"),
            };
            let mut driver = Driver { service: Service::new(card), channels: [None; _], interrupts: 0 };
            for channel in env.clients().filter(|channel| channel.ring.is_some()) {
                if let Err(why) = driver.add(&channel) {
                    panic!("client {}: {why}", channel.peer);
                }
            }
            driver
        }

        fn add(&mut self, channel: &Channel) -> Result<(), &'static str> {
            let filter = Filter::parse(channel.arg).map_err(|_| "its channel's argument is no filter")?;
            let region = channel.ring.ok_or("its channel has no ring")?;
            let base = NonNull::new(region.ptr).ok_or("its ring is nowhere")?;
            // SAFETY: the ring part of this channel is shared with its client only, mapped for the process's life, and
            // this is the one place that attaches to its server side.
            let ring =
                unsafe { Duplex::attach(base, region.len, Side::Server) }.map_err(|_| "its ring is too small")?;
            let number = self.service.add_client(ring, filter).map_err(|_| "one too many")?;
            self.channels[number] = Some(*channel);
            Ok(())
        }

        fn run(&mut self) {
            let channels = &self.channels;
            let result = self.service.run(|client| channels[client].iter().for_each(smi_rt::notify));
            if let Err(error) = result {
                panic!("{error}"); // a new instance resets the device
            }
        }
    }

    fn registers(env: &Env) -> Registers {
        let device = match env.device("mmio") {
            Ok(device) => device.region,
            Err(error) => panic!("registers of the card: {error}"),
        };
        let base = NonNull::new(device.ptr).unwrap_or(NonNull::dangling());
        // SAFETY: the manifest gives this device to this process alone, and the root task maps its registers for the
        // process's life; called once.
        unsafe { Registers::new(base, device.len) }
    }

    fn memory(env: &Env) -> DmaMemory {
        let dma = match env.dma() {
            Ok(dma) => dma,
            Err(error) => panic!("memory for the card: {error}"),
        };
        let base = NonNull::new(dma.region.ptr).unwrap_or(NonNull::dangling());
        // SAFETY: the root task gives this memory, physically contiguous, to this process alone for its life; called once.
        // A predecessor's device may still know it: `Card::open` resets the device before it uses what it is given.
        unsafe { DmaMemory::new(base, dma.paddr, dma.region.len) }
    }

    impl Server for Driver {
        fn mac(&mut self, _caller: Caller) -> Answer<[u8; 6], Error> {
            Ok(self.service.card().mac())
        }

        fn stats(&mut self, _caller: Caller) -> Answer<Stats, Error> {
            let counts = self.service.counts();
            Ok(Stats {
                received: counts.received,
                received_bytes: counts.received_bytes,
                sent: counts.sent,
                sent_bytes: counts.sent_bytes,
                dropped_receive: counts.dropped_receive,
                refused_send: counts.refused_send,
                interrupts: self.interrupts,
            })
        }

        fn link(&mut self, _caller: Caller) -> Answer<bool, Error> {
            Ok(self.service.card().link_up().map_err(|_| LinkError::Busy)?)
        }
    }
}

#[cfg(not(target_os = "none"))]
fn main() {}
