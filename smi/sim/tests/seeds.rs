//! The simulator on the core as it is, and on the core with one planted bug at a time: the oracles must stay silent, and must not.

use smi_core::plant::Plant;
use smi_sim::campaign::{Setup, run};

/// Virtual time with faults in each seed, ns.
const DURATION: u64 = 60_000_000_000;

/// Planted bugs, each with the number of seeds (from 1) within which an oracle has been seen to catch it.
const CAUGHT: [(&str, u64); 11] = [
    ("ack-before-durable", 10),
    ("skip-epoch-bump", 10),
    ("double-apply", 10),
    ("vote-from-amnesia", 10),
    ("commit-without-quorum", 20),
    ("lease-forever", 10),
    ("resume-primary", 20),
    ("never-refill", 10),
    ("unbounded-queue", 20),
    ("checkpoint-early", 30),
    ("worst-log", 10),
];

fn violated(seed: u64, plant: Option<Plant>) -> bool {
    run(Setup { seed, nodes: 0, duration: DURATION, plant, trace: false }).is_err()
}

#[test]
fn seeds_hold() {
    for seed in 1..=30 {
        if let Err(violation) = run(Setup { seed, nodes: 0, duration: DURATION, plant: None, trace: false }) {
            panic!("seed {seed}: {violation:?}");
        }
    }
}

#[test]
fn planted_bugs_are_caught() {
    // A violated assertion is one way of catching; it need not be printed.
    std::panic::set_hook(Box::new(|_| {}));
    let missed: Vec<&str> = CAUGHT
        .iter()
        .filter(|(name, seeds)| {
            let plant = Plant::named(name).unwrap_or_else(|| panic!("no planted bug is called {name}"));
            !(1..=*seeds).any(|seed| violated(seed, Some(plant)))
        })
        .map(|(name, _)| *name)
        .collect();
    let _ = std::panic::take_hook();
    assert!(missed.is_empty(), "not caught: {missed:?}");
}

#[test]
fn a_seed_replays_exactly() {
    let one = || run(Setup { seed: 5, nodes: 0, duration: DURATION, plant: None, trace: false }).ok();
    assert!(one().is_some() && one() == one());
}
