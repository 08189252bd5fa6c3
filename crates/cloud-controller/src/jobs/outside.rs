//! Jobs that call servers outside: service brokers.
//!
//! ```text
//!  claim ──commit──▶ call: no change is held, the lease is renewed ──▶ apply ──commit──▶ COMPLETE, FAILED, or due again
//!    │ the job has another holder: nothing                               │ the lease was lost: nothing
//! ```
//!
//! Each job has a task of its own while it is called, and only so many run at once. A job continues in the next process if this one
//! dies: a call is repeated, and its result is applied once, because only the holder of the lease applies one.

use super::operation::{self, Brokers, Room};
use super::postpone;
use crate::actions::broker_call::Operation;
use crate::actions::job::{DELETE_BROKER, Outside, SYNCHRONIZE_BROKER, Step, UPDATE_BROKER};
use crate::actions::service_broker::{Delete, Synchronize, Update};
use crate::change::Change;
use crate::clock;
use crate::controller::Cc;
use crate::db::job::{Job, JobState};
use crate::db::{self, Json, Unrecorded};
use crate::error::ApiResult;
use anyhow::Result;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;

/// The number of calls at once.
const MOST_CALLS: usize = 64;

/// The time for which a process owns a job while it calls, and the pause between two renewals.
const LEASE: Duration = Duration::from_secs(20);
const RENEWAL: Duration = Duration::from_secs(7);

/// The pause before jobs for which there was no room are looked at again; the end of a call wakes them earlier.
const CROWDED: Duration = Duration::from_secs(1);

/// Runs an expression for the verb of an operation, which it names `Verb`. Other operations get `$other`.
macro_rules! for_verb {
    ($operation:expr, $Verb:ident => $run:expr, else $other:expr) => {
        match $operation {
            SYNCHRONIZE_BROKER => {
                type $Verb = Synchronize;
                $run
            }
            UPDATE_BROKER => {
                type $Verb = Update;
                $run
            }
            DELETE_BROKER => {
                type $Verb = Delete;
                $run
            }
            _ => $other,
        }
    };
}

pub(super) fn is_outside(operation: &str) -> bool {
    matches!(
        operation,
        SYNCHRONIZE_BROKER | UPDATE_BROKER | DELETE_BROKER
    ) || Operation::of(operation).is_some()
}

/// Undoes what the beginning of a job has marked, before the job fails.
pub(super) async fn give_up(cc: &Cc, tx: &mut Change, job: &Job) -> ApiResult<()> {
    for_verb!(job.operation.as_str(), Verb => Verb::give_up(cc, tx, job).await, else Ok(()))
}

/// The jobs that this process calls for at present.
#[derive(Debug, Default)]
pub(super) struct Calls {
    tasks: JoinSet<()>,
    jobs: Arc<Mutex<HashSet<String>>>,
    brokers: Brokers,
}

/// The place of a job among those that are called for. It is free again when this value is dropped, even by a panic.
struct Place {
    jobs: Arc<Mutex<HashSet<String>>>,
    guid: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        let jobs = self.jobs.lock();
        jobs.unwrap_or_else(PoisonError::into_inner)
            .remove(&self.guid);
    }
}

impl Calls {
    /// Begins the next part of a job, if it is due and there is room. Returns the longest pause before it must be looked at again.
    pub(super) fn begin(&mut self, cc: &Cc, job: &Job, process: &str) -> Duration {
        while self.tasks.try_join_next().is_some() {}
        let now = clock::now();
        if job.due_at > now {
            let micros = u64::try_from(job.due_at - now).unwrap_or_default();
            return Duration::from_micros(micros);
        }
        if !job.is_free_for(process, now) {
            return LEASE;
        }
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.contains(&job.guid) {
            return LEASE;
        }
        if jobs.len() >= MOST_CALLS {
            return CROWDED;
        }
        let permit = match self.brokers.room(&job.guid) {
            Room::Unknown => None,
            Room::Full => return CROWDED,
            Room::Free(permit) => Some(permit),
        };
        jobs.insert(job.guid.clone());
        drop(jobs);
        let place = Place {
            jobs: self.jobs.clone(),
            guid: job.guid.clone(),
        };
        let (cc, operation, process) = (cc.clone(), job.operation.clone(), process.to_owned());
        let brokers = self.brokers.clone();
        self.tasks.spawn(async move {
            let guid = place.guid.clone();
            let done = for_verb!(
                operation.as_str(),
                Verb => part::<Verb>(&cc, &guid, &process).await,
                else operation::part(&cc, (&guid, &process), (&brokers, permit)).await
            );
            drop(place);
            match done {
                Ok(()) => cc.jobs.nudge(),
                Err(error) => {
                    tracing::warn!(job = guid, error = format!("{error:#}"), "job-part-failed");
                }
            }
        });
        LEASE
    }

    /// Ends all calls. Their jobs continue in the next process.
    pub(super) async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

/// Returns the time until which a lease that begins now holds.
pub(super) fn lease() -> i64 {
    clock::now() + i64::try_from(LEASE.as_micros()).unwrap_or(i64::MAX)
}

async fn part<V: Outside>(cc: &Cc, guid: &str, process: &str) -> Result<()> {
    let Some(job) = claim(cc, guid, process).await? else {
        return Ok(());
    };
    let Some(called) = leased(cc, (guid, process), V::call(cc, &job)).await? else {
        return Ok(());
    };
    let mut tx = cc.change().await?;
    let Some(mut job) = held(&mut tx, guid, process).await? else {
        return Ok(());
    };
    let step = match called {
        Ok(called) => V::apply(cc, &mut tx, &mut job, called).await,
        Err(error) => Err(error),
    };
    match step {
        Ok(step) => end_part(cc, tx, job, step).await,
        Err(error) => {
            drop(tx);
            postpone(cc, guid, error).await
        }
    }
}

/// Waits for a call and renews the lease meanwhile. Returns `None` if the lease was lost.
pub(super) async fn leased<F: Future>(
    cc: &Cc,
    (guid, process): (&str, &str),
    call: F,
) -> Result<Option<F::Output>> {
    tokio::pin!(call);
    loop {
        tokio::select! {
            called = &mut call => return Ok(Some(called)),
            () = tokio::time::sleep(RENEWAL) => {
                if !renew(cc, guid, process).await? {
                    return Ok(None);
                }
            }
        }
    }
}

/// Makes this process the holder of a job, if it may be.
async fn claim(cc: &Cc, guid: &str, process: &str) -> Result<Option<Job>> {
    let mut tx = cc.change().await?;
    let now = clock::now();
    let Some(mut job) = db::by_guid::<Job>(&mut tx, guid)
        .await?
        .filter(|job| job.is_free_for(process, now))
    else {
        return Ok(None);
    };
    job.leased_by = process.to_owned();
    job.leased_until = lease();
    db::update(&mut tx, &job).await?;
    tx.commit(Unrecorded::Consequence).await?;
    Ok(Some(job))
}

/// Returns a job that this process still holds.
pub(super) async fn held(tx: &mut Change, guid: &str, process: &str) -> Result<Option<Job>> {
    let job = db::by_guid::<Job>(tx, guid).await?;
    Ok(job.filter(|job| job.state.is_open() && job.leased_by == process))
}

/// Holds a job for longer. Returns whether this process still holds it.
async fn renew(cc: &Cc, guid: &str, process: &str) -> Result<bool> {
    let mut tx = cc.change().await?;
    let Some(mut job) = held(&mut tx, guid, process).await? else {
        return Ok(false);
    };
    job.leased_until = lease();
    db::update(&mut tx, &job).await?;
    tx.commit(Unrecorded::Consequence).await?;
    Ok(true)
}

/// Commits what a part changed, together with the step of its job.
pub(super) async fn end_part(cc: &Cc, mut tx: Change, mut job: Job, step: Step) -> Result<()> {
    job.parts += 1;
    job.attempts = 0;
    job.leased_by = String::new();
    job.leased_until = 0;
    match step {
        Step::Done => job.end(JobState::Complete),
        Step::Again { due_at } => job.due_at = due_at,
        Step::Failed(error) => {
            tracing::info!(job = job.guid, %error, "job-failed");
            job.end(JobState::Failed);
            job.errors = Json(error.errors);
        }
    }
    job.touch();
    db::update(&mut tx, &job).await?;
    tx.commit(Unrecorded::Consequence).await?;
    if job.state != JobState::Processing {
        cc.ended_jobs.send_modify(|ended| *ended += 1);
    }
    Ok(())
}
