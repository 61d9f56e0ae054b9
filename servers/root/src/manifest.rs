//! The system manifest in its binary form: which servers there are and what each is given.
//!
//! The image builder makes it from TOML and checks it with file and line; [`Manifest::decode`] checks it again, because the root task
//! believes nothing it has not checked. After that, indices are in range, names are unique, and every channel joins two different servers.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};
use smi_env::layout::{ARGS_LEN, ENTRY_ARG_LEN, NAME_LEN};

/// Most servers.
pub const MAX_SERVERS: usize = 48;
/// Most channels of one server, in both roles together: one notification bit each, and one for its interrupt.
pub const MAX_CHANNELS_OF_A_SERVER: usize = 48;
/// The name under which channels reach the root task itself.
pub const ROOT: &str = "root";
/// Index that stands for the root task as the server of a channel.
pub const ROOT_INDEX: u16 = u16::MAX;
/// Bytes of a page; all memory sizes are multiples.
pub const PAGE: u64 = 4096;

/// The whole system of one node.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
pub struct Manifest {
    /// Servers; the index is the source id of a server's logs.
    pub servers: Vec<Server>,
    /// Channels between them.
    pub channels: Vec<Channel>,
    /// Programs that the cluster keeps running.
    pub services: Vec<Service>,
}

/// When a server is started.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At boot.
    Boot,
    /// When the supervisor is asked.
    OnDemand,
}

/// What happens when a server fails.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// It is started again, after a pause that grows while it keeps failing.
    Always,
    /// It stays down.
    Never,
}

/// A device that a server drives.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The n-th virtio network device, in the order of QEMU's command line.
    VirtioNet(u8),
    /// The n-th virtio block device, in the order of QEMU's command line.
    VirtioBlk(u8),
    /// The serial line.
    Pl011,
    /// The EL0 physical timer: interrupt and registers.
    PhysTimer,
}

impl Device {
    /// The device that a manifest names, e.g. `virtio-net#0`.
    pub fn parse(name: &str) -> Option<Device> {
        Some(match (name, name.split_once('#')) {
            ("pl011", _) => Device::Pl011,
            ("phys-timer", _) => Device::PhysTimer,
            (_, Some(("virtio-net", n))) => Device::VirtioNet(n.parse().ok()?),
            (_, Some(("virtio-blk", n))) => Device::VirtioBlk(n.parse().ok()?),
            _ => return None,
        })
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::VirtioNet(n) => write!(f, "virtio-net#{n}"),
            Device::VirtioBlk(n) => write!(f, "virtio-blk#{n}"),
            Device::Pl011 => f.write_str("pl011"),
            Device::PhysTimer => f.write_str("phys-timer"),
        }
    }
}

/// One server.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Unique name.
    pub name: String,
    /// ELF in the archive.
    pub program: String,
    /// Priority, 1..=253; the root task has 254.
    pub priority: u8,
    /// Bytes of heap.
    pub heap: u64,
    /// Bytes of stack.
    pub stack: u64,
    /// Reply objects: calls that can be unanswered at once.
    pub replies: u16,
    /// Free capability slots.
    pub slots: u16,
    /// May read the clock.
    pub counter: bool,
    /// When it is started.
    pub start: Start,
    /// What happens when it fails.
    pub restart: Restart,
    /// Processor time per period, microseconds. Equal to the period: round robin.
    pub budget_us: u64,
    /// Period, microseconds.
    pub period_us: u64,
    /// The device that it drives.
    pub device: Option<Device>,
    /// A server whose device is not there is left out. True: that is no fault of the node, and no complaint.
    pub optional: bool,
    /// Bytes of memory with a known physical address, physically contiguous.
    pub dma: u64,
    /// Argument string.
    pub args: String,
}

/// A relation between a client and a server.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Index of the calling server.
    pub client: u16,
    /// Index of the called server, or [`ROOT_INDEX`].
    pub server: u16,
    /// Bytes of ring at the start of the shared region.
    pub ring: u64,
    /// Bytes of session buffer after the ring.
    pub buffer: u64,
    /// Argument string, visible at both ends.
    pub arg: String,
}

impl Channel {
    /// Bytes of the shared region.
    pub fn region(&self) -> u64 {
        self.ring + self.buffer
    }
}

/// A program that the cluster keeps running on one node at a time.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Name in the directory.
    pub name: String,
    /// Index of the server that provides it.
    pub server: u16,
    /// Replicas.
    pub degree: u8,
    /// TCP port; 0 if none.
    pub port: u16,
}

/// What is wrong with a manifest. Indices count from 0 in manifest order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ManifestError {
    /// Not the binary form of a manifest of this version.
    Malformed,
    /// No servers, or more than [`MAX_SERVERS`].
    ServerCount,
    /// Server `0`: what is wrong with it.
    Server(usize, &'static str),
    /// Channel `0`: what is wrong with it.
    Channel(usize, &'static str),
    /// Service `0`: what is wrong with it.
    Service(usize, &'static str),
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ManifestError::Malformed => f.write_str("not a manifest of this version"),
            ManifestError::ServerCount => write!(f, "a manifest has 1 to {MAX_SERVERS} servers"),
            ManifestError::Server(i, what) => write!(f, "server {i}: {what}"),
            ManifestError::Channel(i, what) => write!(f, "channel {i}: {what}"),
            ManifestError::Service(i, what) => write!(f, "service {i}: {what}"),
        }
    }
}

impl Manifest {
    /// Decodes and checks.
    pub fn decode(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        let manifest: Manifest = postcard::from_bytes(bytes).map_err(|_| ManifestError::Malformed)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The binary form.
    pub fn encode(&self) -> Vec<u8> {
        // Encoding plain data into a growing vector has no way to fail.
        postcard::to_allocvec(self).unwrap_or_default()
    }

    /// Checks every rule of the format; the first violation is the error.
    pub fn check(&self) -> Result<(), ManifestError> {
        if self.servers.is_empty() || self.servers.len() > MAX_SERVERS {
            return Err(ManifestError::ServerCount);
        }
        for (i, server) in self.servers.iter().enumerate() {
            check_server(server).map_err(|what| ManifestError::Server(i, what))?;
            if self.servers[..i].iter().any(|other| other.name == server.name) {
                return Err(ManifestError::Server(i, "another server has the same name"));
            }
            if server.device.is_some() && self.servers[..i].iter().any(|other| other.device == server.device) {
                return Err(ManifestError::Server(i, "another server drives the same device"));
            }
            if self.channels_of(i as u16).count() > MAX_CHANNELS_OF_A_SERVER {
                return Err(ManifestError::Server(i, "it has more than 48 channels"));
            }
        }
        for (i, channel) in self.channels.iter().enumerate() {
            self.check_channel(channel).map_err(|what| ManifestError::Channel(i, what))?;
            if self.channels[..i].iter().any(|other| same_pair(channel, other)) {
                return Err(ManifestError::Channel(i, "there is already a channel between these two"));
            }
        }
        for (i, service) in self.services.iter().enumerate() {
            self.check_service(i, service).map_err(|what| ManifestError::Service(i, what))?;
        }
        Ok(())
    }

    /// Index of the server with this name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.servers.iter().position(|s| s.name == name)
    }

    /// Name of an end of a channel.
    pub fn name_of(&self, index: u16) -> &str {
        if index == ROOT_INDEX { ROOT } else { self.servers.get(index as usize).map_or("?", |s| s.name.as_str()) }
    }

    /// Channels in which a server takes part, with their indices.
    pub fn channels_of(&self, server: u16) -> impl Iterator<Item = (usize, &Channel)> {
        self.channels.iter().enumerate().filter(move |(_, c)| c.client == server || c.server == server)
    }

    fn check_channel(&self, channel: &Channel) -> Result<(), &'static str> {
        let count = self.servers.len() as u16;
        if channel.client >= count || (channel.server >= count && channel.server != ROOT_INDEX) {
            return Err("it names a server that does not exist");
        }
        if channel.client == channel.server {
            return Err("it joins a server to itself");
        }
        if channel.server == ROOT_INDEX && channel.region() > 0 {
            return Err("the root task shares no memory");
        }
        check_size(channel.ring, 64 << 20).map_err(|()| "ring: not a multiple of 4096, or too large")?;
        check_size(channel.buffer, 64 << 20).map_err(|()| "buffer: not a multiple of 4096, or too large")?;
        check_text(&channel.arg, ENTRY_ARG_LEN).map_err(|()| "arg: longer than 40 bytes")
    }

    fn check_service(&self, index: usize, service: &Service) -> Result<(), &'static str> {
        check_text(&service.name, NAME_LEN).map_err(|()| "name: longer than 32 bytes")?;
        if service.name.is_empty() || self.services[..index].iter().any(|other| other.name == service.name) {
            return Err("its name is empty or used twice");
        }
        let Some(server) = self.servers.get(service.server as usize) else {
            return Err("it names a server that does not exist");
        };
        if server.start != Start::OnDemand {
            return Err("its server is not started on demand");
        }
        if service.degree == 0 {
            return Err("degree 0: nobody would run it");
        }
        Ok(())
    }
}

fn same_pair(a: &Channel, b: &Channel) -> bool {
    (a.client, a.server) == (b.client, b.server) || (a.client, a.server) == (b.server, b.client)
}

fn check_server(server: &Server) -> Result<(), &'static str> {
    if server.name.is_empty() || server.name == ROOT || server.program.is_empty() {
        return Err("its name or program is empty, or it is called `root`");
    }
    check_text(&server.name, NAME_LEN).map_err(|()| "name: longer than 32 bytes")?;
    check_text(&server.program, NAME_LEN).map_err(|()| "program: longer than 32 bytes")?;
    check_text(&server.args, ARGS_LEN).map_err(|()| "args: longer than 128 bytes")?;
    if !(1..=253).contains(&server.priority) {
        return Err("priority: not in 1..=253");
    }
    check_size(server.heap, smi_env::map::HEAP_MAX).map_err(|()| "heap: not a multiple of 4096, or above 1 GiB")?;
    check_size(server.stack, smi_env::map::STACK_MAX)
        .map_err(|()| "stack: not a multiple of 4096, or above 128 MiB")?;
    check_size(server.dma, 64 << 20).map_err(|()| "dma: not a multiple of 4096, or above 64 MiB")?;
    if server.stack == 0 {
        return Err("stack: 0");
    }
    if !(1..=256).contains(&server.replies) || server.slots > 4096 {
        return Err("replies: not in 1..=256, or slots above 4096");
    }
    if server.budget_us < 20 || server.budget_us > server.period_us || server.period_us > 10_000_000 {
        return Err("budget_us and period_us: 20 <= budget <= period <= 10 s");
    }
    Ok(())
}

fn check_size(bytes: u64, max: u64) -> Result<(), ()> {
    if bytes.is_multiple_of(PAGE) && bytes <= max { Ok(()) } else { Err(()) }
}

fn check_text(text: &str, max: usize) -> Result<(), ()> {
    if text.len() <= max && !text.contains('\0') { Ok(()) } else { Err(()) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn server(name: &str) -> Server {
        Server {
            name: name.into(),
            program: name.into(),
            priority: 100,
            heap: 0x1_0000,
            stack: 0x1_0000,
            replies: 8,
            slots: 64,
            counter: false,
            start: Start::Boot,
            restart: Restart::Always,
            budget_us: 5000,
            period_us: 5000,
            device: None,
            optional: false,
            dma: 0,
            args: String::new(),
        }
    }

    pub(crate) fn channel(client: u16, server: u16) -> Channel {
        Channel { client, server, ring: 0, buffer: 0, arg: String::new() }
    }

    fn sample() -> Manifest {
        let mut db = server("db");
        db.start = Start::OnDemand;
        Manifest {
            servers: [server("timer"), server("console"), db].into(),
            channels: [channel(1, 0), channel(2, 1), channel(2, ROOT_INDEX)].into(),
            services: [Service { name: "db".into(), server: 2, degree: 2, port: 6379 }].into(),
        }
    }

    #[test]
    fn survives_its_binary_form() {
        let manifest = sample();
        let bytes = manifest.encode();
        assert_eq!(Manifest::decode(&bytes).unwrap(), manifest);
        for len in 0..bytes.len() {
            assert!(Manifest::decode(&bytes[..len]).is_err());
        }
    }

    #[test]
    fn each_rule_is_checked() {
        let refuse = |change: &dyn Fn(&mut Manifest)| {
            let mut manifest = sample();
            change(&mut manifest);
            manifest.check().unwrap_err()
        };
        assert_eq!(refuse(&|m| m.servers.clear()), ManifestError::ServerCount);
        let message = |e: ManifestError| alloc::format!("{e}");
        assert!(message(refuse(&|m| m.servers[1].name = "timer".into())).contains("same name"));
        assert!(message(refuse(&|m| m.servers[0].name = "root".into())).contains("root"));
        assert!(message(refuse(&|m| m.servers[0].priority = 254)).contains("priority"));
        assert!(message(refuse(&|m| m.servers[0].heap = 5)).contains("heap"));
        assert!(message(refuse(&|m| m.servers[0].stack = 0)).contains("stack"));
        assert!(message(refuse(&|m| m.servers[0].replies = 0)).contains("replies"));
        assert!(message(refuse(&|m| m.servers[0].budget_us = 6000)).contains("budget"));
        let both = |m: &mut Manifest| {
            m.servers[0].device = Some(Device::Pl011);
            m.servers[1].device = Some(Device::Pl011);
        };
        assert!(message(refuse(&both)).contains("same device"));
        assert!(message(refuse(&|m| m.channels[0].server = 9)).contains("does not exist"));
        assert!(message(refuse(&|m| m.channels[0].server = 1)).contains("itself"));
        assert!(message(refuse(&|m| m.channels[2].ring = 4096)).contains("root task"));
        assert!(message(refuse(&|m| m.channels[0].ring = 100)).contains("ring"));
        assert!(message(refuse(&|m| m.channels.push(channel(0, 1)))).contains("already a channel"));
        assert!(message(refuse(&|m| m.services[0].server = 0)).contains("on demand"));
        assert!(message(refuse(&|m| m.services[0].degree = 0)).contains("degree"));
    }

    #[test]
    fn devices_have_names() {
        for device in [Device::VirtioNet(1), Device::VirtioBlk(0), Device::Pl011, Device::PhysTimer] {
            assert_eq!(Device::parse(&alloc::format!("{device}")), Some(device));
        }
        assert_eq!(Device::parse("virtio-net"), None);
        assert_eq!(Device::parse("virtio-net#x"), None);
        assert_eq!(Device::parse("gpu#0"), None);
    }
}
