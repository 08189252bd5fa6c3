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
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
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

/// The longest time in which servers that were left behind end and free the port.
const LEFTOVERS_END: Duration = Duration::from_secs(2);

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
        let port = bus.reserve_port().await.with_context(|| {
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
        Command::new(&self.program)
            .arg("-c")
            .arg(&self.config)
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", self.program.display()))
    }

    /// Ends the servers that a killed cupola left behind, and reserves the port. A cupola may have been killed at any moment of its
    /// start, so a server is recognized by the configuration file that it was started with.
    async fn reserve_port(&self) -> std::io::Result<std::net::TcpListener> {
        let until = tokio::time::Instant::now() + LEFTOVERS_END;
        loop {
            let name = self.program.file_name().unwrap_or_default();
            for leftover in kit::processes::started_with(name, &self.config)? {
                tracing::info!(pid = leftover, "nats-server-left-behind-ends");
                // It may have ended meanwhile.
                let _ = kill(Pid::from_raw(leftover), Signal::SIGKILL);
            }
            match std::net::TcpListener::bind(self.address) {
                Err(_) if tokio::time::Instant::now() < until => {
                    tokio::time::sleep(ACCEPT_INTERVAL).await;
                }
                bound => return bound,
            }
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
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    if tokio::time::timeout(Duration::from_secs(3), child.wait())
        .await
        .is_err()
    {
        let _ = child.kill().await;
    }
}
