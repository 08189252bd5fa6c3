//! What a registration says of an endpoint, as far as requests need it.

use routing::registry::Endpoint;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) fn app_id(endpoint: &Endpoint) -> &str {
    &endpoint.spec().app_id
}

/// Empty when the registration gave none ([`Endpoint::instance_id`] then gives the address).
pub(crate) fn instance_guid(endpoint: &Endpoint) -> &str {
    &endpoint.spec().instance_id
}

pub(crate) fn instance_index(endpoint: &Endpoint) -> &str {
    &endpoint.spec().instance_index
}

pub(crate) fn component(endpoint: &Endpoint) -> &str {
    let tags = &endpoint.spec().tags;
    tags.get("component").map_or("", String::as_str)
}

/// Whose metrics a request at it belongs to.
pub(crate) fn source_id(endpoint: &Endpoint) -> &str {
    let spec = endpoint.spec();
    spec.tags
        .get("source_id")
        .map_or(&spec.app_id, String::as_str)
}

pub(crate) fn is_tls(endpoint: &Endpoint) -> bool {
    endpoint.spec().tls
}

pub(crate) fn tags(endpoint: &Endpoint) -> Arc<BTreeMap<String, String>> {
    endpoint.spec().tags.clone()
}
