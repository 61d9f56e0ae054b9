//! The rings of the ports: records in and out, as far as both sides have room.

use super::start;
use alloc::string::ToString;
use alloc::vec::Vec;
use ipc_ring::{Duplex, PushError, Side};
use smi_cluster::PortId;
use smi_core::table::Name;
use smi_manager::ports::{PortConfig, PortIndex};
use smi_manager::{Action, Event, Manager};
use smi_rt::{Channel, Env};

/// Records taken from one server before the next has its turn.
const BATCH: usize = 32;

struct PortRing {
    channel: Channel,
    ring: Duplex<'static>,
    /// The server's generation that the manager knows of; 0 while none has attached.
    generation: u64,
    /// The name that the manifest gives this server in the cluster.
    export: Option<Name>,
}

pub(super) struct PortRings {
    rings: Vec<PortRing>,
    buffer: Vec<u8>,
}

/// What a channel's argument says, e.g. `port=16,export=greeter`.
fn option<'a>(channel: &Channel, key: &str) -> Option<&'a str> {
    let arg: &'static str = channel.arg;
    arg.split(',').find_map(|part| part.trim().strip_prefix(key)?.strip_prefix('='))
}

impl PortRings {
    /// Attaches to the rings of all clients whose channel names a port.
    pub fn new(env: &Env) -> (PortRings, Vec<PortConfig>) {
        let (mut rings, mut configs) = (Vec::new(), Vec::new());
        for channel in env.clients() {
            let Some(id) = option(&channel, "port").and_then(|n| n.parse().ok()) else { continue };
            let ring = start::ring(&channel, Side::Server);
            let export = option(&channel, "export").and_then(|name| Name::new(name).ok());
            rings.push(PortRing { channel, ring, generation: 0, export });
            configs.push(PortConfig { name: channel.peer.to_string(), id: PortId(id), badge: channel.badge });
        }
        (PortRings { rings, buffer: Vec::new() }, configs)
    }

    /// Hands the servers' records to the manager, and tells it who has attached.
    pub fn take_records(&mut self, now: u64, manager: &mut Manager, out: &mut Vec<Action>) {
        for (index, port) in self.rings.iter_mut().enumerate() {
            let index = PortIndex(index);
            port.ring.rx.wake();
            port.watch(now, index, manager, out);
            for _ in 0..BATCH {
                if !manager.ports().may_send(index) {
                    break;
                }
                let Some(len) = port.ring.rx.next_len() else {
                    // Empty, or malformed: then this drops it.
                    let _ = port.ring.rx.pop(&mut []);
                    break;
                };
                self.buffer.resize(len.min(MAX_RECORD), 0);
                if let Some(Ok(len)) = port.ring.rx.pop(&mut self.buffer) {
                    manager.step(now, Event::Record(index, &self.buffer[..len]), out);
                }
            }
            if port.ring.rx.space_wanted() {
                smi_rt::notify(&port.channel);
            }
        }
    }

    /// Puts the manager's records into the rings.
    pub fn put_records(&mut self, now: u64, manager: &mut Manager) {
        for (index, port) in self.rings.iter_mut().enumerate() {
            let index = PortIndex(index);
            let mut pushed = false;
            while let Some(record) = manager.ports().next_record(index) {
                match port.ring.tx.push(&[record]) {
                    Ok(()) => pushed = true,
                    Err(PushError::Full) => break,
                    Err(PushError::TooLong) => {
                        defmt::error!(
                            "port-record-dropped port={=str} bytes={=usize}",
                            port.channel.peer,
                            record.len()
                        );
                    }
                }
                manager.record_taken(now, index);
            }
            if pushed && port.ring.tx.wants_signal() {
                smi_rt::notify(&port.channel);
            }
        }
    }

    /// Asks for signals again. True if something has arrived meanwhile that can be dealt with.
    pub fn sleep(&mut self, manager: &Manager) -> bool {
        let mut more = false;
        for (index, port) in self.rings.iter_mut().enumerate() {
            let empty = port.ring.rx.sleep();
            more |= !empty && manager.ports().may_send(PortIndex(index));
        }
        more
    }
}

/// Longest record that a server may send: a call's reply with both windows, or a message to a peer.
const MAX_RECORD: usize = smi_port::HEADER_BYTES + smi_port::MAX_MESSAGE + ipc_wire::MAX_PAYLOAD;

impl PortRing {
    /// Tells the manager when the server has attached (again).
    fn watch(&mut self, now: u64, index: PortIndex, manager: &mut Manager, out: &mut Vec<Action>) {
        let generation = self.ring.peer_generation();
        if generation == self.generation {
            return;
        }
        self.generation = generation;
        manager.step(now, Event::Attached(index), out);
        if let Some(name) = &self.export
            && manager.export_always(name, index).is_err()
        {
            defmt::error!("export-failed name={=str}", name.as_str());
        }
    }
}
