//! Shows how a route propagates: both flows of the foundation as a line map with live values, on which each change travels as a train.
//!
//! It owns the sessions of its users and a bounded memory of the last changes. Events of the BBS, messages of the bus and the routers'
//! pages wake it. It changes nothing in the foundation, stores nothing, and shows to a developer only what the Cloud Controller's API shows
//! to the same token. Secrets and environment variables never reach it.
//!
//! ```text
//!  bbs events ─┐                           ┌─ /api/v1/* ◀── the page, `curl` with a token
//!  NATS ───────┼─▶ follow ─▶ picture ──────┤
//!  routers ────┘   (tasks)   (pure)        └─ /api/v1/stream (server-sent events)
//!  cloud-controller ◀── /v3/* with the user's own token ── relay, tap
//! ```
//!
//! | Module | Owns |
//! |---|---|
//! | [`picture`] | the state, the trains, verdicts and lists (pure) |
//! | [`follow`] | the tasks that read the components |
//! | [`live`] | the picture that they share |
//! | [`pages`], [`cloud_controller`] | requests to routers and to the API |
//! | [`access`] | signing in, sessions, what a user may see |
//! | [`api`] | paths, the page and its files |
//! | [`shared`], [`refusal`] | what all requests share; refusals |
//! | [`metrics`] | what operators see |

mod access;
mod api;
mod cloud_controller;
mod follow;
mod live;
mod metrics;
mod pages;
mod picture;
mod refusal;
mod shared;

pub use access::OAuth;

use access::{Sessions, SignIn, Visible};
use anyhow::{Context as _, Result};
use clients::uaa::{ResourceServer, TokenVerifier, VerifierConfig};
use cloud_controller::CloudController;
use kit::CancellationToken;
use kit::metrics::{Observed, Registry};
use kit::readiness::Readiness;
use kit::tls::Identity;
use live::Live;
use metrics::Metrics;
use pages::Pages;
use shared::{Facts, Shared};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use survey::RouterAddress;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

/// The APIs whose tokens are accepted.
const AUDIENCES: &[&str] = &["cloud_controller"];
/// The highest number of pages that follow the picture at the same time.
const STREAMS: usize = 256;

/// The checked configuration.
#[derive(Debug)]
pub struct Config {
    /// The listener for plain HTTP, already bound. The router is in front of it.
    pub listener: TcpListener,
    /// The URL at which browsers reach it: `https://dashboard.<system domain>`.
    pub external_url: String,
    /// The external URL of the Cloud Controller, which the page shows in commands.
    pub api_url: String,
    /// The URL at which this process reaches the Cloud Controller's public API.
    pub cloud_controller_url: String,
    pub log_cache_url: String,
    pub oauth: OAuth,
    pub bbs_url: String,
    /// The identity at the BBS.
    pub identity: Identity,
    pub nats: clients::nats::Config,
    /// The routers whose pages are read.
    pub routers: Vec<RouterAddress>,
}

/// A dashboard that is built but not running.
#[derive(Debug)]
pub struct Dashboard {
    listener: TcpListener,
    shared: Arc<Shared>,
    bbs: clients::bbs::Client,
    nats: clients::nats::Config,
    shutdown: CancellationToken,
    observed: Observed,
}

impl Dashboard {
    pub fn build(config: Config) -> Result<Self> {
        kit::tls::install_crypto();
        let (mut registry, readiness) = (Registry::default(), Readiness::default());
        let metrics = Metrics::new(&mut registry, &readiness);
        let external = config.external_url.trim_end_matches('/').to_owned();
        let verifier = TokenVerifier::new(VerifierConfig {
            url: config.oauth.uaa_url.clone(),
            audiences: AUDIENCES,
            resource_server: Some(ResourceServer {
                client_id: config.oauth.client_id.clone(),
                secret: config.oauth.client_secret.clone(),
            }),
        })?;
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(30))
            .build()
            .context("build HTTP client")?;
        let routers = config.routers.into_iter().map(Pages::new);
        let shutdown = CancellationToken::new();
        let shared = Arc::new(Shared {
            live: Live::new(),
            sessions: Sessions::default(),
            sign_in: SignIn::new(config.oauth, format!("{external}/signed-in"))?,
            verifier,
            visible: Visible::default(),
            cloud_controller: CloudController::new(&config.cloud_controller_url)?,
            log_cache_url: config.log_cache_url.trim_end_matches('/').to_owned(),
            http,
            routers: routers.collect::<Result<_>>()?,
            facts: Facts {
                api_url: config.api_url,
                origin: external,
            },
            metrics,
            streams: Arc::new(Semaphore::new(STREAMS)),
            shutdown: shutdown.clone(),
        });
        read_levels(&mut registry, &shared);
        Ok(Self {
            listener: config.listener,
            shared,
            bbs: clients::bbs::Client::new(config.bbs_url, &config.identity)?,
            nats: config.nats,
            shutdown,
            observed: Observed {
                metrics: Arc::new(registry),
                readiness,
            },
        })
    }

    /// Returns the metrics, and the readiness: the dashboard follows the BBS and the bus.
    pub fn observed(&self) -> Observed {
        self.observed.clone()
    }

    pub fn addr(&self) -> SocketAddr {
        self.listener
            .local_addr()
            .expect("a bound listener has an address")
    }

    /// Runs until shutdown.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        tracing::info!(addr = %self.addr(), "dashboard-started");
        let (shared, own) = (self.shared, self.shutdown);
        let tasks = TaskTracker::new();
        let live = &shared.live;
        let need = shared.metrics.bbs.clone();
        tasks.spawn(follow::bbs(self.bbs, live.clone(), need, own.clone()));
        for pages in &shared.routers {
            tasks.spawn(follow::router(pages.clone(), live.clone(), own.clone()));
        }
        let bus = follow::bus(
            self.nats,
            live.clone(),
            shared.metrics.bus.clone(),
            own.clone(),
        );
        let api = api::router(shared.clone());
        let served = kit::http::serve(self.listener, None, api, own.clone());
        tokio::pin!(bus, served);
        // Streams end at once, so that the server can drain.
        let ended = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            ended = bus.as_mut() => ended,
            ended = served.as_mut() => return ended,
        };
        own.cancel();
        served.await?;
        tasks.close();
        tasks.wait().await;
        ended
    }
}

/// Adds the levels that are read when the page of metrics is.
fn read_levels(registry: &mut Registry, shared: &Arc<Shared>) {
    let of = shared.clone();
    registry.read(
        "dashboard_sessions",
        "Users that are signed in",
        move || Some(of.sessions.len() as f64),
    );
    let of = shared.clone();
    registry.read(
        "dashboard_streams",
        "Pages that follow the picture",
        move || Some(of.live.watchers() as f64),
    );
}
