//! Starts the container and its processes with crun.
//!
//! Processes are started detached: crun ends, and the shim, which is a subreaper, becomes the parent of the process. The process
//! is in the cgroups in which crun itself was started, so crun need not handle cgroups.

use super::mounts;
use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, pipe2};
use shim_protocol::{Run, Setup};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Returns the command `inside enter CGROUPS -- crun …`.
fn crun(setup: &Setup, cgroups: &[PathBuf], log: &Path) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg("enter")
        .args(cgroups)
        .arg("--")
        .arg(&setup.crun);
    command
        .arg("--root")
        .arg(&setup.crun_root)
        .arg("--cgroup-manager=disabled")
        .arg("--log")
        .arg(log);
    std::os::unix::process::CommandExt::arg0(&mut command, "inside");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/");
    command
}

/// Starts the container with its init. Returns the process id of init.
pub(crate) fn start_container(setup: &Setup) -> Result<i32> {
    let (log, pid_file) = (setup.dir.join("crun.log"), setup.dir.join("init.pid"));
    let mut command = crun(setup, &setup.app_cgroups, &log);
    command
        .args(["run", "--detach", "--no-new-keyring"])
        .arg("--bundle")
        .arg(&setup.dir)
        .arg("--pid-file")
        .arg(&pid_file)
        .arg(&setup.key);
    // Init inherits crun's descriptors. It must not get a pipe of ours, because the pipe would then never end.
    let status = command.status().context("run crun")?;
    if !status.success() {
        bail!(
            "crun run: {}",
            complaint(&log).unwrap_or_else(|| status.to_string())
        );
    }
    let init = read_pid(&pid_file)?;
    if let Err(error) = limit_users(setup, init) {
        end_container(setup, Some(init));
        return Err(error);
    }
    Ok(init)
}

/// Sets the limits of the container's user namespace. A process enters the namespace to do so, because the settings belong to the
/// namespace of the process that writes them.
fn limit_users(setup: &Setup, init: i32) -> Result<()> {
    let mut command = Command::new("/proc/self/exe");
    std::os::unix::process::CommandExt::arg0(&mut command, "inside");
    command.arg("user-limits").arg(init.to_string());
    for (name, most) in &setup.user_limits {
        command.arg(format!("{name}={most}"));
    }
    let output = command
        .stdin(Stdio::null())
        .output()
        .context("run user-limits")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn read_pid(file: &Path) -> Result<i32> {
    let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    text.trim()
        .parse()
        .with_context(|| format!("parse {}", file.display()))
}

/// Returns the messages in crun's log, without the times. The first line has the cause, later ones its consequences.
fn complaint(log: &Path) -> Option<String> {
    let text = fs::read_to_string(log).ok()?;
    // The format is 2026-01-01T10:00:00.000000Z: executable file `x` not found…
    let messages: Vec<&str> = text
        .lines()
        .map(|line| line.split_once("Z: ").map_or(line, |(_, message)| message))
        .filter(|line| !line.trim().is_empty())
        .collect();
    (!messages.is_empty()).then(|| messages.join("; "))
}

#[derive(Debug)]
pub(crate) enum RunError {
    CannotExecute(String),
    Other(anyhow::Error),
}

/// A process that was started, with our ends of its output.
#[derive(Debug)]
pub(crate) struct Started {
    pub pid: i32,
    pub stdout: Option<File>,
    pub stderr: File,
}

/// The only message of crun when its child died before it executed the program. It happens once in hundreds of starts on a busy
/// machine.
const DIED_EARLY: &str = "fail startup";
const ATTEMPTS: usize = 3;

pub(crate) fn start(setup: &Setup, run: &Run) -> Result<Started, RunError> {
    let mut attempt = 1;
    loop {
        match start_once(setup, run) {
            Err(RunError::Other(error))
                if attempt < ATTEMPTS
                    && error.to_string().ends_with(&format!(": {DIED_EARLY}")) =>
            {
                eprintln!("attempt {attempt} to start {}: {error}", run.id);
                attempt += 1;
            }
            other => return other,
        }
    }
}

fn start_once(setup: &Setup, run: &Run) -> Result<Started, RunError> {
    let (log, pid_file) = (setup.dir.join("exec.log"), setup.dir.join("exec.pid"));
    let _ = fs::remove_file(&log);
    let cgroups = if run.sidecar {
        &setup.sidecar_cgroups
    } else {
        &setup.app_cgroups
    };
    let mut command = crun(setup, cgroups, &log);
    command
        .args(["exec", "--detach"])
        .arg("--process")
        .arg(&run.process)
        .arg("--pid-file")
        .arg(&pid_file)
        .arg(&setup.key);
    let outcome = spawn(&mut command, run);
    let (status, stdout, stderr) = outcome.map_err(RunError::Other)?;
    if !status.success() {
        let messages = complaint(&log).unwrap_or_else(|| format!("crun exec ended with {status}"));
        let not_ours = [
            "not found",
            "No such file",
            "Permission denied",
            "exec format",
            "Exec format",
            "chdir",
            "open executable",
        ];
        return Err(
            match not_ours.iter().any(|words| messages.contains(words)) {
                true => RunError::CannotExecute(messages),
                false => RunError::Other(anyhow!("crun exec: {messages}")),
            },
        );
    }
    let pid = read_pid(&pid_file).map_err(RunError::Other)?;
    Ok(Started {
        pid,
        stdout,
        stderr,
    })
}

fn spawn(
    command: &mut Command,
    run: &Run,
) -> Result<(std::process::ExitStatus, Option<File>, File)> {
    if let Some(path) = &run.stdin {
        command.stdin(File::open(path).with_context(|| format!("open {}", path.display()))?);
    }
    let stdout = match &run.stdout {
        Some(path) => {
            command
                .stdout(File::create(path).with_context(|| format!("create {}", path.display()))?);
            None
        }
        None => {
            let (ours, theirs) = pipe2(OFlag::O_CLOEXEC).context("make a pipe")?;
            command.stdout(theirs);
            Some(File::from(ours))
        }
    };
    let (ours, theirs) = pipe2(OFlag::O_CLOEXEC).context("make a pipe")?;
    let mut child = command.stderr(theirs).spawn().context("run crun")?;
    let status = child.wait().context("wait for crun")?;
    // The command holds the other ends of the pipes. They must be closed so that the streams can end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    Ok((status, stdout, File::from(ours)))
}

/// Kills everything in the container, waits until it is gone, and unmounts. `init` is `None` if init has ended already, because
/// another process may have its number by now.
pub(crate) fn end_container(setup: &Setup, init: Option<i32>) {
    if let Some(init) = init {
        let _ = kill(Pid::from_raw(init), Signal::SIGKILL);
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    // The kernel kills all other processes in init's pid namespace. All of them become our children sooner or later.
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::EINTR) => {}
            Err(_) => break,
            Ok(WaitStatus::StillAlive) if Instant::now() > deadline => break,
            Ok(WaitStatus::StillAlive) => std::thread::sleep(Duration::from_millis(1)),
            Ok(_) => {}
        }
    }
    mounts::unmount_root(setup);
    let _ = fs::remove_dir_all(setup.crun_root.join(&setup.key));
    let _ = fs::remove_file(&setup.socket);
}
