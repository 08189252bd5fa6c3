//! The message bus: [`connect`] for whoever speaks, [`Subscription`] for whoever hears much.

mod connection;
pub mod protocol;
mod refusal;
mod servers;
mod subscription;

pub use protocol::Message;
pub use subscription::{Delivery, PENDING_LIMIT, Subscription};

use anyhow::{Context as _, Result};
use refusal::Refusals;
use std::time::Duration;

/// Where the bus is and who we are there.
#[derive(Clone)]
pub struct Config {
    /// `host:port` of each server.
    pub servers: Vec<String>,
    pub user: String,
    pub password: String,
    /// Set: TLS with this identity (client certificate and CA).
    pub tls: Option<kit::tls::Identity>,
    /// A server that leaves the pings of two such times unanswered is gone. Not zero.
    pub ping_interval: Duration,
}

/// Nobody, at no server, without TLS.
impl Default for Config {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            user: String::new(),
            password: String::new(),
            tls: None,
            ping_interval: PING_INTERVAL,
        }
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("servers", &self.servers)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// gorouter's default.
pub const PING_INTERVAL: Duration = Duration::from_secs(20);

impl Config {
    fn client_tls(&self) -> Result<Option<rustls::ClientConfig>> {
        let tls = self.tls.as_ref().map(kit::tls::client_config).transpose();
        tls.context("TLS to NATS: the certificate, its key or the authority cannot be used")
    }
}

/// Connects, retrying for ever in the background; `name` shows in the server's connection list. `on_event` hears
/// of disconnects and reconnects: after a reconnect the caller must resync, for core NATS loses messages. Why a server does
/// not take us is logged, once until it changes, with what to do about it.
pub async fn connect<F, Fut>(config: &Config, name: &str, on_event: F) -> Result<async_nats::Client>
where
    F: Fn(async_nats::Event) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + Sync + 'static,
{
    let refusals = Refusals::default();
    let mut options = async_nats::ConnectOptions::new()
        .name(name)
        .user_and_password(config.user.clone(), config.password.clone())
        .retry_on_initial_connect()
        .ping_interval(config.ping_interval)
        .reconnect_delay_callback(servers::pause)
        // The client shows its servers here, with what each of them last answered; which one is next is its own affair.
        .reconnect_to_server_callback(move |servers, _| {
            for server in &*servers {
                refusals.look(&server.to_string(), server.last_error.as_deref());
            }
            std::future::ready(None)
        })
        .event_callback(on_event);
    if let Some(tls) = config.client_tls()? {
        options = options.require_tls(true).tls_client_config(tls);
    }
    let addrs = config
        .servers
        .iter()
        .map(|s| {
            s.parse::<async_nats::ServerAddr>()
                .with_context(|| format!("NATS server address {s:?}: want host:port"))
        })
        .collect::<Result<Vec<_>>>()?;
    options.connect(addrs).await.context("connect to NATS")
}
