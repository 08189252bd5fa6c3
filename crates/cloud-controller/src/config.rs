//! The configuration of the Cloud Controller. The binary checks it, and it has no hidden defaults.

use crate::bits::store::S3;
use crate::quota::DefaultQuota;
use cc_rules::limits::Limits;
use clients::loggregator::Emitter;
use kit::tls::Identity;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::TcpListener;

#[derive(Debug)]
pub struct Config {
    /// The listener for plain HTTP, behind the router at `api_url`.
    pub listener: TcpListener,
    /// The mTLS listener for callbacks of the BBS and for downloads and uploads of the cells.
    pub internal_listener: TcpListener,
    /// The URL at which the BBS and the cells reach `internal_listener`: `https://127.0.0.1:9023`.
    pub internal_url: String,
    /// The directory of the blobs, and of the database if it is a file.
    pub data_dir: PathBuf,
    /// The server of the database. `None`: the database is the file `cloud-controller.db` in `data_dir`.
    pub database: Option<kit::db::Server>,
    /// The bucket of the blobs. `None`: they are in the folder `blobs` in `data_dir`.
    pub bucket: Option<S3>,
    /// The file of the keys that seal secrets in the database; it is created if it does not exist. `None`: `secrets.keys` in
    /// `data_dir`. Cloud Controllers that share a database have the same keys.
    pub key_file: Option<PathBuf>,
    /// The URL of the API as users see it: `http://api.cupola.test`.
    pub api_url: String,
    pub login_url: String,
    pub uaa_url: String,
    /// The URL of log-cache as users see it.
    pub log_cache_url: String,
    /// The URL at which this component fetches token keys and looks up users.
    pub uaa_internal_url: String,
    /// The URL from which the memory, CPU and disk use of instances is read. Without it they are shown as 0.
    pub log_cache_internal_url: Option<String>,
    /// The client with `scim.read`, to look up users by name, and `uaa.resource`, to check whether a token was revoked. Without
    /// it the caller's own token is used for the look-up, and a token is valid until it expires.
    pub uaa_client: Option<UaaClient>,
    /// The client with `clients.admin`, which manages the clients of service brokers' dashboards. `None`: dashboards get no clients.
    pub dashboards: Option<UaaClient>,
    /// The calls to service brokers.
    pub brokers: osb::Settings,
    /// The SSH proxy. `None`: nobody may use SSH.
    pub app_ssh: Option<AppSsh>,
    /// The addresses that apps reach because they are bound to service instances of some brokers.
    pub bound_egress: Vec<BoundEgress>,
    pub system_domain: String,
    pub apps_domain: String,
    /// The shared domains that enforce route policies and on which the router requests instance identities.
    pub identity_domains: Vec<IdentityDomain>,
    /// The hosts on the system domain that no user's route may have: `api`, `login`, `uaa`, `log-cache`, …
    pub reserved_hosts: Vec<String>,
    pub bbs_url: String,
    /// The message bus, on which routers confirm changes of routes and answer `GET /v3/why`. `None`: nobody can see how far a change has
    /// come, and no router is asked.
    pub nats: Option<clients::nats::Config>,
    /// The routers whose pages `GET /v3/why` asks, besides those that answer on the bus.
    pub routers: Vec<survey::RouterAddress>,
    pub identity: Identity,
    pub loggregator: Emitter,
    /// The path of the static binary that becomes `builder` and `launcher` in containers.
    pub inside_binary: PathBuf,
    pub default_memory_mb: u32,
    pub default_disk_mb: u32,
    pub staging_memory_mb: u32,
    pub staging_disk_mb: u32,
    pub staging_timeout: Duration,
    pub sync_interval: Duration,
    /// The maximum size of an uploaded package.
    pub max_package_bytes: u64,
    /// The number of bytes that uploads leave free on the disk of the data directory. `None`: 512 MiB, or a twentieth of a small
    /// disk.
    pub disk_reserve: Option<u64>,
    pub limits: Limits,
    /// The limits of the quota `default` at its creation.
    pub default_quota: DefaultQuota,
    /// Public suffixes that no private domain may have as its name: `co.uk`.
    pub reserved_private_domains: Vec<String>,
    /// Whether all routes of one host on a private domain must be in one space, as on shared domains.
    pub private_hosts_in_one_space: bool,
    pub retention: Retention,
    /// The organization and space that are created at the first start, so that a new user can push at once.
    pub first_target: Option<FirstTarget>,
}

/// The amount of past data that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The number of newest staged droplets that are kept for each app. Those in use are kept in addition.
    pub droplets_per_app: u32,
    /// The number of newest ready packages that are kept for each app. Those in use are kept in addition.
    pub packages_per_app: u32,
    /// The maximum age of audit and usage events, of jobs, of ended tasks, builds and deployments, and of droplets without bits.
    pub records: Duration,
    /// The time between two passes of the clean-up.
    pub interval: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            droplets_per_app: 5,
            packages_per_app: 5,
            records: Duration::from_secs(30 * 24 * 3600),
            interval: Duration::from_secs(600),
        }
    }
}

#[derive(Clone, Debug)]
pub struct UaaClient {
    pub id: String,
    pub secret: String,
}

/// The addresses that apps reach while they are bound to service instances of one broker. The operator names them, so that no broker
/// can open others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundEgress {
    /// The URL with which the broker is registered for the whole platform. A broker of a space opens nothing.
    pub broker_url: String,
    /// The TCP addresses.
    pub addresses: Vec<SocketAddrV4>,
}

#[derive(Clone, Debug)]
pub struct AppSsh {
    /// The address of the SSH proxy: `ssh.cupola.test:2222`.
    pub endpoint: String,
    /// The SHA-256 of the host key, as unpadded base64.
    pub host_key_fingerprint: String,
    pub oauth_client: String,
}

/// A domain on which apps call each other with their instance identities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityDomain {
    pub name: String,
    /// The part of the foundation from which a route may be called: `any`, `org` or `space`.
    pub scope: String,
}

#[derive(Clone, Debug)]
pub struct FirstTarget {
    pub organization: String,
    pub space: String,
}
