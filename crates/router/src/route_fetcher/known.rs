//! Turns what the Routing API returns into changes of the table. The module is pure: it sends no requests and changes no table.

use clients::routing_api::Event;
use route_table::registry::EndpointSpec;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;
use wire::routing_api::Route;

/// A change of the table.
#[derive(Debug, PartialEq)]
pub(super) enum Change {
    Register(String, EndpointSpec),
    /// The route is to be removed, unless the table has a newer version of it.
    Unregister(String, EndpointSpec),
    /// The route is unusable, for this reason. It is reported once.
    Ignore(Route, String),
}

/// The values that identify a route's endpoint, as gorouter's `routeEquals`.
type EndpointKey = (String, String, u16);

/// The routes that the Routing API has, as far as it has reported them.
#[derive(Debug, Default)]
pub(super) struct KnownRoutes(BTreeMap<EndpointKey, Route>);

impl KnownRoutes {
    /// Applies a full list: a route that it lacks is gone. Every route is registered again, which keeps it alive.
    pub(super) fn fetched(&mut self, routes: Vec<Route>) -> Vec<Change> {
        let mut before = std::mem::take(&mut self.0);
        let mut changes = Vec::new();
        for route in routes {
            let known = before.remove(&key(&route));
            changes.extend(self.register(route, known.as_ref()));
        }
        let gone = before.into_values().filter_map(|route| unregister(&route));
        // Removals come first, as in gorouter.
        gone.chain(changes).collect()
    }

    /// Applies one event. Returns the change that it causes, if any.
    pub(super) fn applied(&mut self, event: Event) -> Option<Change> {
        match event {
            Event::Upsert(route) => {
                let known = self.0.get(&key(&route)).cloned();
                self.register(route, known.as_ref())
            }
            Event::Delete(route) => {
                if let Entry::Occupied(known) = self.0.entry(key(&route))
                    && !is_older(&route, known.get())
                {
                    known.remove();
                }
                unregister(&route)
            }
        }
    }

    fn register(&mut self, route: Route, known: Option<&Route>) -> Option<Change> {
        let change = match spec(&route) {
            Ok(spec) => Some(Change::Register(route.route.clone(), spec)),
            Err(_) if known == Some(&route) => None,
            Err(why) => Some(Change::Ignore(route.clone(), why)),
        };
        // A route that is too old for the table must not hide the one that the table has.
        let kept = known.filter(|known| is_older(&route, known)).cloned();
        self.0.insert(key(&route), kept.unwrap_or(route));
        change
    }
}

fn key(route: &Route) -> EndpointKey {
    (route.route.clone(), route.ip.clone(), route.port)
}

/// Returns whether `route` is an older version of the `known` route: both have the same tag guid, and its index is lower.
fn is_older(route: &Route, known: &Route) -> bool {
    let (tag, known) = (&route.modification_tag, &known.modification_tag);
    !tag.guid.is_empty() && tag.guid == known.guid && tag.index < known.index
}

fn unregister(route: &Route) -> Option<Change> {
    let spec = spec(route).ok()?;
    Some(Change::Unregister(route.route.clone(), spec))
}

/// Returns the endpoint as gorouter's `route_fetcher` builds it: it never has TLS, and it is stale after its time to live.
fn spec(route: &Route) -> Result<EndpointSpec, String> {
    for (name, missing) in [
        ("route", route.route.is_empty()),
        ("ip", route.ip.is_empty()),
        ("port", route.port == 0),
    ] {
        if missing {
            return Err(format!("it has no {name}"));
        }
    }
    let route_service_url = route.route_service_url.clone().unwrap_or_default();
    if !route_service_url.is_empty() && !route_service_url.starts_with("https") {
        return Err(format!(
            "route_service_url {route_service_url:?} does not begin with https"
        ));
    }
    let ttl = route.ttl.and_then(|seconds| u64::try_from(seconds).ok());
    Ok(EndpointSpec {
        host: route.ip.clone(),
        port: route.port,
        app_id: route.log_guid.clone(),
        server_cert_domain_san: route.log_guid.clone(),
        route_service_url,
        stale_threshold: ttl.map_or(Duration::ZERO, Duration::from_secs),
        modification_tag: route.modification_tag.clone().into(),
        ..EndpointSpec::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::routing_api::ModificationTag;

    fn route(uri: &str, port: u16, index: u32) -> Route {
        Route {
            route: uri.into(),
            port,
            ip: "10.0.0.1".into(),
            ttl: Some(60),
            log_guid: "app".into(),
            route_service_url: None,
            modification_tag: ModificationTag {
                guid: "g".into(),
                index,
            },
        }
    }

    /// Formats changes as `+uri:port@index`, `-uri:port@index` or `!why`.
    fn short(changes: impl IntoIterator<Item = Change>) -> Vec<String> {
        let of = |sign: char, uri: String, spec: EndpointSpec| {
            format!("{sign}{uri}:{}@{}", spec.port, spec.modification_tag.index)
        };
        let changes = changes.into_iter().map(|change| match change {
            Change::Register(uri, spec) => of('+', uri, spec),
            Change::Unregister(uri, spec) => of('-', uri, spec),
            Change::Ignore(_, why) => format!("!{why}"),
        });
        changes.collect()
    }

    #[test]
    fn what_vanishes_from_a_full_list_is_gone() {
        let mut known = KnownRoutes::default();
        let (a, b, c) = (route("a", 1, 0), route("b", 1, 0), route("b", 2, 0));
        let first = known.fetched(vec![a.clone(), b.clone()]);
        assert_eq!(short(first), ["+a:1@0", "+b:1@0"]);
        let second = known.fetched(vec![c.clone(), a]);
        assert_eq!(short(second), ["-b:1@0", "+b:2@0", "+a:1@0"]);
        // An event makes a route known as well.
        assert_eq!(short(known.applied(Event::Upsert(b))), ["+b:1@0"]);
        assert_eq!(
            short(known.fetched(vec![c])),
            ["-a:1@0", "-b:1@0", "+b:2@0"]
        );
        assert_eq!(short(known.fetched(Vec::new())), ["-b:2@0"]);
        assert_eq!(short(known.fetched(Vec::new())), [""; 0]);
    }

    #[test]
    fn what_an_event_has_deleted_does_not_vanish_again() {
        let mut known = KnownRoutes::default();
        known.fetched(vec![route("a", 1, 3)]);
        assert_eq!(
            short(known.applied(Event::Delete(route("a", 1, 3)))),
            ["-a:1@3"]
        );
        assert_eq!(short(known.fetched(Vec::new())), [""; 0]);
    }

    #[test]
    fn the_newest_version_is_the_one_that_vanishes() {
        let mut known = KnownRoutes::default();
        known.applied(Event::Upsert(route("a", 1, 3)));
        // The table ignores both of them because of their tags.
        known.applied(Event::Upsert(route("a", 1, 2)));
        known.applied(Event::Delete(route("a", 1, 2)));
        assert_eq!(short(known.fetched(Vec::new())), ["-a:1@3"]);
    }

    #[test]
    fn endpoints_are_plain_and_live_for_their_ttl() {
        let listed = Route {
            route_service_url: Some("https://rs.test".into()),
            ..route("a.test/x", 8080, 7)
        };
        let spec = spec(&listed).unwrap();
        assert_eq!(spec.address(), "10.0.0.1:8080");
        assert_eq!(spec.stale_threshold, Duration::from_secs(60));
        assert_eq!((spec.app_id.as_str(), spec.tls), ("app", false));
        assert_eq!(spec.server_cert_domain_san, "app");
        assert_eq!(spec.route_service_url, "https://rs.test");
        assert_eq!(spec.modification_tag.index, 7);
        let forever = Route {
            ttl: None,
            ..listed
        };
        assert_eq!(
            super::spec(&forever).unwrap().stale_threshold,
            Duration::ZERO
        );
    }

    #[test]
    fn an_invalid_route_is_reported_once() {
        let mut known = KnownRoutes::default();
        let bad = Route {
            route_service_url: Some("http://rs.test".into()),
            ..route("a", 1, 0)
        };
        let nobody = Route {
            ip: String::new(),
            ..route("b", 1, 0)
        };
        let good = route("c", 1, 0);
        let all = vec![bad, nobody, good];
        assert_eq!(
            short(known.fetched(all.clone())),
            [
                "!route_service_url \"http://rs.test\" does not begin with https",
                "!it has no ip",
                "+c:1@0"
            ]
        );
        assert_eq!(short(known.fetched(all)), ["+c:1@0"]);
        assert_eq!(short(known.fetched(Vec::new())), ["-c:1@0"]);
    }
}
