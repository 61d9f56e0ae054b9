//! The stack against a second TCP, over a wire that loses, delays and reorders.

mod common;

use common::*;
use smi_socket::stack::{Answer, Config, ConnId, Input, ListenerId, Packet, Stack, StackError, Touched};
use smoltcp::socket::tcp::State;
use std::collections::BTreeMap;

fn config() -> Config {
    Config::new(SERVICE, 24, [1, 2])
}

/// A stack that echoes every byte, and everything it was told, for a replica to be told again.
struct Echo {
    stack: Stack,
    listener: ListenerId,
    pending: BTreeMap<ConnId, Pending>,
    /// Answers only whole requests of this many bytes; 1 echoes at once.
    round: usize,
    out: Vec<Packet>,
    log: Vec<Logged>,
}

#[derive(Default)]
struct Pending {
    held: Vec<u8>,
    answering: bool,
    ended: bool,
}

#[derive(Clone, Debug)]
enum Logged {
    Packet(Vec<u8>),
    Poll,
    Accept,
    Recv(ConnId, usize),
    Send(ConnId, Vec<u8>),
    Close(ConnId),
}

struct Replayed {
    answers: Vec<Result<Answer, StackError>>,
    packets: Vec<Packet>,
}

fn feed(
    stack: &mut Stack,
    listener: ListenerId,
    now: u64,
    input: &Logged,
    out: &mut Vec<Packet>,
) -> Result<Answer, StackError> {
    let mut buffer = vec![0; 4096];
    let input = match input {
        Logged::Packet(p) => Input::Packet(p),
        Logged::Poll => Input::Poll,
        Logged::Accept => Input::Accept(listener),
        Logged::Recv(c, n) => Input::Recv(*c, &mut buffer[..*n]),
        Logged::Send(c, data) => Input::Send(*c, data),
        Logged::Close(c) => Input::Close(*c),
    };
    stack.step(now, input, out)
}

impl Echo {
    fn new(config: Config, backlog: usize, round: usize) -> Echo {
        let mut stack = Stack::new(config, 0);
        let listener = match stack.step(0, Input::Listen { port: 7, backlog }, &mut Vec::new()) {
            Ok(Answer::Listener(id)) => id,
            other => panic!("{other:?}"),
        };
        Echo { stack, listener, pending: BTreeMap::new(), round, out: Vec::new(), log: Vec::new() }
    }

    fn packet(&mut self, now: u64, packet: &[u8], times: &mut Vec<u64>) {
        times.push(now);
        self.log.push(Logged::Packet(packet.to_vec()));
        self.stack.step(now, Input::Packet(packet), &mut self.out).unwrap();
    }

    /// Serves whatever is ready, like a server's event loop would.
    fn serve(&mut self, now: u64, times: &mut Vec<u64>) {
        loop {
            times.push(now);
            self.log.push(Logged::Poll);
            self.stack.step(now, Input::Poll, &mut self.out).unwrap();
            let mut worked = false;
            while let Some(touched) = self.stack.take_touched() {
                worked |= match touched {
                    Touched::Listener(_) => self.accept(now, times),
                    Touched::Conn(id) => self.echo(now, id, times),
                };
            }
            if !worked {
                return;
            }
        }
    }

    fn accept(&mut self, now: u64, times: &mut Vec<u64>) -> bool {
        if !self.stack.acceptable(self.listener) {
            return false;
        }
        times.push(now);
        self.log.push(Logged::Accept);
        match self.stack.step(now, Input::Accept(self.listener), &mut self.out) {
            Ok(Answer::Accepted { conn, .. }) => self.pending.insert(conn, Pending::default()).is_none(),
            other => panic!("{other:?}"),
        }
    }

    fn echo(&mut self, now: u64, id: ConnId, times: &mut Vec<u64>) -> bool {
        let Some(p) = self.pending.get_mut(&id) else { return false };
        let mut worked = false;
        while self.stack.readiness(id).readable && p.held.len() < self.round.max(8192) && !p.ended {
            let mut buffer = [0; 1000];
            times.push(now);
            self.log.push(Logged::Recv(id, buffer.len()));
            match self.stack.step(now, Input::Recv(id, &mut buffer), &mut self.out) {
                Ok(Answer::Count(0)) => p.ended = true,
                Ok(Answer::Count(n)) => p.held.extend_from_slice(&buffer[..n]),
                other => panic!("{other:?}"),
            }
            worked = true;
        }
        p.answering |= p.ended || p.held.len() >= self.round;
        while p.answering && !p.held.is_empty() {
            times.push(now);
            self.log.push(Logged::Send(id, p.held.clone()));
            match self.stack.step(now, Input::Send(id, &p.held), &mut self.out) {
                Ok(Answer::Count(n)) => drop(p.held.drain(..n)),
                Err(StackError::WouldBlock) => break,
                other => panic!("{other:?}"),
            }
            worked = true;
        }
        p.answering &= !p.held.is_empty();
        if p.ended && p.held.is_empty() {
            times.push(now);
            self.log.push(Logged::Close(id));
            self.stack.step(now, Input::Close(id), &mut self.out).unwrap();
            self.pending.remove(&id);
        }
        worked
    }
}

/// Runs `conns` clients that each send `bytes` in requests of `round` and compare what comes back; loses `loss` percent each way.
///
/// With loss, requests and answers must alternate: smoltcp 0.14 at *both* ends can wait for ever when both have to retransmit at
/// once, because its pure acknowledgements then carry a rewound sequence number (other peers do not do that).
fn echo_run(seed: u64, conns: usize, bytes: usize, round: usize, loss: u64) -> (Echo, Vec<u64>, Vec<Packet>) {
    let mut rng = Rng(seed);
    let mut server = Echo::new(config(), 64, round);
    let mut times = Vec::new();
    let mut emitted = Vec::new();
    let mut client = Client::new(CLIENT, seed);
    let handles: Vec<_> = (0..conns).map(|_| client.connect(7)).collect();
    let payload: Vec<Vec<u8>> = (0..conns).map(|_| rng.bytes(bytes)).collect();
    let mut sent = vec![0; conns];
    let mut received = vec![Vec::new(); conns];
    let mut flight: Vec<(u64, bool, Vec<u8>)> = Vec::new();
    let mut now = 0;
    while received.iter().any(|r| r.len() < bytes) || handles.iter().any(|h| client.socket(*h).state() != State::Closed)
    {
        now += 200_000 + rng.below(MS);
        assert!(now < 600_000 * MS, "stalled: {:?}", received.iter().map(Vec::len).collect::<Vec<_>>());
        let due: Vec<_> = flight.extract_if(.., |(at, _, _)| *at <= now).collect();
        for (_, to_server, packet) in due {
            if to_server {
                server.packet(now, &packet, &mut times);
            } else {
                client.wire.rx.push_back(packet);
            }
        }
        server.serve(now, &mut times);
        client.poll(now);
        for (i, h) in handles.iter().enumerate() {
            let socket = client.socket(*h);
            let allowed = if round == 1 { bytes } else { bytes.min((received[i].len() / round + 1) * round) };
            if socket.can_send() && sent[i] < allowed {
                sent[i] += socket.send_slice(&payload[i][sent[i]..allowed]).unwrap();
            }
            while socket.can_recv() {
                socket.recv(|b| (received[i].extend_from_slice(b), b.len()).into_count()).unwrap();
            }
            if sent[i] == bytes && received[i].len() == bytes {
                socket.close();
            }
        }
        client.poll(now);
        emitted.extend(server.out.iter().cloned());
        let out: Vec<_> =
            server.out.drain(..).map(|p| (false, p)).chain(client.wire.tx.drain(..).map(|p| (true, p))).collect();
        for (to_server, packet) in out {
            if !rng.percent(loss) {
                flight.push((now + 100_000 + rng.below(3 * MS), to_server, packet));
            }
        }
    }
    for i in 0..conns {
        assert!(received[i] == payload[i], "stream {i} came back changed");
    }
    (server, times, emitted)
}

trait IntoCount {
    fn into_count(self) -> (usize, ());
}

impl IntoCount for ((), usize) {
    fn into_count(self) -> (usize, ()) {
        (self.1, ())
    }
}

#[test]
fn echoes_many_streams_over_a_lossy_wire() {
    for seed in 1..=8 {
        let (round, loss) = if seed % 2 == 0 { (1, 0) } else { (10_000, 3) };
        let (mut server, _, _) = echo_run(seed, 12, 40_000, round, loss);
        // Both sides closed: what is left goes by timers alone.
        server.stack.step(u64::MAX / 4, Input::Poll, &mut Vec::new()).unwrap();
        assert_eq!(server.stack.connections(), 0);
        assert_eq!(server.stack.counters().established, 12);
    }
}

fn replay(server: &Echo, times: &[u64], skew: u64) -> Replayed {
    let mut twin = Echo::new(config(), 64, server.round);
    let mut replayed = Replayed { answers: Vec::new(), packets: Vec::new() };
    assert_eq!(server.log.len(), times.len());
    for (input, at) in server.log.iter().zip(times) {
        replayed.answers.push(feed(&mut twin.stack, twin.listener, at + skew, input, &mut replayed.packets));
    }
    replayed
}

#[test]
fn a_replica_that_is_told_the_same_says_the_same() {
    let (server, times, emitted) = echo_run(99, 5, 30_000, 10_000, 3);
    let twin = replay(&server, &times, 0);
    assert!(twin.answers.iter().all(|a| a.is_ok() || *a == Err(StackError::WouldBlock)));
    assert_eq!(emitted.len(), twin.packets.len());
    assert!(emitted == twin.packets, "replicas diverged");
}

#[test]
fn initial_sequence_numbers_depend_on_the_secret() {
    let syn_ack = |seed| {
        let mut stack = Stack::new(Config::new(SERVICE, 24, seed), 0);
        stack.step(0, Input::Listen { port: 7, backlog: 4 }, &mut Vec::new()).unwrap();
        let mut client = Client::new(CLIENT, 1);
        client.connect(7);
        client.poll(0);
        let mut out = Vec::new();
        stack.step(0, Input::Packet(&client.wire.tx[0]), &mut out).unwrap();
        stack.step(0, Input::Poll, &mut out).unwrap();
        assert_eq!(out.len(), 1);
        out.remove(0)[24..28].to_vec()
    };
    assert_eq!(syn_ack([1, 2]), syn_ack([1, 2]));
    assert_ne!(syn_ack([1, 2]), syn_ack([1, 3]));
}

/// Lets client and stack talk over a perfect wire until both are quiet.
fn settle(stack: &mut Stack, client: &mut Client, now: u64) {
    for _ in 0..100 {
        client.poll(now);
        let mut out = Vec::new();
        while let Some(p) = client.wire.tx.pop_front() {
            stack.step(now, Input::Packet(&p), &mut out).unwrap();
        }
        stack.step(now, Input::Poll, &mut out).unwrap();
        if out.is_empty() {
            return;
        }
        client.wire.rx.extend(out);
    }
    panic!("never quiet");
}

fn listening(config: Config, backlog: usize) -> (Stack, ListenerId) {
    let mut stack = Stack::new(config, 0);
    match stack.step(0, Input::Listen { port: 7, backlog }, &mut Vec::new()) {
        Ok(Answer::Listener(id)) => (stack, id),
        other => panic!("{other:?}"),
    }
}

fn accept(stack: &mut Stack, id: ListenerId) -> Result<ConnId, StackError> {
    match stack.step(0, Input::Accept(id), &mut Vec::new())? {
        Answer::Accepted { conn, address, .. } => {
            assert_eq!(address, CLIENT);
            Ok(conn)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn serves_256_connections_at_once_and_reports_each() {
    let (mut stack, listener) = listening(config(), 256);
    let mut client = Client::new(CLIENT, 3);
    let handles: Vec<_> = (0..256).map(|_| client.connect(7)).collect();
    settle(&mut stack, &mut client, MS);
    assert_eq!(stack.connections(), 256);
    let conns: Vec<_> = (0..256).map(|_| accept(&mut stack, listener).unwrap()).collect();
    assert_eq!(accept(&mut stack, listener), Err(StackError::WouldBlock));
    while stack.take_touched().is_some() {}
    for h in handles.iter().step_by(2) {
        client.socket(*h).send_slice(b"hello").unwrap();
    }
    settle(&mut stack, &mut client, 2 * MS);
    let mut readable = 0;
    while let Some(Touched::Conn(id)) = stack.take_touched() {
        readable += stack.readiness(id).readable as usize;
    }
    assert_eq!(readable, 128);
    assert_eq!(conns.iter().filter(|c| stack.readiness(**c).readable).count(), 128);
    // One more does not fit and is not answered at all.
    let extra = client.connect(7);
    settle(&mut stack, &mut client, 3 * MS);
    assert_eq!(client.socket(extra).state(), State::SynSent);
    assert_eq!(stack.counters().refused, 1);
    // A connection that we closed makes room.
    stack.step(4 * MS, Input::Close(conns[0]), &mut Vec::new()).unwrap();
    settle(&mut stack, &mut client, 1500 * MS);
    assert_eq!(client.socket(extra).state(), State::Established);
}

#[test]
fn a_backlog_is_a_bound_and_a_flood_evicts_the_oldest_handshake() {
    let (mut stack, listener) = listening(config(), 3);
    // Five hosts that never answer the SYN-ACK.
    for host in 10..15 {
        let mut silent = Client::new([10, 77, 0, host].into(), host as u64);
        silent.connect(7);
        silent.poll(0);
        stack.step(0, Input::Packet(&silent.wire.tx[0]), &mut Vec::new()).unwrap();
    }
    assert_eq!(stack.connections(), 3);
    assert_eq!(stack.counters().evicted, 2);
    let mut client = Client::new(CLIENT, 3);
    let mut handles: Vec<_> = (0..3).map(|_| client.connect(7)).collect();
    settle(&mut stack, &mut client, MS);
    handles.push(client.connect(7));
    settle(&mut stack, &mut client, MS);
    let established = handles.iter().filter(|h| client.socket(**h).state() == State::Established).count();
    assert_eq!(established, 3);
    assert_eq!(stack.counters().refused, 1);
    for _ in 0..3 {
        accept(&mut stack, listener).unwrap();
    }
    settle(&mut stack, &mut client, 1500 * MS);
    assert!(handles.iter().all(|h| client.socket(*h).state() == State::Established));
}

#[test]
fn ports_without_a_listener_and_unknown_connections_are_reset() {
    let (mut stack, listener) = listening(config(), 3);
    let mut client = Client::new(CLIENT, 3);
    let refused = client.connect(8);
    settle(&mut stack, &mut client, MS);
    assert_eq!(client.socket(refused).state(), State::Closed);
    // A connection made with an earlier stack.
    let old = client.connect(7);
    settle(&mut stack, &mut client, MS);
    accept(&mut stack, listener).unwrap();
    let (mut fresh, _) = listening(config(), 3);
    client.socket(old).send_slice(b"are you there?").unwrap();
    settle(&mut fresh, &mut client, 2 * MS);
    assert_eq!(client.socket(old).state(), State::Closed);
    assert_eq!(fresh.connections(), 0);
}

#[test]
fn closing_a_listener_resets_what_nobody_accepted_and_frees_the_port() {
    let (mut stack, listener) = listening(config(), 3);
    assert_eq!(stack.step(0, Input::Listen { port: 7, backlog: 1 }, &mut Vec::new()), Err(StackError::PortInUse));
    assert_eq!(stack.step(0, Input::Listen { port: 0, backlog: 1 }, &mut Vec::new()), Err(StackError::BadPort));
    let mut client = Client::new(CLIENT, 3);
    let (kept, orphan) = (client.connect(7), client.connect(7));
    settle(&mut stack, &mut client, MS);
    let conn = accept(&mut stack, listener).unwrap();
    stack.step(MS, Input::Unlisten(listener), &mut Vec::new()).unwrap();
    settle(&mut stack, &mut client, 2 * MS);
    assert_eq!(client.socket(orphan).state(), State::Closed);
    assert_eq!(client.socket(kept).state(), State::Established);
    assert_eq!(stack.connections(), 1);
    assert_eq!(stack.step(0, Input::Accept(listener), &mut Vec::new()), Err(StackError::Unknown));
    stack.step(0, Input::Listen { port: 7, backlog: 1 }, &mut Vec::new()).unwrap();
    stack.step(3 * MS, Input::Abort(conn), &mut Vec::new()).unwrap();
    settle(&mut stack, &mut client, 3 * MS);
    assert_eq!(client.socket(kept).state(), State::Closed);
    assert_eq!(stack.step(0, Input::Recv(conn, &mut [0]), &mut Vec::new()), Err(StackError::Unknown));
}

#[test]
fn a_peer_that_vanishes_is_given_up() {
    let (mut stack, listener) = listening(config(), 3);
    let mut client = Client::new(CLIENT, 3);
    client.connect(7);
    settle(&mut stack, &mut client, MS);
    let conn = accept(&mut stack, listener).unwrap();
    let mut now = 2 * MS;
    let mut probes = Vec::new();
    while !stack.readiness(conn).closed {
        stack.step(now, Input::Poll, &mut probes).unwrap();
        now = stack.deadline().map_or(u64::MAX, |d| d.max(now + 1000));
        eprintln!("{now} {:?} {}", stack.readiness(conn), probes.len());
        assert!(now < 400_000 * MS || stack.readiness(conn).closed, "still waiting");
    }
    assert!(probes.len() >= 3, "it asked before giving up");
    assert_eq!(stack.step(now, Input::Send(conn, b"x"), &mut Vec::new()), Err(StackError::Reset));
    stack.step(now, Input::Close(conn), &mut Vec::new()).unwrap();
    stack.step(now, Input::Poll, &mut Vec::new()).unwrap();
    assert_eq!(stack.connections(), 0);
}

#[test]
fn nonsense_from_the_wire_changes_nothing() {
    let (mut stack, _) = listening(config(), 3);
    let mut client = Client::new(CLIENT, 3);
    client.connect(7);
    client.poll(0);
    let syn = client.wire.tx[0].clone();
    let mut rng = Rng(5);
    let mut out = Vec::new();
    for _ in 0..20_000 {
        let mut bad = syn.clone();
        for _ in 0..1 + rng.below(3) {
            let at = rng.below(bad.len() as u64) as usize;
            bad[at] ^= 1 << rng.below(8);
        }
        bad.truncate(rng.below(bad.len() as u64 + 1) as usize);
        stack.step(0, Input::Packet(&bad), &mut out).unwrap();
        stack.step(0, Input::Packet(&rng.bytes(60)), &mut out).unwrap();
    }
    stack.step(0, Input::Poll, &mut out).unwrap();
    assert_eq!(stack.counters().established, 0);
    assert!(stack.connections() <= 3);
}
