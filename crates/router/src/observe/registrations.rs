//! Counts and logs changes of the table, whichever source caused them: NATS ([`crate::bus`]) or the Routing API
//! ([`crate::route_fetcher`]).

use crate::worker::Shared;
use routing::registry::{Endpoint, EndpointSpec, Registered, Unregistered};
use std::time::Instant;

/// Logs a line about a route's endpoint.
macro_rules! log_endpoint {
    ($level:ident, $uri:expr, $endpoint:expr, $message:literal) => {{
        let spec = $endpoint.spec();
        tracing::$level!(
            uri = $uri,
            route_service_url = dash(spec.route_service_url),
            backend = $endpoint.address(),
            application_id = spec.app_id,
            instance_id = spec.instance_id,
            server_cert_domain_san = spec.server_cert_domain_san,
            protocol = spec.protocol.as_str(),
            "modification_tag.guid" = spec.modification_tag.guid,
            "modification_tag.index" = spec.modification_tag.index,
            isolation_segment = dash(spec.isolation_segment),
            "isTLS" = spec.tls,
            $message
        );
    }};
}

/// Counts and logs an endpoint that was registered at a uri.
pub(crate) fn registered(
    shared: &Shared,
    uri: &str,
    endpoint: &Endpoint,
    component: &str,
    outcome: Registered,
    now: Instant,
) {
    let action = match outcome {
        Registered::Added { .. } => "added",
        Registered::Updated => "updated",
        Registered::Refreshed => "refreshed",
        Registered::Unmodified => "unmodified",
        Registered::Refused => "refused",
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
            log_endpoint!(info, uri, endpoint, "endpoint-registered");
        }
        Registered::Updated | Registered::Refreshed => {
            log_endpoint!(debug, uri, endpoint, "endpoint-registered");
        }
        Registered::Unmodified => log_endpoint!(debug, uri, endpoint, "endpoint-not-registered"),
        Registered::Refused => {
            shared.metrics.component_routes_refused.add(1);
            log_endpoint!(warn, uri, endpoint, "component-route-refused");
        }
    }
    let is_new = matches!(outcome, Registered::Added { .. } | Registered::Updated);
    if is_new && endpoint.is_component() {
        for evicted in shared.registry.evict_apps(uri, now) {
            shared.metrics.component_routes_refused.add(1);
            log_endpoint!(
                warn,
                evicted.uri,
                evicted.endpoint,
                "component-route-evicted"
            );
        }
    }
}

/// Counts and logs the end of a route that had only been kept for its next endpoint.
pub(crate) fn forgotten(shared: &Shared, uri: &str) {
    shared.metrics.routes_unregistered.add(1);
    tracing::info!(uri, "route-unregistered");
}

fn dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// Counts and logs a request to remove an endpoint from a uri's pool.
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
        Unregistered::Refused => {
            shared.metrics.component_routes_refused.add(1);
            tracing::warn!(
                uri,
                backend,
                application_id = spec.app_id,
                "component-route-not-unregistered"
            );
        }
    }
}
