//! Messages between the members' cores: postcard behind a version byte. What decodes is well-formed: numbers in range, runs of
//! entries contiguous and chained, lengths within bounds.

use super::entry::{Entry, MAX_ENTRY_BYTES, MAX_NUMBER, RequestId};
use crate::table::{BadEncoding, MAX_TABLE_BYTES, Op, decode, encode};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// First byte of a message.
const VERSION: u8 = 1;
/// Most operations that are prepared and not yet committed; also most entries in one message.
pub(crate) const PIPELINE: usize = 16;
/// Bytes of a snapshot in one message.
pub(crate) const CHUNK_BYTES: usize = 4096;
/// Longest state: the table, and 32 results for each of 64 nodes.
pub(crate) const MAX_SNAPSHOT_BYTES: usize = MAX_TABLE_BYTES + 100_000;
/// Longest message, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 8192;

const _: () = assert!(PIPELINE * MAX_ENTRY_BYTES + 256 <= MAX_MESSAGE_BYTES);
const _: () = assert!(CHUNK_BYTES + 256 <= MAX_MESSAGE_BYTES);

/// The end of a log: where it is committed, and what follows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Tail {
    /// Op number up to which the sender has applied.
    pub(crate) commit: u64,
    /// Hash of that entry: stands for the whole log up to it.
    pub(crate) commit_hash: u64,
    /// The entries after it.
    pub(crate) entries: Vec<Entry>,
}

impl Tail {
    /// Op number of the log's last entry.
    pub(crate) fn op(&self) -> u64 {
        self.commit + self.entries.len() as u64
    }

    fn is_sane(&self) -> bool {
        let follows = self.entries.first().is_none_or(|e| e.op == self.commit + 1 && e.parent == self.commit_hash);
        self.commit < MAX_NUMBER && follows && is_run(&self.entries)
    }
}

/// What a voter says about itself to one that has nothing to go by.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Standing {
    /// Its zone is blank.
    Blank,
    /// It has formatted its zone for a new cluster and waits for the others.
    Formatted,
    /// It has lost its state.
    Lost,
    /// It has state, and is changing views.
    Changing,
    /// It is normal in this view; the primary adds its log's end.
    Normal {
        /// The view.
        view: u64,
        /// The primary's log.
        tail: Option<Tail>,
    },
}

/// One message.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// Any member to the primary: please order this operation.
    Request { request: RequestId, body: Op },
    /// Primary to voters: entries of this view's log, and how far it is committed.
    Prepare { view: u64, commit: u64, entries: Vec<Entry> },
    /// Voter to primary: everything up to `op` is durable here.
    PrepareOk { view: u64, op: u64 },
    /// Primary to voters: committed up to here.
    Commit { view: u64, commit: u64 },
    /// Voter in `view` to voters: its primary seems to have failed. Binds to nothing.
    Suspect { view: u64 },
    /// Voter to voters: I have left all views before this one. `busy`: as its primary I am still collecting the log.
    StartViewChange { view: u64, busy: bool },
    /// Voter to the new primary: my log.
    DoViewChange { view: u64, log_view: u64, tail: Tail },
    /// New primary to voters: this view's log.
    StartView { view: u64, tail: Tail },
    /// Voter to the primary of its view: please send the entries after `after`.
    GetLog { view: u64, after: u64 },
    /// Anybody to a voter: please send the committed entries after `after`.
    GetCommitted { after: u64 },
    /// Committed entries.
    Learn { commit: u64, entries: Vec<Entry> },
    /// Please send the snapshot with this op number from this offset.
    GetSnapshot { op: u64, offset: u32 },
    /// A part of a snapshot.
    Snapshot { op: u64, hash: u64, total: u32, offset: u32, bytes: Vec<u8> },
    /// Voter without state to voters: who are you?
    Hello { nonce: u64 },
    /// The answer.
    HelloReply { nonce: u64, standing: Standing },
    /// Primary to every node: I lead this view. `echo` returns the `sent` of the node's last [`Message::Beat`], or is 0. It is not 0
    /// only while the primary itself is in touch with a quorum and the node is a member, in this incarnation.
    Heartbeat { view: u64, commit: u64, sent: u64, echo: u64, incarnation: u64 },
    /// Every node to the primary (to all voters while it knows none). `echo` returns the `sent` of the heartbeat that it answers.
    Beat(Beat),
}

/// See [`Message::Beat`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Beat {
    /// The sender's view.
    pub(crate) view: u64,
    /// Whether it is a voter that takes part in this view, and how far its log is durable.
    pub(crate) durable: Option<u64>,
    /// How far it has applied the log.
    pub(crate) commit: u64,
    /// Its clock when it sent this; not 0.
    pub(crate) sent: u64,
    /// See [`Message::Beat`].
    pub(crate) echo: u64,
    /// Its boot.
    pub(crate) boot: u64,
    /// Its store.
    pub(crate) store: u64,
    /// Whether it has an external NIC.
    pub(crate) external: bool,
}

fn is_run(entries: &[Entry]) -> bool {
    entries.len() <= PIPELINE
        && entries.iter().all(Entry::is_sane)
        && entries.windows(2).all(|w| w[1].op == w[0].op + 1 && w[1].parent == w[0].hash())
}

impl Message {
    /// The message's bytes, at most [`MAX_MESSAGE_BYTES`].
    pub(crate) fn encode(&self) -> Vec<u8> {
        let bytes = encode(&(VERSION, self));
        assert!(bytes.len() <= MAX_MESSAGE_BYTES, "messages are bounded");
        bytes
    }

    /// The message that `bytes` are, if they are a well-formed one.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Message, BadEncoding> {
        if bytes.len() > MAX_MESSAGE_BYTES || bytes.first() != Some(&VERSION) {
            return Err(BadEncoding);
        }
        let (_, message): (u8, Message) = decode(bytes)?;
        if message.is_sane() { Ok(message) } else { Err(BadEncoding) }
    }

    fn is_sane(&self) -> bool {
        let low = |n: u64| n < MAX_NUMBER;
        match self {
            Message::Request { request, body } => {
                let entry = Entry { op: 1, view: 0, parent: 0, request: Some(*request), body: body.clone() };
                entry.is_sane()
            }
            Message::Prepare { view, commit, entries } => low(*view) && low(*commit) && is_run(entries),
            Message::PrepareOk { view, op } | Message::Commit { view, commit: op } => low(*view) && low(*op),
            Message::Suspect { view } | Message::StartViewChange { view, .. } => low(*view),
            Message::DoViewChange { view, log_view, tail } => low(*view) && log_view <= view && tail.is_sane(),
            Message::StartView { view, tail } => low(*view) && tail.is_sane(),
            Message::GetLog { view, after } => low(*view) && low(*after),
            Message::GetCommitted { after } => low(*after),
            Message::Learn { commit, entries } => low(*commit) && is_run(entries),
            Message::GetSnapshot { op, .. } => low(*op),
            Message::Snapshot { op, total, offset, bytes, .. } => {
                let (total, offset) = (*total as usize, *offset as usize);
                let fits = total <= MAX_SNAPSHOT_BYTES && offset < total && bytes.len() <= total - offset;
                low(*op) && fits && !bytes.is_empty() && bytes.len() <= CHUNK_BYTES
            }
            Message::Hello { .. } => true,
            Message::HelloReply { standing: Standing::Normal { view, tail }, .. } => {
                low(*view) && tail.as_ref().is_none_or(Tail::is_sane)
            }
            Message::HelloReply { .. } => true,
            Message::Heartbeat { view, commit, .. } => low(*view) && low(*commit),
            Message::Beat(b) => low(b.view) && low(b.commit) && b.durable.is_none_or(low) && b.sent != 0,
        }
    }
}

#[cfg(test)]
mod tests;
