//! The configuration of a rep.

use clients::loggregator::Emitter;
use garden::api::Garden;
use kit::tls::Identity;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

pub struct Config {
    /// The listener of the network API, already bound. It is served with mutual TLS.
    pub listener: TcpListener,
    pub cell_id: String,
    pub zone: String,
    /// The URL under which others reach the listener, e.g. `https://10.0.0.5:1801`.
    pub rep_url: String,
    pub identity: Identity,
    pub bbs_url: String,
    pub locket_url: String,
    /// The URL that serves the whole list of network policies. If it is `None`, containers reach each other only through the
    /// router.
    pub policies_url: Option<String>,
    pub garden: Arc<dyn Garden>,
    pub loggregator: Emitter,
    /// The stacks that garden knows: the names after `preloaded:`.
    pub stacks: Vec<String>,
    /// The placement tags that an app must require to be placed here.
    pub placement_tags: Vec<String>,
    pub optional_placement_tags: Vec<String>,
    /// The directory of the containers' records, their certificates and the download cache. It is created with mode 0700.
    pub work_dir: PathBuf,
    /// The CA that signs the instances' certificates.
    pub instance_ca: InstanceCa,
    pub instance_validity: Duration,
    /// The program of the sidecar proxy. If it is `None`, instances get no proxy and their plain ports are mapped.
    pub envoy: Option<PathBuf>,
    /// The static program that serves as `healthcheck` in containers.
    pub inside: PathBuf,
    /// The CA of the client certificates that proxies accept, which is the router's.
    pub router_ca_pem: String,
    /// The PEM texts of further CAs that apps may trust, beside the instances' own: the CA of the router's certificate.
    pub trusted_ca_pems: Vec<String>,
    /// Whether only TLS ports are reachable from outside. If `false`, plain app ports get host ports too.
    pub route_integrity: bool,
    /// The size limit of the download cache in bytes. Content that containers have mounted does not count.
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

/// A CA: its certificate and key (P-256 or RSA) as PEM.
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

/// Intervals and time limits. `default()` has Diego's values unless there is a reason for others.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// The interval between two comparisons of containers and BBS rows.
    pub bulk: Duration,
    /// The interval between two rounds of an evacuation.
    pub evacuation_poll: Duration,
    /// The time after which an evacuation gives up and stops what is left.
    pub evacuation_limit: Duration,
    /// The interval between two metric envelopes of a container.
    pub metrics: Duration,
    /// The time between the report that an instance is not routable and SIGTERM.
    pub route_drain: Duration,
    /// The time between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// The interval between start-up checks (and readiness checks that have not passed).
    pub unhealthy_interval: Duration,
    /// The interval between liveness checks (and readiness checks that have passed).
    pub healthy_interval: Duration,
    /// The time limit of one health check if the app sets none.
    pub health_timeout: Duration,
    /// The time after which a reservation is dropped if it cannot be claimed at the BBS.
    pub claim_limit: Duration,
    /// The time limit of one download or upload.
    pub transfer: Duration,
    /// The interval between two comparisons of the machine's firewall rules with ours.
    pub repair: Duration,
    /// The interval between two checks for changes of the desired LRPs that run here.
    pub refresh: Duration,
    /// The interval between two inspections of the sockets of an app that does not pass its start-up checks.
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
            // Diego waits 2 s; half of that would be lost on average at every start of an app.
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
