//! The running instances of a process as the API shows them: one entry per wanted index, from the BBS's actual LRPs.

use crate::clock;
use crate::controller::Cc;
use crate::db::process::Process;
use crate::error::{ApiError, ApiResult};
use serde_json::{Value, json};
use std::collections::HashMap;
use wire::bbs::{ActualLrp, state};

/// Fetches the actual LRPs of processes, by LRP guid.
pub(crate) async fn of_processes(
    cc: &Cc,
    processes: &[Process],
) -> ApiResult<HashMap<String, Vec<ActualLrp>>> {
    if processes.is_empty() {
        return Ok(HashMap::new());
    }
    let guids = processes.iter().map(Process::lrp_guid).collect();
    let lrps = cc
        .bbs
        .actual_lrps_by_process_guids(guids)
        .await
        .map_err(|error| {
            tracing::warn!(
                error = format!("{:#}", anyhow::Error::from(error)),
                "instances-unavailable"
            );
            ApiError::new(
                503,
                220_002,
                "InstancesUnavailable",
                "Instances information unavailable: the BBS cannot be reached",
            )
        })?;
    let mut by_guid: HashMap<String, Vec<ActualLrp>> = HashMap::new();
    for lrp in lrps {
        by_guid.entry(key(&lrp).process_guid).or_default().push(lrp);
    }
    Ok(by_guid)
}

fn key(lrp: &ActualLrp) -> wire::bbs::ActualLrpKey {
    lrp.key.clone().unwrap_or_default()
}

/// Returns the newest LRP for each wanted index. `None`: the index has no LRP.
pub(crate) fn by_index(process: &Process, lrps: &[ActualLrp]) -> Vec<(i64, Option<ActualLrp>)> {
    (0..process.instances)
        .map(|index| {
            let newest = lrps
                .iter()
                .filter(|lrp| i64::from(key(lrp).index) == index)
                .max_by_key(|lrp| lrp.since);
            (index, newest.cloned())
        })
        .collect()
}

pub(crate) fn state_of(lrp: Option<&ActualLrp>) -> &'static str {
    match lrp.map(|lrp| (lrp.state.as_str(), lrp.placement_error.is_empty())) {
        Some((state::RUNNING, _)) => "RUNNING",
        Some((state::CLAIMED, _) | (state::UNCLAIMED, true)) => "STARTING",
        Some((state::CRASHED, _)) => "CRASHED",
        _ => "DOWN",
    }
}

pub(crate) fn is_routable(lrp: &ActualLrp) -> bool {
    lrp.state == state::RUNNING && lrp.routable.unwrap_or(true)
}

/// Returns the seconds for which the LRP has been in its state.
pub(crate) fn age(lrp: &ActualLrp) -> i64 {
    (clock::now() * 1000 - lrp.since).max(0) / 1_000_000_000
}

/// The resource use of an instance, from log-cache.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Used {
    pub cpu: f64,
    pub cpu_entitlement: f64,
    pub memory: u64,
    pub disk: u64,
    pub log_rate: u64,
}

/// Returns one element of `stats`.
pub(crate) fn stats(process: &Process, index: i64, lrp: Option<&ActualLrp>, used: Used) -> Value {
    let state = state_of(lrp);
    let details = lrp
        .map(|lrp| {
            if state == "CRASHED" {
                &lrp.crash_reason
            } else {
                &lrp.placement_error
            }
        })
        .filter(|text| !text.is_empty());
    let Some(lrp) = lrp.filter(|_| state != "DOWN") else {
        let uptime = lrp.map_or(0, age);
        return json!({ "type": process.r#type, "index": index, "state": "DOWN", "routable": false, "uptime": uptime, "details": details });
    };
    let net = lrp.net_info.clone().unwrap_or_default();
    let ports: Vec<Value> = net.ports.iter().map(present_port).collect();
    json!({
        "type": process.r#type,
        "index": index,
        "instance_guid": lrp.instance_key.clone().unwrap_or_default().instance_guid,
        "state": state,
        "routable": is_routable(lrp),
        "host": net.address,
        "instance_internal_ip": net.instance_address,
        "uptime": age(lrp),
        "mem_quota": process.memory_in_mb * 1024 * 1024,
        "disk_quota": process.disk_in_mb * 1024 * 1024,
        "log_rate_limit": process.log_rate_limit,
        "fds_quota": cc_rules::recipe::environment::FILE_DESCRIPTORS,
        "isolation_segment": null,
        "details": details,
        "instance_ports": ports,
        "usage": {
            "time": clock::rfc3339(clock::now()),
            "cpu": used.cpu,
            "cpu_entitlement": used.cpu_entitlement,
            "mem": used.memory,
            "disk": used.disk,
            "log_rate": used.log_rate,
        },
    })
}

fn present_port(port: &wire::bbs::PortMapping) -> Value {
    let set = |port: u32| (port > 0).then_some(port);
    json!({
        "external": set(port.host_port),
        "internal": port.container_port,
        "external_tls_proxy_port": set(port.host_tls_proxy_port),
        "internal_tls_proxy_port": set(port.container_tls_proxy_port),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::bbs::ActualLrpKey;

    fn lrp(index: i32, state: &str, since: i64) -> ActualLrp {
        ActualLrp {
            key: Some(ActualLrpKey {
                process_guid: "p-v".into(),
                index,
                domain: "cf-apps".into(),
            }),
            state: state.into(),
            since,
            ..ActualLrp::default()
        }
    }

    #[test]
    fn the_newest_of_an_index_counts_and_missing_ones_are_down() {
        let process = Process {
            instances: 3,
            r#type: "web".into(),
            ..Process::default()
        };
        let lrps = [
            lrp(0, "CRASHED", 1),
            lrp(0, "RUNNING", 2),
            lrp(1, "CLAIMED", 1),
            lrp(7, "RUNNING", 1),
        ];
        let states: Vec<_> = by_index(&process, &lrps)
            .iter()
            .map(|(_, lrp)| state_of(lrp.as_ref()))
            .collect();
        assert_eq!(states, ["RUNNING", "STARTING", "DOWN"]);
    }

    #[test]
    fn reasons_are_shown() {
        let process = Process {
            r#type: "web".into(),
            ..Process::default()
        };
        let waiting = ActualLrp {
            placement_error: "insufficient resources: memory".into(),
            ..lrp(0, "UNCLAIMED", 1)
        };
        let shown = stats(&process, 0, Some(&waiting), Used::default());
        assert_eq!(
            (shown["state"].as_str(), shown["details"].as_str()),
            (Some("DOWN"), Some("insufficient resources: memory"))
        );
        let crashed = ActualLrp {
            crash_reason: "APP/PROC/WEB: Exited with status 1".into(),
            ..lrp(0, "CRASHED", 1)
        };
        assert_eq!(
            stats(&process, 0, Some(&crashed), Used::default())["details"],
            "APP/PROC/WEB: Exited with status 1"
        );
    }
}
