//! The metrics of the dashboard, and its needs.

use kit::metrics::{Counter, Registry};
use kit::readiness::{Need, Readiness};

#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// The users that signed in, and the attempts that failed.
    pub(crate) sign_ins: Counter,
    pub(crate) sign_in_failures: Counter,
    /// The requests that were followed through the routers.
    pub(crate) taps: Counter,
    /// The changes that a stream left out because its reader was too slow.
    pub(crate) skipped: Counter,
    pub(crate) bbs: Need,
    pub(crate) bus: Need,
}

impl Metrics {
    pub(crate) fn new(registry: &mut Registry, readiness: &Readiness) -> Self {
        Self {
            sign_ins: registry.counter("dashboard_sign_ins_total", "Users that signed in"),
            sign_in_failures: registry.counter(
                "dashboard_sign_in_failures_total",
                "Attempts to sign in that failed after the UAA's page",
            ),
            taps: registry.counter(
                "dashboard_taps_total",
                "Requests that users followed through the routers",
            ),
            skipped: registry.counter(
                "dashboard_stream_skipped_total",
                "Changes that a stream left out because more came than a page shows",
            ),
            bbs: readiness.need("the BBS"),
            bus: readiness.need("the message bus"),
        }
    }
}
