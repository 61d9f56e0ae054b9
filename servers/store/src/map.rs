//! The object map: which objects there are, and where each of their blocks is. The map is what log records and checkpoints make durable.

use crate::layout::BLOCK;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use smi_cluster::Vid;

/// What a store's user keeps with each object; the store does not look at it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Attr {
    /// Failover group that the object belongs to.
    pub group: u32,
    /// The user's kind of object.
    pub kind: u32,
    /// Two words of the user's.
    pub words: [u64; 2],
}

/// Where a block of an object is, and what it must contain.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BlockRef {
    /// Block number within the data part.
    pub disk: u64,
    /// CRC-32C of the whole block.
    pub crc: u32,
}

/// An object as others see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ObjectInfo {
    /// Length in bytes.
    pub len: u64,
    /// Its attributes.
    pub attr: Attr,
}

/// An object: its length, attributes, and blocks. A block that is not there reads as zeros.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Object {
    pub len: u64,
    pub attr: Attr,
    pub blocks: BTreeMap<u64, BlockRef>,
}

/// A change of the map: the unit of the log. Only these change a [`Map`], at run time and at recovery alike.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Change {
    /// A new, empty object.
    Create(Vid, Attr),
    /// An object's length; blocks wholly past it are gone.
    Len(Vid, u64),
    /// An object's attributes.
    Attr(Vid, Attr),
    /// Where a block of an object now is.
    Block(Vid, u64, BlockRef),
    /// An object is gone.
    Delete(Vid),
}

/// A change that does not fit the map: the log is damaged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Misfit;

/// All objects.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Map {
    pub objects: BTreeMap<Vid, Object>,
}

impl Map {
    /// Applies a change; the disk blocks that nothing refers to any more are appended to `freed`.
    pub fn apply(&mut self, change: &Change, freed: &mut Vec<u64>) -> Result<(), Misfit> {
        match *change {
            Change::Create(vid, attr) => {
                let fresh = self.objects.insert(vid, Object { attr, ..Object::default() }).is_none();
                if fresh { Ok(()) } else { Err(Misfit) }
            }
            Change::Len(vid, len) => {
                let object = self.objects.get_mut(&vid).ok_or(Misfit)?;
                object.len = len;
                let beyond = object.blocks.split_off(&len.div_ceil(BLOCK as u64));
                freed.extend(beyond.values().map(|b| b.disk));
                Ok(())
            }
            Change::Attr(vid, attr) => {
                self.objects.get_mut(&vid).ok_or(Misfit)?.attr = attr;
                Ok(())
            }
            Change::Block(vid, index, block) => {
                let object = self.objects.get_mut(&vid).ok_or(Misfit)?;
                if let Some(old) = object.blocks.insert(index, block) {
                    freed.push(old.disk);
                }
                Ok(())
            }
            Change::Delete(vid) => {
                let object = self.objects.remove(&vid).ok_or(Misfit)?;
                freed.extend(object.blocks.values().map(|b| b.disk));
                Ok(())
            }
        }
    }
}
