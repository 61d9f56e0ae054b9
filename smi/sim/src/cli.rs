//! The command line, as used by `cargo xtask sim`.

use crate::campaign::{Report, Setup, Violation, run};
use crate::engine::SEC;
use clap::Parser;
use smi_core::plant::Plant;
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Instant;

/// Arguments.
#[derive(Parser, Clone, Debug)]
#[command(name = "sim", about = "Simulates whole clusters under faults, one seed after another.")]
struct Args {
    /// How many seeds.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Run this seed only.
    #[arg(long)]
    seed: Option<u64>,
    /// Nodes in the cluster (1 to 64); by default each seed chooses.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=64))]
    nodes: u16,
    /// Virtual minutes with faults, for each seed.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// Print everything that happens.
    #[arg(long)]
    trace: bool,
    /// Switch a planted bug on; it must be found. `list` names them.
    #[arg(long)]
    plant: Option<String>,
}

/// Runs the command. `args` without the program's name. Success: no seed fails, or, with a planted bug, one does.
pub fn run_cli(args: impl IntoIterator<Item = impl Into<OsString>>) -> ExitCode {
    let with_name = std::iter::once(OsString::from("sim")).chain(args.into_iter().map(Into::into));
    let args = match Args::try_parse_from(with_name) {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    if args.plant.as_deref() == Some("list") {
        Plant::ALL.iter().for_each(|(name, _)| println!("{name}"));
        return ExitCode::SUCCESS;
    }
    let plant = match args.plant.as_deref().map(|name| Plant::named(name).ok_or(name)).transpose() {
        Ok(plant) => plant,
        Err(name) => {
            eprintln!("no planted bug is called '{name}'; try --plant list");
            return ExitCode::from(2);
        }
    };
    let found = search(&args, plant);
    if found.is_some() == plant.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the seeds until one fails.
fn search(args: &Args, plant: Option<Plant>) -> Option<Violation> {
    let start = Instant::now();
    let seeds = args.seed.map_or(args.from..args.from.saturating_add(args.seeds), |s| s..s + 1);
    let mut total = Total::default();
    // An assertion that fails is reported like any other violation, with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    let mut found = None;
    for seed in seeds {
        let duration = (args.minutes.max(0.01) * 60.0 * SEC as f64) as u64;
        match run(Setup { seed, nodes: args.nodes, duration, plant, trace: args.trace }) {
            Ok(report) => total.add(&report),
            Err(violation) => {
                found = Some(violation);
                break;
            }
        }
    }
    let _ = std::panic::take_hook();
    total.print(start.elapsed().as_secs_f64());
    if let Some(v) = &found {
        println!("seed {} failed after {:.6} s of virtual time: {}", v.seed, v.at as f64 / 1e9, v.what);
        let nodes = if args.nodes == 0 { String::new() } else { format!(" --nodes {}", args.nodes) };
        let plant = args.plant.as_ref().map_or(String::new(), |p| format!(" --plant {p}"));
        println!("replay: cargo xtask sim --seed {} --minutes {}{nodes}{plant} --trace", v.seed, args.minutes);
    }
    found
}

/// Sums over seeds.
#[derive(Default)]
struct Total {
    seeds: u64,
    sum: Report,
    worst_healing: u64,
}

impl Total {
    fn add(&mut self, r: &Report) {
        self.seeds += 1;
        let s = &mut self.sum;
        s.virtual_time += r.virtual_time;
        s.steps += r.steps;
        s.operations += r.operations;
        s.decided += r.decided;
        s.undecided += r.undecided;
        s.gave_up += r.gave_up;
        s.stats.views += r.stats.views;
        s.stats.checkpoints += r.stats.checkpoints;
        s.stats.installs += r.stats.installs;
        s.stats.recoveries += r.stats.recoveries;
        s.stats.refused += r.stats.refused;
        for (name, count) in &r.faults {
            *s.faults.entry(name).or_default() += count;
        }
        self.worst_healing = self.worst_healing.max(r.healing);
    }

    fn print(&self, seconds: f64) {
        let (s, hours) = (&self.sum, self.sum.virtual_time as f64 / 3600e9);
        println!("{} seeds passed: {hours:.2} virtual hours in {seconds:.1} s, {} steps", self.seeds, s.steps);
        println!(
            "operations: {} in the log, {} answered, {} without outcome; {} histories too long to decide",
            s.operations, s.decided, s.undecided, s.gave_up
        );
        println!(
            "views {}, checkpoints {}, snapshots taken over {}, recoveries {}, refused messages {}, slowest healing {:.1} s",
            s.stats.views,
            s.stats.checkpoints,
            s.stats.installs,
            s.stats.recoveries,
            s.stats.refused,
            self.worst_healing as f64 / 1e9
        );
        let faults: Vec<String> = s.faults.iter().map(|(name, count)| format!("{name} {count}")).collect();
        println!("faults: {}", faults.join(", "));
    }
}
