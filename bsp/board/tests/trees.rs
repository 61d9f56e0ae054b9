//! Real device trees (made by `qemu-system-aarch64 -M virt,gic-version=N,dumpdtb=F -m 256M`, packed with `dtc`) are
//! understood; thousands of broken ones are refused or understood, but never make the reader panic or hang.

use bsp_board::{Blob, BlobError, Board, BoardError, Gic, PsciMethod, Region, StartMethod, UartKind};

const GIC2: &[u8] = include_bytes!("data/virt-gic2.dtb");
const GIC3: &[u8] = include_bytes!("data/virt-gic3.dtb");
const SPIN_TABLE: &[u8] = include_bytes!("data/spin-table.dtb");

fn region(start: u64, size: u64) -> Region {
    Region::from_size(start, size).unwrap()
}

#[test]
fn reads_a_gicv2_machine() {
    let blob = Blob::new(GIC2).unwrap();
    let board = Board::from_blob(&blob).unwrap();
    assert_eq!(board.model, "linux,dummy-virt");
    assert!(board.memory.iter().eq([region(0x4000_0000, 0x1000_0000)]));
    assert!(board.reserved.is_empty());
    assert_eq!(
        board.gic,
        Gic::V2 { distributor: region(0x800_0000, 0x1_0000), cpu_interface: region(0x801_0000, 0x1_0000) }
    );
    assert_eq!(board.virtual_timer_irq, 27);
    assert_eq!(board.psci, Some(PsciMethod::Hvc));
    let uart = board.uart.unwrap();
    assert_eq!((uart.registers, uart.irq), (region(0x900_0000, 0x1000), Some(33)));
    assert_eq!(board.virtio.len(), 32);
    assert!(board.virtio.iter().any(|v| (v.registers, v.irq) == (region(0xa00_3e00, 0x200), 79)));
    assert_eq!(board.cpus.len(), 1);
    assert_eq!(board.initrd, None);
}

#[test]
fn reads_a_gicv3_machine_with_four_cores() {
    let board = Board::from_blob(&Blob::new(GIC3).unwrap()).unwrap();
    let Gic::V3 { distributor, redistributors } = board.gic else { panic!("not a GICv3: {:?}", board.gic) };
    assert_eq!(distributor, region(0x800_0000, 0x1_0000));
    assert_eq!(redistributors[0], Some(region(0x80a_0000, 0xf6_0000)));
    assert!(board.cpus.iter().map(|c| (c.mpidr, c.start)).eq((0..4).map(|n| (n, StartMethod::Psci))));
}

#[test]
fn translates_bus_addresses_and_finds_spin_tables() {
    let board = Board::from_blob(&Blob::new(SPIN_TABLE).unwrap()).unwrap();
    assert!(board.memory.iter().eq([region(0, 0x3c00_0000), region(0x4000_0000, 0x4000_0000)]));
    assert!(board.reserved.iter().eq([region(0, 0x1000), region(0x100_0000, 0x2000)]));
    assert_eq!(
        board.gic,
        Gic::V2 { distributor: region(0xff84_1000, 0x1000), cpu_interface: region(0xff84_2000, 0x2000) }
    );
    // The console's path names a port of another kind: the first that can be driven it is.
    let uart = board.uart.unwrap();
    assert_eq!((uart.kind, uart.registers.start, uart.irq), (UartKind::Pl011, 0xfe20_1000, Some(153)));
    assert_eq!(board.psci, None);
    let starts = [0xd8, 0xe0, 0xe8, 0xf0].map(StartMethod::SpinTable);
    assert!(board.cpus.iter().map(|c| c.start).eq(starts));
}

#[test]
fn names_what_is_wrong() {
    assert_eq!(Blob::new(&[]).unwrap_err(), BlobError::Size);
    assert_eq!(Blob::new(&[0; 64]).unwrap_err(), BlobError::Magic);
    assert_eq!(Blob::new(&GIC2[..GIC2.len() - 1]).unwrap_err(), BlobError::Size);
    let without_memory = replaced(GIC2, b"memory\0", b"nemory\0");
    assert_eq!(Board::from_blob(&Blob::new(&without_memory).unwrap()).unwrap_err(), BoardError::NoMemory);
    let without_gic = replaced(GIC2, b"arm,cortex-a15-gic", b"arm,cortex-b15-gic");
    assert_eq!(Board::from_blob(&Blob::new(&without_gic).unwrap()).unwrap_err(), BoardError::NoInterruptController);
}

fn replaced(blob: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = blob.to_vec();
    let mut hits = 0;
    for at in 0..bytes.len() - from.len() {
        if &bytes[at..at + from.len()] == from {
            bytes[at..at + to.len()].copy_from_slice(to);
            hits += 1;
        }
    }
    assert!(hits > 0);
    bytes
}

/// A small generator with a fixed seed (xorshift64*), so that a failing case is the same everywhere.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// One to four changed bytes or words, some of them in the header or at the start of the structure block.
fn mutate(rng: &mut Rng, bytes: &mut [u8]) {
    const NASTY: [u32; 8] = [0, 1, 2, 3, 9, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];
    for _ in 0..1 + rng.below(4) {
        let at = if rng.below(8) == 0 { rng.below(120) } else { rng.below(bytes.len()) };
        match rng.below(3) {
            0 => bytes[at] = rng.next() as u8,
            1 => bytes[at] ^= 1 << rng.below(8),
            _ => {
                let at = (at & !3).min(bytes.len() - 4);
                bytes[at..at + 4].copy_from_slice(&NASTY[rng.below(NASTY.len())].to_be_bytes());
            }
        }
    }
}

fn fuzz(original: &[u8], rounds: usize) -> [usize; 3] {
    let mut rng = Rng(0x5eed_0001);
    let mut outcomes = [0; 3];
    for _ in 0..rounds {
        let mut bytes = original.to_vec();
        mutate(&mut rng, &mut bytes);
        let outcome = match Blob::new(&bytes) {
            Err(_) => 0,
            Ok(blob) => {
                assert!(blob.used_size() <= bytes.len());
                match Board::from_blob(&blob) {
                    Err(_) => 1,
                    Ok(board) => {
                        assert!(board.memory.iter().all(|r| r.start < r.end));
                        2
                    }
                }
            }
        };
        outcomes[outcome] += 1;
    }
    outcomes
}

#[test]
fn survives_ten_thousand_mutations() {
    for original in [GIC2, GIC3, SPIN_TABLE] {
        let outcomes = fuzz(original, 10_000);
        // Each kind of outcome must occur, or the mutations do not test what they claim to.
        assert!(outcomes.iter().all(|&n| n > 50), "{outcomes:?}");
    }
}

#[test]
fn survives_truncation_everywhere() {
    for len in 0..GIC2.len() {
        assert!(Blob::new(&GIC2[..len]).is_err(), "a blob cut to {len} bytes was accepted");
    }
}
