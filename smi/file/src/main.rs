//! The file server: [`smi_file::FileCore`] and [`smi_file::Front`] between the block driver, the manager and the clients.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod server {
    use alloc::collections::{BTreeMap, VecDeque};
    use alloc::vec;
    use alloc::vec::Vec;
    use block::{BlockClient, SubmitError, Token};
    use ipc_api::timer;
    use ipc_ring::{Duplex, Side};
    use ipc_wire::{MAX_PAYLOAD, RawCap};
    use smi_file::{Action, Event, FileCore, Front};
    use smi_port::{HEADER_BYTES, MAX_MESSAGE, ToManager, ToServer};
    use smi_rt::replies;
    use smi_rt::serve::{self, Loop, Message};
    use smi_rt::session::RegionSession;
    use smi_rt::transport::{ChannelExt, ChannelTransport};
    use smi_rt::{Channel, Env, cap, time};
    use smi_store::layout::BLOCK;
    use smi_store::{BlockReader, IoId, IoKind, ReadFailed, Recovery, Store};

    smi_rt::entry!(main);

    /// Between ticks of the core, in nanoseconds.
    const TICK: u64 = 50_000_000;
    /// Records that wait for room in the port's ring; beyond this the oldest peer messages are dropped (and repeated by the protocol).
    const MAX_BACKLOG: usize = 4096;

    fn main(env: &'static Env) -> ! {
        let mut server = Server::start(env);
        let mut events = Loop::new(env);
        let mut message = Message::new();
        loop {
            match events.next(&mut message) {
                serve::Event::Call(call) => {
                    let front = &mut server.front;
                    events.dispatch(call, &message, |incoming, buffer| front.dispatch(incoming, buffer));
                }
                serve::Event::Signals(_) => {}
            }
            server.turn(&mut events);
        }
    }

    fn channel(env: &Env, name: &str) -> Channel {
        match env.channel(name) {
            Ok(channel) => channel,
            Err(error) => panic!("channel '{name}': {error}"),
        }
    }

    fn ring(channel: &Channel, side: Side) -> Duplex<'static> {
        let Some((region, base)) = channel.ring.and_then(|r| Some((r, core::ptr::NonNull::new(r.ptr)?))) else {
            panic!("the channel with '{}' has no ring", channel.peer)
        };
        // SAFETY: the root task shares this region between the two ends of the channel for their life; this process attaches its side once.
        match unsafe { Duplex::attach(base, region.len, side) } {
            Ok(duplex) => duplex,
            Err(_) => panic!("the ring with '{}' is too small", channel.peer),
        }
    }

    /// What a block request is part of: long I/O is cut into the driver's pieces.
    struct Piece {
        io: IoId,
        /// Where its bytes go in the whole.
        offset: usize,
    }

    /// An I/O of the store, as far as it is done.
    struct Whole {
        left: usize,
        failed: bool,
        bytes: Vec<u8>,
    }

    /// A piece that the driver had no room for yet.
    enum Submission {
        Read { block: u64, count: u32, piece: Piece },
        Write { block: u64, bytes: Vec<u8>, piece: Piece },
        Flush { piece: Piece },
    }

    struct Disk {
        client: BlockClient<'static, RegionSession>,
        channel: Channel,
        waiting: VecDeque<Submission>,
        pieces: BTreeMap<u64, Piece>,
        wholes: BTreeMap<IoId, Whole>,
        done: Vec<(IoId, Result<Vec<u8>, ()>)>,
    }

    struct Server {
        core: FileCore,
        front: Front,
        disk: Disk,
        port: Duplex<'static>,
        manager: Channel,
        backlog: VecDeque<Vec<u8>>,
        record: Vec<u8>,
        reply: [u8; MAX_PAYLOAD],
        timer: timer::Client<ChannelTransport>,
        next_tick: u64,
    }

    impl Server {
        fn start(env: &'static Env) -> Server {
            let mut disk = Disk::new(channel(env, "block"));
            let blocks = disk.wait_ready();
            let recovery = match Recovery::open(blocks, &mut disk) {
                Ok(recovery) => recovery,
                Err(error) => {
                    defmt::error!("store-refused blocks={} {}", blocks, defmt::Display2Format(&error));
                    panic!("the store cannot be opened: {error}");
                }
            };
            let store = Store::new(recovery);
            let (free, total) = store.space();
            defmt::info!("store-open files={} free={} total={}", store.objects().count(), free, total);
            let manager = channel(env, "manager");
            let mut timer = timer::Client::new(channel(env, "timer").transport());
            let now = time::now_ns();
            let _ = timer.arm(now + TICK);
            Server {
                core: FileCore::new(store, now),
                front: Front::new(),
                disk,
                port: ring(&manager, Side::Client),
                manager,
                backlog: VecDeque::new(),
                record: vec![0; MAX_MESSAGE + HEADER_BYTES],
                reply: [0; MAX_PAYLOAD],
                timer,
                next_tick: now + TICK,
            }
        }

        /// Everything there is to do now.
        fn turn(&mut self, events: &mut Loop) {
            self.port.rx.wake();
            loop {
                let mut busy = self.take_requests(events);
                busy |= self.take_port(events);
                busy |= self.take_disk(events);
                if time::now_ns() >= self.next_tick {
                    self.next_tick = time::now_ns() + TICK;
                    self.step(Event::Tick, events);
                    let _ = self.timer.arm(self.next_tick);
                }
                self.push_backlog();
                if !busy && self.port.rx.sleep() {
                    break;
                }
            }
            self.disk.signal();
        }

        fn take_requests(&mut self, events: &mut Loop) -> bool {
            let requests = self.front.take_requests();
            let any = !requests.is_empty();
            for (id, op) in requests {
                self.step(Event::Client { id, op }, events);
            }
            any
        }

        fn take_port(&mut self, events: &mut Loop) -> bool {
            let mut any = false;
            let mut record = core::mem::take(&mut self.record);
            while let Some(result) = self.port.rx.pop(&mut record) {
                any = true;
                match result.ok().and_then(|len| ToServer::decode(&record[..len]).ok()) {
                    Some(decoded) => self.step(Event::Port(decoded), events),
                    None => defmt::warn!("malformed port record dropped"),
                }
            }
            self.record = record;
            if any && self.port.rx.space_wanted() {
                smi_rt::notify(&self.manager);
            }
            any
        }

        fn take_disk(&mut self, events: &mut Loop) -> bool {
            self.disk.poll();
            let done = core::mem::take(&mut self.disk.done);
            let any = !done.is_empty();
            for (id, result) in done {
                self.step(Event::Io { id, result }, events);
            }
            any
        }

        fn step(&mut self, event: Event, events: &mut Loop) {
            let mut out = Vec::new();
            self.core.step(time::now_ns(), event, &mut out);
            for action in out {
                match action {
                    Action::Send { to, lane, bytes } => {
                        self.push(ToManager::Peer { to, lane, bytes: &bytes });
                    }
                    Action::Propose { token, op } => self.push(ToManager::Propose { token, bytes: &op.encode() }),
                    Action::Io { id, kind } => self.disk.submit(id, kind),
                    Action::Reply { id, result } => self.answer(id, result, events),
                }
            }
        }

        fn answer(&mut self, id: u64, result: Result<smi_file::Response, smi_file::FileError>, events: &mut Loop) {
            self.front.set_space(self.core.store().space());
            let session = self.front.badge_of(id).map_or(RegionSession::NONE, |badge| events.session(badge));
            let Some(answer) = self.front.answer(id, result, &session, &mut self.reply) else { return };
            let reply = match answer.mint {
                None => answer.reply,
                Some(badge) => {
                    let minted = cap::mint_for_reply(badge).ok().map(|cap| RawCap(cap.0));
                    self.front.minted(minted, &mut self.reply)
                }
            };
            let len = reply.len.min(MAX_PAYLOAD);
            // A caller that went away meanwhile has no use for the answer.
            let _ = events.reply(replies::Token::from_word(answer.token), reply, &self.reply[..len]);
        }

        fn push(&mut self, record: ToManager) {
            let encoded = record.encode();
            if !self.backlog.is_empty() || self.port.tx.push(&encoded.parts()).is_err() {
                if self.backlog.len() >= MAX_BACKLOG {
                    self.backlog.pop_front();
                }
                self.backlog.push_back(encoded.parts().concat());
            }
            self.signal_manager();
        }

        fn push_backlog(&mut self) {
            let mut any = false;
            while let Some(front) = self.backlog.front()
                && self.port.tx.push(&[front]).is_ok()
            {
                self.backlog.pop_front();
                any = true;
            }
            if any {
                self.signal_manager();
            }
        }

        fn signal_manager(&mut self) {
            if self.port.tx.wants_signal() {
                smi_rt::notify(&self.manager);
            }
        }
    }

    impl Disk {
        fn new(channel: Channel) -> Disk {
            let client = BlockClient::new(ring(&channel, Side::Client), RegionSession::of(&channel));
            Disk {
                client,
                channel,
                waiting: VecDeque::new(),
                pieces: BTreeMap::new(),
                wholes: BTreeMap::new(),
                done: Vec::new(),
            }
        }

        fn signal(&mut self) {
            if self.client.wants_signal() {
                smi_rt::notify(&self.channel);
            }
        }

        /// Waits for the driver at start; gives the window's blocks.
        fn wait_ready(&mut self) -> u64 {
            loop {
                while let Some(event) = self.client.poll() {
                    if let block::Event::Ready(geometry) = event {
                        return geometry.blocks;
                    }
                }
                self.signal();
                smi_rt::sys::wait(smi_rt::env::CPtr(smi_rt::env::map::CAP_NOTIFICATION));
            }
        }

        fn submit(&mut self, io: IoId, kind: IoKind) {
            let max = self.client.max_blocks().max(1);
            let mut whole = Whole { left: 0, failed: false, bytes: Vec::new() };
            match kind {
                IoKind::Flush => {
                    self.waiting.push_back(Submission::Flush { piece: Piece { io, offset: 0 } });
                    whole.left = 1;
                }
                IoKind::Read { block, count } => {
                    whole.bytes = vec![0; count as usize * BLOCK];
                    let mut at = 0;
                    while at < count {
                        let n = max.min(count - at);
                        let piece = Piece { io, offset: at as usize * BLOCK };
                        self.waiting.push_back(Submission::Read { block: block + at as u64, count: n, piece });
                        whole.left += 1;
                        at += n;
                    }
                }
                IoKind::Write { block, bytes } => {
                    for (i, part) in bytes.chunks(max as usize * BLOCK).enumerate() {
                        let first = block + i as u64 * max as u64;
                        let piece = Piece { io, offset: 0 };
                        self.waiting.push_back(Submission::Write { block: first, bytes: part.to_vec(), piece });
                        whole.left += 1;
                    }
                }
            }
            self.wholes.insert(io, whole);
            self.push_waiting();
        }

        fn push_waiting(&mut self) {
            while let Some(next) = self.waiting.pop_front() {
                let result = match &next {
                    Submission::Read { block, count, .. } => self.client.read(*block, *count),
                    Submission::Write { block, bytes, .. } => self.client.write(*block, bytes),
                    Submission::Flush { .. } => self.client.flush(),
                };
                match result {
                    Ok(Token(token)) => {
                        let (Submission::Read { piece, .. }
                        | Submission::Write { piece, .. }
                        | Submission::Flush { piece }) = next;
                        self.pieces.insert(token, piece);
                    }
                    Err(SubmitError::Full | SubmitError::NotReady) => {
                        self.waiting.push_front(next);
                        break;
                    }
                    Err(SubmitError::BadSize) => {
                        let (Submission::Read { piece, .. }
                        | Submission::Write { piece, .. }
                        | Submission::Flush { piece }) = next;
                        self.finish(piece, Err(()));
                    }
                }
            }
            self.signal();
        }

        fn poll(&mut self) {
            let mut any = false;
            while let Some(event) = self.client.poll() {
                any = true;
                if let block::Event::Done(Token(token), result) = event
                    && let Some(piece) = self.pieces.remove(&token)
                {
                    let bytes = result.map_err(|_| ()).and_then(|()| self.take(token));
                    self.finish(piece, bytes);
                }
            }
            if any {
                self.push_waiting();
            }
        }

        /// The bytes of a completed read; none of other requests.
        fn take(&mut self, token: u64) -> Result<Vec<u8>, ()> {
            match self.client.blocks_of(Token(token)) {
                None => Ok(Vec::new()),
                Some(count) => {
                    let mut bytes = vec![0; count as usize * BLOCK];
                    if self.client.take(Token(token), &mut bytes) { Ok(bytes) } else { Err(()) }
                }
            }
        }

        fn finish(&mut self, piece: Piece, result: Result<Vec<u8>, ()>) {
            let Some(whole) = self.wholes.get_mut(&piece.io) else { return };
            match result {
                Ok(bytes) if !bytes.is_empty() => {
                    whole.bytes[piece.offset..piece.offset + bytes.len()].copy_from_slice(&bytes);
                }
                Ok(_) => {}
                Err(()) => whole.failed = true,
            }
            whole.left -= 1;
            if whole.left == 0
                && let Some(whole) = self.wholes.remove(&piece.io)
            {
                self.done.push((piece.io, if whole.failed { Err(()) } else { Ok(whole.bytes) }));
            }
        }
    }

    impl BlockReader for Disk {
        fn read(&mut self, block: u64, buffer: &mut [u8]) -> Result<(), ReadFailed> {
            if buffer.is_empty() {
                return Ok(());
            }
            let io = IoId(u64::MAX);
            self.submit(io, IoKind::Read { block, count: (buffer.len() / BLOCK) as u32 });
            loop {
                self.poll();
                if let Some((_, result)) = self.done.pop() {
                    let bytes = result.map_err(|()| ReadFailed)?;
                    buffer.copy_from_slice(&bytes);
                    return Ok(());
                }
                self.signal();
                smi_rt::sys::wait(smi_rt::env::CPtr(smi_rt::env::map::CAP_NOTIFICATION));
            }
        }
    }
}

#[cfg(not(target_os = "none"))]
fn main() {}
