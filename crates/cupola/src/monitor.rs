//! The pages on which operators watch this process: the metrics of its roles for Prometheus, and whether each role can do its work.
//!
//! | Page | Content |
//! |---|---|
//! | `/metrics` | all metrics of the process and its roles, in Prometheus' text format |
//! | `/ready` | 200 if every role can do its work, else 503; the reasons for each role as JSON |
//! | `/ready/ROLE` | the same for one role; 404 if this process does not run it |
//! | `/healthz` | 200: the process is alive |
//!
//! Roles show themselves when they are built ([`Monitor::show`]); the supervisor reports when they start, fail and end
//! ([`RoleState`]). The metrics of a role that failed are dropped with it, and begin anew when it is built again.

use anyhow::{Context as _, Result};
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use kit::metrics::{Counters, Observed, Page as _, Registry};
use serde_json::json;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::TcpListener;

/// The content type of the metrics' page.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The roles of this process as operators see them. It is cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Monitor {
    roles: Roles,
    process: Arc<Registry>,
    failures: Counters<1>,
}

#[derive(Clone, Debug, Default)]
struct Roles(Arc<Mutex<BTreeMap<&'static str, Role>>>);

#[derive(Clone, Debug, Default)]
struct Role {
    phase: Phase,
    observed: Option<Observed>,
}

#[derive(Clone, Debug, Default)]
enum Phase {
    #[default]
    Building,
    Running,
    /// The role failed for this reason and is built again.
    Failed(String),
    Ended,
}

impl Monitor {
    pub(crate) fn new() -> Self {
        let roles = Roles::default();
        let mut process = Registry::default();
        let failures = process.counters(
            "cupola_role_failures_total",
            "Failures of a role after which it was built again",
            ["role"],
        );
        let all = roles.clone();
        process.read_all(
            "cupola_role_ready",
            "1 if the role can do its work, else 0; /ready has the reasons",
            "role",
            move || {
                let rows = all.unmet().into_iter();
                rows.map(|(name, unmet)| (name.to_owned(), f64::from(unmet.is_empty())))
                    .collect()
            },
        );
        process.read(
            "process_open_fds",
            "Open file descriptors of the process",
            open_files,
        );
        process.read(
            "process_resident_memory_bytes",
            "Memory of the process that is resident",
            resident_bytes,
        );
        Self {
            roles,
            process: Arc::new(process),
            failures,
        }
    }

    /// Adds a role that is about to be built.
    pub(crate) fn role(&self, name: &'static str) -> RoleState {
        self.roles.lock().insert(name, Role::default());
        // The counter exists from now on, because it is known that the role has not failed.
        self.failures.with([name]).add(0);
        RoleState {
            monitor: self.clone(),
            name,
        }
    }

    /// Replaces what is seen of a role that was built.
    pub(crate) fn show(&self, name: &'static str, observed: Observed) {
        self.roles.lock().entry(name).or_default().observed = Some(observed);
    }

    /// Returns the metrics of the process and all its roles.
    fn metrics(&self) -> String {
        let mut page = self.process.text();
        let roles = self.roles.lock().clone();
        for observed in roles.values().filter_map(|role| role.observed.as_ref()) {
            page.push_str(&observed.metrics.text());
        }
        page
    }

    /// Returns the pages as a server serves them.
    pub(crate) fn pages(self) -> Router {
        Router::new()
            .route("/metrics", get(metrics))
            .route("/ready", get(ready))
            .route("/ready/{role}", get(role_ready))
            .route("/healthz", get(async || "ok\n"))
            .with_state(self)
    }
}

/// Binds the listener of the pages. The error names the key of the configuration.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener> {
    let bound = TcpListener::bind(address).await.with_context(|| {
        format!("metrics: this process cannot listen on {address} for its metrics: is another program using it? `ss -ltnp sport = {}` shows which; choose another address with the key `metrics` of the configuration, e.g. metrics: 127.0.0.1:9600", address.port())
    })?;
    tracing::info!(%address, "metrics-served");
    Ok(bound)
}

impl Roles {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Role>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns for each role what keeps it from doing its work.
    fn unmet(&self) -> BTreeMap<&'static str, Vec<String>> {
        let roles = self.lock().clone();
        let unmet = roles.into_iter().map(|(name, role)| (name, role.unmet()));
        unmet.collect()
    }
}

impl Role {
    fn unmet(&self) -> Vec<String> {
        match &self.phase {
            Phase::Building => vec!["it has not started yet".to_owned()],
            Phase::Failed(error) => vec![format!("it failed and is built again: {error}")],
            Phase::Ended => vec!["it has ended".to_owned()],
            Phase::Running => {
                let observed = self.observed.as_ref();
                observed.map_or_else(Vec::new, |observed| observed.readiness.unmet())
            }
        }
    }
}

/// The state of one role, which its supervisor reports.
#[derive(Clone, Debug)]
pub(crate) struct RoleState {
    monitor: Monitor,
    name: &'static str,
}

impl RoleState {
    pub(crate) fn runs(&self) {
        self.enter(Phase::Running);
    }

    pub(crate) fn failed(&self, error: &anyhow::Error) {
        self.monitor.failures.with([self.name]).add(1);
        // The role is gone, so its metrics and its readiness are no longer true.
        let failed = Role {
            phase: Phase::Failed(format!("{error:#}")),
            observed: None,
        };
        self.monitor.roles.lock().insert(self.name, failed);
    }

    pub(crate) fn ended(&self) {
        self.enter(Phase::Ended);
    }

    fn enter(&self, phase: Phase) {
        self.monitor
            .roles
            .lock()
            .entry(self.name)
            .or_default()
            .phase = phase;
    }
}

async fn metrics(State(monitor): State<Monitor>) -> Response {
    ([(header::CONTENT_TYPE, METRICS)], monitor.metrics()).into_response()
}

async fn ready(State(monitor): State<Monitor>) -> Response {
    answer(&monitor.roles.unmet())
}

async fn role_ready(State(monitor): State<Monitor>, Path(name): Path<String>) -> Response {
    let mut roles = monitor.roles.unmet();
    roles.retain(|role, _| *role == name);
    if roles.is_empty() {
        let text = format!("this process does not run a role {name:?}; /ready lists its roles\n");
        return (StatusCode::NOT_FOUND, text).into_response();
    }
    answer(&roles)
}

fn answer(roles: &BTreeMap<&'static str, Vec<String>>) -> Response {
    let is_ready = roles.values().all(Vec::is_empty);
    let status = if is_ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let rows = roles.iter().map(|(name, unmet)| {
        let row = json!({"ready": unmet.is_empty(), "reasons": unmet});
        ((*name).to_owned(), row)
    });
    let rows: serde_json::Map<String, serde_json::Value> = rows.collect();
    (status, Json(json!({"ready": is_ready, "roles": rows}))).into_response()
}

fn open_files() -> Option<f64> {
    let open = std::fs::read_dir("/proc/self/fd").ok()?.count();
    // The directory itself is open while it is read.
    Some(open.saturating_sub(1) as f64)
}

fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let row = status.lines().find_map(|row| row.strip_prefix("VmRSS:"))?;
    let kilobytes: f64 = row.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kit::readiness::Readiness;

    fn observed(metrics: Registry, readiness: &Readiness) -> Observed {
        Observed {
            metrics: Arc::new(metrics),
            readiness: readiness.clone(),
        }
    }

    #[test]
    fn a_role_is_ready_when_it_runs_and_its_needs_are_met() {
        let monitor = Monitor::new();
        let state = monitor.role("role");
        let readiness = Readiness::default();
        let lock = readiness.need("the lock");
        monitor.show("role", observed(Registry::default(), &readiness));
        let unmet = || monitor.roles.unmet()["role"].clone();
        assert_eq!(unmet(), ["it has not started yet"]);
        state.runs();
        assert_eq!(unmet(), ["the lock: not yet"]);
        lock.met();
        assert!(unmet().is_empty());
        state.failed(&anyhow::anyhow!("on purpose"));
        assert_eq!(unmet(), ["it failed and is built again: on purpose"]);
        state.ended();
        assert_eq!(unmet(), ["it has ended"]);
    }

    #[test]
    fn metrics_of_a_failed_role_are_gone() {
        let monitor = Monitor::new();
        let state = monitor.role("role");
        let mut registry = Registry::default();
        registry.counter("things_total", "Things").add(3);
        monitor.show("role", observed(registry, &Readiness::default()));
        state.runs();
        let page = monitor.metrics();
        assert!(page.contains("\nthings_total 3\n"), "{page}");
        assert!(page.contains("cupola_role_ready{role=\"role\"} 1.0\n"));
        assert!(page.contains("cupola_role_failures_total{role=\"role\"} 0\n"));
        state.failed(&anyhow::anyhow!("on purpose"));
        let page = monitor.metrics();
        assert!(!page.contains("things_total"), "{page}");
        assert!(page.contains("cupola_role_failures_total{role=\"role\"} 1\n"));
        for name in ["process_open_fds", "process_resident_memory_bytes"] {
            assert!(page.contains(&format!("\n{name} ")), "{name}\n{page}");
        }
    }

    #[tokio::test]
    async fn a_taken_address_is_refused_by_the_key_s_name() {
        let taken = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let error = bind(taken.local_addr().unwrap()).await.unwrap_err();
        assert!(error.to_string().contains("the key `metrics`"), "{error}");
    }
}
