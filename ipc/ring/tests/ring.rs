//! The ring against a queue model, a restarting peer, a hostile peer, and a real second thread.

use ipc_ring::{Duplex, MIN_REGION, PopError, PushError, Side};
use std::collections::VecDeque;
use std::ptr::NonNull;

/// Zeroed, aligned memory that outlives the rings in it.
struct Memory(Vec<u64>);

impl Memory {
    fn new(bytes: usize) -> Memory {
        Memory(vec![0; bytes / 8])
    }

    fn base(&mut self) -> NonNull<u8> {
        NonNull::new(self.0.as_mut_ptr().cast()).unwrap()
    }

    fn attach(&mut self, side: Side) -> Duplex<'static> {
        let (base, len) = (self.base(), self.0.len() * 8);
        // SAFETY: every test keeps its `Memory` until its rings are gone and attaches each side once at a time.
        unsafe { Duplex::attach(base, len, side).unwrap() }
    }

    fn word(&mut self, index: usize) -> *mut u32 {
        self.base().as_ptr().cast::<u32>().wrapping_add(index)
    }
}

fn rng(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn behaves_like_a_queue() {
    let mut memory = Memory::new(4096);
    let (mut c, mut s) = (memory.attach(Side::Client), memory.attach(Side::Server));
    let mut model = VecDeque::new();
    let mut seed = 42;
    let mut buffer = [0; 4096];
    let (mut pushed, mut full) = (0, 0);
    for step in 0..200_000u32 {
        if rng(&mut seed).is_multiple_of(2) {
            let record: Vec<u8> = (0..rng(&mut seed) as usize % 300).map(|i| (i as u32 + step) as u8).collect();
            let cut = record.len() / 3;
            match c.tx.push(&[&record[..cut], &record[cut..]]) {
                Ok(()) => (pushed += 1, model.push_back(record)).0,
                Err(PushError::Full) => full += 1,
                Err(e) => panic!("{e:?}"),
            }
        } else {
            assert_eq!(s.rx.next_len(), model.front().map(Vec::len));
            match s.rx.pop(&mut buffer) {
                None => assert!(model.is_empty()),
                Some(n) => assert_eq!(buffer[..n.unwrap()], model.pop_front().unwrap()[..]),
            }
        }
    }
    assert!(pushed > 50_000 && full > 1000, "{pushed} pushed, {full} refused");
}

#[test]
fn a_record_that_can_never_fit_is_told_so() {
    let mut memory = Memory::new(MIN_REGION);
    let mut c = memory.attach(Side::Client);
    let max = c.tx.max_record();
    assert_eq!(c.tx.push(&[&vec![0; max + 1]]), Err(PushError::TooLong));
    assert_eq!(c.tx.push(&[&vec![0; max]]), Ok(()));
}

#[test]
fn a_small_buffer_costs_that_record_only() {
    let mut memory = Memory::new(4096);
    let (mut c, mut s) = (memory.attach(Side::Client), memory.attach(Side::Server));
    c.tx.push(&[&[1; 100]]).unwrap();
    c.tx.push(&[&[2; 10]]).unwrap();
    let mut small = [0; 20];
    assert_eq!(s.rx.pop(&mut small), Some(Err(PopError::BufferTooSmall(100))));
    assert_eq!(s.rx.pop(&mut small), Some(Ok(10)));
    assert_eq!(small[..10], [2; 10]);
}

#[test]
fn a_restarted_peer_is_noticed_and_goes_on() {
    let mut memory = Memory::new(4096);
    let (mut c, _predecessor) = (memory.attach(Side::Client), memory.attach(Side::Server));
    c.tx.push(&[b"lost"]).unwrap();
    let before = c.peer_generation();
    let mut s = memory.attach(Side::Server);
    assert_ne!(c.peer_generation(), before);
    assert_eq!(s.rx.pop(&mut [0; 64]), None, "the predecessor's unread records are dropped");
    c.tx.push(&[b"again"]).unwrap();
    let mut buffer = [0; 64];
    assert_eq!(s.rx.pop(&mut buffer), Some(Ok(5)));
    s.tx.push(&[b"answer"]).unwrap();
    assert_eq!(c.rx.pop(&mut buffer), Some(Ok(6)));
}

#[test]
fn the_first_consumer_finds_what_was_sent_before_it_came() {
    let mut memory = Memory::new(4096);
    let mut c = memory.attach(Side::Client);
    c.tx.push(&[b"early"]).unwrap();
    let mut s = memory.attach(Side::Server);
    let mut buffer = [0; 16];
    assert_eq!(s.rx.pop(&mut buffer), Some(Ok(5)));
    assert_eq!(&buffer[..5], b"early");
    assert!(s.rx.is_empty());
}

#[test]
fn a_hostile_peer_loses_only_its_own_records() {
    let mut seed = 7;
    let mut corrupt = 0;
    for _ in 0..20_000 {
        let mut memory = Memory::new(2048);
        let (mut c, mut s) = (memory.attach(Side::Client), memory.attach(Side::Server));
        for _ in 0..3 {
            c.tx.push(&[&[9; 40]]).unwrap();
        }
        for _ in 0..1 + rng(&mut seed) % 4 {
            let at = rng(&mut seed) as usize % (1024 / 4);
            let value = [0, 1, 7, 8, 0x7fff_ffff, u32::MAX, rng(&mut seed) as u32][rng(&mut seed) as usize % 7];
            // The consumer's own fields (words 16..32) are the consumer's; a peer that writes them hurts the same ring only.
            // SAFETY: inside the memory.
            unsafe { memory.word(at).write_volatile(value) };
        }
        let mut buffer = [0; 2048];
        for _ in 0..64 {
            match s.rx.pop(&mut buffer) {
                None => break,
                Some(Ok(n)) => assert!(n <= 2048),
                Some(Err(_)) => corrupt += 1,
            }
        }
        // Afterwards the other direction is untouched.
        s.tx.push(&[b"fine"]).unwrap();
        assert_eq!(c.rx.pop(&mut buffer), Some(Ok(4)));
    }
    assert!(corrupt > 1000, "the damage was seen ({corrupt})");
}

#[test]
fn signals_are_asked_for_only_by_a_sleeper() {
    let mut memory = Memory::new(4096);
    let (mut c, mut s) = (memory.attach(Side::Client), memory.attach(Side::Server));
    assert!(c.tx.wants_signal());
    s.rx.wake();
    c.tx.push(&[b"x"]).unwrap();
    assert!(!c.tx.wants_signal());
    assert!(!s.rx.sleep(), "a record is waiting");
    s.rx.pop(&mut [0; 8]).unwrap().unwrap();
    assert!(s.rx.sleep());
    assert!(c.tx.wants_signal());
    while c.tx.push(&[&[0; 500]]).is_ok() {}
    assert!(s.rx.space_wanted());
    assert!(!s.rx.space_wanted());
}

#[test]
fn two_threads_exchange_every_record_in_order() {
    let mut memory = Memory::new(8192);
    let (mut c, mut s) = (memory.attach(Side::Client), memory.attach(Side::Server));
    const COUNT: u64 = 200_000;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for i in 0..COUNT {
                let record = vec![i as u8; 8 + (i % 90) as usize];
                while c.tx.push(&[&i.to_le_bytes(), &record]) == Err(PushError::Full) {
                    std::thread::yield_now();
                }
            }
        });
        let mut buffer = [0; 256];
        let mut next = 0u64;
        while next < COUNT {
            match s.rx.pop(&mut buffer) {
                None => std::thread::yield_now(),
                Some(n) => {
                    let n = n.unwrap();
                    assert_eq!(buffer[..8], next.to_le_bytes());
                    assert_eq!(n, 16 + (next % 90) as usize);
                    assert!(buffer[8..n].iter().all(|b| *b == next as u8));
                    next += 1;
                }
            }
        }
    });
}
