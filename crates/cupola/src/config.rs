//! Configuration. The command line overrides the file, which overrides the defaults. The result is a checked [`Config`]; all
//! problems are reported at once, by key.

use anyhow::{Context as _, Result, bail};
use cloud_controller::IdentityDomain;
use router::Rotation;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) const DEFAULT_DATA: &str = "/var/lib/cupola";
pub(crate) const DEFAULT_DOMAIN: &str = "cupola.test";
/// The default identity domain, on which apps call each other by their identities, and the scope of its callers.
const IDENTITY_DOMAIN: (&str, &str) = ("apps.identity", "any");

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

/// The configuration file as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ConfigFile {
    domain: Option<String>,
    data: Option<PathBuf>,
    hosts_file: Option<bool>,
    first_org: Option<String>,
    first_space: Option<String>,
    /// The MiB of the data directory's disk that uploads must leave free.
    disk_reserve_mb: Option<u64>,
    /// The address of the process's metrics and readiness.
    metrics: Option<String>,
    router: RouterSection,
    cell: CellSection,
    log_cache: LogCacheSection,
    limits: cloud_controller::Limits,
    default_quota: cloud_controller::DefaultQuota,
    /// Public suffixes that no organization may have as a domain.
    reserved_private_domains: Vec<String>,
    /// Whether the routes of one host on a private domain must all be in one space.
    private_hosts_in_one_space: bool,
    cloud_controller: CloudControllerSection,
    /// The shared domains on which apps call each other by their instance identities, each with the scope of its callers: any,
    /// org or space.
    identity_domains: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct CloudControllerSection {
    /// The number of staged droplets of each app that are kept besides those in use.
    keep_droplets: Option<u32>,
    /// The number of uploaded packages of each app that are kept besides those in use.
    keep_packages: Option<u32>,
    /// The age in days at which events and jobs are deleted, and tasks, builds and deployments that have ended.
    keep_days: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LogCacheSection {
    /// The UDP address on which dropsonde envelopes are received.
    dropsonde: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RouterSection {
    http: Option<String>,
    https: Option<String>,
    /// The operator's own certificate chain and its key, as PEM files.
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    /// The interval in seconds at which the router asks emitters to register their routes.
    register_interval: Option<u64>,
    /// The size in MB at which the access log is rotated; 0 means never.
    access_log_megabytes: Option<u64>,
    /// The number of rotated files that are kept.
    access_log_keep: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct CellSection {
    ip: Option<String>,
    memory_mb: Option<u64>,
    disk_mb: Option<u64>,
    containers: Option<u64>,
    runtime: Option<String>,
    envoy: Option<PathBuf>,
    stacks: BTreeMap<String, PathBuf>,
    route_integrity: Option<String>,
    /// Whether apps' plain ports get host ports beside those of the proxies.
    enable_unproxied_port_mappings: bool,
    instance_cert_validity_minutes: Option<u64>,
    /// The size of the cell's download cache in MB.
    cache_mb: Option<u64>,
    limits: garden::linux::SharedLimits,
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
    pub(crate) register_interval: Duration,
    /// The certificate that the router presents to clients. If it is `None`, the foundation issues its own.
    pub(crate) edge: Option<EdgeFiles>,
    /// The rotation of the access log. If it is `None`, the log grows until somebody else rotates it.
    pub(crate) access_log_rotation: Option<Rotation>,
    /// The UDP address, on loopback, on which log-cache receives dropsonde envelopes; `None` means that it receives none.
    pub(crate) dropsonde: Option<SocketAddr>,
    pub(crate) retention: cloud_controller::Retention,
    pub(crate) cell: Cell,
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

/// An operator's own certificate chain and its key, PEM files.
#[derive(Clone, Debug)]
pub(crate) struct EdgeFiles {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

#[derive(Clone, Debug)]
pub(crate) struct Cell {
    /// The cell's address. If it is `None`, an address on a bridge of our own is used.
    pub(crate) ip: Option<Ipv4Addr>,
    pub(crate) memory_mb: Option<u64>,
    pub(crate) disk_mb: Option<u64>,
    pub(crate) containers: Option<u64>,
    /// The container runtime: `crun`, `runc`, or a path.
    pub(crate) runtime: String,
    pub(crate) envoy: Option<PathBuf>,
    /// The stacks: name to tar or directory. If there is none, the stack beside the binary is used.
    pub(crate) stacks: BTreeMap<String, PathBuf>,
    pub(crate) route_integrity: bool,
    pub(crate) unproxied_ports: bool,
    pub(crate) instance_cert_validity: Duration,
    pub(crate) cache_mb: u64,
    /// The limits of each container on resources that all containers share.
    pub(crate) limits: garden::linux::SharedLimits,
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
    let ip = file.cell.ip.and_then(|text| match text.parse() {
        Ok(ip) => Some(ip),
        Err(_) => {
            problems.push(format!(
                "cell.ip {text:?} is not an IPv4 address: use e.g. 10.254.0.1, or leave the key out"
            ));
            None
        }
    });
    let route_integrity = match file.cell.route_integrity.as_deref() {
        None | Some("on" | "true") => true,
        Some("off" | "false") => false,
        Some(other) => {
            problems.push(format!(
                "cell.route_integrity {other:?} is neither on nor off: use one of them"
            ));
            true
        }
    };
    for (name, path) in &file.cell.stacks {
        if !path.exists() {
            problems.push(format!(
                "cell.stacks.{name} {:?} does not exist: name a tar file or a directory",
                path.display().to_string()
            ));
        }
    }
    if let Some(path) = file.cell.envoy.as_ref().filter(|p| !p.is_file()) {
        problems.push(format!(
            "cell.envoy {:?} is not a file: set the path of an Envoy binary, or leave the key out",
            path.display().to_string()
        ));
    }
    let validity = file.cell.instance_cert_validity_minutes.unwrap_or(24 * 60);
    if validity < 1 {
        problems.push("cell.instance_cert_validity_minutes must be at least 1".into());
    }
    let register_interval = file.router.register_interval.unwrap_or(20);
    if !(1..=60).contains(&register_interval) {
        problems.push(format!(
            "router.register_interval {register_interval} is not between 1 and 60 seconds"
        ));
    }
    let edge = edge_files(file.router.cert, file.router.key, &mut problems);
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
        register_interval: Duration::from_secs(register_interval),
        edge,
        access_log_rotation: rotation(
            file.router
                .access_log_megabytes
                .unwrap_or(ACCESS_LOG_MEGABYTES),
            file.router.access_log_keep.unwrap_or(Rotation::KEEP),
        ),
        dropsonde,
        retention,
        cell: Cell {
            ip,
            memory_mb: file.cell.memory_mb,
            disk_mb: file.cell.disk_mb,
            containers: file.cell.containers,
            runtime: file.cell.runtime.unwrap_or_else(|| "crun".into()),
            envoy: file.cell.envoy,
            stacks: file.cell.stacks,
            route_integrity,
            unproxied_ports: file.cell.enable_unproxied_port_mappings,
            instance_cert_validity: Duration::from_secs(validity * 60),
            cache_mb: file.cell.cache_mb.unwrap_or(10 * 1024),
            limits: file.cell.limits,
        },
        limits: file.limits,
        default_quota: file.default_quota,
        reserved_private_domains: file.reserved_private_domains,
        private_hosts_in_one_space: file.private_hosts_in_one_space,
        identity_domains,
    })
}

fn identity_domains(
    section: Option<BTreeMap<String, String>>,
    system_domain: &str,
    problems: &mut Vec<String>,
) -> Vec<IdentityDomain> {
    let default = || {
        let (name, scope) = IDENTITY_DOMAIN;
        BTreeMap::from([(name.to_owned(), scope.to_owned())])
    };
    let mut domains = Vec::new();
    for (name, scope) in section.unwrap_or_else(default) {
        let name = name.to_ascii_lowercase();
        if !is_domain(&name) {
            problems.push(format!(
                "identity_domains has {name:?}, which is not a domain name: use e.g. apps.identity"
            ));
        } else if name == system_domain {
            problems.push(format!("identity_domains has {name:?}, the foundation's own domain, whose clients have no instance identities: use e.g. apps.identity"));
        } else if name == cloud_controller::INTERNAL_DOMAIN {
            problems.push(format!("identity_domains has {name:?}, whose routes bypass the router: use e.g. apps.identity"));
        }
        if !["any", "org", "space"].contains(&scope.as_str()) {
            problems.push(format!(
                "identity_domains.{name} {scope:?} is unknown: use any, org or space"
            ));
        }
        domains.push(IdentityDomain { name, scope });
    }
    domains
}

fn retention(
    section: &CloudControllerSection,
    problems: &mut Vec<String>,
) -> cloud_controller::Retention {
    let default = cloud_controller::Retention::default();
    let mut at_least_one = |key: &str, value: Option<u32>, default: u32| match value {
        Some(0) => {
            problems.push(format!("cloud_controller.{key} must be at least 1"));
            default
        }
        value => value.unwrap_or(default),
    };
    const DAY: u64 = 24 * 3600;
    let days = u32::try_from(default.records.as_secs() / DAY).unwrap_or(u32::MAX);
    let days = at_least_one("keep_days", section.keep_days, days);
    cloud_controller::Retention {
        droplets_per_app: at_least_one(
            "keep_droplets",
            section.keep_droplets,
            default.droplets_per_app,
        ),
        packages_per_app: at_least_one(
            "keep_packages",
            section.keep_packages,
            default.packages_per_app,
        ),
        records: Duration::from_secs(u64::from(days) * DAY),
        ..default
    }
}

/// Returns the rotation at this size; `None` for 0 megabytes.
fn rotation(megabytes: u64, keep: u32) -> Option<Rotation> {
    (megabytes > 0).then(|| Rotation {
        max_bytes: megabytes.saturating_mul(1 << 20),
        keep,
    })
}

fn address(key: &str, text: Option<String>, problems: &mut Vec<String>) -> Option<SocketAddr> {
    let text = text?;
    let full = if text.starts_with(':') {
        format!("0.0.0.0{text}")
    } else {
        text.clone()
    };
    match full.parse() {
        Ok(addr) => Some(addr),
        Err(_) => {
            problems.push(format!("{key} {text:?} is not an address with a port: use e.g. 0.0.0.0:80 or 127.0.0.1:8080"));
            None
        }
    }
}

/// Returns the operator's certificate files. It reports a problem if only one of them is given or if they do not belong together.
fn edge_files(
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    problems: &mut Vec<String>,
) -> Option<EdgeFiles> {
    let files = match (cert, key) {
        (None, None) => return None,
        (Some(cert), Some(key)) => EdgeFiles { cert, key },
        (cert, _) => {
            let (has, lacks) = match cert {
                Some(_) => ("router.cert", "router.key"),
                None => ("router.key", "router.cert"),
            };
            problems.push(format!(
                "{has} is set and {lacks} is not: set both or neither"
            ));
            return None;
        }
    };
    if let Err(error) = files.read() {
        problems.push(format!("{error:#}"));
    }
    Some(files)
}

impl EdgeFiles {
    /// Reads the chain and the key, as PEM.
    ///
    /// # Errors Fails if a file cannot be read or is no PEM, or if the key belongs to another certificate.
    pub(crate) fn read(&self) -> Result<(String, String)> {
        let read = |name: &str, path: &Path| {
            std::fs::read_to_string(path).with_context(|| {
                format!(
                    "router.{name} {}: the file cannot be read: does it exist, and may this process read it?",
                    path.display()
                )
            })
        };
        let (cert, key) = (read("cert", &self.cert)?, read("key", &self.key)?);
        kit::tls::check_pair(&cert, &key).with_context(|| {
            format!(
                "router.cert {} and router.key {}",
                self.cert.display(),
                self.key.display()
            )
        })?;
        Ok((cert, key))
    }
}

fn is_domain(domain: &str) -> bool {
    domain.len() <= 200
        && domain.contains('.')
        && domain.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_named_at_once() {
        let file: ConfigFile = yaml_serde::from_str(
            "domain: nodots\nmetrics: here\nrouter: {http: eighty}\ncell: {route_integrity: maybe}\nlog_cache: {dropsonde: ':3457'}\nlimits: {query_bytes: 0}\nreserved_private_domains: [co_uk]\ncloud_controller: {keep_droplets: 0, keep_days: 7}\nidentity_domains: {nodot: any, apps.internal: any, cupola.test: world}",
        )
        .unwrap();
        let error = check(file, Overrides::default()).unwrap_err().to_string();
        for key in [
            "domain \"nodots\"",
            "router.http \"eighty\"",
            "metrics \"here\"",
            "cell.route_integrity \"maybe\"",
            "log_cache.dropsonde 0.0.0.0:3457 is not on loopback",
            "limits.query_bytes must be at least 1",
            "reserved_private_domains has \"co_uk\"",
            "cloud_controller.keep_droplets must be at least 1",
            "identity_domains has \"nodot\"",
            "identity_domains has \"apps.internal\", whose routes bypass",
            "identity_domains.cupola.test \"world\" is unknown: use any, org or space",
        ] {
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn limits_and_the_default_quota_can_be_set() {
        let file: ConfigFile = yaml_serde::from_str(
            "limits: {instances_per_process: 5}\ndefault_quota: {total_memory_in_mb: 2048, total_routes: null}",
        )
        .unwrap();
        let config = check(file, Overrides::default()).unwrap();
        assert_eq!(config.limits.instances_per_process, 5);
        assert_eq!(config.limits.filter_values, 500);
        let quota = config.default_quota;
        assert_eq!(
            (quota.total_memory_in_mb, quota.total_routes),
            (Some(2048), None)
        );
        assert!(yaml_serde::from_str::<ConfigFile>("limits: {instances: 5}").is_err());
    }

    #[test]
    fn identity_domains_can_be_chosen_and_left_out() {
        let load = |text: &str| -> Result<String, String> {
            let file: ConfigFile = yaml_serde::from_str(text).unwrap();
            let config = check(file, Overrides::default()).map_err(|error| error.to_string())?;
            let domains = config.identity_domains.iter();
            Ok(domains
                .map(|domain| format!("{} {}", domain.name, domain.scope))
                .collect::<Vec<_>>()
                .join(", "))
        };
        assert_eq!(load("domain: a.test"), Ok("apps.identity any".to_owned()));
        assert_eq!(load("identity_domains: {}"), Ok(String::new()));
        assert_eq!(
            load("identity_domains: {Pay.Identity: space, b.identity: org}"),
            Ok("pay.identity space, b.identity org".to_owned())
        );
        let error = load("domain: a.test\nidentity_domains: {A.test: any}").unwrap_err();
        assert!(
            error.contains("\"a.test\", the foundation's own domain"),
            "{error}"
        );
    }

    #[test]
    fn unknown_keys_are_refused_by_name() {
        let error = yaml_serde::from_str::<ConfigFile>("cell: {memroy_mb: 3}")
            .unwrap_err()
            .to_string();
        assert!(error.contains("memroy_mb"), "{error}");
    }

    #[test]
    fn command_line_beats_file() {
        let file: ConfigFile = yaml_serde::from_str("domain: a.example.com").unwrap();
        let config = check(
            file,
            Overrides {
                domain: Some("b.example.com".into()),
                http: Some(":8080".into()),
                ..Overrides::default()
            },
        )
        .unwrap();
        assert_eq!(config.domain.unwrap(), "b.example.com");
        assert_eq!(config.http.unwrap().to_string(), "0.0.0.0:8080");
    }
}
