use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

pub(super) const S: fn(u64) -> Duration = Duration::from_secs;

pub(super) fn spec(port: u16, tls: bool, app: &str, index: &str) -> EndpointSpec {
    EndpointSpec {
        host: "10.0.0.1".into(),
        port,
        tls,
        app_id: app.into(),
        instance_id: format!("{app}-{index}"),
        instance_index: index.into(),
        ..EndpointSpec::default()
    }
}

pub(super) struct Table {
    pub(super) registry: Registry,
    pub(super) start: Instant,
}

impl Table {
    pub(super) fn new() -> Self {
        Self::with(Settings::default())
    }

    pub(super) fn with(settings: Settings) -> Self {
        #[expect(clippy::disallowed_methods, reason = "an Instant has no other origin")]
        let start = Instant::now();
        Self {
            registry: Registry::new(settings, start),
            start,
        }
    }

    pub(super) fn at(&self, seconds: u64) -> Instant {
        self.start + S(seconds)
    }

    pub(super) fn register(&self, uri: &str, spec: EndpointSpec, at: u64) -> Registered {
        let endpoint = self.registry.endpoint(spec);
        self.registry.register(uri, &endpoint, self.at(at))
    }

    pub(super) fn port(&self, host: &str, path: &str) -> Option<u16> {
        let pool = self.registry.lookup(host, path)?;
        Some(
            pool.pick(&Want::default(), self.start)
                .map_or(0, |endpoint| endpoint.spec().port),
        )
    }
}

#[test]
fn exact_host_beats_wildcard_and_long_path_beats_short() {
    let table = Table::new();
    for (uri, port) in [
        ("a.test", 1),
        ("a.test/x", 2),
        ("a.test/x/y", 3),
        ("*.test", 4),
        ("*.test/x/y/z", 5),
        ("*.b.test", 6),
    ] {
        table.register(uri, spec(port, false, "app", "0"), 0);
    }
    for (host, path, port) in [
        ("a.test", "/", Some(1)),
        ("A.Test:8080", "/?q=/x", Some(1)),
        ("a.test", "/x", Some(2)),
        ("a.test", "/X/", Some(2)),
        ("a.test", "/xy", Some(1)),
        ("a.test", "/x/y/z/w?v", Some(3)),
        ("other.test", "/", Some(4)),
        ("deep.down.test", "/x/y/z", Some(5)),
        ("c.b.test", "/", Some(6)),
        ("b.test", "/", Some(4)),
        ("test", "/", None),
        ("nowhere.example", "/", None),
        ("", "/", None),
    ] {
        assert_eq!(table.port(host, path), port, "{host}{path}");
    }
}

#[test]
fn an_empty_deep_pool_falls_back_to_a_shallow_one() {
    let table = Table::new();
    table.register("a.test", spec(1, true, "app", "0"), 0);
    table.register("a.test/x", spec(2, true, "app", "1"), 0);
    let deep = table.registry.lookup("a.test", "/x").unwrap();
    let endpoint = deep.pick(&Want::default(), table.start).unwrap();
    assert_eq!(
        deep.fail(&endpoint, Failure::WrongName, table.start),
        Consequence::Pruned
    );
    assert_eq!(table.port("a.test", "/x"), Some(1));
}

#[test]
fn a_route_leaves_with_its_last_endpoint() {
    let table = Table::new();
    assert_eq!(
        table.register("a.test", spec(1, false, "app", "0"), 0),
        Registered::Added { new_route: true }
    );
    assert_eq!(
        table.register("a.test", spec(2, false, "app", "1"), 0),
        Registered::Added { new_route: false }
    );
    assert_eq!(
        table.register("A.test/", spec(2, false, "app", "1"), 0),
        Registered::Refreshed
    );
    assert_eq!(
        table.register("a.test", spec(2, false, "other", "1"), 0),
        Registered::Updated
    );
    assert_eq!(
        table
            .registry
            .unregister("a.test", "10.0.0.1:1", table.start),
        Unregistered::Removed { route_gone: false }
    );
    assert_eq!(
        table
            .registry
            .unregister("a.test", "10.0.0.1:1", table.start),
        Unregistered::NotFound
    );
    assert_eq!(
        table
            .registry
            .unregister("a.test", "10.0.0.1:2", table.start),
        Unregistered::Removed { route_gone: true }
    );
    assert_eq!(table.registry.routes(), 0);
    assert!(table.registry.lookup("a.test", "/").is_none());
}

#[test]
fn a_wrong_name_prunes_even_the_last_and_the_empty_pool_stays_for_a_while() {
    let table = Table::new();
    table.register("a.test", spec(1, true, "app", "0"), 0);
    let pool = table.registry.lookup("a.test", "/").unwrap();
    let endpoint = pool.pick(&Want::default(), table.start).unwrap();
    assert_eq!(
        pool.fail(&endpoint, Failure::Unreachable, table.at(1)),
        Consequence::Marked,
        "a refused connection never prunes the last"
    );
    assert_eq!(
        pool.fail(&endpoint, Failure::WrongName, table.at(1)),
        Consequence::Pruned
    );
    assert_eq!(table.port("a.test", "/"), Some(0), "known, but empty");
    assert!(table.registry.prune(table.at(30)).is_empty());
    assert_eq!(table.registry.routes(), 1);
    table.registry.prune(table.at(122));
    assert_eq!(table.registry.routes(), 0);

    table.register("a.test", spec(1, true, "app", "0"), 130);
    let pool = table.registry.lookup("a.test", "/").unwrap();
    let endpoint = pool.pick(&Want::default(), table.start).unwrap();
    pool.fail(&endpoint, Failure::WrongName, table.at(131));
    table
        .registry
        .unregister("a.test", "10.0.0.1:1", table.at(132));
    assert!(
        table.registry.lookup("a.test", "/").is_none(),
        "unregistered is gone, not empty"
    );
}

#[test]
fn an_unreachable_endpoint_is_pruned_when_there_are_others() {
    let table = Table::new();
    for port in [1, 2] {
        table.register("tls.test", spec(port, true, "app", &port.to_string()), 0);
        table.register("plain.test", spec(port, false, "app", &port.to_string()), 0);
    }
    for (host, consequence) in [
        ("tls.test", Consequence::Pruned),
        ("plain.test", Consequence::Marked),
    ] {
        let pool = table.registry.lookup(host, "/").unwrap();
        let endpoint = pool.pick(&Want::default(), table.start).unwrap();
        assert_eq!(
            pool.fail(&endpoint, Failure::Unreachable, table.start),
            consequence
        );
        for _ in 0..4 {
            assert_ne!(
                pool.pick(&Want::default(), table.start).unwrap().address(),
                endpoint.address()
            );
        }
    }
}

#[test]
fn silence_prunes_plain_endpoints_only_and_not_while_the_bus_is_away() {
    let table = Table::new();
    table.register("plain.test", spec(1, false, "app", "0"), 0);
    table.register("tls.test", spec(2, true, "app", "0"), 0);
    table.register(
        "short.test",
        EndpointSpec {
            stale_threshold: S(10),
            ..spec(3, false, "app", "0")
        },
        0,
    );
    assert_eq!(
        table
            .registry
            .prune(table.at(11))
            .into_iter()
            .map(|p| (p.uri, p.route_gone))
            .collect::<Vec<_>>(),
        [("short.test".to_owned(), true)]
    );
    table.registry.suspend_pruning();
    assert!(table.registry.prune(table.at(500)).is_empty());
    table.registry.resume_pruning(table.at(500));
    assert!(table.registry.prune(table.at(600)).is_empty());
    assert_eq!(table.registry.prune(table.at(621)).len(), 1);
    assert_eq!(table.port("tls.test", "/"), Some(2));
}

#[test]
fn round_robin_is_even_also_around_a_failed_one() {
    let table = Table::new();
    for port in 1..=4 {
        table.register("a.test", spec(port, false, "app", &port.to_string()), 0);
    }
    let pool = table.registry.lookup("a.test", "/").unwrap();
    let spread = |n| {
        let mut counts = BTreeMap::new();
        for _ in 0..n {
            *counts
                .entry(
                    pool.pick(&Want::default(), table.start)
                        .unwrap()
                        .spec()
                        .port,
                )
                .or_insert(0) += 1;
        }
        counts.into_values().collect::<Vec<_>>()
    };
    assert_eq!(spread(40), [10; 4]);
    let failed = pool.pick(&Want::default(), table.start).unwrap();
    pool.fail(&failed, Failure::EndedEarly, table.start);
    assert_eq!(spread(30), [10; 3]);
}

#[test]
fn sticky_instances_limits_and_tried() {
    let table = Table::new();
    for index in ["0", "1"] {
        table.register(
            "a.test",
            spec(1 + index.parse::<u16>().unwrap(), false, "app", index),
            0,
        );
    }
    let pool = table.registry.lookup("a.test", "/").unwrap();
    let pick = |want: &Want<'_>| pool.pick(want, table.start);
    for _ in 0..3 {
        assert_eq!(
            pick(&Want {
                sticky: Some("app-1"),
                ..Want::default()
            })
            .unwrap()
            .spec()
            .port,
            2
        );
        assert_eq!(
            pick(&Want {
                instance: Instance::App {
                    app: "app",
                    index: "0"
                },
                ..Want::default()
            })
            .unwrap()
            .spec()
            .port,
            1
        );
    }
    assert!(!pool.has(Instance::App {
        app: "app",
        index: "7"
    }));
    let second = pick(&Want {
        sticky: Some("app-1"),
        ..Want::default()
    })
    .unwrap();
    assert_eq!(
        pick(&Want {
            sticky: Some("app-1"),
            tried: std::slice::from_ref(&second),
            ..Want::default()
        })
        .unwrap()
        .spec()
        .port,
        1
    );
    assert_eq!(
        pick(&Want {
            tried: &pool.endpoints(),
            ..Want::default()
        })
        .unwrap_err(),
        NoPick::Tried
    );
    let busy: Vec<_> = pool.endpoints().into_iter().map(InFlight::new).collect();
    assert_eq!(
        pick(&Want {
            max_conns: 1,
            ..Want::default()
        })
        .unwrap_err(),
        NoPick::Full
    );
    drop(busy);
    assert!(
        pick(&Want {
            max_conns: 1,
            ..Want::default()
        })
        .is_ok()
    );
}

#[test]
fn zones_hashes_and_mandatory_stickiness() {
    let table = Table::new();
    for (port, zone) in [(1, "z1"), (2, "z2"), (3, "z1"), (4, "z2")] {
        let index = port.to_string();
        let mut spec = spec(port, false, "app", &index);
        spec.availability_zone = zone.into();
        table.register("a.test", spec, 0);
    }
    let pool = table.registry.lookup("a.test", "/").unwrap();
    let ports = |want: Want<'_>, times: usize| {
        let mut ports: Vec<u16> = (0..times)
            .map(|_| pool.pick(&want, table.start).unwrap().spec().port)
            .collect();
        ports.sort_unstable();
        ports
    };
    let near = Want {
        zone: Some("z2"),
        ..Want::default()
    };
    assert_eq!(ports(near, 4), [2, 2, 4, 4], "the own zone, evenly");
    let none_near = Want {
        zone: Some("z9"),
        ..Want::default()
    };
    assert_eq!(ports(none_near, 4), [1, 2, 3, 4]);
    let gone = Want {
        sticky: Some("app-9"),
        mandatory: true,
        ..Want::default()
    };
    assert_eq!(pool.pick(&gone, table.start).unwrap_err(), NoPick::Tried);
    let full = |pool: &Pool, busy: usize| {
        let busy: Vec<_> = pool.endpoints().into_iter().take(busy).collect();
        let _busy: Vec<_> = busy.into_iter().map(InFlight::new).collect();
        let insists = Want {
            sticky: Some("app-1"),
            mandatory: true,
            max_conns: 1,
            ..Want::default()
        };
        pool.pick(&insists, table.start).map(|_| ())
    };
    assert_eq!(full(&pool, 0), Ok(()));
    assert_eq!(full(&pool, 1), Err(NoPick::Tried), "others are free");
    assert_eq!(full(&pool, 4), Err(NoPick::Full));

    let hash = Balancing::Hash {
        header: "x-tenant".into(),
        balance: 1.5,
    };
    let mut first = spec(1, false, "app", "1");
    first.options.balancing = Some(hash);
    table.register("a.test", first, 1);
    assert_eq!(pool.hash_header().as_deref(), Some("x-tenant"));
    let wanted = |tried| Want {
        hash: Some(b"tenant-1"),
        tried,
        ..Want::default()
    };
    let own = pool.pick(&wanted(&[]), table.start).unwrap();
    assert_eq!(ports(wanted(&[]), 4), [own.spec().port; 4]);
    let tried = [own.clone()];
    let second = pool.pick(&wanted(&tried), table.start).unwrap();
    assert_ne!(second.spec().port, own.spec().port);
    assert_eq!(ports(wanted(&tried), 3), [second.spec().port; 3]);
    let crowd: Vec<_> = (0..3).map(|_| InFlight::new(own.clone())).collect();
    assert_eq!(ports(wanted(&[]), 3), [second.spec().port; 3], "too busy");
    drop(crowd);
    assert_eq!(
        ports(Want::default(), 4),
        [1, 2, 3, 4],
        "no header: in turn"
    );
}

#[test]
fn requests_in_flight_outlive_an_update() {
    let table = Table::new();
    table.register("a.test", spec(1, false, "app", "1"), 0);
    let pool = table.registry.lookup("a.test", "/").unwrap();
    let busy = InFlight::new(pool.endpoints()[0].clone());
    table.register("a.test", spec(1, false, "other", "1"), 0);
    assert_eq!(pool.endpoints()[0].in_flight(), 1);
    drop(busy);
    assert_eq!(pool.endpoints()[0].in_flight(), 0);
}

#[test]
fn connections_are_shared_only_by_the_same_peer() {
    let table = Table::new();
    let register = |san: &str, zone: &str| {
        table.register(
            "a.test",
            EndpointSpec {
                server_cert_domain_san: san.into(),
                availability_zone: zone.into(),
                ..spec(1, true, "app", "0")
            },
            0,
        );
        table.registry.lookup("a.test", "/").unwrap().endpoints()[0].transport()
    };
    let first = register("one", "z1");
    assert_eq!(register("one", "z2"), first);
    assert_ne!(register("two", "z2"), first);
    assert_eq!(register("one", "z2"), first);
    // This is another route of the same instance, registered by a message of its own.
    let one = EndpointSpec {
        server_cert_domain_san: "one".into(),
        ..spec(1, true, "app", "0")
    };
    table.register("b.test", one, 0);
    let other = table.registry.lookup("b.test", "/").unwrap();
    assert_eq!(other.endpoints()[0].transport(), first);
}

#[test]
fn another_instance_is_another_peer_only_if_it_is_an_apps() {
    let table = Table::new();
    let register = |app: &str, index: &str, tls: bool| {
        table.register("a.test", spec(1, tls, app, index), 0);
        table.registry.lookup("a.test", "/").unwrap().endpoints()[0].transport()
    };
    for tls in [false, true] {
        assert_ne!(register("app", "0", tls), register("app", "1", tls));
        assert_ne!(register("app", "0", tls), register("other", "0", tls));
        assert_eq!(register("", "0", tls), register("", "1", tls));
        assert_ne!(register("", "0", tls), register("app", "0", tls));
    }
    assert_ne!(register("", "0", false), register("", "0", true));
}

#[derive(Clone, Debug)]
enum Step {
    Register(usize, u16, bool),
    Unregister(usize, u16),
    Prune,
    Fail(usize, bool),
    Lookup(usize),
}

/// Uris that overlap in every way.
const URIS: [&str; 6] = ["a.t", "a.t/p", "a.t/p/q", "*.t", "*.t/p", "b.a.t"];
const REQUESTS: [(&str, &str, &[usize]); 6] = [
    ("a.t", "/", &[0, 3]),
    ("a.t", "/p", &[1, 0, 4, 3]),
    ("a.t", "/p/q/r", &[2, 1, 0, 4, 3]),
    ("x.t", "/p", &[4, 3]),
    ("b.a.t", "/p", &[5, 4, 3]),
    ("x.y.t", "/z", &[3]),
];

fn step() -> impl Strategy<Value = Step> {
    let uri = 0..URIS.len();
    prop_oneof![
        4 => (uri.clone(), 1..5_u16, any::<bool>()).prop_map(|(u, p, t)| Step::Register(u, p, t)),
        2 => (uri.clone(), 1..5_u16).prop_map(|(u, p)| Step::Unregister(u, p)),
        1 => Just(Step::Prune),
        1 => (uri, any::<bool>()).prop_map(|(u, w)| Step::Fail(u, w)),
        4 => (0..REQUESTS.len()).prop_map(Step::Lookup),
    ]
}

/// The members of a route in the model: port → (TLS, time of the last registration).
type Members = BTreeMap<u16, (bool, u64)>;

/// The routes of the model: for each index of `URIS` its members, and the time at which a failure last removed one.
#[derive(Default)]
struct Model {
    routes: BTreeMap<usize, (Members, u64)>,
}

impl Model {
    fn owner(&self, matching: &[usize]) -> Option<usize> {
        // Matching routes come grouped by host, most specific first. An empty pool yields only to pools of its own host.
        let host = |uri: usize| URIS[uri].split('/').next();
        let first = *matching.iter().find(|uri| self.routes.contains_key(uri))?;
        let group = matching
            .iter()
            .copied()
            .filter(|uri| host(*uri) == host(first));
        let full = group.clone().find(|uri| {
            self.routes
                .get(uri)
                .is_some_and(|(members, _)| !members.is_empty())
        });
        Some(full.unwrap_or(first))
    }
}

proptest! {
    /// The registry agrees with a naive model, and never hands out an endpoint of another route.
    #[test]
    fn agrees_with_the_model(steps in proptest::collection::vec((step(), 0..90_u64), 1..60)) {
        let table = Table::new();
        let mut model = Model::default();
        let mut now = 0;
        for (step, pause) in steps {
            now += pause;
            match step {
                Step::Register(uri, port, tls) => {
                    table.register(URIS[uri], spec(port, tls, URIS[uri], &port.to_string()), now);
                    model.routes.entry(uri).or_default().0.insert(port, (tls, now));
                }
                Step::Unregister(uri, port) => {
                    table.registry.unregister(URIS[uri], &format!("10.0.0.1:{port}"), table.at(now));
                    if let Some((members, _)) = model.routes.get_mut(&uri) {
                        members.remove(&port);
                        if members.is_empty() {
                            model.routes.remove(&uri);
                        }
                    }
                }
                Step::Prune => {
                    table.registry.prune(table.at(now));
                    model.routes.retain(|_, (members, emptied)| {
                        let had = members.len();
                        members.retain(|_, (tls, seen)| *tls || now - *seen <= 120);
                        if members.is_empty() { had == 0 && now - *emptied < 120 } else { true }
                    });
                }
                Step::Fail(uri, wrong_name) => {
                    // Takes the route's own pool, even if a deeper route would win the look-up.
                    let Some((_, pool)) = table.registry.snapshot().into_iter().find(|(key, _)| key == URIS[uri]) else { continue };
                    let Ok(endpoint) = pool.pick(&Want::default(), table.at(now)) else { continue };
                    let failure = if wrong_name { Failure::WrongName } else { Failure::Unreachable };
                    let pruned = pool.fail(&endpoint, failure, table.at(now)) == Consequence::Pruned;
                    let (members, emptied) = model.routes.get_mut(&uri).expect("the model knows every route");
                    prop_assert_eq!(pruned, wrong_name || (endpoint.spec().tls && members.len() > 1));
                    if pruned {
                        members.remove(&endpoint.spec().port);
                        *emptied = now;
                    }
                }
                Step::Lookup(request) => {
                    let (host, path, matching) = REQUESTS[request];
                    let owner = model.owner(matching);
                    let pool = table.registry.lookup(host, path);
                    prop_assert_eq!(pool.as_ref().map(|pool| pool.uri()), owner.map(|uri| URIS[uri]));
                    let (Some(pool), Some(uri)) = (pool, owner) else { continue };
                    let ports: BTreeSet<u16> = pool.endpoints().iter().map(|endpoint| endpoint.spec().port).collect();
                    prop_assert_eq!(ports, model.routes[&uri].0.keys().copied().collect::<BTreeSet<_>>());
                    if let Ok(endpoint) = pool.pick(&Want::default(), table.at(now)) {
                        prop_assert_eq!(endpoint.app_id(), URIS[uri]);
                    }
                }
            }
            prop_assert_eq!(table.registry.routes(), model.routes.len());
        }
    }
}
