//! What the tests share: a seeded random source and a TCP client host (a second smoltcp) on an IP wire.
#![allow(dead_code)]

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};
use std::collections::VecDeque;
use std::net::Ipv4Addr;

pub const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 100);
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
pub const MS: u64 = 1_000_000;

/// xorshift64*: the only source of chance in a test, so that its seed replays it.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn percent(&mut self, p: u64) -> bool {
        self.below(100) < p
    }

    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }
}

pub struct Wire {
    medium: Medium,
    pub rx: VecDeque<Vec<u8>>,
    pub tx: VecDeque<Vec<u8>>,
}

pub struct Rx(Vec<u8>);
pub struct Tx<'a>(&'a mut VecDeque<Vec<u8>>);

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let r = f(&mut packet);
        self.0.push_back(packet);
        r
    }
}

impl Device for Wire {
    type RxToken<'t> = Rx;
    type TxToken<'t> = Tx<'t>;

    fn receive(&mut self, _: Instant) -> Option<(Rx, Tx<'_>)> {
        Some((Rx(self.rx.pop_front()?), Tx(&mut self.tx)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        Some(Tx(&mut self.tx))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut caps = DeviceCapabilities::default();
        caps.medium = self.medium;
        caps.max_transmission_unit = if self.medium == Medium::Ip { 1500 } else { 1514 };
        caps
    }
}

pub fn instant(now: u64) -> Instant {
    Instant::from_micros((now / 1000) as i64)
}

/// A host with TCP, at `address`.
pub struct Client {
    pub wire: Wire,
    iface: Interface,
    sockets: SocketSet<'static>,
    next_port: u16,
}

impl Client {
    pub fn new(address: Ipv4Addr, seed: u64) -> Client {
        Client::with(Medium::Ip, HardwareAddress::Ip, address, seed)
    }

    /// The same behind an Ethernet NIC.
    pub fn on_ethernet(address: Ipv4Addr, mac: EthernetAddress, seed: u64) -> Client {
        Client::with(Medium::Ethernet, HardwareAddress::Ethernet(mac), address, seed)
    }

    fn with(medium: Medium, hardware: HardwareAddress, address: Ipv4Addr, seed: u64) -> Client {
        let mut wire = Wire { medium, rx: VecDeque::new(), tx: VecDeque::new() };
        let mut config = Config::new(hardware);
        config.random_seed = seed;
        let mut iface = Interface::new(config, &mut wire, Instant::ZERO);
        iface.update_ip_addrs(|a| a.push(IpCidr::new(IpAddress::Ipv4(address), 24)).unwrap());
        Client { wire, iface, sockets: SocketSet::new(Vec::new()), next_port: 40_000 }
    }

    pub fn connect(&mut self, port: u16) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 16 * 1024]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        self.next_port += 1;
        socket.connect(self.iface.context(), (IpAddress::Ipv4(SERVICE), port), self.next_port).unwrap();
        self.sockets.add(socket)
    }

    pub fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    pub fn poll(&mut self, now: u64) {
        self.iface.poll(instant(now), &mut self.wire, &mut self.sockets);
    }
}
