//! The rep's metrics that are changed where things happen: Diego's names in Prometheus' form. The levels of the cell are in
//! [`crate::cell::levels`].

use kit::metrics::{Counter, Histogram, Level, REQUEST_SECONDS, Registry, Requests, WORK_SECONDS};

#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) requests: Requests,
    /// The time of a comparison of containers with the BBS.
    pub(crate) bulk_sync_duration: Histogram,
    /// 1 if garden did not list its containers at the last comparison, else 0.
    pub(crate) garden_health_check_failed: Level,
    pub(crate) creation_succeeded: Histogram,
    pub(crate) creation_failed: Histogram,
    pub(crate) destruction_succeeded: Histogram,
    pub(crate) destruction_failed: Histogram,
    /// The containers that left the table.
    pub(crate) completed: Counter,
    pub(crate) credentials_succeeded: Counter,
    pub(crate) credentials_failed: Counter,
    pub(crate) credentials_duration: Histogram,
    /// The times at which an instance exceeded its log rate limit.
    pub(crate) log_rate_exceeded: Counter,
    /// The instances that had not moved when an evacuation reached its limit.
    pub(crate) stranded: Counter,
    http_liveness_failed: Counter,
    tcp_liveness_failed: Counter,
}

impl Metrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let requests = Requests {
            answered: registry.counter("rep_request_count_total", "Requests that the API answered"),
            outstanding: registry.in_flight(
                "rep_requests_in_flight",
                "Requests that the API has not answered yet",
            ),
            latency: registry.histogram(
                "rep_request_latency_seconds",
                "Time until the head of a response",
                REQUEST_SECONDS,
            ),
        };
        let mut work = |name: &str, help: &str| registry.histogram(name, help, WORK_SECONDS);
        Self {
            requests,
            bulk_sync_duration: work(
                "rep_bulk_sync_duration_seconds",
                "Time of a comparison of containers with the BBS",
            ),
            creation_succeeded: work(
                "rep_garden_container_creation_succeeded_duration_seconds",
                "Time in which a container was created",
            ),
            creation_failed: work(
                "rep_garden_container_creation_failed_duration_seconds",
                "Time after which the creation of a container failed",
            ),
            destruction_succeeded: work(
                "rep_garden_container_destruction_succeeded_duration_seconds",
                "Time in which a container was destroyed",
            ),
            destruction_failed: work(
                "rep_garden_container_destruction_failed_duration_seconds",
                "Time after which the destruction of a container failed",
            ),
            credentials_duration: work(
                "rep_cred_creation_succeeded_duration_seconds",
                "Time in which an instance's certificate was issued",
            ),
            garden_health_check_failed: registry.level(
                "rep_garden_health_check_failed",
                "1 if garden did not list its containers at the last comparison",
            ),
            completed: registry.counter(
                "rep_container_completed_count_total",
                "Containers that ended",
            ),
            credentials_succeeded: registry.counter(
                "rep_cred_creation_succeeded_count_total",
                "Certificates of instances that were issued",
            ),
            credentials_failed: registry.counter(
                "rep_cred_creation_failed_count_total",
                "Certificates of instances that could not be issued",
            ),
            log_rate_exceeded: registry.counter(
                "rep_app_instance_exceeded_log_rate_limit_count_total",
                "Times at which an instance exceeded its log rate limit",
            ),
            stranded: registry.counter(
                "rep_stranded_evacuating_actual_lrps_total",
                "Instances that an evacuation stopped before they had moved",
            ),
            http_liveness_failed: registry.counter(
                "rep_http_liveness_checks_failed_count_total",
                "Instances that ended because of a liveness check over HTTP",
            ),
            tcp_liveness_failed: registry.counter(
                "rep_tcp_liveness_checks_failed_count_total",
                "Instances that ended because of a liveness check of a port",
            ),
        }
    }

    /// Records the failure of a liveness check, of HTTP or of a port.
    pub(crate) fn liveness_failed(&self, is_http: bool) {
        let counter = if is_http {
            &self.http_liveness_failed
        } else {
            &self.tcp_liveness_failed
        };
        counter.add(1);
    }
}
