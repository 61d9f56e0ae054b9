//! A keyspace out of a log: feed it the file from its beginning, then ask for the result.
//!
//! The log's tail may be torn: the last append was cut off by a crash, so nobody was told of it. It is left out, and the shell
//! truncates the file to [`Recovered::valid`] bytes before anything is appended. Damage that is followed by a sound record which knew
//! the damaged place to be durable is no torn tail: acknowledged data is lost, and starting without it would be a lie. That is
//! [`RecoveryError::Damaged`].

use crate::keyspace::Keyspace;
use crate::limits;
use crate::record::{self, Kind, NoRecord, Op, Record, VERSION};
use alloc::vec::Vec;

/// What a log said.
#[derive(Default)]
pub struct Recovered {
    /// The keys.
    pub keys: Keyspace,
    /// Number of the last record.
    pub seq: u64,
    /// The database's time at the last record.
    pub time: u64,
    /// Bytes of the file that count: truncate it to this.
    pub valid: u64,
}

/// Why a log cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecoveryError {
    /// A record at this offset is damaged though it was acknowledged.
    Damaged(u64),
    /// The file is not a log of this program.
    NotALog,
    /// The log's format is of another version.
    Version(u32),
}

/// Replays a log that is fed to it piece by piece.
#[derive(Default)]
pub struct Recovery {
    state: Recovered,
    /// Bytes not yet understood, beginning at offset `state.valid`.
    held: Vec<u8>,
    torn: bool,
}

impl Recovery {
    /// The next bytes of the file.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), RecoveryError> {
        self.held.extend_from_slice(bytes);
        let mut at = 0;
        while !self.torn {
            match record::decode(&self.held[at..]) {
                Ok(record) if record.seq >= self.state.seq => {
                    replay(&mut self.state, &record)?;
                    at += record.len;
                    self.state.valid += record.len as u64;
                }
                Err(NoRecord::Short(_)) => break,
                // A record that goes back in time cannot have been written after the last one.
                Ok(_) | Err(NoRecord::Bad) => self.torn = true,
            }
        }
        self.held.drain(..at);
        if self.torn && self.held.len() > limits::TAIL {
            return Err(RecoveryError::Damaged(self.state.valid));
        }
        Ok(())
    }

    /// The end of the file.
    pub fn finish(self) -> Result<Recovered, RecoveryError> {
        let magic = record::MAGIC.to_le_bytes();
        let foreign = !self.held.is_empty() && !self.held.starts_with(&magic[..self.held.len().min(4)]);
        let zeros = self.held.iter().all(|b| *b == 0);
        if self.state.valid == 0 && foreign && !zeros {
            return Err(RecoveryError::NotALog);
        }
        let later = (1..self.held.len()).any(|at| {
            self.held[at..].starts_with(&magic)
                && record::decode(&self.held[at..])
                    .is_ok_and(|r| r.seq >= self.state.seq && r.durable > self.state.valid)
        });
        if later { Err(RecoveryError::Damaged(self.state.valid)) } else { Ok(self.state) }
    }
}

fn replay(state: &mut Recovered, record: &Record<'_>) -> Result<(), RecoveryError> {
    match (record.kind, state.valid) {
        (Kind::Begin, 0) if record.body == VERSION.to_le_bytes() => {}
        (Kind::Begin, 0) => {
            let version = record.body.first_chunk().map_or(0, |v| u32::from_le_bytes(*v));
            return Err(RecoveryError::Version(version));
        }
        (Kind::Commit, 1..) => {
            let mut rest = record.body;
            while !rest.is_empty() {
                // The checksum was right, so this is what was written: another program's log.
                let (op, after) = Op::decode(rest).ok_or(RecoveryError::NotALog)?;
                state.keys.apply(&op, record.seq);
                rest = after;
            }
        }
        _ => return Err(RecoveryError::NotALog),
    }
    state.seq = record.seq;
    state.time = state.time.max(record.time);
    Ok(())
}
