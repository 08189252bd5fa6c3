//! Tests everything in registrations beside the address: repeated messages, options, policies, successors, starting routes.

use super::tests::{S, Table, spec};
use super::*;

const FINGERPRINT: Fingerprint = [7, 9];

/// Registers an endpoint and remembers the message, as the router does.
fn register_and_record(table: &Table, repeats: &mut Repeats, uris: &[&str], at: u64) {
    let mut endpoint = table.registry.endpoint(spec(1, false, "app", "0"));
    let now = table.at(at);
    let places = uris
        .iter()
        .filter_map(|uri| {
            table
                .registry
                .register_with_place(uri, &mut endpoint, now, now)
                .place
        })
        .collect();
    repeats.record(FINGERPRINT, places, 3, &table.registry);
}

#[test]
fn a_repeated_message_moves_all_its_time_stamps() {
    let (table, mut repeats) = (Table::new(), Repeats::default());
    let again = |repeats: &Repeats, at| repeats.refresh(FINGERPRINT, &table.registry, table.at(at));
    assert_eq!(again(&repeats, 0), None, "never registered");
    register_and_record(&table, &mut repeats, &["a.test", "b.test"], 0);
    assert_eq!(repeats.len(), 2);
    assert_eq!(again(&repeats, 100), Some((2, 3)));
    assert!(table.registry.prune(table.at(200)).is_empty());
    assert_eq!(table.registry.since_update(table.at(101)), S(1));
    assert_eq!(table.registry.prune(table.at(221)).len(), 2);
    assert_eq!(again(&repeats, 222), None, "pruned");
    register_and_record(&table, &mut repeats, &["a.test", "b.test"], 230);
    assert_eq!(again(&repeats, 231), Some((2, 3)));
}

#[test]
fn any_change_in_between_makes_a_message_be_parsed_again() {
    type Change = fn(&Table, &Arc<Pool>);
    let changes: [(&str, Change); 6] = [
        ("unregistered", |table, _| {
            table
                .registry
                .unregister("a.test", "10.0.0.1:1", table.start);
        }),
        ("failed", |table, pool| {
            let endpoint = pool.endpoints()[0].clone();
            pool.fail(&endpoint, Failure::WrongName, table.start);
        }),
        ("a sibling came", |table, _| {
            table.register("a.test", spec(2, false, "app", "1"), 0);
        }),
        ("registered with other contents", |table, _| {
            table.register("a.test", spec(1, false, "other", "0"), 0);
        }),
        ("gone and back", |table, _| {
            table
                .registry
                .unregister("a.test", "10.0.0.1:1", table.start);
            table.register("a.test", spec(1, false, "app", "0"), 0);
        }),
        ("pruned", |table, _| {
            assert_eq!(table.registry.prune(table.at(121)).len(), 2);
        }),
    ];
    for (what, change) in changes {
        let (table, mut repeats) = (Table::new(), Repeats::default());
        register_and_record(&table, &mut repeats, &["b.test", "a.test"], 0);
        let pool = table.registry.lookup("a.test", "/").unwrap();
        change(&table, &pool);
        let again = repeats.refresh(FINGERPRINT, &table.registry, table.at(1));
        assert_eq!(again, None, "{what}");
        register_and_record(&table, &mut repeats, &["b.test", "a.test"], 130);
        let again = repeats.refresh(FINGERPRINT, &table.registry, table.at(131));
        assert_eq!(again, Some((2, 3)), "{what}");
    }
    // A mark is no change of the pool, so a repeated registration does not remove it either.
    let (table, mut repeats) = (Table::new(), Repeats::default());
    register_and_record(&table, &mut repeats, &["a.test"], 0);
    let pool = table.registry.lookup("a.test", "/").unwrap();
    let endpoint = pool.endpoints()[0].clone();
    pool.fail(&endpoint, Failure::EndedEarly, table.start);
    assert!(
        repeats
            .refresh(FINGERPRINT, &table.registry, table.at(1))
            .is_some()
    );
}

#[test]
fn outdated_messages_are_removed() {
    let (table, mut repeats) = (Table::new(), Repeats::default());
    for round in 0..40_000_u64 {
        let mut endpoint = table
            .registry
            .endpoint(spec(1, true, "app", &round.to_string()));
        let made =
            table
                .registry
                .register_with_place("a.test", &mut endpoint, table.start, table.start);
        let fingerprint = [round.wrapping_mul(0x9e37_79b9_7f4a_7c15), round];
        repeats.record(
            fingerprint,
            made.place.into_iter().collect(),
            0,
            &table.registry,
        );
    }
    assert!(repeats.len() <= 256 * 64, "{} are kept", repeats.len());
}

#[test]
fn options_are_those_of_the_endpoint_that_changed_last() {
    let table = Table::new();
    let register = |port: u16, balancing: Option<Balancing>, url: &str, at: u64| {
        let mut spec = spec(port, true, "app", &port.to_string());
        spec.options.balancing = balancing;
        spec.route_service_url = url.into();
        table.register("a.test", spec, at);
    };
    register(1, None, "https://old", 0);
    register(2, None, "https://old", 0);
    let pool = table.registry.lookup("a.test", "/").unwrap();
    let url = || pool.route_service_url().unwrap_or_default().to_string();
    register(2, Some(Balancing::LeastConnection), "https://new", 10);
    register(1, None, "https://old", 20);
    assert_eq!(
        url(),
        "https://new",
        "the other is behind, and repeats itself"
    );
    assert_eq!(pool.balancing(), Balancing::LeastConnection);
    register(2, None, "", 30);
    assert_eq!(
        (url().as_str(), pool.balancing()),
        ("", Balancing::RoundRobin)
    );
    table
        .registry
        .unregister("a.test", "10.0.0.1:2", table.at(31));
    assert_eq!(url(), "https://old", "the newest that is left");
}

#[test]
fn a_balancing_that_is_no_longer_named_is_the_routers_own() {
    let settings = Settings {
        balancing: Balancing::LeastConnection,
        ..Settings::default()
    };
    for (settings, default) in [
        (Settings::default(), Balancing::RoundRobin),
        (settings, Balancing::LeastConnection),
    ] {
        let table = Table::with(settings);
        let hash = Balancing::Hash {
            header: "x-user".into(),
            balance: 0.0,
        };
        for other in [Balancing::RoundRobin, Balancing::LeastConnection, hash] {
            let mut named = spec(1, true, "app", "0");
            named.options.balancing = Some(other.clone());
            table.register("a.test", named, 0);
            let pool = table.registry.lookup("a.test", "/").unwrap();
            assert_eq!(pool.balancing(), other);
            table.register("a.test", spec(1, true, "app", "0"), 1);
            assert_eq!(pool.balancing(), default);
        }
    }
}

#[test]
fn a_caller_reaches_only_its_own_part_of_the_platform() {
    let table = Table::new();
    for (port, org, space) in [
        (1, "o1", "s1"),
        (2, "o1", "s2"),
        (3, "o2", "s3"),
        (4, "", ""),
    ] {
        let mut spec = spec(port, true, "app", &port.to_string());
        let tags = [("organization_id", org), ("space_id", space)];
        spec.tags = tags.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        table.register("a.test", spec, 0);
    }
    let pool = table.registry.lookup("a.test", "/").unwrap();
    let ports = |within| {
        let want = Want {
            within,
            ..Want::default()
        };
        let mut ports: Vec<u16> = (0..12)
            .filter_map(|_| pool.pick(&want, table.start).ok())
            .map(|endpoint| endpoint.spec().port)
            .collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    };
    assert_eq!(ports(Within::Anywhere), [1, 2, 3, 4]);
    assert_eq!(ports(Within::Org("o1")), [1, 2]);
    assert_eq!(ports(Within::Space("s3")), [3]);
    assert_eq!(ports(Within::Org("")), [0_u16; 0], "nowhere is no place");
    let policy = RoutePolicy {
        scope: PolicyScope::Space,
        sources: vec![PolicySource::Any],
    };
    let caller = Caller {
        space: "s2",
        ..Caller::default()
    };
    assert_eq!(ports(policy.within(&caller)), [2]);
}

/// Sends one request while the endpoints at these ports are dead. Returns the port that answers, if any, and the number of
/// attempts.
fn request(
    table: &Table,
    most: usize,
    dead: &[u16],
    failure: Failure,
    at: u64,
) -> (Option<u16>, usize) {
    let pool = table.registry.lookup("a.test", "/").unwrap();
    let (mut attempts, mut made) = (Attempts::new(most), 0);
    loop {
        let want = Want {
            tried: attempts.tried(),
            ..Want::default()
        };
        let Ok(endpoint) = pool.pick(&want, table.at(at)) else {
            return (None, made);
        };
        made += 1;
        let port = endpoint.spec().port;
        if !dead.contains(&port) {
            return (Some(port), made);
        }
        pool.fail(&endpoint, failure, table.at(at));
        let want = Want::default();
        if !attempts.failed(&pool, endpoint, Some(failure), &want, table.at(at)) {
            return (None, made);
        }
    }
}

#[test]
fn stale_endpoints_do_not_exhaust_a_healthy_app() {
    for failure in [Failure::NotListening, Failure::WrongName] {
        let table = Table::new();
        for port in 1..=9 {
            table.register("a.test", spec(port, true, "app", &port.to_string()), 0);
        }
        let dead = [1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(
            request(&table, 3, &dead, failure, 1).0,
            Some(9),
            "{failure:?}"
        );
    }
    // An endpoint that ends the exchange is not stale, so the failure costs an attempt.
    let table = Table::new();
    for port in 1..=9 {
        table.register("a.test", spec(port, true, "app", &port.to_string()), 0);
    }
    let all = [1, 2, 3, 4, 5, 6, 7, 8, 9];
    assert_eq!(request(&table, 3, &all, Failure::EndedEarly, 1), (None, 3));
    // When no endpoint is healthy, the number of attempts is the configured one, plus those after which a healthy endpoint was
    // likely.
    let (answer, made) = request(&table, 3, &all, Failure::NotListening, 100);
    assert_eq!(answer, None);
    assert!(made <= all.len(), "nobody is tried twice");
    assert_eq!(
        table.registry.lookup("a.test", "/").unwrap().len(),
        1,
        "the last stays"
    );
}

#[test]
fn the_newest_instance_of_an_index_is_preferred() {
    let table = Table::new();
    let old = EndpointSpec {
        instance_id: "old".into(),
        ..spec(1, true, "app", "0")
    };
    table.register("a.test", old.clone(), 0);
    table.register("a.test", spec(2, true, "app", "0"), 10);
    table.register("a.test", spec(3, true, "app", "1"), 0);
    let served = |at: u64| {
        let pool = table.registry.lookup("a.test", "/").unwrap();
        let pick = |_| {
            pool.pick(&Want::default(), table.at(at))
                .unwrap()
                .spec()
                .port
        };
        let mut ports: Vec<u16> = (0..6).map(pick).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    };
    assert_eq!(served(11), [2, 3]);
    table.register("a.test", old, 20);
    assert_eq!(served(21), [2, 3], "it only repeats itself");
    table
        .registry
        .unregister("a.test", "10.0.0.1:2", table.at(22));
    assert_eq!(served(23), [1, 3], "without the newer one it serves again");
    // Its whole threshold passed without a registration while another endpoint was registered.
    table.register("a.test", spec(3, true, "app", "1"), 130);
    assert_eq!(served(150), [3]);
    table.registry.suspend_pruning();
    assert_eq!(
        served(150),
        [1, 3],
        "silence means nothing while the bus is away"
    );
}

#[test]
fn a_new_generation_is_a_new_state_of_the_same_endpoint() {
    let table = Table::new();
    let of = |generation| EndpointSpec {
        generation,
        ..spec(1, true, "app", "0")
    };
    let registered = |generation, at| table.register("a.test", of(generation), at);
    assert_eq!(registered(7, 0), Registered::Added { new_route: true });
    let pool = table.registry.lookup("a.test", "/").unwrap();
    let guard = InFlight::new(pool.endpoints().remove(0));
    assert_eq!(registered(7, 1), Registered::Refreshed);
    assert_eq!(registered(9, 2), Registered::Updated);
    let endpoint = pool.endpoints().remove(0);
    assert_eq!((endpoint.generation(), endpoint.in_flight()), (9, 1));
    drop(guard);
    assert_eq!(endpoint.in_flight(), 0);
}

#[test]
fn a_starting_route_is_there_but_empty_for_a_while() {
    let table = Table::new();
    table
        .registry
        .announce_start("A.test/x", table.at(10), table.start);
    let pool = table.registry.lookup("a.test", "/x/y").unwrap();
    assert!(pool.is_empty() && pool.is_starting(table.at(9)));
    assert!(!pool.is_starting(table.at(10)));
    table.registry.prune(table.at(9));
    assert_eq!(table.registry.routes(), 1);
    table.registry.prune(table.at(11));
    assert_eq!(
        table.registry.routes(),
        0,
        "as if no start had been announced"
    );

    table
        .registry
        .announce_start("a.test", table.at(30), table.at(20));
    table.register("a.test", spec(1, true, "app", "0"), 21);
    let pool = table.registry.lookup("a.test", "/").unwrap();
    assert!(!pool.is_starting(table.at(22)), "somebody is here");
    table
        .registry
        .announce_start("a.test", table.at(40), table.at(22));
    let gone = table
        .registry
        .unregister("a.test", "10.0.0.1:1", table.at(23));
    assert_eq!(gone, Unregistered::Removed { route_gone: false });
    assert!(
        pool.is_starting(table.at(24)),
        "its successor is on the way"
    );
    // Emitters repeat an unregistration; the repetition does not end the wait either.
    let again = table
        .registry
        .unregister("a.test", "10.0.0.1:1", table.at(25));
    assert_eq!(again, Unregistered::NotFound);
    assert!(table.registry.lookup("a.test", "/").is_some());
    table.registry.prune(table.at(41));
    assert!(table.registry.lookup("a.test", "/").is_none());
}

#[test]
fn an_unregistered_route_waits_for_its_next_endpoint() {
    let table = Table::with(Settings {
        expect_successor: S(2),
        ..Settings::default()
    });
    let unregister = |second| {
        let (registry, at) = (&table.registry, table.at(second));
        registry.unregister("a.test", "10.0.0.1:1", at)
    };
    table.register("a.test", spec(1, true, "app", "0"), 0);
    assert_eq!(unregister(10), Unregistered::Removed { route_gone: false });
    let pool = table.registry.lookup("a.test", "/").unwrap();
    assert_eq!(pool.starting_for(table.at(11)), Some(S(1)));
    assert!(table.registry.forget_left(table.at(11)).is_empty());
    // The next endpoint comes in time.
    let registered = table.register("a.test", spec(1, true, "app", "0"), 11);
    assert_eq!(registered, Registered::Added { new_route: true });
    assert!(table.registry.forget_left(table.at(13)).is_empty());
    // No next endpoint comes.
    unregister(20);
    assert_eq!(table.registry.forget_left(table.at(22)), ["a.test"]);
    assert!(table.registry.lookup("a.test", "/").is_none());
    assert_eq!(table.registry.routes(), 0);
    // An endpoint that failed is not expected back: its route answers 503 as before, until it is known to have gone.
    table.register("a.test", spec(1, true, "app", "0"), 30);
    let pool = table.registry.lookup("a.test", "/").unwrap();
    pool.fail(&pool.endpoints()[0], Failure::WrongName, table.at(31));
    assert_eq!(pool.starting_for(table.at(31)), None);
    table.registry.prune(table.at(32));
    assert!(table.registry.lookup("a.test", "/").is_some());
    unregister(33);
    assert!(table.registry.lookup("a.test", "/").is_none());
    // The app has lost the route.
    table.register("a.test", spec(1, true, "app", "0"), 40);
    let described = spec(1, true, "app", "0");
    let lost = table
        .registry
        .unregister_as(&described, "a.test", false, table.at(41));
    assert_eq!(lost, Unregistered::Removed { route_gone: true });
    assert!(table.registry.lookup("a.test", "/").is_none());
}

#[test]
fn an_unregistered_route_can_be_kept_as_empty() {
    let settings = Settings {
        keep_unregistered: true,
        empty_pool_timeout: S(60),
        ..Settings::default()
    };
    let table = Table::with(settings);
    table.register("a.test", spec(1, false, "app", "0"), 0);
    table
        .registry
        .unregister("a.test", "10.0.0.1:1", table.at(10));
    table.registry.prune(table.at(69));
    assert!(table.registry.lookup("a.test", "/").unwrap().is_empty());
    table.registry.prune(table.at(71));
    assert!(table.registry.lookup("a.test", "/").is_none());
}

#[test]
fn many_paths_of_one_host() {
    let table = Table::new();
    for n in 0..50_u16 {
        table.register(&format!("a.test/p{n}/q"), spec(n, true, "app", "0"), 0);
    }
    assert_eq!(table.port("a.test", "/p7/q/r"), Some(7));
    assert_eq!(table.port("a.test", "/p7"), None);
    let deep = "/p8/q".to_owned() + &"/x".repeat(10_000);
    assert_eq!(table.port("a.test", &deep), Some(8));
    let long = "x.".repeat(100_000) + "test";
    assert_eq!(table.port(&long, "/"), None);
    for n in 0..50_u16 {
        let address = format!("10.0.0.1:{n}");
        table
            .registry
            .unregister(&format!("a.test/p{n}/q"), &address, table.start);
    }
    assert_eq!(
        (table.registry.routes(), table.registry.endpoints()),
        (0, 0)
    );
}
