//! Jobs. A verb that is short enough ends within its request, and its job is finished when the client receives the URL. A long
//! verb is enqueued, and [`crate::jobs`] does it in parts.

use super::audit;
use crate::auth::Principal;
use crate::change::Change;
use crate::db::job::{Job, JobState};
use crate::db::{Connection, insert};
use crate::error::ApiResult;
use crate::sealing::Sealed;

/// The operations that are done in parts.
pub(crate) const DELETE_DOMAIN: &str = "domain.delete";
pub(crate) const DELETE_SPACE: &str = "space.delete";
pub(crate) const DELETE_UNMAPPED_ROUTES: &str = "space.delete_unmapped_routes";
pub(crate) const DELETE_ORGANIZATION: &str = "organization.delete";
pub(crate) const APPLY_MANIFEST: &str = "space.apply_manifest";

/// Creates a job that begins after the commit, in the name of the caller. Returns its guid.
pub(crate) async fn enqueue(
    tx: &mut Change,
    who: &Principal,
    operation: &str,
    resource: (&str, &str),
) -> ApiResult<String> {
    enqueue_with(tx, who, operation, resource, None).await
}

/// Creates a job like [`enqueue`], with an input that is sealed for the resource.
pub(crate) async fn enqueue_with(
    tx: &mut Change,
    who: &Principal,
    operation: &str,
    (resource_type, resource_guid): (&str, &str),
    input: Option<Sealed>,
) -> ApiResult<String> {
    let (actor_guid, actor_type, actor_name) = audit::actor(who);
    let job = Job {
        operation: operation.to_owned(),
        state: JobState::Processing,
        resource_type: resource_type.to_owned(),
        resource_guid: resource_guid.to_owned(),
        actor_guid: actor_guid.to_owned(),
        actor_type: actor_type.to_owned(),
        actor_name: actor_name.to_owned(),
        input,
        ..Job::fresh()
    };
    insert(tx, &job).await?;
    tx.start_jobs();
    Ok(job.guid)
}

/// Creates a job that succeeded, and returns its guid.
pub(crate) async fn complete(
    conn: &mut Connection,
    operation: &str,
    resource: (&str, &str),
) -> ApiResult<String> {
    let (resource_type, resource_guid) = resource;
    let job = Job {
        operation: operation.to_owned(),
        state: JobState::Complete,
        resource_type: resource_type.to_owned(),
        resource_guid: resource_guid.to_owned(),
        ..Job::fresh()
    };
    insert(conn, &job).await?;
    Ok(job.guid)
}
