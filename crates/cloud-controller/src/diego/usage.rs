//! The memory, CPU and disk use of instances, which is read from log-cache and kept for a few seconds.

use super::instances::Used;
use crate::controller::Cc;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const KEEP: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_millis(500);

/// The use by instance guid, because an index may have had another instance before.
type ByInstance = HashMap<String, Used>;

#[derive(Debug, Default)]
pub(crate) struct Usage(Mutex<HashMap<String, (Instant, ByInstance)>>);

/// Returns the use of all instances of an app. It is empty when log-cache is not configured or does not answer in time.
pub(crate) async fn of_app(cc: &Cc, app_guid: &str, authorization: &str) -> ByInstance {
    let Some(url) = &cc.settings.log_cache_internal_url else {
        return ByInstance::new();
    };
    if let Some((at, used)) = cc
        .usage
        .0
        .lock()
        .expect("no panic while holding it")
        .get(app_guid)
        && at.elapsed() < KEEP
    {
        return used.clone();
    }
    let url =
        format!("{url}/api/v1/read/{app_guid}?envelope_types=GAUGE&descending=true&limit=1000");
    let request = cc
        .http
        .get(url)
        .header("authorization", authorization)
        .timeout(PATIENCE);
    let answer: Result<Value, reqwest::Error> =
        async { request.send().await?.error_for_status()?.json().await }.await;
    let used = match answer {
        Ok(answer) => read(&answer),
        Err(error) => {
            tracing::debug!(%error, "usage-unavailable");
            ByInstance::new()
        }
    };
    let mut kept = cc.usage.0.lock().expect("no panic while holding it");
    kept.retain(|_, (at, _)| at.elapsed() < KEEP);
    kept.insert(app_guid.to_owned(), (Instant::now(), used.clone()));
    used
}

/// Returns the newest value of each metric and instance. Envelopes are ordered from the newest to the oldest.
fn read(answer: &Value) -> ByInstance {
    let mut used: HashMap<String, HashMap<String, f64>> = HashMap::new();
    for envelope in answer
        .pointer("/envelopes/batch")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let Some(instance) = envelope
            .pointer("/tags/process_instance_id")
            .and_then(Value::as_str)
        else {
            continue;
        };
        let newest = used.entry(instance.to_owned()).or_default();
        for (name, metric) in envelope
            .pointer("/gauge/metrics")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            if let Some(value) = metric.get("value").and_then(Value::as_f64) {
                newest.entry(name.clone()).or_insert(value);
            }
        }
    }
    used.into_iter()
        .map(|(instance, metrics)| (instance, present(&metrics)))
        .collect()
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn present(metrics: &HashMap<String, f64>) -> Used {
    let value = |name: &str| {
        metrics
            .get(name)
            .copied()
            .filter(|value| value.is_finite() && *value >= 0.0)
            .unwrap_or_default()
    };
    Used {
        cpu: value("cpu") / 100.0,
        cpu_entitlement: value("cpu_entitlement") / 100.0,
        memory: value("memory") as u64,
        disk: value("disk") as u64,
        log_rate: value("log_rate") as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_newest_gauge_of_each_instance_wins() {
        let gauge = |instance: &str, memory: f64| json!({"instance_id": "0", "tags": {"process_id": "P", "process_instance_id": instance}, "gauge": {"metrics": {"memory": {"unit": "bytes", "value": memory}, "cpu": {"value": 50.0}}}});
        let batch = [gauge("new", 2.0), gauge("new", 1.0), gauge("old", 9.0)];
        let used = read(&json!({"envelopes": {"batch": batch}}));
        let of = |memory| Used {
            cpu: 0.5,
            memory,
            ..Used::default()
        };
        assert_eq!((used["new"], used["old"]), (of(2), of(9)));
    }
}
