//! Messages between the socket servers of two nodes: batches of IP packets of one group.
//!
//! Little-endian: kind `u8`, three zero bytes, group `u32`, epoch `u64`, then packets, each with its length as `u16` before it.
//! [`Message::decode`] checks all of it before any packet is looked at.

use crate::stack::Packet;
use alloc::vec::Vec;
use smi_cluster::{Epoch, GroupId};

/// Bytes before the packets.
pub const HEADER: usize = 16;
/// A sender begins a new message rather than exceed this many bytes.
pub const MAX_BATCH: usize = 32 * 1024;
/// Longest packet in a message.
pub const MAX_PACKET: usize = 9000;

/// Which way the packets go.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Direction {
    /// From the active router to the group's primary: they came from outside.
    Inward = 1,
    /// From the group's primary to the active router: they go outside.
    Outward = 2,
}

/// A checked message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message<'a> {
    /// Which way.
    pub direction: Direction,
    /// The group whose stack they are for or from.
    pub group: GroupId,
    /// Its epoch at the sender.
    pub epoch: Epoch,
    packets: &'a [u8],
}

/// Bytes that are not a message: dropped and counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadMessage;

impl<'a> Message<'a> {
    /// Checks and reads a message.
    pub fn decode(bytes: &'a [u8]) -> Result<Message<'a>, BadMessage> {
        let (head, packets) = bytes.split_at_checked(HEADER).ok_or(BadMessage)?;
        let direction = match head[..4] {
            [1, 0, 0, 0] => Direction::Inward,
            [2, 0, 0, 0] => Direction::Outward,
            _ => return Err(BadMessage),
        };
        let group = GroupId(u32::from_le_bytes(head[4..8].try_into().expect("four bytes")));
        let epoch = Epoch(u64::from_le_bytes(head[8..16].try_into().expect("eight bytes")));
        let mut rest = packets;
        while !rest.is_empty() {
            (_, rest) = split(rest).ok_or(BadMessage)?;
        }
        Ok(Message { direction, group, epoch, packets })
    }

    /// The packets, in order.
    pub fn packets(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut rest = self.packets;
        core::iter::from_fn(move || {
            let (packet, after) = split(rest)?;
            rest = after;
            Some(packet)
        })
    }
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<2>()?;
    let len = u16::from_le_bytes(*len) as usize;
    if len == 0 || len > MAX_PACKET { None } else { rest.split_at_checked(len) }
}

/// Puts packets into as few messages as [`MAX_BATCH`] allows. Packets that are empty or longer than [`MAX_PACKET`] are left out.
pub fn encode(direction: Direction, group: GroupId, epoch: Epoch, packets: &[Packet]) -> Vec<Vec<u8>> {
    let mut messages: Vec<Vec<u8>> = Vec::new();
    for packet in packets.iter().filter(|p| !p.is_empty() && p.len() <= MAX_PACKET) {
        if messages.last().is_none_or(|m| m.len() + 2 + packet.len() > MAX_BATCH) {
            let mut message = alloc::vec![direction as u8, 0, 0, 0];
            message.extend_from_slice(&group.0.to_le_bytes());
            message.extend_from_slice(&epoch.0.to_le_bytes());
            messages.push(message);
        }
        let message = messages.last_mut().expect("pushed above");
        message.extend_from_slice(&(packet.len() as u16).to_le_bytes());
        message.extend_from_slice(packet);
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_survive_in_order_and_in_bounded_messages() {
        let packets: Vec<Packet> = (0..100).map(|i| alloc::vec![i as u8; 1 + i * 15]).collect();
        let messages = encode(Direction::Outward, GroupId(7), Epoch(9), &packets);
        assert!(messages.len() > 1 && messages.iter().all(|m| m.len() <= MAX_BATCH));
        let mut back = Vec::new();
        for m in &messages {
            let m = Message::decode(m).unwrap();
            assert_eq!((m.direction, m.group, m.epoch), (Direction::Outward, GroupId(7), Epoch(9)));
            back.extend(m.packets().map(<[u8]>::to_vec));
        }
        assert_eq!(back, packets);
    }

    #[test]
    fn nonsense_is_refused() {
        let good = encode(Direction::Inward, GroupId(7), Epoch(9), &[alloc::vec![1; 20]]).remove(0);
        assert!(Message::decode(&good).is_ok());
        for cut in (0..HEADER).chain(HEADER + 1..good.len()) {
            assert_eq!(Message::decode(&good[..cut]), Err(BadMessage), "{cut} bytes");
        }
        for (at, value) in [(0, 0), (0, 3), (1, 1), (16, 0), (16, 21), (17, 0xff)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(Message::decode(&bad), Err(BadMessage), "byte {at}");
        }
    }
}
