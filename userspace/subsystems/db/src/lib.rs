//! A RESP database on virtual files and sockets: the strings of Redis, durable on every replica before a client hears of it.
//!
//! `sockets -> Db::step -> file operations -> Db::step -> replies`. The engine is a pure function of what happens to it: the shell
//! (`main.rs`) tells it the time, the bytes that came and the file operations that are done; it says which file operation to do
//! next, which replies to send and which connections to close.
//!
//! | module | noun |
//! | --- | --- |
//! | [`engine`] | [`engine::Db`]: connections, group commit, release of replies, compaction |
//! | [`resp`] | requests (incremental parser) and replies |
//! | [`command`] | the command table and what each command does |
//! | [`keyspace`] | keys, values, expiry, memory accounting |
//! | [`record`] | the log's records |
//! | [`recovery`] | a keyspace out of a log |
//! | [`service`] | the engine between sockets and files: the main loop |
//! | [`sockets`], [`files`], [`way`] | what the loop needs of the system, and that over the IDL |
//!
//! # Durability
//! The log is one virtual file. Every command that changes something becomes one checksummed record of physical operations; all
//! records of a round are appended by one write, which returns when it is durable on all replicas of the file (group commit). A
//! reply leaves only when everything it speaks of is durable: replies to writes wait for their record, reads wait for the last
//! change of the keys they read. So nobody ever sees a value that a take-over could take back.
//!
//! Compaction writes the live keys to a second file while commands go on, and renames it over the first; until the rename the old
//! log alone counts, so a crash at any point loses nothing. At recovery a torn tail is cut off; damage before the tail is
//! refused, since what follows it was acknowledged.
//!
//! # Time
//! Expiry is decided by absolute times in the log. Time never goes back: it starts from the last time in the log at recovery, and
//! an expired key's removal is itself logged, so a take-over by a node whose clock is behind brings nothing back.
//!
//! # Bounds
//! [`limits`] has them all; what exceeds one gets an error in Redis' words, never a crash.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod command;
pub mod engine;
pub mod files;
mod glob;
pub mod keyspace;
pub mod record;
pub mod recovery;
pub mod resp;
pub mod service;
pub mod sockets;
pub mod way;

/// Bounds that do not depend on the configuration.
pub mod limits {
    /// Longest key in bytes.
    pub const KEY: usize = 64 * 1024;
    /// Longest value, and longest argument, in bytes.
    pub const VALUE: usize = 512 * 1024;
    /// Most arguments of a request.
    pub const ARGUMENTS: usize = 16 * 1024;
    /// Longest request, all arguments together, in bytes.
    pub const REQUEST: usize = 1024 * 1024;
    /// Longest inline request, and longest length line, in bytes.
    pub const INLINE: usize = 64 * 1024;
    /// Longest reply to one request in bytes.
    pub const REPLY: usize = 1024 * 1024;
    /// A connection with this many bytes of replies not yet taken executes nothing more until some are.
    pub const OUTPUT: usize = 256 * 1024;
    /// When this many bytes wait for the log, nothing more is executed until they are durable.
    pub const BATCH: usize = 512 * 1024;
    /// Longest record body in the log: a request and what it may add.
    pub const RECORD: usize = 2 * REQUEST;
    /// Longest torn tail that recovery takes for one, in bytes: one batch and one record.
    pub const TAIL: usize = BATCH + 2 * RECORD;
    /// Most connections.
    pub const CONNECTIONS: usize = 1024;
    /// Longest name a client can give itself.
    pub const CLIENT_NAME: usize = 256;
}
