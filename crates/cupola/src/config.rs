//! Configuration. The command line overrides the file, which overrides the defaults. The result is a checked [`Config`]; all
//! problems are reported at once, by key.

mod blobs;
mod brokers;
mod cell;
mod certificates;
mod database;
mod file;
mod log_drains;
mod postgres;
mod reach;
mod route_services;
mod sockets;
mod ssh;
mod traces;
mod values;

#[cfg(test)]
mod tests;

pub(crate) use brokers::Brokers;
pub(crate) use cell::Cell;
pub(crate) use certificates::CertificateFiles;
pub(crate) use postgres::{DumpPlace, Postgres, Server as PostgresServer};
pub(crate) use sockets::{Bus, Cluster};

use crate::addresses::{Configured, Service};
use anyhow::{Context as _, Result, bail};
use cloud_controller::IdentityDomain;
use file::ConfigFile;
use log_drains::Drains;
use route_services::RouteServices;
use router::Rotation;
use ssh::Ssh;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use traces::Tracing;
use values::{address, identity_domains, is_domain, retention, rotation};

pub(crate) const DEFAULT_DATA: &str = "/var/lib/cupola";
pub(crate) const DEFAULT_DOMAIN: &str = "cupola.test";

/// The options of the command line.
#[derive(Debug, Default)]
pub(crate) struct Overrides {
    pub(crate) file: Option<PathBuf>,
    pub(crate) data: Option<PathBuf>,
    pub(crate) http: Option<String>,
    pub(crate) https: Option<String>,
    pub(crate) domain: Option<String>,
    pub(crate) no_hosts: bool,
}

/// The default size in MB at which the access log is rotated.
const ACCESS_LOG_MEGABYTES: u64 = 100;

/// The checked configuration.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) data: PathBuf,
    /// The domain. If it is `None`, the domain of the foundation's plan is used, or [`DEFAULT_DOMAIN`] for a new foundation.
    pub(crate) domain: Option<String>,
    /// The address of the router's HTTP listener. If it is `None`, the router listens on port 80 on loopback and the cell IP
    /// (port 443 for HTTPS).
    pub(crate) http: Option<SocketAddr>,
    pub(crate) https: Option<SocketAddr>,
    pub(crate) hosts_file: bool,
    pub(crate) first_org: String,
    pub(crate) first_space: String,
    /// The bytes of the data directory's disk that uploads leave free. `None` means 512 MiB, and on a small disk a twentieth.
    pub(crate) disk_reserve: Option<u64>,
    /// The address of the process's metrics; `None`: that of its first role in the plan.
    pub(crate) metrics: Option<SocketAddr>,
    /// The database server. If it is `None`, each component that stores something has a file of its own.
    pub(crate) database: Option<kit::db::Server>,
    /// The bucket of packages and droplets. If it is `None`, they are files.
    pub(crate) bucket: Option<cloud_controller::S3>,
    /// The broker of PostgreSQL databases. If it is `None`, its role does not run.
    pub(crate) postgres: Option<Postgres>,
    pub(crate) register_interval: Duration,
    /// The certificate that the router presents to clients. If it is `None`, the foundation issues its own.
    pub(crate) edge: Option<CertificateFiles>,
    /// The rotation of the access log. If it is `None`, the log grows until somebody else rotates it.
    pub(crate) access_log_rotation: Option<Rotation>,
    /// Whether requests may ask the router for a trace.
    pub(crate) tracing: Tracing,
    pub(crate) route_services: RouteServices,
    /// The UDP address, on loopback, on which log-cache receives dropsonde envelopes; `None` means that it receives none.
    pub(crate) dropsonde: Option<SocketAddr>,
    /// Where the logs of apps may be sent, and in which form.
    pub(crate) drains: Drains,
    pub(crate) retention: cloud_controller::Retention,
    pub(crate) ssh: Ssh,
    pub(crate) brokers: Brokers,
    pub(crate) cell: Cell,
    /// The addresses of the services that have a section.
    pub(crate) addresses: BTreeMap<Service, Configured>,
    pub(crate) bus: Bus,
    /// The components' own certificates, by the components' names. Others are issued by the foundation's CA.
    pub(crate) certificates: BTreeMap<&'static str, CertificateFiles>,
    /// The bundle of the foundation that this machine joins.
    pub(crate) join: Option<PathBuf>,
    /// The addresses of the operators' pages of further routers, which the dashboard reads.
    pub(crate) dashboard_routers: Vec<String>,
    /// The router's address for containers. If it is `None`, the router is reached at the cell's address.
    pub(crate) dns_router: Option<Ipv4Addr>,
    pub(crate) limits: cloud_controller::Limits,
    pub(crate) default_quota: cloud_controller::DefaultQuota,
    pub(crate) reserved_private_domains: Vec<String>,
    pub(crate) private_hosts_in_one_space: bool,
    pub(crate) identity_domains: Vec<IdentityDomain>,
}

impl Config {
    pub(crate) fn identity_domain_names(&self) -> Vec<String> {
        let domains = self.identity_domains.iter();
        domains.map(|domain| domain.name.clone()).collect()
    }
}

/// Reads the file (if any), applies the command line and checks everything.
pub(crate) fn load(overrides: Overrides) -> Result<Config> {
    let file = match &overrides.file {
        Some(path) => read(path)?,
        None => ConfigFile::default(),
    };
    check(file, overrides)
}

/// Runs `cupola check-config`.
pub(crate) fn check_file(path: &Path) -> Result<()> {
    let config = check(read(path)?, Overrides::default())
        .with_context(|| format!("{} is not valid", path.display()))?;
    crate::terminal::print(&format!(
        "{} is valid: domain {}, data {}\n",
        path.display(),
        config.domain.as_deref().unwrap_or(DEFAULT_DOMAIN),
        config.data.display()
    ))
}

fn read(path: &Path) -> Result<ConfigFile> {
    let text = std::fs::read_to_string(path).with_context(|| {
        format!(
            "read configuration file {}: does it exist, and may this process read it?",
            path.display()
        )
    })?;
    if text.trim().is_empty() {
        return Ok(ConfigFile::default());
    }
    yaml_serde::from_str(&text).map_err(|error| {
        anyhow::anyhow!(
            "configuration file {}: {error}; correct or remove that key",
            path.display()
        )
    })
}

fn check(file: ConfigFile, overrides: Overrides) -> Result<Config> {
    let mut problems = Vec::new();
    let addresses = sockets::addresses(&file, &mut problems);
    let bus = sockets::bus(&file.nats, &mut problems);
    let dashboard_routers = sockets::routers(&file, &mut problems);
    let certificates = sockets::certificates(&file, &mut problems);
    let domain = overrides
        .domain
        .or(file.domain)
        .map(|domain| domain.to_ascii_lowercase());
    if let Some(domain) = domain.as_ref().filter(|domain| !is_domain(domain)) {
        problems.push(format!("domain {domain:?} is not a domain name with at least two labels (letters, digits, dashes): use e.g. cupola.test"));
    }
    let http = address(
        "router.http",
        overrides.http.or(file.router.http),
        &mut problems,
    );
    let https = address(
        "router.https",
        overrides.https.or(file.router.https),
        &mut problems,
    );
    let metrics = address("metrics", file.metrics, &mut problems);
    let database = database::check(file.database, file.database_ca, &mut problems);
    let bucket = blobs::check(file.blobs, file.limits.package_mb, &mut problems);
    let cell = cell::check(file.cell, &mut problems);
    let postgres = file
        .postgres
        .and_then(|s| postgres::check(s, &mut problems));
    let dns_router = values::parsed(
        "dns.router",
        file.dns.router,
        "an IPv4 address: use the one at which containers reach a router, e.g. 10.0.0.5",
        &mut problems,
    );
    let register_interval = file.router.register_interval.unwrap_or(20);
    if !(1..=60).contains(&register_interval) {
        problems.push(format!(
            "router.register_interval {register_interval} is not between 1 and 60 seconds"
        ));
    }
    let edge = CertificateFiles::check("router", file.router.cert, file.router.key, &mut problems);
    let tracing = traces::check(file.router.tracing, &mut problems);
    let route_services = route_services::check(file.router.route_services, &mut problems);
    let dropsonde = address(
        "log_cache.dropsonde",
        file.log_cache.dropsonde,
        &mut problems,
    );
    if let Some(open) = dropsonde.filter(|address| !address.ip().is_loopback()) {
        problems.push(format!(
            "log_cache.dropsonde {open} is not on loopback: everybody could write logs; use e.g. 127.0.0.1:3457"
        ));
    }
    let drains = log_drains::check(file.log_cache.drains, &mut problems);
    problems.extend(file.limits.problems());
    for suffix in file
        .reserved_private_domains
        .iter()
        .filter(|suffix| !is_domain(&format!("x.{suffix}")))
    {
        problems.push(format!(
            "reserved_private_domains has {suffix:?}, which is not a domain name: use e.g. co.uk"
        ));
    }
    let permitted = file.cloud_controller.allow_app_ssh_access;
    let ssh = ssh::check(&file.ssh_proxy, permitted, &mut problems);
    let brokers = brokers::check(&file.cloud_controller.brokers, &mut problems);
    let retention = retention(&file.cloud_controller, &mut problems);
    let system_domain = domain.as_deref().unwrap_or(DEFAULT_DOMAIN);
    let identity_domains = identity_domains(file.identity_domains, system_domain, &mut problems);
    if !problems.is_empty() {
        bail!("{}", problems.join("; "));
    }
    Ok(Config {
        data: overrides
            .data
            .or(file.data)
            .unwrap_or_else(|| DEFAULT_DATA.into()),
        domain,
        http,
        https,
        hosts_file: !overrides.no_hosts && file.hosts_file.unwrap_or(true),
        first_org: file.first_org.unwrap_or_else(|| "demo".into()),
        first_space: file.first_space.unwrap_or_else(|| "dev".into()),
        disk_reserve: file.disk_reserve_mb.map(|mb| mb.saturating_mul(1 << 20)),
        metrics,
        database,
        bucket,
        postgres,
        register_interval: Duration::from_secs(register_interval),
        edge,
        access_log_rotation: rotation(
            file.router
                .access_log_megabytes
                .unwrap_or(ACCESS_LOG_MEGABYTES),
            file.router.access_log_keep.unwrap_or(Rotation::KEEP),
        ),
        tracing,
        route_services,
        dropsonde,
        drains,
        retention,
        ssh,
        brokers,
        cell,
        addresses,
        bus,
        certificates,
        join: file.join,
        dashboard_routers,
        dns_router,
        limits: file.limits,
        default_quota: file.default_quota,
        reserved_private_domains: file.reserved_private_domains,
        private_hosts_in_one_space: file.private_hosts_in_one_space,
        identity_domains,
    })
}
