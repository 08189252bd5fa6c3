//! A foundation for the stories. It boots `bin/cupola up`, or several `cupola serve`, on free ports, offers a person's tools (cf,
//! cfdot, curl, a shell on the cell), and checks at the end that the machine is in the same state as before.

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

pub(crate) struct Foundation {
    pub(crate) data: PathBuf,
    pub(crate) domain: String,
    pub(crate) config: Option<PathBuf>,
    pub(crate) child: Option<Child>,
    mode: Mode,
    /// The running `cupola serve` processes with their roles.
    pub(crate) parts: Vec<(&'static str, Child)>,
    /// The content of `foundation.json`.
    pub(crate) plan: Value,
    /// Values that one story records and a later one reads.
    pub(crate) notes: BTreeMap<&'static str, String>,
    before: Machine,
    directory: tempfile::TempDir,
    /// The disk, which is unmounted last.
    _disk: Option<Disk>,
}

/// A small separate disk for the data directory: an ext4 file system in a file.
pub(crate) struct Disk(PathBuf);

impl Disk {
    fn mount(image: &Path, folder: &Path, mb: u64) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        std::fs::File::create(image)?.set_len(mb << 20)?;
        let (image, place) = (image.display(), folder.display());
        sh(&format!(
            "mkfs.ext4 -q -m 0 {image} && mount -o loop {image} {place}"
        ))?;
        Ok(Self(folder.to_owned()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = sh(&format!("umount {}", self.0.display())) {
            eprintln!("the stories' disk is left: {error:#}");
        }
    }
}

/// The distribution of the foundation's roles over processes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// One process, `cupola up`.
    OneProcess,
    /// One `cupola serve` for each of [`PARTS`].
    ManyProcesses,
}

/// The roles of each process, in an unfavourable start order: no process finds the others that it needs.
pub(crate) const PARTS: &[&str] = &[
    "router",
    "cell,dns",
    "uaa,log-cache,cloud-controller",
    "bbs,auctioneer",
    "nats",
];

pub(crate) const PASSWORD: &str = "story-password";

impl Foundation {
    /// Boots a foundation. `disk` is the size in MiB of a separate disk.
    pub(crate) fn boot(config: &str, mode: Mode, disk: Option<u64>) -> Result<Self> {
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
    pub(crate) fn programs(&self) -> PathBuf {
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
    pub(crate) fn up(&mut self) -> Result<()> {
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
    pub(crate) fn serve(&mut self, roles: &'static str) -> Result<()> {
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

    /// Sends a signal to one part and waits for its end.
    pub(crate) fn end(&mut self, roles: &str, signal: Signal) -> Result<ExitStatus> {
        let at = self.parts.iter().position(|(r, _)| *r == roles);
        let (_, mut child) = self.parts.remove(at.context("that part does not run")?);
        end(&mut child, signal).with_context(|| format!("{roles}:\n{}", self.log()))
    }

    /// Waits for a part that ends by itself.
    pub(crate) fn ended(&mut self, roles: &str, seconds: u64) -> Result<ExitStatus> {
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
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("up.log")).unwrap_or_default()
    }

    pub(crate) fn folder(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn api(&self) -> String {
        format!("https://api.{}:{}", self.domain, self.plan["https_port"])
    }

    pub(crate) fn cell_ip(&self) -> String {
        self.plan["cell_ip"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn port(&self, name: &str) -> u16 {
        self.plan["ports"][name]
            .as_u64()
            .and_then(|p| u16::try_from(p).ok())
            .unwrap_or_default()
    }

    pub(crate) fn host(&self, name: &str) -> String {
        format!("{name}.{}", self.domain)
    }

    /// Runs `cf …` with this foundation's own CF_HOME.
    pub(crate) fn cf(&self, args: &[&str]) -> Result<Output> {
        self.cf_in(&self.directory.path().join("home"), args)
    }

    pub(crate) fn cf_in(&self, home: &Path, args: &[&str]) -> Result<Output> {
        std::fs::create_dir_all(home)?;
        Ok(Command::new(binary())
            .arg("cf")
            .args(args)
            .env("CF_HOME", home)
            .stdin(Stdio::null())
            .output()?)
    }

    pub(crate) fn cf_ok(&self, args: &[&str]) -> Result<String> {
        let output = self.cf(args)?;
        ensure!(
            output.status.success(),
            "cf {} ended with {}:\n{}",
            args.join(" "),
            output.status,
            both(&output)
        );
        Ok(both(&output))
    }

    /// Runs `cf …`, expects exit code 1, and returns the output.
    pub(crate) fn cf_fails(&self, args: &[&str]) -> Result<String> {
        let output = self.cf(args)?;
        ensure!(
            output.status.code() == Some(1),
            "cf {} ended with {} instead of 1:\n{}",
            args.join(" "),
            output.status,
            both(&output)
        );
        Ok(both(&output))
    }

    pub(crate) fn cf_curl(&self, path: &str) -> Result<Value> {
        let output = self.cf(&["curl", path])?;
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("cf curl {path}: {}", both(&output)))
    }

    pub(crate) fn cfdot(&self, args: &[&str]) -> Result<Vec<Value>> {
        let output = Command::new(binary())
            .args(["cfdot", "--data"])
            .arg(&self.data)
            .args(args)
            .output()?;
        ensure!(
            output.status.success(),
            "cfdot {}: {}",
            args.join(" "),
            both(&output)
        );
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(|l| serde_json::from_str(l).with_context(|| format!("cfdot line {l:?}")))
            .collect()
    }

    /// Returns the running and desired actual LRPs of an app. After a restart those of the old version may still be stopping.
    pub(crate) fn instances(&self, app_guid: &str) -> Result<Vec<Value>> {
        let desired = self.cfdot(&["desired-lrps"])?;
        let desired = |guid: &Value| desired.iter().any(|d| d["process_guid"] == *guid);
        Ok(self
            .cfdot(&["actual-lrps"])?
            .into_iter()
            .filter(|l| {
                l["process_guid"]
                    .as_str()
                    .is_some_and(|g| g.starts_with(app_guid))
                    && l["state"] == "RUNNING"
                    && desired(&l["process_guid"])
            })
            .collect())
    }

    pub(crate) fn guid(&self, app: &str) -> Result<String> {
        let output = self.cf(&["app", app, "--guid"])?;
        ensure!(
            output.status.success(),
            "cf app {app} --guid: {}",
            both(&output)
        );
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Runs a command inside an instance with `cupola exec` and returns its standard output.
    pub(crate) fn exec(&self, app: &str, command: &[&str]) -> Result<String> {
        let output = Command::new(binary())
            .args(["exec", "--data"])
            .arg(&self.data)
            .arg(app)
            .arg("--")
            .args(command)
            .stdin(Stdio::null())
            .output()?;
        ensure!(
            output.status.success(),
            "exec {app} {command:?} ended with {}: {}",
            output.status,
            both(&output)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Sends a request to the router's plain port with this Host header. Returns the status, the headers as text, and the body.
    pub(crate) fn get(&self, host: &str, path: &str) -> Result<Answer> {
        let port = self.plan["http_port"].to_string();
        let output = Command::new("curl")
            .args([
                "-sS",
                "-i",
                "--max-time",
                "20",
                "-H",
                &format!("Host: {host}"),
                &format!("http://127.0.0.1:{port}{path}"),
            ])
            .output()?;
        ensure!(
            output.status.success(),
            "curl {host}{path}: {}",
            both(&output)
        );
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head
            .split_whitespace()
            .nth(1)
            .and_then(|s| s.parse().ok())
            .context("no status")?;
        Ok(Answer {
            status,
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        })
    }

    /// Returns the router's table in gorouter's format.
    pub(crate) fn table(&self) -> Result<Value> {
        let user = format!(
            "router-status:{}",
            self.plan["status_password"].as_str().unwrap_or_default()
        );
        let output = Command::new("curl")
            .args([
                "-sS",
                "-u",
                &user,
                &format!("http://127.0.0.1:{}/routes", self.port("router_status")),
            ])
            .output()?;
        serde_json::from_slice(&output.stdout).context("read /routes")
    }

    /// Sends SIGKILL to every cupola process. The containers keep running.
    pub(crate) fn kill(&mut self) -> Result<()> {
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
    pub(crate) fn stop_cleanly(&mut self) -> Result<()> {
        self.stop_cleanly_by(Signal::SIGTERM)
    }

    pub(crate) fn stop_cleanly_by(&mut self, signal: Signal) -> Result<()> {
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
            eprintln!(
                "the stories' foundation could not be stopped cleanly; see {}",
                self.data.display()
            );
        }
    }
}

/// Sends a signal and waits for the end, for at most 60 s.
pub(crate) fn end(child: &mut Child, signal: Signal) -> Result<ExitStatus> {
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

pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The head in lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

pub(crate) fn binary() -> PathBuf {
    root().join("bin/cupola")
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub(crate) fn example(name: &str) -> String {
    root()
        .join("examples")
        .join(name)
        .to_string_lossy()
        .into_owned()
}

pub(crate) fn both(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Runs a shell command on the machine.
pub(crate) fn sh(command: &str) -> Result<String> {
    let output = Command::new("bash")
        .args(["-c", command])
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()?;
    ensure!(output.status.success(), "{command}: {}", both(&output));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Waits until `check` returns a value. It polls every 50 ms.
pub(crate) fn wait_for<T>(
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

/// The things that a foundation could leave behind on a machine.
pub(crate) struct Machine {
    seen: BTreeMap<&'static str, Vec<String>>,
}

impl Machine {
    pub(crate) fn look() -> Self {
        let commands = [
            (
                "chains and rules",
                "for t in filter nat mangle; do iptables -w -t $t -S; done | grep -v '^-P' || true",
            ),
            (
                "links",
                "ip -o link | awk -F': ' '{print $2}' | cut -d@ -f1 | sort",
            ),
            ("addresses", "ip -o -4 addr | awk '{print $2, $4}' | sort"),
            ("routes", "ip route | sort"),
            ("mounts", "cut -d' ' -f5 /proc/self/mountinfo | sort"),
            ("loop devices", "losetup -a | sort"),
            ("network namespaces", "ls /run/netns 2>/dev/null || true"),
            (
                "cgroups",
                "find /sys/fs/cgroup -maxdepth 4 -type d -name '*cupola*' | sort",
            ),
            ("run files", "ls -d /run/cupola* 2>/dev/null || true"),
            ("hosts file", "cat /etc/hosts"),
        ];
        let seen = commands
            .into_iter()
            .map(|(what, command)| {
                (
                    what,
                    sh(command)
                        .unwrap_or_default()
                        .lines()
                        .map(str::to_owned)
                        .collect(),
                )
            })
            .collect();
        Self { seen }
    }

    pub(crate) fn same_as_now(&self, data: &Path) -> Result<()> {
        let now = Self::look();
        let plan = std::fs::read_to_string(data.join("foundation.json")).unwrap_or_default();
        let plan: Value = serde_json::from_str(&plan).unwrap_or_default();
        let text = |name: &str| plan[name].as_str().unwrap_or("not planned").to_owned();
        let (tag, domain, ip) = (text("tag"), text("domain"), text("cell_ip"));
        let network = ip
            .rsplit_once('.')
            .map_or(ip.clone(), |(net, _)| format!("{net}."));
        let place = data.display().to_string();
        // Other foundations on this machine may start and stop meanwhile.
        let is_ours = |line: &str| {
            let line = line.replace(".0.0/16", "");
            [&tag, &domain, &network, &place]
                .iter()
                .any(|mark| line.contains(mark.as_str()))
        };
        let mut left = Vec::new();
        for (what, before) in &self.seen {
            let added: Vec<_> = now.seen[what]
                .iter()
                .filter(|l| !before.contains(l) && is_ours(l))
                .cloned()
                .collect();
            if !added.is_empty() {
                left.push(format!("{what}: {}", added.join(" | ")));
            }
        }
        let mine = sh(&format!("pgrep -af '{}' || true", data.display()))?;
        let processes: Vec<&str> = mine.lines().filter(|l| !l.contains("pgrep")).collect();
        if !processes.is_empty() {
            left.push(format!("processes: {}", processes.join(" | ")));
        }
        ensure!(left.is_empty(), "left behind:\n{}", left.join("\n"));
        Ok(())
    }
}
