//! Route-emitter: tells the routers, over NATS, which instances of this cell answer which routes.
//!
//! One per cell. Listens to the BBS's events and sends the difference that each makes within a millisecond; a sync with the
//! whole state repairs what was missed (every minute, and at once when the event stream broke). It decides nothing itself:
//! [`routing::emission`] does. It never asks the rep, and keeps nothing on disk.
//!
//! ```text
//!  BBS ──events──▶ [`watch`] ─┐                                   ┌─▶ router.register
//!      ──state───▶ [`fetch`] ─┼─▶ [`emitter`]: one loop, one table ┤
//!  NATS ─router.start, greet──┘                                   ├─▶ router.unregister (repeated)
//!                                                                 ├─▶ router.starting (repeated; ours)
//!                                                                 └─▶ service-discovery.register, unregister
//! ```
//!
//! Internal routes are names for containers alone: they go to `service-discovery.*`, which no router subscribes to.
//!
//! `router.starting` says whose instances are on their way: those that this cell has claimed, again and again until they run
//! or are given up; and those that wait for a cell, from when they are wanted until a cell has taken them (the BBS is asked) or
//! none has room.

mod convert;
mod emitter;
mod fetch;
mod message;
mod watch;

use anyhow::{Context as _, Result};
use kit::CancellationToken;
use kit::tls::Identity;
use routing::registry::ComponentHosts;
use std::time::Duration;

/// Checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Only instances on this cell. Empty: of all cells (then run one emitter only).
    pub cell_id: String,
    /// `https://127.0.0.1:8889`.
    pub bbs_url: String,
    pub identity: Identity,
    pub nats: clients::nats::Config,
    /// How often the whole state is read as repair.
    pub sync_interval: Duration,
    /// Everything is sent again this often, until a router announces an interval of its own.
    pub emission_interval: Duration,
    /// After a router's start everything is sent within this part of the interval, at a random moment. 0: at once.
    pub jitter_factor: f64,
    /// Unregistrations are repeated this often …
    pub unregistration_interval: Duration,
    /// … and this many times.
    pub unregistration_send_count: u32,
    /// Routes whose instances are starting on this cell, or wait for one, are announced this often. Routers believe it for ten
    /// seconds.
    pub announcement_interval: Duration,
    /// Hosts of the platform's components: no route of an app to them is registered, whatever the BBS says.
    pub component_hosts: ComponentHosts,
}

impl Config {
    /// The original's intervals: 60 s, 20 s, 20 × 30 s; no jitter, for a cell's table is small.
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

/// Built, nothing running.
#[derive(Debug)]
pub struct RouteEmitter {
    config: Config,
    bbs: clients::bbs::Client,
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
                "route-emitter {name}: 0 s is too short"
            );
        }
        anyhow::ensure!(
            (0.0..=1.0).contains(&config.jitter_factor),
            "route-emitter jitter_factor {}: want 0 to 1",
            config.jitter_factor
        );
        let bbs = clients::bbs::Client::new(config.bbs_url.clone(), &config.identity)
            .context("build BBS client")?;
        Ok(Self { config, bbs })
    }

    /// Until shutdown. Routes stay registered then: the instances may outlive this process, and who stops them is heard of
    /// through the BBS.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        emitter::run(self.config, self.bbs, shutdown).await
    }
}
