//! The route-emitter: publishes over NATS, for the routers, which instances of this cell serve which routes.
//!
//! There is one per cell. It subscribes to the BBS's events and publishes the difference that each makes within a millisecond; a
//! sync with the whole state repairs what was missed (every minute, and at once when the event stream broke). The decisions are
//! in [`route_table::emission`]. It never calls the rep, and stores nothing on disk.
//!
//! ```text
//!  BBS ──events──▶ [`watch`] ─┐                                   ┌─▶ router.register
//!      ──state───▶ [`fetch`] ─┼─▶ [`emitter`]: one loop, one table ┤
//!  NATS ─router.start, greet──┘                                   ├─▶ router.unregister (repeated)
//!                                                                 ├─▶ router.starting (repeated; ours)
//!                                                                 └─▶ service-discovery.register, unregister
//! ```
//!
//! Changes for routers are numbered, and a digest of all registrations is published on `route-digests.published`, so that a router
//! notices what it missed and asks for it ([`publisher`], docs/propagation.md).
//!
//! Internal routes are names for containers alone: they are published on `service-discovery.*`, to which no router subscribes.
//!
//! `router.starting` announces routes whose instances are starting. It is repeated for instances that this cell has claimed until
//! they run or are abandoned. It is also sent for instances that wait for a cell, from the moment when they are wanted until a
//! cell has claimed them (the BBS is asked) or no cell has room.

mod convert;
mod emitter;
mod fetch;
mod message;
mod metrics;
mod publisher;
mod watch;

use anyhow::{Context as _, Result};
use kit::CancellationToken;
use kit::metrics::{Observed, Registry};
use kit::readiness::Readiness;
use kit::reconcile::LastPass;
use kit::tls::Identity;
use metrics::Metrics;
use route_table::registry::ComponentHosts;
use std::sync::Arc;
use std::time::Duration;

/// The checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cell whose instances are emitted. If it is empty, those of all cells are (then run one emitter only).
    pub cell_id: String,
    /// The URL of the BBS, for example `https://127.0.0.1:8889`.
    pub bbs_url: String,
    pub identity: Identity,
    pub nats: clients::nats::Config,
    /// The interval at which the whole state is read for repair.
    pub sync_interval: Duration,
    /// The interval at which everything is sent again, until a router announces an interval of its own.
    pub emission_interval: Duration,
    /// The part of the interval within which everything is sent after a router's start, at a random moment; 0 means at once.
    pub jitter_factor: f64,
    /// The interval at which unregistrations are repeated.
    pub unregistration_interval: Duration,
    /// The number of times that an unregistration is repeated.
    pub unregistration_send_count: u32,
    /// The interval at which routes are announced whose instances are starting on this cell, or wait for one. For routers an
    /// announcement is valid for ten seconds.
    pub announcement_interval: Duration,
    /// The hosts of the platform's components. No route of an app to them is registered, whatever the BBS contains.
    pub component_hosts: ComponentHosts,
}

impl Config {
    /// Makes a configuration with the original's intervals: 60 s, 20 s, 20 × 30 s. There is no jitter, because a cell's table is
    /// small.
    pub fn new(
        cell_id: impl Into<String>,
        bbs_url: impl Into<String>,
        identity: Identity,
        nats: clients::nats::Config,
    ) -> Self {
        Self {
            cell_id: cell_id.into(),
            bbs_url: bbs_url.into(),
            identity,
            nats,
            sync_interval: Duration::from_secs(60),
            emission_interval: Duration::from_secs(20),
            jitter_factor: 0.0,
            unregistration_interval: Duration::from_secs(30),
            unregistration_send_count: 20,
            announcement_interval: Duration::from_secs(5),
            component_hosts: ComponentHosts::default(),
        }
    }
}

/// A route-emitter that is built but not running.
#[derive(Debug)]
pub struct RouteEmitter {
    config: Config,
    bbs: clients::bbs::Client,
    last_sync: LastPass,
    metrics: Metrics,
    observed: Observed,
}

impl RouteEmitter {
    pub fn build(config: Config) -> Result<Self> {
        anyhow::ensure!(
            !config.nats.servers.is_empty(),
            "route-emitter needs a NATS server: set nats servers to host:port"
        );
        for (name, interval) in [
            ("sync_interval", config.sync_interval),
            ("emission_interval", config.emission_interval),
            ("unregistration_interval", config.unregistration_interval),
            ("announcement_interval", config.announcement_interval),
        ] {
            anyhow::ensure!(
                !interval.is_zero(),
                "route-emitter {name}: 0 s is too short; set a longer time"
            );
        }
        anyhow::ensure!(
            (0.0..=1.0).contains(&config.jitter_factor),
            "route-emitter jitter_factor {}: expected a number from 0 to 1",
            config.jitter_factor
        );
        let bbs = clients::bbs::Client::new(config.bbs_url.clone(), &config.identity)
            .context("build BBS client")?;
        let (mut registry, readiness) = (Registry::default(), Readiness::default());
        Ok(Self {
            config,
            bbs,
            last_sync: LastPass::default(),
            metrics: Metrics::new(&mut registry, &readiness),
            observed: Observed {
                metrics: Arc::new(registry),
                readiness,
            },
        })
    }

    /// Returns the metrics, and the readiness: the emitter needs the bus and the BBS.
    pub fn observed(&self) -> Observed {
        self.observed.clone()
    }

    /// Returns the last sync with the BBS: how many endpoints it `registered` and `unregistered`. It stays up to date while the
    /// emitter runs.
    pub fn last_sync(&self) -> LastPass {
        self.last_sync.clone()
    }

    /// Runs until shutdown. Routes stay registered then, because the instances may outlive this process. The next emitter learns
    /// from the BBS which of them were stopped.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        emitter::run(
            self.config,
            self.bbs,
            self.last_sync,
            self.metrics,
            shutdown,
        )
        .await
    }
}
