//! The kernel's console: a PL011 written by polling. Output only; input belongs to user land.
//!
//! Before [`init`], everything printed is dropped. Used under the big lock, or by a core that panics.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, Ordering};
use tock_registers::interfaces::{Readable, Writeable};
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

/// Virtual address of the registers; 0 before [`init`].
static BASE: AtomicU64 = AtomicU64::new(0);

/// Tries per character before the port is taken for dead: a stuck console must not stop the node.
const PATIENCE: u32 = 1_000_000;

/// Prints from now on to the PL011 whose registers are mapped at `vaddr`; switches its transmitter on. The firmware's
/// line settings stay.
///
/// # Safety
/// `vaddr` must be a device mapping of a PL011's register page and stay so.
pub unsafe fn init(vaddr: u64) {
    // SAFETY: by this function's contract.
    let port = unsafe { &*(vaddr as *const Pl011) };
    if port.control.read(Control::ENABLE) == 0 || port.control.read(Control::TX) == 0 {
        port.control.write(Control::ENABLE::SET + Control::TX::SET + Control::RX::SET);
    }
    BASE.store(vaddr, Ordering::Relaxed);
}

/// Prints one byte as it is.
pub fn put_raw(byte: u8) {
    let base = BASE.load(Ordering::Relaxed);
    if base == 0 {
        return;
    }
    // SAFETY: `init` was given a register page that stays mapped.
    let port = unsafe { &*(base as *const Pl011) };
    for _ in 0..PATIENCE {
        if port.flags.read(Flags::TX_FULL) == 0 {
            break;
        }
        core::hint::spin_loop();
    }
    port.data.set(u32::from(byte));
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
