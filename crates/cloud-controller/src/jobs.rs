//! Does jobs in parts, so that no request holds the only writer for long.
//!
//! ```text
//!  handler ──▶ actions::job::enqueue ──commit──▶ lease ─▶ part ─▶ part ─▶ … ─▶ COMPLETE, or FAILED with its errors
//!     └──────── waits a moment ◀───────────────────────────────────────────────────┘
//! ```
//!
//! Parts are verbs of `actions`. Each reads what is left, does a little of it, and returns whether all is done; several of them share
//! one short [`Change`], which also renews the lease. Each app of a manifest has a change of its own, because it succeeds or fails
//! alone. So a job continues after a crash where its last commit left it, in this
//! process or, when the lease has ended, in another one. All open jobs get a turn in each pass.
//!
//! Jobs that call servers outside are done beside the passes ([`outside`]), so that no other job waits for a server. A job can wait for
//! others, such as the deletion of an app for the removal of its bindings at their brokers ([`Progress::Wait`]).
//!
//! Callers: the component runs [`run`]; handlers that enqueued a job call [`wait`] or [`wait_briefly`].

mod operation;
mod outside;

use crate::actions::job::{
    APPLY_MANIFEST, DELETE_APP, DELETE_DOMAIN, DELETE_ORGANIZATION, DELETE_ROUTE, DELETE_SPACE,
    DELETE_UNMAPPED_ROUTES, Progress,
};
use crate::actions::{app, domain, manifest, organization, route_deletion, space};
use crate::change::Change;
use crate::clock;
use crate::controller::Cc;
use crate::db::job::{self, Job, JobState};
use crate::db::{self, Json, Unrecorded};
use crate::error::{ApiError, ApiResult};
use anyhow::Result;
use kit::CancellationToken;
use outside::Calls;
use std::time::{Duration, Instant};

/// The time after which a transaction begins no further part.
const BUDGET: Duration = Duration::from_millis(50);

/// The time for which a process owns a job after each of its commits, in microseconds.
const LEASE: i64 = 10 * 1_000_000;

/// The pause between two passes without a nudge.
const PERIOD: Duration = Duration::from_secs(5);

/// The pause before a failed pass is repeated.
const RETRY: Duration = Duration::from_secs(2);

/// The number of failures in a row after which a job fails.
const MOST_ATTEMPTS: i64 = 8;

/// The maximum time for which a request waits for its job. After it the response is sent, and the job continues.
const PATIENCE: Duration = Duration::from_secs(3);

/// The maximum time for which a request waits for the answer of a broker, which is another's server and may be slow.
const BRIEF_PATIENCE: Duration = Duration::from_secs(1);

/// Does jobs until shutdown.
pub(crate) async fn run(cc: &Cc, shutdown: &CancellationToken) {
    let process = clock::guid();
    let mut calls = Calls::default();
    while !shutdown.is_cancelled() {
        let pause = match pass(cc, &process, &mut calls).await {
            Ok(None) => continue,
            Ok(Some(pause)) => pause,
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "jobs-failed");
                RETRY
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
            () = cc.jobs.nudged() => {}
        }
    }
    calls.stop().await;
}

/// Waits until a job has ended, as long as a request may.
pub(crate) async fn wait(cc: &Cc, guid: &str) {
    wait_for(cc, guid, PATIENCE).await;
}

/// Waits until a broker has answered the first request of a job, for a shorter time than [`wait`].
pub(crate) async fn wait_briefly(cc: &Cc, guid: &str) {
    wait_for(cc, guid, BRIEF_PATIENCE).await;
}

/// Waits until no job does an operation with any of these resources, as long as a request may.
pub(crate) async fn wait_for_resources(cc: &Cc, operation: &str, resources: &[String]) {
    let all = async {
        for resource in resources {
            wait_for_resource(cc, operation, resource).await;
        }
    };
    if tokio::time::timeout(PATIENCE, all).await.is_err() {
        tracing::info!(operation, "jobs-outlast-their-request");
    }
}

async fn wait_for_resource(cc: &Cc, operation: &str, resource: &str) {
    let job = async {
        let mut conn = cc.db.read().await?;
        job::open_of(&mut conn, operation, resource).await
    };
    if let Ok(Some(job)) = job.await {
        wait_for(cc, &job.guid, PATIENCE).await;
    }
}

async fn wait_for(cc: &Cc, guid: &str, patience: Duration) {
    let mut ends = cc.ended_jobs.subscribe();
    let ended = async {
        while is_processing(cc, guid).await.unwrap_or(false) {
            if ends.changed().await.is_err() {
                return;
            }
        }
    };
    if tokio::time::timeout(patience, ended).await.is_err() {
        tracing::info!(job = guid, "job-outlasts-its-request");
    }
}

async fn is_processing(cc: &Cc, guid: &str) -> sqlx::Result<bool> {
    let mut conn = cc.db.read().await?;
    let job = db::by_guid::<Job>(&mut conn, guid).await?;
    Ok(job.is_some_and(|job| job.state == JobState::Processing))
}

/// Gives every open job a turn, also if another one fails. Returns the pause before the next pass, or `None` if a job has more to do
/// now.
async fn pass(cc: &Cc, process: &str, calls: &mut Calls) -> Result<Option<Duration>> {
    let open = {
        let mut conn = cc.db.read_own().await?;
        job::open(&mut conn).await?
    };
    let skipped = open.broken.iter().map(|broken| {
        let guid = broken.guid.clone().unwrap_or_else(|| "?".to_owned());
        (guid, broken.problem.clone())
    });
    cc.troubles.report("jobs", skipped.collect(), &cc.emitter);
    let (mut has_more, mut failure) = (false, None);
    let mut pause = PERIOD;
    for job in &open.rows {
        if outside::is_outside(&job.operation) {
            pause = pause.min(calls.begin(cc, job, process));
            continue;
        }
        pause = pause.min(until_due(job, clock::now()));
        match advance(cc, &job.guid, process).await {
            Ok(Progress::More) => has_more = true,
            Ok(Progress::Wait(wait)) => pause = pause.min(wait),
            Ok(Progress::Done) => {}
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        Some(error) => Err(error),
        None => Ok((!has_more).then_some(pause)),
    }
}

/// Returns the pause until a job is due, if it is not due now.
fn until_due(job: &Job, now: i64) -> Duration {
    match u64::try_from(job.due_at.saturating_sub(now)) {
        Ok(micros) if micros > 0 => PERIOD.min(Duration::from_micros(micros)),
        _ => PERIOD,
    }
}

/// Does parts of a job in one change. A job that is not this process's to do has nothing to do now.
async fn advance(cc: &Cc, guid: &str, process: &str) -> Result<Progress> {
    let mut tx = cc.change().await?;
    let now = clock::now();
    let Some(mut job) = db::by_guid::<Job>(&mut tx, guid)
        .await?
        .filter(|job| job.is_free_for(process, now))
    else {
        return Ok(Progress::Done);
    };
    let progress = match parts(cc, &mut tx, &mut job).await {
        Ok(progress) => progress,
        Err(error) => {
            drop(tx);
            postpone(cc, guid, error).await?;
            return Ok(Progress::Done);
        }
    };
    job.attempts = 0;
    job.leased_by = process.to_owned();
    job.leased_until = now + LEASE;
    match progress {
        Progress::More => {}
        Progress::Wait(pause) => job.due_at = due_after(pause),
        Progress::Done => job.end(JobState::Complete),
    }
    job.touch();
    db::update(&mut tx, &job).await?;
    tx.commit(Unrecorded::Consequence).await?;
    if progress == Progress::Done {
        cc.ended_jobs.send_modify(|ended| *ended += 1);
    }
    Ok(progress)
}

/// Returns the time after a pause, in microseconds since the epoch.
fn due_after(pause: Duration) -> i64 {
    let micros = i64::try_from(pause.as_micros()).unwrap_or(i64::MAX);
    clock::now().saturating_add(micros)
}

/// Does parts until the budget is spent, or until the job must wait.
async fn parts(cc: &Cc, tx: &mut Change, job: &mut Job) -> ApiResult<Progress> {
    let began = Instant::now();
    let is_alone = job.operation == APPLY_MANIFEST;
    loop {
        match part(cc, tx, job).await? {
            Progress::More => job.parts += 1,
            other => return Ok(other),
        }
        if is_alone || began.elapsed() >= BUDGET {
            return Ok(Progress::More);
        }
    }
}

async fn part(cc: &Cc, tx: &mut Change, job: &Job) -> ApiResult<Progress> {
    let actor = (
        job.actor_guid.as_str(),
        job.actor_type.as_str(),
        job.actor_name.as_str(),
    );
    let (guid, since) = (&job.resource_guid, job.created_at);
    let settings = &cc.settings;
    match job.operation.as_str() {
        APPLY_MANIFEST => manifest::apply_part(tx, settings, actor, job).await,
        DELETE_APP => app::delete_part(tx, settings, actor, (guid, since)).await,
        DELETE_DOMAIN => domain::delete_part(tx, settings, actor, (guid, since)).await,
        DELETE_ORGANIZATION => organization::delete_part(tx, settings, actor, (guid, since)).await,
        DELETE_ROUTE => route_deletion::delete_part(tx, settings, actor, (guid, since)).await,
        DELETE_SPACE => space::delete_part(tx, settings, actor, (guid, since)).await,
        DELETE_UNMAPPED_ROUTES => Ok(space::delete_unmapped_part(tx, actor, guid).await?.into()),
        other => Err(ApiError::unprocessable(format!(
            "The operation '{other}' is unknown to this version of the Cloud Controller"
        ))),
    }
}

/// Returns whether an error may pass. A broker that refused a removal is none: its users decide what follows.
fn may_pass(error: &ApiError) -> bool {
    error.status.is_server_error() && error.status != http::StatusCode::BAD_GATEWAY
}

/// Notes a failure, after the change that failed was rolled back. The job is due again later, or fails if that is of no use.
async fn postpone(cc: &Cc, guid: &str, error: ApiError) -> Result<()> {
    tracing::warn!(job = guid, %error, "job-part-failed");
    let mut tx = cc.change().await?;
    let Some(mut job) = db::by_guid::<Job>(&mut tx, guid).await? else {
        return Ok(());
    };
    job.attempts += 1;
    let is_over = job.attempts >= MOST_ATTEMPTS || !may_pass(&error);
    if is_over {
        outside::give_up(cc, &mut tx, &job).await?;
        job.end(JobState::Failed);
        job.errors = Json(error.errors);
    } else {
        job.due_at = clock::now() + pause_after(job.attempts);
    }
    job.touch();
    db::update(&mut tx, &job).await?;
    tx.commit(Unrecorded::Consequence).await?;
    if is_over {
        cc.ended_jobs.send_modify(|ended| *ended += 1);
    }
    Ok(())
}

/// Returns the pause after so many failures in a row, in microseconds: one second, doubled each time up to about a minute.
fn pause_after(attempts: i64) -> i64 {
    1_000_000 << (attempts - 1).clamp(0, 6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_bounded() {
        let seconds: Vec<i64> = (1..=MOST_ATTEMPTS + 1)
            .map(|n| pause_after(n) / 1_000_000)
            .collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
    }

    #[test]
    fn a_job_that_waits_is_looked_at_when_it_is_due() {
        let pause = |due_at| {
            let job = Job {
                due_at,
                ..Job::default()
            };
            until_due(&job, 1_000_000).as_millis()
        };
        assert_eq!(pause(0), 5000, "it is due already");
        assert_eq!(pause(1_000_000), 5000);
        assert_eq!(pause(1_400_000), 400);
        assert_eq!(pause(60_000_000), 5000);
    }
}
