//! Provides names: a small DNS server for containers, and a block in /etc/hosts for the machine itself.
//!
//! It answers every name of the foundation with the router's address, and forwards all other queries to the machine's own
//! resolvers. The foundation's names are all names below the configured domains, and every host of some route (as published on
//! the message bus). It never answers for a name that is not routed, and caches nothing.
//!
//! Internal routes are names for containers: a name such as `shop.apps.internal` is answered with the addresses of all running
//! and ready instances of its apps, `2.shop.apps.internal` with that of the third instance. Emitters publish them on subjects to
//! which no router subscribes. The cell's firewall decides whether a container may then connect.
//!
//! | Module | Owns |
//! |---|---|
//! | [`names`] | the names of the foundation, and until when they are valid (pure) |
//! | [`internal`] | the names of containers and their addresses (pure) |
//! | [`answer`] | the answer to a query for such a name (pure) |
//! | [`server`] | the UDP and TCP loops |
//! | [`upstream`] | forwarding, with bounded time |
//! | [`learn`] | the conversion of routes on the message bus to names |
//! | [`hosts`] | the block in /etc/hosts |
//! | [`metrics`] | what operators see |

mod answer;
pub mod hosts;
mod internal;
mod learn;
mod metrics;
mod names;
mod server;
mod upstream;

use anyhow::{Context as _, Result};
use kit::CancellationToken;
use kit::metrics::{Observed, Registry};
use kit::readiness::Readiness;
use metrics::Metrics;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::task::TaskTracker;

/// A pair of sockets at one address, for UDP and TCP.
#[derive(Debug)]
pub struct Sockets {
    pub udp: UdpSocket,
    pub tcp: TcpListener,
}

impl Sockets {
    /// Binds both to the same port. Port 0 chooses one that is free for both.
    pub async fn bind(addr: SocketAddr) -> Result<Self> {
        let hint = || {
            format!(
                "DNS server on {addr}: is another name server using this address? choose another one in the configuration"
            )
        };
        for _ in 0..20 {
            let udp = UdpSocket::bind(addr).await.with_context(hint)?;
            match TcpListener::bind(udp.local_addr().context("read the bound address")?).await {
                Ok(tcp) => return Ok(Self { udp, tcp }),
                Err(_) if addr.port() == 0 => {}
                Err(error) => return Err(error).with_context(hint),
            }
        }
        anyhow::bail!("DNS server on {addr}: no port is free for both UDP and TCP")
    }
}

/// The checked configuration.
#[derive(Debug)]
pub struct Config {
    /// The bound sockets. Without any, only /etc/hosts is maintained.
    pub sockets: Vec<Sockets>,
    /// The domains of the foundation, which include all names below them: the system domain, shared apps domains.
    pub domains: Vec<String>,
    /// The domains whose names are for containers alone, or do not exist.
    pub internal_domains: Vec<String>,
    /// The address with which all names of the foundation are answered.
    pub router_ip: Ipv4Addr,
    pub nats: clients::nats::Config,
    /// The time after which a route that was not registered again is forgotten.
    pub learned_ttl: Duration,
    /// The path of the list of the machine's resolvers, usually `/etc/resolv.conf`. It is read again when it changes.
    pub resolv_conf: PathBuf,
    pub hosts: Option<HostsConfig>,
}

/// The configuration of the block in the machine's hosts file.
#[derive(Clone, Debug)]
pub struct HostsConfig {
    /// The path of the hosts file, usually `/etc/hosts`.
    pub path: PathBuf,
    /// The address at which this machine's own programs reach the router.
    pub ip: IpAddr,
    /// The names that are always in the block: `api.<system domain>`, `login.`, `uaa.`, `log-cache.`, …
    pub names: Vec<String>,
}

/// A DNS server that is built but not running.
#[derive(Debug)]
pub struct Dns {
    config: Config,
    names: Arc<Mutex<names::Names>>,
    metrics: Metrics,
    observed: Observed,
}

impl Dns {
    pub fn build(config: Config) -> Result<Self> {
        for domain in config.domains.iter().chain(&config.internal_domains) {
            anyhow::ensure!(
                names::host(domain).is_some_and(|host| !host.starts_with("*.")),
                "DNS domain {domain:?}: expected a name such as cupola.test"
            );
        }
        let names = Arc::new(Mutex::new(names::Names::new(
            &config.domains,
            &config.internal_domains,
            config.learned_ttl,
        )));
        let (mut registry, readiness) = (Registry::default(), Readiness::default());
        let metrics = Metrics::new(&mut registry, &readiness);
        metrics::read_names(&mut registry, &names);
        if config.nats.servers.is_empty() {
            metrics.bus.met();
        }
        Ok(Self {
            config,
            names,
            metrics,
            observed: Observed {
                metrics: Arc::new(registry),
                readiness,
            },
        })
    }

    /// Returns the metrics, and the readiness: the server learns names from the message bus.
    pub fn observed(&self) -> Observed {
        self.observed.clone()
    }

    /// Returns the address of the first pair of sockets.
    pub fn addr(&self) -> Option<SocketAddr> {
        self.config
            .sockets
            .first()
            .and_then(|sockets| sockets.udp.local_addr().ok())
    }

    /// Runs until shutdown, and then removes the block in the hosts file.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let Config {
            sockets,
            domains,
            router_ip,
            nats,
            resolv_conf,
            hosts,
            ..
        } = self.config;
        let (names, metrics) = (self.names, self.metrics);
        let own: Vec<_> = sockets
            .iter()
            .filter_map(|sockets| sockets.udp.local_addr().ok())
            .collect();
        let upstream = Arc::new(upstream::Upstream::new(resolv_conf, own.clone()));
        let changed = Arc::new(tokio::sync::Notify::new());
        let tasks = TaskTracker::new();
        for sockets in sockets {
            let server = server::Server {
                names: names.clone(),
                router_ip,
                upstream: upstream.clone(),
                metrics: metrics.clone(),
                running: Arc::new(tokio::sync::Semaphore::new(server::MAX_RUNNING)),
            };
            tasks.spawn(server.run(sockets, shutdown.clone()));
        }
        if let Some(hosts) = hosts {
            tasks.spawn(hosts::keep(
                hosts,
                names.clone(),
                changed.clone(),
                shutdown.clone(),
            ));
        }
        tracing::info!(addrs = ?own, domains = ?domains, "dns-started");
        learn::learn(&nats, names, changed, metrics.bus, shutdown).await?;
        tasks.close();
        tasks.wait().await;
        Ok(())
    }
}
