//! Driver and clients against a disk in software: windows, restarts of either side, fairness, refusals.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ptr::NonNull;

use block::disk::Disk;
use block::service::{Service, Window};
use block::{BLOCK_SIZE, BlockClient, Event, MAX_PENDING, Op, Reply, Request, Status, SubmitError, Token};
use ipc_ring::{Duplex, Side};
use ipc_wire::CellSession;
use virtio::fake;

type Client = BlockClient<'static, CellSession<'static>>;

fn leak(len: usize) -> &'static [Cell<u8>] {
    Cell::from_mut(&mut *Box::leak(vec![0u8; len].into_boxed_slice())).as_slice_of_cells()
}

/// A channel's memory.
#[derive(Clone, Copy)]
struct Channel {
    ring: (NonNull<u8>, usize),
    data: &'static [Cell<u8>],
    window: Window,
}

impl Channel {
    fn new(window: Window, ring: usize, slots: usize) -> Self {
        let words = Box::leak(vec![0u64; ring / 8].into_boxed_slice());
        Self { ring: (NonNull::from(words).cast(), ring), data: leak(slots * BLOCK_SIZE), window }
    }

    fn attach(&self, side: Side) -> Duplex<'static> {
        // SAFETY: leaked memory made for this; tests drop a side before they attach it anew.
        unsafe { Duplex::attach(self.ring.0, self.ring.1, side) }.expect("large enough")
    }

    fn client(&self) -> Client {
        BlockClient::new(self.attach(Side::Client), CellSession::from_cells(self.data))
    }
}

/// The disk behind the device.
struct Medium {
    blocks: BTreeMap<u64, Vec<u8>>,
    flushes: u32,
    fail: Option<u64>,
}

struct World {
    device: &'static fake::Device,
    medium: Medium,
    ring: fake::Ring,
    waiting: Vec<fake::Chain>,
    service: Service<'static, &'static fake::Device, CellSession<'static>>,
    channels: Vec<Channel>,
    signals: Vec<usize>,
}

const DISK_BLOCKS: u64 = 2000;

fn start(
    device: &'static fake::Device,
    channels: &[Channel],
) -> Service<'static, &'static fake::Device, CellSession<'static>> {
    let disk = Disk::open(device, fake::memory(300 * BLOCK_SIZE)).expect("opens");
    let mut service = Service::new(disk);
    for channel in channels {
        let data = CellSession::from_cells(channel.data);
        service.add_client(channel.attach(Side::Server), data, channel.window).expect("few clients");
    }
    service
}

impl World {
    fn new(channels: Vec<Channel>, features: u64) -> Self {
        let config = (DISK_BLOCKS * 8 + 5).to_le_bytes();
        let device: &'static fake::Device = Box::leak(Box::new(fake::Device::new(2, features).with_config(&config)));
        let service = start(device, &channels);
        let (addresses, size) = device.queue(0).expect("set up");
        let medium = Medium { blocks: BTreeMap::new(), flushes: 0, fail: None };
        let ring = fake::Ring::new(addresses, size);
        Self { device, medium, ring, waiting: vec![], service, channels, signals: vec![] }
    }

    /// Two windows, flush offered.
    fn usual() -> Self {
        let one = Channel::new(Window { first: 8, blocks: 100 }, 16 * 1024, 64);
        let two = Channel::new(Window { first: 108, blocks: u64::MAX }, 16 * 1024, 128);
        Self::new(vec![one, two], 1 << 9)
    }

    fn run(&mut self) {
        let signals = &mut self.signals;
        self.service.run(|client| signals.push(client)).expect("the device is sane");
        while let Some(chain) = self.ring.take() {
            self.waiting.push(chain);
        }
    }

    /// Lets the device do the `index`-th of what it has.
    fn execute(&mut self, index: usize) {
        let chain = self.waiting.remove(index);
        let header = &chain.reads[0];
        let kind = u32::from_le_bytes(header[..4].try_into().expect("4"));
        let sector = u64::from_le_bytes(header[8..].try_into().expect("8"));
        let first = sector / 8;
        let mut out = Vec::new();
        let failed = self.medium.fail == Some(first);
        match kind {
            0 => {
                for i in 0..chain.writes.len() as u64 - 1 {
                    let zero = vec![0; BLOCK_SIZE];
                    out.extend(self.medium.blocks.get(&(first + i)).unwrap_or(&zero));
                }
            }
            1 => {
                for (i, bytes) in chain.reads[1..].iter().enumerate().filter(|_| !failed) {
                    assert!(first + (i as u64) < DISK_BLOCKS);
                    self.medium.blocks.insert(first + i as u64, bytes.clone());
                }
            }
            4 => self.medium.flushes += 1,
            _ => panic!("request type {kind}"),
        }
        out.push(u8::from(failed));
        self.ring.put(&chain, &out);
        self.device.interrupt();
        self.service.acknowledge();
    }

    fn settle(&mut self) {
        self.run();
        while !self.waiting.is_empty() {
            self.execute(0);
            self.run();
        }
    }

    /// Kills the driver and starts it anew; what the device had is done or forgotten, as `done` says.
    fn restart(&mut self, done: bool) {
        while done && !self.waiting.is_empty() {
            self.execute(0);
        }
        self.waiting.clear();
        self.service = start(self.device, &self.channels);
        let (addresses, size) = self.device.queue(0).expect("set up");
        self.ring = fake::Ring::new(addresses, size);
    }
}

fn events(client: &mut Client) -> Vec<Event> {
    std::iter::from_fn(|| client.poll()).collect()
}

/// A client that is ready.
fn ready(world: &mut World, channel: usize) -> Client {
    let mut client = world.channels[channel].client();
    assert_eq!(client.read(0, 1), Err(SubmitError::NotReady));
    assert!(client.wants_signal());
    world.settle();
    assert!(matches!(events(&mut client)[..], [Event::Ready(_)]));
    client
}

fn block(byte: u8) -> Vec<u8> {
    vec![byte; BLOCK_SIZE]
}

#[test]
fn blocks_go_there_and_back() {
    let mut world = World::usual();
    let mut client = ready(&mut world, 0);
    let data: Vec<u8> = (0..3 * BLOCK_SIZE).map(|i| (i / 7) as u8).collect();
    let write = client.write(5, &data).expect("room");
    world.settle();
    assert_eq!(events(&mut client), [Event::Done(write, Ok(()))]);
    assert_eq!(world.medium.blocks[&(8 + 6)], data[BLOCK_SIZE..2 * BLOCK_SIZE]);
    let flush = client.flush().expect("room");
    world.settle();
    assert_eq!((events(&mut client), world.medium.flushes), (vec![Event::Done(flush, Ok(()))], 1));
    let read = client.read(5, 3).expect("room");
    world.settle();
    assert_eq!(events(&mut client), [Event::Done(read, Ok(()))]);
    assert_eq!(client.blocks_of(read), Some(3));
    let mut back = vec![0; 3 * BLOCK_SIZE];
    assert!(!client.take(read, &mut back[1..]), "wrong size");
    assert!(client.take(read, &mut back));
    assert_eq!(back, data);
    assert!(!client.take(read, &mut back), "only once");
    assert_eq!(client.pending(), 0);
    let counts = world.service.counts();
    assert_eq!((counts.blocks_read, counts.blocks_written, counts.flushes, counts.refused), (3, 3, 1, 0));
}

#[test]
fn ready_tells_the_window() {
    let mut world = World::usual();
    let mut client = world.channels[1].client();
    world.settle();
    let [Event::Ready(geometry)] = events(&mut client)[..] else { panic!("one event") };
    assert_eq!((geometry.blocks, geometry.max_blocks), (DISK_BLOCKS - 108, 64));
    assert!(geometry.cached && !geometry.read_only);
}

#[test]
fn windows_are_enforced() {
    let mut world = World::usual();
    let mut client = ready(&mut world, 0);
    for (first, count) in [(100, 1), (99, 2), (u64::MAX, 1), (u64::MAX - 3, 4), (DISK_BLOCKS, 1)] {
        let token = client.write(first, &block(1).repeat(count)).expect("room");
        world.settle();
        assert_eq!(events(&mut client), [Event::Done(token, Err(Status::OutOfWindow))], "{first} {count}");
    }
    assert!(world.medium.blocks.is_empty());
    assert_eq!(world.service.counts().refused, 5);
    let last = client.write(98, &block(1).repeat(2)).expect("room");
    world.settle();
    assert_eq!(events(&mut client), [Event::Done(last, Ok(()))]);
    assert_eq!(world.medium.blocks.keys().copied().collect::<Vec<_>>(), [106, 107]);
}

#[test]
fn sizes_are_checked_by_both_sides() {
    let mut world = World::usual();
    let mut client = ready(&mut world, 0);
    assert_eq!(client.read(0, 0), Err(SubmitError::BadSize));
    assert_eq!(client.read(0, 65), Err(SubmitError::BadSize));
    assert_eq!(client.write(0, &[0; 100]), Err(SubmitError::BadSize));
    assert_eq!(client.write(0, &[]), Err(SubmitError::BadSize));
    // A client that lies, speaking the protocol by hand.
    let mut ring = world.channels[0].attach(Side::Client);
    let hello = Request::Hello { session: 7 };
    let submit = |op, block, count, slot| Request::Submit { token: 1, op, block, count, slot };
    let bad = [
        submit(Op::Read, 0, 0, 0),
        submit(Op::Read, 0, 65, 0),
        submit(Op::Write, 0, u32::MAX, 0),
        submit(Op::Read, 0, 1, 64),
        submit(Op::Read, 0, 2, 63),
        submit(Op::Write, 0, 2, u32::MAX),
        submit(Op::Flush, 1, 0, 0),
        submit(Op::Flush, 0, 1, 0),
    ];
    for request in [hello].iter().chain(&bad) {
        ring.tx.push(&[&request.encode()]).expect("room");
    }
    ring.tx.push(&[b"nonsense"]).expect("room");
    ring.tx.push(&[&[0xff; 200]]).expect("room");
    world.settle();
    let mut record = [0; 64];
    let mut statuses = Vec::new();
    while let Some(len) = ring.rx.pop(&mut record) {
        match Reply::decode(&record[..len.expect("sane")]).expect("sane") {
            Reply::Ready { session, .. } => assert_eq!(session, 7),
            Reply::Done { status, .. } => statuses.push(status),
        }
    }
    assert_eq!(statuses, [Status::BadRequest; 8]);
    assert_eq!(world.service.counts().refused, 10);
    assert!(world.waiting.is_empty());
}

#[test]
fn media_errors_are_told() {
    let mut world = World::usual();
    let mut client = ready(&mut world, 0);
    world.medium.fail = Some(8 + 3);
    let (bad, good) = (client.read(3, 1).expect("room"), client.read(4, 1).expect("room"));
    world.settle();
    assert_eq!(events(&mut client), [Event::Done(bad, Err(Status::Media)), Event::Done(good, Ok(()))]);
    client.forget(good);
    assert_eq!((client.pending(), world.service.counts().errors), (0, 1));
}

#[test]
fn read_only_and_uncached_disks() {
    let channel = Channel::new(Window { first: 0, blocks: 10 }, 16 * 1024, 8);
    let mut world = World::new(vec![channel], 1 << 5);
    let mut client = ready(&mut world, 0);
    let write = client.write(0, &block(1)).expect("room");
    let flush = client.flush().expect("room");
    world.settle();
    let expected = [Event::Done(write, Err(Status::ReadOnly)), Event::Done(flush, Ok(()))];
    assert_eq!((&events(&mut client)[..], world.medium.flushes), (&expected[..], 0));
}

#[test]
fn a_greedy_client_does_not_starve_the_other() {
    let mut world = World::usual();
    let (mut greedy, mut other) = (ready(&mut world, 0), ready(&mut world, 1));
    let tokens: Vec<Token> = (0..MAX_PENDING as u64).map(|i| greedy.read(i, 1).expect("room")).collect();
    assert_eq!(greedy.flush(), Err(SubmitError::Full));
    world.run();
    assert_eq!(world.waiting.len(), 16, "half of the device");
    let token = other.read(0, 1).expect("room");
    world.run();
    world.execute(16);
    world.run();
    assert_eq!(events(&mut other), [Event::Done(token, Ok(()))]);
    world.settle();
    let done: Vec<Event> = tokens.iter().map(|token| Event::Done(*token, Ok(()))).collect();
    assert_eq!(events(&mut greedy), done);
}

#[test]
fn a_client_that_does_not_read_answers_holds_up_only_itself() {
    let slow = Channel::new(Window { first: 0, blocks: 10 }, 1024, 8);
    let fast = Channel::new(Window { first: 10, blocks: 10 }, 16 * 1024, 8);
    let mut world = World::new(vec![slow, fast], 1 << 9);
    let (mut slow, mut fast) = (ready(&mut world, 0), ready(&mut world, 1));
    let mut done = 0;
    for round in 0..60 {
        while slow.flush().is_ok() {}
        world.settle();
        let token = fast.flush().expect("room");
        world.settle();
        assert_eq!(events(&mut fast), [Event::Done(token, Ok(()))], "round {round}");
    }
    for _ in 0..100 {
        done += events(&mut slow).len();
        world.settle();
    }
    assert_eq!((done, slow.pending()), (MAX_PENDING, 0));
}

#[test]
fn a_restarted_driver_loses_nothing() {
    for done_by_device in [false, true] {
        let mut world = World::usual();
        let mut client = ready(&mut world, 0);
        let first = client.write(1, &block(1)).expect("room");
        world.settle();
        assert_eq!(events(&mut client), [Event::Done(first, Ok(()))]);
        let (second, third) = (client.write(2, &block(2)).expect("room"), client.read(1, 1).expect("room"));
        world.run();
        world.restart(done_by_device);
        // One that is submitted between the driver's start and the client's notice must not come first.
        let fourth = client.flush().expect("room");
        world.settle();
        assert_eq!(world.medium.flushes, 0, "in front of Hello: ignored");
        assert!(world.signals.contains(&0), "the client is told of the new driver");
        assert_eq!(events(&mut client), []);
        world.settle();
        let [Event::Ready(_), rest @ ..] = &events(&mut client)[..] else { panic!("ready first") };
        assert_eq!(rest, [second, third, fourth].map(|token| Event::Done(token, Ok(()))));
        let mut back = block(0);
        assert!(client.take(third, &mut back));
        assert_eq!((back, &world.medium.blocks[&(8 + 2)]), (block(1), &block(2)));
        assert_eq!((client.pending(), world.device.resets()), (0, 2));
    }
}

#[test]
fn a_restarted_client_meets_no_leftovers() {
    let mut world = World::usual();
    let mut old = ready(&mut world, 0);
    old.write(1, &block(1)).expect("room");
    old.read(1, 1).expect("room");
    world.run();
    // Another that the driver has not seen when its client dies.
    old.write(2, &block(2)).expect("room");
    let mut new = world.channels[0].client();
    world.run();
    assert_eq!(events(&mut new), [], "not ready while something of the old one is with the device");
    assert_eq!(new.write(1, &block(9)), Err(SubmitError::NotReady));
    while !world.waiting.is_empty() {
        world.execute(world.waiting.len() - 1);
        world.run();
    }
    assert!(matches!(events(&mut new)[..], [Event::Ready(_)]));
    assert!(world.channels[0].data[BLOCK_SIZE].get() == 0, "the old read did not touch the data area");
    let token = new.write(1, &block(9)).expect("room");
    world.settle();
    assert_eq!(events(&mut new), [Event::Done(token, Ok(()))]);
    assert_eq!(world.medium.blocks[&9], block(9));
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % bound
    }
}

/// What one client knows of its blocks.
struct Model {
    client: Client,
    /// Acknowledged content by block.
    known: BTreeMap<u64, u8>,
    /// Writes under way: block and content. Nothing else touches these blocks meanwhile.
    writes: BTreeMap<Token, (u64, u8)>,
    reads: BTreeMap<Token, u64>,
}

impl Model {
    fn step(&mut self, random: &mut Random) {
        let at = random.below(20);
        let busy = self.writes.values().any(|(block, _)| *block == at) || self.reads.values().any(|block| *block == at);
        let byte = random.below(255) as u8 + 1;
        match random.below(4) {
            0 | 1 if !busy => {
                if let Ok(token) = self.client.write(at, &block(byte)) {
                    self.writes.insert(token, (at, byte));
                }
            }
            2 if !busy => {
                if let Ok(token) = self.client.read(at, 1) {
                    self.reads.insert(token, at);
                }
            }
            _ => self.absorb(),
        }
    }

    fn absorb(&mut self) {
        while let Some(event) = self.client.poll() {
            let Event::Done(token, result) = event else { continue };
            assert_eq!(result, Ok(()));
            if let Some((at, byte)) = self.writes.remove(&token) {
                self.known.insert(at, byte);
            } else {
                let at = self.reads.remove(&token).expect("each answer once");
                let mut bytes = block(0);
                assert!(self.client.take(token, &mut bytes));
                assert_eq!(bytes, block(*self.known.get(&at).unwrap_or(&0)), "block {at}");
            }
        }
    }
}

#[test]
fn random_runs_with_restarts_keep_every_acknowledged_write() {
    for seed in 1..=60 {
        let mut random = Random(seed * 0x9e37_79b9);
        let one = Channel::new(Window { first: 0, blocks: 20 }, 2048, 6);
        let two = Channel::new(Window { first: 20, blocks: 20 }, 4096, 40);
        let mut world = World::new(vec![one, two], 1 << 9);
        let model = |channel: &Channel| Model {
            client: channel.client(),
            known: BTreeMap::new(),
            writes: BTreeMap::new(),
            reads: BTreeMap::new(),
        };
        let mut models: Vec<Model> = world.channels.iter().map(model).collect();
        for _ in 0..1500 {
            match random.below(100) {
                0 => world.restart(random.below(2) == 0),
                1..30 => world.run(),
                30..60 if !world.waiting.is_empty() => {
                    let index = random.below(world.waiting.len() as u64) as usize;
                    world.execute(index);
                }
                60..62 => {
                    // A client dies; its unacknowledged writes may or may not have happened, so its successor writes all anew.
                    let index = random.below(2) as usize;
                    models[index] = model(&world.channels[index]);
                    world.settle();
                    models[index].absorb();
                    for at in 0..20 {
                        let token = models[index].client.write(at, &block(0xee)).expect("ready, and room for one");
                        models[index].writes.insert(token, (at, 0xee));
                        world.settle();
                        models[index].absorb();
                    }
                }
                _ => {
                    let index = random.below(2) as usize;
                    models[index].step(&mut random);
                }
            }
        }
        for _ in 0..10 {
            world.settle();
            models.iter_mut().for_each(Model::absorb);
        }
        for (model, first) in models.iter().zip([0, 20]) {
            assert_eq!(model.client.pending(), 0, "seed {seed}: everything is answered");
            for (at, byte) in &model.known {
                assert_eq!(world.medium.blocks[&(first + at)], block(*byte), "seed {seed}");
            }
        }
    }
}
