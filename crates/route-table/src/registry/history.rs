//! The contents of a table as a value: as they were at an earlier time, compared with others, and asked for a request's route.
//!
//! The router makes the contents of an earlier time from the present ones and from the changes that it keeps. A client that has
//! read the contents compares them. Nothing here reads a clock or changes a table.

use super::uri::{lowered, prefixes_longest_first, request_path};
use super::{Change, ChangeKind, Endpoint, RouteChange, RouteKey, request_host};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

/// The endpoints of a route by their addresses.
type Endpoints<E> = BTreeMap<String, E>;

/// The contents of a table at one time: the endpoints of each route. `E` is an endpoint, in whatever form the owner has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot<E>(BTreeMap<String, Endpoints<E>>);

impl<E> Default for Snapshot<E> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

/// A difference between two snapshots: an endpoint, or a route without endpoints, that is only in one of them or differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference<'a, E> {
    pub uri: &'a str,
    /// The address of the endpoint. `None` means that the route has no endpoints on either side.
    pub address: Option<&'a str>,
    pub before: Option<&'a E>,
    pub after: Option<&'a E>,
    /// Whether the route is only in the later or only in the earlier snapshot.
    pub route: RouteChange,
}

impl<E> Snapshot<E> {
    /// Returns the endpoints of a route by their addresses. The route is added if it is not there.
    pub fn route(&mut self, uri: &str) -> &mut BTreeMap<String, E> {
        let uri = RouteKey::new(uri).uri().to_owned();
        self.0.entry(uri).or_default()
    }

    /// Returns all routes with their endpoints, sorted.
    pub fn routes(&self) -> impl Iterator<Item = (&str, &BTreeMap<String, E>)> {
        self.0.iter().map(|(uri, list)| (uri.as_str(), list))
    }

    /// Returns the route of a request and its endpoints, as [`super::Registry::lookup`] does, but for the protection of the
    /// platform's own hosts.
    pub fn find(&self, host: &str, path: &str) -> Option<(&str, &BTreeMap<String, E>)> {
        lowered(request_host(host), |host| {
            lowered(request_path(path), |path| self.find_lowered(host, path))
        })
    }

    fn find_lowered(&self, host: &str, path: &str) -> Option<(&str, &BTreeMap<String, E>)> {
        if let Some(found) = self.at_host(host, path) {
            return Some(found);
        }
        let mut rest = host;
        while let Some((_, tail)) = rest.split_once('.') {
            if let Some(found) = self.at_host(&format!("*.{tail}"), path) {
                return Some(found);
            }
            rest = tail;
        }
        None
    }

    /// Returns the route with the longest path that leads to the request's, and among these rather one with endpoints.
    fn at_host(&self, host: &str, path: &str) -> Option<(&str, &BTreeMap<String, E>)> {
        let mut empty = None;
        for prefix in prefixes_longest_first(path, usize::MAX).chain([""]) {
            let uri = match prefix {
                "" => host.to_owned(),
                prefix => format!("{host}/{prefix}"),
            };
            let Some((uri, endpoints)) = self.0.get_key_value(&uri) else {
                continue;
            };
            let found = (uri.as_str(), endpoints);
            if !endpoints.is_empty() {
                return Some(found);
            }
            empty = empty.or(Some(found));
        }
        empty
    }
}

impl<E: PartialEq> Snapshot<E> {
    /// Returns what differs in a later snapshot, sorted by route and address.
    pub fn difference<'a>(&'a self, later: &'a Self) -> Vec<Difference<'a, E>> {
        let uris: BTreeSet<&String> = self.0.keys().chain(later.0.keys()).collect();
        let mut found = Vec::new();
        for uri in uris {
            let (before, after) = (self.0.get(uri), later.0.get(uri));
            let route = match (before, after) {
                (None, Some(_)) => RouteChange::New,
                (Some(_), None) => RouteChange::Gone,
                _ => RouteChange::None,
            };
            let lists = [before, after].into_iter().flatten();
            let addresses: BTreeSet<&String> = lists.flat_map(BTreeMap::keys).collect();
            if addresses.is_empty() && route != RouteChange::None {
                found.push(Difference {
                    uri,
                    address: None,
                    before: None,
                    after: None,
                    route,
                });
            }
            for address in addresses {
                let before = before.and_then(|list| list.get(address));
                let after = after.and_then(|list| list.get(address));
                if before != after {
                    found.push(Difference {
                        uri,
                        address: Some(address),
                        before,
                        after,
                        route,
                    });
                }
            }
        }
        found
    }
}

impl Snapshot<Arc<Endpoint>> {
    /// Returns the contents as they were at a time, made of the present ones. `changes` are the changes up to now with their times,
    /// oldest first. They must have been read after the present contents; it does no harm if the contents lack the last of them.
    ///
    /// A route whose last endpoint has left and that waits for its next one has no endpoints, but is there.
    pub fn at(mut self, time: SystemTime, changes: &[(SystemTime, &Change)]) -> Self {
        let last = changes.iter().rposition(|(at, _)| *at <= time);
        let first_later = last.map_or(0, |last| last + 1);
        let mut held = Held::new();
        let befores: Vec<_> = changes
            .iter()
            .map(|(_, change)| before(change, &mut held))
            .collect();
        let (earlier, later) = changes.split_at(first_later);
        for ((_, change), before) in later.iter().zip(&befores[first_later..]).rev() {
            self.undo(change, *before);
        }
        let mut seen = BTreeSet::new();
        for (_, change) in earlier.iter().rev() {
            let is_newest = !matches!(change.kind, ChangeKind::Refused(_))
                && seen.insert(RouteKey::new(&change.uri).uri().to_owned());
            if is_newest && change.route != RouteChange::Gone {
                self.route(&change.uri);
            }
        }
        self
    }

    /// Undoes a change. `before` is the endpoint that the table held before it.
    fn undo(&mut self, change: &Change, before: Option<&Arc<Endpoint>>) {
        match (change.kind, before) {
            (ChangeKind::Refused(_), _) => {}
            (ChangeKind::Registered, _) if change.route == RouteChange::New => {
                self.0.remove(RouteKey::new(&change.uri).uri());
            }
            (_, Some(endpoint)) => {
                let endpoints = self.route(&change.uri);
                endpoints.insert(endpoint.address().to_owned(), endpoint.clone());
            }
            (_, None) => {
                let endpoints = self.route(&change.uri);
                if let Some(endpoint) = &change.endpoint {
                    endpoints.remove(endpoint.address());
                }
            }
        }
    }
}

/// The endpoints that a table holds while its changes are read from the oldest on, by route and address.
type Held<'a> = BTreeMap<(String, &'a str), &'a Arc<Endpoint>>;

/// Returns the endpoint that the table held before a change at the address of the change. The endpoint of an unregistration is the
/// one that the message describes, so an earlier change that put the endpoint there knows it better.
fn before<'a>(change: &'a Change, held: &mut Held<'a>) -> Option<&'a Arc<Endpoint>> {
    let endpoint = change.endpoint.as_ref()?;
    let key = (
        RouteKey::new(&change.uri).uri().to_owned(),
        endpoint.address(),
    );
    match change.kind {
        ChangeKind::Registered => {
            held.insert(key, endpoint);
            None
        }
        ChangeKind::Changed => {
            let known = held.insert(key, endpoint);
            change.replaced.as_ref().or(known)
        }
        ChangeKind::Unregistered | ChangeKind::Pruned | ChangeKind::Evicted => {
            held.remove(&key).or(Some(endpoint))
        }
        ChangeKind::Forgotten | ChangeKind::Refused(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Table, spec};
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn time(second: usize) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(second as u64)
    }

    fn present(table: &Table) -> Snapshot<Arc<Endpoint>> {
        let mut snapshot = Snapshot::default();
        for (uri, pool) in table.registry.snapshot() {
            let endpoints = snapshot.route(&uri);
            for endpoint in pool.endpoints() {
                endpoints.insert(endpoint.address().to_owned(), endpoint);
            }
        }
        snapshot
    }

    /// Returns the app of every endpoint, by route and address.
    fn apps(snapshot: &Snapshot<Arc<Endpoint>>) -> Snapshot<String> {
        let mut apps = Snapshot::default();
        for (uri, endpoints) in snapshot.routes() {
            let list = apps.route(uri);
            for (address, endpoint) in endpoints {
                list.insert(address.clone(), endpoint.spec().app_id.to_owned());
            }
        }
        apps
    }

    fn register(table: &Table, uri: &str, port: u16, app: &str, at: u64) -> Option<Change> {
        let mut endpoint = table.registry.endpoint(spec(port, false, app, ""));
        let now = table.at(at);
        let made = table
            .registry
            .register_with_place(uri, &mut endpoint, now, now);
        let change = Change::registered(uri, &endpoint, made.outcome)?;
        Some(change.replacing(made.replaced))
    }

    fn unregister(table: &Table, uri: &str, port: u16, at: u64) -> Option<Change> {
        let endpoint = table.registry.endpoint(spec(port, false, "old", ""));
        let at = table.at(at);
        let outcome = table.registry.unregister(uri, endpoint.address(), at);
        // The message names another app than the table: the change must have the endpoint that was removed.
        Change::unregistered(uri, &endpoint, outcome)
    }

    proptest! {
        /// The contents of every earlier time come back, also when the last changes are missing in the present contents.
        #[test]
        fn every_earlier_time_comes_back(
            steps in proptest::collection::vec((0..3_usize, 0..3_u8, 1..4_u16), 1..40),
            unseen in 0..3_usize,
        ) {
            let table = Table::new();
            let (mut changes, mut past) = (Vec::new(), vec![apps(&present(&table))]);
            let mut all = vec![present(&table)];
            for (n, (uri, kind, port)) in steps.iter().enumerate() {
                let uri = ["a.test", "A.test/Path", "*.test"][*uri];
                let at = n as u64;
                let change = match kind {
                    0 => register(&table, uri, *port, "old", at),
                    1 => register(&table, uri, *port, "new", at),
                    _ => unregister(&table, uri, *port, at),
                };
                if let Some(change) = change {
                    changes.push((time(changes.len() + 1), change));
                    past.push(apps(&present(&table)));
                    all.push(present(&table));
                }
            }
            let changes: Vec<_> = changes.iter().map(|(at, change)| (*at, change)).collect();
            let known = all[all.len() - 1 - unseen.min(all.len() - 1)].clone();
            for (second, wanted) in past.iter().enumerate().take(past.len() - unseen.min(past.len() - 1)) {
                let found = known.clone().at(time(second), &changes);
                prop_assert_eq!(&apps(&found), wanted, "at {}", second);
            }
        }
    }

    #[test]
    fn a_route_that_waits_for_its_next_endpoint_is_there_without_endpoints() {
        let table = Table::new();
        let first = register(&table, "a.test", 1, "app", 0).unwrap();
        let Some(endpoint) = first.endpoint.clone() else {
            panic!("a registration has an endpoint");
        };
        let failed = Change::failed("a.test", &endpoint);
        let forgotten = Change::forgotten("a.test");
        let changes = [(time(1), &first), (time(2), &failed), (time(3), &forgotten)];
        let sizes = |second| {
            let past = Snapshot::default().at(time(second), &changes);
            let sizes = past.routes().map(|(_, endpoints)| endpoints.len());
            sizes.collect::<Vec<_>>()
        };
        assert_eq!(sizes(0), [0_usize; 0]);
        assert_eq!(sizes(1), [1]);
        assert_eq!(sizes(2), [0]);
        assert_eq!(sizes(3), [0_usize; 0]);
    }

    fn snapshot(routes: &[(&str, &[(&str, u8)])]) -> Snapshot<u8> {
        let mut snapshot = Snapshot::default();
        for (uri, endpoints) in routes {
            let list = snapshot.route(uri);
            list.extend(endpoints.iter().map(|(at, e)| ((*at).to_owned(), *e)));
        }
        snapshot
    }

    #[test]
    fn a_request_meets_the_route_that_the_router_finds() {
        let table = snapshot(&[
            ("a.test", &[("1", 1)]),
            ("a.test/x", &[]),
            ("a.test/x/Y", &[("3", 3)]),
            ("*.test", &[("4", 4)]),
            ("empty.test", &[]),
        ]);
        for (host, path, wanted) in [
            ("A.test:80", "/", Some("a.test")),
            ("a.test", "/xy?z", Some("a.test")),
            ("a.test", "/x", Some("a.test")),
            ("a.test", "/X/y/z", Some("a.test/x/y")),
            ("b.test", "/x", Some("*.test")),
            ("c.b.test", "/", Some("*.test")),
            ("empty.test", "/", Some("empty.test")),
            ("test", "/", None),
        ] {
            let found = table.find(host, path).map(|(uri, _)| uri);
            assert_eq!(found, wanted, "{host}{path}");
        }
    }

    #[test]
    fn a_difference_names_each_endpoint_once() {
        let before = snapshot(&[
            ("a.test", &[("1", 1), ("2", 2)]),
            ("b.test", &[("1", 1)]),
            ("c.test", &[]),
        ]);
        let after = snapshot(&[("a.test", &[("1", 9), ("3", 3)]), ("d.test", &[])]);
        let difference = before.difference(&after);
        let short = difference.iter().map(|d| {
            let values = (d.before.copied(), d.after.copied());
            (d.uri, d.address, values, d.route.as_str())
        });
        assert_eq!(
            short.collect::<Vec<_>>(),
            [
                ("a.test", Some("1"), (Some(1), Some(9)), None),
                ("a.test", Some("2"), (Some(2), None), None),
                ("a.test", Some("3"), (None, Some(3)), None),
                ("b.test", Some("1"), (Some(1), None), Some("gone")),
                ("c.test", None, (None, None), Some("gone")),
                ("d.test", None, (None, None), Some("new")),
            ]
        );
        assert!(after.difference(&after).is_empty());
    }
}
