//! User-space Ethernet switches: one for the internal segment (node to node), one for the external (nodes and clients).
//!
//! Every port is a unix stream socket as QEMU's `-netdev stream` speaks it: each frame behind its length as a big-endian
//! 32-bit word. Port 0 of the external switch is the host's TAP. A switch is one thread around a [`fabric::Fabric`]; nothing
//! blocks, and every queue is bounded: a port that does not read (a paused machine) loses frames, like a real one.

pub mod fabric;
pub mod pcap;
pub mod rules;

use crate::tap::Tap;
use anyhow::{Context, Result};
use fabric::{Counters, Delivery, Fabric};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use pcap::Capture;
pub use rules::{Port, Rule, Rules};
use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// The largest frame that a port may send; a longer length word means that the stream is out of step.
const MAX_FRAME: usize = 65_536;
/// Bytes that wait for a port that does not read.
const MAX_BACKLOG: usize = 512 * 1024;
/// How long the thread sleeps at most: captures are flushed that often.
const TICK: Duration = Duration::from_millis(500);

/// A running switch. Dropping it stops its thread and closes its ports.
#[derive(Debug)]
pub struct Switch {
    sockets: BTreeMap<Port, PathBuf>,
    shared: Arc<Mutex<Shared>>,
    wake: UnixStream,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    fabric: Fabric,
    capture: Option<Capture>,
    stop: bool,
}

impl Switch {
    /// Starts a switch whose node ports listen on sockets in `dir`; with a `tap`, port 0 is the host.
    pub fn start(name: &str, dir: &Path, nodes: &[Port], tap: Option<Tap>, seed: u64) -> Result<Switch> {
        let mut ports: Vec<Port> = nodes.to_vec();
        ports.extend(tap.iter().map(|_| 0));
        let shared = Arc::new(Mutex::new(Shared { fabric: Fabric::new(&ports, seed), capture: None, stop: false }));
        let mut sockets = BTreeMap::new();
        let mut links = Vec::new();
        for &port in nodes {
            let path = dir.join(format!("{name}{port}.sock"));
            let _ = std::fs::remove_file(&path);
            let listener = UnixListener::bind(&path).with_context(|| format!("listening on {}", path.display()))?;
            listener.set_nonblocking(true)?;
            links.push(Link { port, listener, peer: None });
            sockets.insert(port, path);
        }
        let (wake, woken) = UnixStream::pair()?;
        woken.set_nonblocking(true)?;
        let worker = Worker {
            shared: shared.clone(),
            links,
            tap,
            woken,
            start: Instant::now(),
            buffer: Box::new([0; MAX_FRAME]),
        };
        let thread = std::thread::Builder::new().name(format!("switch-{name}")).spawn(move || worker.run())?;
        Ok(Switch { sockets, shared, wake, thread: Some(thread) })
    }

    /// The socket that a machine on this port connects to.
    pub fn socket(&self, port: Port) -> Option<&Path> {
        self.sockets.get(&port).map(PathBuf::as_path)
    }

    /// Changes the network's faults from the next frame on.
    pub fn rules(&self, change: impl FnOnce(&mut Rules)) {
        change(&mut lock(&self.shared).fabric.rules);
    }

    /// What the switch did with frames so far.
    pub fn counters(&self) -> Counters {
        lock(&self.shared).fabric.counters
    }

    /// Records every frame that enters the switch from now on.
    pub fn capture(&self, path: &Path) -> Result<()> {
        lock(&self.shared).capture = Some(Capture::create(path).with_context(|| path.display().to_string())?);
        Ok(())
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        lock(&self.shared).stop = true;
        let _ = self.wake.write_all(&[1]);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        for path in self.sockets.values() {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A panic of the switch thread is a bug that the run's waits will show; the state itself is always consistent.
fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

struct Link {
    port: Port,
    listener: UnixListener,
    peer: Option<Peer>,
}

/// A connected machine.
struct Peer {
    stream: UnixStream,
    received: Vec<u8>,
    backlog: VecDeque<u8>,
}

impl Peer {
    /// Reads what is there; `Err` means the machine is gone.
    fn fill(&mut self, chunk: &mut [u8]) -> std::io::Result<()> {
        match self.stream.read(chunk) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(length) => {
                self.received.extend_from_slice(&chunk[..length]);
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Hands every complete frame to `take`; `Err` if the stream makes no sense.
    fn frames(&mut self, mut take: impl FnMut(&[u8])) -> std::io::Result<()> {
        let mut used = 0;
        while let Some((head, rest)) = self.received[used..].split_first_chunk::<4>() {
            let length = u32::from_be_bytes(*head) as usize;
            if length > MAX_FRAME {
                return Err(ErrorKind::InvalidData.into());
            }
            let Some(frame) = rest.get(..length) else { break };
            take(frame);
            used += 4 + length;
        }
        self.received.drain(..used);
        Ok(())
    }

    /// Queues a frame; `false` if the machine has too much unread already.
    fn queue(&mut self, frame: &[u8]) -> bool {
        if self.backlog.len() + 4 + frame.len() > MAX_BACKLOG {
            return false;
        }
        self.backlog.extend((frame.len() as u32).to_be_bytes());
        self.backlog.extend(frame);
        true
    }

    fn flush(&mut self) -> std::io::Result<()> {
        while !self.backlog.is_empty() {
            let (front, _) = self.backlog.as_slices();
            match self.stream.write(front) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => drop(self.backlog.drain(..written)),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The switch's thread.
struct Worker {
    shared: Arc<Mutex<Shared>>,
    links: Vec<Link>,
    tap: Option<Tap>,
    woken: UnixStream,
    start: Instant,
    /// Where reads land.
    buffer: Box<[u8; MAX_FRAME]>,
}

impl Worker {
    fn run(mut self) {
        let mut out = Vec::new();
        loop {
            self.wait();
            if lock(&self.shared).stop {
                return;
            }
            let _ = self.woken.read(&mut [0; 16]);
            self.accept();
            self.receive(&mut out);
            let now = self.now_ns();
            lock(&self.shared).fabric.due(now, &mut out);
            self.deliver(&mut out);
        }
    }

    fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// Sleeps until a port has something, a backlog can move, or a delayed frame is due.
    fn wait(&mut self) {
        let timeout = {
            let mut shared = lock(&self.shared);
            let due = shared.fabric.next_due_ns().map(|due| Duration::from_nanos(due.saturating_sub(self.now_ns())));
            let idle = due.is_none_or(|due| due > TICK);
            if idle && let Some(capture) = &mut shared.capture {
                let _ = capture.flush();
            }
            due.map_or(TICK, |due| due.min(TICK))
        };
        let mut fds = vec![PollFd::new(self.woken.as_fd(), PollFlags::POLLIN)];
        fds.extend(self.tap.iter().map(|tap| PollFd::new(tap.as_fd(), PollFlags::POLLIN)));
        for link in &self.links {
            fds.push(PollFd::new(link.listener.as_fd(), PollFlags::POLLIN));
            if let Some(peer) = &link.peer {
                let writable = if peer.backlog.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
                fds.push(PollFd::new(peer.stream.as_fd(), PollFlags::POLLIN | writable));
            }
        }
        // An interrupted wait is a short wait.
        let _ = ppoll(&mut fds, Some(TimeSpec::from_duration(timeout)), None);
    }

    /// A machine that connects takes the port over from one that was there before it.
    fn accept(&mut self) {
        for link in &mut self.links {
            while let Ok((stream, _)) = link.listener.accept() {
                if stream.set_nonblocking(true).is_ok() {
                    link.peer = Some(Peer { stream, received: Vec::new(), backlog: VecDeque::new() });
                }
            }
        }
    }

    fn receive(&mut self, out: &mut Vec<Delivery>) {
        let now = self.now_ns();
        let mut shared = lock(&self.shared);
        let shared = &mut *shared;
        for link in &mut self.links {
            let Some(peer) = &mut link.peer else { continue };
            let read = peer.fill(&mut self.buffer[..]);
            let parsed = peer.frames(|frame| shared.ingress(now, link.port, frame, out));
            if read.and(parsed).is_err() {
                link.peer = None;
                shared.fabric.forget(link.port);
            }
        }
        let Some(tap) = &self.tap else { return };
        // Bounded, so that a busy host does not starve the machines.
        for _ in 0..64 {
            match tap.receive(&mut self.buffer[..]) {
                Ok(Some(length)) => shared.ingress(now, 0, &self.buffer[..length], out),
                Ok(None) | Err(_) => break,
            }
        }
    }

    fn deliver(&mut self, out: &mut Vec<Delivery>) {
        let mut counters = Counters::default();
        for (port, frame) in out.drain(..) {
            let taken = match (&self.tap, self.links.iter_mut().find(|link| link.port == port)) {
                (Some(tap), None) => tap.send(&frame),
                (_, Some(link)) => link.peer.as_mut().is_some_and(|peer| peer.queue(&frame)),
                (None, None) => false,
            };
            *(if taken { &mut counters.delivered } else { &mut counters.overflowed }) += 1;
        }
        for link in &mut self.links {
            if link.peer.as_mut().is_some_and(|peer| peer.flush().is_err()) {
                link.peer = None;
                lock(&self.shared).fabric.forget(link.port);
            }
        }
        let mut shared = lock(&self.shared);
        shared.fabric.counters.delivered += counters.delivered;
        shared.fabric.counters.overflowed += counters.overflowed;
    }
}

impl Shared {
    fn ingress(&mut self, now_ns: u64, from: Port, frame: &[u8], out: &mut Vec<Delivery>) {
        if let Some(capture) = &mut self.capture {
            // A full disk must not stop the cluster; the capture ends there.
            if capture.record(SystemTime::now(), frame).is_err() {
                self.capture = None;
            }
        }
        self.fabric.ingress(now_ns, from, frame, out);
    }
}
