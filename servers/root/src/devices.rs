//! Which devices this machine has: from the device tree, and for virtio from what answers behind each transport.

use crate::boot::say;
use crate::machine::{Machine, PAGE, Window};
use alloc::vec::Vec;
use bsp_board::{Blob, Board, VirtioMmio};
use root::manifest::Device;
use root::plan::DeviceInfo;
use smi_rt::CPtr;
use smi_rt::sys::abi::bootinfo::EXTRA_BOOTINFO_OFFSET;
use smi_rt::sys::abi::{BootInfo, ExtraHeader, ExtraId};

/// "virt", first register of a virtio-mmio transport (virtio 1.2, 4.2.2).
const VIRTIO_MAGIC: u32 = 0x7472_6976;
/// Offset of the device type register.
const VIRTIO_DEVICE_ID: u64 = 8;
/// Device types (virtio 1.2, 5).
const VIRTIO_NET: u32 = 1;
const VIRTIO_BLOCK: u32 = 2;
/// The EL0 physical timer's interrupt: PPI 14 (Arm BSA).
const PHYSICAL_TIMER_IRQ: u32 = 30;

/// The devices that a manifest can name.
#[derive(Default)]
pub struct Devices {
    nets: Vec<VirtioMmio>,
    blocks: Vec<VirtioMmio>,
    uart: Option<DeviceInfo>,
    /// Frames of registers that have been made, by physical address: several devices can lie in one page.
    frames: Vec<(u64, CPtr)>,
}

impl Devices {
    /// Reads the device tree and looks behind each virtio transport. What is wrong is told, and those devices are absent.
    pub fn find(machine: &mut Machine, info: &'static BootInfo, bootinfo: usize) -> Devices {
        let mut devices = Devices::default();
        let Some(tree) = tree(info, bootinfo) else {
            say!("the kernel passed no device tree: there are no devices");
            return devices;
        };
        let board = match Blob::new(tree)
            .map_err(|e| e.to_string())
            .and_then(|b| Board::from_blob(&b).map_err(|e| e.to_string()))
        {
            Ok(board) => board,
            Err(error) => {
                say!("device tree: {error}: there are no devices");
                return devices;
            }
        };
        devices.uart = board.uart.and_then(|uart| {
            let registers = (uart.registers.start, uart.registers.end - uart.registers.start);
            Some(DeviceInfo { registers, irq: (uart.irq?, false) })
        });
        // QEMU gives the transport with the highest address to the first device of its command line.
        let mut transports: Vec<VirtioMmio> = board.virtio.iter().collect();
        transports.sort_by_key(|t| core::cmp::Reverse(t.registers.start));
        for transport in transports {
            match devices.device_type(machine, &transport) {
                Some(VIRTIO_NET) => devices.nets.push(transport),
                Some(VIRTIO_BLOCK) => devices.blocks.push(transport),
                _ => {}
            }
        }
        say!("{} virtio network and {} virtio block devices", devices.nets.len(), devices.blocks.len());
        devices
    }

    /// What the machine has for a manifest's device.
    pub fn info(&self, device: Device) -> Option<DeviceInfo> {
        let virtio = |list: &[VirtioMmio], n: u8| {
            let found = list.get(n as usize)?;
            let registers = (found.registers.start, found.registers.end - found.registers.start);
            Some(DeviceInfo { registers, irq: (found.irq, true) })
        };
        match device {
            Device::VirtioNet(n) => virtio(&self.nets, n),
            Device::VirtioBlk(n) => virtio(&self.blocks, n),
            Device::Pl011 => self.uart,
            Device::PhysTimer => Some(DeviceInfo { registers: (0, 0), irq: (PHYSICAL_TIMER_IRQ, false) }),
        }
    }

    /// The frame of the page that holds a physical address, made once.
    pub fn frame(&mut self, machine: &mut Machine, paddr: u64) -> Result<CPtr, crate::machine::Failure> {
        let page = paddr & !(PAGE - 1);
        if let Some((_, frame)) = self.frames.iter().find(|(p, _)| *p == page) {
            return Ok(*frame);
        }
        let frame = machine.device_frame(page)?;
        self.frames.push((page, frame));
        Ok(frame)
    }

    /// Type of the device behind a transport; 0 for an empty place, `None` if there is no transport.
    fn device_type(&mut self, machine: &mut Machine, transport: &VirtioMmio) -> Option<u32> {
        let start = transport.registers.start;
        let frame = self.frame(machine, start).map_err(|failure| say!("registers at {start:#x}: {failure}")).ok()?;
        let window = Window::open(frame, true).map_err(|failure| say!("registers at {start:#x}: {failure}")).ok()?;
        (window.register(start) == VIRTIO_MAGIC).then(|| window.register(start + VIRTIO_DEVICE_ID))
    }
}

use alloc::string::ToString;

/// The flattened device tree among the chunks of extra boot info.
fn tree(info: &'static BootInfo, bootinfo: usize) -> Option<&'static [u8]> {
    let start = bootinfo + EXTRA_BOOTINFO_OFFSET as usize;
    let total = info.extra_len as usize;
    let mut at = 0;
    while at + size_of::<ExtraHeader>() <= total {
        // SAFETY: the kernel maps `extra_len` bytes of extra boot info after the boot info's page, for good; chunks are 8-byte aligned or
        // we stop below.
        let header: ExtraHeader =
            unsafe { core::ptr::with_exposed_provenance::<ExtraHeader>(start + at).read_unaligned() };
        let len = header.len as usize;
        if len < size_of::<ExtraHeader>() || len > total - at {
            return None;
        }
        if header.id == ExtraId::Fdt.raw() {
            let payload = core::ptr::with_exposed_provenance::<u8>(start + at + size_of::<ExtraHeader>());
            // SAFETY: as above; the chunk lies inside by the check.
            return Some(unsafe { core::slice::from_raw_parts(payload, len - size_of::<ExtraHeader>()) });
        }
        at += len;
    }
    None
}
