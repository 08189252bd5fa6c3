//! The configuration file as it is written: a section for each role. Unknown keys are refused by name.
//!
//! The section of a role says where it listens (`listen`) and where other roles reach it (`advertise`). In the file of a machine that
//! does not run the role, the section says where that peer is.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The configuration file as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ConfigFile {
    pub(super) domain: Option<String>,
    pub(super) data: Option<PathBuf>,
    pub(super) hosts_file: Option<bool>,
    pub(super) first_org: Option<String>,
    pub(super) first_space: Option<String>,
    /// The MiB of the data directory's disk that uploads must leave free.
    pub(super) disk_reserve_mb: Option<u64>,
    /// The URL of the database server that the components share. Without it each of them has a file in its folder.
    pub(super) database: Option<super::database::Url>,
    /// A PEM file with the authorities that may have issued the certificate of the database server.
    pub(super) database_ca: Option<PathBuf>,
    /// The place of packages and droplets.
    pub(super) blobs: super::blobs::BlobsSection,
    /// The address of the process's metrics and readiness.
    pub(super) metrics: Option<String>,
    /// The bundle of the foundation that this machine joins.
    pub(super) join: Option<PathBuf>,
    pub(super) nats: NatsSection,
    pub(super) bbs: BbsSection,
    pub(super) auctioneer: AuctioneerSection,
    pub(super) uaa: SocketSection,
    pub(super) log_cache: LogCacheSection,
    pub(super) cloud_controller: CloudControllerSection,
    pub(super) cell: CellSection,
    pub(super) dns: DnsSection,
    pub(super) router: RouterSection,
    pub(super) dashboard: DashboardSection,
    pub(super) ssh_proxy: SshProxySection,
    /// The broker of PostgreSQL databases, which runs if the section is there: `postgres: {}`.
    pub(super) postgres: Option<super::postgres::PostgresSection>,
    pub(super) limits: cloud_controller::Limits,
    pub(super) default_quota: cloud_controller::DefaultQuota,
    /// Public suffixes that no organization may have as a domain.
    pub(super) reserved_private_domains: Vec<String>,
    /// Whether the routes of one host on a private domain must all be in one space.
    pub(super) private_hosts_in_one_space: bool,
    /// The shared domains on which apps call each other by their instance identities, each with the scope of its callers: any,
    /// org or space.
    pub(super) identity_domains: Option<BTreeMap<String, String>>,
}

/// The addresses of one socket.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SocketSection {
    /// The address at which the role listens.
    pub(super) listen: Option<String>,
    /// The address at which other roles reach it; default: `listen`.
    pub(super) advertise: Option<String>,
}

/// A component's certificate and its key, as PEM files. `cupola certs` writes such files.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TlsSection {
    pub(super) cert: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct NatsSection {
    /// The address at which the role listens.
    pub(super) listen: Option<String>,
    /// The address at which other roles reach it; default: `listen`.
    pub(super) advertise: Option<String>,
    /// The client addresses of all servers of the bus; default: the one that is advertised.
    pub(super) servers: Vec<String>,
    pub(super) cluster: Option<ClusterSection>,
}

/// The cluster that this machine's nats-server forms with those of other machines.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ClusterSection {
    pub(super) listen: Option<String>,
    /// The cluster addresses of the other servers.
    pub(super) peers: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct BbsSection {
    /// The address at which the role listens.
    pub(super) listen: Option<String>,
    /// The address at which other roles reach it; default: `listen`.
    pub(super) advertise: Option<String>,
    pub(super) locket: SocketSection,
    /// The component's certificate; default: one that the foundation's CA issues at the start.
    pub(super) tls: TlsSection,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AuctioneerSection {
    /// The address at which the role listens.
    pub(super) listen: Option<String>,
    /// The address at which other roles reach it; default: `listen`.
    pub(super) advertise: Option<String>,
    /// The component's certificate; default: one that the foundation's CA issues at the start.
    pub(super) tls: TlsSection,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CloudControllerSection {
    /// The address at which the role listens.
    pub(super) listen: Option<String>,
    /// The address at which other roles reach it; default: `listen`.
    pub(super) advertise: Option<String>,
    /// The API for cells: droplets, callbacks, network policies.
    pub(super) internal: SocketSection,
    /// The component's certificate; default: one that the foundation's CA issues at the start.
    pub(super) tls: TlsSection,
    /// Whether users may log in to apps with SSH, where space and app permit it too; default: true.
    pub(super) allow_app_ssh_access: Option<bool>,
    /// The calls to service brokers.
    pub(super) brokers: BrokersSection,
    /// The number of staged droplets of each app that are kept besides those in use.
    pub(super) keep_droplets: Option<u32>,
    /// The number of uploaded packages of each app that are kept besides those in use.
    pub(super) keep_packages: Option<u32>,
    /// The age in days at which events and jobs are deleted, and tasks, builds and deployments that have ended.
    pub(super) keep_days: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct BrokersSection {
    /// The longest time of a call in seconds; default: 60.
    pub(super) timeout: Option<u32>,
    /// Addresses that brokers may have although they belong to this machine or are denied.
    pub(super) permitted_addresses: Vec<String>,
    /// Addresses that no broker may have.
    pub(super) denied_addresses: Vec<String>,
    /// The authorities of brokers' certificates that the machine does not trust, as a PEM file.
    pub(super) ca: Option<PathBuf>,
    /// Whether any certificate of a broker is accepted; default: false.
    pub(super) skip_ssl_validation: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LogCacheSection {
    /// The address at which the role listens.
    pub(super) listen: Option<String>,
    /// The address at which other roles reach it; default: `listen`.
    pub(super) advertise: Option<String>,
    /// The gRPC address that receives envelopes.
    pub(super) ingress: SocketSection,
    /// The component's certificate; default: one that the foundation's CA issues at the start.
    pub(super) tls: TlsSection,
    /// The UDP address on which dropsonde envelopes are received.
    pub(super) dropsonde: Option<String>,
    /// The log drains of apps.
    pub(super) drains: super::log_drains::DrainsSection,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RouterSection {
    /// The pages of the router's own state, `/routes` and `/health`.
    pub(super) status: SocketSection,
    /// The certificate that the router presents to instances; default: one that the foundation's CA issues at the start.
    pub(super) tls: TlsSection,
    pub(super) http: Option<String>,
    pub(super) https: Option<String>,
    /// The operator's own certificate chain and its key, as PEM files.
    pub(super) cert: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    /// The interval in seconds at which the router asks emitters to register their routes.
    pub(super) register_interval: Option<u64>,
    /// The size in MB at which the access log is rotated; 0 means never.
    pub(super) access_log_megabytes: Option<u64>,
    /// The number of rotated files that are kept.
    pub(super) access_log_keep: Option<u32>,
    /// Whether requests may ask for a trace, and who receives it.
    pub(super) tracing: super::traces::TracingSection,
    /// How requests reach the services to which routes are bound.
    pub(super) route_services: super::route_services::RouteServicesSection,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DashboardSection {
    /// The address at which the role listens.
    pub(super) listen: Option<String>,
    /// The address at which other roles reach it; default: `listen`.
    pub(super) advertise: Option<String>,
    /// The addresses of the operators' pages of further routers.
    pub(super) routers: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SshProxySection {
    /// The address at which SSH clients connect.
    pub(super) listen: Option<String>,
    /// The address that the API shows to clients; default: the host `ssh` of the domain, and the port of `listen`.
    pub(super) advertise: Option<String>,
    /// The number of connections at once.
    pub(super) connections: Option<u32>,
    /// The minutes without any byte after which a session ends.
    pub(super) idle_minutes: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DnsSection {
    /// The router's address with which names of the foundation are answered; default: the cell's address.
    pub(super) router: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CellSection {
    /// The cell's name in the foundation; default: `cell-` and the plan's tag.
    pub(super) id: Option<String>,
    pub(super) zone: Option<String>,
    /// The tags that an app must require to be placed here.
    pub(super) placement_tags: Vec<String>,
    pub(super) optional_placement_tags: Vec<String>,
    /// The address at which the rep listens.
    pub(super) listen: Option<String>,
    /// The address at which other roles reach the rep; default: `listen`.
    pub(super) advertise: Option<String>,
    /// The component's certificate; default: one that the foundation's CA issues at the start.
    pub(super) tls: TlsSection,
    /// The address at which routers reach the containers.
    pub(super) ip: Option<String>,
    /// The range of the containers of a cell whose `ip` is an address of the machine itself.
    pub(super) overlay: Option<String>,
    pub(super) memory_mb: Option<u64>,
    pub(super) disk_mb: Option<u64>,
    pub(super) containers: Option<u64>,
    pub(super) runtime: Option<String>,
    pub(super) envoy: Option<PathBuf>,
    pub(super) stacks: BTreeMap<String, PathBuf>,
    pub(super) route_integrity: Option<String>,
    /// Whether apps' plain ports get host ports beside those of the proxies.
    pub(super) enable_unproxied_port_mappings: bool,
    pub(super) instance_cert_validity_minutes: Option<u64>,
    /// The size of the cell's download cache in MB.
    pub(super) cache_mb: Option<u64>,
    /// The ports of this machine that all apps reach, such as `tcp:10.0.0.5:5432`.
    pub(super) host_services: Vec<String>,
    pub(super) limits: garden::linux::SharedLimits,
}
