//! Where things are on a node's disk, in blocks of [`BLOCK_SIZE`] bytes.

/// Bytes in a disk block: the unit of every zone and of the block driver's interface.
pub const BLOCK_SIZE: usize = 4096;

/// A contiguous range of disk blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Zone {
    /// First block.
    pub first: u64,
    /// Blocks in the zone; `u64::MAX` means "to the end of the disk".
    pub blocks: u64,
}

/// The identity block and its reserved neighbours.
pub const IDENTITY: Zone = Zone { first: 0, blocks: 8 };
/// The directory's superblock copies and log.
pub const DIRECTORY: Zone = Zone { first: 8, blocks: 1024 };
/// The local store of files: the rest of the disk.
pub const STORE: Zone = Zone { first: 1032, blocks: u64::MAX };

/// The smallest disk that a node accepts: all zones and a store of 4 MiB.
pub const MIN_DISK_BLOCKS: u64 = STORE.first + 1024;

impl Zone {
    /// The zone's length on a disk of `disk_blocks` blocks; `None` if the disk ends before the zone does.
    pub fn len_on(&self, disk_blocks: u64) -> Option<u64> {
        let rest = disk_blocks.checked_sub(self.first)?;
        if self.blocks == u64::MAX { (rest > 0).then_some(rest) } else { (rest >= self.blocks).then_some(self.blocks) }
    }
}

const _: () = assert!(IDENTITY.first + IDENTITY.blocks == DIRECTORY.first);
const _: () = assert!(DIRECTORY.first + DIRECTORY.blocks == STORE.first);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_need_their_blocks() {
        assert_eq!(DIRECTORY.len_on(1032), Some(1024));
        assert_eq!(DIRECTORY.len_on(1031), None);
        assert_eq!(STORE.len_on(1032), None);
        assert_eq!(STORE.len_on(2056), Some(1024));
    }
}
