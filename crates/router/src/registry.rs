//! What a change of the table counts as and how it is logged, whichever source asked for it: NATS ([`crate::bus`]) or the
//! Routing API ([`crate::route_fetcher`]).

use crate::router::Shared;
use routing::registry::{Endpoint, EndpointSpec, Registered, Unregistered};

/// An endpoint was put under a uri.
pub(crate) fn registered(
    shared: &Shared,
    uri: &str,
    endpoint: &Endpoint,
    component: &str,
    outcome: Registered,
) {
    let action = match outcome {
        Registered::Added { .. } => "added",
        Registered::Updated => "updated",
        Registered::Refreshed => "refreshed",
        Registered::Unmodified => "unmodified",
    };
    let label = (component.to_owned(), action);
    shared.metrics.registry_message.add(&label);
    match outcome {
        Registered::Added { new_route } => {
            shared.holds.arrived(uri);
            if new_route {
                shared.metrics.routes_registered.add(1);
                tracing::info!(uri, "route-registered");
            }
            log_added(uri, endpoint);
        }
        Registered::Unmodified => {
            tracing::debug!(uri, backend = endpoint.address(), "endpoint-not-registered");
        }
        Registered::Updated | Registered::Refreshed => {}
    }
}

fn log_added(uri: &str, endpoint: &Endpoint) {
    let spec = endpoint.spec();
    tracing::info!(
        uri,
        route_service_url = dash(spec.route_service_url),
        backend = endpoint.address(),
        application_id = spec.app_id,
        instance_id = spec.instance_id,
        server_cert_domain_san = spec.server_cert_domain_san,
        protocol = spec.protocol.as_str(),
        isolation_segment = dash(spec.isolation_segment),
        "isTLS" = spec.tls,
        "endpoint-registered"
    );
}

fn dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// An endpoint was to be taken out of a uri's pool.
pub(crate) fn unregistered(shared: &Shared, uri: &str, spec: &EndpointSpec, outcome: Unregistered) {
    let component = spec.tags.get("component").map_or("", String::as_str);
    shared.metrics.unregistry_message.add(component);
    let backend = spec.address();
    match outcome {
        Unregistered::Removed { route_gone } => {
            tracing::info!(
                uri,
                backend,
                application_id = spec.app_id,
                instance_id = spec.instance_id,
                "endpoint-unregistered"
            );
            if route_gone {
                shared.metrics.routes_unregistered.add(1);
                tracing::info!(uri, "route-unregistered");
            }
        }
        Unregistered::NotFound => {
            tracing::info!(uri, backend, "endpoint-not-unregistered");
        }
    }
}
