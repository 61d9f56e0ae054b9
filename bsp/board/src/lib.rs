//! What a board is: memory, devices, interrupt controller and console as read from a device tree.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
