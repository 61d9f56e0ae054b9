//! Takes a node's serial line apart: plain text lines (kernel, panics) and log frames of the servers,
//! `00 FE <source> <rzCOBS bytes without 00> 00`, mixed in any order.
//!
//! The line may lose bytes (a node killed in mid-frame, a UART overrun, a panic that cuts a frame short). Whatever is lost, the
//! framer is in step again at the next frame or the next line that is whole, and says how much it could not make sense of.

/// Starts a log frame, after a zero byte. 0xFE never occurs in UTF-8 text.
const FRAME_MARK: u8 = 0xfe;
/// The longest frame; more without an end means that the end was lost.
const MAX_FRAME: usize = 4096;
/// The longest text line; longer ones are cut.
const MAX_LINE: usize = 2048;
/// Inside a frame, a newline after this many printable bytes is taken for text that cut the frame short: a panic.
const TEXT_IN_FRAME: usize = 16;

/// One thing found on the serial line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item {
    /// A line of plain text, without its end.
    Text(String),
    /// A log frame, still in rzCOBS.
    Frame {
        /// Which server wrote it.
        source: u8,
        /// Its bytes between source and terminator.
        bytes: Vec<u8>,
    },
    /// So many bytes made no sense.
    Lost(usize),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Text,
    /// After a zero byte: the end of a frame and perhaps the start of the next.
    Zero,
    Source,
    Body(u8),
}

/// The state of one serial line's reader.
#[derive(Debug)]
pub struct Framer {
    state: State,
    line: Vec<u8>,
    body: Vec<u8>,
}

impl Default for Framer {
    fn default() -> Framer {
        Framer { state: State::Text, line: Vec::new(), body: Vec::new() }
    }
}

impl Framer {
    /// Takes the next bytes of the line; what they complete goes to `out`.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<Item>) {
        for &byte in bytes {
            self.state = match self.state {
                State::Text => self.text(byte, out),
                State::Zero => match byte {
                    0 => State::Zero,
                    FRAME_MARK => State::Source,
                    other => self.text(other, out),
                },
                State::Source => State::Body(byte),
                State::Body(source) => self.body(source, byte, out),
            };
        }
    }

    /// The line has ended (the machine is gone): what is left over is given out.
    pub fn finish(&mut self, out: &mut Vec<Item>) {
        if !self.body.is_empty() {
            salvage(&std::mem::take(&mut self.body), out);
        }
        self.end_line(out);
        self.state = State::Text;
    }

    fn text(&mut self, byte: u8, out: &mut Vec<Item>) -> State {
        match byte {
            0 => {
                // Unfinished text stays and goes on after the frame; a tail of a frame whose start was lost does not.
                if !is_text(&self.line) {
                    out.push(Item::Lost(self.line.len()));
                    self.line.clear();
                }
                State::Zero
            }
            b'\n' => {
                self.end_line(out);
                State::Text
            }
            b'\r' => State::Text,
            other => {
                self.line.push(other);
                if self.line.len() >= MAX_LINE {
                    self.end_line(out);
                }
                State::Text
            }
        }
    }

    fn body(&mut self, source: u8, byte: u8, out: &mut Vec<Item>) -> State {
        if byte == 0 {
            out.push(Item::Frame { source, bytes: std::mem::take(&mut self.body) });
            return State::Zero;
        }
        let tail = &self.body[self.body.len().saturating_sub(TEXT_IN_FRAME)..];
        let cut_short =
            byte == b'\n' && tail.len() == TEXT_IN_FRAME && tail.iter().all(|b| is_printable(*b) || *b == b'\r');
        if cut_short || self.body.len() >= MAX_FRAME {
            salvage(&std::mem::take(&mut self.body), out);
            return State::Text;
        }
        self.body.push(byte);
        State::Body(source)
    }

    fn end_line(&mut self, out: &mut Vec<Item>) {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            return;
        }
        let junk = line.iter().filter(|byte| !is_printable(**byte)).count();
        if !is_text(&line) && junk * 4 > line.len() {
            out.push(Item::Lost(line.len()));
        } else {
            out.push(Item::Text(
                String::from_utf8_lossy(&line).chars().filter(|c| !c.is_control() || *c == '\t').collect(),
            ));
        }
    }
}

/// Text that lies inside what was taken for a frame: the printable end of each of its lines. The rest is lost.
pub fn salvage(bytes: &[u8], out: &mut Vec<Item>) {
    let mut lost = 0;
    let mut lines = Vec::new();
    for piece in bytes.split(|byte| *byte == b'\n') {
        let piece = piece.strip_suffix(b"\r").unwrap_or(piece);
        let start = piece.iter().rposition(|byte| !is_printable(*byte)).map_or(0, |at| at + 1);
        let text = &piece[start..];
        if text.len() >= TEXT_IN_FRAME / 2 {
            lost += start;
            lines.push(Item::Text(String::from_utf8_lossy(text).into_owned()));
        } else {
            lost += piece.len();
        }
    }
    if lost > 0 {
        out.push(Item::Lost(lost));
    }
    out.append(&mut lines);
}

fn is_printable(byte: u8) -> bool {
    (0x20..0x7f).contains(&byte) || byte == b'\t'
}

/// Whether these bytes are text as programs print it.
fn is_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| text.chars().all(|c| !c.is_control() || c == '\t'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn framed(source: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, FRAME_MARK, source];
        bytes.extend(rzcobs::encode(payload));
        bytes.push(0);
        bytes
    }

    fn read(bytes: &[u8]) -> Vec<Item> {
        let mut framer = Framer::default();
        let mut out = Vec::new();
        framer.push(bytes, &mut out);
        framer.finish(&mut out);
        out
    }

    fn frame(source: u8, payload: &[u8]) -> Item {
        Item::Frame { source, bytes: rzcobs::encode(payload) }
    }

    fn text(line: &str) -> Item {
        Item::Text(line.into())
    }

    #[test]
    fn text_and_frames_are_told_apart() {
        let mut bytes = b"kernel: up\r\nhal".to_vec();
        bytes.extend(framed(3, &[1, 0, 2, 0]));
        bytes.extend(framed(0, b"x"));
        bytes.extend(b"f a line\n");
        assert_eq!(read(&bytes), [text("kernel: up"), frame(3, &[1, 0, 2, 0]), frame(0, b"x"), text("half a line")]);
    }

    #[test]
    fn bytes_may_come_one_at_a_time() {
        let mut bytes = b"a\n".to_vec();
        bytes.extend(framed(9, &[0, 0, 7]));
        let mut framer = Framer::default();
        let mut out = Vec::new();
        for byte in &bytes {
            framer.push(&[*byte], &mut out);
        }
        assert_eq!(out, [text("a"), frame(9, &[0, 0, 7])]);
    }

    #[test]
    fn a_lost_end_costs_one_frame() {
        let mut bytes = framed(1, b"first");
        bytes.pop();
        bytes.extend(framed(2, b"second"));
        bytes.extend(framed(3, b"third"));
        let items = read(&bytes);
        // The zero that starts the second frame ends the first, which thus survives even.
        assert_eq!(items, [frame(1, b"first"), frame(2, b"second"), frame(3, b"third")]);
    }

    #[test]
    fn a_lost_start_costs_one_frame() {
        let mut bytes = framed(1, &[200, 1, 2, 3, 0, 255]);
        bytes.drain(..3);
        bytes.extend(framed(2, b"second"));
        let items = read(&bytes);
        assert!(matches!(items[0], Item::Lost(_)), "{items:?}");
        assert_eq!(items[1..], [frame(2, b"second")]);
    }

    #[test]
    fn a_panic_in_mid_frame_is_readable() {
        let mut bytes = framed(1, b"a frame that never ends");
        bytes.truncate(9);
        bytes.extend(b"\nPANIC at kernel/core/src/cspace.rs:10\nx0=0000000000000001 x1=2\n");
        bytes.extend(framed(4, b"later"));
        let items = read(&bytes);
        assert!(items.contains(&text("PANIC at kernel/core/src/cspace.rs:10")), "{items:?}");
        assert!(items.contains(&text("x0=0000000000000001 x1=2")), "{items:?}");
        assert!(items.contains(&frame(4, b"later")), "{items:?}");
        // Also when the machine stops right there.
        let items = read(&bytes[..40]);
        assert!(items.iter().any(|item| matches!(item, Item::Text(t) if t.starts_with("PANIC at"))), "{items:?}");
    }

    #[test]
    fn an_endless_frame_and_an_endless_line_are_bounded() {
        let mut bytes = vec![0, FRAME_MARK, 1];
        bytes.extend(vec![0x81; 3 * MAX_FRAME]);
        bytes.extend(framed(2, b"ok"));
        let items = read(&bytes);
        assert_eq!(items.last(), Some(&frame(2, b"ok")));
        let items = read(&vec![b'a'; 3 * MAX_LINE]);
        assert_eq!(items.len(), 3);
    }

    #[test]
    fn whatever_is_lost_the_reader_is_in_step_again_two_frames_later() {
        let mut rng = Rng::new(11);
        for round in 0..2000 {
            let mut bytes = Vec::new();
            for source in 1..=3u8 {
                let payload: Vec<u8> = (0..rng.below(30)).map(|_| rng.draw() as u8).collect();
                bytes.extend(framed(source, &payload));
            }
            // Lose a span and flip a byte somewhere in there.
            let at = rng.below(bytes.len() as u64) as usize;
            let end = (at + rng.below(20) as usize).min(bytes.len());
            bytes.drain(at..end);
            if !bytes.is_empty() {
                let flip = rng.below(bytes.len() as u64) as usize;
                bytes[flip] ^= 1 << rng.below(8);
            }
            bytes.extend(framed(4, b"perhaps lost"));
            bytes.extend(framed(5, b"in step"));
            assert!(read(&bytes).contains(&frame(5, b"in step")), "round {round}: {bytes:02x?}");
        }
    }
}
