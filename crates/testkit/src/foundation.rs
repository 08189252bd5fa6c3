//! A foundation for the stories and the benchmarks. It boots `bin/cupola up`, or several `cupola serve`, on free ports, offers a
//! person's tools (cf, cfdot, curl, a shell on the cell), and checks at the end that the machine is in the same state as before.

mod machine;
mod tools;

pub use machine::{Machine, both, sh};
pub use tools::Answer;
pub(crate) use tools::kill_nats_servers;

use anyhow::{Context as _, Result, bail, ensure};
use machine::Disk;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A foundation on this machine. It is stopped when it is dropped.
#[derive(Debug)]
pub struct Foundation {
    /// The data directory.
    pub data: PathBuf,
    pub domain: String,
    /// The file with its additional configuration.
    pub config: Option<PathBuf>,
    /// The running `cupola up`.
    pub child: Option<Child>,
    mode: Mode,
    /// The running `cupola serve` processes with their roles.
    pub parts: Vec<(&'static str, Child)>,
    /// The content of `foundation.json`.
    pub plan: Value,
    /// Values that one story records and a later one reads.
    pub notes: BTreeMap<&'static str, String>,
    before: Machine,
    directory: tempfile::TempDir,
    /// The disk, which is unmounted last.
    _disk: Option<Disk>,
}

/// The distribution of the foundation's roles over processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One process, `cupola up`.
    OneProcess,
    /// One `cupola serve` for each of [`PARTS`].
    ManyProcesses,
}

/// The roles of each process, in an unfavourable start order: no process finds the others that it needs.
pub const PARTS: &[&str] = &[
    "ssh-proxy",
    "router",
    "cell,dns",
    "uaa,log-cache,cloud-controller",
    "bbs,auctioneer",
    "dashboard",
    "nats",
];

/// The password of `admin`.
pub const PASSWORD: &str = "story-password";

impl Foundation {
    /// Boots a foundation. `disk` is the size in MiB of a separate disk.
    pub fn boot(config: &str, mode: Mode, disk: Option<u64>) -> Result<Self> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "the stories need root: run `make test` as root"
        );
        ensure!(
            binary().is_file(),
            "{} is missing: run `make build` first",
            binary().display()
        );
        let directory = tempfile::Builder::new()
            .prefix("cupola-stories-")
            .tempdir()?;
        // The user of a PostgreSQL server passes it to the server's folder beside the data.
        std::fs::set_permissions(directory.path(), Permissions::from_mode(0o711))?;
        let domain = format!("s{}.cupola.test", std::process::id());
        let file = directory.path().join("cupola.yml");
        std::fs::write(&file, config)?;
        let data = directory.path().join("data");
        let image = directory.path().join("disk.img");
        let disk = disk.map(|mb| Disk::mount(&image, &data, mb)).transpose()?;
        let mut foundation = Self {
            data,
            domain,
            config: Some(file).filter(|_| !config.is_empty()),
            child: None,
            mode,
            parts: Vec::new(),
            plan: Value::Null,
            notes: BTreeMap::new(),
            before: Machine::look(),
            directory,
            _disk: disk,
        };
        foundation.copy_nats_server()?;
        foundation.up()?;
        foundation.cf_ok(&[
            "login",
            "-a",
            &foundation.api(),
            "--skip-ssl-validation",
            "-u",
            "admin",
            "-p",
            PASSWORD,
            "-o",
            "demo",
            "-s",
            "dev",
        ])?;
        Ok(foundation)
    }

    /// Returns the directory with copies of programs that this foundation runs, so that a story can break one.
    pub fn programs(&self) -> PathBuf {
        self.directory.path().join("programs")
    }

    fn copy_nats_server(&self) -> Result<()> {
        std::fs::create_dir(self.programs())?;
        let place = self.programs();
        sh(&format!(
            "cp \"$(command -v nats-server)\" {}/nats-server",
            place.display()
        ))
        .map(drop)
    }

    /// Starts the foundation on its data and waits until it is ready.
    pub fn up(&mut self) -> Result<()> {
        match self.mode {
            Mode::OneProcess => self.up_in_one(),
            Mode::ManyProcesses => {
                for roles in PARTS {
                    self.serve(roles)?;
                }
                self.wait_until_ready()
            }
        }
    }

    /// Starts one part of a foundation of several processes.
    pub fn serve(&mut self, roles: &'static str) -> Result<()> {
        let log = self.log_file()?;
        let child = self
            .command(&["serve", "--roles", roles])
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start cupola serve --roles {roles}"))?;
        self.parts.push((roles, child));
        Ok(())
    }

    /// Sends a signal to one part, for example one that pauses it.
    pub fn signal(&self, roles: &str, signal: Signal) -> Result<()> {
        let part = self.parts.iter().find(|(r, _)| *r == roles);
        let (_, child) = part.context("that part does not run")?;
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id())?);
        nix::sys::signal::kill(pid, signal).with_context(|| format!("signal {roles}"))
    }

    /// Sends a signal to one part and waits for its end.
    pub fn end(&mut self, roles: &str, signal: Signal) -> Result<ExitStatus> {
        let at = self.parts.iter().position(|(r, _)| *r == roles);
        let (_, mut child) = self.parts.remove(at.context("that part does not run")?);
        end(&mut child, signal).with_context(|| format!("{roles}:\n{}", self.log()))
    }

    /// Waits for a part that ends by itself.
    pub fn ended(&mut self, roles: &str, seconds: u64) -> Result<ExitStatus> {
        let at = self.parts.iter().position(|(r, _)| *r == roles);
        let at = at.context("that part does not run")?;
        let status = wait_for(&format!("{roles} to end"), seconds, || {
            Ok(self.parts[at].1.try_wait()?)
        });
        let status = status.with_context(|| self.log())?;
        self.parts.remove(at);
        Ok(status)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let file = self.data.join("foundation.json");
        wait_for("the foundation's first answer", 90, || {
            self.plan = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
            let names = sh("cat /etc/hosts")?;
            Ok((self.get(&self.host("api"), "/v3/info")?.status == 200
                && self.get(&self.host("login"), "/login")?.status == 200
                && self.get(&self.host("log-cache"), "/api/v1/info")?.status == 200
                && names.contains(&self.host("api")))
            .then_some(()))
        })
        .with_context(|| self.log())
    }

    fn log_file(&self) -> Result<std::fs::File> {
        Ok(std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory.path().join("up.log"))?)
    }

    fn command(&self, verb: &[&str]) -> Command {
        // A test run under nohup ignores SIGHUP; the foundation must not inherit that.
        let mut command = Command::new("env");
        command
            .arg("--default-signal=HUP")
            .arg(binary())
            .args(verb)
            .args([
                "--http",
                "127.0.0.1:0",
                "--https",
                "127.0.0.1:0",
                "--domain",
                &self.domain,
                "--data",
            ])
            .arg(&self.data);
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .env("PATH", format!("{}:{path}", self.programs().display()))
            .env("CUPOLA_ADMIN_PASSWORD", PASSWORD)
            .stdin(Stdio::null());
        command
    }

    fn up_in_one(&mut self) -> Result<()> {
        let mut child = self
            .command(&["up"])
            .stdout(Stdio::piped())
            .stderr(self.log_file()?)
            .spawn()
            .context("start cupola up")?;
        let lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        self.child = Some(child);
        let (ready, up) = mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if line.contains("API endpoint:") {
                    let _ = ready.send(());
                }
            }
        });
        up.recv_timeout(Duration::from_secs(90))
            .with_context(|| format!("cupola up was not ready within 90 s:\n{}", self.log()))?;
        self.plan =
            serde_json::from_str(&std::fs::read_to_string(self.data.join("foundation.json"))?)?;
        Ok(())
    }

    /// Returns what `up` has written to stderr so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("up.log")).unwrap_or_default()
    }

    pub fn folder(&self) -> &Path {
        self.directory.path()
    }

    pub fn api(&self) -> String {
        format!("https://api.{}:{}", self.domain, self.plan["https_port"])
    }

    pub fn cell_ip(&self) -> String {
        self.plan["cell_ip"].as_str().unwrap_or_default().to_owned()
    }

    pub fn port(&self, name: &str) -> u16 {
        self.plan["ports"][name]
            .as_u64()
            .and_then(|p| u16::try_from(p).ok())
            .unwrap_or_default()
    }

    pub fn host(&self, name: &str) -> String {
        format!("{name}.{}", self.domain)
    }

    /// Sends SIGKILL to every cupola process. The containers keep running.
    pub fn kill(&mut self) -> Result<()> {
        for (_, mut child) in self.parts.drain(..) {
            child.kill()?;
            child.wait()?;
        }
        if self.mode == Mode::ManyProcesses {
            return Ok(());
        }
        let mut child = self.child.take().context("not running")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Sends SIGTERM to `up`, and checks that the machine is in the same state as before. Several processes leave their
    /// containers, so an `up` takes these over first.
    pub fn stop_cleanly(&mut self) -> Result<()> {
        self.stop_cleanly_by(Signal::SIGTERM)
    }

    pub fn stop_cleanly_by(&mut self, signal: Signal) -> Result<()> {
        if self.mode == Mode::ManyProcesses {
            while let Some((roles, _)) = self.parts.last() {
                let status = self.end(roles, Signal::SIGTERM)?;
                ensure!(status.success(), "a part ended with {status}");
            }
            self.up_in_one()?;
        }
        let mut child = self.child.take().context("cupola up is not running")?;
        let status =
            end(&mut child, signal).with_context(|| format!("cupola up:\n{}", self.log()))?;
        ensure!(
            status.success(),
            "cupola up ended with {status}:\n{}",
            self.log()
        );
        self.before.same_as_now(&self.data)
    }
}

impl Drop for Foundation {
    fn drop(&mut self) {
        let runs = self.child.is_some() || !self.parts.is_empty();
        if runs && self.stop_cleanly().is_err() {
            let _ = writeln!(
                std::io::stderr(),
                "the stories' foundation could not be stopped cleanly; see {}",
                self.data.display()
            );
        }
    }
}

/// Sends a signal and waits for the end, for at most 60 s.
pub fn end(child: &mut Child, signal: Signal) -> Result<ExitStatus> {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id())?);
    nix::sys::signal::kill(pid, signal)?;
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!("did not stop within 60 s after {signal}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Returns the path of the program under test.
pub fn binary() -> PathBuf {
    root().join("bin/cupola")
}

/// Returns the root of the repository: of the one whose tests `cargo test` runs, also when this crate was compiled in another clone
/// with the same target directory; else of the one in which this crate was compiled.
pub fn root() -> PathBuf {
    let running = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    running
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")))
        .join("../..")
}

/// Returns the path of an example app.
pub fn example(name: &str) -> String {
    root()
        .join("examples")
        .join(name)
        .to_string_lossy()
        .into_owned()
}

/// Waits until `check` returns a value. It polls every 50 ms.
pub fn wait_for<T>(
    what: &str,
    seconds: u64,
    mut check: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let mut last = String::new();
    while Instant::now() < deadline {
        match check() {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => {}
            Err(error) => last = format!("{error:#}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("{what}: not reached within {seconds} s; last: {last}")
}
