//! Child processes that never outlive the run: they die with the thread that started them.

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// Ties the child that `command` will start to the calling *thread*: when that thread ends, however it ends, the kernel
/// kills the child. Start children from threads that live as long as the children should.
#[allow(unsafe_code)]
pub fn die_with_us(command: &mut Command) {
    let parent = nix::unistd::getpid();
    // SAFETY: the closure runs between fork and exec and makes only system calls (prctl, getppid), which are
    // async-signal-safe; it allocates nothing and takes no locks.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have died before the line above.
            if nix::unistd::getppid() != parent {
                return Err(std::io::Error::other("the parent process is gone"));
            }
            Ok(())
        });
    }
}

/// Sends `signal` to a child that has not been reaped.
pub fn signal(child: &Child, signal: Signal) -> Result<()> {
    kill(Pid::from_raw(child.id() as i32), signal)
        .with_context(|| format!("sending {signal} to process {}", child.id()))
}

/// Kills a child that leads a process group, with everything in the group.
pub fn kill_group(child: &Child) -> Result<()> {
    nix::sys::signal::killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL).context("killing a process group")
}

/// Waits until the child ends, at most until `deadline`; `None` if it still runs then.
pub fn wait_until(child: &mut Child, deadline: Instant) -> Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs a command to its end with our standard streams; an error names the command and its status.
pub fn run(command: &mut Command) -> Result<()> {
    let line = line_of(command);
    let status = command.status().with_context(|| format!("starting `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed: {status}");
    }
    Ok(())
}

/// Runs a command and returns its standard output; on failure the error carries its standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let line = line_of(command);
    let out = command.output().with_context(|| format!("starting `{line}`"))?;
    if !out.status.success() {
        bail!("`{line}` failed: {}\n{}", out.status, String::from_utf8_lossy(&out.stderr).trim_end());
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

fn line_of(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_dies_with_its_thread() {
        let pid = std::thread::spawn(|| {
            let mut command = Command::new("sleep");
            command.arg("60");
            die_with_us(&mut command);
            command.spawn().unwrap()
        })
        .join()
        .unwrap();
        let mut child = pid;
        let status = wait_until(&mut child, Instant::now() + Duration::from_secs(5)).unwrap();
        assert!(status.is_some_and(|s| !s.success()), "the child outlived the thread that started it");
    }

    #[test]
    fn failures_carry_what_the_command_said() {
        let error = output(Command::new("sh").args(["-c", "echo wrong >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("wrong") && error.contains('3'), "{error}");
        assert!(run(&mut Command::new("/nonexistent/tool")).is_err());
    }
}
