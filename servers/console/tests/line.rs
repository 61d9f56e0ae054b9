//! The multiplexer against a line in software.

use std::collections::VecDeque;
use std::ptr::NonNull;

use console::uart::Uart;
use console::{Console, Full};
use ipc_ring::{Duplex, Side};

/// A line whose FIFO has so much room until it is drained.
#[derive(Default)]
struct Line {
    room: usize,
    out: Vec<u8>,
    input: VecDeque<u8>,
    wants_room: bool,
}

impl Uart for Line {
    fn has_room(&self) -> bool {
        self.room > 0
    }
    fn put(&mut self, byte: u8) {
        self.room -= 1;
        self.out.push(byte);
    }
    fn get(&mut self) -> Option<u8> {
        self.input.pop_front()
    }
    fn want_room(&mut self, want: bool) {
        self.wants_room = want;
    }
}

struct World {
    console: Console<'static, Line>,
    clients: Vec<Duplex<'static>>,
}

impl World {
    fn new(clients: usize) -> Self {
        let mut world = World { console: Console::new(Line::default()), clients: vec![] };
        for _ in 0..clients {
            let base = NonNull::from(Box::leak(vec![0u64; 2048].into_boxed_slice())).cast();
            // SAFETY: leaked memory made for this, each side attached once.
            let [client, server] =
                [Side::Client, Side::Server].map(|side| unsafe { Duplex::attach(base, 16384, side) }.expect("large"));
            world.console.add_client(server).expect("few");
            world.clients.push(client);
        }
        world
    }

    fn line(&mut self, room: usize) -> Vec<u8> {
        self.console.uart().room = room;
        self.console.run();
        std::mem::take(&mut self.console.uart().out)
    }
}

fn frame(source: u8, body: &[u8]) -> Vec<u8> {
    [&[0, 0xfe, source], body, &[0]].concat()
}

#[test]
fn records_stay_whole_and_take_turns() {
    let mut world = World::new(3);
    for i in 1..=4u8 {
        for (source, client) in world.clients.iter_mut().enumerate().take(2) {
            client.tx.push(&[&frame(source as u8, &[i; 5])]).expect("room");
        }
    }
    world.clients[2].tx.push(&[b"plain\x00\x1b[31m text\n"]).expect("room");
    let expected = [
        frame(0, &[1; 5]),
        frame(1, &[1; 5]),
        b"plain  [31m text\n".to_vec(),
        frame(0, &[2; 5]),
        frame(1, &[2; 5]),
        frame(0, &[3; 5]),
        frame(1, &[3; 5]),
        frame(0, &[4; 5]),
        frame(1, &[4; 5]),
    ]
    .concat();
    // Sixteen bytes at a time, as the FIFO has.
    let mut out = Vec::new();
    while out.len() < expected.len() {
        let some = world.line(16);
        assert!(!some.is_empty() && world.console.uart().wants_room == (out.len() + some.len() < expected.len()));
        out.extend(some);
    }
    assert_eq!(out, expected);
    assert_eq!((world.console.counts().records, world.console.counts().sent), (9, expected.len() as u64));
}

#[test]
fn what_is_no_record_is_dropped() {
    let mut world = World::new(2);
    let bad: [&[u8]; 7] =
        [&[], &[0], &[0, 0xfe, 3], &[0, 0xfe, 3, 0, 1, 0], &[0, 0xfd, 3, 1, 0], &[0, 0xfe, 3, 1, 1], &[0; 600]];
    for record in bad {
        world.clients[0].tx.push(&[record]).expect("room");
    }
    world.clients[0].tx.push(&[&frame(3, &[1])]).expect("room");
    world.clients[0].tx.push(&[&frame(4, &[2])]).expect("room");
    world.clients[1].tx.push(&[&frame(0, &[1])]).expect("room");
    assert_eq!(world.line(1000), [frame(0, &[1]), frame(3, &[1])].concat());
    assert_eq!(world.console.counts().refused, 8, "another's source id too");
}

#[test]
fn a_full_line_holds_rings_back_and_loses_nothing() {
    let mut world = World::new(1);
    let (mut sent, mut out) = (Vec::new(), Vec::new());
    for i in 0..400u32 {
        let record = frame(7, &[(i % 255) as u8 + 1; 200]);
        while world.clients[0].tx.push(&[&record]).is_err() {
            let some = world.line(1000);
            assert!(!some.is_empty());
            out.extend(some);
        }
        sent.extend(record);
        world.line(0);
    }
    while out.len() < sent.len() {
        out.extend(world.line(4096));
    }
    assert_eq!(out, sent);
    assert!(!world.console.uart().wants_room);
}

#[test]
fn text_lines_and_their_limit() {
    let mut world = World::new(0);
    world.console.write_line("hello\x07").expect("room");
    assert_eq!(world.line(100), b"hello \r\n");
    let long = "x".repeat(254);
    for _ in 0..64 {
        world.console.write_line(&long).expect("room");
    }
    assert_eq!(world.console.write_line(""), Err(Full));
    assert_eq!(world.line(usize::MAX).len(), 64 * 256);
}

#[test]
fn input_waits_for_a_reader_within_bounds() {
    let mut world = World::new(0);
    world.console.uart().input.extend(b"status\r");
    world.line(0);
    let mut bytes = [0; 4];
    assert_eq!((world.console.read(&mut bytes), &bytes), (4, b"stat"));
    assert_eq!((world.console.read(&mut bytes), &bytes[..3]), (3, &b"us\r"[..]));
    assert_eq!(world.console.read(&mut bytes), 0);
    world.console.uart().input.extend([b'x'; 3000]);
    for _ in 0..3 {
        world.line(0);
    }
    assert_eq!((world.console.counts().received, world.console.counts().dropped_receive), (3007, 3000 - 1024));
    assert!(world.console.has_input());
}
