//! Connecting to the message bus, and hearing from it without bounds in time but within bounds in memory.

mod refusal;
mod subscription;

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
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("servers", &self.servers)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Messages that may wait between the socket and who takes them from it. A [`Subscription`] takes them with every look; what is
/// beyond is dropped, and told as `Event::SlowConsumer`.
const UNTAKEN: usize = 1 << 16;

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
        .ping_interval(Duration::from_secs(20))
        .subscription_capacity(UNTAKEN)
        .reconnect_delay_callback(|attempts| {
            Duration::from_millis((50 << attempts.min(5)) as u64).min(Duration::from_secs(1))
        })
        // The client shows its servers here, with what each of them last answered; which one is next is its own affair.
        .reconnect_to_server_callback(move |servers, _| {
            refusals.look(&servers);
            std::future::ready(None)
        })
        .event_callback(on_event);
    if let Some(identity) = &config.tls {
        let tls = kit::tls::client_config(identity)
            .context("TLS to NATS: the certificate, its key or the authority cannot be used")?;
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
