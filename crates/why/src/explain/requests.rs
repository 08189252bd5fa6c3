//! The hops of a client at one router: the certificate that the router presents to it, and the answer to a request.

use super::{Hops, failures, normal};
use crate::component::Component::{self, App, Client, RouteService};
use crate::explanation::{Advice, Verdict};
use crate::facts::{Answer, Facts, Probe, Router};
use wire::rep::InspectedCertificate;

/// Adds the hops of a client at a router, as far as they were tried.
pub(super) fn check(facts: &Facts, router: &Router, hops: &mut Hops) {
    if let Some(front) = &router.front {
        let (found, verdict) = front_verdict(facts, router, front);
        let hop = (Component::Router, "certificate");
        hops.add(hop, &router.name, found, verdict);
    }
    match &router.probe {
        None => {}
        Some(Ok(probe)) => check_answer(router, probe, hops),
        Some(Err(problem)) => check_silence(router, problem, hops),
    }
}

/// Judges the certificate that the router presents for the host.
fn front_verdict(
    facts: &Facts,
    router: &Router,
    front: &Answer<InspectedCertificate>,
) -> (String, Verdict) {
    let name = &router.name;
    let certificate = match front {
        Ok(certificate) => certificate,
        Err(problem) => {
            let verdict = Verdict::wrong(
                format!(
                    "The router {name} does not complete a TLS handshake with clients: {problem}."
                ),
                "See its listener for HTTPS (router.https) and its log.",
            );
            return (String::new(), verdict);
        }
    };
    let url = normal(&facts.url);
    let host = url.split('/').next().unwrap_or_default();
    let names = certificate.names.join(", ");
    let left = certificate.not_after - facts.now;
    let remedy = "Give the router a certificate for the host: router.cert and router.key.";
    let verdict = if left <= 0 {
        let reason = format!(
            "The certificate of router {name} for clients expired {} s ago.",
            -left
        );
        Verdict::wrong(reason, remedy)
    } else if certificate.not_before > facts.now {
        let early = certificate.not_before - facts.now;
        let reason =
            format!("The certificate of router {name} for clients is valid in {early} s only.");
        Verdict::wrong(
            reason,
            "Set the clocks of the machines, and run an NTP client.",
        )
    } else if !certificate.names.iter().any(|name| covers(name, host)) {
        let reason =
            format!("The certificate of router {name} is for {names}, and not for {host}.");
        Verdict::wrong(reason, remedy)
    } else {
        Verdict::Right
    };
    (format!("{names}, valid for {left} s"), verdict)
}

/// Returns whether a certificate's name covers a host. A wildcard stands for one label.
fn covers(name: &str, host: &str) -> bool {
    let above = host.split_once('.').map(|(_, domain)| domain);
    match name.strip_prefix("*.") {
        Some(domain) => above.is_some_and(|above| above.eq_ignore_ascii_case(domain)),
        None => name.eq_ignore_ascii_case(host),
    }
}

/// Adds the hop of a request without an answer. A router whose page answers is not to blame for a request that it forwarded.
fn check_silence(router: &Router, problem: &str, hops: &mut Hops) {
    let name = &router.name;
    let view = router.view.as_ref().ok();
    let (component, verdict) = match view.filter(|_| problem.contains("timed out")) {
        Some(view) if view.is_starting => (
            Component::Router,
            Verdict::waits(
                format!(
                    "The router {name} holds the request until the first instance has started."
                ),
                "Wait until the app has started, and see its log.",
            ),
        ),
        Some(view) if !view.route_service_url.is_empty() => (
            RouteService,
            Verdict::wrong(
                format!(
                    "No answer came through router {name}, which sends requests to the route service {} first: {problem}.",
                    view.route_service_url
                ),
                "See whether the route service answers in time, or unbind it from the route.",
            ),
        ),
        Some(_) => (
            App,
            Verdict::wrong(
                format!("The app does not answer a request through router {name}: {problem}."),
                "See what the app waits for: cupola cf logs APP --recent, and cupola exec APP/0 -- curl -m 5 localhost:8080.",
            ),
        ),
        None => (
            Component::Router,
            Verdict::wrong(
                format!("The router {name} does not answer a request: {problem}."),
                "See whether its process runs and has not been paused, whether it listens for HTTP (router.http), and its log.",
            ),
        ),
    };
    hops.add((component, "answer"), name, "", verdict);
}

/// Adds the hop of an answer. Any answer of the app is right, whatever its status.
fn check_answer(router: &Router, probe: &Probe, hops: &mut Hops) {
    let found = format!("{} in {} ms", probe.status, probe.milliseconds);
    if probe.router_error.is_empty() {
        hops.add((Client, "answer"), &router.name, found, Verdict::Right);
        return;
    }
    let (mut component, mut advice) = failures::meaning(probe.status, &probe.router_error);
    let mut services = router.view.iter().map(|view| &view.route_service_url);
    // The router reports a route service that fails as an endpoint that fails.
    if let Some(service) = services.find(|url| !url.is_empty())
        && !matches!(component, Component::Router | Client)
    {
        component = RouteService;
        advice = Advice::new(
            format!("The route service {service} fails: {}.", probe.router_error),
            "Start the route service, or unbind it from the route.",
        );
    }
    let found = format!("{found}: {}", probe.router_error);
    hops.add(
        (component, "answer"),
        &router.name,
        found,
        Verdict::Wrong(advice),
    );
}
