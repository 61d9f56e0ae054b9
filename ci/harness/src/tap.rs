//! A TAP device: the host's end of the external segment. One of the two modules with `unsafe` code.

use anyhow::{Context, Result, bail};
use nix::libc;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

/// An open TAP device without packet information headers; reads and writes are whole Ethernet frames and never block.
#[derive(Debug)]
pub struct Tap(File);

#[allow(unsafe_code)]
mod request {
    //! The `ioctl` that names and configures the device (`linux/if_tun.h`). It is encoded as writing an `int` although its
    //! argument is a `struct ifreq`, hence the "bad" macro.
    use nix::libc;
    nix::ioctl_write_ptr_bad!(tun_set_iff, nix::request_code_write!(b'T', 202, size_of::<libc::c_int>()), libc::ifreq);
}

impl Tap {
    /// Creates a TAP device in this process's network namespace. It lives as long as it is open.
    pub fn open(name: &str) -> Result<Tap> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/net/tun")
            .context("opening /dev/net/tun (module `tun`; in a container pass the device through)")?;
        configure(&file, name)?;
        Ok(Tap(file))
    }

    /// Reads one frame into `buffer`; `None` if there is none now.
    pub fn receive(&self, buffer: &mut [u8]) -> std::io::Result<Option<usize>> {
        match (&self.0).read(buffer) {
            Ok(length) => Ok(Some(length)),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes one frame; `false` if the host does not take it (queue full, device down).
    pub fn send(&self, frame: &[u8]) -> bool {
        (&self.0).write(frame).is_ok_and(|written| written == frame.len())
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[allow(unsafe_code)]
fn configure(file: &File, name: &str) -> Result<()> {
    // SAFETY: `ifreq` is plain C data (an array of bytes and a union of integers), for which all zeros is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() || !name.is_ascii() {
        bail!("'{name}' is no valid device name");
    }
    for (slot, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *slot = byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the descriptor is open, and the kernel reads one `ifreq` from the pointer, which outlives the call.
    unsafe { request::tun_set_iff(file.as_raw_fd(), &request) }
        .with_context(|| format!("creating the TAP device {name}"))?;
    Ok(())
}
