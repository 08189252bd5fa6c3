//! The state of the component, which handlers and background work share. [`crate::component`] builds it.

use crate::app_log;
use crate::bits::lifecycle::Bundle;
use crate::bits::store::Store;
use crate::change::{Change, Changes};
use crate::db::Db;
use crate::diego::driver::Driver;
use crate::diego::troubles::Troubles;
use crate::diego::usage::Usage;
use crate::metrics::Metrics;
use crate::receipts::Receipts;
use crate::sealing::Keyring;
use crate::turns::Turns;
use cc_rules::limits::Limits;
use cc_rules::names::PlatformNames;
use clients::loggregator::Emitter;
use clients::uaa::TokenVerifier;
use kit::readiness::Need;
use kit::reconcile::{LastPass, Nudge};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The state that all handlers share; it is cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Cc(Arc<Shared>);

impl std::ops::Deref for Cc {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.0
    }
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub settings: Settings,
    pub db: Db,
    pub changes: Changes,
    pub driver: Driver,
    /// The record of how far changes of routes have come.
    pub receipts: Receipts,
    pub bbs: clients::bbs::Client,
    /// The questions of `GET /v3/why`.
    pub survey: survey::Survey,
    pub blobs: Store,
    pub lifecycle: Arc<Bundle>,
    pub verifier: TokenVerifier,
    pub emitter: Emitter,
    pub http: reqwest::Client,
    /// The client of service brokers.
    pub brokers: osb::Client,
    /// The names of users that the database already has, by guid, and when they were stored.
    pub seen_users: Mutex<HashMap<String, (String, Instant)>>,
    /// The turns of the callers whose requests are under way.
    pub turns: Turns,
    /// The resource use of app instances, as read from log-cache a moment ago.
    pub usage: Usage,
    /// The rows that the background loops had to skip.
    pub troubles: Troubles,
    /// The nudge that wakes the clean-up.
    pub cleanup: Nudge,
    /// The nudge that wakes the jobs.
    pub jobs: Nudge,
    /// The number of jobs that have ended. Requests that wait for a job look again when it grows.
    pub ended_jobs: watch::Sender<u64>,
    /// The last sync with Diego.
    pub last_sync: LastPass,
    pub metrics: Metrics,
    /// The need of the sync with the BBS.
    pub bbs_is_synced: Need,
}

/// The part of the configuration that handlers read.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The keys that seal secrets in the database.
    pub keys: Keyring,
    pub api_url: String,
    pub login_url: String,
    pub uaa_url: String,
    pub log_cache_url: String,
    pub uaa_internal_url: String,
    pub log_cache_internal_url: Option<String>,
    pub uaa_client: Option<crate::UaaClient>,
    /// The client that manages the clients of brokers' dashboards. `None`: they are ignored.
    pub dashboards: Option<crate::UaaClient>,
    pub app_ssh: Option<crate::AppSsh>,
    pub internal_url: String,
    /// The names that no user's domain or route may have.
    pub names: Arc<PlatformNames>,
    pub reserved_private_domains: Vec<String>,
    pub private_hosts_in_one_space: bool,
    pub limits: Limits,
    pub default_memory_mb: i64,
    pub default_disk_mb: i64,
    pub staging_memory_mb: i64,
    pub staging_disk_mb: i64,
    pub staging_timeout: Duration,
    pub sync_interval: Duration,
    pub max_package_bytes: u64,
    pub retention: crate::Retention,
}

impl From<Shared> for Cc {
    fn from(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }
}

impl Cc {
    /// Begins a change of what users want. It is the only way to one; see [`crate::change`].
    pub(crate) async fn change(&self) -> sqlx::Result<Change> {
        self.changes.begin().await
    }

    /// Logs one line of source type API to an app's log. A change has a method of the same name, which logs after the commit.
    pub(crate) fn log_to_app(&self, app_guid: &str, line: impl Into<String>) {
        app_log::write(&self.emitter, app_guid, line.into());
    }
}
