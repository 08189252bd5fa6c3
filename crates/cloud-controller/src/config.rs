//! What the Cloud Controller needs to know; checked by the binary, without hidden defaults.

use crate::limits::Limits;
use crate::quota::DefaultQuota;
use clients::loggregator::Emitter;
use kit::tls::Identity;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::TcpListener;

#[derive(Debug)]
pub struct Config {
    /// Plain HTTP, behind the router at `api_url`.
    pub listener: TcpListener,
    /// mTLS: callbacks of the BBS, downloads and uploads of the cells.
    pub internal_listener: TcpListener,
    /// How BBS and cells reach `internal_listener`: `https://127.0.0.1:9023`.
    pub internal_url: String,
    /// Database and blobs.
    pub data_dir: PathBuf,
    /// As users see it: `http://api.cupola.test`.
    pub api_url: String,
    pub login_url: String,
    pub uaa_url: String,
    /// As users see it.
    pub log_cache_url: String,
    /// Where this component fetches token keys and looks up users.
    pub uaa_internal_url: String,
    /// Where instances' memory, cpu and disk use are read; without it they are 0.
    pub log_cache_internal_url: Option<String>,
    /// With `scim.read`, to look up users by name, and `uaa.resource`, to ask whether a token was revoked. Without it the
    /// caller's own token is used for the first, and a token counts until it expires.
    pub uaa_client: Option<UaaClient>,
    pub app_ssh: Option<AppSsh>,
    pub system_domain: String,
    pub apps_domain: String,
    /// Shared domains that enforce route policies, and that the router asks instance identities on.
    pub identity_domains: Vec<IdentityDomain>,
    /// Hosts on the system domain that no user's route may take: `api`, `login`, `uaa`, `log-cache`, …
    pub reserved_hosts: Vec<String>,
    pub bbs_url: String,
    pub identity: Identity,
    pub loggregator: Emitter,
    /// The static binary that becomes `builder` and `launcher` in containers.
    pub inside_binary: PathBuf,
    pub default_memory_mb: u32,
    pub default_disk_mb: u32,
    pub staging_memory_mb: u32,
    pub staging_disk_mb: u32,
    pub staging_timeout: Duration,
    pub sync_interval: Duration,
    /// Limit of an uploaded package's size.
    pub max_package_bytes: u64,
    /// Bytes of the data directory's disk that uploads leave free; `None`: 512 MiB, and on a small disk a twentieth.
    pub disk_reserve: Option<u64>,
    pub limits: Limits,
    /// What the quota `default` has when it is made.
    pub default_quota: DefaultQuota,
    /// Public suffixes that nobody may have as a private domain: `co.uk`.
    pub reserved_private_domains: Vec<String>,
    /// Whether the routes of one host on a private domain must all be in one space, as on shared domains.
    pub private_hosts_in_one_space: bool,
    pub retention: Retention,
    /// Made at first start, so that a newcomer can push at once.
    pub first_target: Option<FirstTarget>,
}

/// How much of the past is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The newest staged droplets of each app; those in use stay besides.
    pub droplets_per_app: u32,
    /// The newest ready packages of each app; those in use stay besides.
    pub packages_per_app: u32,
    /// Age of audit and usage events, jobs, and of what ended: tasks, builds, deployments, droplets without bits.
    pub records: Duration,
    /// Between two looks for what is too old.
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

#[derive(Clone, Debug)]
pub struct AppSsh {
    /// `ssh.cupola.test:2222`.
    pub endpoint: String,
    /// Unpadded base64 of the host key's SHA-256.
    pub host_key_fingerprint: String,
    pub oauth_client: String,
}

/// A domain on which apps call each other by their instance identities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityDomain {
    pub name: String,
    /// From where a route may be called: `any`, `org` or `space`.
    pub scope: String,
}

#[derive(Clone, Debug)]
pub struct FirstTarget {
    pub organization: String,
    pub space: String,
}
