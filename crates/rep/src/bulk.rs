//! The periodic comparison of this cell's containers with the BBS's rows: a thin shell around `cell_plan::operations`.

use crate::adopt::is_ours;
use crate::cell::Cell;
use crate::container::{Container, Phase, StopReason, Work};
use anyhow::{Context as _, Result, anyhow};
use cell_plan::operations::{self as plan, LrpRow, Operation, TASK_CONTAINER_GONE, TaskRow};
use clients::bbs::BbsError;
use kit::CancellationToken;
use kit::backoff::Backoff;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use wire::bbs::{
    ActualLrp, ActualLrpInstanceKey, ActualLrpKey, ActualLrpsRequest, CompleteTaskRequest,
    EvacuateActualLrpRequest, Presence, RemoveActualLrpRequest, TaskState, TasksRequest, state,
};

/// Runs now, every interval and at every nudge, until shutdown; after a failure sooner.
pub(crate) async fn run(cell: Arc<Cell>, shutdown: CancellationToken) {
    let first = Duration::from_millis(500);
    let mut backoff = Backoff::new(first, cell.settings.timing.bulk.max(first));
    loop {
        let wait = match activate(&cell).await {
            Ok(()) => {
                backoff.reset();
                cell.settings.timing.bulk
            }
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "bulk-reconcile-failed");
                backoff.next_delay()
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
            () = cell.bulk.nudged() => {}
        }
    }
}

async fn activate(cell: &Cell) -> Result<()> {
    tidy_garden(cell).await?;
    let before: BTreeMap<String, Phase> = cell
        .containers()
        .iter()
        .map(|c| (c.guid.clone(), c.phase()))
        .collect();
    let cell_id = &cell.settings.cell_id;
    let lrps = cell
        .bbs
        .actual_lrps(&ActualLrpsRequest {
            cell_id: cell_id.clone(),
            ..ActualLrpsRequest::default()
        })
        .await
        .context("list actual LRPs")?;
    let tasks = cell
        .bbs
        .tasks(&TasksRequest {
            cell_id: cell_id.clone(),
            ..TasksRequest::default()
        })
        .await
        .context("list tasks")?;
    let containers: Vec<plan::Container> = cell
        .containers()
        .iter()
        .map(|c| planned(c, before.get(&c.guid).copied()))
        .collect();
    let lrps: Vec<LrpRow> = lrps.into_iter().filter_map(lrp_row).collect();
    let tasks: Vec<TaskRow> = tasks
        .into_iter()
        .map(|t| TaskRow {
            running: t.state == TaskState::Running as i32,
            guid: t.task_guid,
        })
        .collect();
    for operation in plan::operations(&containers, &lrps, &tasks) {
        tracing::info!(?operation, "bulk-operation");
        if let Err(error) = perform(cell, operation).await {
            tracing::info!(
                error = format!("{:#}", anyhow::Error::from(error)),
                "bulk-operation-failed"
            );
        }
    }
    Ok(())
}

/// Containers of ours that nobody owns go; owners whose container vanished hear of it.
async fn tidy_garden(cell: &Cell) -> Result<()> {
    let owners: Vec<Arc<Container>> = cell.containers();
    let listed = cell.garden.containers().await;
    cell.healthy.store(listed.is_ok(), Ordering::SeqCst);
    let existing: BTreeSet<String> = listed
        .map_err(|error| anyhow!("list containers: {error}"))?
        .into_iter()
        .filter(is_ours)
        .map(|c| c.handle)
        .collect();
    for handle in existing
        .iter()
        .filter(|handle| cell.container(handle).is_none())
    {
        // Reserved after the list was made it cannot be: then it is in the table.
        tracing::info!(container = handle, "container-without-owner-destroyed");
        if let Err(error) = cell.garden.destroy(handle).await {
            tracing::warn!(
                container = handle,
                error = format!("{error:#}"),
                "container-not-destroyed"
            );
        }
    }
    for owner in owners.iter().filter(|o| {
        matches!(o.phase(), Phase::Created | Phase::Running) && !existing.contains(&o.guid)
    }) {
        if cell.container(&owner.guid).is_some() && owner.status().stopping.is_none() {
            owner.fail("missing garden container");
        }
    }
    Ok(())
}

fn planned(container: &Container, before: Option<Phase>) -> plan::Container {
    let status = container.status();
    let work = match &container.work {
        Work::Lrp {
            process_guid,
            index,
            ..
        } => plan::Work::Lrp {
            process_guid: process_guid.clone(),
            index: *index,
            running: status.phase == Phase::Running,
            routable: status.reachable(),
            stopping: status.stopping.is_some() || container.failure.borrow().is_some(),
        },
        // Started at the BBS before its container is made.
        Work::Task { .. } => plan::Work::Task {
            started: status.phase > Phase::Reserved,
        },
    };
    let started = |phase: Phase| phase > Phase::Reserved;
    let settled = match &container.work {
        Work::Lrp { .. } => before == Some(status.phase),
        Work::Task { .. } => before.is_some_and(started) && started(status.phase),
    };
    plan::Container {
        guid: container.guid.clone(),
        work,
        settled,
    }
}

fn lrp_row(row: ActualLrp) -> Option<LrpRow> {
    let (key, instance) = (row.key?, row.instance_key?);
    (!instance.instance_guid.is_empty()).then(|| LrpRow {
        process_guid: key.process_guid,
        index: key.index,
        domain: key.domain,
        instance_guid: instance.instance_guid,
        presence: match Presence::try_from(row.presence) {
            Ok(Presence::Evacuating) => plan::Presence::Evacuating,
            Ok(Presence::Suspect) => plan::Presence::Suspect,
            _ => plan::Presence::Ordinary,
        },
        running: row.state == state::RUNNING,
        routable: row.routable.unwrap_or(true),
    })
}

async fn perform(cell: &Cell, operation: Operation) -> Result<(), BbsError> {
    let cell_id = &cell.settings.cell_id;
    match operation {
        Operation::RemoveLrp(row) => {
            let instance_key = ActualLrpInstanceKey {
                instance_guid: row.instance_guid,
                cell_id: cell_id.clone(),
            };
            cell.bbs
                .remove(&RemoveActualLrpRequest {
                    process_guid: row.process_guid,
                    index: row.index,
                    instance_key: Some(instance_key),
                })
                .await
        }
        Operation::RemoveEvacuatingLrp(row) => {
            let key = ActualLrpKey {
                process_guid: row.process_guid,
                index: row.index,
                domain: row.domain,
            };
            let instance_key = ActualLrpInstanceKey {
                instance_guid: row.instance_guid,
                cell_id: cell_id.clone(),
            };
            cell.bbs
                .remove_evacuating(&EvacuateActualLrpRequest {
                    key: Some(key),
                    instance_key: Some(instance_key),
                })
                .await
        }
        Operation::ReportRunning { guid } => {
            if let Some(container) = cell
                .container(&guid)
                .filter(|_| !cell.evacuating.load(Ordering::SeqCst))
            {
                container.report.notify_one();
            }
            Ok(())
        }
        Operation::FailTask { guid } => {
            let request = CompleteTaskRequest {
                task_guid: guid,
                cell_id: cell_id.clone(),
                failed: true,
                failure_reason: TASK_CONTAINER_GONE.to_owned(),
                result: String::new(),
            };
            cell.bbs.complete_task(&request).await
        }
        Operation::DestroyTask { guid } => {
            if let Some(container) = cell.container(&guid) {
                container.ask_to_stop(StopReason::Replaced);
            }
            Ok(())
        }
    }
}
