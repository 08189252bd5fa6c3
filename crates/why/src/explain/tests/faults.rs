//! The table of faults: for each the change of the facts, the hop that is to blame, and the reason.

use super::{NOW, instance, route, view};
use crate::component::Component;
use crate::facts::Facts;
use std::collections::BTreeMap;

/// A fault: its name, the change of the facts that it makes, the hop that is to blame (component, part, subject), and a piece of
/// the reason.
pub(super) type Fault = (
    &'static str,
    fn(&mut Facts),
    (Component, &'static str, &'static str),
    &'static str,
);

/// Faults of the Cloud Controller and of Diego.
pub(super) const CONTROL: &[Fault] = &[
    (
        "the Cloud Controller is stopped",
        |facts| facts.route = Err("connection refused".to_owned()),
        (Component::CloudController, "route", ""),
        "cannot be read: connection refused",
    ),
    (
        "the route does not exist",
        |facts| facts.route = Ok(None),
        (Component::CloudController, "route", ""),
        "No route serves",
    ),
    (
        "the route is internal",
        |facts| route(facts).is_internal = true,
        (Component::CloudController, "route", ""),
        "internal domain",
    ),
    (
        "the destination is removed",
        |facts| route(facts).destinations.clear(),
        (Component::CloudController, "destination", ""),
        "has no destination",
    ),
    (
        "the app is stopped",
        |facts| route(facts).destinations[0].is_started = false,
        (Component::CloudController, "destination", "shop"),
        "is stopped",
    ),
    (
        "the app is scaled to nothing",
        |facts| route(facts).destinations[0].instances = 0,
        (Component::CloudController, "destination", "shop"),
        "has 0 instances",
    ),
    (
        "the process type does not exist",
        |facts| route(facts).destinations[0].process_guids.clear(),
        (Component::CloudController, "destination", "shop"),
        "has no process web",
    ),
    (
        "the BBS is stopped",
        |facts| {
            facts.desired = Err("connection refused".to_owned());
            facts.actual = Err("connection refused".to_owned());
        },
        (Component::Bbs, "desired LRP", "shop"),
        "The BBS cannot be read",
    ),
    (
        "the desired LRP is lost",
        |facts| facts.desired = Ok(Vec::new()),
        (Component::Bbs, "desired LRP", "shop"),
        "no desired LRP",
    ),
    (
        "the desired LRP lacks the route",
        |facts| facts.desired.as_mut().unwrap()[0].routes.clear(),
        (Component::Bbs, "desired LRP", "shop"),
        "does not carry the route",
    ),
    (
        "the desired LRP has the route for another port",
        |facts| facts.desired.as_mut().unwrap()[0].routes[0].port = 9090,
        (Component::Bbs, "desired LRP", "shop"),
        "for port 9090",
    ),
    (
        "the desired LRP has too few instances",
        |facts| facts.desired.as_mut().unwrap()[0].instances = 1,
        (Component::Bbs, "desired LRP", "shop"),
        "has 1 instances",
    ),
    (
        "the actual LRPs are lost",
        |facts| facts.actual = Ok(Vec::new()),
        (Component::Bbs, "actual LRP", "shop/0"),
        "no actual LRP",
    ),
    (
        "the app crashes",
        |facts| {
            instance(facts).state = "CRASHED".to_owned();
            instance(facts).crash_reason = "APP/PROC/WEB: Exited with status 137".to_owned();
        },
        (Component::Bbs, "actual LRP", "shop/1"),
        "Exited with status 137",
    ),
    (
        "no cell has memory",
        |facts| {
            instance(facts).state = "UNCLAIMED".to_owned();
            instance(facts).placement_error = "insufficient resources: memory".to_owned();
        },
        (Component::Auctioneer, "actual LRP", "shop/1"),
        "insufficient resources",
    ),
    (
        "the auctioneer is stopped",
        |facts| {
            instance(facts).state = "UNCLAIMED".to_owned();
            instance(facts).cell_id.clear();
        },
        (Component::Auctioneer, "actual LRP", "shop/1"),
        "no auction has placed it",
    ),
    (
        "the readiness check fails",
        |facts| instance(facts).routable = Some(false),
        (Component::Bbs, "actual LRP", "shop/1"),
        "readiness check",
    ),
    (
        "an instance is starting",
        |facts| {
            instance(facts).state = "CLAIMED".to_owned();
            instance(facts).since = NOW - 2;
        },
        (Component::Bbs, "actual LRP", "shop/1"),
        "is starting on cell cell-1 for 2 s",
    ),
    (
        "no component answers",
        |facts| {
            let problem = || "timed out after 5 s".to_owned();
            (facts.route, facts.desired) = (Err(problem()), Err(problem()));
            (facts.actual, facts.bus) = (Err(problem()), Some(Err(problem())));
            for router in &mut facts.routers {
                (router.view, router.probe) = (Err(problem()), Some(Err(problem())));
            }
        },
        (Component::Client, "network", ""),
        "No component of the foundation answers: timed out",
    ),
    (
        "the process of all components is paused, and its server of the bus is not",
        |facts| {
            let problem = || "timed out after 5 s".to_owned();
            (facts.route, facts.desired) = (Err(problem()), Err(problem()));
            facts.actual = Err(problem());
            for router in &mut facts.routers {
                (router.view, router.probe) = (Err(problem()), Some(Err(problem())));
            }
        },
        (Component::Client, "network", ""),
        "answers but the message bus: timed out",
    ),
    (
        "the clock of the machine that asks is wrong",
        |facts| facts.now += 3600,
        (Component::Client, "clock", ""),
        "is 3600 s ahead of those of all",
    ),
    (
        "the route was deleted, and its unregistration was lost",
        |facts| {
            (facts.route, facts.desired) = (Ok(None), Ok(Vec::new()));
            (facts.actual, facts.inspections) = (Ok(Vec::new()), BTreeMap::new());
            view(facts).endpoints.clear();
        },
        (Component::CloudController, "route", ""),
        "the router router-a still has the endpoint 10.0.0.0:61010 of an app",
    ),
    (
        "the staging failed",
        |facts| route(facts).destinations[0].lacks_droplet = true,
        (Component::CloudController, "destination", "shop"),
        "has no droplet",
    ),
    (
        "the desired LRP lacks the last change",
        |facts| facts.desired.as_mut().unwrap()[0].routes[0].generation = 16,
        (Component::Bbs, "desired LRP", "shop"),
        "as of change 16, and the last change is 17",
    ),
    (
        "the actual LRP of one instance is lost",
        |facts| drop(facts.actual.as_mut().unwrap().remove(1)),
        (Component::Bbs, "actual LRP", "shop/1"),
        "no actual LRP of shop/1",
    ),
    (
        "the app crashes again and again",
        |facts| {
            instance(facts).state = "CLAIMED".to_owned();
            instance(facts).crash_count = 3;
        },
        (Component::Bbs, "actual LRP", "shop/1"),
        "starts again; it has crashed 3 times",
    ),
    (
        "the health check never passes",
        |facts| {
            instance(facts).state = "CRASHED".to_owned();
            instance(facts).crash_count = 1;
            instance(facts).crash_reason =
                "Instance never healthy after 1m0s: received status code 500".to_owned();
        },
        (Component::Bbs, "actual LRP", "shop/1"),
        "Instance never healthy after 1m0s: received status code 500",
    ),
    (
        "no cell has the stack",
        |facts| {
            instance(facts).state = "UNCLAIMED".to_owned();
            instance(facts).placement_error = "found no compatible cell".to_owned();
        },
        (Component::Auctioneer, "actual LRP", "shop/1"),
        "No cell takes shop/1: found no compatible cell.",
    ),
    (
        "the only cell is evacuated",
        |facts| {
            instance(facts).is_evacuating = true;
            let mut waiting = instance(facts).clone();
            waiting.is_evacuating = false;
            (waiting.state, waiting.cell_id) = ("UNCLAIMED".to_owned(), String::new());
            waiting.placement_error = "found no compatible cell".to_owned();
            facts.actual.as_mut().unwrap().push(waiting);
        },
        (Component::Auctioneer, "actual LRP", "shop/1"),
        "No cell takes shop/1",
    ),
];
