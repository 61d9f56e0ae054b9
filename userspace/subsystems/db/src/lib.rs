//! A RESP database on virtual files and sockets.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
