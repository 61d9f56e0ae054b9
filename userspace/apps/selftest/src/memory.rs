//! The runtime's memory routines against loops of single bytes, for all small lengths and alignments.

use alloc::vec;
use alloc::vec::Vec;
use core::hint::black_box;

const MAX: usize = 300;
const MARGIN: usize = 16;

/// Bytes that differ from their neighbours. `black_box` keeps the loops from being turned into the routines under test.
fn pattern(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    for (i, byte) in bytes.iter_mut().enumerate() {
        *black_box(byte) = (i * 7 + i / 256 + 1) as u8;
    }
    bytes
}

fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| *black_box(a) == *black_box(b))
}

/// Copies between buffers: the destination is exact, and nothing around it is touched.
pub fn copies() -> bool {
    let source = pattern(MAX + MARGIN);
    for len in 0..MAX {
        for (from, to) in [(0, 0), (1, 0), (0, 3), (7, 8), (5, 13)] {
            let mut target = vec![0xEE; MAX + 2 * MARGIN];
            target[to..to + black_box(len)].copy_from_slice(&source[from..from + black_box(len)]);
            let rest_untouched = target[..to].iter().chain(&target[to + len..]).all(|b| *black_box(b) == 0xEE);
            if !rest_untouched || !same(&target[to..to + len], &source[from..from + len]) {
                return false;
            }
        }
    }
    true
}

/// Moves within a buffer, both ways, by all small distances.
pub fn moves() -> bool {
    let original = pattern(MAX + 2 * MARGIN + 80);
    for len in (0..MAX).step_by(3) {
        for distance in [0, 1, 2, 7, 8, 15, 16, 31, 33, 63, 64, 65, 79] {
            let mut up = original.clone();
            up.copy_within(0..black_box(len), black_box(distance));
            let mut down = original.clone();
            down.copy_within(black_box(distance)..distance + len, 0);
            if !same(&up[distance..distance + len], &original[..len])
                || !same(&up[distance + len..], &original[distance + len..])
                || !same(&down[..len], &original[distance..distance + len])
                || !same(&down[len..], &original[len..])
            {
                return false;
            }
        }
    }
    true
}

/// Fills.
pub fn fills() -> bool {
    for len in 0..MAX {
        for start in [0, 1, 5, 8] {
            let mut bytes = pattern(MAX + MARGIN);
            let original = bytes.clone();
            bytes[start..start + black_box(len)].fill(0xA5);
            let inside = bytes[start..start + len].iter().all(|b| *black_box(b) == 0xA5);
            let outside =
                same(&bytes[..start], &original[..start]) && same(&bytes[start + len..], &original[start + len..]);
            if !inside || !outside {
                return false;
            }
        }
    }
    true
}

/// The heap gives disjoint memory and takes it back.
pub fn heap() -> bool {
    let before = smi_rt::heap::usage().0;
    for round in 0..50usize {
        let blocks: Vec<Vec<u8>> = (0..20).map(|i| vec![(round + i) as u8; 1 + (i * 37 + round) % 900]).collect();
        if !blocks.iter().enumerate().all(|(i, block)| block.iter().all(|b| *b == (round + i) as u8)) {
            return false;
        }
    }
    smi_rt::heap::usage().0 == before
}
