//! Beside the real thing: the same commands to this engine and to a Redis server, and Redis' own tools against this engine.
//!
//! Needs `redis-server`, `redis-cli` and `redis-benchmark`. What is missing is reported as ignored, not as passed.

mod common;

use common::*;
use db::engine::*;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn main() {
    let tests: [(&str, &str, fn()); 4] = [
        ("same_answers_as_redis", "redis-server", same_answers_as_redis),
        ("same_refusals_as_redis", "redis-server", same_refusals_as_redis),
        ("redis_cli_works", "redis-cli", redis_cli_works),
        ("redis_benchmark_works", "redis-benchmark", redis_benchmark_works),
    ];
    // What the usual harness would be asked with.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let filter = arguments.iter().find(|a| !a.starts_with('-'));
    if arguments.iter().any(|a| a == "--list") {
        tests.iter().for_each(|(name, ..)| println!("{name}: test"));
        return;
    }
    let (mut passed, mut ignored) = (0, 0);
    println!("\nrunning {} tests", tests.len());
    for (name, needs, run) in tests.iter().filter(|t| filter.is_none_or(|f| t.0.contains(f.as_str()))) {
        if Command::new(needs).arg("--version").stdout(Stdio::null()).status().is_err() {
            println!("test {name} ... ignored, {needs} is not installed");
            ignored += 1;
            continue;
        }
        // A failure panics, which ends the process with an error.
        run();
        println!("test {name} ... ok");
        passed += 1;
    }
    println!("\ntest result: ok. {passed} passed; 0 failed; {ignored} ignored; 0 measured; 0 filtered out\n");
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64
}

// ---- a Redis to compare with ----

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Redis {
    _child: Ended,
    stream: TcpStream,
    held: Vec<u8>,
}

impl Redis {
    fn start() -> Redis {
        // A free port, most likely still free a moment later.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
        let options = ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
        let child = Command::new("redis-server").args(options).stdout(Stdio::null()).spawn().unwrap();
        // From here on the process is ended whatever happens.
        let child = Ended(child);
        for _ in 0..200 {
            if let Ok(stream) = TcpStream::connect(format!("127.0.0.1:{port}")) {
                return Redis { _child: child, stream, held: Vec::new() };
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("redis-server does not answer");
    }

    fn ask(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.stream.write_all(bytes).unwrap();
        loop {
            if let Some(len) = (!self.held.is_empty()).then(|| reply_len(&self.held)).flatten() {
                return self.held.drain(..len).collect();
            }
            let mut piece = [0; 4096];
            let n = self.stream.read(&mut piece).unwrap();
            assert!(n > 0, "redis-server closed the connection");
            self.held.extend(&piece[..n]);
        }
    }
}

fn ours() -> Shell {
    let mut s = Shell::on(Config { compact_from: 20_000, ..Config::default() }, Files::default(), unix_ms()).unwrap();
    s.open(1);
    s.settle();
    s
}

fn ask(s: &mut Shell, bytes: &[u8]) -> Vec<u8> {
    s.now = unix_ms();
    s.input(1, bytes);
    s.settle();
    s.taken(1)
}

fn word(text: impl AsRef<str>) -> Vec<u8> {
    text.as_ref().as_bytes().to_vec()
}

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// Arguments that random commands are made of: few keys, so that they meet; numbers at the edges; options in odd places.
fn random_command(rng: &mut Rng) -> Vec<Vec<u8>> {
    let key = |rng: &mut Rng| format!("key{}", rng.below(8)).into_bytes();
    let value = |rng: &mut Rng| match rng.below(6) {
        0 => b"".to_vec(),
        1 => rng.below(100).to_string().into_bytes(),
        2 => rng
            .pick(&["9223372036854775807", "-9223372036854775808", "007", "+1", " 1", "1 ", "-0", "1.5", "-1"])
            .as_bytes()
            .to_vec(),
        3 => vec![0, 255, 13, 10, 36],
        _ => vec![b'a' + rng.below(26) as u8; rng.below(30) as usize],
    };
    let index = |rng: &mut Rng| (rng.below(25) as i64 - 12).to_string().into_bytes();
    // Ends lie either far ahead or in the past, so that the two clocks' difference does not show.
    let seconds = |rng: &mut Rng| {
        rng.pick(&["1000", "100000", "0", "-5", "9223372036854775807", "x", "9223372036854775"]).to_string()
    };
    let name = *rng.pick(&[
        "SET",
        "SET",
        "SET",
        "GET",
        "GET",
        "SETNX",
        "GETSET",
        "GETDEL",
        "GETEX",
        "APPEND",
        "STRLEN",
        "GETRANGE",
        "SUBSTR",
        "SETRANGE",
        "INCR",
        "DECR",
        "INCRBY",
        "DECRBY",
        "MGET",
        "MSET",
        "MSETNX",
        "DEL",
        "UNLINK",
        "EXISTS",
        "TOUCH",
        "TYPE",
        "EXPIRE",
        "PERSIST",
        "TTL",
        "DBSIZE",
        "RENAME",
        "RENAMENX",
        "ECHO",
        "PING",
        "SETEX",
        "SELECT",
        "FLUSHDB",
        "EXPIRETIME",
        "set",
        "nosuch",
    ]);
    let mut c = vec![word(name)];
    match name {
        "GET" | "GETDEL" | "STRLEN" | "INCR" | "DECR" | "TYPE" | "PERSIST" | "EXPIRETIME" => c.push(key(rng)),
        "TTL" => c.push(key(rng)),
        "SET" | "set" => {
            c.extend([key(rng), value(rng)]);
            for _ in 0..rng.below(3) {
                let option = *rng.pick(&["NX", "XX", "GET", "KEEPTTL", "EX", "EXAT", "px", "junk"]);
                c.push(word(option));
                match option {
                    "EX" => c.push(seconds(rng).into_bytes()),
                    "EXAT" => c.push(rng.pick(&["99999999999", "0", "x", "-1"]).as_bytes().to_vec()),
                    "px" => c.push(rng.pick(&["10000000", "0", ""]).as_bytes().to_vec()),
                    _ => {}
                }
            }
        }
        "SETEX" => c.extend([key(rng), seconds(rng).into_bytes(), value(rng)]),
        "SETNX" | "GETSET" | "APPEND" => c.extend([key(rng), value(rng)]),
        "GETEX" => {
            c.push(key(rng));
            match rng.below(4) {
                0 => c.push(word("PERSIST")),
                1 => c.extend([word("EX"), seconds(rng).into_bytes()]),
                2 => c.extend([word("PXAT"), word("99999999999999")]),
                _ => {}
            }
        }
        "GETRANGE" | "SUBSTR" => c.extend([key(rng), index(rng), index(rng)]),
        "SETRANGE" => c.extend([key(rng), index(rng), value(rng)]),
        "INCRBY" | "DECRBY" => c.extend([key(rng), value(rng)]),
        "MGET" | "DEL" | "UNLINK" | "EXISTS" | "TOUCH" => (0..1 + rng.below(3)).for_each(|_| c.push(key(rng))),
        "MSET" | "MSETNX" => {
            (0..2 + rng.below(3)).for_each(|_| c.push(if rng.below(2) == 0 { key(rng) } else { value(rng) }))
        }
        "EXPIRE" => {
            c.extend([key(rng), seconds(rng).into_bytes()]);
            (0..rng.below(3)).for_each(|_| c.push(word(rng.pick(&["NX", "XX", "GT", "LT", "junk"]))));
        }
        "RENAME" | "RENAMENX" => c.extend([key(rng), key(rng)]),
        "SELECT" => c.push(word(rng.pick(&["0", "99", "x", "-1"]))),
        _ => {}
    }
    if rng.below(25) == 0 {
        c.push(value(rng));
    }
    if rng.below(25) == 0 && c.len() > 1 {
        c.pop();
    }
    c
}

/// The number of an integer reply; a large one for anything else.
fn integer(reply: &[u8]) -> i64 {
    let text = String::from_utf8_lossy(reply);
    text.strip_prefix(':').and_then(|t| t.trim().parse().ok()).unwrap_or(i64::MAX / 2)
}

fn same_answers_as_redis() {
    let mut redis = Redis::start();
    for seed in 1..=20 {
        let mut rng = Rng(seed);
        let mut s = ours();
        redis.ask(&request(&[b"FLUSHALL"]));
        let mut trail = Vec::new();
        for _ in 0..1000 {
            let command = random_command(&mut rng);
            let bytes = request(&command.iter().map(Vec::as_slice).collect::<Vec<_>>());
            trail.push(shown(&command.join(&b' ')));
            let (theirs, mine) = (redis.ask(&bytes), ask(&mut s, &bytes));
            // A half second may pass between the two.
            if command[0] == b"TTL" && (integer(&mine) - integer(&theirs)).abs() <= 1 {
                continue;
            }
            let last = &trail[trail.len().saturating_sub(12)..];
            assert_eq!(shown(&mine), shown(&theirs), "seed {seed}, after {last:#?}");
        }
        // Keys as sets: their order is each server's own business.
        let sorted = |bytes: Vec<u8>| {
            let mut keys = split_replies(&bytes[bytes.iter().position(|b| *b == b'\n').unwrap() + 1..]);
            keys.sort();
            keys
        };
        for pattern in ["*", "key?", "key[1-4]", "[^k]*", "*\\**", "k*y*[!-~]"] {
            let bytes = request(&[b"KEYS", pattern.as_bytes()]);
            assert_eq!(sorted(ask(&mut s, &bytes)), sorted(redis.ask(&bytes)), "KEYS {pattern}");
        }
        // What was recovered is what was lived.
        assert_eq!(Shell::on(Config::default(), s.files.clone(), s.now).unwrap().contents(), s.contents());
    }
}

/// Commands whose answers are texts that clients may know.
fn same_refusals_as_redis() {
    let mut redis = Redis::start();
    let mut s = ours();
    let lines: &[&[&[u8]]] = &[
        &[b"FOO"],
        &[b"foo", b"bar", b"b\r\nz", b"x\0y"],
        &[b"GET"],
        &[b"CLIENT"],
        &[b"CLIENT", b"NOPE"],
        &[b"CLIENT", b"GETNAME"],
        &[b"CLIENT", b"SETNAME", b"a b"],
        &[b"CLIENT", b"SETNAME", b"me"],
        &[b"CLIENT", b"GETNAME"],
        &[b"CLIENT", b"ID", b"x"],
        &[b"CLIENT", b"NO-EVICT", b"maybe"],
        &[b"CONFIG", b"GET", b"save"],
        &[b"CONFIG", b"GET"],
        &[b"CONFIG", b"NOPE"],
        &[b"CONFIG", b"GET", b"nosuch*"],
        &[b"COMMAND", b"GETKEYS", b"MSET", b"a", b"1", b"b", b"2"],
        &[b"COMMAND", b"GETKEYS", b"PING"],
        &[b"COMMAND", b"GETKEYS", b"GET"],
        &[b"COMMAND", b"NOPE"],
        &[b"COMMAND", b"INFO", b"nosuch"],
        &[b"COMMAND", b"DOCS", b"nosuch"],
        &[b"HELLO", b"1"],
        &[b"HELLO", b"x"],
        &[b"HELLO", b"2", b"NOPE"],
        &[b"HELLO", b"2", b"SETNAME"],
        &[b"AUTH", b"x"],
        &[b"AUTH", b"x", b"y"],
        &[b"RESET"],
        &[b"SCAN", b"x"],
        &[b"SCAN", b"0", b"COUNT", b"0"],
        &[b"SCAN", b"0", b"COUNT", b"x"],
        &[b"SCAN", b"0", b"MATCH"],
        &[b"SCAN", b"0", b"NOPE", b"1"],
        &[b"SCAN", b"0"],
        &[b"FLUSHALL", b"SYNC"],
        &[b"FLUSHALL", b"NOPE"],
        &[b"SELECT", b"1000"],
        &[b"SET", b"k", b"v", b"EX", b"10", b"PX", b"10"],
        &[b"SET", b"k", b"v", b"NX", b"XX"],
        &[b"SET", b"k", b"v", b"EX"],
        &[b"EXPIRE", b"k", b"1", b"NX", b"XX"],
        &[b"EXPIRE", b"k", b"1", b"GT", b"LT"],
        &[b"MSET", b"a"],
        &[b"DECRBY", b"k2", b"-9223372036854775808"],
        &[b"PING", b"a", b"b"],
        &[b"PING", b"a"],
        &[b"ECHO"],
        &[b"TIME", b"x"],
        &[b"QUIT"],
    ];
    let mut different = Vec::new();
    for line in lines {
        let bytes = request(line);
        let (theirs, mine) = (redis.ask(&bytes), ask(&mut s, &bytes));
        if mine != theirs {
            different.push((shown(&line.join(&b' ')), shown(&mine), shown(&theirs)));
        }
    }
    assert!(different.is_empty(), "(request, ours, Redis'): {different:#?}");
}

// ---- Redis' tools against a server on this engine ----

struct Server {
    port: u16,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<Shell>>,
}

impl Server {
    fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let stop = Arc::new(AtomicBool::new(false));
        let asked = stop.clone();
        let thread = std::thread::spawn(move || serve(&listener, &asked));
        Server { port, stop, thread: Some(thread) }
    }

    fn finish(mut self) -> Shell {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().expect("the server did not panic")
    }
}

fn serve(listener: &TcpListener, stop: &AtomicBool) -> Shell {
    let mut s = Shell::on(Config { compact_from: 100_000, ..Config::default() }, Files::default(), unix_ms()).unwrap();
    let mut streams: Vec<(u64, TcpStream)> = Vec::new();
    let mut next = 1;
    let mut buffer = vec![0; 16 * 1024];
    while !stop.load(Ordering::Relaxed) {
        s.now = unix_ms();
        let mut worked = false;
        while let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(true).unwrap();
            s.open(next);
            streams.push((next, stream));
            next += 1;
        }
        streams.retain_mut(|(id, stream)| match stream.read(&mut buffer) {
            Ok(0) => {
                s.step(Event::Closed(ConnId(*id)));
                false
            }
            Ok(n) => {
                s.input(*id, &buffer[..n]);
                worked = true;
                true
            }
            Err(e) => e.kind() == ErrorKind::WouldBlock,
        });
        s.settle();
        for (id, stream) in &mut streams {
            let bytes = s.taken(*id);
            stream.set_nonblocking(false).unwrap();
            let _ = stream.write_all(&bytes);
            stream.set_nonblocking(true).unwrap();
        }
        let closed = std::mem::take(&mut s.closed);
        streams.retain(|(id, _)| !closed.contains(&ConnId(*id)));
        if !worked {
            std::thread::sleep(Duration::from_micros(300));
        }
    }
    s
}

fn tool(name: &str, port: u16, arguments: &[&str], input: &str) -> String {
    let mut child = Command::new(name)
        .args(["-p", &port.to_string()])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {arguments:?}: {text}");
    text
}

fn redis_cli_works() {
    let server = Server::start();
    let cli = |arguments: &[&str], input: &str| tool("redis-cli", server.port, arguments, input);
    assert_eq!(cli(&["SET", "a", "1"], ""), "OK\n");
    assert_eq!(cli(&["INCR", "a"], ""), "2\n");
    assert_eq!(cli(&["-n", "0", "GET", "a"], ""), "2\n");
    assert_eq!(cli(&["-x", "SET", "b"], "line\n"), "OK\n");
    assert_eq!(cli(&["--no-raw", "GET", "b"], ""), "\"line\\n\"\n");
    assert_eq!(cli(&["--scan", "--pattern", "[ab]"], "").lines().count(), 2);
    assert_eq!(cli(&[], "MSET x 1 y 2\nMGET x y z\nHELLO 2\nBGREWRITEAOF\n").lines().next(), Some("OK"));
    assert!(cli(&["INFO"], "").contains("redis_version:7"));
    assert!(cli(&["-3", "PING"], "").contains("PONG"), "a client that would like RESP3 falls back");
    // The interactive client asks for `COMMAND DOCS` at its start.
    assert!(cli(&["COMMAND", "DOCS", "get"], "").contains("Get the value of a key"));
    assert!(
        cli(&["LPUSH", "l", "1"], "").starts_with("ERR unknown command 'LPUSH', with args beginning with: 'l' '1' ")
    );
    let pipe = (0..5000).map(|i| format!("SET p{i} {i}\r\n")).collect::<String>();
    assert!(cli(&["--pipe"], &pipe).contains("errors: 0, replies: 5000"));
    let s = server.finish();
    assert_eq!(s.db.keys().len(), 5004);
    assert!(s.db.stats().compactions > 0, "asked for by BGREWRITEAOF, and by size");
}

fn redis_benchmark_works() {
    let server = Server::start();
    let arguments = ["-q", "-n", "5000", "-c", "25", "-P", "4", "-r", "500", "-t", "ping,set,get,incr,mset"];
    let text = tool("redis-benchmark", server.port, &arguments, "");
    for name in ["PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "MSET (10 keys)"] {
        assert!(text.contains(&format!("{name}: ")), "{name} is missing in: {text}");
    }
    assert!(!text.to_lowercase().contains("error"), "{text}");
    let s = server.finish();
    assert!(s.db.stats().commits < s.db.stats().commands, "group commit");
}
