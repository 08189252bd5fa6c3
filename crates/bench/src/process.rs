//! A child process of the harness. It runs on a core of its own, is measured through `/proc`, and is ended (by its pid) when
//! dropped.

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, gettid};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The unit of the times in `/proc/<pid>/stat`. Linux has always shown 100 ticks per second to programs.
const TICKS_PER_SECOND: f64 = 100.0;

pub(crate) struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

/// The memory of a process in bytes.
#[derive(Clone, Copy, Default)]
pub(crate) struct Memory {
    pub(crate) rss: f64,
    pub(crate) anonymous: f64,
    pub(crate) pss: f64,
}

impl Process {
    /// Runs `command`, by its first word, on a core. Its output goes to a file in `folder`.
    pub(crate) fn start(
        name: &str,
        core: Option<usize>,
        command: &[&str],
        folder: &Path,
    ) -> Result<Self> {
        Self::spawn(name, core, command, folder, false)
    }

    /// Runs a command as [`Process::start`], for children that print a result in their first line and end when their stdin is
    /// closed.
    pub(crate) fn start_with_first_line(
        name: &str,
        core: Option<usize>,
        command: &[&str],
        folder: &Path,
    ) -> Result<(Self, String)> {
        let mut process = Self::spawn(name, core, command, folder, true)?;
        let mut line = String::new();
        let stdout = process
            .child
            .stdout
            .take()
            .context("the child has no standard output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        ensure!(!line.is_empty(), "{name} ended: {}", process.log_text());
        Ok((process, line))
    }

    fn spawn(
        name: &str,
        core: Option<usize>,
        command: &[&str],
        folder: &Path,
        piped: bool,
    ) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log)?;
        // The child ends with the harness, however that ends.
        let mut words: Vec<String> = ["setpriv", "--pdeathsig", "TERM"].map(Into::into).into();
        if let Some(core) = core {
            words.extend(["taskset".into(), "-c".into(), core.to_string()]);
        }
        words.extend(command.iter().map(ToString::to_string));
        let mut builder = Command::new(&words[0]);
        builder.args(&words[1..]).stderr(file.try_clone()?);
        if piped {
            builder.stdin(Stdio::piped()).stdout(Stdio::piped());
        } else {
            builder.stdin(Stdio::null()).stdout(file);
        }
        let child = builder
            .spawn()
            .with_context(|| format!("start {name} ({})", words.join(" ")))?;
        Ok(Self {
            child,
            name: name.to_owned(),
            log,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log_text(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let from = text.len().saturating_sub(2000);
        text.chars().skip(from).collect()
    }

    /// Returns the process and its children (nginx's worker).
    fn family(&self) -> Vec<u32> {
        let mut family = vec![self.pid()];
        let path = format!("/proc/{0}/task/{0}/children", self.pid());
        let children = fs::read_to_string(path).unwrap_or_default();
        family.extend(
            children
                .split_whitespace()
                .filter_map(|c| c.parse::<u32>().ok()),
        );
        family
    }

    /// Returns the user and system time of all threads so far.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let mut ticks = 0.0;
        for pid in self.family() {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
                .with_context(|| format!("{} is gone: {}", self.name, self.log_text()))?;
            // The name, in parentheses, may contain blanks; utime and stime are fields 14 and 15.
            let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
            for field in rest.split_whitespace().skip(11).take(2) {
                ticks += field.parse::<f64>()?;
            }
        }
        Ok(Duration::from_secs_f64(ticks / TICKS_PER_SECOND))
    }

    /// Returns the CPU time, so far, of the thread of this name.
    pub(crate) fn thread_cpu(&self, name: &str) -> Result<Duration> {
        for thread in fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            let folder = thread?.path();
            if fs::read_to_string(folder.join("comm"))?.trim_end() == name {
                // The file contains the nanoseconds that it ran, the nanoseconds that it waited, and how often.
                let line = fs::read_to_string(folder.join("schedstat"))?;
                let ran = line.split_whitespace().next().unwrap_or_default();
                return Ok(Duration::from_nanos(ran.parse()?));
            }
        }
        bail!("{} has no thread {name}", self.name)
    }

    pub(crate) fn memory(&self) -> Result<Memory> {
        let mut memory = Memory::default();
        for pid in self.family() {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))
                .with_context(|| format!("{} is gone: {}", self.name, self.log_text()))?;
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
            memory.rss += kilobytes(&status, "VmRSS:")?;
            memory.anonymous += kilobytes(&status, "RssAnon:")?;
            memory.pss += kilobytes(&rollup, "Pss:")?;
        }
        Ok(memory)
    }

    /// Waits until a process accepts connections on the port.
    pub(crate) fn listens(&mut self, port: u16) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}: {}", self.name, self.log_text());
            }
            ensure!(
                Instant::now() < deadline,
                "{} does not listen on {port} after 20 s: {}",
                self.name,
                self.log_text()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        if let Ok(pid) = i32::try_from(self.pid()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let deadline = Instant::now() + Duration::from_secs(3);
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn kilobytes(text: &str, field: &str) -> Result<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    let number = number.with_context(|| format!("/proc has no {field}"))?;
    Ok(number.parse::<f64>()? * 1024.0)
}

/// A guard that makes threads run before all others on their core until it is dropped, so that the others do not delay them. It
/// is for threads that leave the core idle now and then: from others with this priority Linux takes the core for 50 ms of each
/// second.
pub(crate) struct Ahead {
    /// Whether the ids are processes; then all of their threads are meant.
    processes: bool,
    ids: Vec<String>,
}

impl Ahead {
    pub(crate) fn this_thread() -> Result<Self> {
        Self::set(false, vec![gettid().to_string()])
    }

    /// Sets the process and its children (nginx's worker).
    pub(crate) fn process(process: &Process) -> Result<Self> {
        Self::set(true, process.family().iter().map(u32::to_string).collect())
    }

    fn set(processes: bool, ids: Vec<String>) -> Result<Self> {
        let ahead = Self { processes, ids };
        ahead.schedule("--fifo", "1")?;
        Ok(ahead)
    }

    /// Sets the priority with util-linux's `chrt [--all-tasks] --pid <priority> <id>`.
    fn schedule(&self, policy: &str, priority: &str) -> Result<()> {
        for id in &self.ids {
            let output = Command::new("chrt")
                .args(self.processes.then_some("--all-tasks"))
                .args([policy, "--pid", priority, id])
                .output()
                .context("run chrt")?;
            ensure!(
                output.status.success(),
                "chrt cannot set a priority (are you root?): {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(())
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        let _ = self.schedule("--other", "0");
    }
}

/// Waits for a condition, and checks it every 20 ms.
pub(crate) fn wait_for(
    what: &str,
    patience: Duration,
    mut check: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let deadline = Instant::now() + patience;
    while !check()? {
        ensure!(
            Instant::now() < deadline,
            "{what}: not reached within {} s",
            patience.as_secs()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
