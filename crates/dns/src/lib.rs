//! Names: a small DNS server for containers, and a block in /etc/hosts for the machine itself.
//!
//! Answers every name of the foundation with the router's address and forwards everything else to the machine's own
//! resolvers. Which names are the foundation's: all below the configured domains, and every host that some route
//! has (published on the message bus). It never answers for a name that is not routed, and caches nothing.
//!
//! Internal routes are names for containers: a name such as `shop.apps.internal` is answered with the addresses of all
//! instances of its apps that run and are ready, `2.shop.apps.internal` with the third instance's. Emitters publish them
//! on subjects that no router subscribes to. Whether a container may then connect is the cell's firewall's decision.
//!
//! | Module | Owns |
//! |---|---|
//! | [`names`] | which names are ours, and until when (pure) |
//! | [`internal`] | the containers' own names and addresses (pure) |
//! | [`answer`] | a query's answer, if it is ours (pure) |
//! | [`server`] | UDP and TCP loops |
//! | [`upstream`] | forwarding, with bounded time |
//! | [`learn`] | routes on the message bus → names |
//! | [`hosts`] | the block in /etc/hosts |

mod answer;
pub mod hosts;
mod internal;
mod learn;
mod names;
mod server;
mod upstream;

use anyhow::{Context as _, Result};
use kit::CancellationToken;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::task::TaskTracker;

/// One address, UDP and TCP.
#[derive(Debug)]
pub struct Sockets {
    pub udp: UdpSocket,
    pub tcp: TcpListener,
}

impl Sockets {
    /// Binds both to the same port; port 0 chooses one that is free for both.
    pub async fn bind(addr: SocketAddr) -> Result<Self> {
        let hint = || {
            format!(
                "DNS server on {addr}: is another name server using this address? choose another one in the configuration"
            )
        };
        for _ in 0..20 {
            let udp = UdpSocket::bind(addr).await.with_context(hint)?;
            match TcpListener::bind(udp.local_addr().context("read bound address")?).await {
                Ok(tcp) => return Ok(Self { udp, tcp }),
                Err(_) if addr.port() == 0 => {}
                Err(error) => return Err(error).with_context(hint),
            }
        }
        anyhow::bail!("DNS server on {addr}: no port is free for UDP and TCP")
    }
}

/// Checked configuration.
#[derive(Debug)]
pub struct Config {
    /// Already bound; none: only /etc/hosts is kept.
    pub sockets: Vec<Sockets>,
    /// These and all names below them are the foundation's: the system domain, shared apps domains.
    pub domains: Vec<String>,
    /// Names below these are for containers alone, or do not exist.
    pub internal_domains: Vec<String>,
    /// The answer to all names of the foundation.
    pub router_ip: Ipv4Addr,
    pub nats: clients::nats::Config,
    /// A route that was not heard of again for so long is forgotten.
    pub learned_ttl: Duration,
    /// The machine's resolvers: `/etc/resolv.conf`, read again when it changes.
    pub resolv_conf: PathBuf,
    pub hosts: Option<HostsConfig>,
}

/// The block in the machine's hosts file.
#[derive(Clone, Debug)]
pub struct HostsConfig {
    /// `/etc/hosts`.
    pub path: PathBuf,
    /// Where this machine's own programs reach the router.
    pub ip: IpAddr,
    /// Always there: `api.<system domain>`, `login.`, `uaa.`, `log-cache.`, …
    pub names: Vec<String>,
}

/// Built, nothing running.
#[derive(Debug)]
pub struct Dns {
    config: Config,
}

impl Dns {
    pub fn build(config: Config) -> Result<Self> {
        for domain in config.domains.iter().chain(&config.internal_domains) {
            anyhow::ensure!(
                names::host(domain).is_some_and(|host| !host.starts_with("*.")),
                "DNS domain {domain:?}: want a name such as cupola.test"
            );
        }
        Ok(Self { config })
    }

    /// Where the first pair of sockets listens.
    pub fn addr(&self) -> Option<SocketAddr> {
        self.config
            .sockets
            .first()
            .and_then(|sockets| sockets.udp.local_addr().ok())
    }

    /// Until shutdown; then the block in the hosts file is gone.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let Config {
            sockets,
            domains,
            internal_domains,
            router_ip,
            nats,
            learned_ttl,
            resolv_conf,
            hosts,
        } = self.config;
        let own: Vec<_> = sockets
            .iter()
            .filter_map(|sockets| sockets.udp.local_addr().ok())
            .collect();
        let names = Arc::new(Mutex::new(names::Names::new(
            &domains,
            &internal_domains,
            learned_ttl,
        )));
        let upstream = Arc::new(upstream::Upstream::new(resolv_conf, own.clone()));
        let changed = Arc::new(tokio::sync::Notify::new());
        let tasks = TaskTracker::new();
        for sockets in sockets {
            let server = server::Server {
                names: names.clone(),
                router_ip,
                upstream: upstream.clone(),
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
        learn::learn(&nats, names, changed, shutdown).await?;
        tasks.close();
        tasks.wait().await;
        Ok(())
    }
}
