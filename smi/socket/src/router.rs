//! The external single image: ARP, ICMP and forwarding for the service address (DESIGN 6.6, decision D8).
//!
//! While this node is the active router, it answers for the service address with the virtual MAC: ARP and pings itself, TCP by
//! handing the packet to the group that owns the port. While it is not, it says nothing outside and only listens to ARP, so that
//! it knows the neighbours when it takes over. There is no state about connections: forwarding is a function of the packet and
//! the [`View`], so a router's death costs packets and nothing else.
//!
//! At take-over the virtual MAC has moved to another switch port; gratuitous ARP tells the switches, repeated because the first
//! may be lost, and again whenever somebody else is heard claiming the address.
//!
//! What always holds: tables and queues are bounded; frames from outside are claims; whatever is dropped is counted.

use crate::Nanos;
use crate::stack::Packet;
use crate::view::View;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv4Addr;
use smi_cluster::GroupId;
use smi_cluster::identity::External;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, Icmpv4DstUnreachable,
    Icmpv4Message, Icmpv4Packet, Icmpv4Repr, IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket,
    TcpRepr,
};

/// An Ethernet frame without its check sequence.
pub type Frame = Vec<u8>;

const MS: Nanos = 1_000_000;
/// When gratuitous ARP is sent, counted from the take-over.
pub const ANNOUNCE_AT: [Nanos; 5] = [0, 10 * MS, 50 * MS, 200 * MS, 1000 * MS];
/// A rival claimant makes us announce again, but not more often than this.
const RIVAL_PAUSE: Nanos = 1000 * MS;
/// Most neighbours remembered.
pub const MAX_NEIGHBOURS: usize = 256;
/// Most packets that wait for one neighbour's address.
const MAX_WAITING: usize = 16;
/// Pause between two questions for a neighbour's address, and how many are asked.
const ASK_EVERY: Nanos = 500 * MS;
const ASK_TIMES: u32 = 4;
/// A neighbour not heard of for so long is asked again while its old address is still used.
const FRESH_FOR: Nanos = 60_000 * MS;
/// Resets and unreachable messages per second, at most.
const ERRORS_PER_SECOND: u32 = 200;
/// Shortest frame on Ethernet, without check sequence.
const MIN_FRAME: usize = 60;
const HEADER: usize = EthernetFrame::<&[u8]>::header_len();
/// Marks our own ARP frames, in the padding: followed by the node's number. Some segments echo what one sends.
const MARK: [u8; 4] = *b"SMI\x01";

/// What was dropped and why; for statistics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Frames that were not valid, or not for us.
    pub malformed: u64,
    /// IP fragments: a stream's segments never need them.
    pub fragments: u64,
    /// Packets for ports that nobody listens on.
    pub refused: u64,
    /// Packets for groups that have no primary at the moment.
    pub homeless: u64,
    /// Packets whose next hop did not answer, or for which too many waited already.
    pub unresolved: u64,
    /// Resets and unreachable messages not sent, for there were too many.
    pub muted: u64,
    /// Pings answered.
    pub pings: u64,
    /// Rival claimants heard.
    pub rivals: u64,
}

/// What the router wants done.
#[derive(Default, Debug)]
pub struct Output {
    /// Frames to send outside.
    pub frames: Vec<Frame>,
    /// Packets from outside, for the stack of a group.
    pub inward: Vec<(GroupId, Packet)>,
}

struct Neighbour {
    mac: Option<EthernetAddress>,
    heard: Nanos,
    /// Questions asked since it was last heard, and when to ask again.
    asked: u32,
    ask_at: Option<Nanos>,
    waiting: VecDeque<Packet>,
}

/// See the module's documentation.
pub struct Router {
    service: Ipv4Addr,
    mac: EthernetAddress,
    prefix: u8,
    gateway: Option<Ipv4Addr>,
    node: u16,
    active: bool,
    announce: VecDeque<Nanos>,
    rival_heard: Option<Nanos>,
    neighbours: BTreeMap<Ipv4Addr, Neighbour>,
    error_budget: u32,
    budget_from: Nanos,
    counters: Counters,
}

impl Router {
    /// A router that is not active. `node` is this node's number.
    pub fn new(external: &External, node: u16) -> Router {
        let gateway = Ipv4Addr::from(external.gateway);
        Router {
            service: external.service.into(),
            mac: EthernetAddress(external.virtual_mac),
            prefix: external.prefix.min(32),
            gateway: (!gateway.is_unspecified()).then_some(gateway),
            node,
            active: false,
            announce: VecDeque::new(),
            rival_heard: None,
            neighbours: BTreeMap::new(),
            error_budget: ERRORS_PER_SECOND,
            budget_from: 0,
            counters: Counters::default(),
        }
    }

    /// Whether it speaks.
    pub fn active(&self) -> bool {
        self.active
    }

    /// What was dropped and done so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Makes it the active router or silences it. Becoming active schedules the announcements.
    pub fn set_active(&mut self, now: Nanos, active: bool) {
        if active == self.active {
            return;
        }
        self.active = active;
        self.announce.clear();
        self.rival_heard = None;
        if active {
            self.announce.extend(ANNOUNCE_AT.iter().map(|after| now + after));
        }
        for n in self.neighbours.values_mut() {
            self.counters.unresolved += n.waiting.len() as u64;
            n.waiting.clear();
            n.ask_at = None;
            n.asked = 0;
        }
        self.neighbours.retain(|_, n| n.mac.is_some());
    }

    /// When [`Router::tick`] is due.
    pub fn deadline(&self) -> Option<Nanos> {
        let asks = self.neighbours.values().filter_map(|n| n.ask_at).min();
        self.announce.front().copied().into_iter().chain(asks).min()
    }

    /// Sends what is due at `now`: announcements and questions.
    pub fn tick(&mut self, now: Nanos, out: &mut Output) {
        while self.announce.front().is_some_and(|at| *at <= now) {
            self.announce.pop_front();
            out.frames.push(self.gratuitous());
        }
        let due: Vec<Ipv4Addr> =
            self.neighbours.iter().filter(|(_, n)| n.ask_at.is_some_and(|at| at <= now)).map(|(a, _)| *a).collect();
        for address in due {
            self.ask(now, address, out);
        }
    }

    /// Takes a frame from the external NIC.
    pub fn frame(&mut self, now: Nanos, bytes: &[u8], view: &View, out: &mut Output) {
        let Ok(frame) = EthernetFrame::new_checked(bytes) else {
            self.counters.malformed += 1;
            return;
        };
        match frame.ethertype() {
            EthernetProtocol::Arp => self.arp(now, frame.payload(), out),
            EthernetProtocol::Ipv4 if self.active && frame.dst_addr() == self.mac => {
                self.ipv4(now, frame.payload(), view, out);
            }
            _ => {}
        }
    }

    /// Sends an IP packet outside, once the next hop's address is known.
    pub fn send(&mut self, now: Nanos, packet: Packet, out: &mut Output) {
        if !self.active {
            return;
        }
        let Some(hop) = self.next_hop(&packet) else {
            self.counters.malformed += 1;
            return;
        };
        if !self.neighbours.contains_key(&hop) {
            self.remember(now, hop, None);
        }
        let n = self.neighbours.get_mut(&hop).expect("inserted above");
        match n.mac {
            Some(mac) => {
                if now.saturating_sub(n.heard) > FRESH_FOR && n.ask_at.is_none() {
                    n.ask_at = Some(now);
                }
                out.frames.push(framed(self.mac, mac, EthernetProtocol::Ipv4, &packet));
            }
            None if n.waiting.len() >= MAX_WAITING => self.counters.unresolved += 1,
            None => {
                n.waiting.push_back(packet);
                if n.ask_at.is_none() {
                    self.ask(now, hop, out);
                }
            }
        }
    }

    // ---- ARP ----

    fn arp(&mut self, now: Nanos, payload: &[u8], out: &mut Output) {
        let parsed = ArpPacket::new_checked(payload).and_then(|p| ArpRepr::parse(&p));
        let Ok(ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr,
            source_protocol_addr,
            target_protocol_addr,
            ..
        }) = parsed
        else {
            self.counters.malformed += 1;
            return;
        };
        let (mac, from) = (source_hardware_addr, source_protocol_addr);
        if from == self.service {
            self.rival(now, payload);
            return;
        }
        if !mac.is_unicast() || mac == self.mac {
            self.counters.malformed += 1;
            return;
        }
        let for_us = target_protocol_addr == self.service;
        if self.on_link(from) && (for_us || self.neighbours.contains_key(&from)) {
            self.learn(now, from, mac, out);
        }
        if self.active && for_us && operation == ArpOperation::Request {
            let reply = self.arp_frame(ArpOperation::Reply, mac, mac, from);
            out.frames.push(reply);
        }
    }

    /// Somebody speaks as the service address: a router that does not know yet that it is not, or a stranger.
    fn rival(&mut self, now: Nanos, payload: &[u8]) {
        let mark = payload.get(ARP_LEN..ARP_LEN + 6);
        let ours = mark.is_some_and(|m| m[..4] == MARK && m[4..] == self.node.to_le_bytes());
        if ours || !self.active {
            return;
        }
        self.counters.rivals += 1;
        if self.rival_heard.is_none_or(|at| now.saturating_sub(at) >= RIVAL_PAUSE) {
            self.rival_heard = Some(now);
            self.announce = ANNOUNCE_AT.iter().map(|after| now + after).collect();
        }
    }

    fn learn(&mut self, now: Nanos, address: Ipv4Addr, mac: EthernetAddress, out: &mut Output) {
        if !self.neighbours.contains_key(&address) {
            self.remember(now, address, Some(mac));
        }
        let n = self.neighbours.get_mut(&address).expect("inserted above");
        (n.mac, n.heard, n.asked, n.ask_at) = (Some(mac), now, 0, None);
        for packet in n.waiting.drain(..) {
            out.frames.push(framed(self.mac, mac, EthernetProtocol::Ipv4, &packet));
        }
    }

    fn remember(&mut self, now: Nanos, address: Ipv4Addr, mac: Option<EthernetAddress>) {
        if self.neighbours.len() >= MAX_NEIGHBOURS {
            let oldest = self.neighbours.iter().min_by_key(|(a, n)| (n.heard, **a)).map(|(a, _)| *a);
            let gone = oldest.and_then(|a| self.neighbours.remove(&a));
            self.counters.unresolved += gone.map_or(0, |n| n.waiting.len() as u64);
        }
        let fresh = Neighbour { mac, heard: now, asked: 0, ask_at: None, waiting: VecDeque::new() };
        self.neighbours.insert(address, fresh);
    }

    fn ask(&mut self, now: Nanos, address: Ipv4Addr, out: &mut Output) {
        let Some(n) = self.neighbours.get_mut(&address) else { return };
        if n.asked >= ASK_TIMES {
            self.counters.unresolved += n.waiting.len() as u64;
            self.neighbours.remove(&address);
            return;
        }
        n.asked += 1;
        n.ask_at = Some(now + ASK_EVERY);
        let everybody = EthernetAddress::BROADCAST;
        out.frames.push(self.arp_frame(ArpOperation::Request, everybody, EthernetAddress([0; 6]), address));
    }

    /// "The service address is at the virtual MAC", to everybody.
    fn gratuitous(&self) -> Frame {
        self.arp_frame(ArpOperation::Request, EthernetAddress::BROADCAST, EthernetAddress([0; 6]), self.service)
    }

    fn arp_frame(
        &self,
        operation: ArpOperation,
        to: EthernetAddress,
        about_mac: EthernetAddress,
        about: Ipv4Addr,
    ) -> Frame {
        let repr = ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr: self.mac,
            source_protocol_addr: self.service,
            target_hardware_addr: about_mac,
            target_protocol_addr: about,
        };
        let mut payload = [0; MIN_FRAME - HEADER];
        repr.emit(&mut ArpPacket::new_unchecked(&mut payload[..ARP_LEN]));
        payload[ARP_LEN..ARP_LEN + 4].copy_from_slice(&MARK);
        payload[ARP_LEN + 4..ARP_LEN + 6].copy_from_slice(&self.node.to_le_bytes());
        framed(self.mac, to, EthernetProtocol::Arp, &payload)
    }

    fn on_link(&self, address: Ipv4Addr) -> bool {
        let mask = u32::MAX.checked_shl(32 - self.prefix as u32).unwrap_or(0);
        let (a, host) = (u32::from(address), u32::from(address) & !mask);
        let broadcast = self.prefix < 31 && (host == 0 || host == !mask);
        (a ^ u32::from(self.service)) & mask == 0 && !broadcast && address != self.service
    }

    fn next_hop(&self, packet: &[u8]) -> Option<Ipv4Addr> {
        let ip = Ipv4Packet::new_checked(packet).ok()?;
        let to = ip.dst_addr();
        if ip.src_addr() != self.service || !plausible_peer(to) {
            None
        } else if self.on_link(to) {
            Some(to)
        } else {
            self.gateway
        }
    }

    // ---- IPv4 ----

    fn ipv4(&mut self, now: Nanos, payload: &[u8], view: &View, out: &mut Output) {
        let Some(packet) = self.checked(payload) else { return };
        let ip = Ipv4Packet::new_unchecked(packet);
        match ip.next_header() {
            IpProtocol::Icmp => self.icmp(now, packet, out),
            IpProtocol::Tcp => self.tcp(now, packet, view, out),
            protocol => {
                let reason = match protocol {
                    IpProtocol::Udp => Icmpv4DstUnreachable::PortUnreachable,
                    _ => Icmpv4DstUnreachable::ProtoUnreachable,
                };
                self.counters.refused += 1;
                self.unreachable(now, packet, reason, out);
            }
        }
    }

    /// The IP packet in a frame's payload, without padding, if it is sound and for us.
    fn checked<'a>(&mut self, payload: &'a [u8]) -> Option<&'a [u8]> {
        let sound = Ipv4Packet::new_checked(payload).ok().filter(|ip| {
            ip.version() == 4
                && ip.header_len() >= 20
                && ip.verify_checksum()
                && ip.dst_addr() == self.service
                && ip.src_addr() != self.service
                && plausible_peer(ip.src_addr())
        });
        let Some(ip) = sound else {
            self.counters.malformed += 1;
            return None;
        };
        if ip.more_frags() || ip.frag_offset() != 0 {
            self.counters.fragments += 1;
            return None;
        }
        Some(&payload[..ip.total_len() as usize])
    }

    fn tcp(&mut self, now: Nanos, packet: &[u8], view: &View, out: &mut Output) {
        let ip = Ipv4Packet::new_unchecked(packet);
        let Ok(tcp) = TcpPacket::new_checked(ip.payload()) else {
            self.counters.malformed += 1;
            return;
        };
        match view.ports.get(&tcp.dst_port()) {
            Some(port) if view.primary(port.group).is_some() => out.inward.push((port.group, packet.to_vec())),
            Some(_) => self.counters.homeless += 1,
            None => {
                self.counters.refused += 1;
                self.reset(now, packet, out);
            }
        }
    }

    /// Resets a segment that nobody listens for (RFC 9293, 3.10.7.1).
    fn reset(&mut self, now: Nanos, packet: &[u8], out: &mut Output) {
        let ip = Ipv4Packet::new_unchecked(packet);
        let (us, peer) = (IpAddress::Ipv4(ip.dst_addr()), IpAddress::Ipv4(ip.src_addr()));
        let segment = TcpPacket::new_unchecked(ip.payload());
        let Ok(repr) = TcpRepr::parse(&segment, &peer, &us, &ChecksumCapabilities::default()) else {
            self.counters.malformed += 1;
            return;
        };
        if repr.control == TcpControl::Rst || !self.may_complain(now) {
            return;
        }
        let answer = TcpRepr {
            src_port: repr.dst_port,
            dst_port: repr.src_port,
            control: TcpControl::Rst,
            seq_number: repr.ack_number.unwrap_or_default(),
            ack_number: if repr.ack_number.is_some() { None } else { Some(repr.seq_number + repr.segment_len()) },
            window_len: 0,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &[],
        };
        let to = ip.src_addr();
        let packet = self.packet(to, IpProtocol::Tcp, answer.header_len(), |payload| {
            answer.emit(&mut TcpPacket::new_unchecked(payload), &us, &peer, &ChecksumCapabilities::default());
        });
        self.send(now, packet, out);
    }

    fn icmp(&mut self, now: Nanos, packet: &[u8], out: &mut Output) {
        let ip = Ipv4Packet::new_unchecked(packet);
        let Ok(icmp) = Icmpv4Packet::new_checked(ip.payload()) else {
            self.counters.malformed += 1;
            return;
        };
        if icmp.msg_type() != Icmpv4Message::EchoRequest {
            return;
        }
        if !icmp.verify_checksum() {
            self.counters.malformed += 1;
            return;
        }
        self.counters.pings += 1;
        let request = ip.payload();
        let answer = self.packet(ip.src_addr(), IpProtocol::Icmp, request.len(), |payload| {
            payload.copy_from_slice(request);
            let mut icmp = Icmpv4Packet::new_unchecked(payload);
            icmp.set_msg_type(Icmpv4Message::EchoReply);
            icmp.fill_checksum();
        });
        self.send(now, answer, out);
    }

    fn unreachable(&mut self, now: Nanos, packet: &[u8], reason: Icmpv4DstUnreachable, out: &mut Output) {
        if !self.may_complain(now) {
            return;
        }
        let ip = Ipv4Packet::new_unchecked(packet);
        let Ok(header) = Ipv4Repr::parse(&ip, &ChecksumCapabilities::default()) else { return };
        // RFC 792: the header and the first eight bytes.
        let data = &ip.payload()[..ip.payload().len().min(8)];
        let repr = Icmpv4Repr::DstUnreachable { reason, header, data };
        let answer = self.packet(ip.src_addr(), IpProtocol::Icmp, repr.buffer_len(), |payload| {
            repr.emit(&mut Icmpv4Packet::new_unchecked(payload), &ChecksumCapabilities::default());
        });
        self.send(now, answer, out);
    }

    fn may_complain(&mut self, now: Nanos) -> bool {
        if now.saturating_sub(self.budget_from) >= 1000 * MS {
            (self.budget_from, self.error_budget) = (now, ERRORS_PER_SECOND);
        }
        let may = self.error_budget > 0;
        self.error_budget -= may as u32;
        self.counters.muted += !may as u64;
        may
    }

    /// A packet from the service address with a payload that `fill` writes.
    fn packet(&self, to: Ipv4Addr, protocol: IpProtocol, len: usize, fill: impl FnOnce(&mut [u8])) -> Packet {
        let repr =
            Ipv4Repr { src_addr: self.service, dst_addr: to, next_header: protocol, payload_len: len, hop_limit: 64 };
        let mut packet = vec![0; repr.buffer_len() + len];
        let mut ip = Ipv4Packet::new_unchecked(&mut packet);
        repr.emit(&mut ip, &ChecksumCapabilities::default());
        fill(ip.payload_mut());
        packet
    }
}

/// Bytes of an ARP packet for IPv4 over Ethernet.
const ARP_LEN: usize = 28;

/// Whether a packet may come from, or go to, this address.
fn plausible_peer(address: Ipv4Addr) -> bool {
    !address.is_unspecified() && !address.is_broadcast() && !address.is_multicast() && !address.is_loopback()
}

fn framed(from: EthernetAddress, to: EthernetAddress, kind: EthernetProtocol, payload: &[u8]) -> Frame {
    let mut bytes = vec![0; HEADER + payload.len()];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    frame.set_src_addr(from);
    frame.set_dst_addr(to);
    frame.set_ethertype(kind);
    frame.payload_mut().copy_from_slice(payload);
    bytes
}
