//! A virtio-mmio device in software, for host tests of drivers. Physical addresses are host addresses.

use core::cell::{Cell, RefCell};
use core::ptr::NonNull;
use std::boxed::Box;
use std::vec;
use std::vec::Vec;

use crate::memory::DmaMemory;
use crate::mmio::Mmio;

/// DMA memory of the host, never freed.
pub fn memory(len: usize) -> DmaMemory {
    let bytes = Box::leak(vec![0u64; len.div_ceil(8)].into_boxed_slice());
    let base = NonNull::from(bytes).cast::<u8>();
    // SAFETY: leaked above, so it lives on and nothing else knows it; the "device" sees host addresses.
    unsafe { DmaMemory::new(base, base.as_ptr().expose_provenance() as u64, len) }
}

/// Copies bytes out of driver memory.
fn load(paddr: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    // SAFETY: tests only name addresses of memory made by `memory`, whose provenance is exposed.
    unsafe {
        core::ptr::with_exposed_provenance::<u8>(paddr as usize).copy_to_nonoverlapping(bytes.as_mut_ptr(), len);
    }
    bytes
}

/// Copies bytes to driver memory.
fn store(paddr: u64, bytes: &[u8]) {
    // SAFETY: as in `load`.
    unsafe {
        core::ptr::with_exposed_provenance_mut::<u8>(paddr as usize)
            .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
    }
}

fn load16(paddr: u64) -> u16 {
    u16::from_le_bytes(load(paddr, 2).try_into().expect("two bytes"))
}

fn load32(paddr: u64) -> u32 {
    u32::from_le_bytes(load(paddr, 4).try_into().expect("four bytes"))
}

/// A chain as the device sees it.
#[derive(Debug, Clone)]
pub struct Chain {
    /// Its first descriptor.
    pub head: u16,
    /// Contents of the buffers that the device reads.
    pub reads: Vec<Vec<u8>>,
    /// Address and length of the buffers that the device writes.
    pub writes: Vec<(u64, usize)>,
}

/// The device's end of a virtqueue.
#[derive(Debug)]
pub struct Ring {
    addresses: [u64; 3],
    size: u16,
    taken: Cell<u16>,
    used: Cell<u16>,
}

impl Ring {
    /// The queue at these addresses.
    pub fn new(addresses: [u64; 3], size: u16) -> Self {
        Self { addresses, size, taken: Cell::new(0), used: Cell::new(0) }
    }

    /// The next available chain.
    pub fn take(&self) -> Option<Chain> {
        let [table, available, _] = self.addresses;
        if load16(available + 2) == self.taken.get() {
            return None;
        }
        let head = load16(available + 4 + 2 * u64::from(self.taken.get() % self.size));
        self.taken.set(self.taken.get().wrapping_add(1));
        let mut chain = Chain { head, reads: vec![], writes: vec![] };
        let mut index = head;
        loop {
            let at = table + 16 * u64::from(index);
            let paddr = u64::from(load32(at)) | u64::from(load32(at + 4)) << 32;
            let (len, flags) = (load32(at + 8) as usize, load16(at + 12));
            if flags & 2 == 0 {
                chain.reads.push(load(paddr, len));
            } else {
                chain.writes.push((paddr, len));
            }
            if flags & 1 == 0 {
                return Some(chain);
            }
            index = load16(at + 14);
        }
    }

    /// Gives a chain back with `bytes` written to its writable buffers.
    pub fn put(&self, chain: &Chain, bytes: &[u8]) {
        let mut rest = bytes;
        for (paddr, len) in &chain.writes {
            let (now, later) = rest.split_at(rest.len().min(*len));
            store(*paddr, now);
            rest = later;
        }
        assert!(rest.is_empty(), "the device writes more than it has room for");
        self.report(u32::from(chain.head), bytes.len() as u32);
    }

    /// Puts an entry into the used ring, true or not.
    pub fn report(&self, id: u32, len: u32) {
        self.entry(self.used.get(), id, len);
        self.used.set(self.used.get().wrapping_add(1));
        store(self.addresses[2] + 2, &self.used.get().to_le_bytes());
    }

    /// Changes the entry reported last.
    pub fn rewrite(&self, id: u32, len: u32) {
        self.entry(self.used.get().wrapping_sub(1), id, len);
    }

    fn entry(&self, index: u16, id: u32, len: u32) {
        let at = self.addresses[2] + 4 + 8 * u64::from(index % self.size);
        store(at, &id.to_le_bytes());
        store(at + 4, &len.to_le_bytes());
    }

    /// Whether the driver wants interrupts.
    pub fn wants_interrupts(&self) -> bool {
        load16(self.addresses[1]) & 1 == 0
    }

    /// Says whether the device wants no notifications.
    pub fn suppress_notify(&self, suppress: bool) {
        store(self.addresses[2], &u16::from(suppress).to_le_bytes());
    }
}

#[derive(Default)]
struct State {
    status: u32,
    select: [u32; 3],
    driver_features: u64,
    queues: [[u32; 8]; 2],
    interrupt: u32,
    notified: Vec<u32>,
    resets: u32,
}

/// Register block of a device with two queues of up to 1024.
pub struct Device {
    id: u32,
    version: u32,
    features: u64,
    config: Vec<u8>,
    state: RefCell<State>,
}

impl Device {
    /// A device of this id and features (VERSION_1 besides).
    pub fn new(id: u32, features: u64) -> Self {
        Self { id, version: 2, features: features | 1 << 32, config: vec![], state: RefCell::default() }
    }

    /// Makes it a legacy device.
    pub fn legacy(mut self) -> Self {
        self.version = 1;
        self
    }

    /// Makes it not offer VERSION_1.
    pub fn without_version_1(mut self) -> Self {
        self.features &= !(1 << 32);
        self
    }

    /// Gives it a configuration space.
    pub fn with_config(mut self, config: &[u8]) -> Self {
        self.config = config.to_vec();
        self
    }

    /// Addresses and size of a queue, if the driver has set it up.
    pub fn queue(&self, index: usize) -> Option<([u64; 3], u16)> {
        let queue = self.state.borrow().queues[index];
        let address = |i: usize| u64::from(queue[2 * i]) | u64::from(queue[2 * i + 1]) << 32;
        (queue[7] == 1).then(|| ([address(0), address(1), address(2)], queue[6] as u16))
    }

    /// Whether the driver has finished initialisation.
    pub fn running(&self) -> bool {
        self.state.borrow().status == 15
    }

    /// Queue notifications since the last call.
    pub fn notified(&self) -> Vec<u32> {
        core::mem::take(&mut self.state.borrow_mut().notified)
    }

    /// Raises the interrupt for used buffers.
    pub fn interrupt(&self) {
        self.state.borrow_mut().interrupt |= 1;
    }

    /// How often the driver has reset it.
    pub fn resets(&self) -> u32 {
        self.state.borrow().resets
    }
}

impl Mmio for &Device {
    fn read(&self, offset: usize) -> u32 {
        Mmio::read(*self, offset)
    }
    fn write(&self, offset: usize, value: u32) {
        Mmio::write(*self, offset, value);
    }
    fn read_byte(&self, offset: usize) -> u8 {
        Mmio::read_byte(*self, offset)
    }
}

impl Mmio for Device {
    fn read(&self, offset: usize) -> u32 {
        let state = self.state.borrow();
        match offset {
            0x000 => 0x7472_6976,
            0x004 => self.version,
            0x008 => self.id,
            0x010 => (self.features >> (32 * state.select[0])) as u32,
            0x034 => {
                if state.select[2] < 2 {
                    1024
                } else {
                    0
                }
            }
            0x060 => state.interrupt,
            0x070 => state.status,
            0x0fc => 0,
            _ => panic!("the driver reads register {offset:#x}"),
        }
    }

    fn write(&self, offset: usize, value: u32) {
        let state = &mut *self.state.borrow_mut();
        match offset {
            0x014 => state.select[0] = value,
            0x024 => state.select[1] = value,
            0x030 => state.select[2] = value,
            0x020 => {
                let shift = 32 * state.select[1];
                state.driver_features = state.driver_features & !(0xffff_ffff << shift) | u64::from(value) << shift;
                assert_eq!(state.driver_features & !self.features, 0, "the driver accepts what was not offered");
            }
            0x070 if value == 0 => *state = State { resets: state.resets + 1, ..State::default() },
            0x070 => state.status = value,
            0x050 => state.notified.push(value),
            0x064 => state.interrupt &= !value,
            0x038 => state.queues[state.select[2] as usize][6] = value,
            0x044 => state.queues[state.select[2] as usize][7] = value,
            0x080..0x0b0 => {
                let index = (offset - 0x080) / 16 * 2 + offset / 4 % 2;
                state.queues[state.select[2] as usize][index] = value;
            }
            _ => panic!("the driver writes register {offset:#x}"),
        }
    }

    fn read_byte(&self, offset: usize) -> u8 {
        self.config[offset - 0x100]
    }
}
