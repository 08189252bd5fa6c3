//! The values of an endpoint's registration that requests need.

use route_table::registry::Endpoint;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) fn app_id(endpoint: &Endpoint) -> &str {
    endpoint.app_id()
}

/// Returns the instance's guid; empty when the registration has none ([`Endpoint::instance_id`] then returns the address).
pub(crate) fn instance_guid(endpoint: &Endpoint) -> &str {
    endpoint.spec().instance_id
}

pub(crate) fn instance_index(endpoint: &Endpoint) -> &str {
    endpoint.instance_index()
}

pub(crate) fn component(endpoint: &Endpoint) -> &str {
    endpoint.tag("component")
}

/// Returns the source id to which the metrics of a request to this endpoint belong.
pub(crate) fn source_id(endpoint: &Endpoint) -> &str {
    match endpoint.tag("source_id") {
        "" => endpoint.app_id(),
        id => id,
    }
}

pub(crate) fn is_tls(endpoint: &Endpoint) -> bool {
    endpoint.is_tls()
}

pub(crate) fn tags(endpoint: &Endpoint) -> Arc<BTreeMap<String, String>> {
    Arc::new(endpoint.tags().to_map())
}
