//! The README is true: its excerpts are in the files that it names, and its commands exist.

use std::path::Path;
use std::process::Command;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn readme() -> String {
    std::fs::read_to_string(root().join("README.md")).unwrap()
}

/// The last path in back quotes on a line that names a file of this repository.
fn file_named(line: &str) -> Option<String> {
    let quoted = line.split('`').skip(1).step_by(2);
    quoted.filter(|word| word.contains('/') && root().join(word).is_file()).last().map(str::to_owned)
}

#[test]
fn excerpts_are_what_the_files_say() {
    let (mut file, mut block, mut checked) = (None, None::<String>, 0);
    for line in readme().lines() {
        match (&mut block, line.strip_prefix("```")) {
            (Some(text), Some(_)) => {
                let name: &String = file.as_ref().expect("an excerpt follows the name of its file");
                let source = std::fs::read_to_string(root().join(name)).unwrap();
                assert!(source.contains(text.as_str()), "{name} does not contain:\n{text}");
                checked += 1;
                block = None;
            }
            (Some(text), None) => *text += &format!("{line}\n"),
            (None, Some(_)) => block = Some(String::new()),
            (None, None) => file = file_named(line).or(file),
        }
    }
    assert!(checked >= 4, "only {checked} excerpts found");
}

#[test]
fn commands_exist() {
    let help = Command::new(env!("CARGO_BIN_EXE_xtask")).arg("--help").output().unwrap();
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let readme = readme();
    let mut checked = 0;
    for rest in readme.split("cargo xtask ").skip(1) {
        let name: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
        assert!(help.lines().any(|line| line.trim_start().starts_with(&format!("{name} "))), "no command '{name}'");
        checked += 1;
    }
    assert!(checked >= 8, "only {checked} commands found");
}

#[test]
fn the_directory_map_is_complete() {
    let readme = readme();
    for entry in std::fs::read_dir(root()).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let sources = entry.path().is_dir() && !name.starts_with('.') && name != "target";
        assert!(!sources || readme.contains(&format!("| `{name}/` |")), "{name}/ is not in the map");
    }
}
