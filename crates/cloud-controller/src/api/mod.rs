//! The HTTP surface: one file per noun, each parsing, authorising and presenting; the verbs are in `actions`.
//!
//! How an endpoint is added:
//! 1. Register it in its noun's `routes` with all that it accepts ([`endpoint`]): parameters, the keys of its body.
//! 2. Fetch every row with the right that the caller needs ([`lookup`]): `who.find` for guids in the path, `who.named` and its
//!    siblings for guids in the body, `who.visible` for lists. A new table says in `db::sight` who sees it.
//! 3. Give it a row in `tests/it/role_table`; the test fails without one.

mod body;
mod endpoint;
pub(crate) mod guard;
mod label_selector;
mod lookup;
mod present;
mod query;

mod app_features;
mod apps;
mod audit_events;
mod builds;
mod deployments;
mod destinations;
mod domains;
mod droplets;
mod empty;
mod info;
mod isolation_segments;
mod jobs;
mod manifests;
pub(crate) mod network_policies;
mod organizations;
pub(crate) mod packages;
mod platform;
mod processes;
mod quotas;
mod roles;
mod route_policies;
mod routes;
mod security_groups;
mod sidecars;
mod space_quotas;
mod spaces;
mod stacks;
mod tasks;
mod uaa_users;
mod uploads;
mod usage_events;
mod users;

use crate::controller::Cc;
use crate::error::ApiError;
use axum::Router;
use axum::extract::Request;
pub use endpoint::Endpoint;
use endpoint::Endpoints;
use http::Uri;
use http::uri::PathAndQuery;
use tower::util::MapRequest;

/// All of the API. A trailing slash makes no difference.
pub(crate) fn router(cc: Cc) -> Router {
    let routes = endpoints()
        .router(&cc)
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .with_state(cc);
    Router::new().fallback_service(MapRequest::new(routes, without_trailing_slash))
}

/// Every endpoint, for tests that walk over all of them.
pub fn described() -> Vec<Endpoint> {
    endpoints().described()
}

fn endpoints() -> Endpoints {
    Endpoints::default()
        .merge(info::routes())
        .merge(organizations::routes())
        .merge(spaces::routes())
        .merge(roles::routes())
        .merge(users::routes())
        .merge(domains::routes())
        .merge(routes::routes())
        .merge(destinations::routes())
        .merge(route_policies::routes())
        .merge(apps::routes())
        .merge(app_features::routes())
        .merge(manifests::routes())
        .merge(processes::routes())
        .merge(sidecars::routes())
        .merge(packages::routes())
        .merge(builds::routes())
        .merge(droplets::routes())
        .merge(deployments::routes())
        .merge(tasks::routes())
        .merge(jobs::routes())
        .merge(audit_events::routes())
        .merge(stacks::routes())
        .merge(platform::routes())
        .merge(security_groups::routes())
        .merge(quotas::routes())
        .merge(space_quotas::routes())
        .merge(usage_events::routes())
        .merge(isolation_segments::routes())
        .merge(network_policies::routes())
        .merge(empty::routes())
}

/// Outside of `/v3` errors have the older form.
async fn unknown(uri: Uri) -> axum::response::Response {
    use axum::response::IntoResponse as _;
    if uri.path() != "/v3" && !uri.path().starts_with("/v3/") {
        let body = serde_json::json!({ "code": 10000, "error_code": "CF-NotFound", "description": "Unknown request" });
        return (http::StatusCode::NOT_FOUND, axum::Json(body)).into_response();
    }
    ApiError::unknown_request().into_response()
}

fn without_trailing_slash(mut request: Request) -> Request {
    let uri = request.uri();
    let path = uri.path().trim_end_matches('/');
    if path.len() == uri.path().len() || path.is_empty() {
        return request;
    }
    let text = uri
        .query()
        .map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    if let Ok(path_and_query) = text.parse::<PathAndQuery>() {
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = Some(path_and_query);
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    request
}

/// What most handlers need.
mod prelude {
    pub(super) use super::body::Body;
    pub(super) use super::endpoint::Endpoints;
    pub(super) use super::lookup::{Found, Scope};
    pub(super) use super::present::{created, no_content, ok, resource, to_many, to_one};
    pub(super) use super::query::Query;
    pub(super) use crate::auth::{Principal, Right};
    pub(super) use crate::controller::Cc;
    pub(super) use crate::db::{self, Connection, Unrecorded};
    pub(super) use crate::error::{ApiError, ApiResult};
    pub(super) use axum::extract::{Path, State};
    pub(super) use http::Uri;
    pub(super) use serde_json::{Value, json};
}

#[cfg(test)]
mod tests {
    /// A handler that reads a row by itself decides by itself who may see it.
    #[test]
    fn handlers_reach_rows_through_lookup_alone() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api");
        let mut files = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if ["lookup.rs", "endpoint.rs", "mod.rs"].contains(&name.as_str()) {
                continue;
            }
            files += 1;
            let text = std::fs::read_to_string(&path).unwrap();
            for forbidden in [
                "by_guid(",
                "by_guid::",
                "Select::",
                "::Select",
                "who.load",
                "Router::new",
            ] {
                assert!(
                    !text.contains(forbidden),
                    "{name} uses {forbidden}: fetch the row with who.find, who.named or who.visible (see api/lookup.rs)"
                );
            }
        }
        assert!(files > 20);
    }
}
