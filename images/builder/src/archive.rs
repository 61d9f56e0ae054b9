//! Packing: manifest and programs into the boot archive.

use crate::diagnostic::{BuildError, Diagnostic};
use crate::source::{self, Source};
use root::archive::{MANIFEST, pack};
use root::elf::{Access, Program};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const ELF_HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;

/// Reads and checks a manifest file.
pub fn read_manifest(manifest: &Path) -> Result<Source, BuildError> {
    let text = fs::read_to_string(manifest).map_err(|error| BuildError::file(manifest, error.to_string()))?;
    source::parse(manifest, &text)
}

/// The programs (names of ELF files) that a manifest needs, each once, in alphabetic order.
pub fn programs(manifest: &Path) -> Result<Vec<String>, BuildError> {
    let mut programs: Vec<String> = read_manifest(manifest)?.manifest.servers.into_iter().map(|s| s.program).collect();
    programs.sort();
    programs.dedup();
    Ok(programs)
}

/// Packs a manifest and its programs, found in `elf_dir` by name, into a boot archive.
///
/// Programs are checked as the root task will check them, and stripped to their loadable segments.
pub fn build_archive(manifest: &Path, elf_dir: &Path) -> Result<Vec<u8>, BuildError> {
    let source = read_manifest(manifest)?;
    let mut errors = Vec::new();
    let mut stripped = BTreeMap::new();
    for (server, line) in source.manifest.servers.iter().zip(&source.server_lines) {
        if stripped.contains_key(&server.program) {
            continue;
        }
        let path = elf_dir.join(&server.program);
        let result = fs::read(&path)
            .map_err(|error| format!("its program {} cannot be read: {error}", path.display()))
            .and_then(|file| strip(&file).map_err(|error| format!("its program {}: {error}", path.display())));
        match result {
            Ok(elf) => {
                stripped.insert(server.program.clone(), elf);
            }
            Err(what) => {
                let message = format!("server `{}`: {what}", server.name);
                errors.push(Diagnostic { file: manifest.to_owned(), line: *line, message });
            }
        }
    }
    if !errors.is_empty() {
        return Err(BuildError(errors));
    }
    let binary = source.manifest.encode();
    let mut contents: Vec<(&str, &[u8])> = vec![(MANIFEST, &binary)];
    contents.extend(stripped.iter().map(|(name, elf)| (name.as_str(), elf.as_slice())));
    pack(&contents).map_err(|error| BuildError::file(manifest, format!("cannot be packed: {error:?}")))
}

/// The same program with nothing but its loadable segments.
pub fn strip(file: &[u8]) -> Result<Vec<u8>, root::elf::ElfError> {
    let program = Program::parse(file)?;
    let mut out = file[..ELF_HEADER].to_vec();
    out[32..40].copy_from_slice(&(ELF_HEADER as u64).to_le_bytes()); // program headers follow
    out[40..48].fill(0); // no section headers
    out[52..54].copy_from_slice(&(ELF_HEADER as u16).to_le_bytes());
    out[54..56].copy_from_slice(&(PROGRAM_HEADER as u16).to_le_bytes());
    out[56..58].copy_from_slice(&(program.segments.len() as u16).to_le_bytes());
    out[58..64].fill(0);
    let mut offset = out.len() + program.segments.len() * PROGRAM_HEADER;
    for segment in &program.segments {
        let flags: u32 = match segment.access {
            Access::Read => 4,
            Access::Write => 6,
            Access::Execute => 5,
        };
        out.extend_from_slice(&1u32.to_le_bytes());
        out.extend_from_slice(&flags.to_le_bytes());
        for word in [offset as u64, segment.vaddr, segment.vaddr, segment.data.len() as u64, segment.len, 4096] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        offset += segment.data.len();
    }
    program.segments.iter().for_each(|s| out.extend_from_slice(s.data));
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use root::archive::Archive;
    use root::manifest::Manifest;

    /// An ELF with symbols and sections would be larger; this one has rubbish behind its segment.
    fn program() -> Vec<u8> {
        let mut file = vec![0u8; ELF_HEADER + PROGRAM_HEADER];
        file[..8].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0]);
        file[16..20].copy_from_slice(&[2, 0, 183, 0]);
        file[24..32].copy_from_slice(&0x40_0000u64.to_le_bytes());
        file[32..40].copy_from_slice(&(ELF_HEADER as u64).to_le_bytes());
        file[54..58].copy_from_slice(&[PROGRAM_HEADER as u8, 0, 1, 0]);
        file[64..72].copy_from_slice(&[1, 0, 0, 0, 5, 0, 0, 0]);
        file[72..80].copy_from_slice(&1000u64.to_le_bytes());
        file[80..88].copy_from_slice(&0x40_0000u64.to_le_bytes());
        file[96..104].copy_from_slice(&4u64.to_le_bytes());
        file[104..112].copy_from_slice(&8u64.to_le_bytes());
        file.resize(1000, 0xaa);
        file.extend_from_slice(b"text");
        file.resize(5000, 0xbb);
        file
    }

    fn directory(name: &str) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("smi-image-builder-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn an_archive_holds_manifest_and_stripped_programs() {
        let dir = directory("good");
        let manifest = dir.join("m.toml");
        let text = "[[server]]\nname = \"a\"\nprogram = \"p\"\npriority = 1\n[[server]]\nname = \"b\"\nprogram = \"p\"\npriority = 2\n";
        fs::write(&manifest, text).unwrap();
        fs::write(dir.join("p"), program()).unwrap();
        assert_eq!(programs(&manifest).unwrap(), ["p"]);
        let bytes = build_archive(&manifest, &dir).unwrap();
        assert_eq!(bytes, build_archive(&manifest, &dir).unwrap(), "the same input gives the same archive");
        let archive = Archive::check(&bytes).unwrap();
        assert_eq!(Manifest::decode(archive.get(MANIFEST).unwrap()).unwrap().servers.len(), 2);
        let elf = archive.get("p").unwrap();
        assert_eq!(elf.len(), ELF_HEADER + PROGRAM_HEADER + 4);
        assert_eq!(Program::parse(elf).unwrap(), Program::parse(&program()).unwrap());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn missing_and_bad_programs_are_told_with_the_servers_line() {
        let dir = directory("bad");
        let manifest = dir.join("m.toml");
        fs::write(&manifest, "[[server]]\nname = \"a\"\npriority = 1\n\n[[server]]\nname = \"b\"\npriority = 1\n")
            .unwrap();
        fs::write(dir.join("b"), b"not an ELF").unwrap();
        let BuildError(errors) = build_archive(&manifest, &dir).unwrap_err();
        assert_eq!((errors[0].line, errors[1].line), (2, 6));
        assert!(errors[0].message.contains("cannot be read") && errors[1].message.contains("ELF"));
        assert!(programs(&dir.join("none.toml")).unwrap_err().to_string().contains("none.toml: "));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn the_manifests_of_the_repository_are_good() {
        for name in ["node", "hello", "selftest"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../{name}.toml"));
            assert!(programs(&path).unwrap().contains(&"timer".to_owned()));
        }
    }
}
