//! The last hops: the emitter of the instance's cell, the bus, each router's table, and a request through each router.

use super::diego::Instance;
use super::{
    CLOCK_TOLERANCE, Hops, SETTLED, after_commit, has_just_changed, normal, propagation, requests,
    serves,
};
use crate::component::Component::{self, Nats, RouteEmitter};
use crate::explanation::{Hop, Verdict};
use crate::facts::{Facts, Router};
use wire::cc::PropagationRouter;
use wire::router::{EndpointView, RouteView};

/// The least time in seconds after which an endpoint must have been registered again. Emitters repeat their messages every 20
/// seconds unless the routers announce another interval.
const SILENCE: f64 = 60.0;

/// Returns the time in seconds after which the router must have got a message about each endpoint again.
fn silence(view: &RouteView) -> f64 {
    SILENCE.max(3.0 * view.register_interval)
}

/// Adds the hops behind the cells.
pub(super) fn check(facts: &Facts, instances: &[Instance<'_>], hops: &mut Hops) {
    check_bus(facts, hops);
    let reachable: Vec<&Instance<'_>> = instances
        .iter()
        .filter(|instance| instance.is_running() && instance.actual.routable != Some(false))
        .collect();
    for instance in &reachable {
        check_emitter(facts, instance, hops);
    }
    for router in &facts.routers {
        match &router.view {
            Err(problem) => {
                let remedy = if problem.contains("status 401") {
                    "Its password for the operator's pages is not the foundation's: start it with the same plan."
                } else {
                    "See whether its process runs and has not been paused, and its log."
                };
                let verdict = Verdict::wrong(
                    format!("The router {} does not answer: {problem}.", router.name),
                    remedy,
                );
                hops.add((Component::Router, "page"), &router.name, "", verdict);
            }
            Ok(view) => {
                check_router(facts, router, view, &reachable, hops);
                check_strangers(facts, router, view, instances, hops);
            }
        }
        // A router of other isolation segments answers with 404, as it must.
        let view = router.view.as_ref().ok();
        let is_of_others = view.is_some_and(|view| {
            !reachable.is_empty() && !reachable.iter().any(|instance| accepts(view, instance))
        });
        if !is_of_others {
            requests::check(facts, router, hops);
        }
    }
}

/// Adds the hop of the bus: it must accept connections, and messages must reach at least one router.
fn check_bus(facts: &Facts, hops: &mut Hops) {
    // A router that is not connected receives nothing, which is its own fault.
    let views = || {
        let views = facts.routers.iter().flat_map(|router| &router.view);
        views.filter(|view| view.bus_is_connected != Some(false))
    };
    let youngest = views()
        .filter_map(|view| view.last_message_age)
        .min_by(f64::total_cmp);
    let limit = views().map(silence).fold(SILENCE, f64::max);
    let Some(bus) = &facts.bus else { return };
    let (found, verdict) = match bus {
        Err(problem) => (
            String::new(),
            Verdict::wrong(
                format!("The message bus does not answer: {problem}."),
                if problem.to_lowercase().contains("authorization") {
                    "Start nats-server with the user and the password of the foundation, or correct them where they were changed."
                } else {
                    "Start nats-server, and see its log."
                },
            ),
        ),
        Ok(server) if youngest.is_some_and(|age| age > limit) => (
            server.clone(),
            Verdict::wrong(
                format!(
                    "No message has reached a router for {:.0} s.",
                    youngest.unwrap_or_default()
                ),
                "See whether nats-server passes messages on, and whether emitters run.",
            ),
        ),
        Ok(server) => (server.clone(), Verdict::Right),
    };
    hops.push(Hop {
        age: youngest,
        ..Hop::new((Nats, "bus"), "", found, verdict)
    });
}

/// Returns the endpoint of an instance in a router's table: the one at its address, else one of its guid.
fn find<'v>(view: &'v RouteView, instance: &Instance<'_>) -> Option<&'v EndpointView> {
    let (address, _) = instance.address()?;
    let at = |endpoint: &&EndpointView| endpoint.address == address;
    let guid = &instance.actual.instance_guid;
    let mut endpoints = view.endpoints.iter();
    let named = || view.endpoints.iter().find(|e| e.instance_guid == *guid);
    endpoints.find(at).or_else(named)
}

/// Adds the hop of the emitter of the instance's cell. It is to blame if no connected router knows the instance, or if all of them
/// last got a message about it long ago.
fn check_emitter(facts: &Facts, instance: &Instance<'_>, hops: &mut Hops) {
    let receives = |view: &&RouteView| {
        view.bus_is_connected != Some(false)
            && view.last_message_age.is_none_or(|age| age <= silence(view))
            && accepts(view, instance)
            && !is_covered(facts, view)
    };
    let views = facts
        .routers
        .iter()
        .filter_map(|router| router.view.as_ref().ok());
    let views: Vec<&RouteView> = views.filter(receives).collect();
    let is_down = facts.bus.as_ref().is_some_and(Result::is_err);
    if is_down || views.is_empty() {
        return;
    }
    let known: Vec<&EndpointView> = views
        .iter()
        .filter_map(|view| find(view, instance))
        .collect();
    let age = known
        .iter()
        .filter_map(|endpoint| endpoint.message_age)
        .min_by(f64::total_cmp);
    let (name, cell) = (&instance.name, &instance.actual.cell_id);
    let limit = views
        .iter()
        .map(|view| silence(view))
        .fold(SILENCE, f64::max);
    let running = facts.now.saturating_sub(instance.actual.since);
    let remedy = format!("See whether the route-emitter of cell {cell} runs, and its log.");
    let has_failed = views.iter().any(|view| has_refused(view, instance));
    let verdict = if known.is_empty() && running <= SETTLED {
        Verdict::waits(
            format!("{name} runs for {running} s and is not registered yet."),
            remedy,
        )
    } else if known.is_empty() && !has_failed {
        Verdict::wrong(
            format!("No router has {name}: the emitter of cell {cell} does not register it."),
            remedy,
        )
    } else if age.is_some_and(|age| age > limit) {
        Verdict::wrong(
            format!(
                "The emitter of cell {cell} has not registered {name} for {:.0} s.",
                age.unwrap_or_default()
            ),
            remedy,
        )
    } else {
        Verdict::Right
    };
    let found = known.first().map_or_else(String::new, |endpoint| {
        format!("router.register {}", endpoint.address)
    });
    let published = propagation(facts).into_iter().flat_map(|p| &p.routers);
    let published = published.filter_map(|router| router.emitted_at_ns).min();
    hops.push(Hop {
        age,
        generation: known.iter().map(|e| e.generation).max().filter(|g| *g > 0),
        after_ms: after_commit(facts, published),
        ..Hop::new((RouteEmitter, "router.register"), name, found, verdict)
    });
}

/// Returns whether requests failed at the instance recently, which may have removed it from the table.
fn has_refused(view: &RouteView, instance: &Instance<'_>) -> bool {
    let Some((address, _)) = instance.address() else {
        return false;
    };
    let mut failures = view.failures.iter();
    failures.any(|failure| failure.age < SILENCE && failure.endpoint == address)
}

/// Returns whether the router takes routes of the instance's isolation segment.
fn accepts(view: &RouteView, instance: &Instance<'_>) -> bool {
    let segments = view.segments.as_ref();
    segments.is_none_or(|segments| segments.iter().any(|s| s == instance.isolation_segment))
}

fn check_router(
    facts: &Facts,
    router: &Router,
    view: &RouteView,
    instances: &[&Instance<'_>],
    hops: &mut Hops,
) {
    check_state(facts, router, view, hops);
    let part = (Component::Router, "bus");
    if view.bus_is_connected == Some(false) {
        let verdict = Verdict::wrong(
            format!(
                "The router {} is not connected to the message bus.",
                router.name
            ),
            "See that it reaches nats-server and that the password is right; its log has the reason.",
        );
        hops.add(part, &router.name, "", verdict);
    }
    check_segments(facts, router, view, instances, hops);
    check_route(facts, router, view, instances, hops);
    if is_covered(facts, view) {
        return;
    }
    let receipt = receipt(facts, view);
    for instance in instances.iter().filter(|instance| accepts(view, instance)) {
        let endpoint = find(view, instance);
        let verdict = verdict_of(facts, router, view, instance, endpoint);
        let subject = format!("{} for {}", router.name, instance.name);
        let found = endpoint.map_or_else(String::new, shown);
        let applied = receipt.and_then(|receipt| receipt.applied_at_ns);
        hops.push(Hop {
            age: endpoint.and_then(|endpoint| endpoint.message_age),
            generation: endpoint.map(|e| e.generation).filter(|g| *g > 0),
            after_ms: after_commit(facts, applied),
            ..Hop::new((Component::Router, "table"), &subject, found, verdict)
        });
    }
}

/// Returns what the Cloud Controller knows of the router's receipts about the route.
fn receipt<'a>(facts: &'a Facts, view: &RouteView) -> Option<&'a PropagationRouter> {
    let mut routers = propagation(facts)?.routers.iter();
    routers.find(|router| router.id == view.router)
}

/// Adds a hop if the router serves the URL by another route: by a longer one that is not stored, or by a shorter one because it lacks the
/// one that is.
fn check_route(
    facts: &Facts,
    router: &Router,
    view: &RouteView,
    instances: &[&Instance<'_>],
    hops: &mut Hops,
) {
    let Some((other, stored)) = other_route(facts, view) else {
        return;
    };
    if !instances.iter().any(|instance| accepts(view, instance)) {
        return;
    }
    let name = &router.name;
    let reason = format!(
        "The router {name} serves the URL by the route {other}, because its table lacks {stored}."
    );
    let verdict = if is_covered(facts, view) {
        Verdict::wrong(
            format!(
                "The router {name} serves the URL by the route {other}, which covers {stored} and is not stored."
            ),
            "Find the program that registers it on the bus: cupola nats sub router.register. It is also gone 120 s after its last message.",
        )
    } else if has_just_changed(facts) {
        Verdict::waits(reason, "Wait for a moment.")
    } else {
        Verdict::wrong(
            reason,
            "The next registration of an instance, within 20 s, repairs it; else see the router's log.",
        )
    };
    hops.add((Component::Router, "route"), &router.name, other, verdict);
}

/// Returns the route by which the router serves the URL and the one that is stored, if these are two.
fn other_route<'a>(facts: &'a Facts, view: &'a RouteView) -> Option<(&'a str, &'a str)> {
    let stored = facts.route.as_ref().ok()?.as_ref()?;
    let found = view.route.as_deref()?;
    let is_same = normal(found).eq_ignore_ascii_case(&normal(&stored.url));
    (!is_same).then_some((found, stored.url.as_str()))
}

/// Returns whether a route that is not stored covers the stored one for this URL: it is longer, or has a host in place of a wildcard.
fn is_covered(facts: &Facts, view: &RouteView) -> bool {
    let routes = other_route(facts, view);
    routes.is_some_and(|(found, stored)| serves(stored, found))
}

/// Adds a hop if the router is not in service, or if its clock is wrong. An original gorouter shows neither.
fn check_state(facts: &Facts, router: &Router, view: &RouteView, hops: &mut Hops) {
    let skew = view.now - facts.now;
    if view.now != 0 && skew.abs() > CLOCK_TOLERANCE {
        let direction = if skew > 0 { "ahead" } else { "behind" };
        let verdict = Verdict::wrong(
            format!(
                "The clock of router {} is {} s {direction}.",
                router.name,
                skew.abs()
            ),
            "Set the clock of the machine, and run an NTP client; certificates seem expired meanwhile.",
        );
        hops.add((Component::Router, "clock"), &router.name, "", verdict);
    }
    if view.is_healthy == Some(false) {
        let verdict = Verdict::wrong(
            format!("The router {} is starting or draining.", router.name),
            "Wait until it is in service, or start it again.",
        );
        hops.add((Component::Router, "health"), &router.name, "", verdict);
    }
}

fn shown(endpoint: &EndpointView) -> String {
    let EndpointView {
        address,
        tls,
        in_flight,
        ..
    } = endpoint;
    format!("{address} tls={tls}, {in_flight} requests")
}

/// Adds a hop if no router serves the isolation segment of the instances.
fn check_segments(
    facts: &Facts,
    router: &Router,
    view: &RouteView,
    instances: &[&Instance<'_>],
    hops: &mut Hops,
) {
    let Some(instance) = instances.iter().find(|instance| !accepts(view, instance)) else {
        return;
    };
    let views = || {
        facts
            .routers
            .iter()
            .filter_map(|router| router.view.as_ref().ok())
    };
    let verdict = if views().any(|view| accepts(view, instance)) {
        Verdict::Right
    } else {
        Verdict::wrong(
            format!(
                "No router serves the isolation segment {:?} of {}.",
                instance.isolation_segment, instance.name
            ),
            "Start a router with this segment in isolation_segments, or one with routing_table_sharding_mode all.",
        )
    };
    let found = format!(
        "segments {}",
        view.segments
            .iter()
            .flatten()
            .cloned()
            .collect::<Vec<_>>()
            .join(", ")
    );
    hops.add(
        (Component::Router, "segments"),
        &router.name,
        found,
        verdict,
    );
}

fn verdict_of(
    facts: &Facts,
    router: &Router,
    view: &RouteView,
    instance: &Instance<'_>,
    endpoint: Option<&EndpointView>,
) -> Verdict {
    let (name, table) = (&instance.name, &router.name);
    let again = "Its next registration, within 20 s, repairs it; else see the router's log.";
    let Some((address, tls)) = instance.address() else {
        return Verdict::Right;
    };
    let Some(endpoint) = endpoint else {
        let reason = format!("The table of router {table} has no endpoint {address} of {name}.");
        let is_new = facts.now.saturating_sub(instance.actual.since) <= SETTLED;
        return match is_new {
            true => Verdict::waits(reason, "Wait for a moment."),
            false => Verdict::wrong(reason, again),
        };
    };
    let guid = &instance.actual.instance_guid;
    let san = &endpoint.server_cert_domain_san;
    if endpoint.address != address {
        let at = &endpoint.address;
        return Verdict::wrong(
            format!("The router {table} has {name} at {at}, and it is at {address}."),
            again,
        );
    }
    if endpoint.tls != tls {
        let reason = format!(
            "The router {table} has {address} with tls={}, and the cell has tls={tls}.",
            endpoint.tls
        );
        return Verdict::wrong(reason, again);
    }
    if tls && san != guid {
        let reason = format!(
            "The router {table} expects the certificate name {san:?} at {address}, and the instance is {guid}."
        );
        return Verdict::wrong(reason, again);
    }
    let wanted = instance.generation;
    // An emitter of another kind sends no generation.
    if (1..wanted).contains(&endpoint.generation) {
        let reason = format!(
            "The router {table} has {name} as of change {}, and Diego has change {wanted}.",
            endpoint.generation
        );
        return match has_just_changed(facts) {
            true => Verdict::waits(reason, "Wait for a moment."),
            false => Verdict::wrong(reason, again),
        };
    }
    if view.max_connections > 0 && endpoint.in_flight >= view.max_connections {
        return Verdict::wrong(
            format!(
                "{name} has {} requests on router {table}, which is the limit.",
                endpoint.in_flight
            ),
            "Scale the app out, make it answer faster, or raise backends.max_conns of the router.",
        );
    }
    if endpoint.message_age.is_some_and(|age| age > silence(view)) {
        let age = endpoint.message_age.unwrap_or_default();
        return Verdict::wrong(
            format!("The router {table} got its last message about {name} {age:.0} s ago."),
            "See its connection to the bus, and the route-emitter of the cell.",
        );
    }
    Verdict::Right
}

/// Adds a hop for each endpoint that belongs to no instance: requests that go there fail or reach another app.
fn check_strangers(
    facts: &Facts,
    router: &Router,
    view: &RouteView,
    instances: &[Instance<'_>],
    hops: &mut Hops,
) {
    let is_stored = facts.route.as_ref().is_ok_and(Option::is_some);
    let has_all = is_stored && facts.actual.is_ok() && other_route(facts, view).is_none();
    let is_of = |endpoint: &EndpointView| {
        let mut addresses = instances.iter().filter_map(|instance| instance.address());
        addresses.any(|(address, _)| address == endpoint.address)
            || instances
                .iter()
                .any(|i| i.actual.instance_guid == endpoint.instance_guid)
    };
    let strangers = view.endpoints.iter().filter(|endpoint| !is_of(endpoint));
    for endpoint in strangers.filter(|_| has_all) {
        let (table, address) = (&router.name, &endpoint.address);
        let verdict = if endpoint.instance_guid.is_empty() {
            Verdict::wrong(
                format!(
                    "The router {table} has {address}, which belongs to no instance of an app."
                ),
                "Find the program that registers it on the bus (cupola nats sub router.register), and stop it.",
            )
        } else {
            Verdict::wrong(
                format!(
                    "The router {table} has {address} of the instance {}, which is not an instance of this route.",
                    endpoint.instance_guid
                ),
                "Its unregistration was lost: it leaves the table when its certificate does not match, or when it is pruned after 120 s.",
            )
        };
        let found = shown(endpoint);
        hops.add(
            (Component::Router, "stale endpoint"),
            &router.name,
            found,
            verdict,
        );
    }
}
