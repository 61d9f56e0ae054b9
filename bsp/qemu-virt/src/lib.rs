//! QEMU's virt machine: what must be known of it before its device tree is understood. Everything else comes from the tree.
//!
//! The image builder writes these into the kernel's image header; the kernel knows no board by name.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

/// Physical address of the PL011 on which the kernel complains about a device tree that it cannot understand.
pub const EARLY_CONSOLE: u64 = 0x0900_0000;

/// Name of the machine for QEMU's `-M`.
pub const MACHINE: &str = "virt";
