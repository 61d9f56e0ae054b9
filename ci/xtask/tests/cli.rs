//! What `cargo xtask` says to people who got something wrong: which word, what would be right, and an exit status.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn xtask() -> Command {
    Command::new(env!("CARGO_BIN_EXE_xtask"))
}

/// The exit status and everything that was printed.
fn said(command: &mut Command) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = command.output().expect("the program starts");
    (status.code(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
}

/// A directory of this test's own.
fn directory(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("smi-cli-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn an_unknown_command_names_the_valid_ones() {
    let (status, text) = said(xtask().arg("frobnicate"));
    assert_eq!(status, Some(2));
    assert!(text.contains("frobnicate"), "{text}");
    for command in ["demo", "test", "run", "boot", "build", "log", "scenario"] {
        assert!(text.contains(command), "'{command}' is not named in:\n{text}");
    }
}

#[test]
fn an_unknown_option_or_value_is_named() {
    let (status, text) = said(xtask().args(["demo", "--frobnicate"]));
    assert_eq!(status, Some(2));
    assert!(text.contains("--frobnicate") && text.contains("Usage"), "{text}");
    for (words, valid) in [
        (&["demo", "--kill-node", "9"][..], "1 to 3"),
        (&["boot", "--root-task", "x", "--gic", "4"], "2..=3"),
        (&["boot", "--root-task", "x", "--cpu", "z80"], "a53, a72"),
    ] {
        let (status, text) = said(xtask().args(words));
        assert_eq!(status, Some(2));
        assert!(text.contains(valid), "{words:?}: {text}");
    }
    let (status, text) = said(xtask().args(["test", "--filter", "no such test"]));
    assert_eq!(status, Some(1));
    assert!(text.contains("style/format"), "{text}");
}

#[test]
fn a_missing_qemu_is_named_before_anything_is_built() {
    let (status, text) =
        said(xtask().env("QEMU_SYSTEM_AARCH64", "/nonexistent/qemu").args(["boot", "--root-task", "x"]));
    assert_eq!(status, Some(1));
    assert!(text.contains("/nonexistent/qemu"), "{text}");
    // Another program is no QEMU either.
    let (status, text) = said(xtask().env("QEMU_SYSTEM_AARCH64", "/bin/true").args(["boot", "--root-task", "x"]));
    assert_eq!(status, Some(1));
    assert!(text.contains("/bin/true"), "{text}");
}

#[test]
fn a_missing_image_is_named() {
    for (kernel, root_task, named) in
        [("/nonexistent/k", "/bin/sh", "/nonexistent/k"), ("/bin/sh", "/nonexistent/r", "/nonexistent/r")]
    {
        let (status, text) = said(xtask().args(["boot", "--kernel", kernel, "--root-task", root_task]));
        assert_eq!(status, Some(1));
        assert!(text.contains(named), "{text}");
    }
}

#[test]
fn without_a_tun_device_the_demonstration_says_so() {
    // A mount namespace in which /dev/net is empty; needs root or user namespaces, as the demonstration itself does.
    let script = "mount -t tmpfs none /dev/net && exec \"$0\" demo";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, env!("CARGO_BIN_EXE_xtask")]);
    let (status, text) = said(&mut command);
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("/dev/net/tun is missing") && text.contains("modprobe tun"), "{text}");
}

#[test]
fn without_namespaces_the_console_says_what_to_allow() {
    let bin = directory("no-namespaces");
    let fake = bin.join("unshare");
    std::fs::write(&fake, "#!/bin/sh\nexit 1\n").unwrap();
    std::fs::set_permissions(&fake, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let (status, text) = said(xtask().env("PATH", path).arg("namespace-check"));
    std::fs::remove_dir_all(&bin).unwrap();
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("cannot make a network namespace") && text.contains("unprivileged_userns"), "{text}");
}

#[test]
fn mistakes_in_a_manifest_are_reported_with_file_and_line() {
    let dir = directory("manifest");
    let node = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images/hello.toml")).unwrap();
    let unknown_server = format!("{node}\n[[channel]]\nclient = \"greeter\"\nserver = \"nobody\"\n");
    let unknown_device = node.replacen("phys-timer", "flux-capacitor", 1);
    let unknown_program =
        format!("{node}\n[[server]]\nname = \"ghost\"\nprogram = \"no-such-program\"\npriority = 10\n");
    for (name, text, named) in [
        ("server", unknown_server, "nobody"),
        ("capability", unknown_device, "flux-capacitor"),
        ("program", unknown_program, "no-such-program"),
    ] {
        let file = dir.join(format!("{name}.toml"));
        std::fs::write(&file, &text).unwrap();
        let (status, said) = said(xtask().arg("build").arg("--manifest").arg(&file));
        assert_eq!(status, Some(1), "{said}");
        assert!(said.contains(named) && said.contains(&format!("{name}.toml")), "{said}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

/// A stand-in for QEMU: answers `--version`, otherwise runs `script`.
fn fake_qemu(directory: &Path, script: &str) -> PathBuf {
    let file = directory.join("fake-qemu");
    let text =
        format!("#!/bin/sh\n[ \"$1\" = --version ] && echo 'QEMU emulator version 10.0.2' && exit 0\n{script}\n");
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    file
}

/// A command that boots files that exist on a stand-in.
fn boot_on(fake: &Path) -> Command {
    let mut command = xtask();
    command.env("QEMU_SYSTEM_AARCH64", fake).args(["boot", "--kernel", "/bin/sh", "--root-task", "/bin/sh"]);
    command
}

#[test]
fn boot_passes_the_machine_and_ends_as_it_ends() {
    let dir = directory("boot");
    let fake = fake_qemu(&dir, "echo \"arguments: $*\"; exit 0");
    let words = [
        "--gic",
        "2",
        "--cpu",
        "a53",
        "--el2",
        "--smp",
        "2",
        "--memory",
        "512",
        "--user-counters",
        "--cnode-bits",
        "13",
    ];
    let (status, text) = said(boot_on(&fake).args(words));
    assert_eq!(status, Some(0), "{text}");
    for part in [
        "virt,gic-version=2,virtualization=on",
        "-cpu cortex-a53",
        "-smp 2",
        "-m 512M",
        "kernel.user_counters=1 kernel.root_cnode_bits=13",
    ] {
        assert!(text.contains(part), "'{part}' is not in:\n{text}");
    }
    let fake = fake_qemu(&dir, "exit 3");
    assert_eq!(said(&mut boot_on(&fake)).0, Some(1));
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_machine_is_ended_at_its_time_limit_and_with_its_run() {
    let dir = directory("limit");
    let pid_file = dir.join("pid");
    let fake = fake_qemu(&dir, &format!("echo $$ > {}; exec sleep 1000", pid_file.display()));
    let machine_runs = || {
        let pid = std::fs::read_to_string(&pid_file).unwrap_or_default();
        // A zombie does not run; its command line is empty.
        std::fs::read(format!("/proc/{}/cmdline", pid.trim())).is_ok_and(|line| line.starts_with(b"sleep"))
    };
    let (status, text) = said(boot_on(&fake).args(["--timeout", "1"]));
    assert_eq!(status, Some(1));
    assert!(text.contains("after 1 s") && !machine_runs(), "{text}");
    std::fs::remove_file(&pid_file).unwrap();
    let mut run = boot_on(&fake).spawn().unwrap();
    let wait_until = |wanted: bool| {
        (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            machine_runs() == wanted
        })
    };
    assert!(wait_until(true), "the machine did not start");
    run.kill().unwrap();
    run.wait().unwrap();
    assert!(wait_until(false), "the machine outlived its run");
    std::fs::remove_dir_all(&dir).unwrap();
}
