//! Clusters of nodes on this host: machines, disks, the two segments, and where a run keeps its files.

use crate::log::{Log, Symbols};
use crate::machine::{Machine, Nic, Spec, State};
use crate::netns;
use crate::switch::{Port, Rules, Switch};
use anyhow::{Context, Result, bail};
use smi_cluster::identity::{External, Identity, Member};
use smi_cluster::{MAX_NODES, NodeId, layout};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The service address of development clusters, on the external segment.
pub const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 100);
/// The port of the demonstration's database.
pub const SERVICE_PORT: u16 = 6379;
/// The virtual MAC that answers for the service address (the VRRP range, id 0x4d).
pub const VIRTUAL_MAC: [u8; 6] = [0x00, 0x00, 0x5e, 0x00, 0x01, 0x4d];
/// Blocks of a node's disk by default: 64 MiB, of which only what is written takes space on the host.
pub const DISK_BLOCKS: u64 = 16 * 1024;

/// The database's address.
pub fn service() -> SocketAddr {
    (SERVICE, SERVICE_PORT).into()
}

/// MAC address of a node's NIC on the internal segment.
pub fn internal_mac(node: u16) -> [u8; 6] {
    let [high, low] = node.to_be_bytes();
    [0x52, 0x53, 0x4d, 0x00, high, low]
}

/// MAC address of a node's NIC on the external segment.
pub fn external_mac(node: u16) -> [u8; 6] {
    let [high, low] = node.to_be_bytes();
    [0x52, 0x53, 0x4d, 0x01, high, low]
}

/// What all nodes boot.
#[derive(Clone)]
pub struct Image {
    /// The kernel image.
    pub kernel: PathBuf,
    /// The root task with the boot archive inside.
    pub root_task: PathBuf,
    /// The servers' log symbols.
    pub symbols: Arc<Symbols>,
}

/// Who belongs to a cluster and what they share.
#[derive(Clone)]
pub struct Membership {
    /// Number of nodes; their ids are 1 to this.
    pub nodes: u16,
    /// The cluster's id.
    pub cluster: [u8; 16],
    /// The cluster's key.
    pub key: [u8; 32],
}

impl Membership {
    /// A new cluster with an id and a key from the host's random numbers.
    pub fn new(nodes: u16) -> Result<Membership> {
        if nodes == 0 || nodes as usize > MAX_NODES {
            bail!("a cluster has 1 to {MAX_NODES} nodes, not {nodes}");
        }
        Ok(Membership { nodes, cluster: random()?, key: random()? })
    }

    /// The identity for a newly formatted disk of one node, of this size.
    pub fn identity(&self, node: u16, disk_blocks: u64) -> Result<Identity> {
        let members: Vec<Member> =
            (1..=self.nodes).map(|n| Member { node: NodeId(n), internal_mac: internal_mac(n) }).collect();
        let external = External {
            service: SERVICE.octets(),
            prefix: netns::HOST_PREFIX,
            gateway: [0; 4],
            virtual_mac: VIRTUAL_MAC,
        };
        Identity::new(
            self.cluster,
            NodeId(node),
            disk_blocks,
            u64::from_le_bytes(random()?),
            self.key,
            external,
            &members,
        )
        .map_err(|error| anyhow::anyhow!("node {node}: {error}"))
    }
}

/// Random bytes from the host.
fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).context("/dev/urandom")?;
    Ok(bytes)
}

/// Creates a node's disk: a sparse file with the identity block; all else is blank, which the servers take for new.
pub fn format_disk(path: &Path, identity: &Identity) -> Result<()> {
    let mut file = File::create(path).with_context(|| path.display().to_string())?;
    file.write_all(&identity.encode())?;
    file.set_len(identity.disk_blocks * layout::BLOCK_SIZE as u64)?;
    Ok(())
}

/// Replaces the identity block of a disk and nothing else.
pub fn write_identity(path: &Path, identity: &Identity) -> Result<()> {
    let mut disk = OpenOptions::new().write(true).open(path).with_context(|| path.display().to_string())?;
    Ok(disk.write_all(&identity.encode())?)
}

/// A cluster on this host. Dropping it kills its machines and stops its switches.
pub struct Cluster {
    machines: BTreeMap<u16, Machine>,
    /// Node to node.
    pub internal: Switch,
    /// Nodes and clients; port 0 is the host.
    pub external: Switch,
    /// What the nodes say.
    pub log: Log,
    /// Who belongs to it.
    pub membership: Membership,
    directory: PathBuf,
    sockets: PathBuf,
}

impl Cluster {
    /// Makes a cluster whose machines are off: switches, the host's TAP, and a disk for every node that has none in
    /// `directory`. Serial captures go there, too. Only inside a network namespace of our own.
    pub fn new(image: &Image, membership: Membership, directory: &Path, seed: u64) -> Result<Cluster> {
        std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        // Paths of unix sockets are short (108 bytes); the workspace's may not be.
        let sockets = std::env::temp_dir().join(format!("smi-{}", std::process::id()));
        std::fs::create_dir_all(&sockets).with_context(|| sockets.display().to_string())?;
        let nodes: Vec<Port> = (1..=membership.nodes).collect();
        let internal = Switch::start("int", &sockets, &nodes, None, seed)?;
        let external = Switch::start("ext", &sockets, &nodes, Some(netns::host_tap()?), seed ^ 1)?;
        let log = Log::default();
        let mut machines = BTreeMap::new();
        for node in nodes {
            let disk = directory.join(format!("node{node}.disk"));
            if !disk.exists() {
                format_disk(&disk, &membership.identity(node, DISK_BLOCKS)?)?;
            }
            let mut spec = Spec::new(image.kernel.clone(), image.root_task.clone());
            spec.disk = Some(disk);
            for (switch, mac) in [(&internal, internal_mac(node)), (&external, external_mac(node))] {
                let socket = switch.socket(node).context("the switch has no such port")?.to_owned();
                spec.nics.push(Nic { socket, mac });
            }
            let capture = directory.join(format!("node{node}.serial"));
            let _ = std::fs::remove_file(&capture);
            machines.insert(node, Machine::new(node, spec, &capture, image.symbols.clone(), log.clone()));
        }
        Ok(Cluster { machines, internal, external, log, membership, directory: directory.to_owned(), sockets })
    }

    /// Switches every node on.
    pub fn start(&mut self) -> Result<()> {
        self.machines.values_mut().try_for_each(Machine::start)
    }

    /// A node's machine.
    pub fn machine(&mut self, node: u16) -> Result<&mut Machine> {
        let known = self.machines.len();
        self.machines.get_mut(&node).with_context(|| format!("there is no node {node}; nodes are 1 to {known}"))
    }

    /// The nodes and their machines' states.
    pub fn states(&mut self) -> Vec<(u16, State)> {
        self.machines.iter_mut().map(|(node, machine)| (*node, machine.state())).collect()
    }

    /// A node's disk image.
    pub fn disk(&self, node: u16) -> PathBuf {
        self.directory.join(format!("node{node}.disk"))
    }

    /// Where the run keeps its files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Captures both segments into `internal.pcap` and `external.pcap`.
    pub fn capture(&self, directory: &Path) -> Result<()> {
        std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        self.internal.capture(&directory.join("internal.pcap"))?;
        self.external.capture(&directory.join("external.pcap"))
    }

    /// Changes the faults of both segments.
    pub fn rules(&self, change: impl Fn(&mut Rules)) {
        self.internal.rules(&change);
        self.external.rules(&change);
    }

    /// Waits until the service answers a client of the host, at most for `limit`; fails at once if a node that is on now and
    /// is not one of those that may fail panics or powers itself off. Says how long it took.
    pub fn wait_for_service(&mut self, may_fail: &[u16], limit: Duration) -> Result<Duration> {
        let (start, mark) = (Instant::now(), self.log.mark());
        let mut expected = self.states();
        expected.retain(|(node, state)| *state == State::On && !may_fail.contains(node));
        loop {
            if answers(Duration::from_millis(250)) {
                return Ok(start.elapsed());
            }
            for (node, _) in &expected {
                if self.machine(*node)?.state() == State::Off {
                    bail!(
                        "node {node} has powered itself off; its console is in {}",
                        self.machine(*node)?.capture().display()
                    );
                }
            }
            let panicked = self.log.since(mark, |line| line.text.contains("panic") && !may_fail.contains(&line.node));
            if let Some(line) = panicked.first() {
                bail!("node {}: {}", line.node, line.text);
            }
            if start.elapsed() > limit {
                bail!("the service at {} did not answer within {:.0} s", service(), limit.as_secs_f64());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Whether the service answers a `PING` now.
pub fn answers(limit: Duration) -> bool {
    use crate::resp::{Client, Value};
    Client::connect(service(), limit)
        .and_then(|mut client| client.call(&[b"PING"], limit))
        .is_ok_and(|reply| reply == Value::Simple("PONG".into()))
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Machines first, so that their last words find their sockets.
        self.machines.clear();
        let _ = std::fs::remove_dir_all(&self.sockets);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_formatted_disk_is_sparse_and_carries_the_identity() {
        let path = std::env::temp_dir().join(format!("smi-disk-test-{}", std::process::id()));
        let identity = Membership::new(3).unwrap().identity(2, DISK_BLOCKS).unwrap();
        format_disk(&path, &identity).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let on_host = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(&path).unwrap()) * 512;
        std::fs::remove_file(&path).unwrap();
        assert_eq!(bytes.len() as u64, DISK_BLOCKS * 4096);
        assert_eq!(Identity::decode(&bytes[..4096], DISK_BLOCKS), Ok(identity));
        assert!(on_host < 1 << 20, "{on_host} bytes on the host");
    }

    #[test]
    fn a_cluster_has_a_bounded_number_of_nodes() {
        assert!(Membership::new(0).is_err());
        assert!(Membership::new(MAX_NODES as u16 + 1).is_err());
        assert_ne!(Membership::new(1).unwrap().key, Membership::new(1).unwrap().key);
    }
}
