//! Log-cache: the newest log lines and metrics of every source, in memory, and who may read them.
//!
//! Rep, router and cloud-controller send loggregator v2 envelopes (gRPC over mTLS); the CLI reads `cf logs` from here through
//! the router. Memory is bounded by count and bytes whatever comes in; nothing is kept on disk, and a restart forgets.
//!
//! | Module | Owns |
//! |---|---|
//! | [`store`] | envelopes per source, what goes when memory is full (pure) |
//! | [`ingress`] | the gRPC service |
//! | [`dropsonde`] | envelopes of older originals, by UDP, if the operator wants them |
//! | [`api`] | the read API |
//! | [`access`] | who may read what |
//! | [`protojson`] | envelopes as the API's JSON (pure) |

mod access;
mod api;
mod dropsonde;
mod ingress;
mod protojson;
mod store;

pub use store::Limits;

use anyhow::{Context as _, Result};
use clients::uaa::{ResourceServer, TokenVerifier, VerifierConfig};
use kit::CancellationToken;
use kit::tls::{ClientAuth, Identity};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, UdpSocket};

/// Resources whose scopes mean something here: operators' (`doppler.firehose`, `logs.admin`), and those with which Cloud
/// Controller tells what a caller sees.
const AUDIENCES: &[&str] = &["doppler", "logs", "cloud_controller"];

/// Checked configuration.
#[derive(Debug)]
pub struct Config {
    /// The read API: plain HTTP, behind the router.
    pub listener: TcpListener,
    /// The ingress: gRPC over mTLS.
    pub grpc_listener: TcpListener,
    /// Takes dropsonde envelopes, as a metron agent does, from everybody who can reach it. `None`: nobody does.
    pub dropsonde: Option<UdpSocket>,
    pub identity: Identity,
    pub uaa_url: String,
    /// Asks the UAA whether a token was revoked. `None`: a token counts until it expires.
    pub uaa_client: Option<ResourceServer>,
    /// Cloud Controller's API: `http://127.0.0.1:9022`. Asked whether a caller may see an app.
    pub cc_url: String,
    pub limits: Limits,
}

/// Built: both sockets bound, nothing running.
#[derive(Debug)]
pub struct LogCache {
    config: Config,
    access: access::Access,
}

impl LogCache {
    pub fn build(config: Config) -> Result<Self> {
        let verifier = TokenVerifier::new(VerifierConfig {
            url: config.uaa_url.clone(),
            audiences: AUDIENCES,
            resource_server: config.uaa_client.clone(),
        })?;
        let access = access::Access::new(verifier, &config.cc_url)?;
        Ok(Self { config, access })
    }

    /// Where the read API listens.
    pub fn addr(&self) -> SocketAddr {
        self.config
            .listener
            .local_addr()
            .expect("a bound listener has an address")
    }

    /// Where envelopes are taken.
    pub fn grpc_addr(&self) -> SocketAddr {
        self.config
            .grpc_listener
            .local_addr()
            .expect("a bound listener has an address")
    }

    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        tracing::info!(addr = %self.addr(), grpc = %self.grpc_addr(), "log-cache-started");
        let Self { config, access } = self;
        let store = Arc::new(Mutex::new(store::Store::new(config.limits)));
        let tls = kit::tls::server_config(&config.identity, ClientAuth::Required, &["h2"])
            .context("log-cache ingress")?;
        let ingress = kit::http::serve(
            config.grpc_listener,
            Some(tls),
            ingress::router(store.clone(), shutdown.clone()),
            shutdown.clone(),
        );
        let older = async {
            match config.dropsonde {
                Some(socket) => dropsonde::serve(socket, store.clone(), shutdown.clone()).await,
                None => Ok(()),
            }
        };
        let api = api::router(store.clone(), access);
        let api = kit::http::serve(config.listener, None, api, shutdown.clone());
        tokio::try_join!(ingress, api, older).map(drop)
    }
}
