//! The command table, and what all commands share: looking up, writing, failing.
//!
//! A command first checks everything and then acts, so one that fails has changed nothing. It acts only through
//! [`Context::write`], whose operations become its record. Error texts are Redis 7's, for clients know them.

mod keys;
mod server;
mod strings;

use crate::engine::State;
use crate::keyspace::{Entry, KEY_OVERHEAD, hash};
use crate::limits;
use crate::record::Op;
use crate::resp::{Reply, Request, integer};
use alloc::borrow::Cow;
use alloc::format;
use alloc::vec::Vec;

/// Why a command failed: the text of the error reply.
pub type Fail = Cow<'static, [u8]>;
type Outcome = Result<(), Fail>;

const SYNTAX: Fail = Cow::Borrowed(b"ERR syntax error");
const NOT_AN_INTEGER: Fail = Cow::Borrowed(b"ERR value is not an integer or out of range");
const OUT_OF_MEMORY: Fail = Cow::Borrowed(b"OOM command not allowed when used memory > 'maxmemory'.");
const TOO_LONG: Fail = Cow::Borrowed(b"ERR string exceeds maximum allowed size (proto-max-bulk-len)");
const KEY_TOO_LONG: Fail = Cow::Borrowed(b"ERR key exceeds maximum allowed size");
const NO_ROOM: Fail = Cow::Borrowed(b"MISCONF Errors writing to the AOF file: No space left on device");

fn fail(text: &'static str) -> Fail {
    Cow::Borrowed(text.as_bytes())
}

/// What a connection remembers between its requests.
pub struct Session {
    /// Its number: the order in which connections came.
    pub id: u64,
    /// The name it gave itself.
    pub name: Vec<u8>,
    /// It said goodbye.
    pub quit: bool,
}

impl Session {
    /// A new connection's.
    pub fn new(id: u64) -> Session {
        Session { id, name: Vec::new(), quit: false }
    }
}

/// What a command may use while it runs.
pub struct Context<'a> {
    state: &'a mut State,
    session: &'a mut Session,
    body: Vec<u8>,
    needs: u64,
}

impl<'a> Context<'a> {
    /// For one request of the session's connection.
    pub fn new(state: &'a mut State, session: &'a mut Session) -> Context<'a> {
        Context { state, session, body: Vec::new(), needs: 0 }
    }

    /// The record that the reply depends on, and the operations of this command's own record (none if empty).
    pub fn finish(self) -> (u64, Vec<u8>) {
        let own = if self.body.is_empty() { 0 } else { self.state.seq + 1 };
        (self.needs.max(own), self.body)
    }

    fn now(&self) -> u64 {
        self.state.now
    }

    fn refusing(&self) -> bool {
        self.state.refuse_until > self.state.now
    }

    /// The value of a key that has not ended. One that has is removed.
    fn lookup(&mut self, key: &[u8]) -> Option<&Entry> {
        let now = self.state.now;
        let expired = self.state.keys.get(key).is_some_and(|e| e.expired(now));
        if expired && !self.refusing() {
            self.state.stats.expired += 1;
            self.write(Op::Delete { key });
        }
        let removed = self.state.removed.get(&hash(key)).copied().unwrap_or(0).max(self.state.flushed);
        let entry = self.state.keys.get(key).filter(|e| !e.expired(now));
        self.needs = self.needs.max(entry.map_or(removed, |e| e.seq));
        entry
    }

    fn exists(&mut self, key: &[u8]) -> bool {
        self.lookup(key).is_some()
    }

    /// Like [`Context::lookup`], and counts whether it was there.
    fn read(&mut self, key: &[u8]) -> Option<&Entry> {
        match self.lookup(key).is_some() {
            true => self.state.stats.hits += 1,
            false => self.state.stats.misses += 1,
        }
        let now = self.state.now;
        self.state.keys.get(key).filter(|e| !e.expired(now))
    }

    /// Performs an operation and puts it into this command's record.
    fn write(&mut self, op: Op<'_>) {
        let seq = self.state.seq + 1;
        op.encode(&mut self.body);
        self.state.keys.apply(&op, seq);
        match op {
            Op::Delete { key } => drop(self.state.removed.insert(hash(key), seq)),
            Op::Flush => self.state.flushed = seq,
            _ => {}
        }
    }

    /// The reply depends on everything.
    fn reads_all(&mut self) {
        self.needs = self.needs.max(self.state.seq);
    }

    /// Whether so many bytes more may be stored.
    fn room_for(&self, bytes: usize) -> Outcome {
        if self.state.keys.bytes() + bytes > self.state.config.max_memory { Err(OUT_OF_MEMORY) } else { Ok(()) }
    }
}

type Run = fn(&mut Context<'_>, &[Vec<u8>], &mut Reply) -> Outcome;

/// Changes keys.
const WRITE: u8 = 1;
/// May need memory.
const GROWS: u8 = 2;
/// Reads keys.
const READ: u8 = 4;
/// Takes time that does not depend on the number of keys.
const FAST: u8 = 8;

struct Command {
    name: &'static str,
    /// Arguments with the name; negative: at least so many.
    arity: i64,
    flags: u8,
    /// First and last key (negative: from the end) and the step between keys; zeros if none.
    keys: (i64, i64, i64),
    group: &'static str,
    since: &'static str,
    summary: &'static str,
    run: Run,
}

macro_rules! commands {
    ($($name:literal $arity:literal $flags:expr, $keys:expr, $group:literal $since:literal $run:path, $summary:literal;)*) => {
        &[$(Command {
            name: $name, arity: $arity, flags: $flags, keys: $keys, group: $group, since: $since, summary: $summary, run: $run,
        }),*]
    };
}

const NONE: (i64, i64, i64) = (0, 0, 0);
const ONE: (i64, i64, i64) = (1, 1, 1);
const TWO: (i64, i64, i64) = (1, 2, 1);
const ALL: (i64, i64, i64) = (1, -1, 1);
const PAIRS: (i64, i64, i64) = (1, -1, 2);

/// Every command, in alphabetical order.
static COMMANDS: &[Command] = commands! {
    "append" 3 WRITE | GROWS | FAST, ONE, "string" "2.0.0" strings::append, "Append a value to a key";
    "auth" -2 FAST, NONE, "connection" "1.0.0" server::auth, "Authenticate to the server";
    "bgrewriteaof" 1 0, NONE, "server" "1.0.0" server::rewrite, "Asynchronously rewrite the append-only file";
    "client" -2 0, NONE, "connection" "2.4.0" server::client, "A container for client connection commands";
    "command" -1 0, NONE, "server" "2.8.13" server::command, "Get array of Redis command details";
    "config" -2 0, NONE, "server" "2.0.0" server::config, "A container for server configuration commands";
    "dbsize" 1 READ | FAST, NONE, "server" "1.0.0" keys::dbsize, "Return the number of keys in the selected database";
    "decr" 2 WRITE | GROWS | FAST, ONE, "string" "1.0.0" strings::decr, "Decrement the integer value of a key by one";
    "decrby" 3 WRITE | GROWS | FAST, ONE, "string" "1.0.0" strings::decrby, "Decrement the integer value of a key by the given number";
    "del" -2 WRITE, ALL, "generic" "1.0.0" keys::del, "Delete a key";
    "echo" 2 FAST, NONE, "connection" "1.0.0" server::echo, "Echo the given string";
    "exists" -2 READ | FAST, ALL, "generic" "1.0.0" keys::exists, "Determine if a key exists";
    "expire" -3 WRITE | FAST, ONE, "generic" "1.0.0" keys::expire, "Set a key's time to live in seconds";
    "expireat" -3 WRITE | FAST, ONE, "generic" "1.2.0" keys::expireat, "Set the expiration for a key as a UNIX timestamp";
    "expiretime" 2 READ | FAST, ONE, "generic" "7.0.0" keys::expiretime, "Get the expiration Unix timestamp for a key";
    "flushall" -1 WRITE, NONE, "server" "1.0.0" keys::flush, "Remove all keys from all databases";
    "flushdb" -1 WRITE, NONE, "server" "1.0.0" keys::flush, "Remove all keys from the current database";
    "get" 2 READ | FAST, ONE, "string" "1.0.0" strings::get, "Get the value of a key";
    "getdel" 2 WRITE | FAST, ONE, "string" "6.2.0" strings::getdel, "Get the value of a key and delete the key";
    "getex" -2 WRITE | FAST, ONE, "string" "6.2.0" strings::getex, "Get the value of a key and optionally set its expiration";
    "getrange" 4 READ, ONE, "string" "2.4.0" strings::getrange, "Get a substring of the string stored at a key";
    "getset" 3 WRITE | GROWS | FAST, ONE, "string" "1.0.0" strings::getset, "Set the string value of a key and return its old value";
    "hello" -1 FAST, NONE, "connection" "6.0.0" server::hello, "Handshake with Redis";
    "incr" 2 WRITE | GROWS | FAST, ONE, "string" "1.0.0" strings::incr, "Increment the integer value of a key by one";
    "incrby" 3 WRITE | GROWS | FAST, ONE, "string" "1.0.0" strings::incrby, "Increment the integer value of a key by the given amount";
    "info" -1 0, NONE, "server" "1.0.0" server::info, "Get information and statistics about the server";
    "keys" 2 READ, NONE, "generic" "1.0.0" keys::keys, "Find all keys matching the given pattern";
    "mget" -2 READ | FAST, ALL, "string" "1.0.0" strings::mget, "Get the values of all the given keys";
    "mset" -3 WRITE | GROWS, PAIRS, "string" "1.0.1" strings::mset, "Set multiple keys to multiple values";
    "msetnx" -3 WRITE | GROWS, PAIRS, "string" "1.0.1" strings::msetnx, "Set multiple keys to multiple values, only if none of the keys exist";
    "persist" 2 WRITE | FAST, ONE, "generic" "2.2.0" keys::persist, "Remove the expiration from a key";
    "pexpire" -3 WRITE | FAST, ONE, "generic" "2.6.0" keys::pexpire, "Set a key's time to live in milliseconds";
    "pexpireat" -3 WRITE | FAST, ONE, "generic" "2.6.0" keys::pexpireat, "Set the expiration for a key as a UNIX timestamp specified in milliseconds";
    "pexpiretime" 2 READ | FAST, ONE, "generic" "7.0.0" keys::pexpiretime, "Get the expiration Unix timestamp for a key in milliseconds";
    "ping" -1 FAST, NONE, "connection" "1.0.0" server::ping, "Ping the server";
    "psetex" 4 WRITE | GROWS, ONE, "string" "2.6.0" strings::psetex, "Set the value and expiration in milliseconds of a key";
    "pttl" 2 READ | FAST, ONE, "generic" "2.6.0" keys::pttl, "Get the time to live for a key in milliseconds";
    "quit" -1 FAST, NONE, "connection" "1.0.0" server::quit, "Close the connection";
    "rename" 3 WRITE, TWO, "generic" "1.0.0" keys::rename, "Rename a key";
    "renamenx" 3 WRITE | FAST, TWO, "generic" "1.0.0" keys::renamenx, "Rename a key, only if the new key does not exist";
    "reset" 1 FAST, NONE, "connection" "6.2.0" server::reset, "Reset the connection";
    "scan" -2 READ, NONE, "generic" "2.8.0" keys::scan, "Incrementally iterate the keys space";
    "select" 2 FAST, NONE, "connection" "1.0.0" server::select, "Change the selected database for the current connection";
    "set" -3 WRITE | GROWS, ONE, "string" "1.0.0" strings::set, "Set the string value of a key";
    "setex" 4 WRITE | GROWS, ONE, "string" "2.0.0" strings::setex, "Set the value and expiration of a key";
    "setnx" 3 WRITE | GROWS | FAST, ONE, "string" "1.0.0" strings::setnx, "Set the value of a key, only if the key does not exist";
    "setrange" 4 WRITE | GROWS, ONE, "string" "2.2.0" strings::setrange, "Overwrite part of a string at key starting at the specified offset";
    "strlen" 2 READ | FAST, ONE, "string" "2.2.0" strings::strlen, "Get the length of the value stored in a key";
    "substr" 4 READ, ONE, "string" "1.0.0" strings::getrange, "Get a substring of the string stored at a key";
    "time" 1 FAST, NONE, "server" "2.6.0" server::time, "Return the current server time";
    "touch" -2 READ | FAST, ALL, "generic" "3.2.1" keys::exists, "Alters the last access time of a key(s). Returns the number of existing keys specified.";
    "ttl" 2 READ | FAST, ONE, "generic" "1.0.0" keys::ttl, "Get the time to live for a key in seconds";
    "type" 2 READ | FAST, ONE, "generic" "1.0.0" keys::kind, "Determine the type stored at key";
    "unlink" -2 WRITE | FAST, ALL, "generic" "4.0.0" keys::del, "Delete a key asynchronously in another thread. Otherwise it is just as DEL, but non blocking.";
};

fn find(name: &[u8]) -> Option<&'static Command> {
    let lower = name.to_ascii_lowercase();
    COMMANDS.binary_search_by(|c| c.name.as_bytes().cmp(&lower)).ok().map(|at| &COMMANDS[at])
}

/// Executes a request. An empty one does nothing.
pub fn execute(context: &mut Context<'_>, request: &Request, reply: &mut Reply) {
    if let Err(text) = checked(context, request).and_then(|c| (c.run)(context, request, reply)) {
        reply.error(&text);
    }
}

/// The request's command, if the request may be executed at all.
fn checked(context: &Context<'_>, request: &[Vec<u8>]) -> Result<&'static Command, Fail> {
    let name = request.first().map_or(&b""[..], |n| n);
    let command = find(name).ok_or_else(|| unknown(request))?;
    if !arity_fits(command.arity, request.len()) {
        return Err(wrong_arity(command.name));
    }
    if command.flags & WRITE != 0 && context.refusing() {
        return Err(NO_ROOM);
    }
    let keys = key_positions(command, request.len());
    if command.flags & WRITE != 0 && keys.clone().any(|at| request[at].len() > limits::KEY) {
        return Err(KEY_TOO_LONG);
    }
    if command.flags & GROWS != 0 {
        let arguments: usize = request[1..].iter().map(Vec::len).sum();
        context.room_for(arguments + keys.count() * KEY_OVERHEAD)?;
    }
    Ok(command)
}

fn arity_fits(arity: i64, len: usize) -> bool {
    if arity < 0 { len as i64 >= -arity } else { len as i64 == arity }
}

/// Which arguments are keys.
fn key_positions(command: &Command, len: usize) -> core::iter::StepBy<core::ops::Range<usize>> {
    let (first, last, step) = command.keys;
    if first == 0 {
        return (0..0).step_by(1);
    }
    let last = if last < 0 { len as i64 + last } else { last };
    (first as usize..last as usize + 1).step_by(step as usize)
}

fn wrong_arity(name: &str) -> Fail {
    format!("ERR wrong number of arguments for '{name}' command").into_bytes().into()
}

/// Redis shows the beginning of the arguments, 128 bytes of them.
fn unknown(request: &[Vec<u8>]) -> Fail {
    const SHOWN: usize = 128;
    let name = request.first().map_or(&b""[..], |n| n);
    let mut text = b"ERR unknown command '".to_vec();
    text.extend(c_string(name).iter().take(SHOWN));
    text.extend_from_slice(b"', with args beginning with: ");
    let mut shown = 0;
    for argument in request.iter().skip(1) {
        if shown >= SHOWN {
            break;
        }
        let part = &c_string(argument)[..c_string(argument).len().min(SHOWN - shown)];
        text.push(b'\'');
        text.extend_from_slice(part);
        text.extend_from_slice(b"' ");
        shown += part.len() + 3;
    }
    text.into()
}

/// A text as far as a C program sees it.
fn c_string(text: &[u8]) -> &[u8] {
    text.split(|b| *b == 0).next().unwrap_or(text)
}

fn unknown_subcommand(container: &str, name: &[u8]) -> Fail {
    let mut text = b"ERR unknown subcommand '".to_vec();
    text.extend(c_string(name).iter().take(128));
    text.extend_from_slice(format!("'. Try {} HELP.", container.to_ascii_uppercase()).as_bytes());
    text.into()
}

fn number(text: &[u8]) -> Result<i64, Fail> {
    integer(text).ok_or(NOT_AN_INTEGER)
}

fn is(text: &[u8], word: &str) -> bool {
    text.eq_ignore_ascii_case(word.as_bytes())
}

/// An absolute end in milliseconds from an argument of `command`: in units of `unit` ms, from now on if `relative`.
fn end_time(now: u64, amount: i64, unit: i64, relative: bool, command: &str) -> Result<i64, Fail> {
    let invalid = || Cow::Owned(format!("ERR invalid expire time in '{command}' command").into_bytes());
    let base = if relative { now as i64 } else { 0 };
    amount.checked_mul(unit).and_then(|ms| ms.checked_add(base)).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_consistent() {
        assert!(COMMANDS.is_sorted_by(|a, b| a.name < b.name));
        for c in COMMANDS {
            assert!(c.flags & (READ | WRITE) != READ | WRITE, "{}", c.name);
            assert!(c.flags & GROWS == 0 || c.flags & WRITE != 0, "{}", c.name);
            assert_eq!(c.keys.0 == 0, c.keys.2 == 0, "{}", c.name);
            assert!(find(c.name.to_ascii_uppercase().as_bytes()).is_some_and(|f| f.name == c.name));
        }
        assert!(find(b"nosuch").is_none() && find(b"").is_none());
    }
}
