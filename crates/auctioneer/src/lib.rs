//! The auctioneer: collects the auctions that the BBS requests, and sends the work to cells.
//!
//! ```text
//! BBS ─POST /v1/lrps, /v1/tasks─▶ queue ─▶ batch: BBS cells ─▶ GET /state of all ─▶ auction::place ─▶ POST /work per cell
//!                                                             BBS fail / reject ◀─ work that no cell accepted
//! ```
//! A batch begins as soon as work is requested, and contains everything that has arrived until then. There is one batch at a
//! time, because the next one must see what this one placed. Nothing is stored on disk: the BBS's convergence repeats lost
//! requests. Only the holder of the locket key `auctioneer` works; others answer 503.
//!
//! It never starts a container itself, and never decides twice about work that a cell may have accepted.

mod api;
mod batch;
mod convert;
mod metrics;
mod queue;

use crate::batch::Runner;
use crate::metrics::Metrics;
use crate::queue::Queue;
use anyhow::{Context as _, Result};
use auction::Weights;
use clients::locket;
use kit::CancellationToken;
use kit::metrics::{Level, Observed, Registry};
use kit::readiness::{Need, Readiness};
use kit::tls::{ClientAuth, Identity};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

const LOCK: &str = "auctioneer";

/// The configuration of an auctioneer.
#[derive(Debug)]
pub struct Config {
    /// The listener of the API, which uses mTLS.
    pub listener: TcpListener,
    pub identity: Identity,
    pub bbs_url: String,
    pub locket_url: String,
    pub weights: Weights,
    /// The time that a cell has to report its state. A slower one gets no work of this batch.
    pub cell_state_timeout: Duration,
    /// The time after the start, and after the acquisition of the lock, in which it waits for the first cell before it reports
    /// that there is none.
    pub first_cell_grace: Duration,
}

impl Config {
    /// Makes a configuration with the original's weights and time-outs.
    pub fn new(
        listener: TcpListener,
        identity: Identity,
        bbs_url: impl Into<String>,
        locket_url: impl Into<String>,
    ) -> Self {
        Self {
            listener,
            identity,
            bbs_url: bbs_url.into(),
            locket_url: locket_url.into(),
            weights: Weights::default(),
            cell_state_timeout: Duration::from_secs(10),
            first_cell_grace: Duration::from_secs(20),
        }
    }
}

/// An auctioneer that is built but not running.
#[derive(Debug)]
pub struct Auctioneer {
    listener: TcpListener,
    addr: SocketAddr,
    tls: Arc<rustls::ServerConfig>,
    lock: locket::Lock,
    runner: Runner,
    queue: Arc<Queue>,
    metrics: Metrics,
    lock_is_held: Need,
    observed: Observed,
}

impl Auctioneer {
    pub async fn build(config: Config) -> Result<Self> {
        let addr = config
            .listener
            .local_addr()
            .context("read the auctioneer's address")?;
        let identity = &config.identity;
        let queue = Arc::new(Queue::new());
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let readiness = Readiness::default();
        let lock_is_held = readiness.need("the lock");
        let runner = Runner {
            bbs: clients::bbs::Client::new(config.bbs_url, identity)?,
            reps: clients::rep::Client::new(identity)?,
            queue: queue.clone(),
            metrics: metrics.clone(),
            weights: config.weights,
            cell_state_timeout: config.cell_state_timeout,
            first_cell_grace: config.first_cell_grace,
        };
        Ok(Self {
            addr,
            tls: kit::tls::server_config(identity, ClientAuth::Required, &["h2", "http/1.1"])?,
            lock: locket::Lock::new(
                locket::Client::new(config.locket_url, identity)?,
                LOCK,
                &owner(addr),
            ),
            listener: config.listener,
            runner,
            queue,
            metrics,
            lock_is_held,
            observed: Observed {
                metrics: Arc::new(registry),
                readiness,
            },
        })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the metrics, and the readiness: an auctioneer without the lock does no work.
    pub fn observed(&self) -> Observed {
        self.observed.clone()
    }

    /// Serves until `shutdown`. A batch that has begun is finished.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let requests = self.metrics.requests.clone();
        let api = kit::http::serve(
            self.listener,
            Some(self.tls),
            requests.count(api::router(self.queue.clone())),
            shutdown.clone(),
        );
        let activation = Activation {
            queue: &self.queue,
            lock_held: self.metrics.lock_held,
            lock_is_held: self.lock_is_held,
        };
        let work = work(&self.lock, &self.runner, &activation, &shutdown);
        let (served, ()) = tokio::join!(api, work);
        served
    }
}

/// Those that must know whether this auctioneer is the active one.
struct Activation<'a> {
    queue: &'a Queue,
    lock_held: Level,
    lock_is_held: Need,
}

impl Activation<'_> {
    fn begin(&self) {
        self.queue.activate();
        self.lock_held.set(1.0);
        self.lock_is_held.met();
    }

    fn end(&self, why: &anyhow::Error) {
        self.queue.deactivate();
        self.lock_held.set(0.0);
        self.lock_is_held.unmet(format!("{why:#}"));
    }
}

/// Acquires the lock, runs batches while it is held, and waits for it again when it is lost.
async fn work(
    lock: &locket::Lock,
    runner: &Runner,
    activation: &Activation<'_>,
    shutdown: &CancellationToken,
) {
    while !shutdown.is_cancelled() {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = lock.acquire() => activation.begin(),
        }
        let ended = shutdown.child_token();
        let keep = async {
            let kept = lock.renew(shutdown.clone()).await;
            ended.cancel();
            kept
        };
        let (kept, ()) = tokio::join!(keep, runner.run(ended.clone()));
        if let Err(error) = kept {
            tracing::error!(error = format!("{error:#}"), "auctioneer-lock-lost");
            activation.end(&error);
        }
    }
}

/// Returns the name of the lock's owner. It is the same after a restart, so that the new process need not wait for the old lease.
fn owner(addr: SocketAddr) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("auctioneer@{}:{}", host.trim(), addr.port())
}
