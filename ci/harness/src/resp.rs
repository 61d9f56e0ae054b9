//! A small client of the Redis protocol (RESP2) with a deadline on every step: what the load generator speaks. People use
//! the unmodified `redis-cli`; this one exists because the history needs to know exactly when what was acknowledged.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The largest reply that is accepted.
const MAX_REPLY: usize = 1 << 20;
/// The deepest nesting of arrays that is accepted.
const MAX_DEPTH: usize = 4;

/// A reply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// `+OK`
    Simple(String),
    /// `-ERR ...`
    Error(String),
    /// `:1`
    Integer(i64),
    /// `$3 abc`; `None` for the null reply.
    Bulk(Option<Vec<u8>>),
    /// `*2 ...`; `None` for the null array.
    Array(Option<Vec<Value>>),
}

/// A connection to a server.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    /// Connects, at most within `limit`.
    pub fn connect(address: SocketAddr, limit: Duration) -> Result<Client> {
        let stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_nodelay(true)?;
        Ok(Client { stream, received: Vec::new() })
    }

    /// Sends a command and waits for its reply, at most for `limit`. After an error the connection is in an unknown state
    /// and must be dropped: the command may or may not have been carried out.
    pub fn call(&mut self, words: &[&[u8]], limit: Duration) -> Result<Value> {
        let deadline = Instant::now() + limit;
        self.send(&encode(words), limit)?;
        self.reply(deadline)
    }

    /// Sends several commands at once and waits for all replies, at most for `limit`; else as [`Client::call`].
    pub fn pipeline(&mut self, commands: &[Vec<&[u8]>], limit: Duration) -> Result<Vec<Value>> {
        let deadline = Instant::now() + limit;
        let bytes: Vec<u8> = commands.iter().flat_map(|words| encode(words)).collect();
        self.send(&bytes, limit)?;
        commands.iter().map(|_| self.reply(deadline)).collect()
    }

    fn send(&mut self, bytes: &[u8], limit: Duration) -> Result<()> {
        self.stream.set_write_timeout(Some(limit))?;
        self.stream.write_all(bytes)
    }

    fn reply(&mut self, deadline: Instant) -> Result<Value> {
        loop {
            if let Some((value, used)) = parse(&self.received, 0)? {
                self.received.drain(..used);
                return Ok(value);
            }
            let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
            self.stream.set_read_timeout(Some(left.ok_or(ErrorKind::TimedOut)?))?;
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.received.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(ErrorKind::TimedOut.into()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// A command as an array of bulk strings.
fn encode(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).into_bytes());
        bytes.extend_from_slice(word);
        bytes.extend(b"\r\n");
    }
    bytes
}

/// Reads one reply from the front of `bytes`, with its length; `None` if it is not complete.
fn parse(bytes: &[u8], depth: usize) -> Result<Option<(Value, usize)>> {
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() > MAX_REPLY { Err(malformed("endless line")) } else { Ok(None) };
    };
    let mut used = end + 2;
    let line = std::str::from_utf8(&bytes[..end]).map_err(|_| malformed("not text"))?;
    let (Some(kind), Some(rest)) = (line.chars().next(), line.get(1..)) else {
        return Err(malformed("empty line"));
    };
    let value = match kind {
        '+' => Value::Simple(rest.to_owned()),
        '-' => Value::Error(rest.to_owned()),
        ':' => Value::Integer(rest.parse().map_err(|_| malformed("integer"))?),
        '$' => {
            let Some(length) = length_of(rest)? else { return Ok(Some((Value::Bulk(None), used))) };
            let Some(body) = bytes.get(used..used + length + 2) else { return Ok(None) };
            if &body[length..] != b"\r\n" {
                return Err(malformed("bulk string without its end"));
            }
            used += length + 2;
            Value::Bulk(Some(body[..length].to_vec()))
        }
        '*' => {
            let Some(count) = length_of(rest)? else { return Ok(Some((Value::Array(None), used))) };
            if depth >= MAX_DEPTH {
                return Err(malformed("nested too deeply"));
            }
            let mut values = Vec::new();
            for _ in 0..count {
                let Some((value, length)) = parse(&bytes[used..], depth + 1)? else { return Ok(None) };
                values.push(value);
                used += length;
            }
            Value::Array(Some(values))
        }
        _ => return Err(malformed("unknown kind of reply")),
    };
    Ok(Some((value, used)))
}

/// The length of a bulk string or an array; `None` for -1.
fn length_of(text: &str) -> Result<Option<usize>> {
    match text.parse::<i64>() {
        Ok(-1) => Ok(None),
        Ok(length) if (0..=MAX_REPLY as i64).contains(&length) => Ok(Some(length as usize)),
        _ => Err(malformed("length")),
    }
}

fn malformed(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("malformed reply: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read_whole_or_not_at_all() {
        let reply = b"*3\r\n:-7\r\n$3\r\na\r\n\r\n$-1\r\n";
        let expected =
            Value::Array(Some(vec![Value::Integer(-7), Value::Bulk(Some(b"a\r\n".to_vec())), Value::Bulk(None)]));
        for cut in 0..reply.len() {
            assert_eq!(parse(&reply[..cut], 0).unwrap(), None, "{cut}");
        }
        assert_eq!(parse(reply, 0).unwrap(), Some((expected, reply.len())));
        assert_eq!(parse(b"-ERR no\r\n+", 0).unwrap(), Some((Value::Error("ERR no".into()), 9)));
    }

    #[test]
    fn nonsense_is_an_error_and_never_a_wait() {
        for bad in [
            "?\r\n",
            "\r\n",
            ":x\r\n",
            "$-2\r\n",
            "$99999999999\r\n",
            "$1\r\nabc",
            "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n",
        ] {
            assert!(parse(bad.as_bytes(), 0).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn commands_are_arrays_of_bulk_strings() {
        assert_eq!(encode(&[b"GET", b"k"]), b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
    }
}
