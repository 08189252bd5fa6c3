//! Jobs. Every long verb ends within its request, so a job is finished when the client receives its URL.

use crate::db::job::{Job, JobState};
use crate::db::{Connection, Json, insert};
use crate::error::{ApiError, ApiResult};

/// Creates a job that succeeded, and returns its guid.
pub(crate) async fn complete(
    conn: &mut Connection,
    operation: &str,
    resource: (&str, &str),
) -> ApiResult<String> {
    write(conn, operation, JobState::Complete, Vec::new(), resource).await
}

/// Creates a job that failed with these errors, and returns its guid.
pub(crate) async fn failed(
    conn: &mut Connection,
    operation: &str,
    error: ApiError,
    resource: (&str, &str),
) -> ApiResult<String> {
    write(conn, operation, JobState::Failed, error.errors, resource).await
}

async fn write(
    conn: &mut Connection,
    operation: &str,
    state: JobState,
    errors: Vec<wire::cc::Error>,
    (resource_type, resource_guid): (&str, &str),
) -> ApiResult<String> {
    let job = Job {
        operation: operation.to_owned(),
        state,
        errors: Json(errors),
        resource_type: resource_type.to_owned(),
        resource_guid: resource_guid.to_owned(),
        ..Job::fresh()
    };
    insert(conn, &job).await?;
    Ok(job.guid)
}
