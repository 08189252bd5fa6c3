//! Log drains: sends the lines and metrics of apps to the servers that their owners name, as messages of RFC 5424.
//!
//! ```text
//!  Cloud Controller ──list of drains, every few seconds──▶ Drains::run ──▶ one task for each drain of an app
//!  log-cache's ingress ──every envelope──▶ Intake::offer ──▶ buffers ──▶ tasks ──TCP, TLS, HTTPS──▶ the owners' servers
//!                                                                              └──lines about trouble──▶ the log of the app
//! ```
//!
//! The role log-cache runs it, because it receives the envelopes of all components. A drain has a bounded buffer and a task of its own: a
//! server that is slow or absent costs the oldest of its own messages, which are counted and reported in the app's log, and delays nobody.
//! Nothing is kept on disk. It decides neither who may bind a drain nor what an app logs.
//!
//! | Module | Owns |
//! |---|---|
//! | [`list`] | which drains there are, from the Cloud Controller's list (pure) |
//! | [`target`] | what the URL of a drain means (pure) |
//! | [`rfc5424`] | the form of messages (pure) |
//! | [`buffer`] | the messages that wait, and which are dropped (pure) |
//! | [`drain`] | one drain: its buffer and its task |
//! | [`connection`] | the connection to its server |
//! | [`trust`] | whom drains trust, and what they present |
//! | [`follow`] | begins and ends drains as the list changes |
//! | [`shared`] | the drains of all apps |
//! | [`report`] | lines for the apps' logs |
//! | [`metrics`] | what operators see |

mod buffer;
mod connection;
mod drain;
mod follow;
mod list;
mod metrics;
mod report;
mod rfc5424;
mod shared;
mod target;
mod trust;

#[cfg(test)]
mod fuzz_tests;

pub use list::{Aggregate, Credentials};
pub use report::Report;

use anyhow::Result;
use kit::CancellationToken;
use kit::metrics::Registry;
use kit::reach::Reach;
use kit::tls::Identity;
use std::sync::Arc;
use std::time::Duration;
use wire::loggregator::Envelope;

/// The checked configuration.
#[derive(Clone)]
pub struct Config {
    /// The URL of the Cloud Controller's internal listener: `https://127.0.0.1:9023`.
    pub cloud_controller_url: String,
    /// The certificate that is presented to the Cloud Controller.
    pub identity: Identity,
    /// The interval at which the list of drains is read.
    pub interval: Duration,
    /// The addresses to which messages may be sent.
    pub reach: Reach,
    /// The router of the foundation. If it is `None`, its names are resolved like others.
    pub router: Option<Router>,
    /// The PEM texts of authorities of drains' servers, besides those of the machine. It may be empty.
    pub authorities: String,
    /// Whether messages have the tags of envelopes if the URL of a drain does not decide it.
    pub has_tags: bool,
    /// The number of drains that an app may have.
    pub per_app: usize,
    /// The drains that get the envelopes of all apps and components. The caller has checked their URLs ([`check_url`]).
    pub aggregate: Vec<Aggregate>,
}

/// Prints no URLs of drains, because they may contain passwords.
impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("cloud_controller_url", &self.cloud_controller_url)
            .field("interval", &self.interval)
            .field("reach", &self.reach)
            .field("router", &self.router)
            .field("has_tags", &self.has_tags)
            .field("per_app", &self.per_app)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// The default interval. The original reads the list every minute.
    pub const INTERVAL: Duration = Duration::from_secs(5);
    /// The default number of drains of an app, which is that of the original.
    pub const PER_APP: usize = 5;
}

/// Checks the URL of a drain. The error says what is wrong, without a secret.
pub fn check_url(url: &str) -> Result<(), String> {
    let checked = target::Target::parse(url, true);
    checked.map(drop).map_err(|error| error.to_string())
}

/// The router through which apps of the foundation receive logs over HTTPS, whatever their names resolve to on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Router {
    /// The domain of the foundation, in lower case.
    pub domain: String,
    pub host: String,
    pub https_port: u16,
}

impl Router {
    /// Returns whether a host is that of an app.
    fn serves(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let below = host.strip_suffix(&self.domain);
        below.is_some_and(|below| below.ends_with('.') && below.len() > 1)
    }
}

/// The drains of a foundation.
#[derive(Debug)]
pub struct Drains {
    config: Config,
    client: clients::syslog_drains::Client,
    trust: trust::Trust,
    shared: Arc<shared::Shared>,
}

/// The entrance of envelopes. It is cheap to clone.
#[derive(Clone, Debug)]
pub struct Intake(Arc<shared::Shared>);

impl Intake {
    /// Passes an envelope to the drains of its app. It never waits.
    pub fn offer(&self, envelope: &Envelope) {
        self.0.offer(envelope);
    }
}

impl Drains {
    /// Builds the drains, and adds their metrics to those of the component that runs them.
    pub fn build(config: Config, registry: &mut Registry) -> Result<Self> {
        let shared = Arc::new(shared::Shared::new(metrics::Metrics::new(registry)));
        shared::add_levels(registry, &shared);
        Ok(Self {
            client: clients::syslog_drains::Client::new(
                &config.cloud_controller_url,
                &config.identity,
            )?,
            trust: trust::Trust::new(&config.authorities)?,
            config,
            shared,
        })
    }

    pub fn intake(&self) -> Intake {
        Intake(self.shared.clone())
    }

    /// Follows the list of drains and delivers messages until `shutdown`. Lines for the apps' logs go to `report`, which may pass them to
    /// an [`Intake`].
    pub async fn run(self, report: Report, shutdown: CancellationToken) -> Result<()> {
        follow::follow(self, report::Reports::new(report), shutdown).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_router_serves_names_below_the_domain() {
        let router = Router {
            domain: "cupola.test".to_owned(),
            host: "10.0.0.5".to_owned(),
            https_port: 443,
        };
        for host in ["sink.cupola.test", "A.B.Cupola.Test"] {
            assert!(router.serves(host), "{host}");
        }
        for host in [
            "cupola.test",
            ".cupola.test",
            "xcupola.test",
            "cupola.test.example.com",
            "",
        ] {
            assert!(!router.serves(host), "{host}");
        }
    }
}
