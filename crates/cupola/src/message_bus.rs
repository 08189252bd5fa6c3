//! The message bus: a real `nats-server` as a child process, which is restarted whenever it ends. With `nats.cluster` in the
//! configuration it forms one bus with the servers of other machines. A bus that other machines reach uses mutual TLS.

#[cfg(test)]
mod tests;

use crate::addresses::Service;
use crate::config::{Cluster, Config};
use crate::files::keep_private;
use crate::plan::{NATS_USER, Plan};
use anyhow::{Context as _, Result};
use kit::CancellationToken;
use kit::backoff::Backoff;
use kit::metrics::{Counter, Observed, Registry};
use kit::readiness::{Need, Readiness};
use kit::tls::Identity;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// A configured bus. Nothing runs yet.
#[derive(Debug)]
pub(crate) struct MessageBus {
    program: PathBuf,
    config: PathBuf,
    pid_file: PathBuf,
    /// The listener that reserves the port until the server takes it.
    port: Option<std::net::TcpListener>,
    address: SocketAddr,
    /// The starts of the server.
    starts: Counter,
    accepts: Need,
    observed: Observed,
}

/// The interval at which a server that has started is asked whether it accepts connections.
const ACCEPT_INTERVAL: Duration = Duration::from_millis(50);

impl MessageBus {
    /// Ends a server that a killed cupola left behind, and reserves the port.
    ///
    /// With an `identity`, clients and other servers must present a certificate of its CA.
    pub(crate) async fn build(
        plan: &Plan,
        config: &Config,
        program: PathBuf,
        identity: Option<&Identity>,
    ) -> Result<Self> {
        let directory = config.data.join("nats");
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("create {}", directory.display()))?;
        let own = plan.address(Service::Nats);
        let address = own.listen;
        let (mut registry, readiness) = (Registry::default(), Readiness::default());
        let mut bus = Self {
            address,
            starts: registry.counter("nats_server_starts_total", "Starts of nats-server"),
            accepts: readiness.need("nats-server"),
            observed: Observed {
                metrics: Arc::new(registry),
                readiness,
            },
            program,
            config: directory.join("nats.conf"),
            pid_file: directory.join("nats.pid"),
            port: None,
        };
        let tls = match identity {
            Some(identity) => tls_text(&directory, identity)?,
            None => String::new(),
        };
        let mut text = server_text(plan, &own.advertise, address, &directory.join("nats.log"));
        text.push_str(&tls);
        if let Some(cluster) = &config.bus.cluster {
            text.push_str(&cluster_text(plan, cluster, &tls));
        }
        keep_private(&bus.config, &text)?;
        bus.end_leftover().await;
        let port = std::net::TcpListener::bind(address).with_context(|| {
            format!("nats-server cannot listen on {address}, this foundation's address for it: another program does; `ss -ltnp sport = {}` shows which, stop that one", address.port())
        })?;
        bus.port = Some(port);
        if let Some(cluster) = &config.bus.cluster {
            // Only the check: the server binds the address itself.
            drop(std::net::TcpListener::bind(cluster.listen).with_context(|| {
                format!("nats-server cannot listen on {} for its cluster: set another address with nats.cluster.listen", cluster.listen)
            })?);
        }
        Ok(bus)
    }

    /// Returns the metrics, and the readiness: the server accepts connections.
    pub(crate) fn observed(&self) -> Observed {
        self.observed.clone()
    }

    /// Reports when the server accepts connections.
    async fn report_accepting(&self) -> Infallible {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        while TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(ACCEPT_INTERVAL).await;
        }
        self.accepts.met();
        std::future::pending().await
    }

    /// Runs the server until shutdown. It is restarted within a second whenever it ends.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> Result<()> {
        drop(self.port.take());
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        loop {
            let started = tokio::time::Instant::now();
            let mut child = self.spawn()?;
            self.starts.add(1);
            tokio::select! {
                () = shutdown.cancelled() => {
                    terminate(&mut child).await;
                    let _ = std::fs::remove_file(&self.pid_file);
                    return Ok(());
                }
                never = self.report_accepting() => match never {},
                status = child.wait() => {
                    let status = status.map_or_else(|e| e.to_string(), |s| s.to_string());
                    tracing::warn!(status, "nats-server-ended");
                    self.accepts.unmet(format!("it ended ({status}) and is started again"));
                }
            }
            if started.elapsed() > Duration::from_secs(10) {
                backoff.reset();
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    fn spawn(&self) -> Result<Child> {
        let child = Command::new(&self.program)
            .arg("-c")
            .arg(&self.config)
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", self.program.display()))?;
        let pid = child.id().map(|pid| pid.to_string()).unwrap_or_default();
        // Only a start after a kill needs the file.
        if let Err(error) = self.write_pid(&pid) {
            tracing::warn!(%error, file = %self.pid_file.display(), "pid-not-written");
        }
        Ok(child)
    }

    /// Overwrites the process id in place, which needs no space on a full disk.
    fn write_pid(&self, pid: &str) -> std::io::Result<()> {
        use std::io::Write as _;
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&self.pid_file)?;
        file.write_all(pid.as_bytes())?;
        file.set_len(pid.len() as u64)
    }

    /// Ends the server of a cupola that was killed, but only if the process was started with our configuration file.
    async fn end_leftover(&self) {
        let Some(pid) = std::fs::read_to_string(&self.pid_file)
            .ok()
            .and_then(|t| t.trim().parse::<i32>().ok())
        else {
            return;
        };
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if !String::from_utf8_lossy(&command).contains(&*self.config.to_string_lossy()) {
            return;
        }
        let pid = nix::unistd::Pid::from_raw(pid);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        for _ in 0..100 {
            if nix::sys::signal::kill(pid, None).is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Returns the server's configuration. Other servers of a cluster pass the advertised address on to their clients.
fn server_text(plan: &Plan, advertise: &str, listen: SocketAddr, log: &Path) -> String {
    format!(
        "# written by cupola\nlisten: \"{listen}\"\nclient_advertise: \"{advertise}\"\nmax_payload: 1MB\nmax_pending: 64MB\nwrite_deadline: \"10s\"\nlogfile: \"{}\"\nlogfile_size_limit: 10MB\nauthorization {{ user: \"{NATS_USER}\", password: \"{}\" }}\n",
        log.display(),
        plan.nats_password,
    )
}

/// Writes the identity to files, and returns the part of the configuration that demands TLS. The certificate and its key are one
/// file, so that they always belong together. A full disk leaves those of the last start, which are valid as well.
fn tls_text(directory: &Path, identity: &Identity) -> Result<String> {
    let (own, ca) = (directory.join("server.pem"), directory.join("ca.crt"));
    let pair = format!("{}{}", identity.cert_pem, identity.key_pem);
    let written = keep_private(&own, &pair).and_then(|()| keep_private(&ca, &identity.ca_pem));
    match written {
        Err(error) if own.exists() && ca.exists() => {
            tracing::warn!(error = format!("{error:#}"), "nats-certificate-not-renewed");
        }
        written => written?,
    }
    let (own, ca) = (own.display(), ca.display());
    Ok(format!(
        "tls {{ cert_file: \"{own}\", key_file: \"{own}\", ca_file: \"{ca}\", verify: true }}\n"
    ))
}

/// Returns the part of the configuration that connects the server with those of other machines.
fn cluster_text(plan: &Plan, cluster: &Cluster, tls: &str) -> String {
    let password = &plan.nats_password;
    let route = |peer: &String| format!("    \"nats-route://{NATS_USER}:{password}@{peer}\"\n");
    let routes: String = cluster.peers.iter().map(route).collect();
    format!(
        "cluster {{\n  name: \"{}\"\n  listen: \"{}\"\n  authorization {{ user: \"{NATS_USER}\", password: \"{password}\" }}\n  routes: [\n{routes}  ]\n  {tls}}}\n",
        plan.domain, cluster.listen
    )
}

async fn terminate(child: &mut Child) {
    if let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()) {
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid),
            nix::sys::signal::Signal::SIGTERM,
        );
    }
    if tokio::time::timeout(Duration::from_secs(3), child.wait())
        .await
        .is_err()
    {
        let _ = child.kill().await;
    }
}
