//! Disks: a write is taken into a cache, a flush makes what was taken durable, a crash may leave anything of the rest.

use super::{MS, US};
use crate::prng::Prng;
use smi_cluster::layout::BLOCK_SIZE;
use std::collections::BTreeMap;

/// Bytes that a disk writes as a unit; a crash tears a block between sectors.
const SECTOR: usize = 512;

/// How a disk behaves.
#[derive(Clone, Copy, Debug)]
pub struct DiskModel {
    /// Least time of an operation, ns.
    pub min_latency: u64,
    /// Mean of its exponential part, ns.
    pub mean_latency: u64,
    /// Times a flush takes longer than a write.
    pub flush_factor: u64,
}

impl DiskModel {
    /// A flash disk.
    pub const GOOD: DiskModel = DiskModel { min_latency: 20 * US, mean_latency: 50 * US, flush_factor: 10 };
    /// A worn SD card.
    pub const SLOW: DiskModel = DiskModel { min_latency: MS, mean_latency: 5 * MS, flush_factor: 10 };
}

/// One disk (or one zone of it) of one node. It outlives the node's restarts.
#[derive(Debug)]
pub struct Disk {
    /// How it behaves.
    pub model: DiskModel,
    blocks: BTreeMap<u32, Vec<u8>>,
    /// Taken but not durable, oldest first.
    cache: Vec<(u32, Vec<u8>)>,
    /// When the last operation ends: operations are done in order.
    busy_until: u64,
}

impl Disk {
    /// A blank disk.
    pub fn new(model: DiskModel) -> Disk {
        Disk { model, blocks: BTreeMap::new(), cache: Vec::new(), busy_until: 0 }
    }

    /// When an operation that is issued now will be done.
    pub fn finish_time(&mut self, now: u64, is_flush: bool, rng: &mut Prng) -> u64 {
        let factor = if is_flush { self.model.flush_factor } else { 1 };
        let took = self.model.min_latency + rng.exponential(self.model.mean_latency) * factor;
        self.busy_until = self.busy_until.max(now) + took;
        self.busy_until
    }

    /// Takes a write into the cache.
    pub fn take(&mut self, block: u32, bytes: Vec<u8>) {
        self.cache.push((block, bytes));
    }

    /// How many writes are taken and not durable.
    pub fn cached(&self) -> usize {
        self.cache.len()
    }

    /// Makes the `count` oldest of them durable.
    pub fn flush_first(&mut self, count: usize) {
        for (block, bytes) in self.cache.drain(..count.min(self.cache.len())) {
            self.blocks.insert(block, bytes);
        }
    }

    /// What a read gives.
    pub fn read(&self, block: u32, count: u32) -> Vec<u8> {
        let mut data = Vec::with_capacity(count as usize * BLOCK_SIZE);
        for b in block..block + count {
            let cached = self.cache.iter().rev().find(|(c, _)| *c == b).map(|(_, bytes)| bytes);
            match cached.or_else(|| self.blocks.get(&b)) {
                Some(bytes) => data.extend_from_slice(bytes),
                None => data.resize(data.len() + BLOCK_SIZE, 0),
            }
        }
        data
    }

    /// The power goes: of what is not durable (taken, or `in_flight`) each write may be there, be missing, or be torn, whatever the order.
    pub fn crash(&mut self, in_flight: Vec<(u32, Vec<u8>)>, rng: &mut Prng) {
        self.busy_until = 0;
        let mut writes: Vec<(u32, Vec<u8>)> = self.cache.drain(..).chain(in_flight).collect();
        rng.shuffle(&mut writes);
        for (block, bytes) in writes {
            match rng.below(3) {
                0 => {}
                1 => {
                    self.blocks.insert(block, bytes);
                }
                _ => self.tear(block, &bytes, rng),
            }
        }
    }

    fn tear(&mut self, block: u32, bytes: &[u8], rng: &mut Prng) {
        let old = self.blocks.entry(block).or_insert_with(|| vec![0; BLOCK_SIZE]);
        for (old, new) in old.chunks_mut(SECTOR).zip(bytes.chunks(SECTOR)) {
            match rng.below(8) {
                0..4 => old.copy_from_slice(new),
                4..7 => {}
                // A sector that was being written.
                _ => old.fill_with(|| rng.bits() as u8),
            }
        }
    }

    /// A replaced disk.
    pub fn wipe(&mut self) {
        self.blocks.clear();
        self.cache.clear();
    }

    /// Damages about `per_mille` of the written blocks (at least one): a flipped bit, or a block of garbage or zeros.
    pub fn damage(&mut self, per_mille: u64, rng: &mut Prng) {
        let written: Vec<u32> = self.blocks.keys().copied().collect();
        let Some(one) = rng.pick(&written).copied() else { return };
        for block in written {
            if block != one && !rng.chance(per_mille) {
                continue;
            }
            let Some(bytes) = self.blocks.get_mut(&block) else { continue };
            match rng.below(4) {
                0 => bytes.fill(0),
                1 => bytes.fill_with(|| rng.bits() as u8),
                _ => {
                    let i = rng.below(BLOCK_SIZE as u64) as usize;
                    bytes[i] ^= 1 << rng.below(8);
                }
            }
        }
    }

    /// Whether nothing was ever written.
    pub fn is_blank(&self) -> bool {
        self.blocks.is_empty() && self.cache.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(byte: u8) -> Vec<u8> {
        vec![byte; BLOCK_SIZE]
    }

    #[test]
    fn flushed_writes_survive_a_crash_and_others_may_not() {
        let mut kept = 0;
        for seed in 0..200 {
            let mut rng = Prng::new(seed);
            let mut disk = Disk::new(DiskModel::GOOD);
            disk.take(1, block(1));
            disk.flush_first(disk.cached());
            disk.take(2, block(2));
            assert_eq!(disk.read(2, 1), block(2));
            disk.crash(vec![(3, block(3))], &mut rng);
            assert_eq!(disk.read(1, 1), block(1));
            kept += usize::from(disk.read(2, 1) == block(2));
        }
        assert!((40..120).contains(&kept), "{kept}");
    }

    #[test]
    fn operations_are_done_in_order() {
        let mut disk = Disk::new(DiskModel::SLOW);
        let mut rng = Prng::new(1);
        let first = disk.finish_time(5, true, &mut rng);
        assert!(disk.finish_time(6, false, &mut rng) > first);
    }

    #[test]
    fn damage_hits_at_least_one_block() {
        let mut disk = Disk::new(DiskModel::GOOD);
        (0..9).for_each(|b| disk.take(b, block(7)));
        disk.flush_first(disk.cached());
        disk.damage(0, &mut Prng::new(3));
        assert_eq!((0..9).filter(|b| disk.read(*b, 1) != block(7)).count(), 1);
        disk.wipe();
        assert!(disk.is_blank() && disk.read(0, 2) == vec![0; 2 * BLOCK_SIZE]);
    }
}
