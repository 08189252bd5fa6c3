//! The first hops: the route and its destinations in the Cloud Controller.

use super::{Steps, normal, serves};
use crate::component::Component::CloudController;
use crate::explanation::Verdict;
use crate::facts::Facts;
use wire::cc::{StoredDestination, StoredRoute};

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
}

/// Adds the hops of the Cloud Controller. Returns the processes that must run. If the Cloud Controller cannot be read, these are
/// the processes that carry the route in Diego.
pub(super) fn targets(facts: &Facts, steps: &mut Steps) -> Vec<Target> {
    match &facts.route {
        Err(problem) => {
            let verdict = Verdict::unread(
                format!("The Cloud Controller cannot be read: {problem}."),
                "Start the role cloud-controller, and see its log.",
            );
            steps.add((CloudController, "route"), "", "", verdict);
            carriers(facts)
        }
        Ok(None) => {
            let verdict = Verdict::wrong(
                format!("No route serves {}.", facts.url),
                "Map it: cupola cf map-route APP DOMAIN --hostname HOST.",
            );
            steps.add((CloudController, "route"), "", "", verdict);
            Vec::new()
        }
        Ok(Some(route)) => stored(route, steps),
    }
}

fn stored(route: &StoredRoute, steps: &mut Steps) -> Vec<Target> {
    let verdict = if route.is_internal {
        Verdict::wrong(
            "The route is on an internal domain, which only containers resolve; routers do not serve it.",
            "Call it from an app, or map a route on another domain.",
        )
    } else {
        Verdict::Right
    };
    let found = format!("{} ({})", route.url, route.guid);
    steps.add((CloudController, "route"), "", found, verdict);
    if route.destinations.is_empty() {
        let verdict = Verdict::wrong(
            format!("The route {} has no destination.", route.url),
            "Map it to an app: cupola cf map-route APP DOMAIN --hostname HOST.",
        );
        steps.add((CloudController, "destination"), "", "", verdict);
    }
    let mut targets = Vec::new();
    for destination in &route.destinations {
        let verdict = verdict_of(destination);
        let is_right = verdict == Verdict::Right;
        let found = format!(
            "{} {} × {} on port {}",
            destination.app_name, destination.process_type, destination.instances, destination.port
        );
        let subject = &destination.app_name;
        steps.add((CloudController, "destination"), subject, found, verdict);
        if is_right {
            targets.push(Target {
                name: destination.app_name.clone(),
                process_guids: destination.process_guids.clone(),
                instances: destination.instances,
                url: normal(&route.url),
                port: destination.port,
            });
        }
    }
    targets
}

fn verdict_of(destination: &StoredDestination) -> Verdict {
    let (app, kind) = (&destination.app_name, &destination.process_type);
    if !destination.is_started {
        Verdict::wrong(
            format!("The app {app} is stopped."),
            format!("Start it: cupola cf start {app}."),
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
            })
        })
        .collect()
}
