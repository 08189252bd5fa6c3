//! Periodic checks: of the machine's firewall rules, and for changes of the desired LRPs and tasks that run here.

use crate::cell::Cell;
use crate::instance::container::Work;
use kit::CancellationToken;
use std::collections::BTreeMap;
use std::sync::Arc;
use wire::bbs::{DesiredLrpsRequest, ModificationTag, SecurityGroupRule, TasksRequest};

/// Restores firewall rules that somebody removed or changed. It runs every interval, and at once when an instance has failed.
pub(crate) async fn repair(cell: Arc<Cell>, shutdown: CancellationToken) {
    loop {
        if let Err(error) = cell.garden.repair().await {
            tracing::error!(error = format!("{error:#}"), "firewall-not-compared");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(cell.settings.timing.repair) => {}
            () = cell.repair.nudged() => {}
        }
    }
}

/// Wakes the instances that know an older version of their desired LRP, and offers every task its current egress rules. The BBS
/// notifies the rep at every change of a desired LRP; this loop finds the changes whose notice was lost. There is no such notice
/// for tasks.
pub(crate) async fn refresh(cell: Arc<Cell>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(cell.settings.timing.refresh) => {}
        }
        if let Err(error) = wake_changed(&cell).await {
            tracing::warn!(error = format!("{error:#}"), "desired-lrps-not-listed");
        }
        if let Err(error) = offer_egress(&cell).await {
            tracing::warn!(error = format!("{error:#}"), "tasks-not-listed");
        }
    }
}

async fn wake_changed(cell: &Cell) -> anyhow::Result<()> {
    let containers = cell.containers();
    let mut process_guids: Vec<String> = containers
        .iter()
        .filter_map(|container| match &container.work {
            Work::Lrp { process_guid, .. } => Some(process_guid.clone()),
            Work::Task { .. } => None,
        })
        .collect();
    process_guids.sort();
    process_guids.dedup();
    if process_guids.is_empty() {
        return Ok(());
    }
    let request = DesiredLrpsRequest {
        process_guids,
        ..DesiredLrpsRequest::default()
    };
    let infos = cell.bbs.scheduling_infos(&request).await?;
    let tags: BTreeMap<String, ModificationTag> = infos
        .into_iter()
        .filter_map(|info| Some((info.key?.process_guid, info.modification_tag?)))
        .collect();
    for container in containers {
        let Work::Lrp { process_guid, .. } = &container.work else {
            continue;
        };
        // An instance that knows no version yet is about to read the newest one.
        if let (Some(newest), Some(known)) = (tags.get(process_guid), container.version())
            && *newest != known
        {
            container.refresh.notify_one();
        }
    }
    Ok(())
}

async fn offer_egress(cell: &Cell) -> anyhow::Result<()> {
    let mut containers = cell.containers();
    containers.retain(|container| matches!(container.work, Work::Task { .. }));
    if containers.is_empty() {
        return Ok(());
    }
    let request = TasksRequest {
        cell_id: cell.settings.cell_id.clone(),
        ..TasksRequest::default()
    };
    let tasks = cell.bbs.tasks(&request).await?;
    let mut rules: BTreeMap<String, Vec<SecurityGroupRule>> = tasks
        .into_iter()
        .filter_map(|task| Some((task.task_guid, task.task_definition?.egress_rules)))
        .collect();
    for container in containers {
        if let Some(rules) = rules.remove(&container.guid) {
            container.offer_egress(rules);
        }
    }
    Ok(())
}
