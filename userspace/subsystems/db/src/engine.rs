//! The database engine: connections, group commit, release of replies, compaction. A function of the [`Event`]s it is given.
//!
//! One file operation is under way at a time. While it is, commands go on being executed in memory; their records gather and go
//! out with the next append. A reply carries the number of the record that it depends on and is released when that is durable.
//!
//! Compaction is a second stream of records beside the log: pieces of the keyspace in scan order, and, as they happen, the very
//! records that go to the log. Read in order they give the keyspace: whatever is said about a key before its piece comes is
//! overwritten by the piece, whatever is said after it is newer. When the scan is through and both files are durable up to the same
//! record, the second replaces the first.

use crate::command::{self, Context, Session};
use crate::keyspace::{KEY_OVERHEAD, Keyspace};
use crate::limits;
use crate::record::{self, Kind, Op};
use crate::recovery::Recovered;
use crate::resp::{Parser, Reply};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

/// A connection, named by the shell.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ConnId(pub u64);

/// Parameters.
#[derive(Clone, Debug)]
pub struct Config {
    /// Memory for keys and values, in bytes as [`Keyspace::bytes`] counts them. What would exceed it gets `-OOM`.
    pub max_memory: usize,
    /// Memory for requests and replies of all connections together; the greediest is closed when it is exceeded.
    pub max_buffers: usize,
    /// A log is compacted when it is longer than this and than twice what is alive.
    pub compact_from: u64,
    /// Bytes of keyspace written per append while compacting.
    pub compact_piece: usize,
    /// Most expired keys removed per event.
    pub expire_step: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            max_memory: 48 << 20,
            max_buffers: 24 << 20,
            compact_from: 4 << 20,
            compact_piece: 64 << 10,
            expire_step: 200,
        }
    }
}

/// What has happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// A connection was accepted.
    Opened(ConnId),
    /// Bytes came on a connection.
    Input(ConnId, &'a [u8]),
    /// So many bytes of its replies were taken by its socket.
    Sent(ConnId, usize),
    /// The peer is gone.
    Closed(ConnId),
    /// The file operation that was asked for is done, and durable on all replicas.
    FileDone,
    /// The second file had no room. (When the log itself has none, the engine's state is ahead of the file: the shell must
    /// drop it and recover, see [`Db::refuse_writes`].)
    NextFailed,
    /// The end of a round of inputs, or a deadline: commit what has gathered.
    Round,
}

/// An operation on the database's two files. [`Event::FileDone`] answers each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FileOp {
    /// Append to the log, durably.
    AppendLog(Vec<u8>),
    /// Make the second file, empty, in place of one that may be there.
    CreateNext,
    /// Append to the second file, durably.
    AppendNext(Vec<u8>),
    /// Rename the second file over the log, atomically; from now on it is the log.
    InstallNext,
    /// Remove the second file.
    RemoveNext,
}

/// What is to be done.
#[derive(Default, Debug)]
pub struct Actions {
    /// The next file operation.
    pub file: Option<FileOp>,
    /// Bytes for connections.
    pub replies: Vec<(ConnId, Vec<u8>)>,
    /// Connections to close once their replies are sent.
    pub close: Vec<ConnId>,
}

/// Counts for `INFO`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Connections accepted.
    pub connections: u64,
    /// Connections closed because buffers were full.
    pub shed: u64,
    /// Commands executed.
    pub commands: u64,
    /// Keys that ended.
    pub expired: u64,
    /// Lookups of keys that were there.
    pub hits: u64,
    /// Lookups of keys that were not.
    pub misses: u64,
    /// Appends to the log.
    pub commits: u64,
    /// Compactions finished.
    pub compactions: u64,
    /// Compactions given up for want of room.
    pub failed_compactions: u64,
}

struct Conn {
    session: Session,
    parser: Parser,
    /// Replies that wait for a record to be durable, in order.
    waiting: VecDeque<(u64, Vec<u8>)>,
    waiting_bytes: usize,
    /// Bytes released that the socket has not taken.
    unsent: usize,
    /// No more requests are taken; it closes when its replies are out.
    ending: bool,
    close_told: bool,
}

impl Conn {
    fn buffered(&self) -> usize {
        self.parser.held() + self.waiting_bytes + self.unsent
    }

    fn output_full(&self) -> bool {
        self.waiting_bytes + self.unsent > limits::OUTPUT
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Compaction {
    Idle,
    /// Wanted, to begin when the file is free.
    Wanted,
    Creating,
    /// The scan has reached this hash; `None` when it is through.
    Scanning(Option<u64>),
    Installing,
    Removing,
}

/// The file operation under way, with what its end means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Busy {
    Free,
    /// Records up to this number, so many bytes.
    Log(u64, usize),
    Next(usize),
    Other,
    /// The rename. Both files end with the last durable record.
    Install,
}

/// A file of records: what is durable of it, and what waits to be appended.
#[derive(Default)]
struct Stream {
    durable: u64,
    pending: Vec<u8>,
}

/// Everything that is known about the data and is not a connection.
pub struct State {
    /// The keys.
    pub keys: Keyspace,
    /// Number of the last record made.
    pub seq: u64,
    /// Number of the last record that is durable.
    pub durable: u64,
    /// The database's time in milliseconds.
    pub now: u64,
    /// Keys (by hash) that records not yet durable removed.
    pub removed: BTreeMap<u64, u64>,
    /// The last record that removed all keys.
    pub flushed: u64,
    /// Counts.
    pub stats: Stats,
    /// Parameters.
    pub config: Config,
    /// Writes are refused until then: the last one found no room in the file system.
    pub refuse_until: u64,
    /// When this engine was made.
    pub started: u64,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// Connections now.
    pub connections: usize,
    /// A client asked for compaction, or one is under way.
    pub compacting: bool,
}

/// See the module's documentation.
pub struct Db {
    state: State,
    conns: BTreeMap<ConnId, Conn>,
    /// Connections whose next request may be there but was not executed for want of room.
    stalled: BTreeSet<ConnId>,
    log: Stream,
    next: Stream,
    busy: Busy,
    compaction: Compaction,
    /// No compaction before the log has this length again (after a failure).
    compact_again_from: u64,
    /// Alternates between log and second file.
    next_turn: bool,
    buffered: usize,
}

impl Db {
    /// A database with what recovery found, at time `now` (which is moved forward to the log's time).
    pub fn new(config: Config, recovered: Recovered, now: u64) -> Db {
        let now = now.max(recovered.time);
        let mut log = Stream { durable: recovered.valid, pending: Vec::new() };
        if recovered.valid == 0 {
            record::begin(recovered.seq, now, &mut log.pending);
        }
        Db {
            state: State {
                keys: recovered.keys,
                seq: recovered.seq,
                durable: recovered.seq,
                now,
                removed: BTreeMap::new(),
                flushed: 0,
                stats: Stats::default(),
                refuse_until: 0,
                started: now,
                log_bytes: log.durable,
                connections: 0,
                compacting: false,
                config,
            },
            conns: BTreeMap::new(),
            stalled: BTreeSet::new(),
            log,
            next: Stream::default(),
            busy: Busy::Free,
            compaction: Compaction::Idle,
            compact_again_from: 0,
            next_turn: false,
            buffered: 0,
        }
    }

    /// Answers writes with an error until `time`: the file system had no room for the last one.
    pub fn refuse_writes(&mut self, time: u64) {
        self.state.refuse_until = time;
    }

    /// The database's time as of the last event. It never goes back.
    pub fn now(&self) -> u64 {
        self.state.now
    }

    /// The keys; for tests and statistics.
    pub fn keys(&self) -> &Keyspace {
        &self.state.keys
    }

    /// Counts so far.
    pub fn stats(&self) -> Stats {
        self.state.stats
    }

    /// Whether a file operation is under way.
    pub fn busy(&self) -> bool {
        self.busy != Busy::Free
    }

    /// Whether the shell should read from this connection now.
    pub fn wants_input(&self, conn: ConnId) -> bool {
        self.conns.get(&conn).is_some_and(|c| !c.ending) && !self.stalled.contains(&conn)
    }

    /// When a [`Event::Round`] is due though nothing else happens: a key ends.
    pub fn deadline(&self) -> Option<u64> {
        let refuse = self.state.refuse_until;
        self.state.keys.next_end().map(|end| if refuse > self.state.now { end.max(refuse) } else { end })
    }

    /// Takes what has happened at time `now`; what is to be done is added to `actions`.
    pub fn step(&mut self, now: u64, event: Event<'_>, actions: &mut Actions) {
        self.state.now = self.state.now.max(now);
        match event {
            Event::Opened(id) => self.opened(id, actions),
            Event::Input(id, bytes) => self.input(id, bytes, actions),
            Event::Sent(id, count) => self.sent(id, count, actions),
            Event::Closed(id) => self.closed(id),
            Event::FileDone => self.file_done(actions),
            Event::NextFailed => self.next_failed(actions),
            Event::Round => {
                self.expire();
                self.submit(actions);
            }
        }
    }

    // ---- connections ----

    fn opened(&mut self, id: ConnId, actions: &mut Actions) {
        if self.conns.len() >= limits::CONNECTIONS {
            actions.replies.push((id, b"-ERR max number of clients reached\r\n".to_vec()));
            actions.close.push(id);
            return;
        }
        self.state.stats.connections += 1;
        let conn = Conn {
            session: Session::new(self.state.stats.connections),
            parser: Parser::default(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            unsent: 0,
            ending: false,
            close_told: false,
        };
        self.conns.insert(id, conn);
        self.state.connections = self.conns.len();
    }

    fn input(&mut self, id: ConnId, bytes: &[u8], actions: &mut Actions) {
        let Some(conn) = self.conns.get_mut(&id).filter(|c| !c.ending) else { return };
        conn.parser.feed(bytes);
        self.buffered += bytes.len();
        self.execute(id, actions);
        self.shed(actions);
    }

    fn sent(&mut self, id: ConnId, count: usize, actions: &mut Actions) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let count = count.min(conn.unsent);
        conn.unsent -= count;
        self.buffered -= count;
        if self.stalled.contains(&id) {
            self.execute(id, actions);
        }
    }

    fn closed(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.remove(&id) {
            self.buffered -= conn.buffered();
        }
        self.stalled.remove(&id);
        self.state.connections = self.conns.len();
    }

    /// Closes the connection that holds most, while all together hold too much.
    fn shed(&mut self, actions: &mut Actions) {
        while self.buffered > self.state.config.max_buffers {
            let Some(id) = self.conns.iter().max_by_key(|(id, c)| (c.buffered(), **id)).map(|(id, _)| *id) else {
                return;
            };
            self.state.stats.shed += 1;
            self.closed(id);
            actions.close.push(id);
        }
    }

    /// Executes the requests that a connection has brought, as far as there is room for their effects.
    fn execute(&mut self, id: ConnId, actions: &mut Actions) {
        self.stalled.remove(&id);
        while let Some(conn) = self.conns.get_mut(&id).filter(|c| !c.ending) {
            if conn.output_full() || self.log.pending.len() > limits::BATCH {
                self.stalled.insert(id);
                break;
            }
            let before = conn.parser.held();
            let request = conn.parser.request();
            self.buffered -= before - conn.parser.held();
            let mut reply = Reply::default();
            let needs = match request {
                Ok(None) => break,
                Ok(Some(request)) => self.command(id, request, &mut reply),
                Err(error) => {
                    conn.ending = true;
                    reply.error(&[b"ERR ", error.0.as_bytes()].concat());
                    0
                }
            };
            self.put_reply(id, needs, reply.finish(), actions);
        }
        self.tell_closing(id, actions);
    }

    /// Executes one request; gives the number of the record that its reply depends on.
    fn command(&mut self, id: ConnId, request: Vec<Vec<u8>>, reply: &mut Reply) -> u64 {
        let conn = self.conns.get_mut(&id).expect("the caller has it");
        self.state.stats.commands += 1;
        let mut context = Context::new(&mut self.state, &mut conn.session);
        command::execute(&mut context, &request, reply);
        let (needs, body) = context.finish();
        conn.ending |= conn.session.quit;
        self.record(&body);
        needs
    }

    /// One command's operations become one record, in the log and, while compacting, in its successor.
    fn record(&mut self, body: &[u8]) {
        if self.state.compacting && self.compaction == Compaction::Idle {
            self.compaction = Compaction::Wanted;
        }
        if body.is_empty() {
            return;
        }
        self.state.seq += 1;
        let (seq, now) = (self.state.seq, self.state.now);
        // While the rename is under way, the log to which this goes is the new one.
        let installing = self.compaction == Compaction::Installing;
        let durable = if installing { self.next.durable } else { self.log.durable };
        record::encode(Kind::Commit, seq, now, durable, body, &mut self.log.pending);
        if let Compaction::Scanning(_) = self.compaction {
            record::encode(Kind::Commit, seq, now, self.next.durable, body, &mut self.next.pending);
        }
    }

    fn put_reply(&mut self, id: ConnId, needs: u64, bytes: Vec<u8>, actions: &mut Actions) {
        let conn = self.conns.get_mut(&id).expect("the caller has it");
        self.buffered += bytes.len();
        // Replies of one connection keep their order: none may overtake one that waits.
        let needs = needs.max(conn.waiting.back().map_or(0, |(n, _)| *n));
        if needs <= self.state.durable {
            conn.unsent += bytes.len();
            match actions.replies.last_mut() {
                Some((last, more)) if *last == id => more.extend_from_slice(&bytes),
                _ => actions.replies.push((id, bytes)),
            }
            return;
        }
        conn.waiting_bytes += bytes.len();
        match conn.waiting.back_mut() {
            Some((n, more)) if *n == needs => more.extend_from_slice(&bytes),
            _ => conn.waiting.push_back((needs, bytes)),
        }
    }

    fn tell_closing(&mut self, id: ConnId, actions: &mut Actions) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if conn.ending && conn.waiting.is_empty() && !conn.close_told {
            conn.close_told = true;
            actions.close.push(id);
        }
    }

    /// Records up to `seq` are durable: lets out the replies that waited for them.
    fn release(&mut self, seq: u64, actions: &mut Actions) {
        self.state.durable = self.state.durable.max(seq);
        let durable = self.state.durable;
        self.state.removed.retain(|_, seq| *seq > durable);
        for (id, conn) in &mut self.conns {
            while conn.waiting.front().is_some_and(|(needs, _)| *needs <= durable) {
                let (_, bytes) = conn.waiting.pop_front().expect("looked at above");
                conn.waiting_bytes -= bytes.len();
                conn.unsent += bytes.len();
                match actions.replies.last_mut() {
                    Some((last, more)) if last == id => more.extend_from_slice(&bytes),
                    _ => actions.replies.push((*id, bytes)),
                }
            }
        }
        let ids: Vec<ConnId> = self.conns.iter().filter(|(_, c)| c.ending).map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.tell_closing(id, actions));
    }

    /// Removes keys that have ended, a bounded number at a time. The removal is a record like any other.
    fn expire(&mut self) {
        if self.state.refuse_until > self.state.now {
            return;
        }
        let mut body = Vec::new();
        for _ in 0..self.state.config.expire_step {
            let Some(key) = self.state.keys.ended(self.state.now).map(<[u8]>::to_vec) else { break };
            let seq = self.state.seq + 1;
            let op = Op::Delete { key: &key };
            op.encode(&mut body);
            self.state.keys.apply(&op, seq);
            self.state.removed.insert(crate::keyspace::hash(&key), seq);
            self.state.stats.expired += 1;
        }
        self.record(&body);
    }

    // ---- files ----

    /// Gives the file the next thing to do, if it is free.
    fn submit(&mut self, actions: &mut Actions) {
        if self.busy != Busy::Free {
            return;
        }
        self.consider_compaction();
        let next_first = core::mem::replace(&mut self.next_turn, false);
        if !self.log.pending.is_empty() && !next_first {
            self.submit_log(actions);
            return;
        }
        if self.submit_next(actions) {
            return;
        }
        if !self.log.pending.is_empty() {
            self.submit_log(actions);
        }
    }

    fn submit_log(&mut self, actions: &mut Actions) {
        let bytes = core::mem::take(&mut self.log.pending);
        self.busy = Busy::Log(self.state.seq, bytes.len());
        self.next_turn = true;
        self.state.stats.commits += 1;
        actions.file = Some(FileOp::AppendLog(bytes));
    }

    /// The compaction's next file operation; `false` if it has none.
    fn submit_next(&mut self, actions: &mut Actions) -> bool {
        let op = match self.compaction {
            Compaction::Idle => return false,
            Compaction::Wanted => {
                self.compaction = Compaction::Creating;
                self.busy = Busy::Other;
                FileOp::CreateNext
            }
            Compaction::Scanning(at) => {
                if let Some(from) = at {
                    self.compaction = Compaction::Scanning(self.piece(from));
                }
                if self.next.pending.is_empty() && !self.log.pending.is_empty() {
                    // The log first: at the rename, both files must end with the same record.
                    return false;
                }
                if self.next.pending.is_empty() {
                    self.compaction = Compaction::Installing;
                    self.busy = Busy::Install;
                    FileOp::InstallNext
                } else {
                    let bytes = core::mem::take(&mut self.next.pending);
                    self.busy = Busy::Next(bytes.len());
                    FileOp::AppendNext(bytes)
                }
            }
            // Their operation is under way, so the file is not free.
            Compaction::Creating | Compaction::Installing | Compaction::Removing => return false,
        };
        actions.file = Some(op);
        true
    }

    /// Adds a piece of the keyspace to the second file's records; gives where the next begins.
    fn piece(&mut self, from: u64) -> Option<u64> {
        let (mut body, mut last) = (Vec::new(), None);
        let mut end = None;
        for (hash, key, entry) in self.state.keys.scan(from) {
            // A piece ends between two hashes, and a record has a bound.
            if last.is_some_and(|l| l != hash) && body.len() >= self.state.config.compact_piece {
                end = Some(hash);
                break;
            }
            if body.len() + entry.value.len() + key.len() + KEY_OVERHEAD > limits::RECORD {
                record::encode(
                    Kind::Commit,
                    self.state.seq,
                    self.state.now,
                    self.next.durable,
                    &body,
                    &mut self.next.pending,
                );
                body.clear();
            }
            Op::Set { key, value: &entry.value, expires: entry.expires }.encode(&mut body);
            last = Some(hash);
        }
        if !body.is_empty() {
            record::encode(
                Kind::Commit,
                self.state.seq,
                self.state.now,
                self.next.durable,
                &body,
                &mut self.next.pending,
            );
        }
        end
    }

    fn file_done(&mut self, actions: &mut Actions) {
        match core::mem::replace(&mut self.busy, Busy::Free) {
            Busy::Free => return,
            Busy::Log(seq, bytes) => {
                self.log.durable += bytes as u64;
                self.release(seq, actions);
            }
            Busy::Next(bytes) => self.next.durable += bytes as u64,
            Busy::Install => {
                self.log.durable = self.next.durable;
                self.compaction = Compaction::Idle;
                self.state.compacting = false;
                self.compact_again_from = 0;
                self.state.stats.compactions += 1;
            }
            Busy::Other if self.compaction == Compaction::Creating => {
                self.next = Stream::default();
                record::begin(self.state.seq, self.state.now, &mut self.next.pending);
                self.compaction = Compaction::Scanning(Some(0));
            }
            Busy::Other => {
                self.compaction = Compaction::Idle;
                self.state.compacting = false;
            }
        }
        self.state.log_bytes = self.log.durable;
        self.resume(actions);
        self.submit(actions);
    }

    /// Requests that waited for room are executed.
    fn resume(&mut self, actions: &mut Actions) {
        for id in core::mem::take(&mut self.stalled) {
            self.execute(id, actions);
        }
        self.shed(actions);
    }

    fn next_failed(&mut self, actions: &mut Actions) {
        self.state.stats.failed_compactions += 1;
        self.next = Stream::default();
        self.compact_again_from = self.log.durable * 2;
        self.compaction = Compaction::Removing;
        self.busy = Busy::Other;
        actions.file = Some(FileOp::RemoveNext);
    }

    fn consider_compaction(&mut self) {
        let alive = self.state.keys.bytes() as u64;
        let long = self.log.durable > self.state.config.compact_from.max(2 * alive).max(self.compact_again_from);
        if self.compaction == Compaction::Idle && (long || self.state.compacting) {
            self.state.compacting = true;
            self.compaction = Compaction::Wanted;
        }
    }
}
