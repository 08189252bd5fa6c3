//! The rep's HTTP API. The auctioneer reads the cell's state and places work; the BBS stops, updates and cancels work.
//!
//! Handlers only read the table and send requests to the containers' own tasks. No handler waits for a container.

use crate::cell::Cell;
use crate::cell::evacuation;
use crate::cell::inspection;
use crate::cell::presence::PRELOADED;
use crate::instance::container::{StopReason, Work};
use crate::instance::lrp;
use crate::instance::metrics;
use crate::instance::task;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use clients::request_id;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use wire::rep::{self, CellState, LrpUpdate, RootFsProvider, TaskState, path};

pub(crate) fn router(cell: Arc<Cell>) -> Router {
    Router::new()
        .route(path::STATE, get(state))
        .route(path::WORK, post(work))
        .route(path::UPDATE_LRP, put(update_lrp))
        .route(path::STOP_LRP, post(stop_lrp))
        .route(path::CANCEL_TASK, post(cancel_task))
        .route(path::CONTAINER_METRICS, get(container_metrics))
        .route(path::INSPECTION, get(inspect))
        .route("/ping", get(ping))
        .route(path::EVACUATE, post(evacuate))
        .with_state(cell)
}

async fn state(State(cell): State<Arc<Cell>>) -> Response {
    let status = if cell.healthy.load(Ordering::SeqCst) {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(cell_state(&cell))).into_response()
}

pub(crate) fn cell_state(cell: &Cell) -> CellState {
    let (total, available) = cell.resources();
    let resources = |r: cell_plan::ledger::Resources| {
        let amount = |n: u64| i32::try_from(n).unwrap_or(i32::MAX);
        rep::Resources {
            memory_mb: amount(r.memory_mb),
            disk_mb: amount(r.disk_mb),
            containers: amount(r.containers),
        }
    };
    let mut state = CellState {
        rep_url: cell.settings.rep_url.clone(),
        cell_id: cell.settings.cell_id.clone(),
        root_fs_providers: [(
            PRELOADED.to_owned(),
            RootFsProvider::fixed_set(cell.settings.stacks.clone()),
        )]
        .into(),
        available_resources: resources(available),
        total_resources: resources(total),
        zone: cell.settings.zone.clone(),
        // The cell also reports this while it stops everything, because nothing can be placed here then.
        evacuating: cell.is_closed(),
        placement_tags: cell.settings.placement_tags.clone(),
        optional_placement_tags: cell.settings.optional_placement_tags.clone(),
        proxy_memory_allocation_mb: if cell.settings.proxy {
            crate::cell::SIDECAR_MEMORY_MB as i32
        } else {
            0
        },
        ..CellState::default()
    };
    for container in cell.containers() {
        let phase = container.phase();
        state.starting_container_count +=
            i32::from(phase < crate::instance::container::Phase::Running);
        match &container.work {
            Work::Lrp {
                process_guid,
                index,
                domain,
            } => state.lrps.push(rep::Lrp {
                instance_guid: container.guid.clone(),
                process_guid: process_guid.clone(),
                index: *index,
                domain: domain.clone(),
                constraint: container.constraint.clone(),
                resource: container.resource,
                state: phase.name().to_owned(),
            }),
            Work::Task { domain } => state.tasks.push(rep::Task {
                task_guid: container.guid.clone(),
                domain: domain.clone(),
                constraint: container.constraint.clone(),
                resource: container.resource,
                state: TaskState::Running,
                failed: false,
            }),
        }
    }
    state
}

/// Decodes JSON regardless of the Content-Type, because Diego's auctioneer sends work without one.
fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, (StatusCode, String)> {
    serde_json::from_slice(body).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))
}

/// Accepts work. The response lists the work that was refused.
async fn work(State(cell): State<Arc<Cell>>, headers: HeaderMap, body: Bytes) -> Response {
    let work: rep::Work = match decode(&body) {
        Ok(work) => work,
        Err(refusal) => return refusal.into_response(),
    };
    if !work.cell_id.is_empty() && work.cell_id != cell.settings.cell_id {
        tracing::warn!(wanted = work.cell_id, "work-for-another-cell");
        return (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!(
                "this is cell {}, not {}",
                cell.settings.cell_id, work.cell_id
            ),
        )
            .into_response();
    }
    if cell.is_closed() {
        return Json(rep::Work {
            cell_id: String::new(),
            ..work
        })
        .into_response();
    }
    Json(perform(&cell, work, &request_id::of(&headers))).into_response()
}

/// Reserves resources for the work that fits and begins it, large LRPs first. Returns the work that was refused. What is reported
/// to the BBS carries the id of the requests that caused the work, until the work runs.
fn perform(cell: &Arc<Cell>, mut work: rep::Work, vcap_request_id: &str) -> rep::Work {
    let mut refused = rep::Work::default();
    work.lrps
        .sort_by_key(|lrp| std::cmp::Reverse(lrp.resource.memory_mb));
    for lrp in work.lrps {
        let guid = instance_guid();
        let what = Work::Lrp {
            process_guid: lrp.process_guid.clone(),
            index: lrp.index,
            domain: lrp.domain.clone(),
        };
        match cell.reserve(&guid, what, lrp.constraint.clone(), lrp.resource) {
            Ok(container) => {
                let (process_guid, index) = (lrp.process_guid, lrp.index);
                tracing::info!(
                    process_guid,
                    index,
                    instance_guid = guid,
                    vcap_request_id,
                    "lrp-accepted"
                );
                let life = lrp::start(cell.clone(), container.clone());
                cell.own(
                    container,
                    request_id::scope(vcap_request_id.to_owned(), life),
                );
            }
            Err(error) => {
                tracing::info!(process_guid = lrp.process_guid, index = lrp.index, %error, "lrp-refused");
                refused.lrps.push(lrp);
            }
        }
    }
    for task in work.tasks {
        match cell.reserve(
            &task.task_guid,
            Work::Task {
                domain: task.domain.clone(),
            },
            task.constraint.clone(),
            task.resource,
        ) {
            Ok(container) => {
                tracing::info!(task_guid = task.task_guid, vcap_request_id, "task-accepted");
                let life = task::start(cell.clone(), container.clone());
                cell.own(
                    container,
                    request_id::scope(vcap_request_id.to_owned(), life),
                );
            }
            Err(error) => {
                tracing::info!(task_guid = task.task_guid, %error, "task-refused");
                refused.tasks.push(task);
            }
        }
    }
    refused
}

/// Returns a new instance guid. It is as long as Diego's, so that chain names and host names made from it are never cut.
fn instance_guid() -> String {
    let mut guid = uuid::Uuid::new_v4().to_string();
    guid.truncate(28);
    guid
}

async fn update_lrp(
    State(cell): State<Arc<Cell>>,
    Path((_, instance_guid)): Path<(String, String)>,
    body: Bytes,
) -> Response {
    let update: LrpUpdate = match decode(&body) {
        Ok(update) => update,
        Err(refusal) => return refusal.into_response(),
    };
    match cell.container(&instance_guid) {
        Some(container) => {
            container.change_routing(
                update
                    .internal_routes
                    .into_iter()
                    .map(|r| r.hostname)
                    .collect(),
                update.metric_tags,
            );
            // The task reads all other changes from the BBS.
            container.refresh.notify_one();
        }
        None => tracing::info!(instance_guid, "update-of-unknown-instance"),
    }
    StatusCode::ACCEPTED.into_response()
}

async fn stop_lrp(
    State(cell): State<Arc<Cell>>,
    Path((_, instance_guid)): Path<(String, String)>,
    headers: HeaderMap,
) -> StatusCode {
    let vcap_request_id = request_id::of(&headers);
    tracing::info!(instance_guid, vcap_request_id, "lrp-stop-requested");
    match cell.container(&instance_guid) {
        Some(container) => container.request_stop(StopReason::Requested),
        // If the BBS has a row for it, that row must be removed.
        None => cell.bulk.nudge(),
    }
    StatusCode::ACCEPTED
}

async fn cancel_task(State(cell): State<Arc<Cell>>, Path(task_guid): Path<String>) -> StatusCode {
    match cell.container(&task_guid) {
        Some(container) => container.request_stop(StopReason::Requested),
        None => cell.bulk.nudge(),
    }
    StatusCode::ACCEPTED
}

async fn container_metrics(State(cell): State<Arc<Cell>>) -> Json<rep::ContainerMetricsCollection> {
    Json(metrics::collection(&cell).await)
}

async fn inspect(
    State(cell): State<Arc<Cell>>,
    Path(instance_guid): Path<String>,
) -> Json<rep::Inspection> {
    Json(inspection::inspect(&cell, &instance_guid).await)
}

async fn ping() -> StatusCode {
    StatusCode::OK
}

async fn evacuate(State(cell): State<Arc<Cell>>) -> (StatusCode, Json<serde_json::Value>) {
    evacuation::begin(&cell);
    (
        StatusCode::ACCEPTED,
        Json(serde_json::json!({ "ping_path": "/ping" })),
    )
}
