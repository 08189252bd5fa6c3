//! The meaning of a router's own answers: the component to which a status with its `X-Cf-RouterError` points, the reason and the
//! remedy.

use crate::component::Component::{self, App, Client, Envoy, Iptables, RouteService, Router};
use crate::explanation::{Advice, Failure};
use crate::facts::Facts;

/// The most failing requests that are shown.
const SHOWN: usize = 10;

/// Returns the last failing requests of all routers, newest first, with their meaning.
pub(super) fn recent(facts: &Facts) -> Vec<Failure> {
    let mut failures = Vec::new();
    for router in &facts.routers {
        let Ok(view) = &router.view else { continue };
        failures.extend(view.failures.iter().map(|failure| {
            let (component, advice) = meaning(failure.status, &failure.error);
            Failure {
                router: router.name.clone(),
                age: failure.age,
                status: failure.status,
                error: failure.error.clone(),
                request_id: failure.request_id.clone(),
                path: failure.path.clone(),
                endpoint: failure.endpoint.clone(),
                component,
                advice,
            }
        }));
    }
    failures.sort_by(|a, b| a.age.total_cmp(&b.age));
    failures.truncate(SHOWN);
    failures
}

/// Returns the component to which an answer of a router points, and why.
pub(super) fn meaning(status: u16, error: &str) -> (Component, Advice) {
    if let Some(fault) = error.strip_prefix("endpoint_failure") {
        return of_endpoint(status, fault.trim_matches([' ', '(', ')']));
    }
    let (component, reason, remedy) = match (status, error) {
        (404, "unknown_route") => (
            Router,
            "The router's table had no such route.",
            "Map the route, or wait until it has reached the router.",
        ),
        (400, "unknown_route") => (
            Client,
            "The request named an instance that the route does not have.",
            "Leave the instance header out, or name an index that runs.",
        ),
        (503, "no_endpoints") => (
            Router,
            "The route had no instance: all have stopped or crashed, or none has started yet.",
            "Start the app, and see its log.",
        ),
        (503, "Connection Limit Reached") => (
            Router,
            "All instances had as many requests as the router's limit of connections permits.",
            "Scale the app out, make it answer faster, or raise the limit of the router.",
        ),
        (502 | 503, "route_service_unsupported") => (
            RouteService,
            "The route is bound to a route service, and the router cannot serve such a request.",
            "Enable route services on the router, or unbind the service.",
        ),
        (500, "") => (
            RouteService,
            "The request for the route service could not be made.",
            "See the router's log.",
        ),
        (400, "invalid_route_service_signature") | (502, "") => (
            RouteService,
            "The route service returned a signature that is not valid.",
            "Let the service pass on X-CF-Proxy-Signature and X-CF-Proxy-Metadata as it received them.",
        ),
        (504, _) => (
            RouteService,
            "The signature of the route service had expired, or the time limit had passed.",
            "Make the service faster, or raise the router's time limit.",
        ),
        (403, _) => (
            Client,
            "The route's policy does not admit the caller.",
            "Add a route policy for the calling app.",
        ),
        (421, _) => (
            Client,
            "The client sent a request for one domain over a connection for another, or for a domain of identities without TLS.",
            "Let the client open a connection of its own for each domain, over TLS and with its certificate where callers have identities.",
        ),
        (499, _) => (
            Client,
            "The client went away before the answer.",
            "Raise the client's time limit, or make the app faster.",
        ),
        (431, _) => (
            Client,
            "The request's head was larger than the router permits.",
            "Send fewer or shorter headers and cookies.",
        ),
        (400 | 408, _) => (
            Client,
            "The request was malformed, or its body did not arrive.",
            "See the text of the answer.",
        ),
        _ => (
            Router,
            "The router itself answered with an error.",
            "See the router's log for the request's id.",
        ),
    };
    (component, Advice::new(reason, remedy))
}

const RESTART: &str = "Restart the instance: cupola cf restart-app-instance APP INDEX.";

/// Returns the meaning of a fault of an endpoint.
fn of_endpoint(status: u16, fault: &str) -> (Component, Advice) {
    let has = |text: &str| fault.contains(text);
    let (component, reason, remedy): (Component, String, &str) = match status {
        526 => (
            Envoy,
            format!("The instance's certificate is not valid: {fault}."),
            "See the clocks of router and cell, and whether the certificate has expired; a restart of the instance makes a new one.",
        ),
        525 => (
            Envoy,
            format!("The instance's port does not speak TLS: {fault}."),
            RESTART,
        ),
        496 => (
            Envoy,
            format!("The instance's Envoy refused the router's certificate: {fault}."),
            "See that the router's certificate is valid and of the CA that cells trust.",
        ),
        503 => (
            Iptables,
            format!("The port of the cell led to another instance: {fault}."),
            "See the DNAT rules of the cell; the router has removed the endpoint and registers it again with the next message.",
        ),
        504 => (
            App,
            format!("The app did not answer in time: {fault}."),
            "Make the app faster, or raise the router's time limit.",
        ),
        _ if has("too many open files") || has("cannot assign requested address") => (
            Router,
            format!(
                "The router's machine has no file or port left for another connection: {fault}."
            ),
            "Raise the limit of open files of the router (ulimit -n), and see who holds so many connections: ss -s.",
        ),
        499 => (
            Client,
            "The client went away before the answer.".to_owned(),
            "Raise the client's time limit, or make the app faster.",
        ),
        _ if has("connection refused") => (
            Iptables,
            format!("Nothing accepts connections at the instance's port of the cell: {fault}."),
            "See whether the DNAT rule leads to the container and whether Envoy listens.",
        ),
        _ if has("handshake timeout") => (
            Envoy,
            format!("Envoy accepts connections and does not answer: {fault}."),
            RESTART,
        ),
        _ if has("dial tcp") => (
            Iptables,
            format!("The cell cannot be reached at the instance's port: {fault}."),
            "See whether the cell runs, and the firewalls between router and cell.",
        ),
        _ if has("context deadline") => (
            App,
            format!("The app did not answer in time: {fault}."),
            "Make the app faster, or raise the router's time limit.",
        ),
        _ if has("route service") => (
            RouteService,
            format!("The route service cannot be reached: {fault}."),
            "Start the route service, or unbind it from the route.",
        ),
        _ if has("reset") || has("EOF") => (
            App,
            format!("The app closed the connection before it answered: {fault}."),
            "See whether it crashed, and keep its idle connections open for longer than the router does (90 s).",
        ),
        _ if has("invalid response") || has("transport connection broken") => (
            App,
            format!("The app's answer is not valid HTTP: {fault}."),
            "See what it answers: cupola exec APP/0 -- curl -v localhost:8080.",
        ),
        _ if has("No endpoints available") => (
            Router,
            "All endpoints of the route had failed before.".to_owned(),
            "See the hops of each instance.",
        ),
        _ => (
            App,
            format!("The instance failed to answer: {fault}."),
            "See the app's log.",
        ),
    };
    (component, Advice::new(reason, remedy))
}
