//! Keys, values, expiry. Changed only by [`Keyspace::apply`], with the very operations that the log records, so replaying a log
//! and having lived it end in the same state.
//!
//! Keys are ordered by a hash of their bytes. That order never changes while a key lives, so a scan needs no more state than the
//! hash it has reached: every key that is there from its beginning to its end is met, whatever else comes and goes.

use crate::record::Op;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// What a key costs besides its bytes, roughly: map node, allocation headers, expiry index.
pub const KEY_OVERHEAD: usize = 128;

/// A value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its bytes.
    pub value: Vec<u8>,
    /// When it ends, in milliseconds of the database's time; 0 is never.
    pub expires: u64,
    /// The record that last changed it.
    pub seq: u64,
}

impl Entry {
    /// Whether it has ended.
    pub fn expired(&self, now: u64) -> bool {
        self.expires != 0 && self.expires <= now
    }
}

struct Item {
    key: Box<[u8]>,
    entry: Entry,
}

/// Keys with the same hash: nearly always one.
struct Slot {
    first: Item,
    more: Vec<Item>,
}

impl Slot {
    fn items(&self) -> impl Iterator<Item = &Item> {
        core::iter::once(&self.first).chain(&self.more)
    }

    fn items_mut(&mut self) -> impl Iterator<Item = &mut Item> {
        core::iter::once(&mut self.first).chain(&mut self.more)
    }
}

/// See the module's documentation.
#[derive(Default)]
pub struct Keyspace {
    slots: BTreeMap<u64, Slot>,
    /// (end, hash) of every key that has an end.
    ends: BTreeSet<(u64, u64)>,
    keys: usize,
    bytes: usize,
}

/// The place of a key in the scan order.
pub fn hash(key: &[u8]) -> u64 {
    // FNV-1a, then a finaliser, so that short keys spread over all of the range.
    let mut h = 0xcbf2_9ce4_8422_2325u64;
    for b in key {
        h = (h ^ *b as u64).wrapping_mul(0x0000_0100_0000_01b3);
    }
    h = (h ^ (h >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    h ^ (h >> 33)
}

impl Keyspace {
    /// How many keys there are, ended ones included that nobody has met yet.
    pub fn len(&self) -> usize {
        self.keys
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys == 0
    }

    /// Memory in use, in bytes: keys, values and [`KEY_OVERHEAD`] for each.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many keys have an end. (Keys whose hash and end are both equal count as one.)
    pub fn with_end(&self) -> usize {
        self.ends.len()
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.slots.get(&hash(key))?.items().find(|i| *i.key == *key).map(|i| &i.entry)
    }

    /// Performs an operation as part of record `seq`.
    pub fn apply(&mut self, op: &Op<'_>, seq: u64) {
        match *op {
            Op::Set { key, value, expires } => self.set(key, Entry { value: value.to_vec(), expires, seq }),
            Op::Delete { key } => self.remove(key),
            Op::Append { key, data } => {
                let Some(entry) = self.get_mut(key) else {
                    self.set(key, Entry { value: data.to_vec(), expires: 0, seq });
                    return;
                };
                entry.value.extend_from_slice(data);
                entry.seq = seq;
                self.bytes += data.len();
            }
            Op::Expire { key, at } => {
                let Some(entry) = self.get_mut(key) else { return };
                entry.seq = seq;
                let before = core::mem::replace(&mut entry.expires, at);
                self.unindex(hash(key), before);
                if at != 0 {
                    self.ends.insert((at, hash(key)));
                }
            }
            Op::Flush => *self = Keyspace::default(),
        }
    }

    /// The first time at which a key ends.
    pub fn next_end(&self) -> Option<u64> {
        self.ends.first().map(|(at, _)| *at)
    }

    /// A key that has ended at `now`.
    pub fn ended(&self, now: u64) -> Option<&[u8]> {
        let &(at, hash) = self.ends.first()?;
        if at > now {
            return None;
        }
        self.slots.get(&hash)?.items().find(|i| i.entry.expired(now)).map(|i| &*i.key)
    }

    /// Keys and values in scan order, from hash `from` on.
    pub fn scan(&self, from: u64) -> impl Iterator<Item = (u64, &[u8], &Entry)> {
        self.slots.range(from..).flat_map(|(h, slot)| slot.items().map(move |i| (*h, &*i.key, &i.entry)))
    }

    fn get_mut(&mut self, key: &[u8]) -> Option<&mut Entry> {
        self.slots.get_mut(&hash(key))?.items_mut().find(|i| *i.key == *key).map(|i| &mut i.entry)
    }

    fn set(&mut self, key: &[u8], entry: Entry) {
        let h = hash(key);
        let (len, expires) = (entry.value.len(), entry.expires);
        match self.get_mut(key) {
            Some(old) => {
                let old = core::mem::replace(old, entry);
                self.bytes -= old.value.len();
                self.unindex(h, old.expires);
            }
            None => {
                let item = Item { key: key.into(), entry };
                match self.slots.get_mut(&h) {
                    Some(slot) => slot.more.push(item),
                    None => drop(self.slots.insert(h, Slot { first: item, more: Vec::new() })),
                }
                self.keys += 1;
                self.bytes += key.len() + KEY_OVERHEAD;
            }
        }
        self.bytes += len;
        if expires != 0 {
            self.ends.insert((expires, h));
        }
    }

    fn remove(&mut self, key: &[u8]) {
        let h = hash(key);
        let Some(slot) = self.slots.get_mut(&h) else { return };
        let gone = if *slot.first.key == *key {
            match slot.more.pop() {
                Some(other) => core::mem::replace(&mut slot.first, other),
                None => self.slots.remove(&h).expect("looked up above").first,
            }
        } else {
            let Some(at) = slot.more.iter().position(|i| *i.key == *key) else { return };
            slot.more.swap_remove(at)
        };
        self.keys -= 1;
        self.bytes -= gone.key.len() + gone.entry.value.len() + KEY_OVERHEAD;
        self.unindex(h, gone.entry.expires);
    }

    /// Takes an end out of the index, unless a key with the same hash still has it.
    fn unindex(&mut self, hash: u64, end: u64) {
        let shared = self.slots.get(&hash).is_some_and(|s| s.items().any(|i| i.entry.expires == end));
        if end != 0 && !shared {
            self.ends.remove(&(end, hash));
        }
    }
}
