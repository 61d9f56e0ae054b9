//! Three socket servers, the link between them, and a client outside: end to end.

mod common;

use common::*;
use smi_cluster::identity::External;
use smi_cluster::{Epoch, GroupId, NodeId, Vid};
use smi_socket::server::*;
use smi_socket::view::{Group, Port, View};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;
use smoltcp::wire::EthernetAddress;
use std::collections::BTreeMap;

const GROUP: GroupId = GroupId(9);
const SERVICE_VID: Vid = Vid(77);
const PORT: u16 = 6379;
const APP: ClientId = ClientId(3);
const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

/// The service on one node: answers each request of 8 bytes with 16.
#[derive(Default)]
struct App {
    listener: Option<Handle>,
    streams: BTreeMap<Handle, Vec<u8>>,
    peers: Vec<std::net::Ipv4Addr>,
}

impl App {
    fn run(&mut self, now: u64, server: &mut SocketServer) {
        let mut events = [Ready { handle: Handle(0), flags: 0 }; 3];
        loop {
            let n = match server.poll(APP, &mut events) {
                Ok(0) => return,
                Ok(n) => n,
                // Moved away: the supervisor would stop us.
                Err(_) => {
                    *self = App::default();
                    return;
                }
            };
            for e in &events[..n] {
                if Some(e.handle) == self.listener {
                    while let Ok(a) = server.accept(now, e.handle) {
                        self.streams.insert(a.handle, Vec::new());
                        self.peers.push(a.address);
                    }
                } else {
                    self.serve(now, server, e.handle);
                }
            }
        }
    }

    fn serve(&mut self, now: u64, server: &mut SocketServer, stream: Handle) {
        let held = self.streams.get_mut(&stream).expect("events are for our streams");
        let mut buffer = [0; 100];
        loop {
            match server.recv(now, stream, &mut buffer) {
                Ok(0) | Err(CallError::Reset) => {
                    server.close(now, stream).unwrap();
                    self.streams.remove(&stream);
                    return;
                }
                Ok(n) => held.extend_from_slice(&buffer[..n]),
                Err(CallError::WouldBlock) => break,
                Err(e) => panic!("{e:?}"),
            }
        }
        while held.len() >= 8 {
            let request: Vec<u8> = held.drain(..8).collect();
            let answer = [&request[..], &request[..]].concat();
            assert_eq!(server.send(now, stream, &answer), Ok(16));
        }
    }
}

struct Cluster {
    now: u64,
    rng: Rng,
    servers: BTreeMap<NodeId, SocketServer>,
    apps: BTreeMap<NodeId, App>,
    dead: Vec<NodeId>,
    /// Messages between nodes: when, from, to, bytes.
    link: Vec<(u64, NodeId, NodeId, Vec<u8>)>,
    /// Frames to the client and to the nodes.
    inward: Vec<(u64, Vec<u8>)>,
    outward: Vec<(u64, Vec<u8>)>,
    /// The switch: every node's frames reach the client; the client's reach every node.
    view: View,
    client: Client,
    arp_seen: usize,
    signalled: usize,
    /// Loses this percentage of messages between nodes.
    loss: u64,
}

impl Cluster {
    fn new(seed: u64) -> Cluster {
        let external =
            External { service: SERVICE.octets(), prefix: 24, gateway: [0; 4], virtual_mac: [0, 0, 0x5e, 0, 1, 0x4d] };
        let servers = NODES
            .map(|me| (me, SocketServer::new(ServerConfig { me, external, secret: [seed, 5], max_connections: 64 })))
            .into();
        let mut cluster = Cluster {
            now: MS,
            rng: Rng(seed),
            servers,
            apps: BTreeMap::new(),
            dead: Vec::new(),
            link: Vec::new(),
            inward: Vec::new(),
            outward: Vec::new(),
            view: View::empty(NodeId(1)),
            client: Client::on_ethernet(CLIENT, EthernetAddress([2, 0, 0, 0, 0, 1]), seed),
            arp_seen: 0,
            signalled: 0,
            loss: 0,
        };
        cluster.view.router = Some(NodeId(1));
        cluster.view.groups.insert(GROUP, Group { epoch: Epoch(1), primary: Some(NodeId(2)) });
        cluster.publish();
        cluster.start(NodeId(2));
        cluster
    }

    /// Every living node learns the table.
    fn publish(&mut self) {
        for (&me, server) in self.servers.iter_mut().filter(|(n, _)| !self.dead.contains(n)) {
            server.view(self.now, View { me, ..self.view.clone() });
        }
    }

    fn start(&mut self, node: NodeId) {
        let server = self.servers.get_mut(&node).unwrap();
        server.open(self.now, APP, SERVICE_VID, GROUP).unwrap();
        let listener = server.listen(self.now, APP, PORT, 16).unwrap();
        self.apps.insert(node, App { listener: Some(listener), ..App::default() });
    }

    fn step(&mut self) {
        self.now += MS / 2;
        let now = self.now;
        let due: Vec<_> = self.link.extract_if(.., |m| m.0 <= now).collect();
        let frames: Vec<_> = self.inward.extract_if(.., |m| m.0 <= now).collect();
        let mut adopted = None;
        for node in NODES.into_iter().filter(|n| !self.dead.contains(n)) {
            let server = self.servers.get_mut(&node).unwrap();
            let mut effects = Effects::default();
            for (_, frame) in &frames {
                server.frame(now, frame, &mut effects);
            }
            for (_, from, _, bytes) in due.iter().filter(|m| m.2 == node) {
                server.peer(now, *from, bytes, &mut effects);
            }
            server.flush(now, &mut effects);
            if let Some(app) = self.apps.get_mut(&node).filter(|_| effects.signals.contains(&APP)) {
                self.signalled += 1;
                app.run(now, server);
            }
            server.flush(now, &mut effects);
            for p in effects.proposals {
                let Proposal::Listen { port, vid } = p else { panic!("{p:?}") };
                assert_eq!((port, vid), (PORT, SERVICE_VID));
                adopted = Some(port);
            }
            for (to, message) in effects.peers {
                if !self.rng.percent(self.loss) {
                    self.link.push((now + MS / 4, node, to, message));
                }
            }
            self.arp_seen += effects.frames.iter().filter(|f| f[12..14] == [8, 6]).count();
            self.outward.extend(effects.frames.into_iter().map(|f| (now + MS / 10, f)));
        }
        if let Some(port) = adopted {
            self.view.ports.insert(port, Port { vid: SERVICE_VID, group: GROUP });
            self.publish();
        }
        let out: Vec<_> = self.outward.extract_if(.., |m| m.0 <= now).collect();
        self.client.wire.rx.extend(out.into_iter().map(|(_, f)| f));
        self.client.poll(now);
        self.inward.extend(self.client.wire.tx.drain(..).map(|f| (now + MS / 10, f)));
    }

    fn run_until(&mut self, what: &str, ms: u64, mut done: impl FnMut(&mut Cluster) -> bool) {
        let end = self.now + ms * MS;
        while !done(self) {
            assert!(self.now < end, "timed out: {what}");
            self.step();
        }
    }

    fn connect(&mut self) -> SocketHandle {
        let h = self.client.connect(PORT);
        self.run_until("connect", 8000, |c| c.client.socket(h).state() == State::Established);
        h
    }

    fn ask(&mut self, h: SocketHandle, ms: u64) {
        let request = self.rng.bytes(8);
        assert_eq!(self.client.socket(h).send_slice(&request), Ok(8));
        let mut got = Vec::new();
        self.run_until("answer", ms, |c| {
            let s = c.client.socket(h);
            if s.can_recv() {
                s.recv(|b| {
                    got.extend_from_slice(b);
                    (b.len(), ())
                })
                .unwrap();
            }
            got.len() >= 16
        });
        assert_eq!(got, [&request[..], &request[..]].concat());
    }
}

#[test]
fn a_client_talks_to_a_service_on_another_node_than_the_router() {
    let mut c = Cluster::new(1);
    let streams: Vec<_> = (0..10).map(|_| c.connect()).collect();
    for _ in 0..5 {
        for h in &streams {
            c.ask(*h, 100);
        }
    }
    assert!(c.apps[&NodeId(2)].peers.iter().all(|p| *p == CLIENT));
    assert_eq!(c.apps[&NodeId(2)].streams.len(), 10);
    let (_, counters, _) = c.servers[&NodeId(1)].counters();
    assert!(counters.forwarded > 100);
    for h in streams {
        c.client.socket(h).close();
    }
    c.run_until("all closed", 3000, |c| c.apps[&NodeId(2)].streams.is_empty());
    // The bystander said nothing.
    assert_eq!(c.servers[&NodeId(3)].counters().1, Counters::default());
}

#[test]
fn a_service_next_to_the_router_needs_no_link() {
    let mut c = Cluster::new(2);
    c.view.router = Some(NodeId(2));
    c.publish();
    let h = c.connect();
    c.ask(h, 100);
    assert_eq!(c.servers[&NodeId(2)].counters().1.forwarded, 0);
    assert!(c.link.is_empty());
}

#[test]
fn the_death_of_the_router_costs_packets_and_no_connection() {
    let mut c = Cluster::new(3);
    let h = c.connect();
    c.ask(h, 100);
    c.dead.push(NodeId(1));
    // The request falls into the gap.
    assert_eq!(c.client.socket(h).send_slice(b"01234567"), Ok(8));
    for _ in 0..100 {
        c.step();
    }
    let before = c.arp_seen;
    c.view.router = Some(NodeId(3));
    c.publish();
    c.run_until("answer", 3000, |c| c.client.socket(h).can_recv());
    let mut got = [0; 16];
    c.client.socket(h).recv_slice(&mut got).unwrap();
    assert_eq!(&got, b"0123456701234567");
    c.run_until("announcements", 2000, |c| c.arp_seen >= before + 5);
    c.ask(h, 100);
}

#[test]
fn a_zombie_router_and_a_zombie_primary_are_not_heard() {
    let mut c = Cluster::new(4);
    let h = c.connect();
    c.ask(h, 100);
    // Node 2 does not learn that it is no longer primary.
    let mut stale = c.servers.remove(&NodeId(2)).unwrap();
    c.dead.push(NodeId(2));
    c.view.groups.insert(GROUP, Group { epoch: Epoch(2), primary: Some(NodeId(3)) });
    c.publish();
    let mut effects = Effects::default();
    stale.flush(c.now + 60_000 * MS, &mut effects);
    assert!(!effects.peers.is_empty(), "it does speak");
    let router = c.servers.get_mut(&NodeId(1)).unwrap();
    let mut heard = Effects::default();
    for (to, message) in &effects.peers {
        assert_eq!(*to, NodeId(1));
        router.peer(c.now, NodeId(2), message, &mut heard);
    }
    assert!(heard.frames.is_empty());
    assert_eq!(router.counters().1.stale, effects.peers.len() as u64);
    // A fenced router is silent even for a current primary.
    router.fenced(c.now, true);
    router.flush(c.now + 10_000 * MS, &mut heard);
    assert!(heard.frames.is_empty());
}

#[test]
fn the_service_moves_and_clients_reach_it_again() {
    let mut c = Cluster::new(5);
    let old = c.connect();
    c.ask(old, 100);
    c.dead.push(NodeId(2));
    // Nobody knows of the death yet: what clients send is lost on its way.
    let new = c.client.connect(PORT);
    c.client.socket(old).send_slice(b"01234567").unwrap();
    for _ in 0..100 {
        c.step();
    }
    let router = c.servers[&NodeId(1)].counters().1;
    c.view.groups.insert(GROUP, Group { epoch: Epoch(2), primary: Some(NodeId(3)) });
    c.publish();
    for _ in 0..20 {
        c.step();
    }
    // The router repeats it to the new primary, where the service is still starting: nobody is refused.
    assert_eq!(c.servers[&NodeId(1)].counters().1.forwarded, router.forwarded + 2);
    assert_eq!(c.servers[&NodeId(3)].counters().1.no_stack, 2);
    assert_eq!(c.client.socket(new).state(), State::SynSent);
    c.start(NodeId(3));
    // As soon as it listens, without waiting for the client to try again: the new connection stands, the old one is reset.
    c.run_until("connect", 10, |c| c.client.socket(new).state() == State::Established);
    c.run_until("reset", 10, |c| c.client.socket(old).state() == State::Closed);
    c.ask(new, 200);
}

#[test]
fn a_replica_that_joins_raises_the_epoch_and_disturbs_nobody() {
    let mut c = Cluster::new(6);
    let h = c.connect();
    for epoch in 2..20 {
        c.view.groups.insert(GROUP, Group { epoch: Epoch(epoch), primary: Some(NodeId(2)) });
        // The primary learns it first, then last.
        let me = NodeId(if epoch % 2 == 0 { 2 } else { 1 });
        let view = View { me, ..c.view.clone() };
        c.servers.get_mut(&me).unwrap().view(c.now, view);
        c.ask(h, 50);
        c.publish();
        c.ask(h, 50);
    }
}

#[test]
fn a_moved_stack_is_torn_down_and_its_client_told() {
    let mut c = Cluster::new(7);
    let h = c.connect();
    c.ask(h, 100);
    let listener = c.apps[&NodeId(2)].listener.unwrap();
    let stream = *c.apps[&NodeId(2)].streams.keys().next().unwrap();
    c.view.groups.insert(GROUP, Group { epoch: Epoch(2), primary: Some(NodeId(3)) });
    c.publish();
    let now = c.now;
    let server = c.servers.get_mut(&NodeId(2)).unwrap();
    let mut effects = Effects::default();
    server.flush(now, &mut effects);
    assert!(effects.signals.contains(&APP));
    assert_eq!(server.poll(APP, &mut []), Err(CallError::NotHere));
    assert_eq!(server.recv(now, stream, &mut [0]), Err(CallError::BadObject));
    assert_eq!(server.accept(now, listener), Err(CallError::BadObject));
    assert_eq!(server.open(now, APP, SERVICE_VID, GROUP), Err(CallError::NotHere));
    assert_eq!(server.listen(now, APP, PORT, 4), Err(CallError::NotHere));
}

#[test]
fn a_restarted_client_begins_anew_and_a_port_has_one_owner() {
    let mut c = Cluster::new(8);
    let h = c.connect();
    c.ask(h, 100);
    let now = c.now;
    let server = c.servers.get_mut(&NodeId(2)).unwrap();
    let thief = ClientId(8);
    server.open(now, thief, Vid(1234), GROUP).unwrap();
    assert_eq!(server.listen(now, thief, PORT, 4), Err(CallError::PortInUse));
    // The same client after a crash: its streams are reset, its port is its own again.
    c.start(NodeId(2));
    let _ = c.client.socket(h).send_slice(b"01234567");
    c.run_until("reset", 3000, |c| c.client.socket(h).state() == State::Closed);
    let h = c.connect();
    c.ask(h, 100);
    // Another resource takes the port in the directory: the listener dies and says so.
    c.view.ports.insert(PORT, Port { vid: Vid(1234), group: GROUP });
    c.publish();
    let server = c.servers.get_mut(&NodeId(2)).unwrap();
    let mut events = [Ready { handle: Handle(0), flags: 0 }; 8];
    let n = server.poll(APP, &mut events).unwrap();
    let listener = c.apps[&NodeId(2)].listener.unwrap();
    assert!(events[..n].contains(&Ready { handle: listener, flags: Ready::CLOSED }));
    assert_eq!(server.accept(c.now, listener), Err(CallError::PortInUse));
}

#[test]
fn a_lossy_link_between_nodes_loses_no_bytes() {
    let mut c = Cluster::new(9);
    let streams: Vec<_> = (0..4).map(|_| c.connect()).collect();
    c.loss = 5;
    for _ in 0..25 {
        for h in &streams {
            c.ask(*h, 30_000);
        }
    }
}
