//! What a rep is told at its start.

use clients::loggregator::Emitter;
use garden::api::Garden;
use kit::tls::Identity;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

pub struct Config {
    /// Of the network API, already bound; served with mutual TLS.
    pub listener: TcpListener,
    pub cell_id: String,
    pub zone: String,
    /// Where others reach the listener: `https://10.0.0.5:1801`.
    pub rep_url: String,
    pub identity: Identity,
    pub bbs_url: String,
    pub locket_url: String,
    /// The whole list of network policies; `None`: containers reach each other through the router alone.
    pub policies_url: Option<String>,
    pub garden: Arc<dyn Garden>,
    pub loggregator: Emitter,
    /// Names behind `preloaded:` that garden knows.
    pub stacks: Vec<String>,
    /// Apps must want these tags to be placed here.
    pub placement_tags: Vec<String>,
    pub optional_placement_tags: Vec<String>,
    /// Records of containers, their certificates, the download cache. Made with mode 0700.
    pub work_dir: PathBuf,
    /// Signs the instances' certificates.
    pub instance_ca: InstanceCa,
    pub instance_validity: Duration,
    /// The sidecar proxy's program; `None`: instances get no proxy (and their plain ports are mapped).
    pub envoy: Option<PathBuf>,
    /// The static program that serves as `healthcheck` in containers.
    pub inside: PathBuf,
    /// The CA of the client certificates that proxies accept: the router's.
    pub router_ca_pem: String,
    /// PEM texts of further authorities that apps may trust, beside the instances' own: that of the router's certificate.
    pub trusted_ca_pems: Vec<String>,
    /// Only TLS ports are reachable from outside. `false`: plain app ports get host ports too.
    pub route_integrity: bool,
    /// What the download cache may hold, beside what containers have mounted.
    pub cache_bytes: u64,
    pub timing: Timing,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("cell_id", &self.cell_id)
            .field("rep_url", &self.rep_url)
            .field("work_dir", &self.work_dir)
            .finish_non_exhaustive()
    }
}

/// Certificate and key (P-256 or RSA) as PEM.
#[derive(Clone)]
pub struct InstanceCa {
    pub cert_pem: String,
    pub key_pem: String,
}

impl std::fmt::Debug for InstanceCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InstanceCa").finish_non_exhaustive()
    }
}

/// Intervals and time-outs; `default()` has the original's values where nothing speaks for better ones.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Between two comparisons of containers and BBS rows.
    pub bulk: Duration,
    /// The same while evacuating.
    pub evacuation_poll: Duration,
    /// After this, evacuation gives up and stops what is left.
    pub evacuation_limit: Duration,
    /// Between two metric envelopes per container.
    pub metrics: Duration,
    /// From "this instance is not routable" to SIGTERM.
    pub route_drain: Duration,
    /// From SIGTERM to SIGKILL.
    pub grace: Duration,
    /// Between start-up checks (and readiness checks that have not passed).
    pub unhealthy_interval: Duration,
    /// Between liveness (and passed readiness) checks.
    pub healthy_interval: Duration,
    /// Of one health check, where the app names none.
    pub health_timeout: Duration,
    /// A reservation that could not be claimed at the BBS for so long is given up.
    pub claim_limit: Duration,
    /// Of one download or upload.
    pub transfer: Duration,
    /// Between two comparisons of the machine's firewall rules with ours.
    pub repair: Duration,
    /// Between two looks for changes of the desired LRPs that run here.
    pub refresh: Duration,
    /// Between two looks at what an app listens on that does not pass its start-up checks.
    pub advice: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            bulk: Duration::from_secs(30),
            evacuation_poll: Duration::from_secs(2),
            evacuation_limit: Duration::from_secs(600),
            metrics: Duration::from_secs(15),
            route_drain: Duration::from_millis(500),
            grace: Duration::from_secs(10),
            // The original waits 2 s: half of that is lost at every start of an app.
            unhealthy_interval: Duration::from_millis(200),
            healthy_interval: Duration::from_secs(30),
            health_timeout: Duration::from_secs(1),
            claim_limit: Duration::from_secs(60),
            transfer: Duration::from_secs(600),
            repair: Duration::from_secs(3),
            refresh: Duration::from_secs(5),
            advice: Duration::from_secs(5),
        }
    }
}
