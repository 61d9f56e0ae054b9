//! The log in memory: a contiguous run of entries whose hashes form a chain.
//!
//! Always: entry i has op number `base + 1 + i`, and its parent is the hash of the one before.

use super::entry::Entry;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

struct Slot {
    entry: Entry,
    hash: u64,
    durable: bool,
}

pub(crate) struct Log {
    base: u64,
    base_hash: u64,
    slots: VecDeque<Slot>,
    /// Every entry up to here is durable.
    durable: u64,
}

impl Log {
    /// A log without entries that goes on after op number `base`, whose entry has the hash `base_hash`.
    pub(crate) fn new(base: u64, base_hash: u64) -> Log {
        Log { base, base_hash, slots: VecDeque::new(), durable: base }
    }

    /// Op number of the last entry (of the base if there is none).
    pub(crate) fn op(&self) -> u64 {
        self.base + self.slots.len() as u64
    }

    /// The op number before the first entry.
    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    /// Op number up to which everything is durable.
    pub(crate) fn durable(&self) -> u64 {
        self.durable
    }

    fn slot(&self, op: u64) -> Option<&Slot> {
        self.slots.get(op.checked_sub(self.base + 1)? as usize)
    }

    /// The entry at `op`.
    pub(crate) fn entry(&self, op: u64) -> Option<&Entry> {
        self.slot(op).map(|s| &s.entry)
    }

    /// Hash of the entry at `op`, also known for the base.
    pub(crate) fn hash_at(&self, op: u64) -> Option<u64> {
        if op == self.base { Some(self.base_hash) } else { self.slot(op).map(|s| s.hash) }
    }

    /// Hash of the last entry.
    pub(crate) fn head_hash(&self) -> u64 {
        self.slots.back().map_or(self.base_hash, |s| s.hash)
    }

    /// Appends the next entry, not yet durable. Returns its hash.
    pub(crate) fn push(&mut self, entry: Entry) -> u64 {
        assert!(entry.op == self.op() + 1 && entry.parent == self.head_hash(), "log entries form a chain");
        let hash = entry.hash();
        self.slots.push_back(Slot { entry, hash, durable: false });
        hash
    }

    /// Notes that the entry with this number and hash has become durable (nothing if it was replaced meanwhile).
    pub(crate) fn mark_durable(&mut self, op: u64, hash: u64) {
        let index = op.checked_sub(self.base + 1).map(|i| i as usize);
        if let Some(slot) = index.and_then(|i| self.slots.get_mut(i))
            && slot.hash == hash
        {
            slot.durable = true;
        }
        while self.slot(self.durable + 1).is_some_and(|s| s.durable) {
            self.durable += 1;
        }
    }

    /// Removes all entries after `op`.
    pub(crate) fn truncate(&mut self, op: u64) {
        assert!(op >= self.base, "what is before the base is committed");
        self.slots.truncate((op - self.base) as usize);
        self.durable = self.durable.min(op);
    }

    /// Forgets the entries up to `op`.
    pub(crate) fn drop_prefix(&mut self, op: u64) {
        while self.base < op {
            let Some(slot) = self.slots.pop_front() else { return };
            self.base += 1;
            self.base_hash = slot.hash;
        }
        self.durable = self.durable.max(self.base);
    }

    /// Copies of the entries from `first` on, at most `count`.
    pub(crate) fn run(&self, first: u64, count: usize) -> Vec<Entry> {
        let skip = first.saturating_sub(self.base + 1) as usize;
        self.slots.iter().skip(skip).take(count).map(|s| s.entry.clone()).collect()
    }

    /// The entries after `op`.
    pub(crate) fn after(&self, op: u64) -> impl Iterator<Item = &Entry> {
        self.slots.iter().skip(op.saturating_sub(self.base) as usize).map(|s| &s.entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Op;

    fn grow(log: &mut Log, view: u64) -> u64 {
        let entry = Entry { op: log.op() + 1, view, parent: log.head_hash(), request: None, body: Op::Noop };
        log.push(entry)
    }

    #[test]
    fn durability_is_a_prefix() {
        let mut log = Log::new(10, 5);
        let hashes: Vec<u64> = (0..3).map(|_| grow(&mut log, 1)).collect();
        log.mark_durable(12, hashes[1]);
        assert_eq!(log.durable(), 10);
        log.mark_durable(11, hashes[0]);
        assert_eq!(log.durable(), 12);
        log.truncate(11);
        assert_eq!((log.op(), log.durable()), (11, 11));
        grow(&mut log, 2);
        // The write of the entry that was replaced does not count.
        log.mark_durable(12, hashes[1]);
        assert_eq!(log.durable(), 11);
    }

    #[test]
    fn a_prefix_can_be_forgotten() {
        let mut log = Log::new(0, 0);
        let hashes: Vec<u64> = (0..5).map(|_| grow(&mut log, 1)).collect();
        log.drop_prefix(3);
        assert_eq!((log.base(), log.op(), log.hash_at(3), log.hash_at(2)), (3, 5, Some(hashes[2]), None));
        assert_eq!(log.run(4, 9).len(), 2);
        assert_eq!(log.run(5, 9)[0].op, 5);
        assert_eq!(log.after(4).count(), 1);
        log.drop_prefix(99);
        assert_eq!((log.base(), log.op()), (5, 5));
    }
}
