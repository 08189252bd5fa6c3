//! The periodic comparison of this cell's containers with the BBS's rows. `cell_plan::operations` makes the decisions; this
//! module performs them.

use crate::cell::Cell;
use crate::cell::adopt::is_ours;
use crate::instance::container::{Container, Phase, StopReason, Work};
use anyhow::{Context as _, Result, anyhow};
use cell_plan::operations::{self as plan, LrpRow, Operation, TASK_CONTAINER_GONE, TaskRow};
use clients::bbs::BbsError;
use kit::CancellationToken;
use kit::backoff::Backoff;
use kit::listing::Listing;
use kit::readiness::Need;
use kit::reconcile::Changed;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use wire::bbs::{
    ActualLrp, ActualLrpInstanceKey, ActualLrpKey, ActualLrpsRequest, CompleteTaskRequest,
    EvacuateActualLrpRequest, Presence, RemoveActualLrpRequest, TaskState, TasksRequest, state,
};

/// Runs at once, then every interval and at every nudge, until shutdown. After a failure it runs earlier.
/// `compared` receives the result of every run.
pub(crate) async fn run(cell: Arc<Cell>, compared: Need, shutdown: CancellationToken) {
    let first = Duration::from_millis(500);
    let mut backoff = Backoff::new(first, cell.settings.timing.bulk.max(first));
    loop {
        let (begun, began) = (cell.last_bulk.begin(), Instant::now());
        let mut changed = Changed::new();
        let result = activate(&cell, &mut changed).await;
        cell.metrics.bulk_sync_duration.observe(began.elapsed());
        compared.attempted(&result);
        begun.end(changed, &result);
        let wait = match result {
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

/// Makes one pass, and counts the operations that it performed by their kind, and those that `failed`.
async fn activate(cell: &Cell, changed: &mut Changed) -> Result<()> {
    tidy_garden(cell, changed).await?;
    let rows = Listing::fetch(&cell.clock, || rows(cell)).await?;
    let containers: BTreeMap<String, Arc<Container>> = cell
        .containers()
        .into_iter()
        .map(|container| (container.guid.clone(), container))
        .collect();
    let planned: Vec<plan::Container> = containers.values().map(|c| planned(c, &rows)).collect();
    let (lrps, tasks) = rows.listed();
    for operation in plan::operations(&planned, lrps, tasks) {
        tracing::info!(?operation, "bulk-operation");
        let mut name = counted_as(&operation);
        if let Err(error) = perform(cell, &containers, operation).await {
            name = "failed";
            tracing::info!(
                error = format!("{:#}", anyhow::Error::from(error)),
                "bulk-operation-failed"
            );
        }
        *changed.entry(name).or_default() += 1;
    }
    Ok(())
}

/// Returns the name under which an operation is counted.
fn counted_as(operation: &Operation) -> &'static str {
    match operation {
        Operation::RemoveLrp(_) => "lrps-removed",
        Operation::RemoveEvacuatingLrp(_) => "evacuating-lrps-removed",
        Operation::ReportRunning { .. } => "lrps-reported",
        Operation::FailTask { .. } => "tasks-failed",
        Operation::DestroyTask { .. } => "tasks-destroyed",
    }
}

type Rows = (Vec<LrpRow>, Vec<TaskRow>);

/// Fetches the BBS's rows that name this cell.
async fn rows(cell: &Cell) -> Result<Rows> {
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
    let tasks = tasks.into_iter().map(|t| TaskRow {
        running: t.state == TaskState::Running as i32,
        guid: t.task_guid,
    });
    Ok((
        lrps.into_iter().filter_map(lrp_row).collect(),
        tasks.collect(),
    ))
}

/// Destroys containers of ours that no task of this rep owns, and notifies the owners of containers that have vanished.
async fn tidy_garden(cell: &Cell, changed: &mut Changed) -> Result<()> {
    let listed = Listing::fetch(&cell.clock, || cell.garden.containers()).await;
    cell.healthy.store(listed.is_ok(), Ordering::SeqCst);
    let failed = f64::from(listed.is_err());
    cell.metrics.garden_health_check_failed.set(failed);
    let existing = listed
        .map_err(|error| anyhow!("list containers: {error}"))?
        .map(|listed| {
            let ours = listed.into_iter().filter(is_ours);
            ours.map(|c| c.handle).collect::<BTreeSet<String>>()
        });
    for handle in existing.listed() {
        let Some(_vacant) = cell.vacant(handle) else {
            continue;
        };
        tracing::info!(container = handle, "container-without-owner-destroyed");
        if let Err(error) = cell.garden.destroy(handle).await {
            tracing::warn!(
                container = handle,
                error = format!("{error:#}"),
                "container-not-destroyed"
            );
            continue;
        }
        *changed.entry("containers-destroyed").or_default() += 1;
    }
    for owner in cell.containers() {
        let status = owner.status();
        let exists = matches!(status.phase, Phase::Created | Phase::Running)
            && status
                .since(Phase::Created)
                .is_some_and(|since| existing.covers(since));
        if exists && status.stopping.is_none() && !existing.listed().contains(&owner.guid) {
            owner.fail("missing garden container");
            *changed.entry("containers-missing").or_default() += 1;
        }
    }
    Ok(())
}

fn planned(container: &Container, rows: &Listing<Rows>) -> plan::Container {
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
        // The BBS knows a task as started before its container is made.
        Work::Task { .. } => plan::Work::Task {
            started: status.phase > Phase::Reserved,
        },
    };
    let judged_by = match &container.work {
        Work::Lrp { .. } => status.phase,
        Work::Task { .. } => Phase::Initializing,
    };
    plan::Container {
        guid: container.guid.clone(),
        work,
        settled: status
            .since(judged_by)
            .is_some_and(|since| rows.covers(since)),
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

async fn perform(
    cell: &Cell,
    containers: &BTreeMap<String, Arc<Container>>,
    operation: Operation,
) -> Result<(), BbsError> {
    let cell_id = &cell.settings.cell_id;
    let instance_key = |row: &LrpRow| ActualLrpInstanceKey {
        instance_guid: row.instance_guid.clone(),
        cell_id: cell_id.clone(),
    };
    match operation {
        Operation::RemoveLrp(row) => {
            let Some(_vacant) = cell.vacant(&row.instance_guid) else {
                return Ok(());
            };
            let request = RemoveActualLrpRequest {
                instance_key: Some(instance_key(&row)),
                process_guid: row.process_guid,
                index: row.index,
            };
            cell.bbs.remove(&request).await
        }
        Operation::RemoveEvacuatingLrp(row) => {
            let Some(_vacant) = cell.vacant(&row.instance_guid) else {
                return Ok(());
            };
            let request = EvacuateActualLrpRequest {
                instance_key: Some(instance_key(&row)),
                key: Some(ActualLrpKey {
                    process_guid: row.process_guid,
                    index: row.index,
                    domain: row.domain,
                }),
            };
            cell.bbs.remove_evacuating(&request).await
        }
        Operation::ReportRunning { guid } => {
            if let Some(container) = containers
                .get(&guid)
                .filter(|_| !cell.evacuating.load(Ordering::SeqCst))
            {
                container.report.notify_one();
            }
            Ok(())
        }
        Operation::FailTask { guid } => {
            // The BBS may have desired the same guid again, and the auction may have placed it on this cell again.
            let Some(_vacant) = cell.vacant(&guid) else {
                return Ok(());
            };
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
            if let Some(container) = containers.get(&guid) {
                container.request_stop(StopReason::Replaced);
            }
            Ok(())
        }
    }
}
