//! Exports (local servers with a name in the cluster) and imports (capabilities that local clients hold).
//!
//! An import is an object number in the badge of a capability to this manager; the table here says which VID it denotes. A
//! program cannot make such a number up: the badge is the kernel's. Object numbers are never reused while the manager lives.

use crate::ports::PortIndex;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use smi_cluster::Vid;
use smi_core::table::Name;

/// Most exports of a node.
pub const MAX_EXPORTS: usize = 64;
/// Most imports of a node.
pub const MAX_IMPORTS: usize = 4096;

/// A server that others may call by name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Export {
    /// Its id in the directory.
    pub vid: Vid,
    /// Where its calls go.
    pub port: PortIndex,
}

/// The tables are full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// What this node gives to and takes from the cluster.
#[derive(Default)]
pub struct Names {
    exports: BTreeMap<Name, Export>,
    imports: BTreeMap<u64, Vid>,
    /// (client's badge, VID) -> object: a client that resolves a name twice gets the same object.
    objects: BTreeMap<(u64, Vid), u64>,
    last_object: u64,
}

impl Names {
    /// No names.
    pub fn new() -> Names {
        Names::default()
    }

    /// Records an export; a server may take its own name again after a restart.
    pub fn export(&mut self, name: &Name, export: Export) -> Result<(), Full> {
        if self.exports.len() >= MAX_EXPORTS && !self.exports.contains_key(name) {
            return Err(Full);
        }
        self.exports.insert(name.clone(), export);
        Ok(())
    }

    /// Forgets an export.
    pub fn withdraw(&mut self, name: &Name) -> Option<Export> {
        self.exports.remove(name)
    }

    /// The export of this name.
    pub fn exported(&self, name: &Name) -> Option<&Export> {
        self.exports.get(name)
    }

    /// The port of a resource that this node serves.
    pub fn port_of(&self, vid: Vid) -> Option<PortIndex> {
        self.exports.values().find(|e| e.vid == vid).map(|e| e.port)
    }

    /// All exports.
    pub fn exports(&self) -> impl Iterator<Item = (&Name, &Export)> {
        self.exports.iter()
    }

    /// Forgets what the server behind a port had exported.
    pub fn port_lost(&mut self, port: PortIndex) -> Vec<Export> {
        let lost: Vec<Name> = self.exports.iter().filter(|(_, e)| e.port == port).map(|(n, _)| n.clone()).collect();
        lost.iter().filter_map(|name| self.exports.remove(name)).collect()
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
        let mut names = Names::new();
        let a = names.import(1, Vid(7)).unwrap();
        assert_eq!(names.import(1, Vid(7)), Ok(a));
        let b = names.import(2, Vid(7)).unwrap();
        assert_ne!(a, b);
        names.release(|_| false);
        assert_eq!(names.imported(a), None);
        assert!(names.import(1, Vid(7)).unwrap() > b);
    }

    #[test]
    fn tables_are_bounded() {
        let mut names = Names::new();
        for i in 0..MAX_IMPORTS as u128 {
            names.import(1, Vid(i)).unwrap();
        }
        assert_eq!(names.import(1, Vid(u128::MAX)), Err(Full));
        for i in 0..MAX_EXPORTS {
            let name = Name::new(&format!("n{i}")).unwrap();
            names.export(&name, Export { vid: Vid(i as u128), port: PortIndex(0) }).unwrap();
        }
        let one_more = Name::new("more").unwrap();
        assert_eq!(names.export(&one_more, Export { vid: Vid(0), port: PortIndex(0) }), Err(Full));
        assert_eq!(names.port_of(Vid(3)), Some(PortIndex(0)));
        assert_eq!(names.port_lost(PortIndex(0)).len(), MAX_EXPORTS);
        assert_eq!(names.port_of(Vid(3)), None);
    }
}
