//! Jobs. A verb that is short enough ends within its request, and its job is finished when the client receives the URL. A long
//! verb is enqueued, and [`crate::jobs`] does it in parts. A verb that calls a server outside is [`Outside`].

use super::audit::{self, Target};
use crate::auth::Principal;
use crate::change::Change;
use crate::clock;
use crate::controller::Cc;
use crate::db::job::{Job, JobState};
use crate::db::{Connection, insert};
use crate::error::{ApiError, ApiResult};
use crate::sealing::Sealed;
use std::time::Duration;

/// The operations that call a server outside.
pub(crate) const SYNCHRONIZE_BROKER: &str = "service_broker.catalog.synchronize";
pub(crate) const UPDATE_BROKER: &str = "service_broker.update";
pub(crate) const DELETE_BROKER: &str = "service_broker.delete";

/// The operations that are done in parts.
pub(crate) const DELETE_APP: &str = "app.delete";
pub(crate) const DELETE_DOMAIN: &str = "domain.delete";
pub(crate) const DELETE_ROUTE: &str = "route.delete";
pub(crate) const DELETE_SPACE: &str = "space.delete";
pub(crate) const DELETE_UNMAPPED_ROUTES: &str = "space.delete_unmapped_routes";
pub(crate) const DELETE_ORGANIZATION: &str = "organization.delete";
pub(crate) const APPLY_MANIFEST: &str = "space.apply_manifest";

/// A verb whose parts call a server outside. Each part is a call, during which no change is held, and the change that applies its
/// result. A process that dies in between repeats the part, so a call must be one that can be repeated.
pub(crate) trait Outside {
    /// The result of a call. A refusal by the server is a result, too.
    type Called: Send;

    /// Reads what the next call needs, and makes it. An error is one of the platform: the part is repeated later.
    fn call(cc: &Cc, job: &Job) -> impl Future<Output = ApiResult<Self::Called>> + Send;

    /// Applies the result. The job was read again in this change; its row is stored afterwards, so that warnings and input can be
    /// changed in it.
    fn apply(
        cc: &Cc,
        tx: &mut Change,
        job: &mut Job,
        called: Self::Called,
    ) -> impl Future<Output = ApiResult<Step>> + Send;

    /// Undoes what the beginning of the job has marked, because the job fails without a result that could be applied.
    fn give_up(cc: &Cc, tx: &mut Change, job: &Job) -> impl Future<Output = ApiResult<()>> + Send;
}

/// The step of a job after a part that called a server outside.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Done,
    /// The next part begins at a time in microseconds since the epoch, or at once if that has passed.
    Again {
        due_at: i64,
    },
    /// The job fails, and what the part changed stays.
    Failed(ApiError),
}

/// The operations that call a service broker.
pub(crate) const CREATE_SERVICE_INSTANCE: &str = "service_instance.create";
pub(crate) const UPDATE_SERVICE_INSTANCE: &str = "service_instance.update";
pub(crate) const DELETE_SERVICE_INSTANCE: &str = "service_instance.delete";
pub(crate) const CREATE_SERVICE_BINDING: &str = "service_bindings.create";
pub(crate) const DELETE_SERVICE_BINDING: &str = "service_bindings.delete";
pub(crate) const CREATE_SERVICE_KEY: &str = "service_keys.create";
pub(crate) const DELETE_SERVICE_KEY: &str = "service_keys.delete";
pub(crate) const CREATE_ROUTE_BINDING: &str = "service_route_bindings.create";
pub(crate) const DELETE_ROUTE_BINDING: &str = "service_route_bindings.delete";
/// The operations that remove what a failed request may have left at a broker.
pub(crate) const REMOVE_ORPHANED_INSTANCE: &str = "service_instance.remove_orphan";
pub(crate) const REMOVE_ORPHANED_BINDING: &str = "service_binding.remove_orphan";

/// The result of one part of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// There is more to do now.
    More,
    /// There is more to do after a pause, when another job has come further.
    Wait(Duration),
    Done,
}

/// The shortest and the longest pause of a job that waits for other jobs.
const SHORTEST_WAIT: Duration = Duration::from_millis(400);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Returns the pause of a job that waits for other jobs. It grows with the age of the job, so that hundreds that wait for slow brokers do
/// not hold the writer of the database again and again.
pub(crate) fn waiting_pause(created_at: i64) -> Duration {
    let age = clock::now().saturating_sub(created_at);
    let age = Duration::from_micros(u64::try_from(age).unwrap_or_default());
    (age / 10).clamp(SHORTEST_WAIT, LONGEST_WAIT)
}

impl Progress {
    /// A short pause of a job that waits for other jobs.
    pub(crate) const WAIT: Self = Self::Wait(SHORTEST_WAIT);

    /// Returns the pause of a job that was created at this time and waits for other jobs.
    pub(crate) fn waiting(created_at: i64) -> Self {
        Self::Wait(waiting_pause(created_at))
    }
}

impl From<bool> for Progress {
    fn from(is_done: bool) -> Self {
        match is_done {
            true => Self::Done,
            false => Self::More,
        }
    }
}

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
    resource: (&str, &str),
    input: Option<Sealed>,
) -> ApiResult<String> {
    enqueue_for(tx, audit::actor(who), operation, resource, input).await
}

/// Creates a job like [`enqueue_with`], in the name of any actor.
pub(crate) async fn enqueue_for(
    tx: &mut Change,
    (actor_guid, actor_type, actor_name): Target<'_>,
    operation: &str,
    (resource_type, resource_guid): (&str, &str),
    input: Option<Sealed>,
) -> ApiResult<String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_of_a_job_that_waits_grows_with_its_age() {
        let pause = |seconds: i64| waiting_pause(clock::now() - seconds * 1_000_000);
        assert_eq!(pause(0), SHORTEST_WAIT);
        assert_eq!(pause(-5), SHORTEST_WAIT, "the clock was set back");
        assert!((Duration::from_secs(1)..LONGEST_WAIT).contains(&pause(10)));
        assert_eq!(pause(3600), LONGEST_WAIT);
    }
}
