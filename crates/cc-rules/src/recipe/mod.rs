//! Builds the `DesiredLRP` for the BBS from a process as the user wants it, like cloud_controller_ng's `app_recipe_builder.rb`.
//! The driver and the sync call it. It is pure: it reads no database and creates no guid.
//!
//! ```text
//! AppSpec ─▶ desired_lrp ─▶ BBS desire        a new version of a process
//!         └▶ update      ─▶ BBS update        instances, routes, annotation, tags of a running version
//! ```

pub mod egress;
pub mod environment;
mod live;
pub mod routes;
pub mod ssh;
pub mod staging;

pub use live::{LiveState, update};

use crate::services::Delivered;
use egress::RuleError;
use environment::FILE_DESCRIPTORS;
use live::metric_tags;
use routes::routes_json;
use std::collections::BTreeMap;
use wire::bbs::{
    Action, CachedDependency, CertificateProperties, Check, CheckDefinition, CodependentAction,
    DesiredLrp, DownloadAction, EnvironmentVariable, HttpCheck, LogRateLimit, MetricTagDynamic,
    MetricTagValue, Network, ParallelAction, ResourceLimits, RunAction, TcpCheck, TimeoutAction,
};

pub const APPS_DOMAIN: &str = "cf-apps";
pub const TASKS_DOMAIN: &str = "cf-tasks";
pub const STAGING_DOMAIN: &str = "cf-app-staging";
/// The number of seconds for which a domain stays fresh after a sync without errors.
pub const DOMAIN_TTL_SECONDS: u32 = 120;

/// The port on which an app listens unless its route destinations specify others.
pub const DEFAULT_APP_PORT: u16 = 8080;
pub const SSH_PORT: u16 = 2222;

const USER: &str = "vcap";
const HOME: &str = "/home/vcap";
const LIFECYCLE_DIR: &str = "/tmp/lifecycle";
const TRUSTED_CERTIFICATES: &str = "/etc/cf-system-certificates";
const MAX_PIDS: i32 = 2048;
const MONITOR_TIMEOUT_MS: i64 = 10 * 60 * 1000;

/// The identity of an app, with which its logs, metrics and certificates are labelled.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AppIdentity {
    pub app_guid: String,
    pub app_name: String,
    pub space_guid: String,
    pub space_name: String,
    pub organization_guid: String,
    pub organization_name: String,
}

/// A file that the cell downloads with its mTLS identity.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Artifact {
    pub url: String,
    /// The SHA-256 in lower-case hex.
    pub sha256: String,
}

/// One process of an app, with everything that its recipe needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AppSpec {
    pub live: LiveState,
    /// The start command. If it is empty, the launcher runs the one that staging found.
    pub command: String,
    pub memory_mb: u32,
    pub disk_mb: u32,
    /// The maximum log rate in bytes per second; -1 means no limit.
    pub log_rate_limit: i64,
    /// The ports on which the app listens; if there are none, 8080.
    pub ports: Vec<u16>,
    /// The programs that start and end with the process.
    pub sidecars: Vec<SidecarSpec>,
    /// The user's variables, which take precedence over those of the running environment group.
    pub environment: BTreeMap<String, String>,
    /// The bindings of the app.
    pub services: Delivered,
    pub health_check: HealthCheck,
    pub readiness: ReadinessCheck,
    pub droplet: Artifact,
    pub lifecycle: Artifact,
    pub ssh_allowed: bool,
    pub stack: String,
    /// The URL of the API, for `VCAP_APPLICATION`.
    pub api_url: String,
}

/// A program beside the process, in its container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SidecarSpec {
    pub name: String,
    pub command: String,
    /// The sidecar's share of the process's memory. `None`: it may use all of it.
    pub memory_mb: Option<u32>,
}

impl AppSpec {
    /// Returns the memory that the sidecars leave for the process.
    fn own_memory_mb(&self) -> u32 {
        let taken: u32 = self
            .sidecars
            .iter()
            .filter_map(|sidecar| sidecar.memory_mb)
            .sum();
        self.memory_mb.saturating_sub(taken)
    }

    fn app_ports(&self) -> Vec<u16> {
        if self.ports.is_empty() {
            vec![DEFAULT_APP_PORT]
        } else {
            self.ports.clone()
        }
    }
}

pub fn lrp_guid(process_guid: &str, version: &str) -> String {
    format!("{process_guid}-{version}")
}

/// Returns the Cloud Controller's guid of the process to which an LRP belongs. Guids have 36 characters. Other names are cut at
/// the middle dash, which is correct if both halves have the same length.
pub fn process_guid_of(lrp_guid: &str) -> &str {
    lrp_guid.get(..lrp_guid.len() / 2).unwrap_or(lrp_guid)
}

/// The check whether the process is healthy. All times are in seconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HealthCheck {
    pub kind: CheckKind,
    /// The maximum time of a start; `None` means 60.
    pub timeout: Option<u32>,
    /// The maximum time of one check; `None` means 1.
    pub invocation_timeout: Option<u32>,
    /// The time between checks of a running instance; `None` means 30.
    pub interval: Option<u32>,
}

/// The check whether requests may be routed to the process. With `Process` (default) they may as soon as it runs.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadinessCheck {
    pub kind: CheckKind,
    pub invocation_timeout: Option<u32>,
    pub interval: Option<u32>,
}

impl Default for ReadinessCheck {
    fn default() -> Self {
        Self {
            kind: CheckKind::Process,
            invocation_timeout: None,
            interval: None,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub enum CheckKind {
    /// Every port must accept a TCP connection.
    #[default]
    Port,
    /// The endpoint on the first port must answer 200; other ports must accept connections.
    Http { endpoint: String },
    /// The process must run.
    Process,
}

pub const DEFAULT_START_TIMEOUT_SECONDS: u32 = 60;

/// Returns the whole LRP but for its sshd, which [`ssh::add`] adds. An error names the security-group rule that is wrong.
pub fn desired_lrp(spec: &AppSpec) -> Result<DesiredLrp, RuleError> {
    let ports = spec.app_ports();
    let mut all_ports = ports.clone();
    if ssh::has_sshd(spec) {
        all_ports.push(SSH_PORT);
    }
    Ok(DesiredLrp {
        process_guid: spec.live.lrp_guid(),
        domain: APPS_DOMAIN.into(),
        root_fs: root_fs(&spec.stack),
        instances: spec.live.instances as i32,
        environment_variables: environment::global(),
        setup: Some(download(
            &spec.droplet,
            "droplet",
            HOME,
            &format!("droplets-{}", spec.live.lrp_guid()),
            "",
        )),
        action: Some(Action {
            codependent: Some(CodependentAction {
                actions: actions(spec, &ports),
                ..Default::default()
            }),
            ..Default::default()
        }),
        monitor: monitor(spec, &ports),
        disk_mb: spec.disk_mb as i32,
        memory_mb: spec.memory_mb as i32,
        cpu_weight: cpu_weight(spec.memory_mb),
        ports: all_ports.iter().map(|port| u32::from(*port)).collect(),
        routes: Some(routes_json(
            &spec.live.routes,
            spec.live.isolation_segment.as_deref(),
        )),
        log_source: "CELL".into(),
        log_guid: spec.live.identity.app_guid.clone(),
        metrics_guid: spec.live.identity.app_guid.clone(),
        annotation: spec.live.annotation.clone(),
        egress_rules: egress::rules(&spec.live.egress_rules)?,
        cached_dependencies: vec![lifecycle(&spec.lifecycle, &spec.stack, "")],
        legacy_download_user: USER.into(),
        trusted_system_certificates_path: TRUSTED_CERTIFICATES.into(),
        network: Some(network(&spec.live.identity, "app", &ports)),
        start_timeout_ms: i64::from(
            spec.health_check
                .timeout
                .unwrap_or(DEFAULT_START_TIMEOUT_SECONDS),
        ) * 1000,
        placement_tags: spec.live.isolation_segment.clone().into_iter().collect(),
        max_pids: MAX_PIDS,
        certificate_properties: Some(certificate_properties(&spec.live.identity)),
        check_definition: check_definition(spec, &ports),
        metric_tags: metric_tags(&spec.live),
        log_rate_limit: Some(LogRateLimit {
            bytes_per_second: spec.log_rate_limit,
        }),
        volume_mounted_files: environment::files(&spec.services),
        ..Default::default()
    })
}

/// Returns the share of the cell's CPU, 0–100, by memory (128 MB to 8 GB).
pub fn cpu_weight(memory_mb: u32) -> u32 {
    100 * memory_mb.clamp(128, 8192) / 8192
}

/// Returns the action of the process, followed by those of its sidecars. When one of them ends, all end.
fn actions(spec: &AppSpec, ports: &[u16]) -> Vec<Action> {
    let source = format!("APP/PROC/{}", spec.live.process_type.to_uppercase());
    let env = environment::running(spec, ports[0], spec.own_memory_mb());
    let mut actions = vec![launch(&spec.command, env, source.clone())];
    for sidecar in &spec.sidecars {
        let memory_mb = sidecar.memory_mb.unwrap_or(spec.memory_mb);
        actions.push(launch(
            &sidecar.command,
            environment::running(spec, ports[0], memory_mb),
            format!("{source}/SIDECAR/{}", sidecar.name.to_uppercase()),
        ));
    }
    actions
}

fn launch(command: &str, env: Vec<EnvironmentVariable>, log_source: String) -> Action {
    run(RunAction {
        path: format!("{LIFECYCLE_DIR}/launcher"),
        args: vec!["app".into(), command.to_owned(), String::new()],
        env,
        resource_limits: Some(ResourceLimits {
            nofile: Some(FILE_DESCRIPTORS),
            nproc: None,
        }),
        user: USER.into(),
        log_source,
        ..Default::default()
    })
}

/// Returns the check as an action, for cells that do not know check definitions.
fn monitor(spec: &AppSpec, ports: &[u16]) -> Option<Action> {
    let uri = match &spec.health_check.kind {
        CheckKind::Process => return None,
        CheckKind::Http { endpoint } => Some(format!("-uri={endpoint}")),
        CheckKind::Port => None,
    };
    let checks = ports.iter().enumerate().map(|(position, port)| {
        let mut args = vec![format!("-port={port}")];
        if position == 0 {
            args.extend(uri.clone());
        }
        args.extend(
            spec.health_check
                .invocation_timeout
                .map(|seconds| format!("-timeout={seconds}s")),
        );
        run(RunAction {
            path: format!("{LIFECYCLE_DIR}/healthcheck"),
            args,
            resource_limits: Some(ResourceLimits {
                nofile: Some(FILE_DESCRIPTORS),
                nproc: None,
            }),
            user: USER.into(),
            log_source: "HEALTH".into(),
            suppress_log_output: true,
            ..Default::default()
        })
    });
    let parallel = Action {
        parallel: Some(ParallelAction {
            actions: checks.collect(),
            ..Default::default()
        }),
        ..Default::default()
    };
    Some(timeout(parallel, MONITOR_TIMEOUT_MS))
}

fn check_definition(spec: &AppSpec, ports: &[u16]) -> Option<CheckDefinition> {
    let health = &spec.health_check;
    let definition = CheckDefinition {
        checks: checks(
            &health.kind,
            ports,
            health.invocation_timeout,
            health.interval,
        ),
        readiness_checks: checks(
            &spec.readiness.kind,
            ports,
            spec.readiness.invocation_timeout,
            spec.readiness.interval,
        ),
        log_source: "HEALTH".into(),
    };
    let needed = !definition.checks.is_empty() || !definition.readiness_checks.is_empty();
    needed.then_some(definition)
}

fn checks(
    kind: &CheckKind,
    ports: &[u16],
    timeout: Option<u32>,
    interval: Option<u32>,
) -> Vec<Check> {
    let timeout_ms = u64::from(timeout.unwrap_or_default()) * 1000;
    let interval_ms = u64::from(interval.unwrap_or_default()) * 1000;
    let check = |(position, port): (usize, &u16)| {
        let port = u32::from(*port);
        match kind {
            CheckKind::Http { endpoint } if position == 0 => Check {
                http_check: Some(HttpCheck {
                    port,
                    request_timeout_ms: timeout_ms,
                    path: endpoint.clone(),
                    interval_ms,
                }),
                tcp_check: None,
            },
            _ => Check {
                tcp_check: Some(TcpCheck {
                    port,
                    connect_timeout_ms: timeout_ms,
                    interval_ms,
                }),
                http_check: None,
            },
        }
    };
    if *kind == CheckKind::Process {
        Vec::new()
    } else {
        ports.iter().enumerate().map(check).collect()
    }
}

/// Returns the tags of an app's metrics, which identify the app, its space and its organization.
pub fn identity_tags(identity: &AppIdentity) -> BTreeMap<String, MetricTagValue> {
    BTreeMap::from([
        ("source_id".to_owned(), fixed(&identity.app_guid)),
        (
            "organization_id".to_owned(),
            fixed(&identity.organization_guid),
        ),
        (
            "organization_name".to_owned(),
            fixed(&identity.organization_name),
        ),
        ("space_id".to_owned(), fixed(&identity.space_guid)),
        ("space_name".to_owned(), fixed(&identity.space_name)),
        ("app_id".to_owned(), fixed(&identity.app_guid)),
        ("app_name".to_owned(), fixed(&identity.app_name)),
    ])
}

fn fixed(value: &str) -> MetricTagValue {
    MetricTagValue {
        static_value: value.into(),
        ..Default::default()
    }
}

fn dynamic(value: MetricTagDynamic) -> MetricTagValue {
    MetricTagValue {
        dynamic: value as i32,
        ..Default::default()
    }
}

fn root_fs(stack: &str) -> String {
    format!("preloaded:{stack}")
}

fn lifecycle(artifact: &Artifact, stack: &str, log_source: &str) -> CachedDependency {
    CachedDependency {
        name: String::new(),
        from: artifact.url.clone(),
        to: LIFECYCLE_DIR.into(),
        cache_key: format!("buildpack-{stack}-lifecycle"),
        log_source: log_source.into(),
        checksum_algorithm: "sha256".into(),
        checksum_value: artifact.sha256.clone(),
    }
}

fn download(
    artifact: &Artifact,
    name: &str,
    to: &str,
    cache_key: &str,
    log_source: &str,
) -> Action {
    let download = DownloadAction {
        artifact: name.into(),
        from: artifact.url.clone(),
        to: to.into(),
        cache_key: cache_key.into(),
        log_source: log_source.into(),
        user: USER.into(),
        checksum_algorithm: "sha256".into(),
        checksum_value: artifact.sha256.clone(),
    };
    Action {
        download: Some(download),
        ..Default::default()
    }
}

fn run(run: RunAction) -> Action {
    Action {
        run: Some(run),
        ..Default::default()
    }
}

fn timeout(action: Action, timeout_ms: i64) -> Action {
    Action {
        timeout: Some(Box::new(TimeoutAction {
            action: Some(Box::new(action)),
            timeout_ms,
            ..Default::default()
        })),
        ..Default::default()
    }
}

/// Returns the network properties, by which network policies and security groups identify a container. `workload` is `app`,
/// `task` or `staging`.
fn network(identity: &AppIdentity, workload: &str, ports: &[u16]) -> Network {
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    Network {
        properties: BTreeMap::from([
            ("policy_group_id".to_owned(), identity.app_guid.clone()),
            ("app_id".to_owned(), identity.app_guid.clone()),
            ("space_id".to_owned(), identity.space_guid.clone()),
            ("org_id".to_owned(), identity.organization_guid.clone()),
            ("ports".to_owned(), ports.join(",")),
            ("container_workload".to_owned(), workload.to_owned()),
        ]),
    }
}

fn certificate_properties(identity: &AppIdentity) -> CertificateProperties {
    CertificateProperties {
        organizational_unit: vec![
            format!("organization:{}", identity.organization_guid),
            format!("space:{}", identity.space_guid),
            format!("app:{}", identity.app_guid),
        ],
    }
}

#[cfg(test)]
mod tests;
