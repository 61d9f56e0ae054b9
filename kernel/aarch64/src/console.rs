//! The kernel's console: a PL011 or Cadence UART written by polling. Output only; input belongs to user land.
//!
//! Before [`init`], everything printed is dropped. Used under the big lock, or by a core that panics.

use bsp_board::UartKind;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tock_registers::interfaces::{ReadWriteable, Readable, Writeable};
use tock_registers::register_bitfields;
use tock_registers::register_structs;
use tock_registers::registers::{ReadOnly, ReadWrite, WriteOnly};

register_bitfields! {u32,
    /// Flag register.
    Flags [
        TX_FULL OFFSET(5) NUMBITS(1) [],
    ],
    /// Control register.
    Control [
        ENABLE OFFSET(0) NUMBITS(1) [],
        TX OFFSET(8) NUMBITS(1) [],
        RX OFFSET(9) NUMBITS(1) [],
    ],
}

register_structs! {
    /// PL011 registers (Arm DDI 0183) as far as they are used.
    #[allow(missing_docs)]
    Pl011 {
        (0x00 => data: WriteOnly<u32>),
        (0x04 => _reserved0),
        (0x18 => flags: ReadOnly<u32, Flags::Register>),
        (0x1c => _reserved1),
        (0x30 => control: ReadWrite<u32, Control::Register>),
        (0x34 => @END),
    }
}

register_bitfields! {u32,
    /// Cadence: channel status.
    Status [
        TX_FULL OFFSET(4) NUMBITS(1) [],
    ],
    /// Cadence: control.
    CadenceControl [
        TX_ENABLE OFFSET(4) NUMBITS(1) [],
        TX_DISABLE OFFSET(5) NUMBITS(1) [],
    ],
}

register_structs! {
    /// Cadence UART registers (Xilinx UG1087, module UART) as far as they are used.
    #[allow(missing_docs)]
    Cadence {
        (0x00 => control: ReadWrite<u32, CadenceControl::Register>),
        (0x04 => _reserved0),
        (0x2c => status: ReadOnly<u32, Status::Register>),
        (0x30 => fifo: WriteOnly<u32>),
        (0x34 => @END),
    }
}

/// Whether the port is a Cadence UART.
static IS_CADENCE: AtomicBool = AtomicBool::new(false);
/// Virtual address of the registers; 0 before [`init`].
static BASE: AtomicU64 = AtomicU64::new(0);

/// Tries per character before the port is taken for dead: a stuck console must not stop the node.
const PATIENCE: u32 = 1_000_000;

/// Prints from now on to the port whose registers are mapped at `vaddr`; switches its transmitter on. The firmware's line
/// settings stay.
///
/// # Safety
/// `vaddr` must be a device mapping of the register page of such a port and stay so.
pub unsafe fn init(kind: UartKind, vaddr: u64) {
    // SAFETY: by this function's contract.
    unsafe {
        match kind {
            UartKind::Pl011 => {
                let port = &*(vaddr as *const Pl011);
                if port.control.read(Control::ENABLE) == 0 || port.control.read(Control::TX) == 0 {
                    port.control.write(Control::ENABLE::SET + Control::TX::SET + Control::RX::SET);
                }
            }
            UartKind::Cadence => {
                let port = &*(vaddr as *const Cadence);
                port.control.modify(CadenceControl::TX_ENABLE::SET + CadenceControl::TX_DISABLE::CLEAR);
            }
        }
    }
    IS_CADENCE.store(kind == UartKind::Cadence, Ordering::Relaxed);
    BASE.store(vaddr, Ordering::Relaxed);
}

/// Waits until `full` is no longer true, within reason.
fn wait_for_room(full: impl Fn() -> bool) {
    for _ in 0..PATIENCE {
        if !full() {
            return;
        }
        core::hint::spin_loop();
    }
}

/// Prints one byte as it is.
pub fn put_raw(byte: u8) {
    let base = BASE.load(Ordering::Relaxed);
    if base == 0 {
        return;
    }
    // SAFETY: `init` was given a register page of this kind that stays mapped.
    unsafe {
        if IS_CADENCE.load(Ordering::Relaxed) {
            let port = &*(base as *const Cadence);
            wait_for_room(|| port.status.read(Status::TX_FULL) != 0);
            port.fifo.set(u32::from(byte));
        } else {
            let port = &*(base as *const Pl011);
            wait_for_room(|| port.flags.read(Flags::TX_FULL) != 0);
            port.data.set(u32::from(byte));
        }
    }
}

/// Prints one byte of text; a line feed gets a carriage return before it.
pub fn put(byte: u8) {
    if byte == b'\n' {
        put_raw(b'\r');
    }
    put_raw(byte);
}

struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(put);
        Ok(())
    }
}

/// Prints formatted text; for the macros.
pub fn print(args: fmt::Arguments<'_>) {
    // Writing to the console cannot fail.
    let _ = Console.write_fmt(args);
}

/// Prints formatted text on the kernel's console.
#[macro_export]
macro_rules! kprint {
    ($($arg:tt)*) => { $crate::console::print(format_args!($($arg)*)) };
}

/// Prints a line of formatted text on the kernel's console.
#[macro_export]
macro_rules! kprintln {
    () => { $crate::console::put(b'\n') };
    ($($arg:tt)*) => { $crate::console::print(format_args!("{}\n", format_args!($($arg)*))) };
}

/// Prints nothing any more: the early port's mapping is gone.
pub fn disable() {
    BASE.store(0, Ordering::Relaxed);
}
