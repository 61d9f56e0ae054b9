//! The database: [`db::service::Service`] over the socket server and the file server.
//!
//! Arguments (manifest): `service=NAME` in the directory, default the server's own name; `port=N`, default 6379.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod server {
    use alloc::string::String;
    use db::engine::Config;
    use db::files::{Files, IpcFiles};
    use db::service::Service;
    use db::sockets::IpcSockets;
    use db::way::Way;
    use ipc_api::{manager, socket, timer};
    use ipc_wire::{CallError, LinkError, RawCap, Reply, Request, Session, Transport};
    use smi_rt::transport::{ChannelExt, ChannelTransport};
    use smi_rt::{CPtr, Channel, Env, cap, time};

    smi_rt::entry!(main);

    /// Pause before asking again what is not known yet, and how often it is asked.
    const ASK_EVERY_NS: u64 = 100_000_000;
    const ASK_TIMES: u32 = 100;
    /// Connections that may wait to be accepted.
    const BACKLOG: u16 = 64;
    const PORT: u16 = 6379;

    /// A channel with the capabilities that came through it.
    #[derive(Clone, Copy)]
    struct ChannelWay(ChannelTransport);

    impl Transport for ChannelWay {
        fn call(&mut self, request: Request<'_>, reply: &mut [u8]) -> Result<Reply, LinkError> {
            self.0.call(request, reply)
        }

        fn session(&self) -> &dyn Session {
            self.0.session()
        }
    }

    impl Way for ChannelWay {
        fn again(&self) -> Self {
            *self
        }

        fn to(&self, cap: RawCap) -> Self {
            ChannelWay(self.0.object(cap))
        }

        fn release(&self, raw: RawCap) {
            cap::delete(CPtr(raw.0));
        }
    }

    /// The timer, armed for at most one deadline.
    struct Alarm {
        client: timer::Client<ChannelTransport>,
        armed: Option<u64>,
    }

    impl Alarm {
        fn set(&mut self, deadline_ns: Option<u64>) {
            if deadline_ns == self.armed {
                return;
            }
            self.armed = deadline_ns;
            // Without a timer, keys that nobody asks for are removed at the next request.
            let _ = match deadline_ns {
                Some(at) => self.client.arm(at),
                None => self.client.disarm(),
            };
        }
    }

    fn main(env: &'static Env) -> ! {
        let (service, port) = arguments(env);
        let mut alarm = Alarm { client: timer::Client::new(channel(env, "timer").transport()), armed: None };
        let mut manager = manager::Client::new(channel(env, "manager").transport());
        let me = patiently(env, &mut alarm, "its record in the directory", || manager.process(&service).ok());
        let vid = (u128::from(me.vid.high) << 64) | u128::from(me.vid.low);
        let sockets = ChannelWay(channel(env, "socket").transport());
        let opened = patiently(env, &mut alarm, "the sockets", || match IpcSockets::open(&sockets, vid) {
            Ok(socket) => Some(socket),
            Err(CallError::Server(socket::Error::Unknown | socket::Error::NotHere)) | Err(CallError::Link(_)) => None,
            Err(error) => panic!("sockets: {error}"),
        });
        let mut files = IpcFiles::new(ChannelWay(channel(env, "file").transport()), &service, me.group);
        let started_ns = time::now_ns();
        let recovered = match files.recover() {
            Ok(recovered) => recovered,
            Err(error) => panic!("the log cannot be used: {error:?}"),
        };
        defmt::info!(
            "db-recovered keys={} log={} seq={} ms={}",
            recovered.keys.len(),
            recovered.valid,
            recovered.seq,
            (time::now_ns() - started_ns) / 1_000_000
        );
        let listening = match IpcSockets::listen(opened, port, BACKLOG) {
            Ok(listening) => listening,
            Err(error) => panic!("listen: {error}"),
        };
        let mut service = Service::new(listening, files, config(env), recovered, now_ms());
        defmt::info!("db-ready port={} group={} epoch={}", port, me.group, me.epoch);
        loop {
            if let Err(end) = service.turn(now_ms()) {
                panic!("the service ends: {end:?}");
            }
            alarm.set(service.deadline_ms().map(|ms| ms.saturating_mul(1_000_000)));
            let bits = smi_rt::sys::wait(env.notification());
            if bits & channel(env, "timer").mask() != 0 {
                alarm.armed = None;
            }
        }
    }

    fn arguments(env: &Env) -> (String, u16) {
        let (mut service, mut port) = (env.name(), PORT);
        for argument in env.args().split([' ', ',']).filter(|a| !a.is_empty()) {
            match argument.split_once('=') {
                Some(("service", name)) => service = name,
                Some(("port", number)) => port = number.parse().unwrap_or_else(|_| panic!("bad port: {number}")),
                _ => panic!("unknown argument: {argument}"),
            }
        }
        (String::from(service), port)
    }

    /// Three eighths of the heap for data and one for requests and replies: the rest covers what counting by bytes leaves out.
    fn config(env: &Env) -> Config {
        let heap = env.heap().len;
        Config { max_memory: heap / 8 * 3, max_buffers: heap / 8, ..Config::default() }
    }

    fn channel(env: &Env, peer: &str) -> Channel {
        match env.channel(peer) {
            Ok(channel) => channel,
            Err(error) => panic!("channel '{peer}': {error}"),
        }
    }

    /// Asks again and again for something that the cluster is still about to know.
    fn patiently<T>(env: &Env, alarm: &mut Alarm, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
        for _ in 0..ASK_TIMES {
            if let Some(answer) = ask() {
                return answer;
            }
            let until = time::now_ns() + ASK_EVERY_NS;
            alarm.set(Some(until));
            while time::now_ns() < until {
                smi_rt::sys::wait(env.notification());
            }
            alarm.armed = None;
        }
        panic!("waited in vain for {what}")
    }

    fn now_ms() -> u64 {
        time::now_ns() / 1_000_000
    }
}

#[cfg(not(target_os = "none"))]
fn main() {}
