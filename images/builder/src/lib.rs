//! Builds boot images and node disks from TOML.
//!
//! * [`source`]: the system manifest as people write it, with file and line for every mistake;
//! * [`archive`]: manifest and programs packed into what the root task embeds;
//! * [`kernel_image`]: the board's part of the kernel's image header.
//!
//! A manifest (`images/node.toml` is the full node) has `[[server]]`, `[[channel]]` and `[[service]]` tables:
//!
//! ```toml
//! [[server]]
//! name = "block"
//! program = "block"        # ELF file; default: the name
//! priority = 200           # 1..=253
//! heap = "256K"            # default 64K; from 2M on in large pages
//! stack = "64K"            # default 64K
//! replies = 16             # calls that can be unanswered at once; default 16
//! slots = 128              # free capability slots; default 128
//! counter = true           # may read the clock; default true
//! device = "virtio-blk#0"  # registers and interrupt; also virtio-net#n, pl011, phys-timer
//! optional = true          # without its device the server is left out either way; true: that is no fault of the node
//! dma = "1M"               # physically contiguous memory
//! start = "boot"           # or "on-demand": by the supervisor
//! restart = "always"       # or "never"
//! budget_us = 5000         # processor time per period; equal to the period: round robin
//! period_us = 5000
//! args = ""
//!
//! [[channel]]
//! client = "file"          # or a list, or "*": every other server
//! server = "block"         # or "root": the supervisor
//! ring = "132K"            # shared memory for rings, both directions
//! buffer = "256K"          # IDL session buffer
//! arg = "store"            # seen by both ends
//!
//! [[service]]              # a program that the cluster keeps running on one node
//! name = "db"
//! server = "db"            # started on demand
//! degree = 2
//! port = 6379
//! ```

#![forbid(unsafe_code)]

pub mod archive;
pub mod diagnostic;
pub mod kernel_image;
pub mod source;

pub use archive::{build_archive, programs};
pub use diagnostic::{BuildError, Diagnostic};
