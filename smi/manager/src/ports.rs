//! The ports of local servers: what waits to go into their rings, and what they have sent and cannot go on yet.
//!
//! A port is a channel with a ring (crate `smi-port` has the records). The shell moves the bytes: it takes records with
//! [`Ports::next_record`] and [`Ports::record_taken`] as long as the ring has room, and pops a server's records only while
//! [`Ports::may_send`]. So a server that does not read stops what is sent *to it* (the link's credit runs out), and one
//! whose peer is slow stops itself; nobody else. Directory updates for a server that does not read are dropped beyond a bound and replaced by a fresh snapshot later.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use smi_cluster::{Lane, NodeId, PortId};
use smi_link::Receipt;
use smi_port::ToServer;

/// Bytes that may wait for a server before directory updates are held back.
const QUEUE_MAX: usize = 2 << 20;
/// Bytes of table in one snapshot record.
const SNAPSHOT_PIECE: usize = 32 << 10;

/// A port's index in the manager's list.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PortIndex(pub usize);

/// A port as the configuration names it.
#[derive(Clone, Debug)]
pub struct PortConfig {
    /// The server's name.
    pub name: String,
    /// Its link address; the same on all nodes.
    pub id: PortId,
    /// Badge of the server's calls to the manager.
    pub badge: u64,
}

/// A record that waits for room in a server's ring.
struct Waiting {
    bytes: Vec<u8>,
    /// Goes back to the link when the server has the record.
    receipt: Option<Receipt>,
}

/// A message that a server sent to a peer whose stream is full.
pub struct Blocked {
    /// To whom.
    pub to: NodeId,
    /// On which lane.
    pub lane: Lane,
    /// The message.
    pub bytes: Vec<u8>,
}

struct Port {
    config: PortConfig,
    attached: bool,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// Number of the last directory operation that was queued, alone or in a snapshot.
    told: u64,
    /// Directory updates were dropped; a snapshot follows when the queue is empty.
    stale: bool,
    blocked: Option<Blocked>,
}

/// All ports of the node.
pub struct Ports {
    ports: Vec<Port>,
}

impl Ports {
    /// Ports to which nobody is attached yet.
    pub fn new(configs: &[PortConfig]) -> Ports {
        let port = |config: &PortConfig| Port {
            config: config.clone(),
            attached: false,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            told: 0,
            stale: false,
            blocked: None,
        };
        Ports { ports: configs.iter().map(port).collect() }
    }

    /// The port with this link address.
    pub fn by_id(&self, id: PortId) -> Option<PortIndex> {
        self.ports.iter().position(|p| p.config.id == id).map(PortIndex)
    }

    /// The port of the server whose calls carry this badge.
    pub fn by_badge(&self, badge: u64) -> Option<PortIndex> {
        self.ports.iter().position(|p| p.config.badge == badge).map(PortIndex)
    }

    /// All indices.
    pub fn indices(&self) -> impl Iterator<Item = PortIndex> + use<> {
        (0..self.ports.len()).map(PortIndex)
    }

    /// A port's link address.
    pub fn id(&self, port: PortIndex) -> Option<PortId> {
        self.ports.get(port.0).map(|p| p.config.id)
    }

    /// A port's server.
    pub fn name(&self, port: PortIndex) -> &str {
        self.ports.get(port.0).map_or("", |p| &p.config.name)
    }

    /// Whether a server is there.
    pub fn is_attached(&self, port: PortIndex) -> bool {
        self.ports.get(port.0).is_some_and(|p| p.attached)
    }

    /// A server has attached (again): what waited for its predecessor is dropped. Returns the receipts of dropped messages.
    pub fn attach(&mut self, port: PortIndex) -> Vec<Receipt> {
        let Some(p) = self.ports.get_mut(port.0) else { return Vec::new() };
        p.attached = true;
        p.stale = false;
        p.blocked = None;
        p.waiting_bytes = 0;
        p.waiting.drain(..).filter_map(|w| w.receipt).collect()
    }

    /// Queues a record. Gives the receipt back at once if nobody is attached (the record is dropped).
    pub fn push(&mut self, port: PortIndex, record: &ToServer<'_>, receipt: Option<Receipt>) -> Option<Receipt> {
        match self.ports.get_mut(port.0).filter(|p| p.attached) {
            Some(p) => {
                p.enqueue(record, receipt);
                None
            }
            None => receipt,
        }
    }

    /// Queues a record for every server.
    pub fn push_all(&mut self, record: &ToServer<'_>) {
        for p in self.ports.iter_mut().filter(|p| p.attached) {
            p.enqueue(record, None);
        }
    }

    /// Queues a committed operation for every server that has not got it with a snapshot.
    pub fn committed(&mut self, op_number: u64, op: &[u8]) {
        for p in self.ports.iter_mut().filter(|p| p.attached && !p.stale && op_number > p.told) {
            if p.waiting_bytes > QUEUE_MAX || op_number != p.told + 1 {
                p.stale = true;
            } else {
                p.told = op_number;
                p.enqueue(&ToServer::Committed { op_number, bytes: op }, None);
            }
        }
    }

    /// Queues the whole table for one server.
    pub fn snapshot(&mut self, port: PortIndex, op_number: u64, table: &[u8]) {
        if let Some(p) = self.ports.get_mut(port.0).filter(|p| p.attached) {
            p.stale = false;
            p.told = op_number;
            p.enqueue_snapshot(op_number, table);
        }
    }

    /// Ports that need a snapshot now: updates were dropped, and all else has been read.
    pub fn stale(&self) -> Vec<PortIndex> {
        let ports = self.ports.iter().enumerate();
        ports.filter(|(_, p)| p.stale && p.waiting.is_empty()).map(|(i, _)| PortIndex(i)).collect()
    }

    /// The next record for a server's ring.
    pub fn next_record(&self, port: PortIndex) -> Option<&[u8]> {
        self.ports.get(port.0)?.waiting.front().map(|w| &w.bytes[..])
    }

    /// The record from [`Ports::next_record`] is in the ring (or can never be put there): it is forgotten.
    pub fn record_taken(&mut self, port: PortIndex) -> Option<Receipt> {
        let p = self.ports.get_mut(port.0)?;
        let taken = p.waiting.pop_front()?;
        p.waiting_bytes -= taken.bytes.len();
        taken.receipt
    }

    /// Whether the next record of a server can be dealt with; if not, it stays in the ring.
    pub fn may_send(&self, port: PortIndex) -> bool {
        self.ports.get(port.0).is_some_and(|p| p.blocked.is_none())
    }

    /// Keeps a message that its stream has no room for; the server's further records wait behind it.
    pub fn block(&mut self, port: PortIndex, blocked: Blocked) {
        if let Some(p) = self.ports.get_mut(port.0) {
            p.blocked = Some(blocked);
        }
    }

    /// Takes the kept message of a port for another try.
    pub fn take_blocked(&mut self, port: PortIndex) -> Option<Blocked> {
        self.ports.get_mut(port.0)?.blocked.take()
    }
}

impl Port {
    fn enqueue(&mut self, record: &ToServer<'_>, receipt: Option<Receipt>) {
        let bytes = record.encode().parts().concat();
        self.waiting_bytes += bytes.len();
        self.waiting.push_back(Waiting { bytes, receipt });
    }

    fn enqueue_snapshot(&mut self, op_number: u64, table: &[u8]) {
        let mut pieces = table.chunks(SNAPSHOT_PIECE).peekable();
        while let Some(bytes) = pieces.next() {
            let more = pieces.peek().is_some();
            self.enqueue(&ToServer::Snapshot { op_number, more, bytes }, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: PortIndex = PortIndex(0);

    fn ports() -> Ports {
        Ports::new(&[PortConfig { name: "file".into(), id: PortId::FILE, badge: 4 }])
    }

    fn drain(ports: &mut Ports) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        while let Some(bytes) = ports.next_record(PORT) {
            out.push(bytes.to_vec());
            ports.record_taken(PORT);
        }
        out
    }

    #[test]
    fn records_wait_in_order_for_an_attached_server_only() {
        let mut ports = ports();
        ports.push_all(&ToServer::Fenced { fenced: true });
        assert_eq!(ports.next_record(PORT), None);
        ports.attach(PORT);
        ports.push(PORT, &ToServer::Hello { node: NodeId(1), incarnation: 2 }, None);
        ports.snapshot(PORT, 6, b"table");
        ports.committed(6, b"in the snapshot");
        ports.committed(7, b"op");
        let records = drain(&mut ports);
        assert_eq!(ToServer::decode(&records[0]), Ok(ToServer::Hello { node: NodeId(1), incarnation: 2 }));
        assert_eq!(records.len(), 3);
        assert_eq!(ToServer::decode(&records[2]), Ok(ToServer::Committed { op_number: 7, bytes: b"op" }));
        assert_eq!((ports.by_id(PortId::FILE), ports.by_badge(4), ports.by_badge(5)), (Some(PORT), Some(PORT), None));
    }

    #[test]
    fn a_snapshot_comes_in_pieces() {
        let mut ports = ports();
        ports.attach(PORT);
        let table = vec![9; SNAPSHOT_PIECE * 2 + 5];
        ports.snapshot(PORT, 3, &table);
        let records = drain(&mut ports);
        let mut back = Vec::new();
        for (i, record) in records.iter().enumerate() {
            let Ok(ToServer::Snapshot { op_number: 3, more, bytes }) = ToServer::decode(record) else { panic!() };
            assert_eq!(more, i != 2);
            back.extend_from_slice(bytes);
        }
        assert_eq!(back, table);
    }

    #[test]
    fn a_server_that_does_not_read_gets_a_snapshot_instead_of_endless_updates() {
        let mut ports = ports();
        ports.attach(PORT);
        for n in 1..100_000 {
            ports.committed(n, &[0; 200]);
        }
        assert!(ports.ports[0].waiting_bytes <= QUEUE_MAX + 300);
        assert_eq!(ports.stale(), []);
        drain(&mut ports);
        assert_eq!(ports.stale(), [PORT]);
        ports.snapshot(PORT, 100_000, b"table");
        ports.committed(100_001, b"op");
        assert_eq!((drain(&mut ports).len(), ports.stale().len()), (2, 0));
    }

    #[test]
    fn a_blocked_message_holds_its_server_back() {
        let mut ports = ports();
        ports.attach(PORT);
        assert!(ports.may_send(PORT) && !ports.may_send(PortIndex(1)));
        ports.block(PORT, Blocked { to: NodeId(2), lane: Lane::Log, bytes: vec![1] });
        assert!(!ports.may_send(PORT));
        assert_eq!(ports.take_blocked(PORT).unwrap().bytes, [1]);
        assert!(ports.may_send(PORT));
        ports.block(PORT, Blocked { to: NodeId(2), lane: Lane::Log, bytes: vec![1] });
        ports.attach(PORT);
        assert!(ports.may_send(PORT), "a new server starts afresh");
    }
}
