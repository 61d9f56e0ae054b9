//! A fixed-capacity list of small values: what the kernel has instead of `Vec` while it reads the device tree.
//!
//! Always holds: only the first `len` items are meaningful, and `len <= N`.

/// The list is full; the caller decides whether that is an error or a loss to be reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// Up to `N` values of type `T`, in insertion order.
#[derive(Debug, Clone, Copy)]
pub struct List<T: Copy, const N: usize> {
    items: [Option<T>; N],
    len: usize,
}

impl<T: Copy, const N: usize> List<T, N> {
    /// The empty list.
    pub const fn new() -> Self {
        Self { items: [None; N], len: 0 }
    }

    /// Appends `value`.
    pub fn push(&mut self, value: T) -> Result<(), Full> {
        self.insert(self.len, value)
    }

    /// Inserts `value` before position `at` (at most `len`), moving the rest one place up.
    pub fn insert(&mut self, at: usize, value: T) -> Result<(), Full> {
        if self.len == N || at > self.len {
            return Err(Full);
        }
        self.items.copy_within(at..self.len, at + 1);
        self.items[at] = Some(value);
        self.len += 1;
        Ok(())
    }

    /// Removes the value at position `at`; does nothing if there is none.
    pub fn remove(&mut self, at: usize) {
        if at < self.len {
            self.items.copy_within(at + 1..self.len, at);
            self.len -= 1;
            self.items[self.len] = None;
        }
    }

    /// The value at position `at`.
    pub fn get(&self, at: usize) -> Option<T> {
        self.items.get(at).copied().flatten()
    }

    /// How many values are in the list.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether the list is empty.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The values in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = T> + '_ {
        self.items[..self.len].iter().copied().flatten()
    }
}

impl<T: Copy, const N: usize> Default for List<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inserts_removes_and_refuses_when_full() {
        let mut list = List::<u8, 3>::new();
        assert_eq!(list.push(1), Ok(()));
        assert_eq!(list.push(3), Ok(()));
        assert_eq!(list.insert(1, 2), Ok(()));
        assert_eq!(list.push(4), Err(Full));
        assert!(list.iter().eq([1, 2, 3]));
        list.remove(0);
        list.remove(7);
        assert!(list.iter().eq([2, 3]));
        assert_eq!(list.insert(3, 9), Err(Full));
    }
}
