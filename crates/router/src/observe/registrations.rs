//! Publishes changes of the table, whichever source caused them: NATS ([`crate::bus`]), the Routing API
//! ([`crate::route_fetcher`]), the pruner, or a request. [`publish`] is the list of those who read every change at once.

use super::feed::{Entry, Source};
use super::metrics::Metrics;
use crate::worker::Shared;
use route_table::registry::{
    Change, ChangeKind, Endpoint, Pruned, RefusedMessage, Registered, Registration, RouteChange,
    Unregistered,
};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// A message that asks for a change of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    pub(crate) source: Source,
    /// The component that sent the message, if the message names it.
    pub(crate) component: &'a str,
    /// The time at which the message is applied.
    pub(crate) now: Instant,
}

/// Publishes a change to all its readers.
fn publish(shared: &Shared, source: Source, change: Change) {
    let entry = Entry {
        at: SystemTime::now(),
        source,
        change,
    };
    if entry.change.kind == ChangeKind::Registered {
        shared.holds.arrived(&entry.change.uri);
    }
    count(&shared.metrics, &entry);
    log(&entry);
    shared.feed.push(entry);
}

/// Counts and publishes the registration of an endpoint at a uri. Apps leave the host of a component that came.
pub(crate) fn registered(
    shared: &Shared,
    message: &Message<'_>,
    uri: &str,
    endpoint: &Arc<Endpoint>,
    made: &Registration,
) {
    let outcome = made.outcome;
    let action = match outcome {
        Registered::Added { .. } => "added",
        Registered::Updated => "updated",
        Registered::Refreshed => "refreshed",
        Registered::Unmodified => "unmodified",
        Registered::Refused => "refused",
    };
    let label = (message.component.to_owned(), action);
    shared.metrics.registry_message.add(&label);
    match Change::registered(uri, endpoint, outcome) {
        Some(change) => {
            let change = change.replacing(made.replaced.clone());
            publish(shared, message.source, change);
        }
        None => log_unchanged(uri, endpoint, outcome),
    }
    let is_new = matches!(outcome, Registered::Added { .. } | Registered::Updated);
    if is_new && endpoint.is_component() {
        for evicted in shared.registry.evict_apps(uri, message.now) {
            publish(shared, message.source, Change::evicted(evicted));
        }
    }
}

/// Counts and publishes a request to remove an endpoint from a uri's pool. `endpoint` is the one that the message describes.
pub(crate) fn unregistered(
    shared: &Shared,
    message: &Message<'_>,
    uri: &str,
    endpoint: &Arc<Endpoint>,
    outcome: Unregistered,
) {
    shared.metrics.unregistry_message.add(message.component);
    match Change::unregistered(uri, endpoint, outcome) {
        Some(change) => publish(shared, message.source, change),
        None => {
            let backend = endpoint.address();
            tracing::info!(uri, backend, "endpoint-not-unregistered");
        }
    }
}

/// Publishes the refusal of an announcement that instances are starting.
pub(crate) fn start_refused(shared: &Shared, source: Source, uri: &str) {
    publish(shared, source, Change::start_refused(uri));
}

/// Publishes the end of a route that had only been kept for its next endpoint.
pub(crate) fn forgotten(shared: &Shared, source: Source, uri: &str) {
    publish(shared, source, Change::forgotten(uri));
}

/// Publishes the removal of an endpoint that was silent for too long.
pub(crate) fn pruned(shared: &Shared, pruned: Pruned) {
    publish(shared, Source::Pruner, Change::pruned(pruned));
}

/// Publishes the removal of an endpoint at which a request failed.
pub(crate) fn failed(shared: &Shared, uri: &str, endpoint: &Arc<Endpoint>) {
    publish(shared, Source::Request, Change::failed(uri, endpoint));
}

fn count(metrics: &Metrics, entry: &Entry) {
    match entry.change.kind {
        ChangeKind::Registered if entry.change.route == RouteChange::New => {
            metrics.routes_registered.add(1);
        }
        ChangeKind::Unregistered | ChangeKind::Forgotten
            if entry.change.route == RouteChange::Gone =>
        {
            metrics.routes_unregistered.add(1);
        }
        ChangeKind::Pruned if entry.source == Source::Pruner => metrics.routes_pruned.add(1),
        ChangeKind::Refused(_) | ChangeKind::Evicted => metrics.component_routes_refused.add(1),
        _ => {}
    }
}

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

fn dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// Logs a registration that changed nothing.
fn log_unchanged(uri: &str, endpoint: &Endpoint, outcome: Registered) {
    if outcome == Registered::Unmodified {
        log_endpoint!(debug, uri, endpoint, "endpoint-not-registered");
    } else {
        log_endpoint!(debug, uri, endpoint, "endpoint-registered");
    }
}

fn log(entry: &Entry) {
    let Change {
        kind,
        uri,
        endpoint,
        route,
        ..
    } = &entry.change;
    let uri = uri.as_str();
    let Some(endpoint) = endpoint else {
        return log_route(*kind, uri);
    };
    let (spec, backend) = (endpoint.spec(), endpoint.address());
    match kind {
        ChangeKind::Registered => {
            if *route == RouteChange::New {
                tracing::info!(uri, "route-registered");
            }
            log_endpoint!(info, uri, endpoint, "endpoint-registered");
        }
        ChangeKind::Changed => log_endpoint!(debug, uri, endpoint, "endpoint-registered"),
        ChangeKind::Unregistered => {
            tracing::info!(
                uri,
                backend,
                application_id = spec.app_id,
                instance_id = spec.instance_id,
                "endpoint-unregistered"
            );
            if *route == RouteChange::Gone {
                tracing::info!(uri, "route-unregistered");
            }
        }
        ChangeKind::Pruned if entry.source == Source::Pruner => tracing::info!(
            uri,
            backend,
            application_id = spec.app_id,
            route_gone = *route == RouteChange::Gone,
            "pruned-route"
        ),
        ChangeKind::Evicted => log_endpoint!(warn, uri, endpoint, "component-route-evicted"),
        ChangeKind::Refused(RefusedMessage::Unregistration) => tracing::warn!(
            uri,
            backend,
            application_id = spec.app_id,
            "component-route-not-unregistered"
        ),
        ChangeKind::Refused(_) => log_endpoint!(warn, uri, endpoint, "component-route-refused"),
        // The request that failed at an endpoint logs its removal together with the reason. A forgotten route has no endpoint.
        ChangeKind::Pruned | ChangeKind::Forgotten => {}
    }
}

/// Logs a change of a route without endpoints.
fn log_route(kind: ChangeKind, uri: &str) {
    if matches!(kind, ChangeKind::Refused(_)) {
        tracing::warn!(
            uri,
            "component-route-refused: an app's start was announced for a component's host"
        );
    } else {
        tracing::info!(uri, "route-unregistered");
    }
}
