//! The metrics of the UAA: the original's names in Prometheus' form.

use kit::metrics::{Counter, REQUEST_SECONDS, Registry, Requests};

#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) requests: Requests,
    pub(crate) user_authentications: Counter,
    pub(crate) user_authentication_failures: Counter,
    pub(crate) users_not_found: Counter,
    pub(crate) client_authentications: Counter,
    pub(crate) client_authentication_failures: Counter,
}

impl Metrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        Self {
            requests: Requests {
                answered: registry.counter(
                    "uaa_requests_global_completed_count_total",
                    "Requests that were answered",
                ),
                outstanding: registry.in_flight(
                    "uaa_server_inflight_count",
                    "Requests that are not answered yet",
                ),
                latency: registry.histogram(
                    "uaa_requests_global_completed_time_seconds",
                    "Time until the head of a response",
                    REQUEST_SECONDS,
                ),
            },
            user_authentications: registry.counter(
                "uaa_audit_service_user_authentication_count_total",
                "Users that logged in with their password",
            ),
            user_authentication_failures: registry.counter(
                "uaa_audit_service_user_authentication_failure_count_total",
                "Log-ins of known users that failed",
            ),
            users_not_found: registry.counter(
                "uaa_audit_service_user_not_found_count_total",
                "Log-ins of users that do not exist or are not active",
            ),
            client_authentications: registry.counter(
                "uaa_audit_service_client_authentication_count_total",
                "Clients that authenticated",
            ),
            client_authentication_failures: registry.counter(
                "uaa_audit_service_client_authentication_failure_count_total",
                "Clients that could not be authenticated",
            ),
        }
    }
}
