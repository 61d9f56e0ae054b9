//! The engine: durability, crashes, compaction, bounds, protocol.

mod common;

use common::*;
use db::engine::*;
use db::limits;
use db::recovery::RecoveryError;
use std::collections::BTreeMap;

fn small() -> Config {
    Config { compact_from: 2000, compact_piece: 200, ..Config::default() }
}

fn shell() -> Shell {
    let mut s = Shell::new(Config::default());
    s.open(1);
    s.open(2);
    s.settle();
    s
}

#[test]
fn a_write_is_answered_only_when_it_is_durable() {
    let mut s = shell();
    s.input(1, b"SET a 1\r\nPING\r\n");
    s.input(2, b"PING\r\n");
    s.step(Event::Round);
    assert_eq!(s.taken(1), b"", "nothing overtakes the write");
    assert_eq!(s.taken(2), b"+PONG\r\n", "others are not held up");
    // While the append is under way, another connection reads what may yet be lost.
    s.input(2, b"GET a\r\nGET other\r\n");
    s.input(1, b"GET b\r\n");
    assert_eq!((s.taken(1), s.taken(2)), (vec![], vec![]));
    s.file();
    assert_eq!(s.taken(1), b"+OK\r\n+PONG\r\n$-1\r\n");
    assert_eq!(s.taken(2), b"$1\r\n1\r\n$-1\r\n");
    // Nothing changed: nothing to wait for.
    s.input(2, b"GET a\r\n");
    assert_eq!(s.taken(2), b"$1\r\n1\r\n");
}

#[test]
fn reads_of_deleted_and_flushed_keys_wait_too() {
    let mut s = shell();
    s.ask(1, "MSET a 1 b 2 c 3");
    s.input(1, b"DEL a\r\n");
    s.step(Event::Round);
    for (read, answer) in [("GET a", "$-1\r\n"), ("EXISTS a", ":0\r\n"), ("DBSIZE", ":2\r\n"), ("KEYS a", "*0\r\n")] {
        s.input(2, format!("{read}\r\n").as_bytes());
        assert_eq!(s.taken(2), b"", "{read}");
        s.settle();
        assert_eq!(String::from_utf8(s.taken(2)).unwrap(), answer);
        s.input(1, b"SET a 1\r\nDEL a\r\n");
        s.step(Event::Round);
    }
    s.input(2, b"GET b\r\n");
    assert_eq!(s.taken(2), b"$1\r\n2\r\n", "an untouched key does not wait");
    s.settle();
    s.input(1, b"FLUSHALL\r\n");
    s.step(Event::Round);
    s.input(2, b"GET b\r\n");
    assert_eq!(s.taken(2), b"");
    s.settle();
    assert_eq!(s.taken(2), b"$-1\r\n");
}

#[test]
fn all_writes_of_a_round_go_out_in_one_append() {
    let mut s = shell();
    let before = s.ops.len();
    for i in 0..100 {
        s.input(1 + i % 2, format!("SET k{i} {i}\r\n").as_bytes());
    }
    s.settle();
    assert_eq!(s.ops.len() - before, 1);
    assert_eq!(s.taken(1), b"+OK\r\n".repeat(50));
    assert_eq!(recover(&s.files.log).unwrap().keys.len(), 100);
}

/// A seeded mixture of all writing commands on few keys, so that they meet.
fn random_write(rng: &mut Rng, now: u64) -> Vec<u8> {
    let key = format!("k{}", rng.below(12));
    let other = format!("k{}", rng.below(12));
    let value = "v".repeat(rng.below(60) as usize) + &rng.below(1000).to_string();
    let n = rng.below(2000).to_string();
    let at = (now + rng.below(3000)).to_string();
    let words: Vec<&str> = match rng.below(16) {
        0..4 => vec!["SET", &key, &value],
        4 => vec!["SET", &key, &n, "PX", "1500"],
        5 => vec!["APPEND", &key, &value],
        6 => vec!["DEL", &key, &other],
        7 => vec!["MSET", &key, &value, &other, &n],
        8 => vec!["INCRBY", &key, &n],
        9 => vec!["PEXPIREAT", &key, &at],
        10 => vec!["PERSIST", &key],
        11 => vec!["RENAME", &key, &other],
        12 => vec!["SETRANGE", &key, "5", &value],
        13 => vec!["GETDEL", &key],
        14 if rng.below(8) == 0 => vec!["FLUSHALL"],
        _ => vec!["SETNX", &key, &value],
    };
    request(&words.iter().map(|w| w.as_bytes()).collect::<Vec<_>>())
}

#[test]
fn after_a_crash_at_any_byte_all_acknowledged_writes_are_there_and_no_half_ones() {
    let mut rng = Rng(7);
    let mut s = shell();
    // What the keys were after each record, by length of the log.
    let mut states = BTreeMap::from([(s.files.log.len(), s.contents())]);
    for _ in 0..150 {
        let r = random_write(&mut rng, s.now);
        s.input(1, &r);
        s.settle();
        states.insert(s.files.log.len(), s.contents());
    }
    let log = s.files.log.clone();
    for cut in 0..=log.len() {
        let found = recover(&log[..cut]).unwrap();
        let before = states.range(..=cut).next_back();
        let (valid, keys) = before.map_or((0, BTreeMap::new()), |(len, keys)| (*len, keys.clone()));
        assert!(found.valid as usize <= cut);
        assert!(contents(&found.keys, 0) == keys, "cut at {cut}");
        if before.is_some() {
            assert_eq!(found.valid as usize, valid);
        }
        // And it goes on from there.
        if cut % 97 == 0 {
            let files = Files { log: log[..cut].to_vec(), next: Some(b"left over".to_vec()) };
            let mut again = Shell::on(Config::default(), files, 5).unwrap();
            again.open(1);
            assert_eq!(again.ask(1, "SET after crash"), "+OK\r\n");
            let twice = Shell::on(Config::default(), again.files.clone(), 5).unwrap();
            assert_eq!(twice.contents(), again.contents());
        }
    }
}

/// Several appends under way one after another, with compaction; the file server is stopped at any byte of any operation.
#[test]
fn a_crash_at_any_point_of_a_compaction_loses_nothing() {
    let mut crashes = 0;
    for seed in 1..=6 {
        let mut rng = Rng(seed);
        let mut s = Shell::new(small());
        s.open(1);
        s.settle();
        // What was acknowledged so far, and what was executed: a crash may leave anything between the two.
        let mut history = vec![s.contents()];
        let mut acknowledged = 0;
        let mut answered = 0;
        for _ in 0..400 {
            for _ in 0..rng.below(4) {
                let r = random_write(&mut rng, s.now);
                s.input(1, &r);
                history.push(s.contents());
            }
            s.step(Event::Round);
            if let Some(op) = s.under_way.clone() {
                let cuts: Vec<usize> = match &op {
                    FileOp::AppendLog(b) | FileOp::AppendNext(b) => vec![0, 1, b.len() / 2, b.len() - 1, b.len()],
                    _ => vec![0, usize::MAX],
                };
                for cut in cuts {
                    let mut files = s.files.clone();
                    match &op {
                        FileOp::AppendLog(b) => files.log.extend(&b[..cut]),
                        FileOp::AppendNext(b) => files.next.as_mut().unwrap().extend(&b[..cut]),
                        op if cut > 0 => apply(&mut files, op),
                        _ => {}
                    }
                    crashes += 1;
                    let found = contents(&recover(&files.log).unwrap().keys, 0);
                    let possible = history[acknowledged..].contains(&found);
                    assert!(possible, "seed {seed}: {op:?} cut at {cut}");
                }
                // The append's pages reached the disk in disorder: its beginning is missing.
                if let FileOp::AppendLog(b) = &op {
                    let mut log = s.files.log.clone();
                    log.extend(b);
                    log[s.files.log.len()..][..b.len().min(45)].fill(0);
                    let found = contents(&recover(&log).unwrap().keys, 0);
                    assert!(history[acknowledged..].contains(&found), "seed {seed}: hole");
                }
            }
            if rng.below(3) > 0 {
                s.file();
            }
            answered += split_replies(&s.taken(1)).len();
            // Every request is answered in order, so the answers tell how much is acknowledged.
            acknowledged = acknowledged.max(answered);
        }
        s.settle();
        assert!(s.db.stats().compactions >= 3, "{:?}", s.db.stats());
        let again = Shell::on(small(), s.files.clone(), s.now).unwrap();
        assert_eq!(again.contents(), s.contents());
    }
    assert!(crashes > 5000, "{crashes}");
}

#[test]
fn damage_to_acknowledged_records_is_refused_and_a_torn_batch_is_not() {
    let mut s = shell();
    for i in 0..20 {
        s.ask(1, &format!("SET key{i} value{i}"));
    }
    let whole = s.files.log.len();
    let good = s.files.log.clone();
    for at in (40..whole - 200).step_by(13) {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        assert!(matches!(recover(&bad), Err(RecoveryError::Damaged(_))), "byte {at}");
    }
    // One unacknowledged append whose pieces reached the disk in disorder: a hole, then sound records.
    for i in 0..5 {
        s.input(1, format!("SET new{i} x\r\n").as_bytes());
    }
    s.settle();
    let mut torn = s.files.log.clone();
    torn[whole..whole + 30].fill(0);
    let found = recover(&torn).unwrap();
    assert_eq!((found.valid as usize, found.keys.len()), (whole, 20));
    // Zeros at the end, as of a file that was lengthened before it was written.
    let mut zeros = good.clone();
    zeros.extend([0; 5000]);
    assert_eq!(recover(&zeros).unwrap().valid as usize, whole);
    assert_eq!(recover(&[0; 5000]).unwrap().valid, 0);
    // Other people's files.
    assert!(matches!(recover(b"# my shopping list\n"), Err(RecoveryError::NotALog)));
    let mut other = good.clone();
    db::record::encode(db::record::Kind::Commit, 99, 0, 0, &[77], &mut other);
    assert!(matches!(recover(&other), Err(RecoveryError::NotALog)));
    let mut newer = Vec::new();
    db::record::encode(db::record::Kind::Begin, 0, 0, 0, &9u32.to_le_bytes(), &mut newer);
    assert!(matches!(recover(&newer), Err(RecoveryError::Version(9))));
}

#[test]
fn a_failed_compaction_is_given_up_and_tried_again_later() {
    let mut s = Shell::new(small());
    s.open(1);
    while !matches!(s.under_way, Some(FileOp::AppendNext(_))) {
        s.file();
        s.input(1, b"SET k 0123456789012345678901234567890123456789\r\n");
        s.step(Event::Round);
    }
    s.under_way = None;
    s.step(Event::NextFailed);
    assert_eq!(s.under_way, Some(FileOp::RemoveNext));
    s.settle();
    assert_eq!((s.files.next.clone(), s.db.stats().failed_compactions), (None, 1));
    for _ in 0..200 {
        s.ask(1, "SET k 0123456789012345678901234567890123456789");
    }
    assert!(s.db.stats().compactions >= 1);
    assert_eq!(Shell::on(small(), s.files.clone(), 0).unwrap().contents(), s.contents());
}

#[test]
fn time_and_expiry_survive_a_move_to_a_node_whose_clock_is_behind() {
    let mut s = shell();
    s.ask(1, "SET short x PX 100");
    s.ask(1, "SET long x PX 10000");
    s.now += 200;
    assert_eq!(s.db.deadline(), Some(1_000_100));
    assert_eq!(s.ask(1, "GET short"), "$-1\r\n");
    let mut moved = Shell::on(Config::default(), s.files.clone(), 5).unwrap();
    moved.open(1);
    assert_eq!(moved.db.now(), 1_000_200);
    assert_eq!(moved.ask(1, "EXISTS short long"), ":1\r\n");
    assert_eq!(moved.ask(1, "PTTL long"), ":9800\r\n");
    // Nobody asks: the round removes it, and says so in the log.
    moved.now = 2_000_000;
    moved.settle();
    assert_eq!(moved.db.keys().len(), 0);
    assert_eq!(recover(&moved.files.log).unwrap().keys.len(), 0);
    assert_eq!(moved.db.deadline(), None);
}

#[test]
fn memory_is_bounded_by_errors_not_crashes() {
    let mut s = Shell::new(Config { max_memory: 100_000, ..Config::default() });
    s.open(1);
    let value = vec![b'x'; 10_000];
    let mut refused = 0;
    for i in 0..20 {
        s.input(1, &request(&[b"SET", format!("k{i}").as_bytes(), &value]));
        s.settle();
        let got = s.taken(1);
        refused += (got == b"-OOM command not allowed when used memory > 'maxmemory'.\r\n") as u32;
        assert!(s.db.keys().bytes() <= 100_000);
    }
    assert_eq!(refused, 11);
    s.input(1, &request(&[b"APPEND", b"k0", &value]));
    s.settle();
    assert!(s.taken(1).starts_with(b"-OOM"));
    assert!(s.ask(1, "SETRANGE k0 400000 x").starts_with("-OOM"));
    assert_eq!(s.ask(1, "DEL k1 k2"), ":2\r\n");
    assert_eq!(s.ask(1, "SET small x"), "+OK\r\n");
    assert_eq!(s.ask(1, "STRLEN k0"), ":10000\r\n");
}

#[test]
fn limits_of_keys_values_and_requests_are_errors() {
    let mut s = shell();
    let long_key = vec![b'k'; limits::KEY + 1];
    s.input(1, &request(&[b"SET", &long_key, b"v"]));
    s.settle();
    assert_eq!(s.taken(1), b"-ERR key exceeds maximum allowed size\r\n");
    s.input(1, &request(&[b"GET", &long_key]));
    assert_eq!(s.taken(1), b"$-1\r\n");
    s.input(1, &request(&[b"SET", b"v", &vec![0; limits::VALUE]]));
    s.settle();
    assert_eq!(s.taken(1), b"+OK\r\n");
    assert!(s.ask(1, "APPEND v x").starts_with("-ERR string exceeds maximum allowed size"));
    assert!(s.ask(1, &format!("SETRANGE v {} x", limits::VALUE)).starts_with("-ERR string exceeds"));
    // A reply that would be too long is an error, and the connection goes on.
    s.input(1, &request(&[&[&b"MGET"[..]][..], &[&b"v"[..]; 12][..]].concat()));
    assert_eq!(s.taken(1), b"-ERR the reply would be too long\r\n");
    assert_eq!(s.ask(1, "PING"), "+PONG\r\n");
}

#[test]
fn protocol_errors_answer_and_close() {
    let cases: [(&[u8], &str); 9] = [
        (b"*1\r\n:4\r\n", "expected '$', got ':'"),
        (b"*1\r\n$600000\r\n", "invalid bulk length"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*99999999\r\n", "invalid multibulk length"),
        (b"*x\r\n", "invalid multibulk length"),
        (b"SET \"a\r\n", "unbalanced quotes in request"),
        (b"SET 'a'b c\r\n", "unbalanced quotes in request"),
        (&[b'a'; 70_000], "too big inline request"),
        (&[&b"*1\r\n$"[..], &[b'1'; 70_000]].concat(), "too big bulk count string"),
    ];
    for (bytes, error) in cases {
        let mut s = shell();
        s.input(1, b"PING\r\n");
        s.input(1, bytes);
        s.input(1, b"PING\r\n");
        let expected = format!("+PONG\r\n-ERR Protocol error: {error}\r\n");
        assert_eq!(String::from_utf8(s.taken(1)).unwrap(), expected);
        assert_eq!(s.closed, [ConnId(1)], "{error}");
        s.input(2, b"PING\r\n");
        assert_eq!(s.taken(2), b"+PONG\r\n");
    }
    let mut s = shell();
    let big = vec![b'x'; 500_000];
    let mut too_much = b"*20\r\n".to_vec();
    for _ in 0..20 {
        too_much.extend(b"$500000\r\n");
        too_much.extend(&big);
        too_much.extend(b"\r\n");
    }
    s.input(1, &too_much);
    assert!(s.taken(1).starts_with(b"-ERR Protocol error: too big request"));
}

#[test]
fn requests_may_come_in_any_pieces() {
    let stream = [
        request(&[b"SET", b"k\r\n\0", b"*3\r\n$"]),
        b"PING\r\n\r\n   \r\n*0\r\n*-1\r\n".to_vec(),
        request(&[b"GET", b"k\r\n\0"]),
        b"ECHO \"a\\x41\\n\\\"b\"\nECHO 'x\\'y'\r\n".to_vec(),
        request(&[b"append", b"k\r\n\0", b""]),
    ]
    .concat();
    let expected = b"+OK\r\n+PONG\r\n$5\r\n*3\r\n$\r\n$5\r\naA\n\"b\r\n$3\r\nx'y\r\n:5\r\n";
    let mut rng = Rng(3);
    for _ in 0..300 {
        let mut s = shell();
        let mut rest = &stream[..];
        while !rest.is_empty() {
            let n = (1 + rng.below(9) as usize).min(rest.len());
            s.input(1, &rest[..n]);
            rest = &rest[n..];
        }
        s.settle();
        assert_eq!(s.taken(1), expected);
    }
}

#[test]
fn a_client_that_does_not_read_is_held_back_and_a_greedy_one_is_closed() {
    let mut s = Shell::new(Config { max_buffers: 1_500_000, ..Config::default() });
    s.open(1);
    s.open(2);
    s.input(2, &request(&[b"SET", b"v", &vec![0; 100_000]]));
    s.settle();
    s.drains = false;
    for _ in 0..20 {
        s.input(1, &request(&[b"GET", b"v"]));
    }
    let mut total = 0;
    while !s.db.wants_input(ConnId(1)) {
        let out = s.taken(1).len();
        assert!(out > limits::OUTPUT && out < limits::OUTPUT + 200_000, "{out}");
        total += out;
        s.step(Event::Sent(ConnId(1), out));
    }
    let rest = s.taken(1).len();
    s.step(Event::Sent(ConnId(1), rest));
    assert_eq!(total + rest, 20 * (100_000 + 11));
    // Requests without end fill the buffers; whoever holds most goes.
    let mut part = b"*16\r\n".to_vec();
    for _ in 0..2 {
        part.extend(b"$400000\r\n");
        part.extend(vec![0; 400_000]);
        part.extend(b"\r\n");
    }
    s.open(3);
    s.input(3, &part);
    s.input(1, &part);
    assert_eq!(s.closed, [ConnId(3)]);
    assert_eq!(s.db.stats().shed, 1);
    s.input(2, b"PING\r\n");
    assert!(s.taken(2).ends_with(b"+PONG\r\n"));
}

#[test]
fn a_full_batch_holds_back_everybody_until_it_is_durable() {
    let mut s = shell();
    let value = vec![0; 300_000];
    for i in 0..10 {
        s.input(1, &request(&[b"SET", format!("k{i}").as_bytes(), &value]));
    }
    s.input(2, b"PING\r\n");
    assert_eq!(s.taken(2), b"");
    s.settle();
    assert_eq!(s.taken(2), b"+PONG\r\n");
    assert_eq!(s.taken(1), b"+OK\r\n".repeat(10));
    assert_eq!(recover(&s.files.log).unwrap().keys.len(), 10);
    let appends = s.ops.iter().filter_map(|op| if let FileOp::AppendLog(b) = op { Some(b.len()) } else { None });
    assert!(appends.max().unwrap() < limits::BATCH + 400_000);
}

#[test]
fn scans_meet_every_key_that_stays() {
    let mut rng = Rng(5);
    let mut s = shell();
    for i in 0..1000 {
        s.input(1, format!("SET stay{i} x\r\n").as_bytes());
    }
    s.settle();
    s.taken(1);
    let (mut cursor, mut met) = ("0".to_string(), std::collections::BTreeSet::new());
    loop {
        let got = s.ask(1, &format!("SCAN {cursor} MATCH stay* COUNT 7"));
        let mut words = got.split("\r\n").filter(|l| !l.is_empty() && !matches!(&l[..1], "*" | "$"));
        cursor = words.next().unwrap().to_string();
        met.extend(words.map(str::to_string));
        for _ in 0..3 {
            s.ask(1, &format!("SET come{} x", rng.below(500)));
            s.ask(1, &format!("DEL come{}", rng.below(500)));
        }
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(met.len(), 1000);
    assert!(s.ask(1, "SCAN x").starts_with("-ERR invalid cursor"));
    assert_eq!(s.ask(1, "SCAN 0 COUNT 0"), "-ERR syntax error\r\n");
}

#[test]
fn without_room_in_the_file_system_reading_goes_on() {
    let mut s = shell();
    s.ask(1, "SET a 1 PX 100");
    let mut s = Shell::on(Config::default(), s.files.clone(), s.now).unwrap();
    s.open(1);
    s.db.refuse_writes(s.now + 5000);
    assert_eq!(s.ask(1, "GET a"), "$1\r\n1\r\n");
    s.now += 1000;
    assert_eq!(s.ask(1, "GET a"), "$-1\r\n");
    assert!(s.ask(1, "SET a 2").starts_with("-MISCONF"));
    assert!(s.ops.iter().all(|op| !matches!(op, FileOp::AppendLog(b) if b.is_empty())));
    s.now += 5000;
    assert_eq!(s.ask(1, "SET a 2"), "+OK\r\n");
}

#[test]
fn noise_never_panics_and_never_corrupts_the_log() {
    let mut rng = Rng(17);
    let words: Vec<&[u8]> = b"SET GET a b 1 EX PX -1 KEEPTTL NX XX GET SCAN 0 COUNT MATCH * EXPIRE MGET INFO CLIENT COMMAND DOCS HELLO 2 3 APPEND SETRANGE GETRANGE 9223372036854775807 -9223372036854775808 DECRBY INCR GETEX PERSIST RENAME FLUSHALL CONFIG LIST"
        .split(|b| *b == b' ')
        .collect();
    let mut s = Shell::new(small());
    for i in 0..20_000u64 {
        let conn = 100 + i / 50;
        if i % 50 == 0 {
            s.open(conn);
        }
        let chosen: Vec<&[u8]> = (0..1 + rng.below(6)).map(|_| *rng.pick(&words)).collect();
        let mut bytes = request(&chosen);
        if rng.below(20) == 0 {
            let at = rng.below(bytes.len() as u64) as usize;
            bytes[at] = rng.next() as u8;
        }
        s.input(conn, &bytes);
        s.now += rng.below(50);
        if rng.below(4) == 0 {
            s.settle();
        }
    }
    s.settle();
    let again = Shell::on(small(), s.files.clone(), s.now).unwrap();
    assert_eq!(again.contents(), s.contents());
}
