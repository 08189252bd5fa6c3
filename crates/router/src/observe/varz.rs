//! `/varz`, as gorouter has it behind its deprecated flag: a summary for tools older than Prometheus.

use crate::router::Shared;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use time::OffsetDateTime;

/// What the page needs beside the router itself.
#[derive(Debug)]
pub(crate) struct Varz {
    started: Instant,
    started_at: SystemTime,
    login: [String; 2],
    uuid: String,
    host: String,
    /// When the page was read last, and how many requests there were.
    last: Mutex<(Instant, u64)>,
    requests_per_sec: AtomicU64,
}

impl Varz {
    pub(crate) fn new(user: &str, password: &str, host: String) -> Self {
        let started = Instant::now();
        Self {
            started,
            started_at: SystemTime::now(),
            login: [user.to_owned(), password.to_owned()],
            uuid: uuid::Uuid::new_v4().to_string(),
            host,
            last: Mutex::new((started, 0)),
            requests_per_sec: AtomicU64::new(0),
        }
    }

    pub(crate) fn page(&self, shared: &Shared, now: Instant) -> Value {
        let metrics = &shared.metrics;
        let by_component = metrics.total_requests.values();
        let requests: u64 = by_component.iter().map(|(_, n)| n).sum();
        let mut page = Map::new();
        let mut set = |key: &str, value: Value| {
            page.insert(key.to_owned(), value);
        };
        set("type", json!("Router"));
        set("index", json!(shared.settings.index));
        set("host", json!(self.host));
        set("credentials", json!(self.login));
        set("uuid", json!(self.uuid));
        set(
            "start",
            json!(OffsetDateTime::from(self.started_at).to_string()),
        );
        set(
            "num_cores",
            json!(std::thread::available_parallelism().map_or(1, usize::from)),
        );
        set("mem", json!(resident_kilobytes()));
        set("cpu", json!(cpu_percent(now - self.started)));
        set("uptime", json!(uptime(now - self.started)));
        set("requests", json!(requests));
        for (group, n) in metrics.responses() {
            set(&format!("responses_{group}"), json!(n));
        }
        let (bounds, samples) = metrics.latency.quantiles(&[0.5, 0.75, 0.9, 0.95, 0.99]);
        let seconds = |at: usize| bounds[at] / 1000.0;
        set(
            "latency",
            json!({"50": seconds(0), "75": seconds(1), "90": seconds(2), "95": seconds(3), "99": seconds(4), "samples": samples}),
        );
        let components = by_component
            .into_iter()
            .map(|(component, n)| (component, json!({"requests": n})));
        set("tags", json!({"component": Map::from_iter(components)}));
        set("urls", json!(shared.registry.routes()));
        set("droplets", json!(apps(shared)));
        set("bad_requests", json!(metrics.rejected_requests.value()));
        set("bad_gateways", json!(metrics.bad_gateways.value()));
        set("requests_per_sec", json!(self.rate(requests, now)));
        let since_update = shared.registry.since_update(now).as_millis();
        set("ms_since_last_registry_update", json!(since_update as u64));
        Value::Object(page)
    }

    /// Since the page was read last, if that is a second ago.
    fn rate(&self, requests: u64, now: Instant) -> f64 {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_duration_since(last.0).as_secs_f64();
        if passed >= 1.0 {
            let rate = requests.saturating_sub(last.1) as f64 / passed;
            self.requests_per_sec
                .store(rate.to_bits(), Ordering::Relaxed);
            *last = (now, requests);
        }
        f64::from_bits(self.requests_per_sec.load(Ordering::Relaxed))
    }
}

fn apps(shared: &Shared) -> usize {
    let mut apps = BTreeSet::new();
    for (_, pool) in shared.registry.snapshot().iter() {
        for endpoint in pool.endpoints().iter() {
            apps.insert(endpoint.app_id().to_owned());
        }
    }
    apps.len()
}

/// `0d:3h:22m:31s`
fn uptime(up: Duration) -> String {
    let seconds = up.as_secs();
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    format!("{days}d:{hours}h:{}m:{}s", seconds / 60 % 60, seconds % 60)
}

fn resident_kilobytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|n| n.parse().ok()).unwrap_or_default()
}

/// Of one core, over the whole life.
fn cpu_percent(up: Duration) -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // User and system time are the 12th and 13th after the name; the kernel counts them in hundredths.
    let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
    let ticks = after.split(' ').skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|n| n.parse::<u64>().ok()).sum();
    ticks as f64 / up.as_secs_f64().max(0.01)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_uptime_as_gorouter_writes_it() {
        let up = Duration::from_secs(3 * 3600 + 22 * 60 + 31);
        assert_eq!(uptime(up), "0d:3h:22m:31s");
        assert!(resident_kilobytes() > 0);
    }
}
