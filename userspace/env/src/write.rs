//! The root task's side: fills an environment.

use crate::layout::{Entry, Header, MAGIC, MAX_ENTRIES, SIZE};
use zerocopy::{FromZeros, IntoBytes};

/// No room for another entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Collects a header and entries, then gives the bytes.
#[derive(Clone, Debug)]
pub struct Writer {
    header: Header,
    entries: [Entry; MAX_ENTRIES],
}

impl Writer {
    /// Starts from a header; magic and entry count are filled in.
    pub fn new(header: Header) -> Writer {
        Writer {
            header: Header { magic: MAGIC, entry_count: 0, ..header },
            entries: [Entry::new_zeroed(); MAX_ENTRIES],
        }
    }

    /// Adds an entry.
    pub fn push(&mut self, entry: Entry) -> Result<(), Full> {
        let slot = self.entries.get_mut(self.header.entry_count as usize).ok_or(Full)?;
        *slot = entry;
        self.header.entry_count += 1;
        Ok(())
    }

    /// Writes header and entries to the start of the environment's memory.
    pub fn finish(&self, out: &mut [u8; SIZE]) {
        out.fill(0);
        let (header, rest) = out.split_at_mut(size_of::<Header>());
        header.copy_from_slice(self.header.as_bytes());
        let entries = self.entries[..self.header.entry_count as usize].as_bytes();
        rest[..entries.len()].copy_from_slice(entries);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{NO_BIT, kind, set_text};
    use crate::{Env, EnvError, Role};

    fn entry(name: &str, kind: u32) -> Entry {
        let mut entry = Entry { kind, signal_bit: NO_BIT, ..Entry::new_zeroed() };
        set_text(&mut entry.name, name).unwrap();
        entry
    }

    fn header() -> Header {
        let mut header = Header { source_id: 3, reply_first: 20, reply_count: 4, ..Header::new_zeroed() };
        set_text(&mut header.name, "file").unwrap();
        header
    }

    fn leak(writer: &Writer) -> &'static [u8; SIZE] {
        #[repr(align(8))]
        struct Page([u8; SIZE]);
        let page = Box::leak(Box::new(Page([0; SIZE])));
        writer.finish(&mut page.0);
        &page.0
    }

    #[test]
    fn a_server_finds_what_was_written() {
        let mut writer = Writer::new(header());
        let block = Entry {
            cptr: 9,
            signal: 10,
            badge: 2,
            signal_bit: 1,
            vaddr: 0x10_0000_0000,
            len: 0x3000,
            aux: 0x1000,
            ..entry("block", kind::CLIENT)
        };
        writer.push(block).unwrap();
        writer.push(Entry { badge: 1, signal: 11, signal_bit: 2, ..entry("db", kind::SERVER) }).unwrap();
        writer.push(Entry { vaddr: 0x10_0001_0000, len: 0x200, aux: 0xa00_3e00, ..entry("mmio", kind::MMIO) }).unwrap();
        writer.push(Entry { cptr: 12, signal_bit: 3, ..entry("irq", kind::IRQ) }).unwrap();
        let env = Env::check(leak(&writer)).unwrap();

        assert_eq!((env.name(), env.source_id()), ("file", 3));
        let block = env.channel("block").unwrap();
        assert_eq!((block.role, block.call.unwrap().0, block.mask()), (Role::Client, 9, 2));
        assert_eq!(block.ring.unwrap().len, 0x1000);
        let buffer = block.buffer.unwrap();
        assert_eq!((buffer.ptr as usize, buffer.len), (0x10_0000_1000, 0x2000));
        let clients: Vec<_> = env.clients().map(|c| (c.peer, c.badge)).collect();
        assert_eq!(clients, [("db", 1)]);
        assert!(env.client_by_badge(1).unwrap().call.is_none());
        assert_eq!(env.device("mmio").unwrap().paddr, 0xa00_3e00);
        assert_eq!(env.irq().unwrap().mask(), 8);
        assert_eq!(env.reply(3).map(|c| c.0), Some(23));
        assert_eq!(env.reply(4), None);
        assert_eq!(env.channel("socket").unwrap_err(), EnvError::NoChannel);
        assert_eq!(env.dma().unwrap_err(), EnvError::NoDevice);
    }

    #[test]
    fn broken_pages_are_refused() {
        let zero: &'static [u8; SIZE] = Box::leak(Box::new([0; SIZE]));
        assert!(Env::check(zero).is_err());

        let mut writer = Writer::new(header());
        // A ring longer than the region.
        let bad = Entry { cptr: 9, signal_bit: 1, vaddr: 4096, len: 10, aux: 11, ..entry("x", kind::CLIENT) };
        writer.push(bad).unwrap();
        assert_eq!(Env::check(leak(&writer)).unwrap_err(), EnvError::BadEntry(0));

        let mut writer = Writer::new(header());
        let mut bad = Entry { cptr: 9, signal_bit: 1, ..entry("x", kind::CLIENT) };
        bad.name[0] = 0xff;
        writer.push(bad).unwrap();
        assert_eq!(Env::check(leak(&writer)).unwrap_err(), EnvError::BadEntry(0));
    }

    #[test]
    fn the_table_is_bounded() {
        let mut writer = Writer::new(header());
        let entry = Entry { cptr: 1, signal_bit: 0, ..entry("irq", kind::IRQ) };
        for _ in 0..MAX_ENTRIES {
            writer.push(entry).unwrap();
        }
        assert_eq!(writer.push(entry), Err(Full));
        assert!(Env::check(leak(&writer)).is_ok());
    }
}
