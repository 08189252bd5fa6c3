//! Jobs: clients poll them while a long verb runs in parts.

use super::{Arg, Connection, Json, Readable, Select, execute, rows, spelled};
use crate::sealing::Sealed;
use serde_json::Value;

spelled! {
    JobState {
        Complete = "COMPLETE", Failed = "FAILED", Processing = "PROCESSING",
        /// A broker has accepted what the job is for, and is asked again and again how far it is.
        Polling = "POLLING",
    }
}

impl JobState {
    /// Returns whether the job has more to do.
    pub(crate) fn is_open(self) -> bool {
        matches!(self, Self::Processing | Self::Polling)
    }
}

/// The states of the jobs that have more to do.
const OPEN: [JobState; 2] = [JobState::Processing, JobState::Polling];

rows! {
    Job in "jobs" {
        operation: String, state: JobState, errors: Json<Vec<wire::cc::Error>>, warnings: Json<Vec<Value>>, resource_type: String, resource_guid: String,
        actor_guid: String, actor_type: String, actor_name: String,
        /// The number of parts that are done.
        parts: i64,
        /// The number of failures since the last part that was done.
        attempts: i64,
        /// The time before which no part begins, because one has failed.
        due_at: i64,
        /// The process that does the parts, and the time until which no other process may.
        leased_by: String, leased_until: i64,
        /// The values that the parts need besides the resource. They may be secret, and are removed when the job ends.
        input: Option<Sealed>,
    }
}

impl Job {
    /// Ends the job, and forgets its input.
    pub(crate) fn end(&mut self, state: JobState) {
        self.state = state;
        self.input = None;
    }

    /// Returns whether a process may do the next part at the time `now`.
    pub(crate) fn is_free_for(&self, process: &str, now: i64) -> bool {
        self.state.is_open()
            && self.due_at <= now
            && (self.leased_by == process || self.leased_until <= now)
    }
}

/// Returns the jobs under way, the oldest first.
pub(crate) async fn open(conn: &mut Connection) -> sqlx::Result<Readable<Job>> {
    Select::new().any("state", OPEN).readable(conn).await
}

/// Returns the job under way that does an operation with a resource.
pub(crate) async fn open_of(
    conn: &mut Connection,
    operation: &str,
    resource: &str,
) -> sqlx::Result<Option<Job>> {
    Select::new()
        .is("resource_guid", resource)
        .is("operation", operation)
        .any("state", OPEN)
        .first(conn)
        .await
}

/// Makes a job of a resource due now, so that it notices that something else has begun.
pub(crate) async fn hasten(
    conn: &mut Connection,
    operation: &str,
    resource: &str,
) -> sqlx::Result<()> {
    let sql = "UPDATE jobs SET due_at = 0 WHERE resource_guid = $1 AND operation = $2 AND state IN ('PROCESSING', 'POLLING')";
    execute(conn, sql, &[Arg::from(resource), operation.into()])
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leased_job_is_its_holders_until_the_lease_ends() {
        let job = Job {
            state: JobState::Processing,
            leased_by: "a".to_owned(),
            leased_until: 20,
            due_at: 10,
            ..Job::default()
        };
        assert!(!job.is_free_for("a", 9), "it is not due yet");
        assert!(job.is_free_for("a", 10));
        assert!(!job.is_free_for("b", 19));
        assert!(job.is_free_for("b", 20));
        let ended = Job {
            state: JobState::Complete,
            ..job
        };
        assert!(!ended.is_free_for("a", 30));
        let polling = Job {
            state: JobState::Polling,
            ..ended
        };
        assert!(polling.is_free_for("a", 30));
    }

    #[test]
    fn a_job_that_has_ended_has_no_input() {
        let mut job = Job {
            input: Some(Sealed::default()),
            ..Job::default()
        };
        job.end(JobState::Failed);
        assert_eq!((job.state, job.input), (JobState::Failed, None));
    }
}
