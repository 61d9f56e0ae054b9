//! Exception syndromes in words (Arm ARM, ESR_EL1 encodings).

use core::fmt;

/// Immediate of the `brk` with which a server of ours ends itself after a panic; its report is already on the console.
pub const PANIC_BRK: u64 = 0x5A1;

/// Whether a UserException is the end of a panic.
pub fn is_panic(esr: u64) -> bool {
    class(esr) == 0x3c && esr & 0xffff == PANIC_BRK
}

/// An exception syndrome, printable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Syndrome(pub u64);

fn class(esr: u64) -> u64 {
    (esr >> 26) & 0x3f
}

impl fmt::Display for Syndrome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let esr = self.0;
        match class(esr) {
            0x00 => f.write_str("undefined instruction"),
            0x07 => f.write_str("FP/SIMD instruction without the right"),
            0x18 => f.write_str("system register without the right"),
            0x20 | 0x21 => write!(f, "instruction fetch: {}", Status(esr)),
            0x22 => f.write_str("program counter not aligned"),
            0x24 | 0x25 => {
                write!(f, "{}: {}", if esr & 0x40 != 0 { "write" } else { "read" }, Status(esr))
            }
            0x26 => f.write_str("stack pointer not aligned"),
            0x2c => f.write_str("floating-point exception"),
            0x3c => write!(f, "brk {:#x}", esr & 0xffff),
            other => write!(f, "exception class {other:#x}"),
        }
    }
}

/// The fault status of an abort.
struct Status(u64);

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 & 0x3f {
            0x04..=0x07 => f.write_str("not mapped"),
            0x08..=0x0b => f.write_str("access flag"),
            0x0c..=0x0f => f.write_str("not permitted"),
            0x10 => f.write_str("external abort"),
            0x21 => f.write_str("not aligned"),
            other => write!(f, "fault status {other:#x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_syndromes_read_as_words() {
        let text = |esr| format!("{}", Syndrome(esr));
        assert_eq!(text(0x9200_0005), "read: not mapped");
        assert_eq!(text(0x9200_004f), "write: not permitted");
        assert_eq!(text(0x8200_0005), "instruction fetch: not mapped");
        assert_eq!(text(0x0200_0000), "undefined instruction");
        assert_eq!(text(0x6234_F801), "system register without the right");
        assert!(is_panic(0xF200_05A1) && !is_panic(0xF200_0007) && !is_panic(0x9200_05A1));
    }
}
