//! The message bus: [`connect`] serves publishers and those who receive little, [`Subscription`] those who receive much, and [`ask`]
//! those who have one question.

mod connection;
pub mod protocol;
mod question;
mod refusal;
mod servers;
mod subscription;

pub use protocol::Message;
pub use question::{Answers, ask};
pub use subscription::{Delivery, PENDING_LIMIT, Subscription};

use anyhow::{Context as _, Result};
use kit::readiness::Need;
use refusal::Refusals;
use std::time::Duration;

/// The addresses of the bus, and the identity of this process there.
#[derive(Clone)]
pub struct Config {
    /// The address of each server, as `host:port`.
    pub servers: Vec<String>,
    pub user: String,
    pub password: String,
    /// The client certificate and the CA, if TLS is used.
    pub tls: Option<kit::tls::Identity>,
    /// The interval between pings, which must not be zero. A server that leaves two pings unanswered counts as gone.
    pub ping_interval: Duration,
}

/// A configuration without a server, a user and TLS.
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

/// The default interval between pings, which is gorouter's.
pub const PING_INTERVAL: Duration = Duration::from_secs(20);

impl Config {
    fn client_tls(&self) -> Result<Option<rustls::ClientConfig>> {
        let tls = self.tls.as_ref().map(kit::tls::client_config).transpose();
        tls.context("TLS to NATS: the certificate, its key or the authority cannot be used")
    }
}

/// Reports to `bus` whether a server is connected, as far as the event changes it.
pub fn report(event: &async_nats::Event, bus: &Need) {
    match event {
        async_nats::Event::Connected => bus.met(),
        async_nats::Event::Disconnected | async_nats::Event::Closed => {
            bus.unmet("no server is connected");
        }
        _ => {}
    }
}

/// Connects in the background, and retries without end. `name` appears in the server's list of connections. `on_event` is called
/// on disconnects and reconnects; after a reconnect the caller must resync, because core NATS loses messages. The reason why a
/// server refuses the connection is logged together with the remedy, once until it changes.
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
        // The client passes its servers here, with the last error of each. Returning `None` leaves the choice of the next one to
        // the client.
        .reconnect_to_server_callback(move |servers, _| {
            for server in &*servers {
                refusals.record(&server.to_string(), server.last_error.as_deref());
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
                .with_context(|| format!("NATS server address {s:?}: expected host:port"))
        })
        .collect::<Result<Vec<_>>>()?;
    options.connect(addrs).await.context("connect to NATS")
}
