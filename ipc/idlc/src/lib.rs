//! IDL compiler: interface files to Rust stubs, server traits, dispatch and reference.
//!
//! `text -> lexer -> parser -> ast -> check -> model -> generate | markdown | lock`
//!
//! An interface file, with everything the language has:
//!
//! ```text
//! //! Sectors on a disk. Bulk data moves through the session's shared buffer.
//! interface block 1.0;
//!
//! /// Longest name of a disk.
//! const NAME_MAX: u32 = 16;
//! /// Size of a disk.
//! struct Geometry { sectors: u64, sector_size: u32, writable: bool, name: str<NAME_MAX> }
//! /// When a write counts as done.
//! enum Sync: u8 { Lazy = 0, Durable = 1 }
//! error { OutOfRange = 1, ReadOnly = 2, Media = 3 }
//!
//! /// Size and name.
//! @1 idempotent fn geometry() -> Result<Geometry>;
//! /// Reads `count` sectors from `lba` on into `data`.
//! @2 idempotent fn read(lba: u64, count: u32, data: out buffer) -> Result<u32>;
//! /// Writes `data` from `lba` on.
//! @3 fn write(lba: u64, sync: Sync, data: in buffer) -> Result<u32>;
//! /// A new capability to a window of this device.
//! @4 fn carve(first: u64, sectors: u64) -> Result<cap block>;
//! ```
//!
//! Types: `u8`..`u128`, `i8`..`i128`, `bool`, `str<N>`, `bytes<N>`, `[T; N]`, structs, enums; sizes may be constants.
//! Parameters and results may also be `cap x` (an interface, `any`, or in a `local interface` a kernel object) and
//! parameters `in buffer` / `out buffer`. A result is `Result<()>` (or nothing), `Result<T>` or `Result<(a: A, b: B)>`.
//! Types are declared above their use. Method numbers are never reused. Versions `0.x` may change freely; from 1.0 on
//! the lock file holds every shape, and an incompatible change needs a new major version.
#![forbid(unsafe_code)]

mod ast;
mod check;
mod diag;
mod generate;
mod lexer;
mod lock;
mod markdown;
mod model;
mod names;
mod parser;

use std::fmt;
use std::path::{Path, PathBuf};

pub use diag::{Diagnostic, Pos};
pub use lock::LockError;
pub use model::Interface;

/// Why compiling failed.
#[derive(Debug)]
pub enum Error {
    /// The interface files are wrong.
    Mistakes(Vec<Diagnostic>),
    /// A file could not be read or written.
    Io(PathBuf, std::io::Error),
    /// The compiler produced something it cannot print.
    Internal(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mistakes(mistakes) => {
                let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
                f.write_str(&lines.join("\n"))
            }
            Self::Io(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Internal(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {}

/// Checks interface files given as (name for messages, text).
pub fn check(sources: &[(String, String)]) -> Result<Vec<Interface>, Error> {
    let mut files = Vec::new();
    let mut mistakes = Vec::new();
    for (file, text) in sources {
        match parser::parse(file, text) {
            Ok(parsed) => files.push(parsed),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    if !mistakes.is_empty() {
        return Err(Error::Mistakes(mistakes));
    }
    check::check(&files).map_err(Error::Mistakes)
}

/// Reads all `*.idl` of a directory, by name.
pub fn read_directory(directory: &Path) -> Result<Vec<(String, String)>, Error> {
    let io = |error| Error::Io(directory.to_owned(), error);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|extension| extension == "idl") {
            paths.push(path);
        }
    }
    paths.sort();
    let read = |path: PathBuf| match std::fs::read_to_string(&path) {
        Ok(text) => Ok((path.display().to_string(), text)),
        Err(error) => Err(Error::Io(path, error)),
    };
    paths.into_iter().map(read).collect()
}

/// What generated code may rely on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The crate it goes to has a feature `defmt`, with which errors, enums and structs print themselves in logs.
    pub defmt: bool,
}

/// Rust source of the stubs, server traits and tables. It names the crates `ipc_wire` and `zerocopy`.
pub fn rust(interfaces: &[Interface], options: Options) -> Result<String, Error> {
    generate::rust(interfaces, options).map_err(Error::Internal)
}

/// The reference for people, in Markdown.
pub fn markdown(interfaces: &[Interface]) -> String {
    markdown::reference(interfaces)
}

/// The lock file's text for these interfaces.
pub fn lock(interfaces: &[Interface]) -> String {
    lock::text(interfaces)
}

/// Whether `interfaces` still speak what `locked` (the lock file's text) records, and whether it records them all.
pub fn check_lock(locked: &str, interfaces: &[Interface]) -> Result<(), Vec<LockError>> {
    lock::compare(locked, interfaces)
}

/// For build scripts: compiles `directory` to `output` and tells cargo what it depends on.
pub fn build(directory: &Path, output: &Path, options: Options) -> Result<(), Error> {
    println!("cargo::rerun-if-changed={}", directory.display());
    let sources = read_directory(directory)?;
    for (file, _) in &sources {
        println!("cargo::rerun-if-changed={file}");
    }
    let text = rust(&check(&sources)?, options)?;
    std::fs::write(output, text).map_err(|error| Error::Io(output.to_owned(), error))
}
