//! Framing of log records on the console stream.
//!
//! One record is `00 FE <source id> <rzCOBS bytes, none zero> 00`: plain text never contains a zero byte, so the host can
//! tell the two apart and knows with whose symbol table to decode.

/// Most encoded bytes of one record; longer ones are dropped as a whole.
pub const MAX_BODY: usize = 480;
const HEAD: usize = 3;

/// Collects one record.
pub struct Frame {
    bytes: [u8; HEAD + MAX_BODY + 1],
    len: usize,
    overflow: bool,
}

impl Frame {
    /// No record.
    pub const fn new() -> Frame {
        Frame { bytes: [0; HEAD + MAX_BODY + 1], len: 0, overflow: false }
    }

    /// Starts a record of `source`.
    pub fn start(&mut self, source: u8) {
        self.bytes[..HEAD].copy_from_slice(&[0, 0xFE, source]);
        self.len = HEAD;
        self.overflow = false;
    }

    /// Adds encoded bytes. Zero bytes (the encoder's own delimiters) are left out.
    pub fn push(&mut self, encoded: &[u8]) {
        for byte in encoded.iter().filter(|b| **b != 0) {
            if self.len == HEAD + MAX_BODY {
                self.overflow = true;
                return;
            }
            self.bytes[self.len] = *byte;
            self.len += 1;
        }
    }

    /// Ends the record and gives its bytes; `None` if it was too long.
    pub fn finish(&mut self) -> Option<&[u8]> {
        self.bytes[self.len] = 0;
        (!self.overflow).then(|| &self.bytes[..self.len + 1])
    }
}

impl Default for Frame {
    fn default() -> Self {
        Frame::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_delimited_and_bounded() {
        let mut frame = Frame::new();
        frame.start(7);
        frame.push(&[0, 1, 2]);
        frame.push(&[3, 0]);
        assert_eq!(frame.finish(), Some(&[0, 0xFE, 7, 1, 2, 3, 0][..]));
        frame.start(8);
        (0..=MAX_BODY).for_each(|_| frame.push(&[9]));
        assert_eq!(frame.finish(), None);
        frame.start(9);
        frame.push(&[5]);
        assert_eq!(frame.finish(), Some(&[0, 0xFE, 9, 5, 0][..]));
    }
}
