//! Command line of the image builder; `cargo xtask` calls the library.

use image_builder::{BuildError, build_archive, programs};
use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "usage: image-builder programs MANIFEST           print the programs that a manifest needs
       image-builder archive MANIFEST ELF_DIR OUT  pack a boot archive";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["programs", manifest] => programs(Path::new(manifest)).map(|names| names.iter().for_each(|n| println!("{n}"))),
        ["archive", manifest, elf_dir, out] => archive(Path::new(manifest), Path::new(elf_dir), Path::new(out)),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn archive(manifest: &Path, elf_dir: &Path, out: &Path) -> Result<(), BuildError> {
    let bytes = build_archive(manifest, elf_dir)?;
    std::fs::write(out, bytes).map_err(|error| BuildError::file(out, error.to_string()))
}
