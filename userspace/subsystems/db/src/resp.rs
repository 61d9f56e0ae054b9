//! The wire protocol: requests as RESP arrays or inline lines, replies in RESP2.
//!
//! The parser is incremental, binary-safe and bounded by [`crate::limits`]; its errors are worded like Redis'.
//! Source: <https://redis.io/docs/latest/develop/reference/protocol-spec/>.

use crate::limits;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

/// A request: the command's name and its arguments.
pub type Request = Vec<Vec<u8>>;

/// A request that cannot be understood: the connection is answered with it and closed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProtocolError(pub String);

/// Takes bytes, gives requests.
#[derive(Default, Debug)]
pub struct Parser {
    input: Vec<u8>,
    at: usize,
    /// Arguments still to come of the array that is being read.
    missing: usize,
    /// Length of the argument that is being read, once its line has been.
    bulk: Option<usize>,
    arguments: Request,
    argument_bytes: usize,
}

impl Parser {
    /// More bytes from the connection.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.at > 0 {
            self.input.drain(..self.at);
            self.at = 0;
        }
        self.input.extend_from_slice(bytes);
    }

    /// Bytes that it holds.
    pub fn held(&self) -> usize {
        self.input.len() - self.at + self.argument_bytes
    }

    /// The next whole request, if it is there. An empty request means nothing and is not answered.
    pub fn request(&mut self) -> Result<Option<Request>, ProtocolError> {
        loop {
            if self.missing > 0 {
                if !self.argument()? {
                    return Ok(None);
                }
                if self.missing == 0 {
                    self.argument_bytes = 0;
                    return Ok(Some(core::mem::take(&mut self.arguments)));
                }
                continue;
            }
            match self.input.get(self.at) {
                None => {
                    self.input.clear();
                    self.at = 0;
                    return Ok(None);
                }
                Some(b'*') => {
                    let Some(line) = self.line("too big mbulk count string")? else { return Ok(None) };
                    let count = integer(&self.input[line.0 + 1..line.1]);
                    match count {
                        Some(n) if n > limits::ARGUMENTS as i64 => return Err(protocol("invalid multibulk length")),
                        None => return Err(protocol("invalid multibulk length")),
                        Some(n) if n <= 0 => continue,
                        Some(n) => self.missing = n as usize,
                    }
                }
                Some(_) => {
                    let Some(line) = self.line("too big inline request")? else { return Ok(None) };
                    let words = split_words(&self.input[line.0..line.1])
                        .ok_or_else(|| protocol("unbalanced quotes in request"))?;
                    if !words.is_empty() {
                        return Ok(Some(words));
                    }
                }
            }
        }
    }

    /// Reads one argument of an array; `false` if it is not all there.
    fn argument(&mut self) -> Result<bool, ProtocolError> {
        let len = match self.bulk {
            Some(len) => len,
            None => {
                let Some(line) = self.line("too big bulk count string")? else { return Ok(false) };
                let text = &self.input[line.0..line.1];
                if text.first() != Some(&b'$') {
                    let got = text.first().copied().unwrap_or(b' ');
                    let mut message = String::from("Protocol error: expected '$', got '");
                    message.push(if got.is_ascii_graphic() || got == b' ' { got as char } else { '?' });
                    message.push('\'');
                    return Err(ProtocolError(message));
                }
                let len = integer(&text[1..]).filter(|n| (0..=limits::VALUE as i64).contains(n));
                let len = len.ok_or_else(|| protocol("invalid bulk length"))? as usize;
                if self.argument_bytes + len > limits::REQUEST {
                    return Err(protocol("too big request"));
                }
                self.bulk = Some(len);
                len
            }
        };
        let Some(bytes) = self.input.get(self.at..self.at + len + 2) else { return Ok(false) };
        self.arguments.push(bytes[..len].to_vec());
        self.argument_bytes += len;
        self.at += len + 2;
        self.bulk = None;
        self.missing -= 1;
        Ok(true)
    }

    /// The next line's place in the input, without its end; `None` if its end has not come.
    fn line(&mut self, too_long: &str) -> Result<Option<(usize, usize)>, ProtocolError> {
        let window = &self.input[self.at..];
        let Some(len) = window.iter().take(limits::INLINE + 1).position(|b| *b == b'\n') else {
            return if window.len() > limits::INLINE { Err(protocol(too_long)) } else { Ok(None) };
        };
        let start = self.at;
        self.at += len + 1;
        let end = start + len;
        let end = if len > 0 && self.input[end - 1] == b'\r' { end - 1 } else { end };
        Ok(Some((start, end)))
    }
}

fn protocol(what: &str) -> ProtocolError {
    let mut message = String::from("Protocol error: ");
    message.push_str(what);
    ProtocolError(message)
}

/// A decimal integer exactly as Redis takes one: no plus sign, no leading zeros, no spaces.
pub fn integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let leading_zero = digits.len() > 1 && digits[0] == b'0';
    if digits.is_empty() || leading_zero || !digits.iter().all(u8::is_ascii_digit) || text == b"-0" {
        return None;
    }
    core::str::from_utf8(text).ok()?.parse().ok()
}

/// Words of an inline request: separated by blanks, quoted like in a shell, with escapes in double quotes.
fn split_words(line: &[u8]) -> Option<Request> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        let blanks = rest.iter().take_while(|b| b.is_ascii_whitespace() || **b == 0).count();
        rest = &rest[blanks..];
        if rest.is_empty() {
            return Some(words);
        }
        if words.len() >= limits::ARGUMENTS {
            return None;
        }
        let (word, after) = split_word(rest)?;
        words.push(word);
        rest = after;
    }
}

/// The first word and what follows it; `None` if its quotes do not close, or close inside a word.
fn split_word(line: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    let mut at = 0;
    while let Some(&b) = line.get(at) {
        match b {
            b'"' | b'\'' => {
                at = quoted(line, at, &mut word)?;
                if line.get(at).is_some_and(|b| !b.is_ascii_whitespace()) {
                    return None;
                }
                return Some((word, &line[at..]));
            }
            b if b.is_ascii_whitespace() || b == 0 => break,
            b => word.push(b),
        }
        at += 1;
    }
    Some((word, &line[at..]))
}

/// Appends a quoted part to `word`; gives the index after the closing quote.
fn quoted(line: &[u8], open: usize, word: &mut Vec<u8>) -> Option<usize> {
    let quote = line[open];
    let mut at = open + 1;
    loop {
        let b = *line.get(at)?;
        let next = line.get(at + 1).copied();
        match (quote, b, next) {
            (q, b, _) if b == q => return Some(at + 1),
            (b'\'', b'\\', Some(b'\'')) => {
                word.push(b'\'');
                at += 2;
            }
            (b'"', b'\\', Some(b'x')) if hex(line, at + 2).is_some() => {
                word.push(hex(line, at + 2)?);
                at += 4;
            }
            (b'"', b'\\', Some(c)) => {
                word.push(match c {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    c => c,
                });
                at += 2;
            }
            (_, b, _) => {
                word.push(b);
                at += 1;
            }
        }
    }
}

fn hex(line: &[u8], at: usize) -> Option<u8> {
    let text = core::str::from_utf8(line.get(at..at + 2)?).ok()?;
    u8::from_str_radix(text, 16).ok().filter(|_| text.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// One reply under construction, in RESP2.
#[derive(Default, Debug)]
pub struct Reply {
    bytes: Vec<u8>,
    too_long: bool,
}

impl Reply {
    /// `+text`
    pub fn simple(&mut self, text: &str) {
        self.put(&[b"+", text.as_bytes(), b"\r\n"]);
    }

    /// `-text`: the text begins with its kind in capitals. Line ends in it become blanks.
    pub fn error(&mut self, text: &[u8]) {
        self.bytes.push(b'-');
        self.bytes.extend(text.iter().map(|b| if matches!(b, b'\r' | b'\n') { b' ' } else { *b }));
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// An integer.
    pub fn integer(&mut self, n: i64) {
        self.number(b':', n);
    }

    /// A binary string.
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.number(b'$', bytes.len() as i64);
        self.put(&[bytes, b"\r\n"]);
    }

    /// No value.
    pub fn nil(&mut self) {
        self.put(&[b"$-1\r\n"]);
    }

    /// An array of `len` replies, which follow.
    pub fn array(&mut self, len: usize) {
        self.number(b'*', len as i64);
    }

    /// The reply's bytes. One that exceeded [`limits::REPLY`] is an error instead.
    pub fn finish(mut self) -> Vec<u8> {
        if self.too_long {
            self.bytes.clear();
            self.error(b"ERR the reply would be too long");
        }
        self.bytes
    }

    /// Whether it has become too long; what is added is dropped then.
    pub fn is_too_long(&self) -> bool {
        self.too_long
    }

    fn number(&mut self, kind: u8, n: i64) {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = write!(text, "{n}");
        self.put(&[&[kind], text.as_bytes(), b"\r\n"]);
    }

    fn put(&mut self, parts: &[&[u8]]) {
        let len: usize = parts.iter().map(|p| p.len()).sum();
        if self.too_long || self.bytes.len() + len > limits::REPLY {
            self.too_long = true;
            return;
        }
        parts.iter().for_each(|p| self.bytes.extend_from_slice(p));
    }
}
