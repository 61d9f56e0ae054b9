//! virtio over MMIO (virtio 1.2, sections 2.7 and 4.2): register block, split virtqueues, DMA memory.
//!
//! What always holds:
//! * a [`Buffer`] is either with the driver, who may touch its bytes, or in a [`Queue`], when the device may: its type
//!   cannot be copied, and [`Queue::add`] takes it away until [`Queue::pop`] gives it back;
//! * the device is not trusted: ids and lengths that it reports are checked, and nonsense is an error, not a panic;
//! * nothing allocates or waits, except [`Device::open`], which waits for the device's reset.
//!
//! Features left out on purpose: indirect descriptors and event indices (notifications are suppressed by flags), legacy
//! devices. `unsafe` is confined to `memory` and `mmio`; [`fake`] is a device in software for host tests.
#![cfg_attr(not(test), no_std)]

#[cfg(any(test, feature = "fake"))]
extern crate std;

mod device;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod memory;
mod mmio;
mod queue;

pub use device::{Device, DeviceError, Kind};
pub use memory::{Buffer, DmaMemory};
pub use mmio::{Mmio, Registers};
pub use queue::{Access, AddError, Queue, QueueError, Used};
