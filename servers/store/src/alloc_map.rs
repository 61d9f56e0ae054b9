//! Which data blocks are free: a bitmap with a moving cursor, and a quarantine for blocks that must not be used again yet.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

/// A freed block and what must have happened before it may be used again.
struct Quarantined {
    block: u64,
    /// The log record that freed it.
    record: u64,
    /// Reads with a lower number may still be looking at it.
    reads_before: u64,
}

/// The allocator of data blocks. Blocks are numbered from 0 within the data part.
pub struct AllocMap {
    used: Vec<u64>,
    blocks: u64,
    free: u64,
    cursor: u64,
    quarantine: VecDeque<Quarantined>,
}

impl AllocMap {
    pub fn new(blocks: u64) -> AllocMap {
        AllocMap {
            used: vec![0; blocks.div_ceil(64) as usize],
            blocks,
            free: blocks,
            cursor: 0,
            quarantine: VecDeque::new(),
        }
    }

    /// Blocks that [`take`](Self::take) can give out now.
    pub fn free(&self) -> u64 {
        self.free
    }

    fn is_used(&self, block: u64) -> bool {
        self.used[(block / 64) as usize] >> (block % 64) & 1 != 0
    }

    /// Marks a block used, as found at recovery. False if it was used already or is out of range: the map is damaged.
    pub fn claim(&mut self, block: u64) -> bool {
        if block >= self.blocks || self.is_used(block) {
            return false;
        }
        self.used[(block / 64) as usize] |= 1 << (block % 64);
        self.free -= 1;
        true
    }

    /// A free block, or `None` if there is none.
    pub fn take(&mut self) -> Option<u64> {
        if self.free == 0 {
            return None;
        }
        let words = self.used.len() as u64;
        // `free > 0`, so one round over the words (and the first one again, for its low bits) finds a block.
        for step in 0..=words {
            let index = (self.cursor / 64 + step) % words;
            let mut open = !self.used[index as usize];
            if step == 0 {
                open &= u64::MAX << (self.cursor % 64);
            }
            let block = index * 64 + open.trailing_zeros() as u64;
            if open != 0 && block < self.blocks {
                self.claim(block);
                self.cursor = (block + 1) % self.blocks;
                return Some(block);
            }
        }
        None
    }

    /// Gives back a block that nothing durable ever referred to.
    pub fn give_back(&mut self, block: u64) {
        assert!(self.is_used(block), "a free block was freed");
        self.used[(block / 64) as usize] &= !(1 << (block % 64));
        self.free += 1;
    }

    /// Frees a block once `record` is durable and all reads numbered below `reads_before` are done.
    pub fn retire(&mut self, block: u64, record: u64, reads_before: u64) {
        self.quarantine.push_back(Quarantined { block, record, reads_before });
    }

    /// Releases what has waited long enough.
    pub fn release(&mut self, durable: u64, oldest_read: u64) {
        while let Some(q) = self.quarantine.front() {
            if q.record > durable || q.reads_before > oldest_read {
                break;
            }
            let block = q.block;
            self.quarantine.pop_front();
            self.give_back(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_every_block_once() {
        let mut map = AllocMap::new(130);
        assert!(map.claim(5) && !map.claim(5) && !map.claim(130));
        let mut seen = std::collections::BTreeSet::from([5]);
        while let Some(b) = map.take() {
            assert!(b < 130 && seen.insert(b));
        }
        assert_eq!(seen.len(), 130);
        map.give_back(77);
        assert_eq!(map.take(), Some(77));
    }

    #[test]
    fn retired_blocks_wait_for_the_record_and_the_reads() {
        let mut map = AllocMap::new(64);
        let block = map.take().unwrap();
        map.retire(block, 10, 3);
        map.release(9, 5);
        map.release(10, 2);
        assert_eq!(map.free(), 63);
        map.release(10, 3);
        assert_eq!(map.free(), 64);
    }
}
