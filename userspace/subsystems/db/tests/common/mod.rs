//! A shell around the engine with files in memory that can be cut off at any byte.
#![allow(dead_code)]

use db::engine::*;
use db::recovery::{Recovered, Recovery, RecoveryError};
use std::collections::BTreeMap;

/// xorshift64*.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len() as u64) as usize]
    }
}

/// The two virtual files.
#[derive(Clone, Default, Debug, PartialEq)]
pub struct Files {
    pub log: Vec<u8>,
    pub next: Option<Vec<u8>>,
}

pub fn recover(log: &[u8]) -> Result<Recovered, RecoveryError> {
    let mut r = Recovery::default();
    for piece in log.chunks(1000) {
        r.feed(piece)?;
    }
    r.finish()
}

pub struct Shell {
    pub db: Db,
    pub files: Files,
    pub now: u64,
    /// The operation that the file server has taken and not yet answered.
    pub under_way: Option<FileOp>,
    pub out: BTreeMap<ConnId, Vec<u8>>,
    pub closed: Vec<ConnId>,
    /// Takes replies as fast as they come.
    pub drains: bool,
    pub ops: Vec<FileOp>,
}

impl Shell {
    pub fn new(config: Config) -> Shell {
        Shell::on(config, Files::default(), 1_000_000).unwrap()
    }

    /// Starts on what a crash left.
    pub fn on(config: Config, mut files: Files, now: u64) -> Result<Shell, RecoveryError> {
        let recovered = recover(&files.log)?;
        files.log.truncate(recovered.valid as usize);
        files.next = None;
        Ok(Shell {
            db: Db::new(config, recovered, now),
            files,
            now,
            under_way: None,
            out: BTreeMap::new(),
            closed: Vec::new(),
            drains: true,
            ops: Vec::new(),
        })
    }

    pub fn step(&mut self, event: Event<'_>) {
        let mut actions = Actions::default();
        self.db.step(self.now, event, &mut actions);
        if let Some(op) = actions.file {
            assert!(self.under_way.is_none(), "one file operation at a time");
            self.ops.push(op.clone());
            self.under_way = Some(op);
        }
        for (conn, bytes) in actions.replies {
            let n = bytes.len();
            self.out.entry(conn).or_default().extend(bytes);
            if self.drains {
                self.step(Event::Sent(conn, n));
            }
        }
        for conn in actions.close {
            self.closed.push(conn);
            self.step(Event::Closed(conn));
        }
    }

    /// The file server performs what was asked.
    pub fn file(&mut self) -> bool {
        let Some(op) = self.under_way.take() else { return false };
        apply(&mut self.files, &op);
        self.step(Event::FileDone);
        true
    }

    /// Rounds until nothing is under way.
    pub fn settle(&mut self) {
        self.step(Event::Round);
        while self.file() {}
    }

    pub fn open(&mut self, conn: u64) {
        self.step(Event::Opened(ConnId(conn)));
    }

    pub fn input(&mut self, conn: u64, text: &[u8]) {
        self.step(Event::Input(ConnId(conn), text));
    }

    pub fn taken(&mut self, conn: u64) -> Vec<u8> {
        self.out.remove(&ConnId(conn)).unwrap_or_default()
    }

    /// An inline request, to its end.
    pub fn ask(&mut self, conn: u64, line: &str) -> String {
        self.input(conn, format!("{line}\r\n").as_bytes());
        self.settle();
        String::from_utf8(self.taken(conn)).unwrap()
    }

    /// Everything that can be observed of the keys.
    pub fn contents(&self) -> BTreeMap<Vec<u8>, (Vec<u8>, u64)> {
        contents(self.db.keys(), self.db.now())
    }
}

pub fn contents(keys: &db::keyspace::Keyspace, now: u64) -> BTreeMap<Vec<u8>, (Vec<u8>, u64)> {
    keys.scan(0)
        .filter(|(_, _, e)| !e.expired(now))
        .map(|(_, k, e)| (k.to_vec(), (e.value.clone(), e.expires)))
        .collect()
}

pub fn apply(files: &mut Files, op: &FileOp) {
    match op {
        FileOp::AppendLog(bytes) => files.log.extend(bytes),
        FileOp::CreateNext => files.next = Some(Vec::new()),
        FileOp::AppendNext(bytes) => files.next.as_mut().expect("created before").extend(bytes),
        FileOp::InstallNext => files.log = files.next.take().expect("created before"),
        FileOp::RemoveNext => files.next = None,
    }
}

pub fn request(words: &[&[u8]]) -> Vec<u8> {
    let mut r = format!("*{}\r\n", words.len()).into_bytes();
    for w in words {
        r.extend(format!("${}\r\n", w.len()).bytes());
        r.extend_from_slice(w);
        r.extend_from_slice(b"\r\n");
    }
    r
}

/// Splits replies; for an array its elements stay within it.
pub fn split_replies(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let len = reply_len(bytes).expect("whole replies");
        all.push(bytes[..len].to_vec());
        bytes = &bytes[len..];
    }
    all
}

/// Length of the first reply, if it is all there.
pub fn reply_len(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|w| w == b"\r\n")? + 2;
    let number = || std::str::from_utf8(&bytes[1..line - 2]).unwrap().parse::<i64>().unwrap();
    match bytes[0] {
        b'$' if number() >= 0 => Some(line + number() as usize + 2).filter(|n| *n <= bytes.len()),
        b'*' => {
            let mut len = line;
            for _ in 0..number() {
                len += reply_len(bytes.get(len..)?)?;
            }
            Some(len)
        }
        b'$' | b'+' | b'-' | b':' => Some(line),
        other => panic!("not a reply: {other}"),
    }
}
