//! What this foundation does not have, said in the form that clients expect: empty lists, and clear refusals.

use super::prelude::*;

/// Collections that are always empty.
const COLLECTIONS: &[&str] = &[
    "service_instances",
    "service_route_bindings",
    "service_brokers",
    "service_offerings",
    "service_plans",
    "service_credential_bindings",
    "isolation_segments",
    "app_usage_events",
    "service_usage_events",
    "route_policies",
];

pub(super) fn routes() -> Router<Cc> {
    let mut routes = Router::new();
    for name in COLLECTIONS {
        routes = routes
            .route(&format!("/v3/{name}"), get(list).post(refuse))
            .route(&format!("/v3/{name}/{{guid}}"), get(missing));
    }
    routes
}

/// Query parameters are many and differ; with nothing to filter none is refused.
async fn list(State(cc): State<Cc>, _who: Principal, uri: Uri) -> ApiResult {
    Ok(ok(cc.short_list(uri.path(), Vec::new())))
}

async fn missing(_who: Principal, uri: Uri) -> ApiResult {
    Err(ApiError::not_found(&noun(&uri)))
}

async fn refuse(_who: Principal, uri: Uri) -> ApiResult {
    Err(ApiError::unprocessable(format!(
        "{} is not supported yet",
        noun(&uri)
    )))
}

/// `/v3/service_instances/:guid` → `Service instance`.
fn noun(uri: &Uri) -> String {
    let name = uri
        .path()
        .split('/')
        .nth(2)
        .unwrap_or_default()
        .trim_end_matches('s')
        .replace('_', " ");
    let mut chars = name.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}
