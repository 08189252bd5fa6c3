//! Asks the components of a foundation about one URL, and returns what they show as [`why::Facts`].
//!
//! It only reads, it decides nothing, and it never fails as a whole: what a component does not answer within some seconds becomes
//! the reason why that fact is missing. The binary calls it for `cupola why`, the Cloud Controller for `GET /v3/why`.
//!
//! ```text
//!   bus, routers (page and a request) ─┐
//!   cloud-controller ─▶ bbs ─▶ reps ───┴─▶ why::Facts ─▶ why::explain
//! ```

mod bus;
mod diego;
mod routers;
mod stored;

pub use diego::Diego;
pub use routers::RouterAddress;
pub use stored::stored_route;

use std::fmt::Display;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use why::{Answer, Facts};
use wire::cc::StoredRoute;

/// The time limit of one question.
pub(crate) const LIMIT: Duration = Duration::from_secs(5);

/// The components that are asked.
#[derive(Debug)]
pub struct Survey {
    pub diego: Diego,
    /// The routers. It may be empty, if the caller does not know them.
    pub routers: Vec<RouterAddress>,
    /// The servers of the message bus, as `host:port`. If there are none, the bus is not asked.
    pub bus: Vec<String>,
}

impl Survey {
    /// Returns what all components show about a URL. `route`: what the Cloud Controller stores of it.
    pub async fn facts(&self, url: &str, route: Answer<Option<StoredRoute>>) -> Facts {
        let routers = futures::future::join_all(self.routers.iter().map(|router| router.ask(url)));
        let (diego, bus, routers) =
            tokio::join!(self.diego.ask(url, &route), bus::ask(&self.bus), routers);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Facts {
            url: url.to_owned(),
            now: now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX)),
            route,
            desired: diego.desired,
            actual: diego.actual,
            cells: diego.cells,
            inspections: diego.inspections,
            bus,
            routers,
        }
    }
}

/// Returns the answer, or the reason why there is none in time.
pub(crate) async fn within<T, E: Display>(
    question: impl Future<Output = Result<T, E>>,
) -> Answer<T> {
    match tokio::time::timeout(LIMIT, question).await {
        Ok(answer) => answer.map_err(|error| format!("{error:#}")),
        Err(_) => Err(format!("timed out after {} s", LIMIT.as_secs())),
    }
}
