//! `/varz`, as gorouter has it behind its deprecated flag: a summary for tools older than Prometheus.

use super::metrics::{Metrics, Passed, Weights, resident_kilobytes};
use crate::worker::Shared;
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::time::{Duration, Instant, SystemTime};
use time::OffsetDateTime;

/// The number of apps that the page names.
const TOP: usize = 10;

/// The values that the page needs besides those of the router.
#[derive(Debug)]
pub(crate) struct Varz {
    started: Instant,
    started_at: SystemTime,
    login: [String; 2],
    uuid: String,
    host: String,
}

impl Varz {
    /// Creates the page's values. `host`: the address of the page.
    pub(crate) fn new(index: u32, user: &str, password: &str, host: String) -> Self {
        Self {
            started: Instant::now(),
            started_at: SystemTime::now(),
            login: [user.to_owned(), password.to_owned()],
            uuid: format!("{index}-{}", uuid::Uuid::new_v4()),
            host,
        }
    }

    pub(crate) fn page(&self, shared: &Shared, now: Instant) -> Value {
        let metrics = &shared.metrics;
        let mut page = traffic(metrics);
        let mut set = |key: &str, value: Value| {
            page.insert(key.to_owned(), value);
        };
        set("type", json!("Router"));
        set("index", json!(shared.lasting.index));
        set("host", json!(self.host));
        set("credentials", json!(self.login));
        set("uuid", json!(self.uuid));
        set("start", json!(date(self.started_at)));
        let cores = std::thread::available_parallelism();
        set("num_cores", json!(cores.map_or(1, usize::from)));
        set("mem", json!(resident_kilobytes()));
        set("cpu", json!(metrics.processor_share()));
        set("uptime", json!(uptime(now - self.started)));
        // The original has counted nothing here since its log has levels by name, so this is always empty.
        set("log_counts", json!({}));
        let components = metrics.traffic.all().into_iter();
        let components = components
            .filter(|(component, _)| !component.is_empty())
            .map(|(component, passed)| (component, Value::Object(of_component(&passed))));
        set("tags", json!({"component": Map::from_iter(components)}));
        set("urls", json!(shared.registry.routes()));
        set("droplets", json!(endpoints(shared)));
        set("bad_requests", json!(metrics.rejected_requests.value()));
        set("bad_gateways", json!(metrics.bad_gateways.value()));
        set("requests_per_sec", json!(metrics.traffic.per_second()[0]));
        let apps = metrics.top_apps(TOP).into_iter();
        let apps = apps.map(
            |(app, requests)| json!({"application_id": app, "rps": requests / 60, "rpm": requests}),
        );
        set("top10_app_requests", apps.collect());
        let since_update = shared.registry.since_update(now).as_millis();
        set("ms_since_last_registry_update", json!(since_update as u64));
        Value::Object(page)
    }
}

/// Returns the traffic of all components together.
fn traffic(metrics: &Metrics) -> Map<String, Value> {
    let traffic = &metrics.traffic;
    let mut weights = Weights::default();
    for (_, passed) in traffic.all() {
        passed.add_to(&mut weights);
    }
    let (requests, responses) = (traffic.requests(), traffic.responses());
    summary(requests, traffic.per_second(), &responses, &weights)
}

fn of_component(passed: &Passed) -> Map<String, Value> {
    let mut weights = Weights::default();
    passed.add_to(&mut weights);
    let (requests, responses) = (passed.requests.value(), passed.responses.values());
    summary(requests, passed.per_second(), &responses, &weights)
}

fn summary(
    requests: u64,
    rate: [f64; 3],
    responses: &[(&str, u64)],
    weights: &Weights,
) -> Map<String, Value> {
    let mut summary = Map::new();
    summary.insert("requests".into(), json!(requests));
    summary.insert("rate".into(), json!(rate));
    for (group, n) in responses {
        summary.insert(format!("responses_{group}"), json!(n));
    }
    // The quantiles are in seconds; `value` is the median in milliseconds.
    let quantiles = [50_u8, 75, 90, 95, 99].map(|percent| {
        let seconds = weights.quantile(f64::from(percent) / 100.0);
        (percent.to_string(), json!(seconds))
    });
    let mut latency = Map::from_iter(quantiles);
    latency.insert("value".into(), json!(weights.quantile(0.5) * 1e3));
    latency.insert("samples".into(), json!(weights.total().round() as u64));
    summary.insert("latency".into(), Value::Object(latency));
    summary
}

/// Returns the number of endpoints. Each counts once, however many routes it has.
fn endpoints(shared: &Shared) -> usize {
    let mut addresses = HashSet::new();
    for (_, pool) in shared.registry.snapshot().iter() {
        for endpoint in pool.endpoints().iter() {
            addresses.insert(endpoint.address().to_owned());
        }
    }
    addresses.len()
}

/// Formats a time as `2020-09-13 12:26:40 +0000`.
fn date(at: SystemTime) -> String {
    let at = OffsetDateTime::from(at);
    let (hour, minute, second) = at.to_hms();
    format!("{} {hour:02}:{minute:02}:{second:02} +0000", at.date())
}

/// Formats a duration as `0d:3h:22m:31s`.
fn uptime(up: Duration) -> String {
    let seconds = up.as_secs();
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    format!("{days}d:{hours}h:{}m:{}s", seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_gorouter_writes_them() {
        let up = Duration::from_secs(3 * 3600 + 22 * 60 + 31);
        assert_eq!(uptime(up), "0d:3h:22m:31s");
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
        assert_eq!(date(at), "2020-09-13 12:26:40 +0000");
    }
}
