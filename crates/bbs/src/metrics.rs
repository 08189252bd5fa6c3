//! The metrics of the BBS and of locket that are changed where things happen: Diego's names in Prometheus' form. Events are
//! counted when they are durable. The levels of the state are in [`crate::census`].

use crate::journal::Publication;
use crate::state::Pass;
use kit::metrics::{
    Counter, Histogram, InFlight, Level, REQUEST_SECONDS, Registry, Requests, WORK_SECONDS,
};
use std::time::Duration;
use wire::bbs as m;

/// The metrics of the BBS.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) requests: Requests,
    pub(crate) master_elected: Counter,
    pub(crate) lock_held: Level,
    convergence_lrp_runs: Counter,
    convergence_lrp_duration: Histogram,
    convergence_task_runs: Counter,
    convergence_task_duration: Histogram,
    convergence_tasks_kicked: Counter,
    convergence_tasks_pruned: Counter,
    tasks_started: Counter,
    tasks_succeeded: Counter,
    tasks_failed: Counter,
    crashed_actual_lrps: Counter,
    queries_succeeded: Counter,
    queries_failed: Counter,
    query_duration: Histogram,
}

impl Metrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        Self {
            requests: Requests {
                answered: registry
                    .counter("bbs_request_count_total", "Requests that the API answered"),
                outstanding: registry.in_flight(
                    "bbs_requests_in_flight",
                    "Requests that the API has not answered yet",
                ),
                latency: registry.histogram(
                    "bbs_request_latency_seconds",
                    "Time until the head of a response",
                    REQUEST_SECONDS,
                ),
            },
            master_elected: registry.counter(
                "bbs_master_elected_total",
                "Times at which this BBS became the active one",
            ),
            lock_held: registry.level("bbs_lock_held", "1 if this BBS holds its lock"),
            convergence_lrp_runs: registry.counter(
                "bbs_convergence_lrp_runs_total",
                "Passes of convergence over LRPs",
            ),
            convergence_lrp_duration: registry.histogram(
                "bbs_convergence_lrp_duration_seconds",
                "Time of a pass of convergence over LRPs",
                WORK_SECONDS,
            ),
            convergence_task_runs: registry.counter(
                "bbs_convergence_task_runs_total",
                "Passes of convergence over tasks",
            ),
            convergence_task_duration: registry.histogram(
                "bbs_convergence_task_duration_seconds",
                "Time of a pass of convergence over tasks",
                WORK_SECONDS,
            ),
            convergence_tasks_kicked: registry.counter(
                "bbs_convergence_tasks_kicked_total",
                "Tasks whose next step convergence repeated",
            ),
            convergence_tasks_pruned: registry.counter(
                "bbs_convergence_tasks_pruned_total",
                "Tasks that convergence deleted",
            ),
            tasks_started: registry.counter("bbs_tasks_started_total", "Tasks that a cell started"),
            tasks_succeeded: registry.counter("bbs_tasks_succeeded_total", "Tasks that completed"),
            tasks_failed: registry.counter("bbs_tasks_failed_total", "Tasks that failed"),
            crashed_actual_lrps: registry
                .counter("bbs_actual_lrp_crashes_total", "Crashes of instances"),
            queries_succeeded: registry.counter(
                "bbs_db_queries_succeeded_total",
                "Transactions that were written",
            ),
            queries_failed: registry.counter(
                "bbs_db_queries_failed_total",
                "Transactions that could not be written",
            ),
            query_duration: registry.histogram(
                "bbs_db_query_duration_seconds",
                "Time of a transaction",
                REQUEST_SECONDS,
            ),
        }
    }

    /// Records a transaction of the writer.
    pub(crate) fn written(&self, took: Duration, is_written: bool) {
        self.query_duration.observe(took);
        let counter = if is_written {
            &self.queries_succeeded
        } else {
            &self.queries_failed
        };
        counter.add(1);
    }

    /// Records a pass of convergence that is durable.
    pub(crate) fn converged(&self, pass: &Pass) {
        self.convergence_lrp_runs.add(1);
        self.convergence_lrp_duration.observe(pass.lrps);
        self.convergence_task_runs.add(1);
        self.convergence_task_duration.observe(pass.tasks);
        self.convergence_tasks_kicked.add(pass.tasks_kicked);
        self.convergence_tasks_pruned.add(pass.tasks_pruned);
    }

    /// Counts what subscribers are informed of. Everything in it is durable.
    pub(crate) fn published(&self, publication: &Publication) {
        match publication {
            Publication::TaskChanged { before, after } => self.task_changed(before, after),
            Publication::Actual(changes) => {
                let crashes = changes.iter().filter_map(crate::state::crashed).count();
                self.crashed_actual_lrps.add(crashes as u64);
            }
            _ => {}
        }
    }

    fn task_changed(&self, before: &m::Task, after: &m::Task) {
        let became =
            |state: m::TaskState| before.state != state as i32 && after.state == state as i32;
        if became(m::TaskState::Running) {
            self.tasks_started.add(1);
        }
        // A result that could not be delivered makes a resolving task a completed one again.
        let is_new = before.state != m::TaskState::Resolving as i32;
        if is_new && became(m::TaskState::Completed) {
            let counter = if after.failed {
                &self.tasks_failed
            } else {
                &self.tasks_succeeded
            };
            counter.add(1);
        }
    }
}

/// The metrics of locket.
#[derive(Clone, Debug)]
pub(crate) struct LocketMetrics {
    pub(crate) requests_started: Counter,
    pub(crate) requests_succeeded: Counter,
    pub(crate) requests_failed: Counter,
    pub(crate) requests_in_flight: InFlight,
    pub(crate) request_latency: Histogram,
    pub(crate) locks_expired: Counter,
    pub(crate) presences_expired: Counter,
}

impl LocketMetrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        Self {
            requests_started: registry.counter("locket_requests_started_total", "Calls that began"),
            requests_succeeded: registry
                .counter("locket_requests_succeeded_total", "Calls that succeeded"),
            requests_failed: registry.counter(
                "locket_requests_failed_total",
                "Calls that were refused or failed",
            ),
            requests_in_flight: registry
                .in_flight("locket_requests_in_flight", "Calls that have not ended yet"),
            request_latency: registry.histogram(
                "locket_request_latency_seconds",
                "Time of a call",
                REQUEST_SECONDS,
            ),
            locks_expired: registry.counter(
                "locket_locks_expired_total",
                "Locks that were not renewed in time",
            ),
            presences_expired: registry.counter(
                "locket_presences_expired_total",
                "Presences that were not renewed in time",
            ),
        }
    }
}
