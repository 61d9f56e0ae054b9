//! Ranges of physical addresses and sets of them.
//!
//! Always holds for a [`RegionSet`]: regions are not empty, ascending, and neither overlap nor touch.

use crate::list::{Full, List};

/// A non-empty or empty half-open range `[start, end)` of physical byte addresses; `start <= end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
}

impl Region {
    /// The region of `size` bytes from `start`; `None` if it would pass the end of the address space.
    pub const fn from_size(start: u64, size: u64) -> Option<Self> {
        match start.checked_add(size) {
            Some(end) => Some(Self { start, end }),
            None => None,
        }
    }

    /// Length in bytes.
    pub const fn size(&self) -> u64 {
        self.end - self.start
    }

    /// Whether the region has no addresses.
    pub const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether the two regions share an address.
    pub const fn overlaps(&self, other: &Region) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// Whether `other` lies wholly inside this region.
    pub const fn contains(&self, other: &Region) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// The largest `align`-aligned region inside this one (`align` a power of two); possibly empty.
    pub const fn shrink_to(&self, align: u64) -> Region {
        let end = self.end & !(align - 1);
        let start = match self.start.checked_add(align - 1) {
            Some(s) => s & !(align - 1),
            None => end,
        };
        if start < end { Region { start, end } } else { Region { start: end, end } }
    }

    /// The smallest `align`-aligned region around this one (`align` a power of two), saturating at the top.
    pub const fn grow_to(&self, align: u64) -> Region {
        let start = self.start & !(align - 1);
        let end = match self.end.checked_add(align - 1) {
            Some(e) => e & !(align - 1),
            None => !(align - 1),
        };
        Region { start, end }
    }
}

/// A set of addresses as at most `N` disjoint regions.
#[derive(Debug, Clone, Copy, Default)]
pub struct RegionSet<const N: usize> {
    regions: List<Region, N>,
}

impl<const N: usize> RegionSet<N> {
    /// The empty set.
    pub const fn new() -> Self {
        Self { regions: List::new() }
    }

    /// Adds all addresses of `region`, merging with what overlaps or touches it.
    pub fn add(&mut self, region: Region) -> Result<(), Full> {
        if region.is_empty() {
            return Ok(());
        }
        let mut merged = region;
        let mut at = 0;
        while let Some(r) = self.regions.get(at) {
            if r.end < merged.start {
                at += 1;
            } else if r.start <= merged.end {
                merged = Region { start: merged.start.min(r.start), end: merged.end.max(r.end) };
                self.regions.remove(at);
            } else {
                break;
            }
        }
        self.regions.insert(at, merged)
    }

    /// Removes all addresses of `region`. If a split does not fit, the upper part is dropped and `Full` returned.
    pub fn subtract(&mut self, region: Region) -> Result<(), Full> {
        if region.is_empty() {
            return Ok(());
        }
        let mut at = 0;
        while let Some(r) = self.regions.get(at) {
            if !r.overlaps(&region) {
                at += 1;
                continue;
            }
            self.regions.remove(at);
            if r.start < region.start {
                self.regions.insert(at, Region { start: r.start, end: region.start })?;
                at += 1;
            }
            if region.end < r.end {
                self.regions.insert(at, Region { start: region.end, end: r.end })?;
                at += 1;
            }
        }
        Ok(())
    }

    /// The regions in ascending order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Region> + '_ {
        self.regions.iter()
    }

    /// How many disjoint regions there are.
    pub const fn len(&self) -> usize {
        self.regions.len()
    }

    /// Whether the set is empty.
    pub const fn is_empty(&self) -> bool {
        self.regions.is_empty()
    }

    /// Whether every address of `region` is in the set.
    pub fn contains(&self, region: &Region) -> bool {
        self.iter().any(|r| r.contains(region))
    }

    /// The lowest `align`-aligned region of `size` bytes inside the set.
    pub fn find(&self, size: u64, align: u64) -> Option<Region> {
        self.iter().find_map(|r| {
            let start = r.start.checked_add(align - 1)? & !(align - 1);
            let found = Region::from_size(start, size)?;
            (found.end <= r.end).then_some(found)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(regions: &[(u64, u64)]) -> RegionSet<4> {
        let mut s = RegionSet::new();
        for &(start, end) in regions {
            s.add(Region { start, end }).unwrap();
        }
        s
    }

    fn list(s: &RegionSet<4>) -> Vec<(u64, u64)> {
        s.iter().map(|r| (r.start, r.end)).collect()
    }

    #[test]
    fn add_merges_overlaps_and_neighbours() {
        assert_eq!(list(&set(&[(10, 20), (40, 50), (20, 30)])), [(10, 30), (40, 50)]);
        assert_eq!(list(&set(&[(10, 20), (40, 50), (0, 100)])), [(0, 100)]);
        assert_eq!(list(&set(&[(40, 50), (10, 20), (5, 5)])), [(10, 20), (40, 50)]);
    }

    #[test]
    fn subtract_splits_and_trims() {
        let mut s = set(&[(0, 100), (200, 300)]);
        s.subtract(Region { start: 50, end: 60 }).unwrap();
        s.subtract(Region { start: 90, end: 210 }).unwrap();
        assert_eq!(list(&s), [(0, 50), (60, 90), (210, 300)]);
    }

    #[test]
    fn full_is_reported() {
        let mut s = set(&[(0, 1), (2, 3), (4, 5), (6, 9)]);
        assert_eq!(s.add(Region { start: 20, end: 21 }), Err(Full));
        assert_eq!(s.subtract(Region { start: 7, end: 8 }), Err(Full));
    }

    #[test]
    fn find_respects_alignment() {
        let s = set(&[(1, 20), (0x100, 0x400)]);
        assert_eq!(s.find(16, 16), Some(Region { start: 0x100, end: 0x110 }));
        assert_eq!(s.find(4, 16), Some(Region { start: 16, end: 20 }));
        assert_eq!(s.find(0x400, 1), None);
    }

    #[test]
    fn shrink_and_grow_stay_in_range() {
        let r = Region { start: 1, end: 0x2001 };
        assert_eq!(r.shrink_to(0x1000), Region { start: 0x1000, end: 0x2000 });
        assert_eq!(r.grow_to(0x1000), Region { start: 0, end: 0x3000 });
        assert!(Region { start: 1, end: 0xfff }.shrink_to(0x1000).is_empty());
        assert!(Region { start: u64::MAX - 1, end: u64::MAX }.shrink_to(0x1000).is_empty());
    }
}
