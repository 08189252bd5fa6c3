//! Tasks. Revision r2 is served in the format of r3.

use super::{Api, Bbs, Trace, call, done};
use crate::failure::Failure;
use lrp::task::Outcome;
use std::sync::Arc;
use wire::bbs::{self as m, path};

pub(super) fn routes() -> Api {
    Api::new()
        .route(path::TASKS_LIST, call(list))
        .route(path::TASKS_LIST_R2, call(list))
        .route(path::TASK_BY_GUID, call(by_task_guid))
        .route(path::TASK_BY_GUID_R2, call(by_task_guid))
        .route(path::DESIRE_TASK, call(desire))
        .route(path::START_TASK, call(start))
        .route(path::CANCEL_TASK, call(cancel))
        .route(path::REJECT_TASK, call(reject))
        .route(path::COMPLETE_TASK, call(complete))
        .route(path::FAIL_TASK, call(fail))
        .route(path::UPDATE_TASK, call(update))
        .route(path::RESOLVE_TASK, call(resolve))
        .route(path::DELETE_TASK, call(delete))
}

async fn list(bbs: Bbs, _: Trace, request: m::TasksRequest) -> Result<m::TasksResponse, Failure> {
    let wanted = |task: &&Arc<m::Task>| {
        (request.domain.is_empty() || task.domain == request.domain)
            && (request.cell_id.is_empty() || task.cell_id == request.cell_id)
    };
    let tasks: Vec<Arc<m::Task>> = bbs
        .store
        .read(|state| {
            state
                .tasks
                .values()
                .map(|record| &record.wire)
                .filter(wanted)
                .cloned()
                .collect()
        })
        .await?;
    Ok(m::TasksResponse {
        error: None,
        tasks: tasks.iter().map(|task| m::Task::clone(task)).collect(),
    })
}

async fn by_task_guid(
    bbs: Bbs,
    _: Trace,
    request: m::TaskByGuidRequest,
) -> Result<m::TaskResponse, Failure> {
    let task = bbs
        .store
        .read(|state| {
            state
                .tasks
                .get(request.task_guid.as_str())
                .map(|record| record.wire.clone())
        })
        .await?;
    let task = task.ok_or_else(Failure::not_found)?;
    Ok(m::TaskResponse {
        error: None,
        task: Some(m::Task::clone(&task)),
    })
}

async fn desire(
    bbs: Bbs,
    trace: Trace,
    request: m::DesireTaskRequest,
) -> Result<m::LifecycleResponse, Failure> {
    let definition = request
        .task_definition
        .ok_or_else(|| Failure::invalid("Invalid field: task_definition"))?;
    done(
        bbs.store
            .write(&trace.0, |state, journal| {
                state.desire_task(journal, &request.task_guid, &request.domain, definition)
            })
            .await,
    )
}

async fn start(
    bbs: Bbs,
    trace: Trace,
    request: m::StartTaskRequest,
) -> Result<m::StartTaskResponse, Failure> {
    let should_start = bbs
        .store
        .write(&trace.0, |state, journal| {
            state.start_task(journal, &request.task_guid, &request.cell_id)
        })
        .await?;
    Ok(m::StartTaskResponse {
        error: None,
        should_start,
    })
}

async fn cancel(
    bbs: Bbs,
    trace: Trace,
    request: m::TaskGuidRequest,
) -> Result<m::LifecycleResponse, Failure> {
    done(
        bbs.store
            .write(&trace.0, |state, journal| {
                state.cancel_task(journal, &request.task_guid)
            })
            .await,
    )
}

async fn reject(
    bbs: Bbs,
    trace: Trace,
    request: m::RejectTaskRequest,
) -> Result<m::LifecycleResponse, Failure> {
    done(
        bbs.store
            .write(&trace.0, |state, journal| {
                state.reject_task(journal, &request.task_guid, &request.rejection_reason)
            })
            .await,
    )
}

async fn complete(
    bbs: Bbs,
    trace: Trace,
    request: m::CompleteTaskRequest,
) -> Result<m::LifecycleResponse, Failure> {
    let outcome = Outcome {
        failed: request.failed,
        failure_reason: request.failure_reason,
        result: request.result,
    };
    done(
        bbs.store
            .write(&trace.0, |state, journal| {
                state.complete_task(journal, &request.task_guid, &request.cell_id, outcome)
            })
            .await,
    )
}

async fn fail(
    bbs: Bbs,
    trace: Trace,
    request: m::FailTaskRequest,
) -> Result<m::LifecycleResponse, Failure> {
    done(
        bbs.store
            .write(&trace.0, |state, journal| {
                state.fail_task(journal, &request.task_guid, &request.failure_reason)
            })
            .await,
    )
}

async fn update(
    bbs: Bbs,
    trace: Trace,
    request: m::UpdateTaskRequest,
) -> Result<m::LifecycleResponse, Failure> {
    let egress = request
        .egress
        .ok_or_else(|| Failure::invalid("Invalid field: egress"))?;
    done(
        bbs.store
            .write(&trace.0, |state, journal| {
                state.update_task(journal, &request.task_guid, egress)
            })
            .await,
    )
}

async fn resolve(
    bbs: Bbs,
    trace: Trace,
    request: m::TaskGuidRequest,
) -> Result<m::LifecycleResponse, Failure> {
    done(
        bbs.store
            .write(&trace.0, |state, journal| {
                state.resolve_task(journal, &request.task_guid)
            })
            .await,
    )
}

async fn delete(
    bbs: Bbs,
    trace: Trace,
    request: m::TaskGuidRequest,
) -> Result<m::LifecycleResponse, Failure> {
    done(
        bbs.store
            .write(&trace.0, |state, journal| {
                state.delete_task(journal, &request.task_guid)
            })
            .await,
    )
}
