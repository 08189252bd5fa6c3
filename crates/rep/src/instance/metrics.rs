//! Resource usage: gauge envelopes of every container, and the values of `GET /container_metrics`.

use crate::cell::Cell;
use crate::instance::container::{Container, Work};
use crate::instance::logs::Logs;
use crate::instance::spec::Definition;
use clients::loggregator::Stream;
use garden::api::Metrics;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use wire::loggregator::{Envelope, Gauge, GaugeValue, Message};
use wire::rep::{ContainerMetrics, ContainerMetricsCollection, LrpMetric, TaskMetric};

/// Emits the container's gauges every interval. It never returns.
pub(crate) async fn emit(cell: &Cell, container: &Container, logs: &Logs, definition: &Definition) {
    let period = cell.settings.timing.metrics;
    let (mut last, mut last_bytes): (Option<Metrics>, u64) = (None, 0);
    let (mut first, mut refused) = (true, false);
    loop {
        // The first envelope comes early, so that a new app has figures at once.
        tokio::time::sleep(if first {
            period.min(Duration::from_secs(2))
        } else {
            period
        })
        .await;
        first = false;
        let Ok(now) = cell.garden.metrics(&container.guid).await else {
            continue;
        };
        container.measured(now.memory, now.disk);
        if now.refused_packets > 0 && !std::mem::replace(&mut refused, true) {
            log_limit(container, logs);
        }
        let bytes = logs.bytes();
        let rate = bytes.saturating_sub(last_bytes) as f64 / period.as_secs_f64();
        for gauges in gauges(&now, last.as_ref(), definition, rate) {
            cell.loggregator.emit(envelope(logs, gauges));
        }
        (last, last_bytes) = (Some(now), bytes);
    }
}

/// Logs, once per instance, that it has reached its network limit. Refused packets may come by the thousand.
fn log_limit(container: &Container, logs: &Logs) {
    tracing::warn!(container = container.guid, "network-limit-reached");
    logs.cell(
        Stream::Err,
        "The instance reached its limit of connections or packets, and further ones are refused. Close connections that are not needed, reuse connections, or run more instances",
    );
}

type Gauges = Vec<(&'static str, &'static str, f64)>;

/// Returns the envelopes that Diego sends, by name, unit and value.
fn gauges(
    now: &Metrics,
    last: Option<&Metrics>,
    definition: &Definition,
    log_rate: f64,
) -> [Gauges; 3] {
    let used = now.cpu.saturating_sub(last.map_or(0, |l| l.cpu)) as f64;
    let passed = now.age.saturating_sub(last.map_or(0, |l| l.age)) as f64;
    let cpu = if passed > 0.0 {
        used / passed * 100.0
    } else {
        0.0
    };
    // The CPU time that the app is entitled to: its share of a core by weight.
    let entitlement = now.age as f64 * f64::from(definition.cpu_weight) / 100.0;
    let entitled = if entitlement > 0.0 {
        now.cpu as f64 / entitlement * 100.0
    } else {
        0.0
    };
    [
        vec![
            ("cpu", "percentage", cpu),
            ("memory", "bytes", now.memory as f64),
            ("disk", "bytes", now.disk as f64),
            ("memory_quota", "bytes", now.memory_limit as f64),
            ("disk_quota", "bytes", now.disk_limit as f64),
        ],
        vec![
            ("absolute_usage", "nanoseconds", now.cpu as f64),
            ("absolute_entitlement", "nanoseconds", entitlement),
            ("container_age", "nanoseconds", now.age as f64),
            ("cpu_entitlement", "percentage", entitled),
        ],
        vec![
            ("log_rate", "B/s", log_rate),
            ("log_rate_limit", "B/s", definition.log_limit as f64),
            ("rx_bytes", "bytes", now.rx_bytes as f64),
            ("tx_bytes", "bytes", now.tx_bytes as f64),
        ],
    ]
}

fn envelope(logs: &Logs, gauges: Gauges) -> Envelope {
    let metrics = gauges
        .into_iter()
        .map(|(name, unit, value)| {
            (
                name.to_owned(),
                GaugeValue {
                    unit: unit.to_owned(),
                    value,
                },
            )
        })
        .collect();
    Envelope {
        timestamp: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX)),
        source_id: logs.source_id().to_owned(),
        instance_id: logs.instance_id().to_owned(),
        tags: logs.tags().clone(),
        message: Some(Message::Gauge(Gauge { metrics })),
    }
}

/// Returns the current metrics of all containers.
pub(crate) async fn collection(cell: &Cell) -> ContainerMetricsCollection {
    let containers = cell.containers();
    let measured =
        futures::future::join_all(containers.iter().map(|c| cell.garden.metrics(&c.guid))).await;
    let mut collection = ContainerMetricsCollection {
        cell_id: cell.settings.cell_id.clone(),
        ..ContainerMetricsCollection::default()
    };
    for (container, metrics) in containers.iter().zip(measured) {
        let Ok(m) = metrics else { continue };
        let tags: BTreeMap<String, String> = container.status().metric_tags;
        let metrics = ContainerMetrics {
            metric_guid: tags.get("source_id").cloned().unwrap_or_default(),
            cpu_usage_fraction: if m.age > 0 {
                m.cpu as f64 / m.age as f64
            } else {
                0.0
            },
            disk_usage_bytes: m.disk,
            disk_quota_bytes: m.disk_limit,
            memory_usage_bytes: m.memory,
            memory_quota_bytes: m.memory_limit,
            rx_bytes: Some(m.rx_bytes),
            tx_bytes: Some(m.tx_bytes),
        };
        match &container.work {
            Work::Lrp {
                process_guid,
                index,
                ..
            } => {
                collection.lrps.push(LrpMetric {
                    instance_guid: container.guid.clone(),
                    process_guid: process_guid.clone(),
                    index: *index,
                    metrics,
                });
            }
            Work::Task { .. } => collection.tasks.push(TaskMetric {
                task_guid: container.guid.clone(),
                metrics,
            }),
        }
    }
    collection
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::bbs::DesiredLrp;

    #[test]
    fn cpu_is_a_percentage_of_one_core_since_the_last_time() {
        let definition = Definition::from(&DesiredLrp::default());
        let at = |cpu, age| Metrics {
            cpu,
            age,
            ..Metrics::default()
        };
        assert_eq!(
            gauges(&at(300, 1000), Some(&at(100, 600)), &definition, 0.0)[0][0].2,
            50.0
        );
        assert_eq!(gauges(&at(0, 0), None, &definition, 0.0)[0][0].2, 0.0);
    }
}
