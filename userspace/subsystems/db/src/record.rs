//! The log's records. Little-endian; each is
//!
//! ```text
//! magic u32 | body length u32 | CRC-32C of all that follows u32 | kind u32 | seq u64 | time u64 | durable u64 | body
//! ```
//!
//! A log begins with one [`Kind::Begin`] record (body: format version `u32`), then [`Kind::Commit`] records: each is what one command
//! did, or a piece of a compacted keyspace. `seq` does not fall from record to record; `time` is the database's time in milliseconds.
//! `durable` says how many bytes of this file were known to be durable when the record was made: damage before that offset is damage
//! to what was acknowledged, damage behind it may be a torn tail.
//! A body is a sequence of operations, each applied as a whole.

use alloc::vec::Vec;
use crc::{CRC_32_ISCSI, Crc, Table};

/// Bytes before the body.
pub const HEADER: usize = 40;
/// First bytes of every record.
pub const MAGIC: u32 = u32::from_le_bytes(*b"SMdb");
/// The format that this program reads and writes.
pub const VERSION: u32 = 1;

static CRC: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

/// What a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Kind {
    /// The first of a log.
    Begin = 1,
    /// Operations that happen together or not at all.
    Commit = 2,
}

/// One physical operation. Operations name results, not computations, so they mean the same whenever they are replayed in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op<'a> {
    /// The key has this value; `expires` in milliseconds, 0 for never.
    Set {
        /// Key.
        key: &'a [u8],
        /// Value.
        value: &'a [u8],
        /// End.
        expires: u64,
    },
    /// The key is gone.
    Delete {
        /// Key.
        key: &'a [u8],
    },
    /// These bytes follow the key's value (of nothing, if it had none).
    Append {
        /// Key.
        key: &'a [u8],
        /// Bytes.
        data: &'a [u8],
    },
    /// The key ends at this time; 0 for never.
    Expire {
        /// Key.
        key: &'a [u8],
        /// End.
        at: u64,
    },
    /// All keys are gone.
    Flush,
}

/// A record that has been checked against its checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// What it is.
    pub kind: Kind,
    /// Its number.
    pub seq: u64,
    /// The database's time when it was made.
    pub time: u64,
    /// Bytes of the file that were durable then.
    pub durable: u64,
    /// Its body.
    pub body: &'a [u8],
    /// Bytes of the whole record.
    pub len: usize,
}

/// Why there is no record at the beginning of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoRecord {
    /// The bytes end before it does; so many are needed in all.
    Short(usize),
    /// They are not a record, or a damaged one.
    Bad,
}

impl Op<'_> {
    /// Appends its encoding: tag, key length `u32`, key, then what the tag demands.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let text = |out: &mut Vec<u8>, bytes: &[u8]| {
            out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            out.extend_from_slice(bytes);
        };
        match *self {
            Op::Set { key, value, expires } => {
                out.push(1);
                text(out, key);
                text(out, value);
                out.extend_from_slice(&expires.to_le_bytes());
            }
            Op::Delete { key } => {
                out.push(2);
                text(out, key);
            }
            Op::Append { key, data } => {
                out.push(3);
                text(out, key);
                text(out, data);
            }
            Op::Expire { key, at } => {
                out.push(4);
                text(out, key);
                out.extend_from_slice(&at.to_le_bytes());
            }
            Op::Flush => out.push(5),
        }
    }

    /// The first operation of `body` and what follows it; `None` if it is none of ours.
    pub fn decode(body: &[u8]) -> Option<(Op<'_>, &[u8])> {
        let (&tag, rest) = body.split_first()?;
        if tag == 5 {
            return Some((Op::Flush, rest));
        }
        let (key, rest) = text(rest)?;
        match tag {
            1 => {
                let (value, rest) = text(rest)?;
                let (expires, rest) = long(rest)?;
                Some((Op::Set { key, value, expires }, rest))
            }
            2 => Some((Op::Delete { key }, rest)),
            3 => {
                let (data, rest) = text(rest)?;
                Some((Op::Append { key, data }, rest))
            }
            4 => {
                let (at, rest) = long(rest)?;
                Some((Op::Expire { key, at }, rest))
            }
            _ => None,
        }
    }
}

fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*len) as usize)
}

fn long(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (n, rest) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*n), rest))
}

/// Appends a record to `out`.
pub fn encode(kind: Kind, seq: u64, time: u64, durable: u64, body: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(kind as u32).to_le_bytes());
    out.extend_from_slice(&seq.to_le_bytes());
    out.extend_from_slice(&time.to_le_bytes());
    out.extend_from_slice(&durable.to_le_bytes());
    out.extend_from_slice(body);
    let sum = CRC.checksum(&out[start + 12..]);
    out[start + 8..start + 12].copy_from_slice(&sum.to_le_bytes());
}

/// The record that a log begins with.
pub fn begin(seq: u64, time: u64, out: &mut Vec<u8>) {
    encode(Kind::Begin, seq, time, 0, &VERSION.to_le_bytes(), out);
}

/// Reads the record at the beginning of `bytes`, if it is whole and sound.
pub fn decode(bytes: &[u8]) -> Result<Record<'_>, NoRecord> {
    let short = |needed| NoRecord::Short(needed);
    let head = bytes.first_chunk::<HEADER>().ok_or(short(HEADER))?;
    let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"));
    let long = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
    let body_len = word(4) as usize;
    if word(0) != MAGIC || body_len > crate::limits::RECORD {
        return Err(NoRecord::Bad);
    }
    let len = HEADER + body_len;
    let whole = bytes.get(..len).ok_or(short(len))?;
    let kind = match word(12) {
        1 => Kind::Begin,
        2 => Kind::Commit,
        _ => return Err(NoRecord::Bad),
    };
    if CRC.checksum(&whole[12..]) != word(8) {
        return Err(NoRecord::Bad);
    }
    Ok(Record { kind, seq: long(16), time: long(24), durable: long(32), body: &whole[HEADER..], len })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPS: [Op<'static>; 5] = [
        Op::Set { key: b"k", value: b"\0\r\n", expires: 7 },
        Op::Delete { key: b"" },
        Op::Append { key: b"k", data: b"more" },
        Op::Expire { key: b"k", at: 9 },
        Op::Flush,
    ];

    #[test]
    fn records_and_operations_survive_and_every_damage_is_noticed() {
        let mut body = Vec::new();
        OPS.iter().for_each(|op| op.encode(&mut body));
        let mut bytes = Vec::new();
        encode(Kind::Commit, 5, 6, 7, &body, &mut bytes);
        let record = decode(&bytes).unwrap();
        assert_eq!((record.kind, record.seq, record.time, record.durable), (Kind::Commit, 5, 6, 7));
        assert_eq!(record.len, bytes.len());
        let mut rest = record.body;
        for op in OPS {
            let (got, after) = Op::decode(rest).unwrap();
            assert_eq!(got, op);
            rest = after;
        }
        assert!(rest.is_empty());
        for cut in 0..bytes.len() {
            assert!(matches!(decode(&bytes[..cut]), Err(NoRecord::Short(_))), "{cut}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bad).is_err(), "bit {bit}");
        }
        for cut in 0..body.len() {
            let mut rest = &body[..cut];
            while let Some((_, after)) = Op::decode(rest) {
                rest = after;
            }
            // What is left is a cut operation, or nothing if the cut fell between two.
            assert!(rest.len() < body.len());
        }
    }
}
