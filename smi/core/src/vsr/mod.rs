//! Viewstamped Replication Revisited (Liskov and Cowling 2012) for the directory.
//!
//! Few nodes vote (see [`crate::config::voters`]); all others learn what is committed. Differences from the paper:
//! * Voters have disks: an entry is acknowledged when it is durable, and a view when it is persisted, so a restarted voter goes on
//!   where it was. One that cannot prove what it had acknowledged has *lost its state*: it takes no part until it has recovered by
//!   the paper's protocol (`recovery`).
//! * A voter leaves a view only with a quorum that wants to leave (`Suspect`, a pre-vote), so one with a bad link disturbs nobody.
//! * Entries are chained by hashes, so two logs are compared by one number.
//! * A restarted primary never goes on in its old view: it may have sent entries that its own disk does not know.
//! * A new cluster starts when all its voters have formatted their zones, so a replaced disk is never mistaken for a new cluster.
//! * The log is bounded: a snapshot is made every [`CHECKPOINT_EVERY`] operations.
//!
//! What always holds (asserted): the log is a chain; what is applied is committed; at most `PIPELINE` entries of a voter's log
//! are not applied; nothing is acknowledged that is not durable.
//!
//! Files: `normal` (ordering), `view_change`, `adopt` (taking over a log), `recovery` (genesis, lost state), `transfer` (catching up),
//! `checkpoint`; below them `entry`, `log`, `clients`, `state`, `message`, `disk`, `journal`, `load`.

mod adopt;
mod checkpoint;
pub(crate) mod clients;
mod disk;
pub(crate) mod entry;
mod journal;
mod load;
mod log;
pub(crate) mod message;
mod normal;
mod recovery;
pub(crate) mod replica;
mod state;
mod transfer;
mod view_change;

pub use checkpoint::CHECKPOINT_EVERY;
pub use clients::WINDOW;
pub use message::MAX_MESSAGE_BYTES;
pub use normal::MAX_QUEUE;
pub use replica::{Stats, Status};
