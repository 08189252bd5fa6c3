//! The first hops: the route and its destinations in the Cloud Controller.

use super::{Hops, normal, propagation, serves};
use crate::component::Component::CloudController;
use crate::explanation::{Hop, Verdict};
use crate::facts::Facts;
use wire::cc::{StoredDestination, StoredRoute};
use wire::router::EndpointView;

/// The kind of the senders that register apps.
const EMITTER: &str = "route-emitter";

/// The processes to which the route leads, according to the Cloud Controller.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// The app's name, or the process guid if the Cloud Controller could not be read.
    pub(super) name: String,
    /// The beginnings of Diego's process guids.
    pub(super) process_guids: Vec<String>,
    pub(super) instances: u32,
    /// The route as Diego must have it.
    pub(super) url: String,
    pub(super) port: u16,
    /// The number of the last change of the destination; 0 if it has none.
    pub(super) generation: u64,
}

/// Adds the hops of the Cloud Controller. Returns the processes that must run. If the Cloud Controller cannot be read, these are
/// the processes that carry the route in Diego.
pub(super) fn targets(facts: &Facts, hops: &mut Hops) -> Vec<Target> {
    match &facts.route {
        Err(problem) => {
            let verdict = Verdict::unread(
                format!("The Cloud Controller cannot be read: {problem}."),
                "Start the role cloud-controller, and see its log.",
            );
            hops.add((CloudController, "route"), "", "", verdict);
            carriers(facts)
        }
        Ok(None) => {
            let (found, verdict) = without_route(facts);
            hops.add((CloudController, "route"), "", found, verdict);
            Vec::new()
        }
        Ok(Some(route)) => stored(facts, route, hops),
    }
}

/// Judges a URL for which no route is stored. Components register routes of their own.
fn without_route(facts: &Facts) -> (String, Verdict) {
    let url = &facts.url;
    let views = facts.routers.iter().filter_map(|router| {
        let view = router.view.as_ref().ok()?;
        Some((&router.name, view))
    });
    let mut serving = views.filter(|(_, view)| !view.endpoints.is_empty());
    let Some((router, view)) = serving.next() else {
        let verdict = Verdict::wrong(
            format!("No route serves {url}."),
            "See the routes and their domains: cupola cf routes. Map it: cupola cf map-route APP DOMAIN --hostname HOST.",
        );
        return (String::new(), verdict);
    };
    let is_of_app = |endpoint: &&EndpointView| endpoint.component == EMITTER;
    match view.endpoints.iter().find(is_of_app) {
        Some(endpoint) => {
            let verdict = Verdict::wrong(
                format!(
                    "No route serves {url}, and the router {router} still has the endpoint {} of an app for it.",
                    endpoint.address
                ),
                "Map the route again, or wait until the router removes the endpoint: after 120 s without a message at the latest.",
            );
            (String::new(), verdict)
        }
        None => {
            let component = &view.endpoints[0].component;
            let route = view.route.as_deref().unwrap_or_default();
            let found = format!("none: {route} is a component's own route {component}");
            (found.trim_end().to_owned(), Verdict::Right)
        }
    }
}

fn stored(facts: &Facts, route: &StoredRoute, hops: &mut Hops) -> Vec<Target> {
    let verdict = if route.is_internal {
        Verdict::wrong(
            "The route is on an internal domain, which only containers resolve; routers do not serve it.",
            "Call it from an app, or map a route on another domain.",
        )
    } else {
        Verdict::Right
    };
    let found = format!("{} ({})", route.url, route.guid);
    let changed = propagation(facts).filter(|propagation| propagation.generation > 0);
    hops.push(Hop {
        generation: changed.map(|propagation| propagation.generation),
        ..Hop::new((CloudController, "route"), "", found, verdict)
    });
    if route.destinations.is_empty() {
        let verdict = Verdict::wrong(
            format!("The route {} has no destination.", route.url),
            "Map it to an app: cupola cf map-route APP DOMAIN --hostname HOST.",
        );
        hops.add((CloudController, "destination"), "", "", verdict);
    }
    let mut targets = Vec::new();
    let others_serve = route.destinations.iter().any(is_target);
    for destination in &route.destinations {
        let verdict = match is_idle(destination) && others_serve {
            // Somebody stopped the app or scaled it to nothing, and requests reach another one.
            true => Verdict::Right,
            false => verdict_of(destination),
        };
        let state = if destination.is_started {
            ""
        } else {
            " (stopped)"
        };
        let found = format!(
            "{} {} × {} on port {}{state}",
            destination.app_name, destination.process_type, destination.instances, destination.port
        );
        let subject = &destination.app_name;
        hops.add((CloudController, "destination"), subject, found, verdict);
        if is_target(destination) {
            targets.push(Target {
                name: destination.app_name.clone(),
                process_guids: destination.process_guids.clone(),
                instances: destination.instances,
                url: normal(&route.url),
                port: destination.port,
                generation: destination.generation,
            });
        }
    }
    targets
}

/// Returns whether instances of the destination must run.
fn is_target(destination: &StoredDestination) -> bool {
    verdict_of(destination) == Verdict::Right
}

/// Returns whether users want no instance of the destination.
fn is_idle(destination: &StoredDestination) -> bool {
    !destination.is_started || destination.instances == 0
}

fn verdict_of(destination: &StoredDestination) -> Verdict {
    let (app, kind) = (&destination.app_name, &destination.process_type);
    if !destination.is_started {
        Verdict::wrong(
            format!("The app {app} is stopped."),
            format!("Start it: cupola cf start {app}."),
        )
    } else if destination.lacks_droplet {
        Verdict::wrong(
            format!("The app {app} has no droplet: its staging failed or has not ended."),
            format!(
                "See the log of its staging: cupola cf logs {app} --recent. Then push it again."
            ),
        )
    } else if destination.process_guids.is_empty() {
        Verdict::wrong(
            format!("The app {app} has no process {kind}."),
            format!("Push it again, or map the route to another process type of {app}."),
        )
    } else if destination.instances == 0 {
        Verdict::wrong(
            format!("The process {kind} of {app} has 0 instances."),
            format!("Scale it: cupola cf scale {app} -i 1."),
        )
    } else {
        Verdict::Right
    }
}

/// Returns the processes that carry the route in Diego.
fn carriers(facts: &Facts) -> Vec<Target> {
    let desired = facts.desired.iter().flatten();
    desired
        .filter_map(|desired| {
            let mut routes = desired.routes.iter();
            let route = routes.find(|route| serves(&route.url, &facts.url))?;
            Some(Target {
                name: desired.process_guid.clone(),
                process_guids: vec![desired.process_guid.clone()],
                instances: desired.instances,
                url: normal(&route.url),
                port: route.port,
                generation: 0,
            })
        })
        .collect()
}
