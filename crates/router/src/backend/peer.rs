//! What a registration says of an endpoint, as far as requests need it.

use routing::registry::Endpoint;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) fn app_id(endpoint: &Endpoint) -> &str {
    endpoint.app_id()
}

/// Empty when the registration gave none ([`Endpoint::instance_id`] then gives the address).
pub(crate) fn instance_guid(endpoint: &Endpoint) -> &str {
    endpoint.spec().instance_id
}

pub(crate) fn instance_index(endpoint: &Endpoint) -> &str {
    endpoint.instance_index()
}

pub(crate) fn component(endpoint: &Endpoint) -> &str {
    endpoint.tag("component")
}

/// Whose metrics a request at it belongs to.
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
