//! Connecting to the message bus.

use anyhow::{Context as _, Result};

/// Where the bus is and who we are there.
#[derive(Clone)]
pub struct Config {
    /// `host:port` of each server.
    pub servers: Vec<String>,
    pub user: String,
    pub password: String,
    /// Set: TLS with this identity (client certificate and CA).
    pub tls: Option<kit::tls::Identity>,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("servers", &self.servers)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Messages of a subscription that may wait for who reads it (memory is taken as they come). A whole foundation's
/// registrations, sent at once, fit: the socket is drained whatever the reader does. What is beyond is dropped, and told as
/// `Event::SlowConsumer`.
pub const BACKLOG: usize = 1 << 19;

/// Connects, retrying for ever in the background; `name` shows in the server's connection list. `on_event` hears
/// of disconnects and reconnects: after a reconnect the caller must resync, for core NATS loses messages.
pub async fn connect<F, Fut>(config: &Config, name: &str, on_event: F) -> Result<async_nats::Client>
where
    F: Fn(async_nats::Event) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + Sync + 'static,
{
    let mut options = async_nats::ConnectOptions::new()
        .name(name)
        .user_and_password(config.user.clone(), config.password.clone())
        .retry_on_initial_connect()
        .ping_interval(std::time::Duration::from_secs(20))
        .subscription_capacity(BACKLOG)
        .reconnect_delay_callback(|attempts| {
            std::time::Duration::from_millis((50 << attempts.min(5)) as u64)
                .min(std::time::Duration::from_secs(1))
        })
        .event_callback(on_event);
    if let Some(identity) = &config.tls {
        options = options
            .require_tls(true)
            .tls_client_config(kit::tls::client_config(identity)?);
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
