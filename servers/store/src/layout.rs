//! Where things are in the store's zone. Blocks are 4096 bytes.
//!
//! | blocks | what |
//! | --- | --- |
//! | 0, 1 | superblock slots |
//! | then `area_blocks` twice | checkpoint areas A and B |
//! | then `log_blocks` | write-ahead log (circular) |
//! | the rest | data |

/// Bytes in a block.
pub const BLOCK: usize = smi_cluster::layout::BLOCK_SIZE;
/// The smallest zone that can be a store.
pub const MIN_BLOCKS: u64 = 256;

/// The store's geometry, a function of the zone's length alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// Blocks in a checkpoint area.
    pub area_blocks: u64,
    /// First block of the log.
    pub log_first: u64,
    /// Blocks of the log.
    pub log_blocks: u64,
    /// First data block.
    pub data_first: u64,
    /// Data blocks.
    pub data_blocks: u64,
}

impl Layout {
    /// The geometry of a zone; `None` if it is too small.
    pub fn new(zone_blocks: u64) -> Option<Layout> {
        if zone_blocks < MIN_BLOCKS {
            return None;
        }
        // A map entry takes at most about 20 bytes encoded, so an area of 1/128 holds the map of a full disk of small files.
        let area_blocks = zone_blocks / 128 + 8;
        let log_blocks = (zone_blocks / 32).clamp(64, 2048);
        let log_first = 2 + 2 * area_blocks;
        let data_first = log_first + log_blocks;
        let data_blocks = zone_blocks.checked_sub(data_first)?;
        (data_blocks >= 16).then_some(Layout { area_blocks, log_first, log_blocks, data_first, data_blocks })
    }

    /// First block of checkpoint area 0 or 1.
    pub fn area(&self, which: u8) -> u64 {
        2 + self.area_blocks * (which as u64 & 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_follow_each_other() {
        for zone in [MIN_BLOCKS, 1024, 100_000, 1 << 30] {
            let l = Layout::new(zone).unwrap();
            assert_eq!(l.area(1) + l.area_blocks, l.log_first);
            assert_eq!(l.log_first + l.log_blocks, l.data_first);
            assert_eq!(l.data_first + l.data_blocks, zone);
        }
        assert_eq!(Layout::new(MIN_BLOCKS - 1), None);
    }
}
