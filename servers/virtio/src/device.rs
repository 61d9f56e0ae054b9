//! The register block of a virtio-mmio device (virtio 1.2, section 4.2.2) and its initialisation (section 3.1.1).

use core::fmt;

use crate::mmio::Mmio;
use crate::queue::Queue;

const MAGIC: usize = 0x000;
const VERSION: usize = 0x004;
const DEVICE_ID: usize = 0x008;
const DEVICE_FEATURES: usize = 0x010;
const DEVICE_FEATURES_SEL: usize = 0x014;
const DRIVER_FEATURES: usize = 0x020;
const DRIVER_FEATURES_SEL: usize = 0x024;
const QUEUE_SEL: usize = 0x030;
const QUEUE_NUM_MAX: usize = 0x034;
const QUEUE_NUM: usize = 0x038;
const QUEUE_READY: usize = 0x044;
const QUEUE_NOTIFY: usize = 0x050;
const INTERRUPT_STATUS: usize = 0x060;
const INTERRUPT_ACK: usize = 0x064;
const STATUS: usize = 0x070;
/// Low words of the three addresses of a queue; the high words follow each.
const QUEUE_ADDRESSES: [usize; 3] = [0x080, 0x090, 0x0a0];
const CONFIG_GENERATION: usize = 0x0fc;
const CONFIG: usize = 0x100;

const ACKNOWLEDGE: u32 = 1;
const DRIVER: u32 = 2;
const DRIVER_OK: u32 = 4;
const FEATURES_OK: u32 = 8;

/// Feature bit: not a legacy device.
const VERSION_1: u64 = 1 << 32;
/// Most reads of the status register until a reset must be over.
const RESET_READS: u32 = 1_000_000;
/// Most attempts to read a configuration that keeps changing.
const CONFIG_READS: u32 = 100;

/// Kinds of devices, by their id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// Network card.
    Net = 1,
    /// Disk.
    Block = 2,
}

/// The device cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceError {
    /// No virtio-mmio register block: the magic value read.
    NotVirtio(u32),
    /// A legacy device: the version read (QEMU needs `-global virtio-mmio.force-legacy=false`).
    Legacy(u32),
    /// Another kind of device: the id read; 0 means that the slot is empty.
    WrongKind(u32),
    /// The reset does not end.
    ResetHangs,
    /// The device insists on features that this driver does not offer.
    Features,
    /// The device has no such queue, or only a shorter one: the size it offers.
    QueueSize(u32),
    /// The configuration changes faster than it can be read.
    Configuration,
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotVirtio(magic) => write!(f, "no virtio-mmio device here (magic {magic:#x})"),
            Self::Legacy(version) => write!(f, "legacy virtio device (version {version}): force-legacy must be off"),
            Self::WrongKind(0) => f.write_str("empty virtio slot"),
            Self::WrongKind(id) => write!(f, "another kind of virtio device (id {id})"),
            Self::ResetHangs => f.write_str("the device's reset does not end"),
            Self::Features => f.write_str("the device refuses our features"),
            Self::QueueSize(size) => write!(f, "the device's queue is too short ({size})"),
            Self::Configuration => f.write_str("the device's configuration keeps changing"),
        }
    }
}

/// An initialised device, or one on its way to be.
pub struct Device<M> {
    mmio: M,
    features: u64,
}

impl<M: Mmio> Device<M> {
    /// Resets the device, so that it forgets every queue, and agrees on the features that both `wanted` and the device
    /// have (VERSION_1 always).
    pub fn open(mmio: M, kind: Kind, wanted: u64) -> Result<Self, DeviceError> {
        let expect = |offset, value, error: fn(u32) -> DeviceError| match mmio.read(offset) {
            found if found == value => Ok(()),
            found => Err(error(found)),
        };
        expect(MAGIC, u32::from_le_bytes(*b"virt"), DeviceError::NotVirtio)?;
        expect(VERSION, 2, DeviceError::Legacy)?;
        expect(DEVICE_ID, kind as u32, DeviceError::WrongKind)?;
        mmio.write(STATUS, 0);
        if (0..RESET_READS).all(|_| mmio.read(STATUS) != 0) {
            return Err(DeviceError::ResetHangs);
        }
        mmio.write(STATUS, ACKNOWLEDGE | DRIVER);
        let features = offered(&mmio) & (wanted | VERSION_1);
        for (i, half) in [features as u32, (features >> 32) as u32].into_iter().enumerate() {
            mmio.write(DRIVER_FEATURES_SEL, i as u32);
            mmio.write(DRIVER_FEATURES, half);
        }
        mmio.write(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
        if features & VERSION_1 == 0 || mmio.read(STATUS) & FEATURES_OK == 0 {
            return Err(DeviceError::Features);
        }
        Ok(Self { mmio, features })
    }

    /// The features agreed on.
    pub fn features(&self) -> u64 {
        self.features
    }

    /// Tells the device where queue `index` is. Before [`start`](Self::start).
    pub fn set_queue<const SIZE: usize>(&mut self, index: u32, queue: &Queue<SIZE>) -> Result<(), DeviceError> {
        self.mmio.write(QUEUE_SEL, index);
        let max = self.mmio.read(QUEUE_NUM_MAX);
        if (max as usize) < SIZE {
            return Err(DeviceError::QueueSize(max));
        }
        self.mmio.write(QUEUE_NUM, SIZE as u32);
        for (register, address) in QUEUE_ADDRESSES.into_iter().zip(queue.addresses()) {
            self.mmio.write(register, address as u32);
            self.mmio.write(register + 4, (address >> 32) as u32);
        }
        self.mmio.write(QUEUE_READY, 1);
        Ok(())
    }

    /// Lets the device work.
    pub fn start(&mut self) {
        self.mmio.write(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    }

    /// Tells the device that queue `index` has new chains.
    pub fn notify(&mut self, index: u32) {
        // The rings must be written before the device looks; device memory is not ordered with normal memory.
        core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
        self.mmio.write(QUEUE_NOTIFY, index);
    }

    /// Takes the interrupt back. Returns whether it was for used chains.
    pub fn acknowledge(&mut self) -> bool {
        let status = self.mmio.read(INTERRUPT_STATUS);
        self.mmio.write(INTERRUPT_ACK, status);
        status & 1 != 0
    }

    /// Reads the configuration space from `offset` on, all bytes of one moment.
    pub fn config<const N: usize>(&self, offset: usize) -> Result<[u8; N], DeviceError> {
        for _ in 0..CONFIG_READS {
            let generation = self.mmio.read(CONFIG_GENERATION);
            let bytes = core::array::from_fn(|i| self.mmio.read_byte(CONFIG + offset + i));
            if self.mmio.read(CONFIG_GENERATION) == generation {
                return Ok(bytes);
            }
        }
        Err(DeviceError::Configuration)
    }

    /// The registers, for tests.
    pub fn registers(&mut self) -> &mut M {
        &mut self.mmio
    }
}

fn offered(mmio: &impl Mmio) -> u64 {
    let half = |i: u32| {
        mmio.write(DEVICE_FEATURES_SEL, i);
        u64::from(mmio.read(DEVICE_FEATURES))
    };
    half(0) | half(1) << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake;

    #[test]
    fn wrong_slots_are_told_apart() {
        let open = |device: fake::Device| Device::open(device, Kind::Net, 0).map(|_| ()).expect_err("refused");
        assert_eq!(open(fake::Device::new(0, 0)), DeviceError::WrongKind(0));
        assert_eq!(open(fake::Device::new(2, 0)), DeviceError::WrongKind(2));
        assert_eq!(open(fake::Device::new(1, 0).legacy()), DeviceError::Legacy(1));
        assert_eq!(open(fake::Device::new(1, 0).without_version_1()), DeviceError::Features);
    }

    #[test]
    fn features_are_what_both_have() {
        let device = Device::open(fake::Device::new(2, 0b1110), Kind::Block, 0b0111).expect("opens");
        assert_eq!(device.features(), 0b0110 | VERSION_1);
    }

    #[test]
    fn queues_are_announced() {
        let mut memory = fake::memory(8192);
        let queue = Queue::<16>::new(&mut memory).expect("room");
        let mut device = Device::open(fake::Device::new(2, 0), Kind::Block, 0).expect("opens");
        device.set_queue(0, &queue).expect("long enough");
        assert_eq!(device.set_queue(9, &queue), Err(DeviceError::QueueSize(0)));
        device.start();
        let fake = device.registers();
        assert_eq!(fake.queue(0), Some((queue.addresses(), 16)));
        assert!(fake.running());
    }

    #[test]
    fn configuration_is_read_in_one_piece() {
        let fake = fake::Device::new(2, 0).with_config(&[1, 2, 3, 4]);
        let device = Device::open(fake, Kind::Block, 0).expect("opens");
        assert_eq!(device.config::<3>(1), Ok([2, 3, 4]));
    }
}
