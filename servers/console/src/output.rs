//! A bounded queue of bytes.

/// At most `N` bytes, first in, first out.
pub struct Fifo<const N: usize> {
    bytes: [u8; N],
    head: usize,
    len: usize,
}

impl<const N: usize> Fifo<N> {
    /// Empty.
    pub const fn new() -> Self {
        Self { bytes: [0; N], head: 0, len: 0 }
    }

    /// Bytes that fit.
    pub fn free(&self) -> usize {
        N - self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends a byte. Panics if it is full: the caller has looked at [`free`](Self::free).
    pub fn push(&mut self, byte: u8) {
        assert!(self.len < N, "queue overrun");
        self.bytes[(self.head + self.len) % N] = byte;
        self.len += 1;
    }

    /// Takes the first byte.
    pub fn pop(&mut self) -> Option<u8> {
        self.len = self.len.checked_sub(1)?;
        let byte = self.bytes[self.head];
        self.head = (self.head + 1) % N;
        Some(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_order() {
        let mut fifo = Fifo::<5>::new();
        let (mut next, mut expected) = (0u8, 0u8);
        for round in 0..100 {
            while fifo.free() > round % 3 {
                fifo.push(next);
                next = next.wrapping_add(1);
            }
            for _ in 0..3 {
                assert_eq!(fifo.pop(), Some(expected));
                expected = expected.wrapping_add(1);
            }
        }
        while fifo.pop().is_some() {}
        assert!(fifo.is_empty());
    }
}
