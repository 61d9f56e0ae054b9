//! How much two links move over a perfect wire: `cargo run --release -p smi-link --example throughput`.
//!
//! Prints bytes per second of host time, both ends and all cryptography included, for some message sizes.

use smi_cluster::identity::Member;
use smi_cluster::{Lane, NodeId, PortId};
use smi_link::{Action, Config, Event, Link};
use std::collections::VecDeque;
use std::time::Instant;

const PORT: PortId = PortId(1);

/// Carries frames both ways until nobody has any; returns the bytes delivered.
fn pump(links: &mut [Link; 2], now: u64) -> usize {
    let mut delivered = 0;
    let mut todo: VecDeque<(usize, Action)> = VecDeque::new();
    loop {
        for (i, link) in links.iter_mut().enumerate() {
            let mut out = Vec::new();
            link.step(now, Event::Tick, &mut out);
            todo.extend(out.into_iter().map(|action| (i, action)));
        }
        if todo.is_empty() {
            return delivered;
        }
        while let Some((i, action)) = todo.pop_front() {
            let mut out = Vec::new();
            match action {
                Action::FrameOut(frame) => {
                    links[1 - i].step(now, Event::FrameIn(&frame), &mut out);
                    todo.extend(out.into_iter().map(|action| (1 - i, action)));
                }
                Action::Deliver { receipt, bytes, .. } => {
                    delivered += bytes.len();
                    links[i].step(now, Event::Consumed(receipt), &mut out);
                }
                _ => {}
            }
        }
    }
}

fn main() {
    let members: Vec<Member> =
        (1..=2).map(|n| Member { node: NodeId(n), internal_mac: [2, 0, 0, 0, 0, n as u8] }).collect();
    let link = |n: u16| {
        Link::new(&Config {
            cluster: [1; 16],
            key: [2; 32],
            node: NodeId(n),
            incarnation: 1,
            members: &members,
            seed: [n as u8; 32],
        })
    };
    let mut links = [link(1), link(2)];
    let mut now = 0;
    while !(links[0].is_up(NodeId(2)) && links[1].is_up(NodeId(1))) {
        now += 1_000_000;
        pump(&mut links, now);
    }
    for (size, total) in [(64, 4 << 20), (1024, 64 << 20), (65_536, 256 << 20), (1 << 20, 256 << 20)] {
        let (start, mut sent, mut delivered) = (Instant::now(), 0, 0);
        let message = vec![7; size];
        while delivered < total {
            while sent < total && links[0].has_room(NodeId(2), PORT, Lane::Log, size) {
                let send = Event::Send { to: NodeId(2), port: PORT, lane: Lane::Log, bytes: &message };
                links[0].step(now, send, &mut Vec::new());
                sent += size;
            }
            now += 1_000_000;
            delivered += pump(&mut links, now);
        }
        let seconds = start.elapsed().as_secs_f64();
        println!("{size:8} byte messages: {:7.1} MB/s", delivered as f64 / seconds / 1e6);
    }
}
