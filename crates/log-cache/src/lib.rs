//! Log-cache keeps the newest log lines and metrics of every source in memory, and decides who may read them.
//!
//! Rep, router and cloud-controller send loggregator v2 envelopes (gRPC over mTLS). The CLI reads `cf logs` from here through the
//! router. Memory is bounded by count and bytes whatever is received. Nothing is kept on disk, and a restart loses everything.
//! Every envelope is also passed to the log drains of its app (crate `drains`), which run here.
//!
//! | Module | Owns |
//! |---|---|
//! | [`store`] | envelopes per source, and which are dropped when memory is full (pure) |
//! | [`ingress`] | the gRPC service |
//! | [`intake`] | the entrance of all envelopes: to the store and to the log drains |
//! | [`dropsonde`] | envelopes of older components, over UDP, if the operator enables it |
//! | [`api`] | the read API |
//! | [`access`] | who may read which sources |
//! | [`metrics`] | what operators see |
//! | [`limits`] | how much is kept |
//! | [`protojson`] | envelopes as the API's JSON (pure) |

mod access;
mod api;
mod dropsonde;
mod ingress;
mod intake;
mod limits;
mod metrics;
mod protojson;
mod store;

pub use limits::Limits;

use anyhow::{Context as _, Result};
use clients::uaa::{ResourceServer, TokenVerifier, VerifierConfig};
use kit::CancellationToken;
use kit::metrics::{Counter, Observed, Registry};
use kit::readiness::Readiness;
use kit::tls::{ClientAuth, Identity};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, UdpSocket};

/// The resources whose scopes count here: those of operators (`doppler.firehose`, `logs.admin`), and those with which Cloud
/// Controller decides what a caller may see.
const AUDIENCES: &[&str] = &["doppler", "logs", "cloud_controller"];

/// The checked configuration.
#[derive(Debug)]
pub struct Config {
    /// The listener of the read API: plain HTTP, behind the router.
    pub listener: TcpListener,
    /// The listener of the ingress: gRPC over mTLS.
    pub grpc_listener: TcpListener,
    /// The socket that receives dropsonde envelopes, as a metron agent does, from everybody who can reach it. `None` means that
    /// there is none.
    pub dropsonde: Option<UdpSocket>,
    pub identity: Identity,
    pub uaa_url: String,
    /// The client that asks the UAA whether a token was revoked. If it is `None`, a token is valid until it expires.
    pub uaa_client: Option<ResourceServer>,
    /// The URL of Cloud Controller's API, e.g. `http://127.0.0.1:9022`. It is asked whether a caller may see an app.
    pub cc_url: String,
    pub limits: Limits,
    /// The log drains of apps. If it is `None`, no logs are sent anywhere.
    pub drains: Option<drains::Config>,
}

/// A built log-cache: both sockets are bound, and nothing runs.
#[derive(Debug)]
pub struct LogCache {
    config: Config,
    access: access::Access,
    store: Arc<Mutex<store::Store>>,
    drains: Option<drains::Drains>,
    egress: Counter,
    observed: Observed,
}

impl LogCache {
    pub fn build(mut config: Config) -> Result<Self> {
        let verifier = TokenVerifier::new(VerifierConfig {
            url: config.uaa_url.clone(),
            audiences: AUDIENCES,
            resource_server: config.uaa_client.clone(),
        })?;
        let access = access::Access::new(verifier, &config.cc_url)?;
        let store = Arc::new(Mutex::new(store::Store::new(config.limits)));
        let mut registry = Registry::default();
        let egress = metrics::add(&mut registry, &store);
        let drains = match config.drains.take() {
            Some(config) => Some(drains::Drains::build(config, &mut registry)?),
            None => None,
        };
        Ok(Self {
            config,
            access,
            store,
            drains,
            egress,
            observed: Observed {
                metrics: Arc::new(registry),
                readiness: Readiness::default(),
            },
        })
    }

    /// Returns the metrics. A log-cache needs nothing to receive envelopes, so it is ready when it runs.
    pub fn observed(&self) -> Observed {
        self.observed.clone()
    }

    /// Returns the address of the read API.
    pub fn addr(&self) -> SocketAddr {
        self.config
            .listener
            .local_addr()
            .expect("a bound listener has an address")
    }

    /// Returns the address on which envelopes are received.
    pub fn grpc_addr(&self) -> SocketAddr {
        self.config
            .grpc_listener
            .local_addr()
            .expect("a bound listener has an address")
    }

    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        tracing::info!(addr = %self.addr(), grpc = %self.grpc_addr(), "log-cache-started");
        let Self {
            config,
            access,
            store,
            drains,
            egress,
            ..
        } = self;
        let intake =
            intake::Intake::new(store.clone(), drains.as_ref().map(drains::Drains::intake));
        let tls = kit::tls::server_config(&config.identity, ClientAuth::Required, &["h2"])
            .context("use the certificate of the log-cache ingress")?;
        let ingress = kit::http::serve(
            config.grpc_listener,
            Some(tls),
            ingress::router(intake.clone(), shutdown.clone()),
            shutdown.clone(),
        );
        let older = async {
            match config.dropsonde {
                Some(socket) => dropsonde::serve(socket, intake.clone(), shutdown.clone()).await,
                None => Ok(()),
            }
        };
        let api = api::router(store, access, egress);
        let api = kit::http::serve(config.listener, None, api, shutdown.clone());
        let draining = async {
            let Some(drains) = drains else { return Ok(()) };
            // Lines about a drain are lines of the app, which its other drains get too.
            let entrance = intake.clone();
            let report = Arc::new(move |line| entrance.accept(vec![line]));
            drains.run(report, shutdown.clone()).await
        };
        tokio::try_join!(ingress, api, older, draining).map(drop)
    }
}
