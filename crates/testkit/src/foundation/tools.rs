//! The tools of a person at a foundation: cf, cfdot, curl, and a shell in an instance.

use super::{Foundation, binary, both, example};
use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// An answer of the router.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// The head in lower case.
    pub head: String,
    pub body: String,
}

/// Ends the nats-servers of the foundation with this data directory at once, and returns how many there were.
pub(crate) fn kill_nats_servers(data: &Path) -> Result<usize> {
    let file = data.join("nats/nats.conf");
    if !file.exists() {
        return Ok(0);
    }
    let running = kit::processes::started_with("nats-server".as_ref(), &file)?;
    for pid in &running {
        nix::sys::signal::kill(Pid::from_raw(*pid), Signal::SIGKILL)?;
    }
    Ok(running.len())
}

impl Foundation {
    /// Ends this foundation's nats-server at once. Its process starts another one.
    pub fn kill_nats_server(&self) -> Result<()> {
        let ended = kill_nats_servers(&self.data)?;
        ensure!(ended == 1, "{ended} nats-servers ran, not one");
        Ok(())
    }

    /// Runs `cf …` with this foundation's own CF_HOME.
    pub fn cf(&self, args: &[&str]) -> Result<Output> {
        self.cf_in(&self.directory.path().join("home"), args)
    }

    /// Runs `cf …` with this CF_HOME.
    pub fn cf_in(&self, home: &Path, args: &[&str]) -> Result<Output> {
        std::fs::create_dir_all(home)?;
        Ok(Command::new(binary())
            .arg("cf")
            .args(args)
            .env("CF_HOME", home)
            .stdin(Stdio::null())
            .output()?)
    }

    /// Runs `cf …`, which must succeed, and returns the output.
    pub fn cf_ok(&self, args: &[&str]) -> Result<String> {
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

    /// Pushes the prebuilt proxy app of `examples/` under a name.
    pub fn push_proxy(&self, name: &str) -> Result<()> {
        let path = example("proxy/bin");
        let size = ["-m", "64M", "-k", "128M"];
        let start = ["-b", "binary_buildpack", "-c", "./proxy"];
        let args = [&["push", name, "-p", &path][..], &start, &size].concat();
        self.cf_ok(&args)?;
        Ok(())
    }

    /// Runs `cf …`, expects exit code 1, and returns the output.
    pub fn cf_fails(&self, args: &[&str]) -> Result<String> {
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

    pub fn cf_curl(&self, path: &str) -> Result<Value> {
        let output = self.cf(&["curl", path])?;
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("cf curl {path}: {}", both(&output)))
    }

    pub fn cfdot(&self, args: &[&str]) -> Result<Vec<Value>> {
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
    pub fn instances(&self, app_guid: &str) -> Result<Vec<Value>> {
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

    pub fn guid(&self, app: &str) -> Result<String> {
        let output = self.cf(&["app", app, "--guid"])?;
        ensure!(
            output.status.success(),
            "cf app {app} --guid: {}",
            both(&output)
        );
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Runs a command inside an instance with `cupola exec` and returns its standard output.
    pub fn exec(&self, app: &str, command: &[&str]) -> Result<String> {
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
    pub fn get(&self, host: &str, path: &str) -> Result<Answer> {
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
    pub fn table(&self) -> Result<Value> {
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
}
