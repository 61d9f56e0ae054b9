//! A bounded stack of DMA buffers.

use virtio::Buffer;

/// At most `N` buffers, last in, first out.
pub struct Pool<const N: usize> {
    items: [Option<Buffer>; N],
    len: usize,
}

impl<const N: usize> Pool<N> {
    /// None.
    pub fn new() -> Self {
        Self { items: [const { None }; N], len: 0 }
    }

    /// Buffers in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts one in. Panics above `N`: buffers come from pools of that size, so that is a defect of the driver.
    pub fn push(&mut self, buffer: Buffer) {
        self.items[self.len] = Some(buffer);
        self.len += 1;
    }

    /// Takes the last one out.
    pub fn pop(&mut self) -> Option<Buffer> {
        self.len = self.len.checked_sub(1)?;
        self.items[self.len].take()
    }

    /// Turns the order around.
    pub fn reverse(&mut self) {
        self.items[..self.len].reverse();
    }

    /// The buffers, first put in first.
    pub fn iter(&self) -> impl Iterator<Item = &Buffer> {
        self.items[..self.len].iter().flatten()
    }
}

impl<const N: usize> Default for Pool<N> {
    fn default() -> Self {
        Self::new()
    }
}
