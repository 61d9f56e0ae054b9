//! PL011 driver and log multiplexer.
//!
//! Every server pushes its log records into its channel's ring; this one puts them on the serial line, one whole record
//! at a time, fairly in turn. A record is one of
//! * a defmt frame `00 FE <source id> <rzCOBS bytes, none zero> 00`, put on the line as it is. The first source id that a
//!   channel uses is the only one it may use, so nobody speaks in another's name;
//! * plain text (does not begin with 00), of which zero bytes and other controls than line ends and tabs are blanked.
//!
//! Anything else is dropped and counted. A full line holds the rings back, and clients drop and count what does not fit
//! there: nobody ever waits for the line. The kernel and panics write to the same line directly, as plain text.
//!
//! `uart` is the register block, [`Console`] the logic over it; the latter is tested against a line in software.
#![cfg_attr(not(test), no_std)]

mod output;
pub mod uart;

use ipc_ring::{Duplex, PopError};
use output::Fifo;
use uart::Uart;

/// Most clients.
pub const MAX_CLIENTS: usize = 40;
/// Longest record.
pub const MAX_RECORD: usize = 512;
/// Bytes waiting for the line.
const OUTPUT: usize = 16 * 1024;
/// Input bytes waiting for a reader.
const INPUT: usize = 1024;

/// Counts since the server was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes put on the line.
    pub sent: u64,
    /// Bytes received from it.
    pub received: u64,
    /// Received bytes dropped because nobody read them.
    pub dropped_receive: u64,
    /// Records put on the line.
    pub records: u64,
    /// Records dropped because they are none.
    pub refused: u64,
}

/// No more clients than [`MAX_CLIENTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyClients;

/// The line has no room for the text now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

struct Client<'a> {
    ring: Duplex<'a>,
    /// The source id that this client uses.
    source: Option<u8>,
}

/// The multiplexer.
pub struct Console<'a, U> {
    uart: U,
    output: Fifo<OUTPUT>,
    input: Fifo<INPUT>,
    clients: [Option<Client<'a>>; MAX_CLIENTS],
    /// Whose turn it is.
    next: usize,
    counts: Counts,
}

impl<'a, U: Uart> Console<'a, U> {
    /// Serves the line to nobody yet.
    pub fn new(uart: U) -> Self {
        let clients = [const { None }; MAX_CLIENTS];
        Self { uart, output: Fifo::new(), input: Fifo::new(), clients, next: 0, counts: Counts::default() }
    }

    /// Adds a client with its ring (attached as server). Returns its number.
    pub fn add_client(&mut self, ring: Duplex<'a>) -> Result<usize, TooManyClients> {
        let number = self.clients.iter().position(Option::is_none).ok_or(TooManyClients)?;
        self.clients[number] = Some(Client { ring, source: None });
        Ok(number)
    }

    /// Counts since the start.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The line.
    pub fn uart(&mut self) -> &mut U {
        &mut self.uart
    }

    /// Does all there is to do: input, records, output. Returns when every further step needs an interrupt of the line
    /// or a signal, which will come.
    pub fn run(&mut self) {
        loop {
            self.receive();
            while self.take_record() {}
            self.transmit();
            let full = !self.has_room();
            // While the output is full its interrupt will come, and clients need not signal.
            let asleep = full || self.clients.iter_mut().flatten().all(|client| client.ring.rx.sleep());
            let waiting = !self.output.is_empty();
            self.uart.want_room(waiting);
            if asleep && !(waiting && self.uart.has_room()) {
                return;
            }
        }
    }

    /// Puts a line of plain text in the queue, with its end.
    pub fn write_line(&mut self, text: &str) -> Result<(), Full> {
        if self.output.free() < text.len() + 2 {
            return Err(Full);
        }
        text.bytes().map(plain).chain(*b"\r\n").for_each(|byte| self.output.push(byte));
        Ok(())
    }

    /// Input bytes that have arrived, at most as many as fit `out`; 0 if there are none.
    pub fn read(&mut self, out: &mut [u8]) -> usize {
        let mut len = 0;
        while let Some(to) = out.get_mut(len)
            && let Some(byte) = self.input.pop()
        {
            *to = byte;
            len += 1;
        }
        len
    }

    /// Whether input is waiting.
    pub fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// From the line to the input queue.
    fn receive(&mut self) {
        // Bounded: a line that never falls silent must not keep us from the rest.
        for _ in 0..INPUT {
            let Some(byte) = self.uart.get() else { return };
            self.counts.received += 1;
            if self.input.free() == 0 {
                self.counts.dropped_receive += 1;
            } else {
                self.input.push(byte);
            }
        }
    }

    /// From the output queue to the line.
    fn transmit(&mut self) {
        while self.uart.has_room()
            && let Some(byte) = self.output.pop()
        {
            self.uart.put(byte);
            self.counts.sent += 1;
        }
    }

    /// Whether any record would fit the output queue.
    fn has_room(&self) -> bool {
        self.output.free() >= MAX_RECORD
    }

    /// Takes the next record of the client whose turn it is, or of the next that has one. False if there is none or no
    /// room for it.
    fn take_record(&mut self) -> bool {
        if !self.has_room() {
            return false;
        }
        for i in 0..MAX_CLIENTS {
            let number = (self.next + i) % MAX_CLIENTS;
            let Some(client) = &mut self.clients[number] else { continue };
            client.ring.rx.wake();
            let mut record = [0; MAX_RECORD];
            let Some(popped) = client.ring.rx.pop(&mut record) else { continue };
            self.next = (number + 1) % MAX_CLIENTS;
            let record = match popped {
                Ok(len) => &record[..len],
                Err(PopError::BufferTooSmall(_) | PopError::Corrupt) => &[],
            };
            self.put_record(number, record);
            return true;
        }
        false
    }

    fn put_record(&mut self, number: usize, record: &[u8]) {
        let Some(client) = &mut self.clients[number] else { return };
        match record {
            [0, 0xfe, source, body @ .., 0] if !body.contains(&0) && client.source.is_none_or(|own| own == *source) => {
                client.source = Some(*source);
                record.iter().for_each(|byte| self.output.push(*byte));
            }
            [first, ..] if *first != 0 => record.iter().for_each(|byte| self.output.push(plain(*byte))),
            _ => {
                self.counts.refused += 1;
                return;
            }
        }
        self.counts.records += 1;
    }
}

/// A byte of plain text: nothing that could be taken for a frame, or upset a terminal.
fn plain(byte: u8) -> u8 {
    match byte {
        b'\n' | b'\r' | b'\t' | 0x20..=0x7e | 0x80..=0xff => byte,
        _ => b' ',
    }
}
