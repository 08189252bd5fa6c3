//! A foundation of five machines, each a network namespace with its own addresses, links and iptables rules: a control plane, two
//! cells and two routers. The machines share a bridge and nothing else but the kernel; each has a data directory and a configuration
//! file of its own, and joins by a bundle.
//!
//! ```text
//!              bridge in a namespace of its own, 10.77.0.0/24
//!      ┌─────────────┬──────────────┼──────────────┬──────────────┐
//!   control .2     cell-1 .3     cell-2 .4     router-1 .5    router-2 .6
//!   bbs, CC, …     cell, dns     cell, dns     router         router
//!   nats                                       nats           nats        (one bus of three servers)
//! ```

mod network;
mod remains;

use crate::foundation::{PASSWORD, binary, both, end, example, kill_nats_servers, wait_for};
use anyhow::{Context as _, Result, ensure};
use network::Network;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A machine: its name, the last byte of its address, and its roles.
type Machine = (&'static str, u8, &'static str);

pub const CONTROL: &str = "control";
pub const CELLS: [&str; 2] = ["cell-1", "cell-2"];
pub const ROUTERS: [&str; 2] = ["router-1", "router-2"];

const MACHINES: [Machine; 5] = [
    (
        CONTROL,
        2,
        "nats,bbs,auctioneer,uaa,log-cache,cloud-controller",
    ),
    (CELLS[0], 3, "cell,dns"),
    (CELLS[1], 4, "cell,dns"),
    (ROUTERS[0], 5, "router,nats"),
    (ROUTERS[1], 6, "router,nats"),
];

/// The machines that have a server of the bus.
const BUS: [u8; 3] = [2, 5, 6];

/// A foundation of five machines. Everything is removed when it is dropped.
#[derive(Debug)]
pub struct Machines {
    domain: String,
    network: Network,
    running: Vec<(&'static str, Child)>,
    directory: tempfile::TempDir,
}

impl Machines {
    /// Boots the control plane, makes a bundle for each other machine, and starts them.
    pub fn boot() -> Result<Self> {
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
            .prefix("cupola-machines-")
            .tempdir()?;
        let names = MACHINES.map(|(name, address, _)| (name, address));
        let mut machines = Self {
            domain: format!("m{}.cupola.test", std::process::id()),
            network: Network::create(&names)?,
            running: Vec::new(),
            directory,
        };
        machines.start_all().with_context(|| machines.logs())?;
        Ok(machines)
    }

    fn start_all(&mut self) -> Result<()> {
        for (name, address, _) in MACHINES {
            std::fs::create_dir_all(self.folder(name))?;
            std::fs::write(self.file(name, "cupola.yml"), self.config(name, address))?;
        }
        self.start(CONTROL)?;
        let plan = self.data(CONTROL).join("foundation.json");
        wait_for("the plan of the control plane", 60, || {
            Ok(plan.exists().then_some(()))
        })?;
        for (name, address, roles) in MACHINES.iter().filter(|(name, ..)| *name != CONTROL) {
            let out = self.file(name, "join.bundle");
            let mut command = Command::new(binary());
            command
                .args(["join-bundle", "--roles", roles, "--host", &ip(*address)])
                .arg("--out")
                .arg(out)
                .arg("--data")
                .arg(self.data(CONTROL));
            succeed(&mut command)?;
            self.start(name)?;
        }
        for router in ROUTERS {
            wait_for("the components' routes", 90, || {
                let answers = [
                    ("api", "/v3/info"),
                    ("login", "/login"),
                    ("log-cache", "/api/v1/info"),
                ]
                .map(|(host, path)| self.get(router, &self.host(host), path));
                let all = answers.into_iter().all(|answer| answer.is_ok());
                Ok(all.then_some(()))
            })?;
        }
        let api = format!("https://api.{}", self.domain);
        let mut login = vec!["login", "-a", &api, "--skip-ssl-validation", "-u", "admin"];
        login.extend(["-p", PASSWORD, "-o", "demo", "-s", "dev"]);
        self.cf_ok(&login).map(drop)
    }

    /// Returns the configuration file of a machine.
    fn config(&self, name: &str, address: u8) -> String {
        let own = ip(address);
        let mut text = format!("domain: {}\nhosts_file: false\n", self.domain);
        if name != CONTROL {
            text.push_str(&format!(
                "join: {}\n",
                self.file(name, "join.bundle").display()
            ));
        }
        if BUS.contains(&address) {
            let others = BUS.iter().filter(|other| **other != address);
            let peers: Vec<String> = others.map(|other| format!("{}:6222", ip(*other))).collect();
            let servers: Vec<String> = BUS.iter().map(|one| format!("{}:4222", ip(*one))).collect();
            // A machine that joins knows the servers from its bundle.
            let servers = match name {
                CONTROL => format!("servers: {servers:?}, "),
                _ => String::new(),
            };
            text.push_str(&format!(
                "nats: {{listen: '{own}:4222', {servers}cluster: {{listen: '{own}:6222', peers: {peers:?}}}}}\n"
            ));
        }
        let role = match name {
            CONTROL => format!(
                "bbs: {{listen: '{own}:8889', locket: {{listen: '{own}:8891'}}}}
auctioneer: {{listen: '{own}:9016'}}
uaa: {{listen: '{own}:8081'}}
log_cache: {{listen: '{own}:8083', ingress: {{listen: '{own}:3458'}}}}
cloud_controller: {{listen: '{own}:9022', internal: {{listen: '{own}:9023'}}}}
"
            ),
            _ if CELLS.contains(&name) => format!(
                "cell: {{id: {name}, zone: zone-of-{name}, ip: {own}, overlay: 10.255.{address}.0/24, listen: '{own}:1801', memory_mb: 2048, disk_mb: 4096}}
dns: {{router: {}}}
",
                ip(MACHINES[3].1)
            ),
            _ => format!(
                "router: {{http: '{own}:80', https: '{own}:443', register_interval: 5, status: {{listen: '{own}:8082'}}}}\n"
            ),
        };
        text + &role
    }

    /// Starts the process of a machine.
    pub fn start(&mut self, name: &str) -> Result<()> {
        let machine = MACHINES.iter().find(|(own, ..)| *own == name);
        let (name, _, roles) = machine.context("there is no such machine")?;
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.file(name, "log"))?;
        let child = self
            .network
            .command(name, &binary())
            .args(["serve", "--roles", roles, "-c"])
            .arg(self.file(name, "cupola.yml"))
            .arg("--data")
            .arg(self.data(name))
            .env("CUPOLA_ADMIN_PASSWORD", PASSWORD)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start cupola serve on {name}"))?;
        self.running.push((name, child));
        Ok(())
    }

    /// Kills the process of a machine and its server of the bus. Containers keep running.
    pub fn kill(&mut self, name: &str) -> Result<()> {
        self.end(name, Signal::SIGKILL)?;
        kill_nats_servers(&self.data(name)).map(drop)
    }

    /// Sends a signal to the process of a machine and waits for its end.
    fn end(&mut self, name: &str, signal: Signal) -> Result<()> {
        let at = self.running.iter().position(|(own, _)| *own == name);
        let (_, mut child) = self.running.remove(at.context("that machine is off")?);
        let status = end(&mut child, signal)?;
        ensure!(
            signal == Signal::SIGKILL || status.success(),
            "{name} ended with {status}:\n{}",
            self.log(name)
        );
        Ok(())
    }

    /// Takes the machine off the network, or connects it again.
    pub fn connect(&self, name: &str, connected: bool) -> Result<()> {
        self.network.connect(name, connected)
    }

    /// Pushes the example app with this number of instances.
    pub fn push(&self, app: &str, instances: u32) -> Result<String> {
        let (path, count) = (example("proxy/bin"), instances.to_string());
        let mut push = vec!["push", app, "-p", &path, "-b", "binary_buildpack"];
        push.extend(["-c", "./proxy", "-m", "64M", "-k", "64M", "-i", &count]);
        self.cf_ok(&push)
    }

    /// Runs `cf …` on the control plane, which must succeed, and returns its output.
    pub fn cf_ok(&self, args: &[&str]) -> Result<String> {
        // Names are known to this command alone: /etc/hosts is one file for all machines here.
        let hosts = self.directory.path().join("hosts");
        let names = ["api", "login", "uaa", "log-cache"].map(|name| self.host(name));
        std::fs::write(
            &hosts,
            format!("{} {}\n", ip(MACHINES[3].1), names.join(" ")),
        )?;
        let mut command = self.network.command(CONTROL, Path::new("unshare"));
        command
            .args(["--mount", "sh", "-c"])
            .arg("mount --bind \"$0\" /etc/hosts && exec \"$@\"")
            .arg(hosts)
            .arg(binary())
            .arg("cf")
            .args(args)
            .env("CF_HOME", self.directory.path());
        succeed(&mut command).with_context(|| format!("cf {}", args.join(" ")))
    }

    /// Returns what `cupola cfdot …` prints, with the data directory of a machine.
    pub fn cfdot(&self, machine: &str, what: &str) -> Result<Vec<Value>> {
        let mut command = self.network.command(machine, &binary());
        command
            .args(["cfdot", what, "--data"])
            .arg(self.data(machine));
        let lines = succeed(&mut command)?;
        let lines = lines.lines().map(serde_json::from_str);
        Ok(lines.collect::<Result<_, _>>()?)
    }

    /// Returns what `cupola why` prints about a URL as JSON, with the data directory of a machine.
    pub fn why(&self, machine: &str, url: &str) -> Result<Value> {
        let mut command = self.network.command(machine, &binary());
        command.args(["why", url, "--json", "--data"]);
        // The command fails if the route is not right.
        let output = command.arg(self.data(machine)).output()?;
        let printed = both(&output);
        serde_json::from_slice(&output.stdout).with_context(|| format!("why {url}: {printed}"))
    }

    /// Returns the running instances: index, cell and instance guid.
    pub fn instances(&self) -> Result<Vec<(u64, String, String)>> {
        let all = self.cfdot(CONTROL, "actual-lrps")?;
        let running = all
            .iter()
            .filter(|lrp| lrp["state"] == "RUNNING" && lrp["presence"] == "ORDINARY");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut found: Vec<_> = running
            .map(|lrp| {
                (
                    lrp["index"].as_u64().unwrap_or_default(),
                    text(&lrp["cell_id"]),
                    text(&lrp["instance_guid"]),
                )
            })
            .collect();
        found.sort();
        Ok(found)
    }

    /// Sends a request from the control plane to a router. Returns the body of a response with status 200.
    pub fn get(&self, router: &str, host: &str, path: &str) -> Result<String> {
        let address = MACHINES.iter().find(|(name, ..)| *name == router);
        let (_, address, _) = address.context("there is no such router")?;
        let url = format!("http://{}{path}", ip(*address));
        let mut command = self.network.command(CONTROL, Path::new("curl"));
        command.args(["-sS", "--fail", "--max-time", "20", "-H"]);
        command.arg(format!("Host: {host}")).arg(url);
        succeed(&mut command)
    }

    /// Runs a program on a machine. Returns what it prints.
    pub fn run(&self, machine: &str, command: &str) -> Result<String> {
        let mut shell = self.network.command(machine, Path::new("sh"));
        succeed(shell.args(["-c", command]))
    }

    pub fn domain(&self) -> &str {
        &self.domain
    }

    pub fn host(&self, name: &str) -> String {
        format!("{name}.{}", self.domain)
    }

    /// Returns the names of the containers that garden has on a cell.
    pub fn containers(&self, cell: &str) -> Result<Vec<String>> {
        let folders = std::fs::read_dir(self.data(cell).join("garden/containers"))?;
        let name = |entry: std::io::Result<std::fs::DirEntry>| {
            Ok(entry?.file_name().to_string_lossy().into_owned())
        };
        folders.map(name).collect()
    }

    /// Ends every process by SIGTERM, cells first, and checks that no machine has more than before.
    pub fn stop_cleanly(&mut self) -> Result<()> {
        for name in CELLS.iter().chain(&ROUTERS).chain([&CONTROL]) {
            if self.running.iter().any(|(own, _)| own == name) {
                self.end(name, Signal::SIGTERM)?;
            }
        }
        for (name, ..) in MACHINES {
            let data = self.data(name);
            let left = remains::of(&data).chain(self.network.remains(name)?);
            let left: Vec<String> = left.collect();
            ensure!(left.is_empty(), "left on {name}:\n{}", left.join("\n"));
        }
        Ok(())
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn file(&self, name: &str, file: &str) -> PathBuf {
        self.folder(name).join(file)
    }

    fn data(&self, name: &str) -> PathBuf {
        self.file(name, "data")
    }

    /// Returns the last lines of a machine's log.
    pub fn log(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.file(name, "log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Returns the last lines of all logs.
    pub fn logs(&self) -> String {
        let log = |(name, ..): Machine| format!("== {name}\n{}", self.log(name));
        MACHINES.map(log).join("\n")
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        for (_, child) in &mut self.running {
            // What is left of it is removed below.
            let _ = child.kill();
            let _ = child.wait();
        }
        for (name, ..) in MACHINES {
            if let Err(error) = remains::remove(&self.data(name)) {
                let mut stderr = std::io::stderr();
                let _ = writeln!(stderr, "machine {name} is not removed: {error:#}");
            }
        }
    }
}

fn ip(address: u8) -> String {
    format!("10.77.0.{address}")
}

/// Runs a command that must succeed, and returns its standard output.
fn succeed(command: &mut Command) -> Result<String> {
    let output: Output = command.stdin(Stdio::null()).output()?;
    ensure!(
        output.status.success(),
        "{command:?} ended with {}: {}",
        output.status,
        both(&output)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
