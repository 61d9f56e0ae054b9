//! The router on synthetic frames.

mod common;

use common::*;
use smi_cluster::identity::External;
use smi_cluster::{Epoch, GroupId, NodeId, Vid};
use smi_socket::router::{ANNOUNCE_AT, Frame, MAX_NEIGHBOURS, Output, Router};
use smi_socket::view::{Group, Port, View};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::*;
use std::net::Ipv4Addr;

const VIRTUAL: EthernetAddress = EthernetAddress([0, 0, 0x5e, 0, 1, 0x4d]);
const HOST: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 254);
const GROUP: GroupId = GroupId(5);

fn router(node: u16) -> Router {
    let external =
        External { service: SERVICE.octets(), prefix: 24, gateway: GATEWAY.octets(), virtual_mac: VIRTUAL.0 };
    Router::new(&external, node)
}

fn active() -> Router {
    let mut r = router(1);
    r.set_active(0, true);
    let mut out = Output::default();
    for at in ANNOUNCE_AT {
        r.tick(at, &mut out);
    }
    assert_eq!(out.frames.len(), ANNOUNCE_AT.len());
    r
}

/// Port 6379 belongs to a group on node 2, port 80 to one that has no primary.
fn view() -> View {
    let mut v = View::empty(NodeId(1));
    v.router = Some(NodeId(1));
    v.groups.insert(GROUP, Group { epoch: Epoch(3), primary: Some(NodeId(2)) });
    v.groups.insert(GroupId(6), Group { epoch: Epoch(3), primary: None });
    v.ports.insert(6379, Port { vid: Vid(1), group: GROUP });
    v.ports.insert(80, Port { vid: Vid(2), group: GroupId(6) });
    v
}

fn ethernet(from: EthernetAddress, to: EthernetAddress, kind: EthernetProtocol, payload: &[u8]) -> Frame {
    let mut bytes = vec![0; 14 + payload.len()];
    let mut f = EthernetFrame::new_unchecked(&mut bytes);
    f.set_src_addr(from);
    f.set_dst_addr(to);
    f.set_ethertype(kind);
    f.payload_mut().copy_from_slice(payload);
    bytes
}

fn arp(op: ArpOperation, mac: EthernetAddress, from: Ipv4Addr, to: Ipv4Addr) -> Frame {
    let repr = ArpRepr::EthernetIpv4 {
        operation: op,
        source_hardware_addr: mac,
        source_protocol_addr: from,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: to,
    };
    let mut payload = vec![0; 28];
    repr.emit(&mut ArpPacket::new_unchecked(&mut payload));
    ethernet(mac, EthernetAddress::BROADCAST, EthernetProtocol::Arp, &payload)
}

fn ip(from: Ipv4Addr, to: Ipv4Addr, protocol: IpProtocol, payload: &[u8]) -> Vec<u8> {
    let repr =
        Ipv4Repr { src_addr: from, dst_addr: to, next_header: protocol, payload_len: payload.len(), hop_limit: 64 };
    let mut bytes = vec![0; 20 + payload.len()];
    let mut p = Ipv4Packet::new_unchecked(&mut bytes);
    repr.emit(&mut p, &ChecksumCapabilities::default());
    p.payload_mut().copy_from_slice(payload);
    bytes
}

fn ip_frame(packet: &[u8]) -> Frame {
    ethernet(HOST, VIRTUAL, EthernetProtocol::Ipv4, packet)
}

fn tcp(port: u16, control: TcpControl, ack: Option<i32>, payload: &[u8]) -> Vec<u8> {
    let repr = TcpRepr {
        src_port: 5555,
        dst_port: port,
        control,
        seq_number: TcpSeqNumber(1000),
        ack_number: ack.map(TcpSeqNumber),
        window_len: 1000,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload,
    };
    let mut bytes = vec![0; repr.buffer_len()];
    let caps = ChecksumCapabilities::default();
    repr.emit(&mut TcpPacket::new_unchecked(&mut bytes), &CLIENT.into(), &SERVICE.into(), &caps);
    ip(CLIENT, SERVICE, IpProtocol::Tcp, &bytes)
}

fn udp(port: u16) -> Vec<u8> {
    let mut bytes = vec![0; 8 + 12];
    bytes[2..4].copy_from_slice(&port.to_be_bytes());
    bytes[5] = 20;
    ip(CLIENT, SERVICE, IpProtocol::Udp, &bytes)
}

fn ping(to: Ipv4Addr, data: &[u8]) -> Vec<u8> {
    let repr = Icmpv4Repr::EchoRequest { ident: 7, seq_no: 9, data };
    let mut bytes = vec![0; repr.buffer_len()];
    repr.emit(&mut Icmpv4Packet::new_unchecked(&mut bytes), &ChecksumCapabilities::default());
    ip(CLIENT, to, IpProtocol::Icmp, &bytes)
}

fn give(r: &mut Router, now: u64, frame: &[u8]) -> Output {
    let mut out = Output::default();
    r.frame(now, frame, &view(), &mut out);
    out
}

/// Makes the client's address known.
fn introduce(r: &mut Router) {
    let out = give(r, 0, &arp(ArpOperation::Request, HOST, CLIENT, SERVICE));
    assert_eq!(out.frames.len(), 1);
}

fn parse_arp(frame: &[u8]) -> (EthernetAddress, ArpOperation, EthernetAddress, Ipv4Addr, EthernetAddress, Ipv4Addr) {
    let f = EthernetFrame::new_checked(frame).unwrap();
    assert_eq!(f.ethertype(), EthernetProtocol::Arp);
    assert_eq!(f.src_addr(), VIRTUAL);
    assert!(frame.len() >= 60);
    let ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr,
        source_protocol_addr,
        target_hardware_addr,
        target_protocol_addr,
    } = ArpRepr::parse(&ArpPacket::new_checked(f.payload()).unwrap()).unwrap()
    else {
        panic!("not IPv4 over Ethernet")
    };
    (f.dst_addr(), operation, source_hardware_addr, source_protocol_addr, target_hardware_addr, target_protocol_addr)
}

/// The only frame, as an IP packet to the client, checked.
fn only_packet(out: &Output) -> Vec<u8> {
    assert_eq!(out.frames.len(), 1, "{out:?}");
    let f = EthernetFrame::new_checked(&out.frames[0]).unwrap();
    assert_eq!((f.src_addr(), f.dst_addr(), f.ethertype()), (VIRTUAL, HOST, EthernetProtocol::Ipv4));
    let packet = Ipv4Packet::new_checked(f.payload()).unwrap();
    assert!(packet.verify_checksum());
    assert_eq!((packet.src_addr(), packet.dst_addr()), (SERVICE, CLIENT));
    f.payload().to_vec()
}

#[test]
fn answers_arp_for_the_service_address_only_while_active() {
    let who_has = arp(ArpOperation::Request, HOST, CLIENT, SERVICE);
    let mut r = router(1);
    assert!(give(&mut r, 0, &who_has).frames.is_empty(), "a standby is silent");
    let mut r = active();
    let out = give(&mut r, 0, &who_has);
    assert_eq!(out.frames.len(), 1);
    assert_eq!(parse_arp(&out.frames[0]), (HOST, ArpOperation::Reply, VIRTUAL, SERVICE, HOST, CLIENT));
    let other = arp(ArpOperation::Request, HOST, CLIENT, [10, 77, 0, 7].into());
    assert!(give(&mut r, 0, &other).frames.is_empty(), "not our address");
}

#[test]
fn announces_itself_at_take_over_and_stops_when_it_loses_the_role() {
    let mut r = router(1);
    assert_eq!(r.deadline(), None);
    r.set_active(1000, true);
    for at in ANNOUNCE_AT {
        assert_eq!(r.deadline(), Some(1000 + at));
        let mut out = Output::default();
        r.tick(1000 + at, &mut out);
        assert_eq!(out.frames.len(), 1);
        let (to, op, mac, from, _, about) = parse_arp(&out.frames[0]);
        assert_eq!((to, op, mac), (EthernetAddress::BROADCAST, ArpOperation::Request, VIRTUAL));
        assert_eq!((from, about), (SERVICE, SERVICE));
    }
    assert_eq!(r.deadline(), None);
    r.set_active(0, false);
    r.set_active(0, true);
    r.set_active(0, false);
    let mut out = Output::default();
    r.tick(u64::MAX, &mut out);
    assert!(out.frames.is_empty());
}

#[test]
fn announces_again_when_a_rival_is_heard_but_not_for_its_own_echo() {
    let mut r = active();
    let mut old = router(2);
    old.set_active(0, true);
    let mut claim = Output::default();
    old.tick(0, &mut claim);
    give(&mut r, 5000 * MS, &claim.frames[0]);
    assert_eq!(r.deadline(), Some(5000 * MS));
    let mut out = Output::default();
    r.tick(5000 * MS, &mut out);
    assert_eq!(out.frames.len(), 1);
    // Heard again at once: not a storm.
    let before = r.deadline();
    give(&mut r, 5100 * MS, &claim.frames[0]);
    assert_eq!(r.deadline(), before);
    assert_eq!(r.counters().rivals, 2);
    // A segment that echoes.
    let mut quiet = active();
    give(&mut quiet, 9000 * MS, &out.frames[0]);
    assert_eq!(quiet.deadline(), None);
    // A stranger without our mark.
    give(&mut quiet, 9000 * MS, &arp(ArpOperation::Reply, HOST, SERVICE, CLIENT));
    assert_eq!(quiet.deadline(), Some(9000 * MS));
    // It does not become a neighbour.
    assert_eq!(quiet.counters().rivals, 1);
}

#[test]
fn answers_pings_with_the_same_bytes() {
    let mut r = active();
    introduce(&mut r);
    let data: Vec<u8> = (0..1400).map(|i| i as u8).collect();
    let packet = only_packet(&give(&mut r, 0, &ip_frame(&ping(SERVICE, &data))));
    let icmp = Icmpv4Packet::new_checked(&packet[20..]).unwrap();
    let repr = Icmpv4Repr::parse(&icmp, &ChecksumCapabilities::default()).unwrap();
    assert_eq!(repr, Icmpv4Repr::EchoReply { ident: 7, seq_no: 9, data: &data });
    let mut bad = ping(SERVICE, &data);
    bad[40] ^= 1;
    assert!(give(&mut r, 0, &ip_frame(&bad)).frames.is_empty());
    assert!(give(&mut r, 0, &ip_frame(&ping([10, 77, 0, 7].into(), &data))).frames.is_empty());
    // Not to the virtual MAC: somebody else's.
    let other = ethernet(HOST, EthernetAddress([2, 0, 0, 0, 0, 9]), EthernetProtocol::Ipv4, &ping(SERVICE, &data));
    assert!(give(&mut r, 0, &other).frames.is_empty());
}

#[test]
fn hands_a_packet_to_the_group_that_owns_the_port() {
    let mut r = active();
    let syn = tcp(6379, TcpControl::Syn, None, &[]);
    let mut padded = ip_frame(&syn);
    padded.resize(60.max(padded.len()), 0);
    let out = give(&mut r, 0, &padded);
    assert_eq!(out.inward, vec![(GROUP, syn.clone())]);
    assert!(out.frames.is_empty());
    // The group has no primary: wait, do not refuse.
    let out = give(&mut r, 0, &ip_frame(&tcp(80, TcpControl::Syn, None, &[])));
    assert!(out.inward.is_empty() && out.frames.is_empty());
    assert_eq!(r.counters().homeless, 1);
    r.set_active(0, false);
    assert!(give(&mut r, 0, &ip_frame(&syn)).inward.is_empty(), "a standby forwards nothing");
}

#[test]
fn refuses_ports_that_nobody_listens_on() {
    let mut r = active();
    introduce(&mut r);
    let packet = only_packet(&give(&mut r, 0, &ip_frame(&tcp(81, TcpControl::Syn, None, &[]))));
    let caps = ChecksumCapabilities::default();
    let repr = TcpRepr::parse(&TcpPacket::new_checked(&packet[20..]).unwrap(), &SERVICE.into(), &CLIENT.into(), &caps)
        .unwrap();
    assert_eq!(
        (repr.control, repr.seq_number, repr.ack_number),
        (TcpControl::Rst, TcpSeqNumber(0), Some(TcpSeqNumber(1001)))
    );
    assert_eq!((repr.src_port, repr.dst_port), (81, 5555));
    let packet = only_packet(&give(&mut r, 0, &ip_frame(&tcp(81, TcpControl::Psh, Some(77), b"abc"))));
    let repr = TcpRepr::parse(&TcpPacket::new_checked(&packet[20..]).unwrap(), &SERVICE.into(), &CLIENT.into(), &caps)
        .unwrap();
    assert_eq!((repr.control, repr.seq_number, repr.ack_number), (TcpControl::Rst, TcpSeqNumber(77), None));
    // Never a reset for a reset.
    assert!(give(&mut r, 0, &ip_frame(&tcp(81, TcpControl::Rst, Some(77), &[]))).frames.is_empty());
    let packet = only_packet(&give(&mut r, 0, &ip_frame(&udp(53))));
    let icmp = Icmpv4Packet::new_checked(&packet[20..]).unwrap();
    assert_eq!((icmp.msg_type(), icmp.msg_code()), (Icmpv4Message::DstUnreachable, 3));
    // A flood does not make us a source of one.
    let mut sent = 0;
    for _ in 0..1000 {
        sent += give(&mut r, MS, &ip_frame(&udp(53))).frames.len();
    }
    assert!(sent < 250, "{sent}");
    assert!(r.counters().muted > 700);
    assert_eq!(give(&mut r, 2000 * MS, &ip_frame(&udp(53))).frames.len(), 1, "the budget comes back");
}

#[test]
fn asks_for_unknown_neighbours_and_sends_what_waited() {
    let mut r = active();
    let answer = ip(SERVICE, CLIENT, IpProtocol::Tcp, &[0; 20]);
    let mut out = Output::default();
    for _ in 0..40 {
        r.send(0, answer.clone(), &mut out);
    }
    assert_eq!(out.frames.len(), 1, "one question for all");
    let (to, op, _, from, _, about) = parse_arp(&out.frames[0]);
    assert_eq!((to, op, from, about), (EthernetAddress::BROADCAST, ArpOperation::Request, SERVICE, CLIENT));
    assert_eq!(r.counters().unresolved, 40 - 16);
    let out = give(&mut r, MS, &arp(ArpOperation::Reply, HOST, CLIENT, SERVICE));
    assert_eq!(out.frames.len(), 16);
    assert!(out.frames.iter().all(|f| f[14..] == answer[..] && f[..6] == HOST.0 && f[6..12] == VIRTUAL.0));
    // A neighbour that moves is followed.
    let moved = EthernetAddress([2, 0, 0, 0, 0, 2]);
    give(&mut r, MS, &arp(ArpOperation::Request, moved, CLIENT, CLIENT));
    let mut out = Output::default();
    r.send(MS, answer.clone(), &mut out);
    assert_eq!(out.frames[0][..6], moved.0);
}

#[test]
fn gives_up_on_neighbours_that_do_not_answer() {
    let mut r = active();
    let mut out = Output::default();
    r.send(0, ip(SERVICE, CLIENT, IpProtocol::Tcp, &[0; 20]), &mut out);
    let mut now = 0;
    while let Some(at) = r.deadline() {
        assert!(at > now && now < 60_000 * MS);
        now = at;
        r.tick(now, &mut out);
    }
    assert_eq!(out.frames.len(), 4);
    assert_eq!(r.counters().unresolved, 1);
}

#[test]
fn asks_again_for_a_neighbour_not_heard_of_for_long_without_stopping_traffic() {
    let mut r = active();
    introduce(&mut r);
    let mut out = Output::default();
    r.send(100_000 * MS, ip(SERVICE, CLIENT, IpProtocol::Tcp, &[0; 20]), &mut out);
    assert_eq!(out.frames.len(), 1);
    assert_eq!(out.frames[0][..6], HOST.0);
    r.tick(100_000 * MS, &mut out);
    assert_eq!(parse_arp(&out.frames[1]).5, CLIENT);
    give(&mut r, 100_001 * MS, &arp(ArpOperation::Reply, HOST, CLIENT, SERVICE));
    assert_eq!(r.deadline(), None);
}

#[test]
fn off_link_peers_go_by_the_gateway() {
    let mut r = active();
    let mut out = Output::default();
    r.send(0, ip(SERVICE, [192, 0, 2, 1].into(), IpProtocol::Tcp, &[0; 20]), &mut out);
    assert_eq!(parse_arp(&out.frames[0]).5, GATEWAY);
    // What is not from the service address, or goes nowhere, is not sent.
    r.send(0, ip(CLIENT, HOST_B, IpProtocol::Tcp, &[0; 20]), &mut out);
    r.send(0, ip(SERVICE, [255, 255, 255, 255].into(), IpProtocol::Tcp, &[0; 20]), &mut out);
    r.send(0, vec![1, 2, 3], &mut out);
    assert_eq!(out.frames.len(), 1);
    assert_eq!(r.counters().malformed, 3);
}

const HOST_B: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

#[test]
fn malformed_and_fragmented_packets_are_dropped_and_counted() {
    let mut r = active();
    introduce(&mut r);
    let good = ip_frame(&tcp(6379, TcpControl::Syn, None, &[]));
    assert_eq!(give(&mut r, 0, &good).inward.len(), 1);
    let mut fragment = good.clone();
    let mut p = Ipv4Packet::new_unchecked(&mut fragment[14..]);
    p.set_more_frags(true);
    p.fill_checksum();
    assert!(give(&mut r, 0, &fragment).inward.is_empty());
    assert_eq!(r.counters().fragments, 1);
    let before = r.counters().malformed;
    let mut wrong_sum = good.clone();
    wrong_sum[24] ^= 1;
    assert!(give(&mut r, 0, &wrong_sum).inward.is_empty());
    for source in [SERVICE, [255; 4].into(), [0; 4].into(), [224, 0, 0, 1].into(), [127, 0, 0, 1].into()] {
        let frame = ip_frame(&ip(source, SERVICE, IpProtocol::Tcp, &good[34..]));
        assert!(give(&mut r, 0, &frame).inward.is_empty(), "{source}");
    }
    for len in 0..good.len() {
        assert!(give(&mut r, 0, &good[..len]).inward.is_empty(), "{len} bytes");
    }
    assert!(r.counters().malformed > before + 6);
}

#[test]
fn noise_never_panics_and_tables_stay_bounded() {
    let mut r = active();
    let mut rng = Rng(11);
    let templates = [
        arp(ArpOperation::Request, HOST, CLIENT, SERVICE),
        arp(ArpOperation::Reply, HOST, CLIENT, SERVICE),
        ip_frame(&tcp(6379, TcpControl::Syn, None, &[])),
        ip_frame(&tcp(81, TcpControl::None, Some(1), b"x")),
        ip_frame(&ping(SERVICE, b"0123")),
        ip_frame(&udp(53)),
    ];
    for i in 0..60_000 {
        let mut frame = templates[i % templates.len()].clone();
        for _ in 0..rng.below(4) {
            let at = rng.below(frame.len() as u64) as usize;
            frame[at] = rng.next() as u8;
        }
        if rng.percent(20) {
            frame.truncate(rng.below(frame.len() as u64) as usize);
        }
        let now = i as u64 * MS / 10;
        let out = give(&mut r, now, &frame);
        assert!(out.frames.len() <= 17);
        r.tick(now, &mut Output::default());
    }
    // Every address of the network asks us: the table keeps its bound and still works.
    for host in 1..=250u8 {
        let mac = EthernetAddress([2, 0, 0, 0, 1, host]);
        let from = Ipv4Addr::new(10, 77, 0, host);
        if from != SERVICE {
            give(&mut r, 10_000 * MS, &arp(ArpOperation::Request, mac, from, SERVICE));
        }
    }
    const { assert!(MAX_NEIGHBOURS >= 250) };
    introduce(&mut r);
}
