//! The collections that this foundation does not have, in the form that clients expect: empty lists, and clear refusals.

use super::prelude::*;
use crate::flags::Flag;

/// A collection that is always empty, and the parameters of its list.
struct Collection {
    path: &'static str,
    noun: &'static str,
    parameters: &'static [&'static str],
    /// Whether its list needs no token.
    open: bool,
}

const COLLECTIONS: &[Collection] = &[
    Collection {
        path: "service_route_bindings",
        noun: "Service route binding",
        parameters: &[
            "route_guids",
            "service_instance_guids",
            "service_instance_names",
            "include",
        ],
        open: false,
    },
    Collection {
        path: "service_brokers",
        noun: "Service broker",
        parameters: &["names", "space_guids"],
        open: false,
    },
    Collection {
        path: "service_offerings",
        noun: "Service offering",
        parameters: &[
            "names",
            "available",
            "service_broker_guids",
            "service_broker_names",
            "space_guids",
            "organization_guids",
            "fields[service_broker]",
        ],
        open: true,
    },
    Collection {
        path: "service_plans",
        noun: "Service plan",
        parameters: &[
            "names",
            "available",
            "broker_catalog_ids",
            "service_broker_guids",
            "service_broker_names",
            "service_offering_guids",
            "service_offering_names",
            "service_instance_guids",
            "space_guids",
            "organization_guids",
            "include",
            "fields[service_offering.service_broker]",
        ],
        open: true,
    },
];

pub(super) fn routes() -> Endpoints {
    let mut endpoints = Endpoints::default();
    for collection in COLLECTIONS {
        let path = format!("/v3/{}", collection.path);
        let hidden = || Flag::HideMarketplaceFromUnauthenticatedUsers;
        endpoints = endpoints.get(&path, list).lists(collection.parameters);
        if collection.open {
            endpoints = endpoints.open_unless(hidden());
        }
        let noun = collection.noun;
        endpoints = endpoints.get(&format!("{path}/{{guid}}"), async move || {
            ApiResult::<axum::response::Response>::Err(ApiError::not_found(noun))
        });
        if collection.open {
            endpoints = endpoints.open_unless(hidden());
            continue;
        }
        endpoints = endpoints
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
