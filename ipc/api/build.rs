//! Compiles `ipc/idl/*.idl`.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let output = std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    let options = idlc::Options { defmt: true };
    match idlc::build(Path::new("../idl"), &Path::new(&output).join("interfaces.rs"), options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
