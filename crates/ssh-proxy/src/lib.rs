//! Lets users log in to the instances of their apps: `cf ssh`, and every other SSH client with a code of `cf ssh-code`.
//!
//! ```text
//!  client ── password: one-time code ──▶ ssh-proxy ── code ──▶ UAA: the user's token
//!                                           ├── token ──▶ Cloud Controller: may the user? which LRP?
//!                                           ├── LRP ──▶ BBS: where is the instance, which key?
//!                                           └── TLS, the instance's name is checked ──▶ Envoy ──▶ sshd
//! ```
//!
//! After the login it copies channels and their requests both ways, each at the speed of its reader. It keeps nothing: every session
//! is decided anew, and one that lasts ends with its instance. It never sees a password that is worth something twice, and it logs
//! no code, token or key.
//!
//! | Module | Owns |
//! |---|---|
//! | [`login`] | the name with which a user logs in (pure) |
//! | [`target`] | where an instance's sshd is, and how to log in there (pure) |
//! | [`permission`] | asking UAA, Cloud Controller and BBS |
//! | [`backend`] | the connection to the sshd |
//! | [`connection`] | one connection: the time to log in, the reasons for its end |
//! | [`front`] | the requests of a client, and its login |
//! | [`shared`] | what connections have in common |
//! | [`relay`] | copying one channel |
//! | [`activity`] | how long nothing was copied |
//! | [`host_key`] | the key by which clients recognise the proxy |
//! | [`metrics`] | what operators see |

mod activity;
mod backend;
mod connection;
mod front;
pub mod host_key;
mod login;
mod metrics;
mod permission;
mod relay;
mod shared;
mod target;

use anyhow::{Context as _, Result};
use clients::loggregator::Emitter;
use kit::CancellationToken;
use kit::metrics::{Observed, Registry};
use kit::readiness::Readiness;
use kit::tls::Identity;
use metrics::Metrics;
use permission::Permission;
use russh::keys::decode_secret_key;
use russh::server::Config as ServerConfig;
use russh::{MethodKind, MethodSet, SshId};
use shared::Shared;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

/// The pause after a failed accept: no descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The time for the sessions to end at shutdown.
const DRAIN: Duration = Duration::from_secs(5);

/// The checked configuration.
pub struct Config {
    /// The listener for SSH clients, already bound.
    pub listener: TcpListener,
    /// The host key as a PEM text, of Ed25519, ECDSA or RSA. Clients know its fingerprint from the root document of the API.
    pub host_key: String,
    /// The UAA and the Cloud Controller.
    pub access: clients::ssh_access::Config,
    pub bbs_url: String,
    /// The identity with which the BBS is called.
    pub identity: Identity,
    /// The identity that instances see, and the CA of the instances.
    pub backend_tls: Identity,
    pub loggregator: Emitter,
    /// The number of connections at once.
    pub connections: usize,
    /// The time without any byte after which a connection is ended.
    pub idle: Duration,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("access", &self.access)
            .field("bbs_url", &self.bbs_url)
            .field("connections", &self.connections)
            .field("idle", &self.idle)
            .finish_non_exhaustive()
    }
}

/// A built proxy. Nothing runs.
#[derive(Debug)]
pub struct SshProxy {
    listener: TcpListener,
    server: Arc<ServerConfig>,
    shared: Arc<Shared>,
    slots: Arc<Semaphore>,
    observed: Observed,
}

impl SshProxy {
    pub fn build(config: Config) -> Result<Self> {
        let host_key = decode_secret_key(&config.host_key, None).context("read the host key")?;
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let permission = Permission {
            access: clients::ssh_access::Client::new(config.access)?,
            bbs: clients::bbs::Client::new(&config.bbs_url, &config.identity)?,
        };
        let tls = kit::tls::client_config(&config.backend_tls)?;
        Ok(Self {
            listener: config.listener,
            server: Arc::new(server(host_key)),
            shared: Arc::new(Shared {
                permission,
                tls: Arc::new(tls),
                client: Arc::new(backend::client()),
                emitter: config.loggregator,
                metrics,
                idle: config.idle,
            }),
            slots: Arc::new(Semaphore::new(config.connections)),
            observed: Observed {
                metrics: Arc::new(registry),
                readiness: Readiness::default(),
            },
        })
    }

    /// Returns the metrics, and the readiness: the proxy asks its peers for each login alone, so it is always ready.
    pub fn observed(&self) -> Observed {
        self.observed.clone()
    }

    pub fn addr(&self) -> SocketAddr {
        self.listener
            .local_addr()
            .expect("a bound listener has an address")
    }

    /// Serves until `shutdown`. Sessions then get a reason, and end.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        tracing::info!(addr = %self.addr(), "ssh-proxy-started");
        let connections = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = shutdown.cancelled() => break,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(error = %error, "accept-failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(slot) = self.slots.clone().try_acquire_owned() else {
                self.shared.metrics.too_many.add(1);
                tracing::warn!(%peer, "connection-refused: too many connections");
                continue;
            };
            let (server, shared) = (self.server.clone(), self.shared.clone());
            let shutdown = shutdown.clone();
            connections.spawn(async move {
                connection::converse(stream, peer, server, shared, shutdown).await;
                drop(slot);
            });
        }
        connections.close();
        let _ = tokio::time::timeout(DRAIN, connections.wait()).await;
        Ok(())
    }
}

fn server(host_key: russh::keys::PrivateKey) -> ServerConfig {
    ServerConfig {
        server_id: SshId::Standard("SSH-2.0-diego-ssh-proxy".into()),
        methods: MethodSet::from(&[MethodKind::Password][..]),
        auth_rejection_time: Duration::from_secs(1),
        // OpenSSH asks first without a password which methods there are.
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![host_key],
        max_auth_attempts: 4,
        // The kernel notices a peer that is gone, and `activity` ends idle connections.
        inactivity_timeout: None,
        keepalive_interval: None,
        ..ServerConfig::default()
    }
}
