//! Asks the components of a foundation about one URL, and returns what they show as [`why::Facts`].
//!
//! It only reads, it decides nothing, and it never fails as a whole: what a component does not answer within some seconds becomes
//! the reason why that fact is missing. The binary calls it for `cupola why`, the Cloud Controller for `GET /v3/why`.
//!
//! ```text
//!   bus, routers (page and a request) ─┐
//!   cloud-controller ─▶ bbs ─▶ reps ───┴─▶ why::Facts ─▶ why::explain
//! ```
//!
//! The routers are found on the bus: every router of ours answers there. The caller names only those that must be there, and original
//! ones, whose pages have another address.

mod bus;
mod diego;
mod front;
mod name;
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
    /// The routers whose pages the caller knows. Others are found on the bus.
    pub routers: Vec<RouterAddress>,
    /// The message bus. `None`: it is not asked, and no router is found there.
    pub bus: Option<clients::nats::Config>,
    /// The port at which clients of this machine reach the routers by the host's name; `None`: the name is not tried.
    pub name_port: Option<u16>,
}

impl Survey {
    /// Returns what all components show about a URL. `route`: what the Cloud Controller stores of it.
    pub async fn facts(&self, url: &str, route: Answer<Option<StoredRoute>>) -> Facts {
        let routers = futures::future::join_all(self.routers.iter().map(|router| router.ask(url)));
        let (diego, found, mut routers, name) = tokio::join!(
            self.diego.ask(url, &route),
            bus::views(self.bus.as_ref(), url),
            routers,
            self.name(url)
        );
        let others = routers::others(&routers, found.views);
        if !others.is_empty() {
            routers::forget_guesses(&self.routers, &mut routers);
        }
        let others = others.into_iter().map(|view| routers::found(view, url));
        routers.extend(futures::future::join_all(others).await);
        routers.extend(routers::silent(&route, &routers));
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Facts {
            url: url.to_owned(),
            now: now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX)),
            route,
            desired: diego.desired,
            actual: diego.actual,
            cells: diego.cells,
            inspections: diego.inspections,
            bus: found.server,
            name,
            routers,
        }
    }

    /// Tries the name of the URL's host.
    async fn name(&self, url: &str) -> Option<Answer<Vec<String>>> {
        let (host, _) = host_and_path(url);
        Some(name::addresses(host, self.name_port?).await)
    }
}

/// Returns the host of a URL without its port, and the path.
pub(crate) fn host_and_path(url: &str) -> (&str, &str) {
    let url = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (authority, path) = match url.find('/') {
        Some(at) => url.split_at(at),
        None => (url, "/"),
    };
    let host = authority.split(':').next().unwrap_or_default();
    (host, path)
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
