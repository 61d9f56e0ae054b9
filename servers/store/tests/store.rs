//! The store against the reference model: contents, errors, space, damage, and crashes.

mod common;

use common::{Disk, Model, Rig, Rng, Survives, apply_all};
use smi_cluster::Vid;
use smi_store::layout::{BLOCK, Layout};
use smi_store::{Attr, Event, IoKind, Mutation, OpenError, Recovery, Store, StoreError};

const A: Vid = Vid(0xa);
const B: Vid = Vid(0xb);

fn create(vid: Vid) -> Mutation {
    Mutation::Ensure { vid, attr: Attr::default() }
}

fn write(vid: Vid, offset: u64, bytes: &[u8]) -> Mutation {
    Mutation::Write { vid, offset, bytes: bytes.to_vec() }
}

fn random_op(rng: &mut Rng) -> Mutation {
    let vid = Vid(rng.below(4) as u128);
    match rng.below(12) {
        0 | 1 if rng.below(2) == 0 => create(vid),
        0 | 1 => Mutation::Delete { vid },
        2 | 3 => Mutation::SetLen { vid, len: rng.below(20_000) },
        4 => Mutation::SetAttr { vid, attr: Attr { group: rng.below(9) as u32, ..Attr::default() } },
        _ => {
            let fill = rng.next() as u8;
            let len = [1, 100, BLOCK as u64, 9000][rng.below(4) as usize];
            write(vid, rng.below(20_000), &vec![fill; len as usize])
        }
    }
}

#[test]
fn random_commits_match_the_model_across_reopening_and_checkpoints() {
    let mut rng = Rng(1);
    let mut rig = Rig::open(Disk::new(400));
    let mut model = Model::new();
    let (mut good, mut refused) = (0, 0);
    for round in 0..3000u64 {
        let ops: Vec<_> = (0..1 + rng.below(3)).map(|_| random_op(&mut rng)).collect();
        let expected = apply_all(&model, &ops);
        let result = rig.commit(round, ops);
        match expected {
            Some(after) => {
                assert_eq!(result, Ok(()), "round {round}");
                model = after;
                good += 1;
            }
            None => {
                assert_eq!(result, Err(StoreError::NotFound), "round {round}");
                refused += 1;
            }
        }
        if round % 50 == 0 {
            rig = Rig::open(rig.disk);
            assert_eq!(rig.contents(), model, "round {round}");
        }
    }
    assert!(good > 1000 && refused > 300, "{good} done, {refused} refused");
}

#[test]
fn a_full_disk_refuses_and_loses_nothing() {
    let mut rig = Rig::open(Disk::new(256));
    rig.commit(0, vec![create(A), create(B)]).unwrap();
    let piece = vec![7; 10 * BLOCK];
    let mut written = 0;
    let full = loop {
        match rig.commit(1, vec![write(A, written, &piece)]) {
            Ok(()) => written += piece.len() as u64,
            Err(error) => break error,
        }
    };
    assert_eq!(full, StoreError::NoSpace);
    let layout = Layout::new(256).unwrap();
    assert!(written as usize / BLOCK + 20 > layout.data_blocks as usize, "{written} bytes fit");
    assert_eq!(rig.read(A, written - 5, 100), Ok(vec![7; 5]));
    // Deleting makes room again.
    rig.commit(2, vec![Mutation::Delete { vid: A }]).unwrap();
    rig.commit(3, vec![write(B, 0, &piece)]).unwrap();
    let mut rig = Rig::open(rig.disk);
    assert_eq!(rig.contents(), Model::from([(B, piece)]));
}

#[test]
fn damaged_data_are_reported_never_returned() {
    let mut rig = Rig::open(Disk::new(256));
    rig.commit(0, vec![create(A), write(A, 0, &[5; 3 * BLOCK])]).unwrap();
    let layout = Layout::new(256).unwrap();
    // A checkpoint's worth of commits later the record is no longer the last, so recovery does not drop it.
    rig.commit(1, vec![create(B)]).unwrap();
    rig.disk.durable[(layout.data_first as usize + 1) * BLOCK + 17] ^= 1;
    let mut rig = Rig::open(rig.disk);
    assert_eq!(rig.read(A, 0, 10), Ok(vec![5; 10]));
    assert_eq!(rig.read(A, BLOCK as u64, 10), Err(StoreError::Corrupt));
    assert_eq!(rig.commit(2, vec![write(A, BLOCK as u64 + 1, b"part")]), Err(StoreError::Corrupt));
    assert_eq!(rig.commit(3, vec![write(A, BLOCK as u64, &[6; BLOCK])]), Ok(()), "a whole new block repairs");
    assert_eq!(rig.read(A, BLOCK as u64, 10), Ok(vec![6; 10]));
}

#[test]
fn a_device_error_fails_everything_after_it() {
    let mut rig = Rig::open(Disk::new(256));
    rig.commit(0, vec![create(A)]).unwrap();
    rig.step(Event::Commit { token: 1, ops: vec![write(A, 0, b"x")] });
    let (id, kind) = rig.pending.pop_front().unwrap();
    assert!(matches!(kind, IoKind::Write { .. }));
    rig.step(Event::Io { id, result: Err(()) });
    assert_eq!(rig.done.last(), Some(&(1, Err(StoreError::Device))));
    rig.settle();
    assert!(rig.store.is_dead());
    assert_eq!(rig.commit(2, vec![create(B)]), Err(StoreError::Device));
}

#[test]
fn limits_are_refusals() {
    let mut rig = Rig::open(Disk::new(256));
    rig.commit(0, vec![create(A)]).unwrap();
    assert_eq!(rig.commit(1, vec![write(A, u64::MAX - 2, b"over")]), Err(StoreError::TooLarge));
    assert_eq!(rig.commit(2, vec![Mutation::SetLen { vid: A, len: u64::MAX }]), Err(StoreError::TooLarge));
    assert_eq!(rig.commit(3, vec![write(A, 0, &vec![0; (1 << 20) + 1])]), Err(StoreError::TooLarge));
    assert_eq!(rig.commit(4, vec![create(B), write(Vid(7), 0, b"x")]), Err(StoreError::NotFound));
    assert_eq!(rig.store.info(B), None, "all or none");
    assert_eq!(rig.read(B, 0, 1), Err(StoreError::NotFound));
    assert_eq!(rig.read(A, 0, u32::MAX), Err(StoreError::TooLarge));
}

#[test]
fn a_zone_that_is_no_store_is_refused() {
    let open = |mut disk: Disk| Recovery::open(disk.blocks(), &mut disk).err();
    assert_eq!(open(Disk::new(100)), Some(OpenError::TooSmall));
    let mut noise = Disk::new(256);
    noise.durable.fill(0x5a);
    assert_eq!(open(noise), Some(OpenError::NoSuperblock));
    let mut rig = Rig::open(Disk::new(300));
    rig.commit(0, vec![create(A)]).unwrap();
    let mut short = rig.disk.clone();
    short.durable.truncate(280 * BLOCK);
    assert_eq!(open(short), Some(OpenError::Truncated));
    let mut broken = rig.disk.clone();
    broken.durable[2 * BLOCK] ^= 1;
    broken.durable[(2 + Layout::new(300).unwrap().area_blocks as usize) * BLOCK] ^= 1;
    assert_eq!(open(broken), Some(OpenError::Checkpoint));
}

#[test]
fn recovery_of_random_bytes_never_panics() {
    let mut rng = Rng(3);
    let mut rig = Rig::open(Disk::new(256));
    rig.commit(0, vec![create(A), write(A, 0, &[1; 10_000])]).unwrap();
    rig.commit(1, vec![create(B), write(B, 5, &[2; 5000])]).unwrap();
    let used: Vec<usize> =
        (0..256).filter(|b| rig.disk.durable[b * BLOCK..][..BLOCK].iter().any(|x| *x != 0)).collect();
    for _ in 0..3000 {
        let mut disk = rig.disk.clone();
        for _ in 0..1 + rng.below(5) {
            let block = used[rng.below(used.len() as u64) as usize];
            disk.durable[block * BLOCK + rng.below(200) as usize] = rng.next() as u8;
        }
        if let Ok(recovery) = Recovery::open(256, &mut disk) {
            let _ = Store::new(recovery).objects().count();
        }
    }
}

/// Runs `commits` one after the other (each issued once the one before was acknowledged, or all at once) and, after every single
/// I/O, tries every combination of survival that `survivals` allows. Returns how many crashes were tried.
fn crash_everywhere(start: &Disk, commits: &[Vec<Mutation>], at_once: bool, survivals: &[Survives]) -> u64 {
    let mut rig = Rig::open(start.clone());
    let before = rig.contents();
    let mut states = vec![before];
    for ops in commits {
        let last = states.last().unwrap();
        states.push(apply_all(last, ops).unwrap_or_else(|| last.clone()));
    }
    let mut crashes = 0;
    let mut issued = 0;
    loop {
        while issued < commits.len() && (at_once || rig.done.len() == issued) {
            rig.step(Event::Commit { token: issued as u64, ops: commits[issued].clone() });
            issued += 1;
        }
        crashes += crash_here(&rig, &states, issued, survivals);
        if rig.pending.is_empty() {
            break;
        }
        rig.io(0);
    }
    assert_eq!(rig.done.len(), commits.len());
    crashes
}

/// Up to which commit the store has said that it is durable. (A refusal changes nothing, and may be said earlier.)
fn acknowledged(done: &[(u64, Result<(), StoreError>)]) -> usize {
    done.iter().filter(|d| d.1.is_ok()).map(|d| d.0 as usize + 1).max().unwrap_or(0)
}

fn crash_here(rig: &Rig, states: &[Model], issued: usize, survivals: &[Survives]) -> u64 {
    let acknowledged = acknowledged(&rig.done);
    let writes = rig.disk.cached.len() as u32;
    // Every combination for few cached writes, a spread of them for many.
    let combinations = (survivals.len() as u64).saturating_pow(writes);
    let step = (combinations / 512).max(1);
    let mut code = 0;
    let mut crashes = 0;
    while code < combinations {
        let mut digits = code;
        let after = rig.disk.crash(|_| {
            let survives = survivals[(digits % survivals.len() as u64) as usize];
            digits /= survivals.len() as u64;
            survives
        });
        let mut reopened = Rig::open(after);
        let found = reopened.contents();
        assert!(
            states[acknowledged..=issued].contains(&found),
            "after {acknowledged} acknowledged of {issued} issued, combination {code}"
        );
        // And the store goes on.
        reopened.commit(99, vec![create(Vid(0x99)), write(Vid(0x99), 1, b"goes on")]).unwrap();
        let mut again = Rig::open(reopened.disk);
        assert_eq!(again.read(Vid(0x99), 0, 10), Ok(b"\0goes on".to_vec()));
        crashes += 1;
        code += step;
    }
    crashes
}

/// A small set of different things that a user may do.
fn alphabet() -> Vec<Vec<Mutation>> {
    vec![
        vec![create(A)],
        vec![write(A, 10, b"hello")],
        vec![write(A, 4000, &[3; 300])],
        vec![Mutation::SetLen { vid: A, len: 100 }],
        vec![create(B), write(B, 0, &[4; BLOCK]), Mutation::Delete { vid: A }],
        vec![Mutation::Delete { vid: A }],
    ]
}

#[test]
fn every_crash_of_every_sequence_of_up_to_three_commits_recovers() {
    let survivals = [Survives::Nothing, Survives::All];
    let mut crashes = 0;
    let alphabet = alphabet();
    let mut formatted = Rig::open(Disk::new(256));
    formatted.commit(0, vec![create(A), write(A, 0, &[9; 5000])]).unwrap();
    let starts = [Disk::new(256), formatted.disk];
    for start in &starts {
        for a in &alphabet {
            for b in &alphabet {
                for c in &alphabet {
                    crashes += crash_everywhere(start, &[a.clone(), b.clone(), c.clone()], false, &survivals);
                }
            }
        }
    }
    assert!(crashes > 6_000, "{crashes} crashes");
}

#[test]
fn torn_blocks_recover() {
    let survivals = [Survives::Nothing, Survives::All, Survives::Head(1), Survives::Tail(1), Survives::Head(7)];
    let mut crashes = 0;
    let alphabet = alphabet();
    for a in &alphabet {
        for b in &alphabet {
            crashes += crash_everywhere(&Disk::new(256), &[vec![create(A)], a.clone(), b.clone()], true, &survivals);
        }
    }
    assert!(crashes > 2_000, "{crashes} crashes");
}

/// Long random runs with I/O done in any order, crashing at random moments, many times on one disk.
#[test]
fn seeds_of_random_crashes_recover() {
    for seed in 0..60 {
        let mut rng = Rng(seed);
        let mut disk = Disk::new(300);
        let mut floor = Model::new();
        for _ in 0..20 {
            let mut rig = Rig::open(disk);
            let mut states = vec![floor.clone()];
            for round in 0..rng.below(40) {
                let ops: Vec<_> = (0..1 + rng.below(3)).map(|_| random_op(&mut rng)).collect();
                let last = states.last().unwrap();
                states.push(apply_all(last, &ops).unwrap_or_else(|| last.clone()));
                rig.step(Event::Commit { token: round, ops });
                for _ in 0..rng.below(8) {
                    if !rig.pending.is_empty() {
                        rig.io(rng.below(rig.pending.len() as u64) as usize);
                    }
                }
            }
            let acknowledged = acknowledged(&rig.done);
            disk = rig.disk.crash(|_| match rng.below(4) {
                0 => Survives::Nothing,
                1 => Survives::Head(rng.below(8) as usize),
                _ => Survives::All,
            });
            let found = Rig::open(disk.clone()).contents();
            assert!(states[acknowledged..].contains(&found), "seed {seed}");
            floor = found;
        }
    }
}

/// The checker sees a store that acknowledges before its flush: a disk whose flushes do nothing is just that.
#[test]
fn the_crash_checker_catches_a_lost_flush() {
    let mut rig = Rig::open(Disk::new(256));
    rig.commit(0, vec![create(A)]).unwrap();
    rig.step(Event::Commit { token: 1, ops: vec![write(A, 0, b"acknowledged")] });
    while let Some((id, kind)) = rig.pending.pop_front() {
        if let IoKind::Write { block, bytes } = kind {
            rig.disk.write(block, &bytes);
        }
        rig.step(Event::Io { id, result: Ok(Vec::new()) });
    }
    assert_eq!(rig.done.last(), Some(&(1, Ok(()))));
    let lost = Rig::open(rig.disk.crash(|_| Survives::Nothing)).contents();
    assert_ne!(lost.get(&A).map(Vec::as_slice), Some(&b"acknowledged"[..]));
}
