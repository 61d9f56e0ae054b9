//! The last packet of each connection, for a few seconds: given again when its group has found a new home.
//!
//! What a client sends while nobody can answer is lost, and its TCP waits longer before each repetition. Repeating the last packet of
//! each connection ourselves, as soon as somebody can answer, spares the client that wait: a request that waits for its connection gets
//! it, and a connection whose state is gone is reset at once. For TCP it is a duplicate like any other.

use crate::Nanos;
use crate::stack::Packet;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::Ipv4Addr;
use smi_cluster::GroupId;

/// Most connections remembered.
pub const MAX_CONNECTIONS: usize = 256;
/// A packet is forgotten after this long.
pub const KEPT_FOR: Nanos = 5_000_000_000;

/// Client's address and port, service port.
type Key = (Ipv4Addr, u16, u16);

struct Entry {
    at: Nanos,
    group: GroupId,
    packet: Packet,
}

/// See the module's documentation.
#[derive(Default)]
pub struct Recent {
    entries: BTreeMap<Key, Entry>,
}

/// The connection of a TCP packet whose headers the router has checked.
fn key(packet: &[u8]) -> Option<Key> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let source: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
    let ports = packet.get(header..header + 4)?;
    Some((source.into(), u16::from_be_bytes([ports[0], ports[1]]), u16::from_be_bytes([ports[2], ports[3]])))
}

impl Recent {
    /// Remembers a packet for the group's stack in place of the connection's last one.
    pub fn note(&mut self, now: Nanos, group: GroupId, packet: &[u8]) {
        let Some(key) = key(packet) else { return };
        if !self.entries.contains_key(&key) && self.entries.len() >= MAX_CONNECTIONS {
            let oldest = self.entries.iter().min_by_key(|(key, e)| (e.at, **key)).map(|(key, _)| *key);
            oldest.and_then(|key| self.entries.remove(&key));
        }
        self.entries.insert(key, Entry { at: now, group, packet: packet.to_vec() });
    }

    /// Takes the packets for a group that are young enough, oldest first.
    pub fn take(&mut self, now: Nanos, group: GroupId) -> Vec<Packet> {
        let mut taken: Vec<Entry> =
            self.entries.extract_if(.., |_, e| e.group == group).map(|(_, entry)| entry).collect();
        taken.retain(|e| now.saturating_sub(e.at) <= KEPT_FOR);
        taken.sort_by_key(|e| e.at);
        taken.into_iter().map(|e| e.packet).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(port: u16, last: u8) -> Packet {
        let mut p = alloc::vec![0x45; 1];
        p.resize(40, 0);
        p[20..22].copy_from_slice(&port.to_be_bytes());
        p[39] = last;
        p
    }

    #[test]
    fn keeps_the_last_of_each_connection_and_not_for_ever() {
        let mut r = Recent::default();
        r.note(0, GroupId(1), &packet(7, 1));
        r.note(1, GroupId(1), &packet(9, 2));
        r.note(2, GroupId(1), &packet(7, 3));
        r.note(3, GroupId(2), &packet(8, 4));
        r.note(4, GroupId(1), &[0x4f, 0, 0]);
        assert_eq!(r.take(10, GroupId(1)), [packet(9, 2), packet(7, 3)]);
        assert!(r.take(10, GroupId(1)).is_empty());
        assert!(r.take(4 + KEPT_FOR, GroupId(2)).is_empty());
        for port in 0..1000 {
            r.note(u64::from(port), GroupId(1), &packet(port, 0));
        }
        let kept = r.take(1000, GroupId(1));
        assert_eq!((kept.len(), &kept[0]), (MAX_CONNECTIONS, &packet(744, 0)));
    }
}
