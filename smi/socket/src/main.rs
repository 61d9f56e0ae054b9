//! The socket server: [`smi_socket::server::SocketServer`] between the external NIC, the manager's port, and the clients.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod server {
    use alloc::vec;
    use alloc::vec::Vec;
    use ipc_api::{manager, timer};
    use ipc_ring::{Duplex, Side};
    use ipc_wire::{CallError, Dispatched, LinkError, RawCap};
    use net::{MAX_FRAME, NetClient};
    use smi_cluster::Lane;
    use smi_cluster::identity::External;
    use smi_core::table::{Op, decode_proposed};
    use smi_port::{HEADER_BYTES, MAX_MESSAGE, ToManager, ToServer};
    use smi_rt::serve::{self, Loop, Message};
    use smi_rt::transport::{ChannelExt, ChannelTransport};
    use smi_rt::{Channel, Env, cap, time};
    use smi_socket::desk::{self, Desk};
    use smi_socket::directory::Directory;
    use smi_socket::server::{Effects, Proposal, ServerConfig, SocketServer};

    smi_rt::entry!(main);

    /// Frames and records taken before what they cause is sent.
    const BATCH: usize = 64;
    /// Heap for one connection: two buffers and what belongs to them.
    const CONNECTION_BYTES: usize = 56 * 1024;

    fn main(env: &'static Env) -> ! {
        let mut events = Loop::new(env);
        let mut shell = Shell::start(env).unwrap_or_else(|error| stay_outside(error, &mut events));
        let mut message = Message::new();
        let mut busy = true;
        loop {
            // While there is work, calls take turns with it; a flood of frames must not keep clients waiting.
            let event = if busy { events.poll(&mut message) } else { Some(events.next(&mut message)) };
            match event {
                Some(serve::Event::Call(call)) => {
                    events.dispatch(call, &message, |incoming, buffer| shell.call(incoming, buffer));
                }
                Some(serve::Event::Signals(bits)) if bits & shell.timer_mask != 0 => shell.armed = None,
                Some(serve::Event::Signals(_)) | None => {}
            }
            busy = shell.turn();
        }
    }

    /// The manager says that this node is not in a cluster: there is nothing to serve.
    fn stay_outside(error: CallError<manager::Error>, events: &mut Loop) -> ! {
        defmt::warn!("outside the cluster: {}", error);
        let mut message = Message::new();
        loop {
            if let serve::Event::Call(call) = events.next(&mut message) {
                let _ = events.refuse(call.token, LinkError::NoQuorum);
            }
        }
    }

    fn channel(env: &Env, name: &str) -> Channel {
        match env.channel(name) {
            Ok(channel) => channel,
            Err(error) => panic!("channel '{name}': {error}"),
        }
    }

    fn ring(channel: &Channel) -> Duplex<'static> {
        let Some((region, base)) = channel.ring.and_then(|r| Some((r, core::ptr::NonNull::new(r.ptr)?))) else {
            panic!("the channel with '{}' has no ring", channel.peer)
        };
        // SAFETY: the root task shares this region between the two ends of the channel for their life; this process attaches its
        // side once.
        match unsafe { Duplex::attach(base, region.len, Side::Client) } {
            Ok(duplex) => duplex,
            Err(_) => panic!("the ring with '{}' is too small", channel.peer),
        }
    }

    /// The external NIC, if this node has one.
    struct Nic {
        client: NetClient<'static>,
        channel: Channel,
    }

    struct Shell {
        env: &'static Env,
        directory: Directory,
        /// Once the manager has said which node this is.
        server: Option<SocketServer>,
        external: External,
        secret: [u64; 2],
        nic: Option<Nic>,
        port: Duplex<'static>,
        manager: Channel,
        record: Vec<u8>,
        scratch: Vec<u8>,
        timer: timer::Client<ChannelTransport>,
        timer_mask: u64,
        armed: Option<u64>,
        next_token: u64,
        /// Frames and messages for which a ring had no room. TCP repairs them.
        dropped: u64,
        routing: bool,
    }

    impl Shell {
        fn start(env: &'static Env) -> Result<Shell, CallError<manager::Error>> {
            let manager = channel(env, "manager");
            let mut client = manager::Client::new(manager.transport());
            let e = client.external()?;
            let external =
                External { service: e.service, prefix: e.prefix, gateway: e.gateway, virtual_mac: e.virtual_mac };
            let random = client.random()?;
            let word = |at: usize| random[at..at + 8].iter().fold(0, |w, b| w << 8 | u64::from(*b));
            let nic = env.channel("net-ext").ok();
            let timer = channel(env, "timer");
            Ok(Shell {
                env,
                directory: Directory::new(),
                server: None,
                external,
                secret: [word(0), word(8)],
                nic: nic.map(|channel| Nic { client: NetClient::new(ring(&channel)), channel }),
                port: ring(&manager),
                manager,
                record: vec![0; MAX_MESSAGE + HEADER_BYTES],
                scratch: Vec::new(),
                timer: timer::Client::new(timer.transport()),
                timer_mask: timer.mask(),
                armed: None,
                next_token: 1,
                dropped: 0,
                routing: false,
            })
        }

        fn call(&mut self, incoming: &ipc_wire::Incoming<'_>, buffer: &mut [u8]) -> Dispatched {
            let Some(server) = &mut self.server else { return Dispatched::Reply(desk::not_ready()) };
            let mut mint = |object, client| cap::mint_for_reply(cap::badge(object, client)).ok().map(|c| RawCap(c.0));
            let mut desk = Desk {
                server,
                directory: &self.directory,
                now: time::now_ns(),
                mint: &mut mint,
                scratch: &mut self.scratch,
            };
            desk.dispatch(incoming, buffer)
        }

        /// One batch of what there is to do; whether there may be more.
        fn turn(&mut self) -> bool {
            self.port.rx.wake();
            let mut effects = Effects::default();
            let mut busy = self.take_port(&mut effects);
            busy |= self.take_frames(&mut effects);
            if let Some(server) = &mut self.server {
                server.flush(time::now_ns(), &mut effects);
            }
            self.perform(effects);
            if let Some(nic) = &mut self.nic
                && nic.client.wants_signal()
            {
                smi_rt::notify(&nic.channel);
            }
            self.arm();
            self.tell();
            busy || !self.port.rx.sleep()
        }

        fn take_port(&mut self, effects: &mut Effects) -> bool {
            let mut record = core::mem::take(&mut self.record);
            let mut count = 0;
            while count < BATCH
                && let Some(result) = self.port.rx.pop(&mut record)
            {
                count += 1;
                match result.ok().and_then(|len| ToServer::decode(&record[..len]).ok()) {
                    Some(decoded) => self.port_record(&decoded, effects),
                    None => defmt::warn!("malformed port record dropped"),
                }
            }
            self.record = record;
            if count > 0 && self.port.rx.space_wanted() {
                smi_rt::notify(&self.manager);
            }
            count > 0
        }

        fn port_record(&mut self, record: &ToServer<'_>, effects: &mut Effects) {
            let now = time::now_ns();
            if self.directory.take(record) {
                self.view(now);
            }
            let Some(server) = &mut self.server else { return };
            match *record {
                ToServer::Peer { from, bytes, .. } => server.peer(now, from, bytes, effects),
                ToServer::Fenced { fenced } => server.fenced(now, fenced),
                ToServer::Proposed { bytes, .. } => match decode_proposed(bytes) {
                    // What is refused or lost is proposed again for as long as it is wanted.
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => defmt::warn!("port-proposal {}", defmt::Debug2Format(&error)),
                    Err(_) => defmt::warn!("malformed outcome of a proposal"),
                },
                _ => {}
            }
        }

        /// The table has changed.
        fn view(&mut self, now: u64) {
            let Some(view) = self.directory.view() else { return };
            let (external, secret, me) = (self.external, self.secret, view.me);
            let max_connections = (self.env.heap().len / 2 / CONNECTION_BYTES).clamp(8, 512);
            let server = self
                .server
                .get_or_insert_with(|| SocketServer::new(ServerConfig { me, external, secret, max_connections }));
            server.view(now, view);
        }

        fn take_frames(&mut self, effects: &mut Effects) -> bool {
            let (Some(nic), Some(server)) = (&mut self.nic, &mut self.server) else { return false };
            let mut frame = [0; MAX_FRAME];
            for count in 0..BATCH {
                match nic.client.receive(&mut frame) {
                    Some(len) => server.frame(time::now_ns(), &frame[..len], effects),
                    None => return count > 0,
                }
            }
            true
        }

        fn perform(&mut self, effects: Effects) {
            for frame in &effects.frames {
                let sent = self.nic.as_mut().is_some_and(|nic| nic.client.send(&[frame]).is_ok());
                self.dropped += u64::from(!sent);
            }
            for (to, bytes) in &effects.peers {
                self.push(ToManager::Peer { to: *to, lane: Lane::Log, bytes });
            }
            for proposal in effects.proposals {
                let op = match proposal {
                    Proposal::Listen { port, vid } => Op::Listen { port, vid },
                    Proposal::Unlisten { port } => Op::Unlisten { port },
                };
                self.next_token += 1;
                self.push(ToManager::Propose { token: self.next_token, bytes: &op.encode() });
            }
            for client in effects.signals {
                if let Some(channel) = self.env.client_by_badge(client.0) {
                    smi_rt::notify(&channel);
                }
            }
        }

        fn push(&mut self, record: ToManager<'_>) {
            let pushed = self.port.tx.push(&record.encode().parts()).is_ok();
            self.dropped += u64::from(!pushed);
            if self.port.tx.wants_signal() {
                smi_rt::notify(&self.manager);
            }
        }

        /// Has the timer wake us at the next deadline. An earlier one that is already set may stay: waking once too often costs less
        /// than setting it anew for every packet.
        fn arm(&mut self) {
            let Some(at) = self.server.as_ref().and_then(SocketServer::deadline) else { return };
            if self.armed.is_none_or(|armed| at < armed) && self.timer.arm(at).is_ok() {
                self.armed = Some(at);
            }
        }

        /// Says when the role of this node changes.
        fn tell(&mut self) {
            let Some(server) = &self.server else { return };
            if server.routing() != self.routing {
                self.routing = server.routing();
                let [a, b, c, d] = self.external.service;
                match self.routing {
                    true => defmt::info!("router-active address={}.{}.{}.{}", a, b, c, d),
                    false => defmt::info!("router-silent dropped={}", self.dropped),
                }
            }
        }
    }
}

#[cfg(not(target_os = "none"))]
fn main() {}
