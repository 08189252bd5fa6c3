//! The counters of drains: those of the original's agents in Prometheus' form, without a label for each drain.

use kit::metrics::{Counter, Registry};

/// The counters, which are cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// The messages that drains accepted.
    pub(crate) ingress: Counter,
    /// The messages that were delivered.
    pub(crate) egress: Counter,
    /// The messages that were dropped.
    pub(crate) dropped: Counter,
    pub(crate) refreshes: Counter,
    pub(crate) refresh_errors: Counter,
}

impl Metrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        Self {
            ingress: registry.counter(
                "syslog_agent_ingress_total",
                "Messages for log drains, one for each drain of an app",
            ),
            egress: registry.counter(
                "syslog_agent_egress_total",
                "Messages that were delivered to log drains",
            ),
            dropped: registry.counter(
                "syslog_agent_dropped_total",
                "Messages for log drains that were dropped",
            ),
            refreshes: registry.counter(
                "syslog_agent_binding_refresh_total",
                "Requests for the list of log drains",
            ),
            refresh_errors: registry.counter(
                "syslog_agent_binding_refresh_errors_total",
                "Requests for the list of log drains that failed",
            ),
        }
    }
}
