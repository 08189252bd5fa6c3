//! Conversions between the wire's messages and the core's values. They give a field that is absent on the wire its meaning (an
//! absent `routable` means routable).

use lrp::{
    ActualLrp, ActualLrpKey, InstanceKey, MetricTag, ModificationTag, NetInfo, PortMapping,
    PreferredAddress, Presence, Running, State, Task, TaskState, UpdateStrategy,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use wire::bbs as m;

pub(crate) fn actual(row: &ActualLrp) -> m::ActualLrp {
    let details = row.running();
    m::ActualLrp {
        key: Some(key(&row.key)),
        instance_key: Some(row.instance().map(instance).unwrap_or_default()),
        net_info: Some(details.map(|d| net_info(&d.net_info)).unwrap_or_default()),
        crash_count: row.crash_count,
        crash_reason: row.crash_reason.clone(),
        state: row.state.name().to_owned(),
        placement_error: placement_error(row),
        since: row.since,
        modification_tag: Some(tag(&row.tag)),
        presence: presence(row.presence) as i32,
        internal_routes: details
            .map(|d| {
                d.internal_routes
                    .iter()
                    .map(|h| m::ActualLrpInternalRoute {
                        hostname: h.clone(),
                    })
                    .collect()
            })
            .unwrap_or_default(),
        metric_tags: details.map(|d| d.metric_tags.clone()).unwrap_or_default(),
        routable: Some(details.is_some_and(|d| d.routable)),
        availability_zone: details
            .map(|d| d.availability_zone.clone())
            .unwrap_or_default(),
    }
}

pub(crate) fn info(row: &ActualLrp) -> m::ActualLrpInfo {
    let row = actual(row);
    m::ActualLrpInfo {
        net_info: row.net_info,
        crash_count: row.crash_count,
        crash_reason: row.crash_reason,
        state: row.state,
        placement_error: row.placement_error,
        since: row.since,
        modification_tag: row.modification_tag,
        presence: row.presence,
        routable: row.routable,
        availability_zone: row.availability_zone,
    }
}

/// Converts a stored row. Returns `None` if this program cannot have written the row.
pub(crate) fn stored_actual(row: &m::ActualLrp) -> Option<ActualLrp> {
    let instance = || row.instance_key.as_ref().map(core_instance);
    let state = match row.state.as_str() {
        m::state::UNCLAIMED => State::Unclaimed {
            placement_error: row.placement_error.clone(),
        },
        m::state::CLAIMED => State::Claimed {
            instance: instance()?,
        },
        m::state::RUNNING => {
            let details = running(
                row.net_info.as_ref(),
                &row.internal_routes,
                &row.metric_tags,
                row.routable,
                &row.availability_zone,
            );
            State::Running {
                instance: instance()?,
                details: Arc::new(details),
            }
        }
        m::state::CRASHED => State::Crashed,
        _ => return None,
    };
    let tag = row.modification_tag.clone().unwrap_or_default();
    Some(ActualLrp {
        key: core_key(row.key.as_ref()?),
        presence: match m::Presence::try_from(row.presence).ok()? {
            m::Presence::Ordinary => Presence::Ordinary,
            m::Presence::Evacuating => Presence::Evacuating,
            m::Presence::Suspect => Presence::Suspect,
        },
        state,
        crash_count: row.crash_count,
        crash_reason: row.crash_reason.clone(),
        since: row.since,
        tag: ModificationTag {
            epoch: tag.epoch.into(),
            index: tag.index,
        },
    })
}

fn placement_error(row: &ActualLrp) -> String {
    match &row.state {
        State::Unclaimed { placement_error } => placement_error.clone(),
        _ => String::new(),
    }
}

pub(crate) fn presence(presence: Presence) -> m::Presence {
    match presence {
        Presence::Ordinary => m::Presence::Ordinary,
        Presence::Evacuating => m::Presence::Evacuating,
        Presence::Suspect => m::Presence::Suspect,
    }
}

pub(crate) fn key(key: &ActualLrpKey) -> m::ActualLrpKey {
    m::ActualLrpKey {
        process_guid: key.process_guid.to_string(),
        index: key.index,
        domain: key.domain.to_string(),
    }
}

pub(crate) fn core_key(key: &m::ActualLrpKey) -> ActualLrpKey {
    ActualLrpKey {
        process_guid: key.process_guid.as_str().into(),
        index: key.index,
        domain: key.domain.as_str().into(),
    }
}

pub(crate) fn instance(instance: &InstanceKey) -> m::ActualLrpInstanceKey {
    m::ActualLrpInstanceKey {
        instance_guid: instance.instance_guid.to_string(),
        cell_id: instance.cell_id.to_string(),
    }
}

pub(crate) fn core_instance(instance: &m::ActualLrpInstanceKey) -> InstanceKey {
    InstanceKey {
        instance_guid: instance.instance_guid.as_str().into(),
        cell_id: instance.cell_id.as_str().into(),
    }
}

fn tag(tag: &ModificationTag) -> m::ModificationTag {
    m::ModificationTag {
        epoch: tag.epoch.to_string(),
        index: tag.index,
    }
}

fn net_info(net: &NetInfo) -> m::ActualLrpNetInfo {
    let port = |p: &PortMapping| m::PortMapping {
        container_port: p.container_port,
        host_port: p.host_port,
        container_tls_proxy_port: p.container_tls_proxy_port,
        host_tls_proxy_port: p.host_tls_proxy_port,
    };
    m::ActualLrpNetInfo {
        address: net.address.clone(),
        ports: net.ports.iter().map(port).collect(),
        instance_address: net.instance_address.clone(),
        preferred_address: match net.preferred_address {
            PreferredAddress::Unknown => m::PreferredAddress::Unknown,
            PreferredAddress::Instance => m::PreferredAddress::Instance,
            PreferredAddress::Host => m::PreferredAddress::Host,
        } as i32,
        instance_ipv6_address: net.instance_ipv6_address.clone(),
    }
}

/// Converts a rep's report about a running instance.
pub(crate) fn running(
    net: Option<&m::ActualLrpNetInfo>,
    routes: &[m::ActualLrpInternalRoute],
    tags: &BTreeMap<String, String>,
    routable: Option<bool>,
    zone: &str,
) -> Running {
    let net = net.cloned().unwrap_or_default();
    let port = |p: m::PortMapping| PortMapping {
        container_port: p.container_port,
        host_port: p.host_port,
        container_tls_proxy_port: p.container_tls_proxy_port,
        host_tls_proxy_port: p.host_tls_proxy_port,
    };
    Running {
        net_info: NetInfo {
            address: net.address,
            ports: net.ports.into_iter().map(port).collect(),
            instance_address: net.instance_address,
            preferred_address: match m::PreferredAddress::try_from(net.preferred_address) {
                Ok(m::PreferredAddress::Instance) => PreferredAddress::Instance,
                Ok(m::PreferredAddress::Host) => PreferredAddress::Host,
                _ => PreferredAddress::Unknown,
            },
            instance_ipv6_address: net.instance_ipv6_address,
        },
        internal_routes: routes.iter().map(|r| r.hostname.clone()).collect(),
        metric_tags: tags.clone(),
        routable: routable.unwrap_or(true),
        availability_zone: zone.to_owned(),
    }
}

/// Returns the part of a desired LRP that decisions need.
pub(crate) fn desired(lrp: &m::DesiredLrp) -> lrp::DesiredLrp {
    let metric_tag = |tag: &m::MetricTagValue| match m::MetricTagDynamic::try_from(tag.dynamic) {
        Ok(m::MetricTagDynamic::Index) => MetricTag::Index,
        Ok(m::MetricTagDynamic::InstanceGuid) => MetricTag::InstanceGuid,
        _ => MetricTag::Static(tag.static_value.clone()),
    };
    lrp::DesiredLrp {
        process_guid: lrp.process_guid.as_str().into(),
        domain: lrp.domain.as_str().into(),
        instances: lrp.instances,
        update_strategy: match m::UpdateStrategy::try_from(lrp.update_strategy) {
            Ok(m::UpdateStrategy::Recreate) => UpdateStrategy::Recreate,
            _ => UpdateStrategy::Rolling,
        },
        internal_routes: internal_routes(lrp.routes.as_ref()),
        metric_tags: lrp
            .metric_tags
            .iter()
            .map(|(name, tag)| (name.clone(), metric_tag(tag)))
            .collect(),
    }
}

/// Returns the host names under `internal-router`. JSON that cannot be read counts as none, because the desired LRP was accepted
/// with it.
fn internal_routes(routes: Option<&m::ProtoRoutes>) -> Vec<String> {
    routes
        .and_then(|routes| routes.internal_hostnames().ok())
        .unwrap_or_default()
}

pub(crate) fn scheduling_info(lrp: &m::DesiredLrp) -> m::DesiredLrpSchedulingInfo {
    m::DesiredLrpSchedulingInfo {
        key: Some(m::DesiredLrpKey {
            process_guid: lrp.process_guid.clone(),
            domain: lrp.domain.clone(),
            log_guid: lrp.log_guid.clone(),
        }),
        annotation: lrp.annotation.clone(),
        instances: lrp.instances,
        resource: Some(m::DesiredLrpResource {
            memory_mb: lrp.memory_mb,
            disk_mb: lrp.disk_mb,
            root_fs: lrp.root_fs.clone(),
            max_pids: lrp.max_pids,
        }),
        routes: Some(lrp.routes.clone().unwrap_or_default()),
        modification_tag: Some(lrp.modification_tag.clone().unwrap_or_default()),
        volume_placement: Some(m::VolumePlacement {
            driver_names: volume_drivers(&lrp.volume_mounts),
        }),
        placement_tags: lrp.placement_tags.clone(),
    }
}

/// Returns a desired LRP that holds only the fields that a route emitter reads.
pub(crate) fn routing_info(lrp: &m::DesiredLrp) -> m::DesiredLrp {
    m::DesiredLrp {
        process_guid: lrp.process_guid.clone(),
        domain: lrp.domain.clone(),
        log_guid: lrp.log_guid.clone(),
        instances: lrp.instances,
        routes: lrp.routes.clone(),
        modification_tag: lrp.modification_tag.clone(),
        metric_tags: lrp.metric_tags.clone(),
        ..m::DesiredLrp::default()
    }
}

pub(crate) fn volume_drivers(mounts: &[m::VolumeMount]) -> Vec<String> {
    let drivers: std::collections::BTreeSet<&String> = mounts.iter().map(|v| &v.driver).collect();
    drivers.into_iter().cloned().collect()
}

pub(crate) fn task(task: &Task, definition: &m::TaskDefinition) -> m::Task {
    let outcome = task.state.outcome().cloned().unwrap_or_default();
    m::Task {
        task_definition: Some(definition.clone()),
        task_guid: task.guid.to_string(),
        domain: task.domain.to_string(),
        created_at: task.created_at,
        updated_at: task.updated_at,
        first_completed_at: task.first_completed_at,
        state: match task.state {
            TaskState::Pending => m::TaskState::Pending,
            TaskState::Running { .. } => m::TaskState::Running,
            TaskState::Completed { .. } => m::TaskState::Completed,
            TaskState::Resolving { .. } => m::TaskState::Resolving,
        } as i32,
        // A task that has ended has no cell, as in Diego's BBS.
        cell_id: match &task.state {
            TaskState::Running { cell_id } => cell_id.to_string(),
            _ => String::new(),
        },
        result: outcome.result,
        failed: outcome.failed,
        failure_reason: outcome.failure_reason,
        rejection_count: task.rejection_count,
        rejection_reason: task.rejection_reason.clone(),
    }
}

/// Converts a stored task. Returns `None` if this program cannot have written it.
pub(crate) fn stored_task(task: &m::Task) -> Option<Task> {
    let cell_id = (!task.cell_id.is_empty()).then(|| task.cell_id.as_str().into());
    let outcome = lrp::task::Outcome {
        failed: task.failed,
        failure_reason: task.failure_reason.clone(),
        result: task.result.clone(),
    };
    let state = match m::TaskState::try_from(task.state).ok()? {
        m::TaskState::Invalid => return None,
        m::TaskState::Pending => TaskState::Pending,
        m::TaskState::Running => TaskState::Running { cell_id: cell_id? },
        m::TaskState::Completed => TaskState::Completed { cell_id, outcome },
        m::TaskState::Resolving => TaskState::Resolving { cell_id, outcome },
    };
    Some(Task {
        guid: task.task_guid.as_str().into(),
        domain: task.domain.as_str().into(),
        created_at: task.created_at,
        updated_at: task.updated_at,
        first_completed_at: task.first_completed_at,
        state,
        rejection_count: task.rejection_count,
        rejection_reason: task.rejection_reason.clone(),
    })
}
