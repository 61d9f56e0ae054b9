//! Driver and clients against a card in software: order, padding, filters, back-pressure, restarts.

use std::ptr::NonNull;

use ipc_ring::{Duplex, Side};
use net::card::Card;
use net::service::{Counts, Service};
use net::{Filter, HEADER, MAX_FRAME, MIN_FRAME, NetClient, SendError};
use virtio::fake;

const MAC: [u8; 6] = [0x52, 0x53, 0x4d, 0, 0, 1];
const VIRTIO_HEADER: usize = 12;

struct World {
    device: &'static fake::Device,
    rings: [fake::Ring; 2],
    service: Service<'static, &'static fake::Device>,
    channels: Vec<(NonNull<u8>, usize, Filter)>,
    signals: Vec<usize>,
}

fn start(
    device: &'static fake::Device,
    channels: &[(NonNull<u8>, usize, Filter)],
) -> (Service<'static, &'static fake::Device>, [fake::Ring; 2]) {
    let card = Card::open(device, fake::memory(256 * 1024)).expect("opens");
    let mut service = Service::new(card);
    for (base, len, filter) in channels {
        // SAFETY: leaked memory made for this; the side's predecessor is gone.
        let ring = unsafe { Duplex::attach(*base, *len, Side::Server) }.expect("large enough");
        service.add_client(ring, *filter).expect("few");
    }
    let rings = [0, 1].map(|index| {
        let (addresses, size) = device.queue(index).expect("set up");
        fake::Ring::new(addresses, size)
    });
    (service, rings)
}

impl World {
    fn new(filters: &[Filter], ring: usize) -> Self {
        let config = [&MAC[..], &[1, 0]].concat();
        let device: &'static fake::Device =
            Box::leak(Box::new(fake::Device::new(1, 1 << 5 | 1 << 16).with_config(&config)));
        let memory = || NonNull::from(Box::leak(vec![0u64; ring / 8].into_boxed_slice())).cast();
        let channels: Vec<_> = filters.iter().map(|filter| (memory(), ring, *filter)).collect();
        let (service, rings) = start(device, &channels);
        Self { device, rings, service, channels, signals: vec![] }
    }

    fn client(&self, number: usize) -> NetClient<'static> {
        let (base, len, _) = self.channels[number];
        // SAFETY: as above.
        NetClient::new(unsafe { Duplex::attach(base, len, Side::Client) }.expect("large enough"))
    }

    fn run(&mut self) {
        let signals = &mut self.signals;
        self.service.run(|client| signals.push(client)).expect("sane device");
    }

    /// A frame comes in from the wire; false if the driver has offered no buffer.
    fn arrive(&mut self, frame: &[u8]) -> bool {
        let Some(chain) = self.rings[0].take() else { return false };
        self.rings[0].put(&chain, &[&[0; VIRTIO_HEADER], frame].concat());
        self.device.interrupt();
        self.service.acknowledge();
        true
    }

    /// The next frame that goes out to the wire.
    fn depart(&mut self) -> Option<Vec<u8>> {
        let chain = self.rings[1].take()?;
        self.rings[1].put(&chain, &[]);
        let bytes = chain.reads.concat();
        assert_eq!(bytes[..VIRTIO_HEADER], [0; VIRTIO_HEADER]);
        Some(bytes[VIRTIO_HEADER..].to_vec())
    }

    fn restart(&mut self) {
        (self.service, self.rings) = start(self.device, &self.channels);
    }
}

fn frame(kind: u16, len: usize, fill: u8) -> Vec<u8> {
    let mut frame = vec![fill; len];
    frame[12..14].copy_from_slice(&kind.to_be_bytes());
    frame
}

fn received(client: &mut NetClient) -> Vec<Vec<u8>> {
    let mut buffer = [0; MAX_FRAME];
    std::iter::from_fn(|| client.receive(&mut buffer).map(|len| buffer[..len].to_vec())).collect()
}

#[test]
fn frames_go_both_ways_in_order() {
    let mut world = World::new(&[Filter::All], 64 * 1024);
    let mut client = world.client(0);
    assert_eq!((world.service.card().mac(), world.service.card().link_up()), (MAC, Ok(true)));
    let mut sent = Vec::new();
    for i in 0..1000usize {
        let out = frame(0x88b5, 60 + i % 1400, i as u8);
        client.send(&[&out[..20], &out[20..]]).expect("room");
        sent.push(out);
        assert!(world.arrive(&frame(0x800, 60 + i % 1455, i as u8)));
        world.run();
        if i % 10 == 9 {
            let arrived = received(&mut client);
            assert_eq!(arrived.len(), 10);
            assert_eq!(arrived[9], frame(0x800, 60 + i % 1455, i as u8));
            for expected in sent.drain(..) {
                assert_eq!(world.depart(), Some(expected));
            }
        }
    }
    let counts = world.service.counts();
    assert_eq!((counts.received, counts.sent, counts.dropped_receive, counts.refused_send), (1000, 1000, 0, 0));
}

#[test]
fn short_frames_are_padded_with_zeros() {
    let mut world = World::new(&[Filter::All], 64 * 1024);
    let mut client = world.client(0);
    for _ in 0..3 {
        client.send(&[&frame(0x806, 1000, 0xaa)]).expect("room");
    }
    world.run();
    while world.depart().is_some() {}
    for _ in 0..200 {
        client.send(&[&frame(0x806, 42, 0xbb)]).expect("room");
        world.run();
        let out = world.depart().expect("sent");
        assert_eq!((out.len(), &out[..42], &out[42..]), (MIN_FRAME, &frame(0x806, 42, 0xbb)[..], &[0; 18][..]));
    }
}

#[test]
fn lengths_are_checked_by_both_sides() {
    let mut world = World::new(&[Filter::All], 64 * 1024);
    let mut client = world.client(0);
    assert_eq!(client.send(&[&[0; HEADER - 1]]), Err(SendError::BadLength));
    assert_eq!(client.send(&[&[0; MAX_FRAME], &[0]]), Err(SendError::BadLength));
    let (base, len, _) = world.channels[0];
    // SAFETY: the client above is gone.
    let mut ring = unsafe { Duplex::attach(base, len, Side::Client) }.expect("large enough");
    for len in [0, HEADER - 1, MAX_FRAME + 1, MAX_FRAME] {
        ring.tx.push(&[&vec![1; len]]).expect("room");
    }
    world.run();
    assert_eq!(world.depart().map(|frame| frame.len()), Some(MAX_FRAME));
    assert_eq!(world.depart(), None);
    assert_eq!((world.service.counts().refused_send, world.service.counts().sent), (3, 1));
    assert!(world.arrive(&[]), "shorter than a header");
    assert!(world.arrive(&[1; 13]));
    world.run();
    assert_eq!(world.service.counts().received, 0);
}

#[test]
fn filters_divide_the_frames() {
    let mut world = World::new(&[Filter::Type(0x88b5), Filter::Rest], 64 * 1024);
    let (mut link, mut rest) = (world.client(0), world.client(1));
    assert!(world.arrive(&frame(0x88b5, 60, 1)) && world.arrive(&frame(0x800, 60, 2)));
    world.run();
    assert_eq!(received(&mut link), [frame(0x88b5, 60, 1)]);
    assert_eq!(received(&mut rest), [frame(0x800, 60, 2)]);
}

#[test]
fn a_full_card_holds_frames_back_and_loses_none() {
    let mut world = World::new(&[Filter::All], 1 << 20);
    let mut client = world.client(0);
    let mut queued = 0u32;
    while client.send(&[&frame(0x88b5, 700, queued as u8)]).is_ok() {
        queued += 1;
    }
    assert!(queued > 150, "more than the card has buffers");
    let mut out = 0u32;
    while out < queued {
        world.run();
        let departed = world.depart().expect("the driver goes on when the card has room");
        assert_eq!(departed, frame(0x88b5, 700, out as u8));
        out += 1;
    }
    assert!(world.signals.contains(&0), "the client is told that there is room again");
    assert_eq!(client.send(&[&frame(0x88b5, 700, 0)]), Ok(()));
}

#[test]
fn a_full_client_ring_drops_frames_and_counts_them() {
    let mut world = World::new(&[Filter::All, Filter::Type(0x88b5)], 8 * 1024);
    let (mut slow, mut fast) = (world.client(0), world.client(1));
    for i in 0..100 {
        assert!(world.arrive(&frame(0x88b5, 1000, i)), "buffers go back to the card");
        world.run();
        assert_eq!(received(&mut fast), [frame(0x88b5, 1000, i)]);
    }
    let arrived = received(&mut slow);
    let Counts { received, dropped_receive, .. } = world.service.counts();
    assert_eq!(received, 100 + arrived.len() as u64);
    assert_eq!(dropped_receive, 100 - arrived.len() as u64);
    assert!(dropped_receive > 0 && !arrived.is_empty());
}

#[test]
fn the_client_goes_on_over_a_restart() {
    let mut world = World::new(&[Filter::All], 64 * 1024);
    let mut client = world.client(0);
    let generation = client.driver_generation();
    assert!(world.arrive(&frame(0x800, 60, 1)));
    world.run();
    world.restart();
    assert_ne!(client.driver_generation(), generation);
    client.send(&[&frame(0x800, 60, 2)]).expect("room");
    assert!(world.arrive(&frame(0x800, 60, 3)));
    world.run();
    assert_eq!(world.depart(), Some(frame(0x800, 60, 2)));
    assert_eq!(received(&mut client), [frame(0x800, 60, 1), frame(0x800, 60, 3)]);
    assert_eq!(world.device.resets(), 2);
}

#[test]
fn a_lying_card_ends_the_driver() {
    let mut world = World::new(&[Filter::All], 64 * 1024);
    world.rings[0].report(9999, 60);
    assert!(world.service.run(|_| ()).is_err());
}
