//! Clients that write while faults happen, and the history that says afterwards whether anything was lost.
//!
//! Every write has a key of its own, so a lost write cannot hide behind a later one. A write counts as acknowledged when the
//! client has read the server's `+OK`; one whose connection broke before that is of unknown outcome and proves nothing. Reads
//! of earlier acknowledged keys are mixed in: one that misses shows a stale or lost value while it happens.

use crate::resp::{Client, Value};
use crate::rng::Rng;
use anyhow::{Result, bail};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How the clients behave.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// The service.
    pub address: SocketAddr,
    /// Clients at the same time, each with one connection and one command under way.
    pub writers: u16,
    /// Further clients that make a new connection for every write and are impatient: they see when the service is back even
    /// if it does not answer on connections from before.
    pub probers: u16,
    /// Pause of a client between its writes.
    pub pause: Duration,
    /// How long a command may take before the client gives the connection up.
    pub command_limit: Duration,
    /// How long connecting may take.
    pub connect_limit: Duration,
    /// Chooses which keys are read again; part of the values, so that two runs never agree by accident.
    pub seed: u64,
}

impl Spec {
    /// Four clients, about 50 writes a second each, that give a connection up after two seconds; and a prober.
    pub fn new(address: SocketAddr, seed: u64) -> Spec {
        let pause = Duration::from_millis(20);
        let (command_limit, connect_limit) = (Duration::from_secs(2), Duration::from_millis(300));
        Spec { address, writers: 4, probers: 1, pause, command_limit, connect_limit, seed }
    }

    /// Whether this client is a prober; probers are numbered after the writers.
    fn is_prober(&self, number: u16) -> bool {
        number > self.writers
    }
}

/// How often a client reads an earlier key: once in so many writes.
const READ_EVERY: u64 = 4;
/// How long a prober waits: for a connection, and for an answer.
const PROBE_LIMIT: Duration = Duration::from_millis(200);
/// Pause before connecting again.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// Writes remembered; a load that runs longer stops.
const MAX_WRITES: usize = 1_000_000;

/// A write that was acknowledged. Times are since the start of the load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ack {
    /// Which client.
    pub writer: u16,
    /// The client's number of the write.
    pub sequence: u64,
    /// When it was sent.
    pub sent: Duration,
    /// When its acknowledgement was read.
    pub acked: Duration,
}

/// What the clients saw.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Acknowledged writes, in order of their acknowledgement.
    pub acks: Vec<Ack>,
    /// Writes of unknown outcome.
    pub unknown: u64,
    /// Writes that the server refused with an error, and the last such error.
    pub refused: u64,
    /// The last error that a server answered.
    pub last_error: Option<String>,
    /// Reads of earlier acknowledged keys that answered.
    pub reads: u64,
    /// Reads that answered something else than what was acknowledged.
    pub wrong_reads: Vec<String>,
    /// Connections that broke or were given up; probers do not count.
    pub broken: u64,
}

impl History {
    /// The longest time without any acknowledgement that ended after `from`: start (the last acknowledgement before it) and
    /// length. `None` if nothing was acknowledged on both sides.
    pub fn longest_gap(&self, from: Duration) -> Option<(Duration, Duration)> {
        gap(self.acks.iter().map(|ack| ack.acked), from)
    }

    /// The longest time that any one of the first `writers` clients went without an acknowledgement, ending after `from`.
    pub fn longest_wait(&self, writers: u16, from: Duration) -> Option<Duration> {
        let of = |writer| self.acks.iter().filter(move |ack| ack.writer == writer).map(|ack| ack.acked);
        (1..=writers).filter_map(|writer| gap(of(writer), from)).map(|(_, length)| length).max()
    }

    /// Acknowledged writes after `from`.
    pub fn acks_since(&self, from: Duration) -> usize {
        self.acks.iter().rev().take_while(|ack| ack.acked >= from).count()
    }
}

/// The longest gap between neighbours that ends after `from`: its start and length.
fn gap(times: impl Iterator<Item = Duration> + Clone, from: Duration) -> Option<(Duration, Duration)> {
    let pairs = times.clone().zip(times.skip(1)).filter(|(_, end)| *end >= from);
    pairs.map(|(start, end)| (start, end - start)).max_by_key(|(_, length)| *length)
}

/// Running clients.
#[derive(Debug)]
pub struct Load {
    spec: Spec,
    start: Instant,
    stop: Arc<AtomicBool>,
    history: Arc<Mutex<History>>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts the clients. They keep trying whatever happens to the service, until [`Load::stop`].
    pub fn start(spec: Spec) -> Result<Load> {
        let stop = Arc::new(AtomicBool::new(false));
        let history = Arc::new(Mutex::new(History::default()));
        let start = Instant::now();
        let mut threads = Vec::new();
        for number in 1..=spec.writers + spec.probers {
            let writer = Writer {
                number,
                spec,
                start,
                stop: stop.clone(),
                history: history.clone(),
                rng: Rng::new(spec.seed ^ u64::from(number) << 48),
                acked: Vec::new(),
            };
            threads.push(std::thread::Builder::new().name(format!("writer-{number}")).spawn(move || writer.run())?);
        }
        Ok(Load { spec, start, stop, history, threads })
    }

    /// Time since the load started: the clock of its history.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// What the clients saw so far.
    pub fn history(&self) -> History {
        lock(&self.history).clone()
    }

    /// Waits until `count` writes were acknowledged after `from`, at most for `limit`; says how many there were.
    pub fn wait_for_acks(&self, from: Duration, count: usize, limit: Duration) -> Result<usize> {
        let deadline = Instant::now() + limit;
        loop {
            let acks = lock(&self.history).acks_since(from);
            if acks >= count {
                return Ok(acks);
            }
            if Instant::now() >= deadline {
                bail!("only {acks} of {count} writes were acknowledged within {:.1} s", limit.as_secs_f64());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops the clients and returns the whole history.
    pub fn stop(mut self) -> History {
        self.end();
        self.history()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }

    /// What the clients did and how.
    pub fn spec(&self) -> Spec {
        self.spec
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

fn lock(history: &Mutex<History>) -> MutexGuard<'_, History> {
    history.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The key of a write.
fn key(writer: u16, sequence: u64) -> String {
    format!("w{writer}:{sequence}")
}

/// The value of a write: different for every write of every run.
fn value(seed: u64, writer: u16, sequence: u64) -> String {
    format!("value-{seed:x}-{writer}-{sequence}-{:016x}", Rng::new(seed ^ u64::from(writer) << 48 ^ sequence).draw())
}

/// One client.
struct Writer {
    number: u16,
    spec: Spec,
    start: Instant,
    stop: Arc<AtomicBool>,
    history: Arc<Mutex<History>>,
    rng: Rng,
    acked: Vec<u64>,
}

impl Writer {
    fn run(mut self) {
        let mut sequence = 0;
        let prober = self.spec.is_prober(self.number);
        let (connect_limit, command_limit) =
            if prober { (PROBE_LIMIT, PROBE_LIMIT) } else { (self.spec.connect_limit, self.spec.command_limit) };
        while !self.stop.load(Ordering::Relaxed) {
            let Ok(mut client) = Client::connect(self.spec.address, connect_limit) else {
                std::thread::sleep(RETRY_PAUSE);
                continue;
            };
            while !self.stop.load(Ordering::Relaxed) {
                sequence += 1;
                let good =
                    self.write(&mut client, sequence, command_limit) && self.read(&mut client, sequence, command_limit);
                if good {
                    std::thread::sleep(self.spec.pause);
                }
                if prober {
                    break;
                }
                if !good {
                    lock(&self.history).broken += 1;
                    std::thread::sleep(RETRY_PAUSE);
                    break;
                }
            }
        }
    }

    /// Writes the next key; `false` if the connection is done for.
    fn write(&mut self, client: &mut Client, sequence: u64, limit: Duration) -> bool {
        let (key, value) = (key(self.number, sequence), value(self.spec.seed, self.number, sequence));
        let sent = self.start.elapsed();
        let reply = client.call(&[b"SET", key.as_bytes(), value.as_bytes()], limit);
        let mut history = lock(&self.history);
        match reply {
            Ok(Value::Simple(ok)) if ok == "OK" => {
                if history.acks.len() >= MAX_WRITES {
                    self.stop.store(true, Ordering::Relaxed);
                }
                history.acks.push(Ack { writer: self.number, sequence, sent, acked: self.start.elapsed() });
                self.acked.push(sequence);
                true
            }
            Ok(Value::Error(error)) => {
                history.refused += 1;
                history.last_error = Some(error);
                true
            }
            Ok(_) | Err(_) => {
                history.unknown += 1;
                false
            }
        }
    }

    /// Now and then reads an earlier acknowledged key; `false` if the connection is done for.
    fn read(&mut self, client: &mut Client, sequence: u64, limit: Duration) -> bool {
        if !sequence.is_multiple_of(READ_EVERY) || self.acked.is_empty() {
            return true;
        }
        let chosen = self.acked[self.rng.below(self.acked.len() as u64) as usize];
        let (key, expected) = (key(self.number, chosen), value(self.spec.seed, self.number, chosen));
        let reply = client.call(&[b"GET", key.as_bytes()], limit);
        let mut history = lock(&self.history);
        match reply {
            Ok(Value::Bulk(Some(found))) if found == expected.as_bytes() => history.reads += 1,
            Ok(Value::Error(error)) => history.last_error = Some(error),
            Ok(found) => {
                history.reads += 1;
                history.wrong_reads.push(format!("{key}: expected {expected}, read {found:?}"));
            }
            Err(_) => return false,
        }
        true
    }
}

/// What reading every acknowledged key back found.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Acknowledged writes that were read back.
    pub checked: usize,
    /// Acknowledged writes that were not there, or had another value.
    pub lost: Vec<String>,
}

/// Keys read back at once.
const VERIFY_BATCH: usize = 32;

/// Reads every acknowledged key back. Fails if the service does not answer within `limit` for all of it: then nothing is
/// known, which is not the same as nothing being lost.
pub fn verify(spec: &Spec, history: &History, limit: Duration) -> Result<Verdict> {
    let deadline = Instant::now() + limit;
    let mut verdict = Verdict::default();
    let mut client = None;
    for batch in history.acks.chunks(VERIFY_BATCH) {
        let keys: Vec<String> = batch.iter().map(|ack| key(ack.writer, ack.sequence)).collect();
        let commands: Vec<Vec<&[u8]>> = keys.iter().map(|key| vec![&b"GET"[..], key.as_bytes()]).collect();
        let replies = loop {
            if Instant::now() >= deadline {
                let (checked, all, limit) = (verdict.checked, history.acks.len(), limit.as_secs());
                bail!("read back only {checked} of {all} acknowledged writes within {limit} s");
            }
            match read_batch(spec, &mut client, &commands) {
                Some(replies) => break replies,
                None => std::thread::sleep(RETRY_PAUSE),
            }
        };
        for ((ack, key), found) in batch.iter().zip(&keys).zip(replies) {
            verdict.checked += 1;
            let expected = value(spec.seed, ack.writer, ack.sequence);
            if found != Value::Bulk(Some(expected.into_bytes())) {
                verdict.lost.push(format!("{key} (acknowledged at {:.3} s): {found:?}", ack.acked.as_secs_f64()));
            }
        }
    }
    Ok(verdict)
}

/// The replies to a batch; `None` if the connection failed or the server answered with an error, so it must be tried again.
fn read_batch(spec: &Spec, client: &mut Option<Client>, commands: &[Vec<&[u8]>]) -> Option<Vec<Value>> {
    let mut connected = match client.take() {
        Some(connected) => connected,
        None => Client::connect(spec.address, spec.connect_limit).ok()?,
    };
    let replies = connected.pipeline(commands, spec.command_limit).ok()?;
    *client = Some(connected);
    (!replies.iter().any(|reply| matches!(reply, Value::Error(_)))).then_some(replies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_told_for_all_and_for_each() {
        let ack = |writer, ms| {
            let acked = Duration::from_millis(ms);
            Ack { writer, sequence: ms, sent: acked, acked }
        };
        let acks = vec![ack(1, 0), ack(2, 10), ack(1, 500), ack(2, 510), ack(3, 700), ack(1, 1500)];
        let history = History { acks, ..History::default() };
        let ms = Duration::from_millis;
        assert_eq!(history.longest_gap(ms(0)), Some((ms(700), ms(800))));
        assert_eq!(history.longest_gap(ms(2000)), None);
        assert_eq!(history.longest_wait(2, ms(0)), Some(ms(1000)));
        assert_eq!(history.longest_wait(3, ms(400)), Some(ms(1000)));
        assert_eq!((history.acks_since(ms(510)), history.acks_since(ms(9999))), (3, 0));
    }
}
