//! Passes requests of the page on to the Cloud Controller's public API, with the user's own token. Only some paths are passed on, and only
//! for reading.

use crate::refusal::{Answer, Refusal};
use crate::shared::Dash;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse as _, Response};

/// The longest answer that is passed on, in bytes.
const MOST: usize = 4 << 20;

pub(super) async fn relay(State(dash): State<Dash>, headers: HeaderMap, uri: Uri) -> Answer {
    let viewer = dash.viewer(&headers).await?;
    if !is_open(uri.path()) {
        let path = uri.path();
        return Err(Refusal::not_found(format!(
            "the dashboard does not pass {path} on: use {}{path}",
            dash.facts.api_url
        )));
    }
    let path = uri.path_and_query().map_or("", |path| path.as_str());
    let mut response = dash.cloud_controller.get(path, &viewer.token).await?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(anyhow::Error::from)? {
        if body.len() + chunk.len() > MOST {
            return Err(Refusal::bad_request(format!(
                "the answer is longer than {MOST} bytes: use a smaller per_page"
            )));
        }
        body.extend_from_slice(&chunk);
    }
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok::<Response, _>((status, headers, Body::from(body)).into_response())
}

/// Returns whether the page reads this path.
fn is_open(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_/".contains(c);
    path.chars().all(is_plain)
        && matches!(
            parts.as_slice(),
            ["v3", "why" | "routes" | "apps" | "audit_events"]
                | ["v3", "routes", _, "propagation" | "destinations"]
                | ["v3", "apps" | "routes", _]
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_page_reads_is_passed_on() {
        for open in [
            "/v3/why",
            "/v3/routes",
            "/v3/routes/guid/propagation",
            "/v3/audit_events",
            "/v3/apps/guid",
        ] {
            assert!(is_open(open), "{open}");
        }
        for closed in [
            "/v3/apps/guid/env",
            "/v3/apps/guid/environment_variables",
            "/v3/service_credential_bindings",
            "/v3/routes/a/b/propagation",
            "/v3",
            "/v3/why/../apps",
        ] {
            assert!(!is_open(closed), "{closed}");
        }
    }
}
