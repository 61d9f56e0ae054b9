//! From power-up to the running shell: who this node is, and what it has.

use super::disk::Disk;
use super::ports::PortRings;
use super::supervise::Supervisor;
use super::{Shell, channel, refuse_all};
use alloc::vec::Vec;
use block::{BLOCK_SIZE, BlockClient, Event as BlockEvent, Token};
use core::ptr::NonNull;
use ipc_api::{console, supervisor, timer};
use ipc_ring::{Duplex, Side};
use ipc_wire::Str;
use net::NetClient;
use smi_cluster::NodeId;
use smi_cluster::identity::Identity;
use smi_core::config::Timing;
use smi_core::table::Name;
use smi_manager::boot::{self, Unfit};
use smi_manager::services::Service;
use smi_manager::{Config, Manager};
use smi_rt::serve::Loop;
use smi_rt::session::RegionSession;
use smi_rt::sys::debug;
use smi_rt::transport::{ChannelExt, ChannelTransport};
use smi_rt::{CPtr, Channel, Env, time};

/// The block driver's client as the manager uses it.
type Client = BlockClient<'static, RegionSession>;

/// Why the node stays outside, and which node it is, as far as its disk says.
pub(super) struct Outside {
    node: Option<NodeId>,
    card: [u8; 6],
    unfit: Unfit,
}

/// Attaches to the ring of a channel. Once for each channel.
pub(super) fn ring(channel: &Channel, side: Side) -> Duplex<'static> {
    let Some((region, base)) = channel.ring.and_then(|r| Some((r, NonNull::new(r.ptr)?))) else {
        panic!("the channel with '{}' has no ring", channel.peer)
    };
    // SAFETY: the root task maps this region for the process's life and shares it with the channel's other end only; each channel is
    // attached to once (its callers are `start` and `PortRings::new`, which run once).
    match unsafe { Duplex::attach(base, region.len, side) } {
        Ok(ring) => ring,
        Err(_) => panic!("the ring with '{}' is too small", channel.peer),
    }
}

/// Reads the disk, decides whether this node joins, and builds the shell.
pub(super) fn start(env: &'static Env) -> Result<Shell, Outside> {
    let net_channel = channel(env, "net-int");
    let card = ipc_api::net::Client::new(net_channel.transport()).mac();
    let Ok(card) = card else { panic!("the internal network card does not answer") };
    let block_channel = channel(env, "block");
    let mut client = BlockClient::new(ring(&block_channel, Side::Client), RegionSession::of(&block_channel));
    let outside = |node, unfit| Outside { node, card, unfit };

    let geometry = ipc_api::block::Client::new(block_channel.transport()).geometry();
    let disk_blocks = geometry.map_err(|_| outside(None, Unfit::Disk))?.disk_blocks;
    let mut blocks = Reader { client: &mut client, channel: &block_channel, notification: env.notification() };
    blocks.ready();
    let head = blocks.read(0, 3).ok_or(outside(None, Unfit::Disk))?;
    let (first, boots) = head.split_at(BLOCK_SIZE);
    let named = Identity::decode(first, u64::MAX).ok().map(|id| id.node);
    let identity = boot::identify(first, disk_blocks, card).map_err(|unfit| outside(named, unfit))?;
    let (one, two) = boots.split_at(BLOCK_SIZE);
    let number = boot::last_boot([one, two], identity.format) + 1;
    let (at, record) = boot::record(number, identity.format);
    blocks.write(at, &record).ok_or(outside(named, Unfit::Disk))?;

    let mut supervisor = Supervisor::new(env);
    let (ports, configs) = PortRings::new(env);
    let now = time::now_ns();
    let node = identity.node.0.to_le_bytes();
    let seed = smi_link::seed(&identity.key, &[&node, &number.to_le_bytes(), &now.to_le_bytes(), &card]);
    let manager = Manager::new(Config {
        identity: &identity,
        boot: number,
        external: has_external(supervisor.client()),
        timing: timing(env.args()),
        services: services(supervisor.client()),
        ports: &configs,
        seed,
    });
    let Some(manager) = manager else { panic!("the manager's arguments make no sense: '{}'", env.args()) };
    defmt::info!("node-start node={=u16} boot={=u64}", identity.node.0, number);
    Ok(Shell {
        manager,
        net: NetClient::new(ring(&net_channel, Side::Client)),
        net_channel,
        disk: Disk::new(client, block_channel),
        ports,
        timer: timer::Client::new(channel(env, "timer").transport()),
        armed_ns: None,
        supervisor,
        actions: Vec::new(),
    })
}

/// Tells the console why this node does not join, in plain text (it must be readable without any tool), and then keeps quiet.
pub(super) fn stay_outside(env: &Env, outside: &Outside, events: &mut Loop) -> ! {
    let node = outside.node.map_or(0, |node| node.0);
    let [a, b, c, d, e, f] = outside.card;
    let line = Str::<256>::format(format_args!(
        "disk-refused node={node} card={a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} reason={}: {}",
        outside.unfit.word(),
        outside.unfit
    ));
    let console = env.channel("console").map(|channel| console::Client::new(channel.transport()));
    if !console.is_ok_and(|mut console| console.write(&line).is_ok()) {
        line.bytes().chain(*b"\n").for_each(debug::put_char);
    }
    refuse_all(events)
}

/// Block I/O before there is a manager: one request at a time.
struct Reader<'a> {
    client: &'a mut Client,
    channel: &'a Channel,
    notification: CPtr,
}

impl Reader<'_> {
    /// Waits for an event of the driver.
    fn wait(&mut self) -> BlockEvent {
        loop {
            if let Some(event) = self.client.poll() {
                return event;
            }
            if self.client.wants_signal() {
                smi_rt::notify(self.channel);
            }
            // Calls wait in the kernel's queue until there is a manager to answer them.
            smi_rt::sys::wait(self.notification);
        }
    }

    /// Waits until the driver takes requests.
    fn ready(&mut self) {
        while !matches!(self.wait(), BlockEvent::Ready(_)) {}
    }

    fn done(&mut self, token: Token) -> bool {
        loop {
            if let BlockEvent::Done(done, result) = self.wait()
                && done == token
            {
                return result.is_ok();
            }
        }
    }

    fn read(&mut self, block: u64, count: u32) -> Option<Vec<u8>> {
        let token = self.client.read(block, count).ok()?;
        let mut bytes = alloc::vec![0; count as usize * BLOCK_SIZE];
        (self.done(token) && self.client.take(token, &mut bytes)).then_some(bytes)
    }

    /// Writes a block and makes it durable.
    fn write(&mut self, block: u64, bytes: &[u8]) -> Option<()> {
        let token = self.client.write(block, bytes).ok()?;
        let written = self.done(token);
        let token = self.client.flush().ok()?;
        (written && self.done(token)).then_some(())
    }
}

/// Whether the machine has a card on the external segment.
fn has_external(supervisor: &mut supervisor::Client<ChannelTransport>) -> bool {
    supervisor.status("net-ext").is_ok_and(|status| status.state != supervisor::State::Absent)
}

/// The cluster's services, as the manifest names them.
fn services(supervisor: &mut supervisor::Client<ChannelTransport>) -> Vec<Service> {
    let listed = (0..).map_while(|index| supervisor.service(index).ok());
    listed
        .filter_map(|s| {
            let (name, program) = (Name::new(&s.name).ok()?, Name::new(&s.server).ok()?);
            Some(Service { name, program, degree: s.degree, port: s.port })
        })
        .collect()
}

/// Periods of the directory, from the manifest: `timing=board` or, without, those for emulated nodes.
fn timing(args: &str) -> Timing {
    if args.split_whitespace().any(|a| a == "timing=board") { Timing::BOARD } else { Timing::QEMU }
}
