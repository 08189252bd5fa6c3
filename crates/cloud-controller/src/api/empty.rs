//! The collections that this foundation does not have, in the form that clients expect: empty lists, and clear refusals.

use super::prelude::*;

/// A collection that is always empty, and the parameters of its list.
struct Collection {
    path: &'static str,
    noun: &'static str,
    parameters: &'static [&'static str],
}

const COLLECTIONS: &[Collection] = &[Collection {
    path: "service_route_bindings",
    noun: "Service route binding",
    parameters: &[
        "route_guids",
        "service_instance_guids",
        "service_instance_names",
        "include",
    ],
}];

pub(super) fn routes() -> Endpoints {
    let mut endpoints = Endpoints::default();
    for collection in COLLECTIONS {
        let path = format!("/v3/{}", collection.path);
        let noun = collection.noun;
        endpoints = endpoints
            .get(&path, list)
            .lists(collection.parameters)
            .get(&format!("{path}/{{guid}}"), async move || {
                ApiResult::<axum::response::Response>::Err(ApiError::not_found(noun))
            })
            .post(&path, async move || {
                ApiResult::<axum::response::Response>::Err(ApiError::unsupported(format!(
                    "{noun} is not supported yet"
                )))
            })
            .raw();
    }
    endpoints
}

async fn list(State(cc): State<Cc>, query: Query) -> ApiResult {
    Ok(ok(cc.page(&query, query.empty(), Vec::new())))
}
