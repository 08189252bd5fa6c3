//! The last lines of commands that change routes: on which routers each route is live. A foundation of Cloud Foundry whose API does
//! not know that shows nothing.

use crate::api::types::{Propagation, Route};
use crate::session::Session;
use std::time::{Duration, Instant};

/// The longest wait of a command for the routers.
const PATIENCE: Duration = Duration::from_secs(5);
/// The maximum number of routes that a command shows.
const MOST: usize = 10;

/// Waits until every router has the last change of these routes, and shows how far each has come.
pub(crate) async fn show(session: &Session, routes: &[Route]) {
    for line in lines(session, routes).await {
        session.ui.line(line);
    }
}

/// Shows it for all routes of an app, below an empty line.
pub(crate) async fn show_app(session: &Session, app_guid: &str) {
    let path = format!("/v3/apps/{app_guid}/routes");
    let Ok(routes) = session.list::<Route>(&path, &[]).await else {
        return;
    };
    for (at, line) in lines(session, &routes).await.into_iter().enumerate() {
        if at == 0 {
            session.ui.blank();
        }
        session.ui.line(line);
    }
}

async fn lines(session: &Session, routes: &[Route]) -> Vec<String> {
    let begun = Instant::now();
    let mut lines = Vec::new();
    for route in routes.iter().take(MOST) {
        let left = PATIENCE.saturating_sub(begun.elapsed());
        let path = format!(
            "/v3/routes/{}/propagation?wait={}ms",
            route.guid,
            left.as_millis()
        );
        // The route is changed already, so an error here does not fail the command.
        let Ok(propagation) = session.get::<Propagation>(&path).await else {
            break;
        };
        let is_known = !matches!(propagation.state.as_str(), "" | "unknown" | "internal");
        if is_known && !propagation.summary.is_empty() {
            let url = session.ui.named(&route.url);
            let summary = &propagation.summary;
            lines.push(format!("Route {url} is {summary}"));
        }
    }
    lines
}
