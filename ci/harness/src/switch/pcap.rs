//! Captures in the classic pcap format (Ethernet link type), readable by tcpdump and Wireshark.

use std::fs::File;
use std::io::{BufWriter, Result, Write};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A capture file being written.
#[derive(Debug)]
pub struct Capture(BufWriter<File>);

impl Capture {
    /// Creates the file and writes the format's header: magic, version 2.4, UTC, snap length, link type 1 (Ethernet).
    pub fn create(path: &Path) -> Result<Capture> {
        let mut file = BufWriter::new(File::create(path)?);
        for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, 1] {
            file.write_all(&word.to_le_bytes())?;
        }
        Ok(Capture(file))
    }

    /// Appends a frame seen at `time`.
    pub fn record(&mut self, time: SystemTime, frame: &[u8]) -> Result<()> {
        let since: Duration = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let length = frame.len() as u32;
        for word in [since.as_secs() as u32, since.subsec_micros(), length, length] {
            self.0.write_all(&word.to_le_bytes())?;
        }
        self.0.write_all(frame)
    }

    /// Makes what was recorded visible to readers of the file.
    pub fn flush(&mut self) -> Result<()> {
        self.0.flush()
    }
}
