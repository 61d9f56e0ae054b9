//! A channel's session buffer as `ipc_wire` sees it: copied from and to, never borrowed, because the peer may write to it at any time.

use ipc_wire::{LinkError, Session};
use smi_env::Region;

/// The shared session buffer of a channel, or none.
#[derive(Clone, Copy, Debug)]
pub struct RegionSession {
    region: Region,
}

impl RegionSession {
    /// No buffer.
    pub const NONE: RegionSession = RegionSession { region: Region { ptr: core::ptr::null_mut(), len: 0 } };

    /// The buffer part of a channel.
    pub fn of(channel: &smi_env::Channel) -> RegionSession {
        channel.buffer.map_or(RegionSession::NONE, |region| RegionSession { region })
    }

    fn at(&self, offset: usize, len: usize) -> Result<*mut u8, LinkError> {
        match offset.checked_add(len) {
            Some(end) if end <= self.region.len => Ok(self.region.ptr.wrapping_add(offset)),
            _ => Err(LinkError::BadMessage),
        }
    }
}

impl Session for RegionSession {
    fn len(&self) -> usize {
        self.region.len
    }

    fn read(&self, offset: usize, out: &mut [u8]) -> Result<(), LinkError> {
        let from = self.at(offset, out.len())?;
        // SAFETY: in bounds of a mapping that lives as long as the process (environment's promise); `out` is private memory. The peer may
        // change the bytes meanwhile: they are copied as raw bytes and mean nothing until checked.
        unsafe { core::ptr::copy_nonoverlapping(from, out.as_mut_ptr(), out.len()) }
        Ok(())
    }

    fn write(&self, offset: usize, data: &[u8]) -> Result<(), LinkError> {
        let to = self.at(offset, data.len())?;
        // SAFETY: as in `read`.
        unsafe { core::ptr::copy_nonoverlapping(data.as_ptr(), to, data.len()) }
        Ok(())
    }
}
