//! Command line of the IDL compiler.
//!
//! ```text
//! idlc check|rust|markdown|lock [DIRECTORY]      DIRECTORY defaults to ipc/idl
//! ```
//! `lock` rewrites `interfaces.lock` in the directory, unless that would change what is released.

use std::path::Path;
use std::process::ExitCode;

use idlc::LockError;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let command = args.first().map_or("", String::as_str);
    let directory = args.get(1).map_or("ipc/idl", String::as_str);
    match run(command, Path::new(directory)) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &str, directory: &Path) -> Result<String, String> {
    const USAGE: &str = "usage: idlc check|rust|markdown|lock [DIRECTORY]";
    if !["check", "rust", "markdown", "lock"].contains(&command) {
        return Err(USAGE.into());
    }
    let sources = idlc::read_directory(directory).map_err(|error| error.to_string())?;
    let interfaces = idlc::check(&sources).map_err(|error| error.to_string())?;
    match command {
        "rust" => idlc::rust(&interfaces, idlc::Options::default()).map_err(|error| error.to_string()),
        "markdown" => Ok(idlc::markdown(&interfaces)),
        "lock" => lock(directory, &interfaces),
        _ => Ok(format!("{} interfaces, no mistakes\n", interfaces.len())),
    }
}

fn lock(directory: &Path, interfaces: &[idlc::Interface]) -> Result<String, String> {
    let path = directory.join("interfaces.lock");
    let locked = std::fs::read_to_string(&path).unwrap_or_default();
    let errors = idlc::check_lock(&locked, interfaces).err().unwrap_or_default();
    let broken: Vec<String> = errors
        .iter()
        .filter(|error| !matches!(error, LockError::NotLocked(_)))
        .map(|error| format!("{}: {error}", path.display()))
        .collect();
    if !broken.is_empty() {
        return Err(broken.join("\n"));
    }
    std::fs::write(&path, idlc::lock(interfaces)).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(format!("{}: {} new facts\n", path.display(), errors.len()))
}
