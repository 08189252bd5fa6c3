//! The metrics of the proxy.

use kit::metrics::{Counter, InFlight, Registry};

#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// The logins that were let in, and those that were not, by the side that was at fault.
    pub(crate) granted: Counter,
    pub(crate) refused: Counter,
    pub(crate) failed: Counter,
    /// The connections that were closed because there were too many.
    pub(crate) too_many: Counter,
    pub(crate) sessions: InFlight,
}

impl Metrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        Self {
            granted: registry.counter(
                "ssh_proxy_logins_granted_total",
                "Logins that reached an instance",
            ),
            refused: registry.counter(
                "ssh_proxy_logins_refused_total",
                "Logins with a wrong name or code, or without the right",
            ),
            failed: registry.counter(
                "ssh_proxy_logins_failed_total",
                "Logins that failed because a component or the instance did not answer",
            ),
            too_many: registry.counter(
                "ssh_proxy_connections_refused_total",
                "Connections that were closed because too many were open",
            ),
            sessions: registry.in_flight("ssh_proxy_sessions", "Clients that are logged in"),
        }
    }
}
