//! What goes into a `Node` (one member's core: `step(now, event) -> actions`) and what comes out of it.

use crate::table::{Op, OpError, Outcome, Proposed};
use alloc::vec::Vec;
use smi_cluster::NodeId;

/// An input. Bytes from outside are claims: whatever is malformed is dropped and counted.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Time has passed. Due at the node's next deadline; earlier or later does no harm.
    Tick,
    /// A message from another node, as authenticated by the link.
    Message {
        /// The sender.
        from: NodeId,
        /// Its message.
        bytes: &'a [u8],
    },
    /// A local user proposes an operation. Answered by exactly one [`Action::Proposed`].
    Propose {
        /// Comes back in the answer.
        token: u64,
        /// The operation.
        op: &'a Op,
        /// When to give up, on the clock of `step`, ns.
        deadline: u64,
    },
    /// The blocks of [`Action::Read`].
    ReadBack {
        /// Token of the read.
        token: u64,
        /// As many bytes as were asked for; `None` if the disk could not read them.
        data: Option<&'a [u8]>,
    },
    /// The disk has taken a write. It is durable only after a later flush.
    Written {
        /// Token of the write.
        token: u64,
    },
    /// Every write that was taken before the flush is durable.
    Flushed {
        /// Token of the flush.
        token: u64,
    },
    /// A write or flush failed. The node stops voting until it is started again.
    IoFailed {
        /// Token of the write or flush.
        token: u64,
    },
}

/// An output. Block numbers count from the start of the directory zone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Send a message (at most 8 KiB) on the control lane. May be lost, repeated or reordered.
    Send {
        /// To whom.
        to: NodeId,
        /// The message.
        bytes: Vec<u8>,
    },
    /// Read blocks; answered by [`Event::ReadBack`]. Only after a start.
    Read {
        /// Comes back in the answer.
        token: u64,
        /// First block.
        block: u32,
        /// How many.
        count: u32,
    },
    /// Write one block of [`smi_cluster::layout::BLOCK_SIZE`] bytes; answered by [`Event::Written`].
    Write {
        /// Comes back in the answer.
        token: u64,
        /// The block.
        block: u32,
        /// Its new content.
        bytes: Vec<u8>,
    },
    /// Make all writes that were answered durable; answered by [`Event::Flushed`].
    Flush {
        /// Comes back in the answer.
        token: u64,
    },
    /// The table has advanced by one committed operation.
    Applied {
        /// The table's operation number now.
        op_number: u64,
        /// The operation; followers apply exactly this to their copies.
        op: Op,
        /// What it did here, and does on every copy.
        result: Result<Outcome, OpError>,
    },
    /// The table was replaced as a whole (after a start, or to catch up): followers need a new copy of the node's table. Comes after
    /// every [`Action::Applied`] of the same step; those operations are in the copy already.
    Installed,
    /// The answer to [`Event::Propose`].
    Proposed {
        /// The proposal's token.
        token: u64,
        /// What became of it.
        result: Proposed,
    },
    /// Whether this node is fenced has changed: a fenced node must not speak for any group.
    Fenced(bool),
    /// The directory's primary, as far as this node knows, has changed.
    Primary(Option<NodeId>),
}
