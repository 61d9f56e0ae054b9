//! The serial line: Arm PrimeCell UART (PL011), registers as in its technical reference manual, section 3.
//!
//! Firmware or the kernel has set baud rate and pins; this driver leaves them alone and only uses FIFOs and interrupts.

use core::ptr::NonNull;

const DATA: usize = 0x00;
const FLAGS: usize = 0x18;
const LINE_CONTROL: usize = 0x2c;
const CONTROL: usize = 0x30;
const FIFO_LEVELS: usize = 0x34;
const INTERRUPT_MASK: usize = 0x38;
const INTERRUPT_CLEAR: usize = 0x44;
/// Bytes of the register block that are used.
pub const REGISTERS: usize = 0x48;

const FLAG_RX_EMPTY: u32 = 1 << 4;
const FLAG_TX_FULL: u32 = 1 << 5;
const LINE_FIFOS: u32 = 1 << 4;
const CONTROL_ENABLE: u32 = 1 | 1 << 8 | 1 << 9;
/// Both FIFOs interrupt at half.
const LEVEL_HALF: u32 = 0b010_010;
const INTERRUPT_RX: u32 = 1 << 4;
const INTERRUPT_TX: u32 = 1 << 5;
const INTERRUPT_RX_TIMEOUT: u32 = 1 << 6;
const INTERRUPT_ALL: u32 = 0x7ff;
/// Data register: the byte was received with an error (framing, parity, break, overrun).
const DATA_ERRORS: u32 = 0xf00;

/// A serial line.
pub trait Uart {
    /// Whether a byte can be sent.
    fn has_room(&self) -> bool;
    /// Sends a byte; there is room.
    fn put(&mut self, byte: u8);
    /// A received byte.
    fn get(&mut self) -> Option<u8>;
    /// Whether to interrupt when there is room again.
    fn want_room(&mut self, want: bool);
}

/// The machine's line.
#[derive(Debug)]
pub struct Pl011 {
    base: NonNull<u8>,
    mask: u32,
}

impl Pl011 {
    /// Takes the line over: FIFOs on, interrupts for received bytes.
    ///
    /// # Safety
    /// `base` is a PL011's register block of at least [`REGISTERS`] bytes, mapped as device memory for the rest of the
    /// program, a multiple of 4; nothing else uses its interrupts or receives from it.
    pub unsafe fn new(base: NonNull<u8>) -> Self {
        let mut uart = Self { base, mask: INTERRUPT_RX | INTERRUPT_RX_TIMEOUT };
        uart.write(INTERRUPT_MASK, 0);
        uart.write(LINE_CONTROL, uart.read(LINE_CONTROL) | LINE_FIFOS);
        uart.write(FIFO_LEVELS, LEVEL_HALF);
        uart.write(CONTROL, uart.read(CONTROL) | CONTROL_ENABLE);
        uart.write(INTERRUPT_CLEAR, INTERRUPT_ALL);
        uart.write(INTERRUPT_MASK, uart.mask);
        uart
    }

    /// Takes the interrupt back; [`crate::Console::run`] does the work.
    pub fn acknowledge(&mut self) {
        self.write(INTERRUPT_CLEAR, INTERRUPT_ALL);
    }

    fn read(&self, offset: usize) -> u32 {
        // SAFETY: a register of the block that `new` was given.
        unsafe { self.base.add(offset).cast::<u32>().read_volatile() }
    }

    fn write(&mut self, offset: usize, value: u32) {
        // SAFETY: as in `read`.
        unsafe { self.base.add(offset).cast::<u32>().write_volatile(value) }
    }
}

impl Uart for Pl011 {
    fn has_room(&self) -> bool {
        self.read(FLAGS) & FLAG_TX_FULL == 0
    }

    fn put(&mut self, byte: u8) {
        self.write(DATA, byte.into());
    }

    fn get(&mut self) -> Option<u8> {
        while self.read(FLAGS) & FLAG_RX_EMPTY == 0 {
            let data = self.read(DATA);
            if data & DATA_ERRORS == 0 {
                return Some(data as u8);
            }
        }
        None
    }

    fn want_room(&mut self, want: bool) {
        let mask = INTERRUPT_RX | INTERRUPT_RX_TIMEOUT | if want { INTERRUPT_TX } else { 0 };
        if mask != self.mask {
            self.mask = mask;
            self.write(INTERRUPT_MASK, mask);
        }
    }
}
