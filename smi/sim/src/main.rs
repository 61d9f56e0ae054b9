//! `cargo run -p smi-sim -- --seeds N`: the simulator's command line without `xtask`.
fn main() -> std::process::ExitCode {
    smi_sim::run_cli(std::env::args_os().skip(1))
}
