//! Imports: capabilities to resources of the cluster that local clients hold.
//!
//! An import is an object number in the badge of a capability to this manager; the table here says which VID it denotes. A
//! program cannot make such a number up: the badge is the kernel's. Object numbers are never reused.

use alloc::collections::BTreeMap;
use smi_cluster::Vid;

/// Most imports of a node.
pub const MAX_IMPORTS: usize = 4096;

/// As many imports as this node can hold are in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// All imports of a node.
pub struct Imports {
    imports: BTreeMap<u64, Vid>,
    /// (client's badge, VID) -> object: a client that resolves a name twice gets the same object.
    objects: BTreeMap<(u64, Vid), u64>,
    last_object: u64,
}

impl Imports {
    /// None. `boot` keeps the numbers apart from those that clients may still hold from before a restart of the manager.
    pub fn new(boot: u64) -> Imports {
        let last_object = (boot & 0x7ff_ffff) << 20;
        Imports { imports: BTreeMap::new(), objects: BTreeMap::new(), last_object }
    }

    /// The object by which the client with this badge denotes `vid`.
    pub fn import(&mut self, badge: u64, vid: Vid) -> Result<u64, Full> {
        if let Some(object) = self.objects.get(&(badge, vid)) {
            return Ok(*object);
        }
        if self.imports.len() >= MAX_IMPORTS {
            return Err(Full);
        }
        self.last_object += 1;
        self.imports.insert(self.last_object, vid);
        self.objects.insert((badge, vid), self.last_object);
        Ok(self.last_object)
    }

    /// What an object denotes.
    pub fn imported(&self, object: u64) -> Option<Vid> {
        self.imports.get(&object).copied()
    }

    /// Forgets imports of resources that are no more.
    pub fn release(&mut self, is_there: impl Fn(Vid) -> bool) {
        self.imports.retain(|_, vid| is_there(*vid));
        self.objects.retain(|(_, vid), _| is_there(*vid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_stable_and_never_reused() {
        let mut imports = Imports::new(1);
        let a = imports.import(1, Vid(7)).unwrap();
        assert_eq!(imports.import(1, Vid(7)), Ok(a));
        let b = imports.import(2, Vid(7)).unwrap();
        assert_ne!(a, b);
        imports.release(|_| false);
        assert_eq!(imports.imported(a), None);
        assert!(imports.import(1, Vid(7)).unwrap() > b);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut imports = Imports::new(1);
        for i in 0..MAX_IMPORTS as u128 {
            imports.import(1, Vid(i)).unwrap();
        }
        assert_eq!(imports.import(1, Vid(u128::MAX)), Err(Full));
    }
}
