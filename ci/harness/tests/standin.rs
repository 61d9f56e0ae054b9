//! The harness against a stand-in for the cluster: a process in a network namespace of its own, with a TAP joined to the
//! external switch like a node's NIC, that serves a few Redis commands from memory and can be told to lose writes.
//!
//! This proves the namespace, the TAP, the switch, the fault rules, the clients and above all the checker: a planted lost
//! write must be found. It has no test runner because the program must start itself again inside a namespace.

use anyhow::{Context, Result, bail, ensure};
use harness::load::{self, Load, Spec};
use harness::switch::{Rule, Switch};
use harness::tap::Tap;
use harness::{netns, process};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SERVICE: &str = "10.77.0.100";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|word| word == "stand-in-node") {
        return report(stand_in(&args[2], args[3].parse().unwrap_or(0)));
    }
    if !Path::new("/dev/net/tun").exists() {
        println!("test standin ... ignored, no /dev/net/tun");
        println!("test result: ok. 0 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out");
        return ExitCode::SUCCESS;
    }
    report(netns::enter().and_then(|()| run_all()))
}

fn report(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

type Test = fn(&Switch, &Path) -> Result<()>;

fn run_all() -> Result<()> {
    let dir = std::env::temp_dir().join(format!("smi-standin-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let switch = Switch::start("ext", &dir, &[1], Some(netns::host_tap()?), 1)?;
    let tests: [(&str, Test); 4] = [
        ("nothing_is_lost_without_faults", nothing_is_lost_without_faults),
        ("a_planted_lost_write_is_found", a_planted_lost_write_is_found),
        ("a_cut_is_seen_as_a_gap_and_connections_survive_it", a_cut_is_seen_as_a_gap),
        ("a_bad_network_costs_time_but_no_write", a_bad_network_costs_no_write),
    ];
    let mut failed = 0;
    for (name, test) in tests {
        let outcome = test(&switch, &dir);
        switch.rules(|rules| rules.clear());
        match outcome {
            Ok(()) => println!("test {name} ... ok"),
            Err(error) => {
                println!("test {name} ... FAILED\n{error:#}");
                failed += 1;
            }
        }
    }
    drop(switch);
    std::fs::remove_dir_all(&dir)?;
    let passed = tests.len() - failed;
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {verdict}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out");
    ensure!(failed == 0, "{failed} tests failed");
    Ok(())
}

/// A load against a fresh stand-in that loses every `lose`th write (0: none).
fn start(switch: &Switch, lose: u64) -> Result<(Child, Load)> {
    let node = start_node(switch, lose)?;
    let mut spec = Spec::new(format!("{SERVICE}:6379").parse()?, 42);
    spec.pause = Duration::from_millis(2);
    Ok((node, Load::start(spec)?))
}

fn nothing_is_lost_without_faults(switch: &Switch, dir: &Path) -> Result<()> {
    let capture = dir.join("ext.pcap");
    switch.capture(&capture)?;
    let (mut node, load) = start(switch, 0)?;
    load.wait_for_acks(Duration::ZERO, 300, Duration::from_secs(20))?;
    let spec = load.spec();
    let history = load.stop();
    let verdict = load::verify(&spec, &history, Duration::from_secs(20))?;
    node.kill()?;
    node.wait()?;
    ensure!(verdict.lost.is_empty() && verdict.checked == history.acks.len(), "{verdict:?}");
    ensure!(history.reads > 10 && history.wrong_reads.is_empty(), "{} reads", history.reads);
    ensure!(switch.counters().delivered > 600, "{:?}", switch.counters());
    // A dead service is no proof of anything.
    ensure!(load::verify(&spec, &history, Duration::from_secs(1)).is_err(), "verified against a dead service");
    std::thread::sleep(Duration::from_millis(700));
    let captured = std::fs::read(&capture)?;
    ensure!(
        captured.starts_with(&0xa1b2_c3d4u32.to_le_bytes()) && captured.len() > 50_000,
        "{} bytes captured",
        captured.len()
    );
    Ok(())
}

fn a_planted_lost_write_is_found(switch: &Switch, _: &Path) -> Result<()> {
    let (mut node, load) = start(switch, 97)?;
    load.wait_for_acks(Duration::ZERO, 300, Duration::from_secs(20))?;
    let spec = load.spec();
    let history = load.stop();
    let verdict = load::verify(&spec, &history, Duration::from_secs(20))?;
    node.kill()?;
    node.wait()?;
    let planted = history.acks.len() / 97;
    ensure!(verdict.lost.len() == planted, "{planted} writes were lost, {} found", verdict.lost.len());
    Ok(())
}

fn a_cut_is_seen_as_a_gap(switch: &Switch, _: &Path) -> Result<()> {
    let (mut node, load) = start(switch, 0)?;
    load.wait_for_acks(Duration::ZERO, 50, Duration::from_secs(20))?;
    let cut_at = load.elapsed();
    switch.rules(|rules| rules.set_cut(0, 1, true));
    std::thread::sleep(Duration::from_millis(400));
    switch.rules(|rules| rules.set_cut(0, 1, false));
    load.wait_for_acks(cut_at + Duration::from_millis(400), 50, Duration::from_secs(20))?;
    let spec = load.spec();
    let history = load.stop();
    let (_, gap) = history.longest_gap(cut_at).context("no gap")?;
    let verdict = load::verify(&spec, &history, Duration::from_secs(20))?;
    node.kill()?;
    node.wait()?;
    ensure!((380..1500).contains(&gap.as_millis()), "the gap was {gap:?}");
    ensure!(verdict.lost.is_empty() && history.broken == 0, "{verdict:?}, {} broken", history.broken);
    Ok(())
}

fn a_bad_network_costs_no_write(switch: &Switch, _: &Path) -> Result<()> {
    let (mut node, load) = start(switch, 0)?;
    let bad = Rule {
        drop_percent: 2.0,
        duplicate_percent: 2.0,
        reorder_percent: 5.0,
        jitter: Duration::from_millis(2),
        ..Rule::default()
    };
    switch.rules(|rules| rules.set_default(bad));
    load.wait_for_acks(Duration::ZERO, 200, Duration::from_secs(60))?;
    let spec = load.spec();
    let history = load.stop();
    let verdict = load::verify(&spec, &history, Duration::from_secs(60))?;
    node.kill()?;
    node.wait()?;
    ensure!(verdict.lost.is_empty() && history.wrong_reads.is_empty(), "{verdict:?}");
    ensure!(switch.counters().dropped > 5, "{:?}", switch.counters());
    Ok(())
}

/// Starts the stand-in in a namespace of its own and waits until it serves.
fn start_node(switch: &Switch, lose: u64) -> Result<Child> {
    let socket = switch.socket(1).context("port 1")?;
    let mut command = Command::new("unshare");
    command.arg("--net").arg(std::env::current_exe()?).arg("stand-in-node").arg(socket).arg(lose.to_string());
    process::die_with_us(&mut command);
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut ready = String::new();
    BufReader::new(child.stdout.take().context("stdout")?).read_line(&mut ready)?;
    if ready.trim() != "ready" {
        bail!("the stand-in did not start: {ready:?}");
    }
    Ok(child)
}

/// The stand-in: pumps frames between its TAP and the switch, and serves.
fn stand_in(socket: &str, lose: u64) -> Result<()> {
    let tap = Arc::new(Tap::open("node0")?);
    // Always the same address, like the cluster's: the client's ARP cache outlives a node.
    process::run(Command::new("ip").args(["link", "set", "node0", "address", "00:00:5e:00:01:4d"]))?;
    process::run(Command::new("ip").args(["address", "add", &format!("{SERVICE}/24"), "dev", "node0"]))?;
    process::run(Command::new("ip").args(["link", "set", "node0", "up"]))?;
    let mut to_switch = UnixStream::connect(socket)?;
    let mut from_switch = to_switch.try_clone()?;
    let reading = tap.clone();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        loop {
            match reading.receive(&mut buffer) {
                Ok(Some(length)) => {
                    let _ = to_switch.write_all(&(length as u32).to_be_bytes());
                    let _ = to_switch.write_all(&buffer[..length]);
                }
                _ => std::thread::sleep(Duration::from_micros(200)),
            }
        }
    });
    std::thread::spawn(move || {
        let mut head = [0; 4];
        while from_switch.read_exact(&mut head).is_ok() {
            let mut frame = vec![0; u32::from_be_bytes(head) as usize];
            if from_switch.read_exact(&mut frame).is_ok() {
                tap.send(&frame);
            }
        }
    });
    let listener = TcpListener::bind("0.0.0.0:6379")?;
    println!("ready");
    let store = Arc::new(Mutex::new(Store { map: BTreeMap::new(), writes: 0, lose }));
    let end = Instant::now() + Duration::from_secs(120);
    for stream in listener.incoming() {
        let store = store.clone();
        std::thread::spawn(move || serve(stream?, &store));
        if Instant::now() > end {
            break;
        }
    }
    Ok(())
}

struct Store {
    map: BTreeMap<String, String>,
    writes: u64,
    lose: u64,
}

impl Store {
    fn answer(&mut self, words: &[String]) -> String {
        match words {
            [set, key, value] if set == "SET" => {
                self.writes += 1;
                if self.lose == 0 || !self.writes.is_multiple_of(self.lose) {
                    self.map.insert(key.clone(), value.clone());
                }
                "+OK\r\n".into()
            }
            [get, key] if get == "GET" => match self.map.get(key) {
                Some(value) => format!("${}\r\n{value}\r\n", value.len()),
                None => "$-1\r\n".into(),
            },
            _ => "-ERR unknown\r\n".into(),
        }
    }
}

fn serve(stream: TcpStream, store: &Mutex<Store>) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let mut out = stream;
    let mut next = || lines.next().context("closed")?.context("read");
    loop {
        let count: usize = next()?.trim_start_matches('*').parse()?;
        let mut words = Vec::new();
        for _ in 0..count {
            next()?;
            words.push(next()?);
        }
        let answer = store.lock().map_err(|_| anyhow::anyhow!("poisoned"))?.answer(&words);
        out.write_all(answer.as_bytes())?;
    }
}
