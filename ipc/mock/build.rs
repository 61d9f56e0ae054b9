//! Compiles the compiler's sample interfaces, for this crate's tests.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let output = std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    let (from, to) = (Path::new("../idlc/tests/samples"), Path::new(&output).join("samples.rs"));
    match idlc::build(from, &to, idlc::Options::default()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
