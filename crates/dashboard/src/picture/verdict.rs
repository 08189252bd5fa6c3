//! Judges whether each route is right, as far as the BBS and the routers' tables show it: every running instance of its apps is an endpoint in
//! every router, and nothing else is. What lies deeper (containers, Envoy, DNAT) is asked for one route at a time, by `why`.

use super::model::{Desired, Instance, Model};
use super::step::Micros;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// The time after a change of an app in which a difference is on its way and no fault. A lost message is repaired within it.
const SETTLES: Micros = 2_000_000;

/// The state of a route, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// A router sends requests to an address that belongs to another instance.
    Misrouted,
    /// A router sends requests to an instance that does not run.
    Stale,
    /// A router lacks a running instance.
    Missing,
    /// A router answered a request with an error of its own a moment ago.
    Failing,
    /// No instance runs, and one has crashed.
    Crashing,
    /// No instance runs yet.
    Starting,
    /// A change is on its way.
    Changing,
    /// No router's table is known.
    Unread,
    /// The app is stopped.
    Stopped,
    /// Only routers of an isolation segment take the route.
    Isolated,
    /// No app has the route: a component or a registrar registered it.
    External,
    Live,
}

impl State {
    /// Returns whether somebody should look at the route.
    pub(crate) fn is_fault(self) -> bool {
        matches!(
            self,
            Self::Misrouted | Self::Stale | Self::Missing | Self::Failing | Self::Crashing
        )
    }
}

/// A route with everything that is known of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Route {
    pub(crate) uri: String,
    pub(crate) state: State,
    /// A sentence for people; empty for a route that is live.
    pub(crate) reason: String,
    pub(crate) apps: Vec<App>,
    pub(crate) wanted: i32,
    pub(crate) running: usize,
    pub(crate) generation: u64,
    /// The routers that have the route, and the number of all routers whose tables are known.
    pub(crate) routers: usize,
    pub(crate) routers_known: usize,
    pub(crate) endpoints: Vec<RoutedEndpoint>,
    /// The component that registered the route, if it is not an app's.
    pub(crate) component: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct App {
    pub(crate) guid: String,
    pub(crate) name: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct RoutedEndpoint {
    pub(crate) address: String,
    pub(crate) instance_guid: String,
    /// The number of routers that have it.
    pub(crate) routers: usize,
}

/// The endpoints that a route should have by the state of the BBS.
#[derive(Debug, Default)]
struct Wish<'a> {
    apps: BTreeSet<(&'a str, &'a str)>,
    instances: i32,
    /// The instance guids by the addresses at which routers should reach them.
    endpoints: BTreeMap<String, &'a str>,
    crashed: Option<&'a Instance>,
    is_isolated: bool,
    generation: u64,
}

/// Returns all routes that an app wants or a router has, in the order of their URIs.
pub(crate) fn routes(model: &Model, now: Micros) -> Vec<Route> {
    let wishes = wishes(model);
    let owners = owners(model);
    let known = model
        .routers
        .values()
        .flat_map(|router| router.table.keys());
    let uris: BTreeSet<&str> = wishes
        .keys()
        .copied()
        .chain(known.map(String::as_str))
        .collect();
    let nothing = Wish::default();
    let all = uris.into_iter().map(|uri| {
        let wish = wishes.get(uri);
        let (state, reason) = match wish {
            Some(wish) => judge(model, uri, wish, &owners, now),
            None => unwanted(model, uri, now),
        };
        let wish = wish.unwrap_or(&nothing);
        let has = |router: &&super::model::Router| router.table.contains_key(uri);
        Route {
            uri: uri.to_owned(),
            state,
            reason,
            apps: wish
                .apps
                .iter()
                .map(|(guid, name)| App {
                    guid: (*guid).to_owned(),
                    name: (*name).to_owned(),
                })
                .collect(),
            wanted: wish.instances,
            running: wish.endpoints.len(),
            generation: wish.generation,
            routers: model.routers.values().filter(has).count(),
            routers_known: model.routers.len(),
            endpoints: endpoints(model, uri, wish),
            component: component(model, uri),
        }
    });
    all.collect()
}

fn wishes(model: &Model) -> BTreeMap<&str, Wish<'_>> {
    let mut by_process: BTreeMap<&str, Vec<&Instance>> = BTreeMap::new();
    for instance in model.instances.values() {
        by_process
            .entry(&instance.process_guid)
            .or_default()
            .push(instance);
    }
    let mut wishes: BTreeMap<&str, Wish<'_>> = BTreeMap::new();
    for lrp in model.desired.values() {
        let instances = by_process.get(lrp.process_guid.as_str());
        let instances = instances.map_or(&[][..], Vec::as_slice);
        for route in &lrp.routes {
            let wish = wishes.entry(&route.uri).or_default();
            wish.want(lrp, instances, route.port);
            wish.is_isolated |= route.is_isolated;
            wish.generation = wish.generation.max(route.generation);
        }
    }
    wishes
}

impl<'a> Wish<'a> {
    fn want(&mut self, lrp: &'a Desired, instances: &[&'a Instance], port: u32) {
        if self.apps.insert((&lrp.app_guid, &lrp.app_name)) {
            self.instances += lrp.instances;
        }
        for instance in instances.iter().copied() {
            if instance.state == wire::bbs::state::CRASHED || instance.crash_count > 0 {
                self.crashed = self.crashed.or(Some(instance));
            }
            let address = instance.endpoint(port).filter(|_| instance.serves());
            if let Some(address) = address {
                self.endpoints.insert(address, &instance.instance_guid);
            }
        }
    }
}

/// Returns the instance behind each address that leads to one.
fn owners(model: &Model) -> BTreeMap<String, &str> {
    let running = model
        .instances
        .values()
        .filter(|instance| instance.serves());
    let addresses = running.flat_map(|instance| {
        let ports = instance.ports.iter().map(|mapping| mapping.container_port);
        let addresses = ports.filter_map(move |port| instance.endpoint(port));
        addresses.map(move |address| (address, instance.instance_guid.as_str()))
    });
    addresses.collect()
}

fn settles(model: &Model, apps: impl Iterator<Item = impl AsRef<str>>, now: Micros) -> bool {
    let mut touched = apps.filter_map(|app| model.touched.get(app.as_ref()).copied());
    touched.any(|at| at.saturating_add(SETTLES) > now)
}

fn judge(
    model: &Model,
    uri: &str,
    wish: &Wish<'_>,
    owners: &BTreeMap<String, &str>,
    now: Micros,
) -> (State, String) {
    if wish.is_isolated {
        return (State::Isolated, String::new());
    }
    if model.routers.is_empty() {
        return (State::Unread, "No router's table is known.".to_owned());
    }
    let found = difference(model, uri, wish, owners);
    if found.is_some() && settles(model, wish.apps.iter().map(|(guid, _)| guid), now) {
        return (State::Changing, "A change is on its way.".to_owned());
    }
    if let Some((state @ (State::Misrouted | State::Stale), reason)) = found {
        return (state, reason);
    }
    if wish.instances == 0 {
        return (State::Stopped, "The app has no instances.".to_owned());
    }
    if wish.endpoints.is_empty() {
        return match wish.crashed {
            Some(instance) => (
                State::Crashing,
                format!(
                    "No instance runs; instance {} crashed: {}",
                    instance.index, instance.crash_reason
                ),
            ),
            None => (State::Starting, "No instance runs yet.".to_owned()),
        };
    }
    if let Some(found) = found {
        return found;
    }
    match model.failed(uri, now) {
        Some(failing) => (
            State::Failing,
            format!(
                "Router {} answered {} to a request for {}: {}",
                failing.router, failing.status, failing.path, failing.error
            ),
        ),
        None => (State::Live, String::new()),
    }
}

/// Returns the worst difference between what should be in the tables and what is.
fn difference(
    model: &Model,
    uri: &str,
    wish: &Wish<'_>,
    owners: &BTreeMap<String, &str>,
) -> Option<(State, String)> {
    let mut worst: Option<(State, String)> = None;
    let mut note = |state: State, reason: String| {
        if worst.as_ref().is_none_or(|(known, _)| state < *known) {
            worst = Some((state, reason));
        }
    };
    let empty = BTreeMap::new();
    for (name, router) in &model.routers {
        let table = router.table.get(uri).unwrap_or(&empty);
        for (address, endpoint) in table {
            let guid = endpoint.instance_guid.as_str();
            match owners.get(address) {
                Some(owner) if !guid.is_empty() && *owner != guid => note(
                    State::Misrouted,
                    format!(
                        "Router {name} sends requests for instance {guid} to {address}, which belongs to instance {owner}."
                    ),
                ),
                _ if wish.endpoints.contains_key(address) => {}
                // A server that is not an app may share the route.
                _ if endpoint.app_guid.is_empty() => {}
                _ => note(
                    State::Stale,
                    format!(
                        "Router {name} sends requests to {address}, where no instance of the app runs."
                    ),
                ),
            }
        }
        for (address, guid) in &wish.endpoints {
            if !table.contains_key(address) {
                note(
                    State::Missing,
                    format!("Router {name} lacks {address}, where instance {guid} runs."),
                );
            }
        }
    }
    worst
}

/// Judges a route that is in a table and that no app has.
fn unwanted(model: &Model, uri: &str, now: Micros) -> (State, String) {
    let tables = model.routers.iter();
    let routed = tables.flat_map(|(name, router)| {
        let route = router.table.get(uri).into_iter().flatten();
        route.map(move |(address, endpoint)| (name, address, endpoint))
    });
    let mut of_apps = routed.filter(|(.., endpoint)| !endpoint.app_guid.is_empty());
    match of_apps.next() {
        None => (State::External, String::new()),
        Some((.., endpoint)) if settles(model, std::iter::once(&endpoint.app_guid), now) => {
            (State::Changing, "A change is on its way.".to_owned())
        }
        Some((name, address, _)) => (
            State::Stale,
            format!(
                "No app has this route any more, and router {name} still sends requests to {address}."
            ),
        ),
    }
}

fn endpoints(model: &Model, uri: &str, wish: &Wish<'_>) -> Vec<RoutedEndpoint> {
    let mut found: BTreeMap<&str, (&str, usize)> = BTreeMap::new();
    for (address, guid) in &wish.endpoints {
        found.insert(address, (guid, 0));
    }
    for (address, endpoint) in model
        .routers
        .values()
        .flat_map(|r| r.table.get(uri))
        .flatten()
    {
        found
            .entry(address)
            .or_insert((&endpoint.instance_guid, 0))
            .1 += 1;
    }
    let all = found
        .into_iter()
        .map(|(address, (guid, routers))| RoutedEndpoint {
            address: address.to_owned(),
            instance_guid: guid.to_owned(),
            routers,
        });
    all.collect()
}

/// Returns the component that registered a route, if no app did.
fn component(model: &Model, uri: &str) -> String {
    let tables = model
        .routers
        .values()
        .filter_map(|router| router.table.get(uri));
    let mut names = tables.flatten().map(|(_, endpoint)| &endpoint.component);
    let found = names.find(|name| !name.is_empty() && *name != "route-emitter");
    found.cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests;
