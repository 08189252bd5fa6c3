//! The metrics of the Cloud Controller, under the original's names. Events are counted where they happen; [`crate::census`] measures
//! the levels of the database.

use kit::metrics::{Counter, Histogram, Level, REQUEST_SECONDS, Registry, Requests, WORK_SECONDS};

#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub requests: Requests,
    pub staging_requests: Counter,
    /// The time from the creation of a build to its end.
    pub staging_succeeded: Histogram,
    pub staging_failed: Histogram,
    pub diego_sync: Histogram,
    pub users: Level,
    pub running_tasks: Level,
    pub running_tasks_memory: Level,
    pub deployments: Level,
    pub failed_jobs: Level,
}

impl Metrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        Self {
            requests: Requests {
                answered: registry
                    .counter("cc_requests_completed_total", "Requests that were answered"),
                outstanding: registry.in_flight(
                    "cc_requests_outstanding_total",
                    "Requests that are not answered yet",
                ),
                latency: registry.histogram(
                    "cc_request_duration_seconds",
                    "Time until the head of a response",
                    REQUEST_SECONDS,
                ),
            },
            staging_requests: registry
                .counter("cc_staging_requests_total", "Builds that were started"),
            staging_succeeded: registry.histogram(
                "cc_staging_succeeded_duration_seconds",
                "Time of a staging that succeeded",
                WORK_SECONDS,
            ),
            staging_failed: registry.histogram(
                "cc_staging_failed_duration_seconds",
                "Time of a staging that failed",
                WORK_SECONDS,
            ),
            diego_sync: registry.histogram(
                "cc_diego_sync_duration_seconds",
                "Time of a comparison of the database with the BBS",
                WORK_SECONDS,
            ),
            users: registry.level("cc_users_total", "Users that the Cloud Controller knows"),
            running_tasks: registry.level("cc_running_tasks_total", "Tasks that run"),
            running_tasks_memory: registry.level(
                "cc_running_tasks_memory_bytes",
                "Memory of the tasks that run",
            ),
            deployments: registry.level(
                "cc_deployments_in_progress_total",
                "Deployments that are in progress",
            ),
            failed_jobs: registry.level(
                "cc_failed_jobs_total",
                "Jobs that failed and are still kept",
            ),
        }
    }
}
