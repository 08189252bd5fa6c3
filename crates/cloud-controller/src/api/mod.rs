//! The HTTP surface. Each noun has one file, which parses, authorises and presents; the verbs are in `actions`.
//!
//! How an endpoint is added:
//! 1. Register it in its noun's `routes` with all that it accepts ([`endpoint`]): parameters, the keys of its body.
//! 2. Fetch every row with the right that the caller needs ([`lookup`]): `who.find` for guids in the path, `who.named` and its
//!    siblings for guids in the body, `who.visible` for lists. For a new table, define in `db::sight` who sees it.
//! 3. Change something only within `cc.change()` ([`crate::change`]): mark what must follow, and commit with the audit trail.
//! 4. Give it a row in `tests/it/role_table`; the test fails without one.

mod body;
mod endpoint;
mod fields;
mod guard;
mod label_selector;
mod lookup;
mod managed_instance;
mod present;
mod query;
mod quota_limits;

mod app;
mod app_feature;
mod audit_event;
mod build;
mod buildpack;
mod deployment;
mod destination;
mod domain;
mod droplet;
mod environment_group;
mod feature_flag;
mod info;
mod isolation_segment;
mod job;
mod manifest;
pub(crate) mod network_policy;
mod organization;
mod organization_quota;
mod package;
mod process;
mod role;
mod route;
mod route_policy;
mod route_propagation;
mod security_group;
mod service_broker;
mod service_credential_binding;
mod service_instance;
mod service_instance_share;
mod service_offering;
mod service_plan;
mod service_plan_visibility;
mod service_route_binding;
mod service_usage_event;
mod sidecar;
mod space;
mod space_quota;
mod stack;
pub(crate) mod syslog_drain;
mod task;
mod uaa_users;
mod upload;
mod usage_event;
mod user;
pub(crate) mod why;

use crate::controller::Cc;
use crate::error::ApiError;
use crate::request_id;
use axum::Router;
use axum::extract::Request;
pub use endpoint::ApiEndpoint;
use endpoint::Endpoints;
use http::Uri;
use http::uri::PathAndQuery;
use tower::util::MapRequest;

/// Returns the router of the whole API. A trailing slash makes no difference.
pub(crate) fn router(cc: Cc) -> Router {
    let routes = endpoints()
        .router(&cc)
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .with_state(cc)
        .layer(axum::middleware::from_fn(request_id::keep));
    Router::new().fallback_service(MapRequest::new(routes, without_trailing_slash))
}

/// Returns every endpoint, for tests that walk over all of them.
pub fn described() -> Vec<ApiEndpoint> {
    endpoints().described()
}

fn endpoints() -> Endpoints {
    Endpoints::default()
        .merge(info::routes())
        .merge(organization::routes())
        .merge(space::routes())
        .merge(role::routes())
        .merge(user::routes())
        .merge(domain::routes())
        .merge(route::routes())
        .merge(destination::routes())
        .merge(route_policy::routes())
        .merge(route_propagation::routes())
        .merge(app::routes())
        .merge(app_feature::routes())
        .merge(manifest::routes())
        .merge(process::routes())
        .merge(sidecar::routes())
        .merge(package::routes())
        .merge(build::routes())
        .merge(droplet::routes())
        .merge(deployment::routes())
        .merge(task::routes())
        .merge(job::routes())
        .merge(audit_event::routes())
        .merge(stack::routes())
        .merge(buildpack::routes())
        .merge(feature_flag::routes())
        .merge(environment_group::routes())
        .merge(security_group::routes())
        .merge(service_broker::routes())
        .merge(service_offering::routes())
        .merge(service_plan::routes())
        .merge(service_plan_visibility::routes())
        .merge(service_instance::routes())
        .merge(service_instance_share::routes())
        .merge(service_credential_binding::routes())
        .merge(service_route_binding::routes())
        .merge(organization_quota::routes())
        .merge(space_quota::routes())
        .merge(usage_event::routes())
        .merge(service_usage_event::routes())
        .merge(isolation_segment::routes())
        .merge(network_policy::routes())
        .merge(why::routes())
}

/// Answers an unknown request. Outside of `/v3` errors have the older form.
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

/// The imports that most handlers need.
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
    /// A handler that reads a row by itself would also decide by itself who may see it.
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
