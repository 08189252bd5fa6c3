//! The metrics of the broker and of the server that it runs, and its needs.

use kit::metrics::{Counter, Level, REQUEST_SECONDS, Registry, Requests};
use kit::readiness::{Need, Readiness};

#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) requests: Requests,
    /// The starts of the server.
    pub(crate) starts: Counter,
    pub(crate) instances: Level,
    /// The instances that accept no writes, because they are larger than their plans permit.
    pub(crate) read_only: Level,
    pub(crate) dumps: Counter,
    pub(crate) dump_failures: Counter,
    /// The age of the dump that is oldest among the newest dumps of all instances.
    pub(crate) dump_age: Level,
    pub(crate) server: Need,
}

impl Metrics {
    pub(crate) fn new(registry: &mut Registry, readiness: &Readiness) -> Self {
        Self {
            requests: Requests {
                answered: registry.counter(
                    "postgres_broker_requests_completed_total",
                    "Requests of the platform that were answered",
                ),
                outstanding: registry.in_flight(
                    "postgres_broker_requests_outstanding",
                    "Requests of the platform that are not answered yet",
                ),
                latency: registry.histogram(
                    "postgres_broker_request_duration_seconds",
                    "Time until the head of a response",
                    REQUEST_SECONDS,
                ),
            },
            starts: registry.counter(
                "postgres_broker_server_starts_total",
                "Starts of the PostgreSQL server",
            ),
            instances: registry.level(
                "postgres_broker_instances",
                "Databases of service instances",
            ),
            read_only: registry.level(
                "postgres_broker_read_only_instances",
                "Databases that accept no writes because they exceed their plans",
            ),
            dumps: registry.counter("postgres_broker_dumps_total", "Dumps that were stored"),
            dump_failures: registry
                .counter("postgres_broker_dump_failures_total", "Dumps that failed"),
            dump_age: registry.level(
                "postgres_broker_oldest_dump_age_seconds",
                "Age of the newest dump of the instance whose newest dump is the oldest",
            ),
            server: readiness.need("PostgreSQL"),
        }
    }
}
