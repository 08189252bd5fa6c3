//! One look at a job that calls a service broker for an instance or a binding.
//!
//! ```text
//!  begin   a change: the lease, and what is about to be sent  ─▶ the call, outside of any change ─▶ a change: what follows
//!    └─ the job waits, or ends without a call
//! ```
//!
//! A job stores each request before it sends it, so that a process that dies at any moment leaves a job that another one continues: it sends
//! the same request again, and brokers do nothing twice for the same guid (`cc_rules::broker_operations`). A job ends only with what its
//! broker did, or by a time limit: a failure of the database postpones it.
//!
//! Each broker gets a few calls at a time, so that one that hangs stops only its own jobs. A job whose broker has no room is looked at again
//! when there is room, so that hundreds of them do not hold the writer of the database again and again.

use super::outside::{end_part, held, lease, leased};
use super::{due_after, pause_after};
use crate::actions::broker_call::{self, After, Call, Next, Reply, Task};
use crate::actions::job::Step;
use crate::change::Change;
use crate::clock;
use crate::controller::Cc;
use crate::db::job::{Job, JobState};
use crate::db::{self, Json, Unrecorded};
use crate::error::{ApiError, ApiResult};
use anyhow::Result;
use cc_rules::broker_operations::Stage;
use clients::request_id;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The number of calls to one broker that are under way at a time.
const MOST_CALLS_OF_BROKER: usize = 8;

/// The number of jobs whose brokers are remembered. A job that is forgotten is looked at once more in vain.
const MOST_REMEMBERED: usize = 10_000;

/// The permission for one call.
type Permit = OwnedSemaphorePermit;

/// The calls of each broker, and the jobs whose broker had no room.
#[derive(Clone, Debug, Default)]
pub(super) struct Brokers(Arc<Mutex<Rooms>>);

#[derive(Debug, Default)]
struct Rooms {
    calls: HashMap<String, Arc<Semaphore>>,
    /// The brokers of the jobs that wait for room, by job.
    waiting: HashMap<String, String>,
}

impl Rooms {
    fn permit(&mut self, broker: &str) -> Option<Permit> {
        let calls = self
            .calls
            .entry(broker.to_owned())
            .or_insert_with(|| Arc::new(Semaphore::new(MOST_CALLS_OF_BROKER)));
        calls.clone().try_acquire_owned().ok()
    }
}

/// The room for a job, as far as it is known before the job is looked at.
#[derive(Debug)]
pub(super) enum Room {
    Unknown,
    Full,
    Free(Permit),
}

impl Brokers {
    fn rooms(&self) -> MutexGuard<'_, Rooms> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the room for a job. It is known for jobs whose broker had no room before.
    pub(super) fn room(&self, job: &str) -> Room {
        let mut rooms = self.rooms();
        let Some(broker) = rooms.waiting.get(job).cloned() else {
            return Room::Unknown;
        };
        let Some(permit) = rooms.permit(&broker) else {
            return Room::Full;
        };
        rooms.waiting.remove(job);
        Room::Free(permit)
    }

    /// Returns the permission for a call of a job to a broker. Without room, the job waits for it.
    fn permit(&self, job: &str, broker: &str) -> Option<Permit> {
        let mut rooms = self.rooms();
        let permit = rooms.permit(broker);
        if permit.is_none() {
            if rooms.waiting.len() >= MOST_REMEMBERED {
                rooms.waiting.clear();
            }
            rooms.waiting.insert(job.to_owned(), broker.to_owned());
        }
        permit
    }
}

/// Looks at a job once. The caller may have the permission for its call already.
pub(super) async fn part(
    cc: &Cc,
    (guid, process): (&str, &str),
    (brokers, permit): (&Brokers, Option<Permit>),
) -> Result<()> {
    let begun = match begin(cc, (guid, process), (brokers, permit)).await {
        Ok(begun) => begun,
        Err(error) => return postpone(cc, guid, error).await,
    };
    let Some((call, permit)) = begun else {
        return Ok(());
    };
    let sent = broker_call::send(&cc.brokers, &call);
    let sent = request_id::scope(call.request_id.clone(), sent);
    let reply = leased(cc, (guid, process), sent).await?;
    drop(permit);
    let Some(reply) = reply else {
        tracing::info!(job = guid, "lease-lost");
        return Ok(());
    };
    match finish(cc, (guid, process), &call, reply).await {
        Ok(()) => Ok(()),
        Err(error) => postpone(cc, guid, error).await,
    }
}

/// Stores what is sent next and returns it, unless the job waits or ends without a call.
async fn begin(
    cc: &Cc,
    (guid, process): (&str, &str),
    (brokers, permit): (&Brokers, Option<Permit>),
) -> ApiResult<Option<(Call, Permit)>> {
    let mut tx = cc.change().await?;
    let now = clock::now();
    let job = db::by_guid::<Job>(&mut tx, guid).await?;
    let Some(mut job) = job.filter(|job| job.is_free_for(process, now)) else {
        return Ok(None);
    };
    let (mut task, next) = broker_call::prepare(&mut tx, &cc.settings, &job).await?;
    let call = match next {
        Next::Call(call) => call,
        Next::After(after) => {
            end(cc, tx, job, (task, after)).await?;
            return Ok(None);
        }
    };
    // Without room nothing is stored.
    let permit = permit.or_else(|| brokers.permit(guid, &call.broker_guid));
    let Some(permit) = permit else {
        return Ok(None);
    };
    task.begin(now);
    remember(cc, &mut job, &task)?;
    process.clone_into(&mut job.leased_by);
    job.leased_until = lease();
    db::update(&mut tx, &job).await?;
    tx.commit(Unrecorded::Consequence).await?;
    Ok(Some((*call, permit)))
}

/// Stores what follows from the reply of a broker.
async fn finish(
    cc: &Cc,
    (guid, process): (&str, &str),
    call: &Call,
    reply: Reply,
) -> ApiResult<()> {
    let mut tx = cc.change().await?;
    let Some(job) = held(&mut tx, guid, process).await? else {
        tracing::info!(job = guid, "reply-after-the-lease");
        return Ok(());
    };
    let settled = broker_call::settle(&mut tx, &cc.settings, &job, (call, reply)).await?;
    end(cc, tx, job, settled).await
}

/// Stores the task of a job, and ends the look.
async fn end(cc: &Cc, tx: Change, mut job: Job, (mut task, after): (Task, After)) -> ApiResult<()> {
    let step = match after {
        After::Done => Step::Done,
        After::Failed(error) => Step::Failed(error),
        After::Wait(pause) => Step::Again {
            due_at: due_after(pause),
        },
        After::Again { stage, pause } => {
            if matches!(stage, Stage::Accepted { .. }) {
                job.state = JobState::Polling;
            }
            task.stage = stage;
            Step::Again {
                due_at: due_after(pause),
            }
        }
    };
    if matches!(step, Step::Again { .. }) {
        remember(cc, &mut job, &task)?;
    }
    Ok(end_part(cc, tx, job, step).await?)
}

fn remember(cc: &Cc, job: &mut Job, task: &Task) -> ApiResult<()> {
    job.input = Some(cc.settings.keys.seal_as(&job.resource_guid, task)?);
    Ok(())
}

/// Notes a failure of this component itself, after the change that failed was rolled back. The job is due again later, because it alone
/// knows what its broker may have. Only a failure that is of no use to repeat ends it.
async fn postpone(cc: &Cc, guid: &str, error: ApiError) -> Result<()> {
    tracing::warn!(job = guid, %error, "job-part-failed");
    let mut tx = cc.change().await?;
    let Some(mut job) = db::by_guid::<Job>(&mut tx, guid).await? else {
        return Ok(());
    };
    if error.status.is_server_error() {
        job.attempts += 1;
        job.due_at = clock::now() + pause_after(job.attempts);
    } else {
        broker_call::give_up(&mut tx, &job, &error.to_string()).await?;
        job.end(JobState::Failed);
        job.errors = Json(error.errors);
    }
    let has_ended = !job.state.is_open();
    job.touch();
    db::update(&mut tx, &job).await?;
    tx.commit(Unrecorded::Consequence).await?;
    if has_ended {
        cc.ended_jobs.send_modify(|ended| *ended += 1);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_hangs_stops_only_its_own_calls() {
        let brokers = Brokers::default();
        let permits: Vec<_> = (0..MOST_CALLS_OF_BROKER)
            .map(|_| brokers.permit("a", "slow").unwrap())
            .collect();
        assert!(matches!(brokers.room("b"), Room::Unknown));
        assert!(brokers.permit("b", "slow").is_none());
        assert!(matches!(brokers.room("b"), Room::Full));
        assert!(brokers.permit("c", "other").is_some());
        drop(permits);
        assert!(matches!(brokers.room("b"), Room::Free(_)));
        assert!(
            matches!(brokers.room("b"), Room::Unknown),
            "it got its turn"
        );
        assert!(brokers.permit("d", "slow").is_some());
    }
}
