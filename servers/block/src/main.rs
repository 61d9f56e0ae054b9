//! virtio-blk driver: see the library for what it does; this gives it its device, memory and clients.
//!
//! The argument of a client's channel names its part of the disk: `identity`, `directory`, `store`, `disk` (all of it), or
//! several that follow one another, separated by commas.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod server {
    use core::ptr::NonNull;

    use ::block::disk::Disk;
    use ::block::service::{Service, Window};
    use block::{Error, Geometry, Server, Stats};
    use ipc_api::block;
    use ipc_ring::{Duplex, Side};
    use ipc_wire::{Answer, Caller, LinkError};
    use smi_cluster::layout::{DIRECTORY, IDENTITY, STORE, Zone};
    use smi_rt::serve::{Event, Loop, Message};
    use smi_rt::session::RegionSession;
    use smi_rt::{Channel, Env, cap};
    use virtio::{DmaMemory, Registers};

    smi_rt::entry!(main);

    /// The driver, and which client has which channel.
    struct Driver {
        service: Service<'static, Registers, RegionSession>,
        channels: [Option<Channel>; ::block::service::MAX_CLIENTS],
        interrupts: u64,
    }

    fn main(env: &'static Env) -> ! {
        let irq = match env.irq() {
            Ok(irq) => irq,
            Err(error) => panic!("interrupt of the disk: {error}"),
        };
        let mut driver = Driver::new(env);
        smi_rt::ack(&irq); // one that a predecessor left
        let disk = driver.service.disk();
        defmt::info!("disk of {} blocks, read-only {}, cached {}", disk.blocks(), disk.read_only(), disk.cached());
        driver.run();
        let mut events = Loop::new(env);
        let mut message = Message::new();
        loop {
            match events.next(&mut message) {
                Event::Call(call) => {
                    events.dispatch(call, &message, |incoming, reply| block::dispatch(&mut driver, incoming, reply));
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

    /// The part of the disk that a channel's argument names.
    fn window(argument: &str) -> Option<Window> {
        let zone = |name| match name {
            "identity" => Some(IDENTITY),
            "directory" => Some(DIRECTORY),
            "store" => Some(STORE),
            "disk" => Some(Zone { first: 0, blocks: u64::MAX }),
            _ => None,
        };
        let mut zones = argument.split(',').map(zone);
        let first = zones.next()??;
        let mut window = Window { first: first.first, blocks: first.blocks };
        for next in zones {
            let next = next.filter(|next| window.first.checked_add(window.blocks) == Some(next.first))?;
            window.blocks = window.blocks.saturating_add(next.blocks);
        }
        Some(window)
    }

    impl Driver {
        fn new(env: &'static Env) -> Self {
            let disk = match Disk::open(registers(env), memory(env)) {
                Ok(disk) => disk,
                Err(error) => panic!("{error}"),
            };
            let mut driver = Driver { service: Service::new(disk), channels: [None; _], interrupts: 0 };
            for channel in env.clients().filter(|channel| channel.ring.is_some()) {
                if let Err(why) = driver.add(&channel) {
                    panic!("client {}: {why}", channel.peer);
                }
            }
            driver
        }

        fn add(&mut self, channel: &Channel) -> Result<(), &'static str> {
            let window = window(channel.arg).ok_or("its channel's argument is no part of the disk")?;
            let region = channel.ring.ok_or("its channel has no ring")?;
            let base = NonNull::new(region.ptr).ok_or("its ring is nowhere")?;
            // SAFETY: the ring part of this channel is shared with its client only, mapped for the process's life, and
            // this is the one place that attaches to its server side.
            let ring =
                unsafe { Duplex::attach(base, region.len, Side::Server) }.map_err(|_| "its ring is too small")?;
            let data = RegionSession::of(channel);
            let number = self.service.add_client(ring, data, window).map_err(|_| "one too many")?;
            self.channels[number] = Some(*channel);
            Ok(())
        }

        fn run(&mut self) {
            let channels = &self.channels;
            let result = self.service.run(|client| channels[client].iter().for_each(smi_rt::notify));
            if let Err(error) = result {
                panic!("{error}"); // a new instance resets the device, and the clients submit again
            }
        }

        fn client(&self, caller: Caller) -> Option<usize> {
            let badge = cap::client_of(caller.badge);
            self.channels.iter().position(|channel| channel.is_some_and(|channel| channel.badge == badge))
        }
    }

    fn registers(env: &Env) -> Registers {
        let device = match env.device("mmio") {
            Ok(device) => device.region,
            Err(error) => panic!("registers of the disk: {error}"),
        };
        let base = NonNull::new(device.ptr).unwrap_or(NonNull::dangling());
        // SAFETY: the manifest gives this device to this process alone, and the root task maps its registers for the
        // process's life; called once.
        unsafe { Registers::new(base, device.len) }
    }

    fn memory(env: &Env) -> DmaMemory {
        let dma = match env.dma() {
            Ok(dma) => dma,
            Err(error) => panic!("memory for the disk: {error}"),
        };
        let base = NonNull::new(dma.region.ptr).unwrap_or(NonNull::dangling());
        // SAFETY: the root task gives this memory, physically contiguous, to this process alone for its life; called once.
        // A predecessor's device may still know it: `Disk::open` resets the device before it uses what it is given.
        unsafe { DmaMemory::new(base, dma.paddr, dma.region.len) }
    }

    impl Server for Driver {
        fn geometry(&mut self, caller: Caller) -> Answer<Geometry, Error> {
            let window = self.client(caller).and_then(|client| self.service.window(client));
            let window = window.ok_or(LinkError::NoRights)?;
            let disk = self.service.disk();
            Ok(Geometry {
                blocks: window.blocks,
                first: window.first,
                disk_blocks: disk.blocks(),
                read_only: disk.read_only(),
                cached: disk.cached(),
            })
        }

        fn stats(&mut self, _caller: Caller) -> Answer<Stats, Error> {
            let counts = self.service.counts();
            Ok(Stats {
                blocks_read: counts.blocks_read,
                blocks_written: counts.blocks_written,
                flushes: counts.flushes,
                errors: counts.errors,
                refused: counts.refused,
                interrupts: self.interrupts,
                in_flight: self.service.disk().in_flight() as u32,
            })
        }
    }
}

#[cfg(not(target_os = "none"))]
fn main() {}
