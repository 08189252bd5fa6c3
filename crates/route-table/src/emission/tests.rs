//! Tests the laws (as property tests) and the rules that routes must obey, with one example each.

mod syncs;

use super::*;
use proptest::prelude::*;
use std::collections::HashSet;

fn route(uri: &str, port: u32) -> Arc<Route> {
    Arc::new(Route {
        uri: uri.into(),
        container_port: port,
        ..Route::default()
    })
}

fn tag(epoch: &str, index: u32) -> RowVersion {
    RowVersion {
        epoch: epoch.into(),
        index,
    }
}

fn desired(guid: &str, instances: u32, routes: Vec<Arc<Route>>, index: u32) -> Desired {
    Desired {
        process_guid: guid.into(),
        domain: "cf-apps".into(),
        log_guid: "app".into(),
        instances,
        routes,
        tag: tag("d", index),
        ..Desired::default()
    }
}

fn actual(guid: &str, instance: u32, version: u32) -> Actual {
    Actual {
        process_guid: guid.into(),
        index: instance,
        instance_guid: format!("{guid}-i{instance}"),
        routable: true,
        cell_address: "10.0.0.1".into(),
        instance_address: "10.255.0.2".into(),
        ports: vec![
            Port {
                container: 8080,
                host: 61001 + instance * 10,
                container_tls: 61001,
                host_tls: 61002 + instance * 10,
            },
            Port {
                container: 8080,
                host: 0,
                container_tls: 61443,
                host_tls: 0,
            },
        ],
        availability_zone: "z1".into(),
        since_ns: 5,
        tag: tag("a", version),
        ..Actual::default()
    }
}

fn table(events: Vec<Event>) -> Table {
    let mut table = Table::default();
    for event in events {
        table.apply(event);
    }
    table
}

fn uris(registrations: &[Registration]) -> Vec<&str> {
    registrations.iter().map(|r| r.route.uri.as_str()).collect()
}

fn all(table: &Table) -> Registrations {
    table
        .registrations()
        .map(|r| (r.key(), r.clone()))
        .collect()
}

#[test]
fn a_running_instance_of_a_desired_process_is_registered_with_every_field() {
    let mut wanted = desired("p", 1, vec![route("a.x", 8080)], 1);
    wanted
        .metric_tags
        .insert("instance".into(), TagValue::Index);
    let mut table = table(vec![Event::DesiredSet(wanted)]);
    let changes = table.apply(Event::ActualSet(actual("p", 0, 1)));
    assert!(changes.new_endpoint);
    let [one] = changes.register.as_slice() else {
        panic!("{changes:?}")
    };
    let endpoint = one.endpoint.as_ref();
    // The first mapping of the port counts. The other one has no TLS port.
    assert_eq!(
        (endpoint.host.as_str(), endpoint.port, endpoint.tls_port),
        ("10.0.0.1", 61001, Some(61002))
    );
    assert_eq!(
        (
            endpoint.instance_guid.as_str(),
            endpoint.app.as_str(),
            endpoint.availability_zone.as_str()
        ),
        ("p-i0", "app", "z1")
    );
    assert_eq!(
        endpoint.tags,
        BTreeMap::from([
            ("component".into(), "route-emitter".into()),
            ("instance".into(), "0".into())
        ])
    );
}

#[test]
fn the_container_itself_is_registered_when_it_prefers_that() {
    let direct = Actual {
        prefer_instance: true,
        ..actual("p", 0, 1)
    };
    let registrations = derive(&desired("p", 1, vec![route("a.x", 8080)], 1), [&direct]);
    let endpoint = &registrations.values().next().unwrap().endpoint;
    assert_eq!(
        (endpoint.host.as_str(), endpoint.port, endpoint.tls_port),
        ("10.255.0.2", 8080, Some(61001))
    );
}

#[test]
fn without_a_tls_port_only_the_plain_port_is_registered() {
    let plain = Actual {
        ports: vec![Port {
            container: 8080,
            host: 61001,
            ..Port::default()
        }],
        ..actual("p", 0, 1)
    };
    let registrations = derive(
        &desired("p", 1, vec![route("a.x", 8080), route("b.x", 9090)], 1),
        [&plain],
    );
    assert_eq!(registrations.len(), 1, "port 9090 is not mapped");
    assert_eq!(
        registrations.values().next().unwrap().endpoint.tls_port,
        None
    );
}

#[test]
fn a_changed_option_is_registered_at_once_and_nothing_is_unregistered() {
    let mut table = table(vec![
        Event::DesiredSet(desired(
            "p",
            1,
            vec![route("a.x", 8080), route("b.x", 8080)],
            1,
        )),
        Event::ActualSet(actual("p", 0, 1)),
    ]);
    let changed = Arc::new(Route {
        options: Some("{\"loadbalancing\":\"least-connection\"}".into()),
        ..route("a.x", 8080).as_ref().clone()
    });
    let changes = table.apply(Event::DesiredSet(desired(
        "p",
        1,
        vec![changed, route("b.x", 8080)],
        2,
    )));
    assert_eq!(
        (
            uris(&changes.register),
            changes.unregister.len(),
            changes.new_endpoint
        ),
        (vec!["a.x"], 0, false)
    );
}

#[test]
fn routes_follow_the_desired_lrp() {
    let mut table = table(vec![
        Event::DesiredSet(desired("p", 2, vec![route("a.x", 8080)], 1)),
        Event::ActualSet(actual("p", 0, 1)),
        Event::ActualSet(actual("p", 1, 1)),
    ]);
    let changes = table.apply(Event::DesiredSet(desired(
        "p",
        2,
        vec![route("b.x", 8080)],
        2,
    )));
    assert_eq!(
        (uris(&changes.register), uris(&changes.unregister)),
        (vec!["b.x"; 2], vec!["a.x"; 2])
    );
    assert!(changes.withdrawn);
    let fewer = table.apply(Event::DesiredSet(desired(
        "p",
        1,
        vec![route("b.x", 8080)],
        3,
    )));
    assert_eq!(
        (fewer.register.len(), fewer.unregister[0].endpoint.index),
        (0, 1),
        "scaled down"
    );
    let stopped = table.apply(Event::DesiredRemoved {
        process_guid: "p".into(),
        tag: tag("d", 3),
    });
    assert_eq!(uris(&stopped.unregister), ["b.x"]);
    assert!(!stopped.withdrawn, "the app may be started again");
    let late = table.apply(Event::DesiredSet(desired(
        "p",
        1,
        vec![route("b.x", 8080)],
        2,
    )));
    assert!(late.is_empty(), "an event older than the removal");
}

#[test]
fn an_instance_that_is_not_routable_any_more_is_unregistered() {
    let mut table = table(vec![
        Event::DesiredSet(desired("p", 1, vec![route("a.x", 8080)], 1)),
        Event::ActualSet(actual("p", 0, 1)),
    ]);
    let changes = table.apply(Event::ActualSet(Actual {
        routable: false,
        ..actual("p", 0, 2)
    }));
    assert_eq!(uris(&changes.unregister), ["a.x"]);
    assert!(!changes.withdrawn, "the next instance may follow");
    assert!(
        table.apply(Event::ActualSet(actual("p", 0, 1))).is_empty(),
        "an older version"
    );
}

#[test]
fn evacuation_does_not_flap() {
    let mut table = table(vec![
        Event::DesiredSet(desired("p", 1, vec![route("a.x", 8080)], 1)),
        Event::ActualSet(actual("p", 0, 1)),
    ]);
    let evacuating = Actual {
        evacuating: true,
        tag: tag("other row", 0),
        ..actual("p", 0, 1)
    };
    assert!(table.apply(Event::ActualSet(evacuating.clone())).is_empty());
    assert!(
        table
            .apply(Event::ActualRemoved {
                key: actual("p", 0, 1).key(),
                tag: tag("a", 1)
            })
            .is_empty()
    );
    assert_eq!(
        uris(
            &table
                .apply(Event::ActualRemoved {
                    key: evacuating.key(),
                    tag: tag("other row", 0)
                })
                .unregister
        ),
        ["a.x"]
    );
}

#[test]
fn domains_that_are_not_fresh_keep_their_routes() {
    let start = || {
        table(vec![
            Event::DesiredSet(desired("p", 1, vec![route("a.x", 8080)], 1)),
            Event::ActualSet(actual("p", 0, 1)),
        ])
    };
    let snapshot = |fresh: &[&str]| Snapshot {
        desired: vec![],
        actuals: vec![actual("p", 0, 1)],
        fresh_domains: fresh.iter().map(ToString::to_string).collect(),
    };
    let mut kept = start();
    let marker = kept.begin_sync();
    assert!(kept.sync(marker, snapshot(&[])).is_empty());
    let mut dropped = start();
    let marker = dropped.begin_sync();
    assert_eq!(
        uris(&dropped.sync(marker, snapshot(&["cf-apps"])).unregister),
        ["a.x"]
    );
}

#[test]
fn events_during_a_fetch_are_not_undone_by_its_older_snapshot() {
    let mut table = table(vec![
        Event::DesiredSet(desired("p", 2, vec![route("a.x", 8080)], 1)),
        Event::ActualSet(actual("p", 0, 1)),
    ]);
    let marker = table.begin_sync();
    table.apply(Event::ActualSet(actual("p", 1, 1)));
    table.apply(Event::ActualRemoved {
        key: actual("p", 0, 1).key(),
        tag: tag("a", 2),
    });
    table.apply(Event::DesiredSet(desired(
        "p",
        2,
        vec![route("b.x", 8080)],
        2,
    )));
    let old = Snapshot {
        desired: vec![desired("p", 2, vec![route("a.x", 8080)], 1)],
        actuals: vec![actual("p", 0, 1)],
        fresh_domains: ["cf-apps".to_owned()].into(),
    };
    assert!(table.sync(marker, old).is_empty());
    assert_eq!(
        table
            .registrations()
            .map(|r| (r.route.uri.as_str(), r.endpoint.index))
            .collect::<Vec<_>>(),
        [("b.x", 1)]
    );
}

#[test]
fn the_next_tenant_of_an_address_keeps_its_routes() {
    let successor = Actual {
        process_guid: "q".into(),
        instance_guid: "q-i0".into(),
        ..actual("p", 0, 1)
    };
    let mut table = table(vec![
        Event::DesiredSet(desired(
            "p",
            1,
            vec![route("a.x", 8080), route("b.x", 8080)],
            1,
        )),
        Event::DesiredSet(desired("q", 1, vec![route("a.x", 8080)], 1)),
        Event::ActualSet(actual("p", 0, 1)),
        Event::ActualSet(successor),
    ]);
    let changes = table.apply(Event::ActualRemoved {
        key: actual("p", 0, 1).key(),
        tag: tag("a", 1),
    });
    assert_eq!(
        (uris(&changes.unregister), uris(&changes.register)),
        (vec!["b.x"], vec!["a.x"])
    );
    assert_eq!(changes.register[0].endpoint.instance_guid, "q-i0");
}

#[test]
fn unregistrations_are_repeated_until_the_route_is_back() {
    let registration = |uri: &str| {
        derive(
            &desired("p", 1, vec![route(uri, 8080)], 1),
            [&actual("p", 0, 1)],
        )
        .into_values()
        .next()
        .unwrap()
    };
    let mut repeats = UnregistrationRepeats::new(2);
    repeats.record(&Changes {
        unregister: vec![registration("a.x"), registration("b.x")],
        ..Changes::default()
    });
    assert_eq!(repeats.due().len(), 2);
    repeats.record(&Changes {
        register: vec![registration("a.x")],
        ..Changes::default()
    });
    assert_eq!(uris(&repeats.due()), ["b.x"]);
    assert!(repeats.due().is_empty());
}

prop_compose! {
    fn any_desired()(guid in 0..3u8, instances in 0..3u32, hosts in prop::collection::btree_set(0..4u8, 0..4), option in prop::option::of("[ab]"), version in 0..6u32) -> Desired {
        let routes = hosts.into_iter().map(|h| Arc::new(Route { uri: format!("h{h}.x"), container_port: 8080, options: option.clone(), ..Route::default() })).collect();
        desired(&format!("p{guid}"), instances, routes, version)
    }
}

prop_compose! {
    fn any_actual()(guid in 0..3u8, index in 0..3u32, routable: bool, evacuating: bool, version in 0..6u32) -> Actual {
        // Host ports differ between processes, as on a cell.
        let mut actual = Actual { routable, evacuating, ..actual(&format!("p{guid}"), index, version) };
        actual.ports[0].host += u32::from(guid) * 1000;
        actual.ports[0].host_tls += u32::from(guid) * 1000;
        actual
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => any_desired().prop_map(Event::DesiredSet),
        1 => any_desired().prop_map(|d| Event::DesiredRemoved { process_guid: d.process_guid, tag: d.tag }),
        3 => any_actual().prop_map(Event::ActualSet),
        1 => any_actual().prop_map(|a| Event::ActualRemoved { key: a.key(), tag: a.tag }),
    ]
}

fn any_snapshot() -> impl Strategy<Value = Snapshot> {
    (
        prop::collection::vec(any_desired(), 0..4),
        prop::collection::vec(any_actual(), 0..6),
    )
        .prop_map(|(desired, actuals)| {
            let desired: BTreeMap<_, _> = desired
                .into_iter()
                .map(|d| (d.process_guid.clone(), d))
                .collect();
            let actuals: BTreeMap<_, _> = actuals.into_iter().map(|a| (a.key(), a)).collect();
            Snapshot {
                desired: desired.into_values().collect(),
                actuals: actuals.into_values().collect(),
                fresh_domains: ["cf-apps".to_owned()].into(),
            }
        })
}

fn derived(snapshot: &Snapshot) -> Registrations {
    snapshot
        .desired
        .iter()
        .flat_map(|d| {
            derive(
                d,
                snapshot
                    .actuals
                    .iter()
                    .filter(|a| a.process_guid == d.process_guid),
            )
        })
        .collect()
}

proptest! {
    /// A diff leads exactly to its target.
    #[test]
    fn applying_a_diff_yields_the_target(a in any_snapshot(), b in any_snapshot()) {
        let (mut from, to) = (derived(&a), derived(&b));
        diff(&from, &to).apply_to(&mut from);
        prop_assert_eq!(from, to);
    }

    /// A router that received every change holds what the table holds; a repeated message changes nothing.
    #[test]
    fn changes_add_up_to_the_table(events in prop::collection::vec(any_event(), 0..40)) {
        let (mut table, mut received) = (Table::default(), Registrations::new());
        for event in events {
            table.apply(event.clone()).apply_to(&mut received);
            prop_assert_eq!(&received, &all(&table));
            prop_assert!(table.apply(event).is_empty());
        }
    }

    /// The BBS sends events without order: any order gives the same table. (One version has one content.)
    #[test]
    fn order_does_not_matter(versions in prop::collection::vec((any_actual(), any::<bool>()), 1..12), seed in any::<u64>()) {
        let wanted = Event::DesiredSet(desired("p0", 3, vec![route("a.x", 8080)], 1));
        let unique: BTreeMap<_, _> = versions.into_iter().map(|(a, gone)| ((a.key(), a.tag.index), (Actual { process_guid: "p0".into(), ..a }, gone))).collect();
        // A row is removed as its last version.
        let mut last: BTreeMap<ActualKey, (Actual, bool)> = BTreeMap::new();
        let mut events = vec![wanted];
        for (actual, gone) in unique.into_values() {
            events.push(Event::ActualSet(actual.clone()));
            last.insert(actual.key(), (actual, gone));
        }
        events.extend(last.into_values().filter(|(_, gone)| *gone).map(|(a, _)| Event::ActualRemoved { key: a.key(), tag: a.tag }));
        let in_order = all(&table(events.clone()));
        let mut state = seed;
        for i in (1..events.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            events.swap(i, (state >> 33) as usize % (i + 1));
        }
        prop_assert_eq!(in_order, all(&table(events)));
    }

    /// A sync repairs the table after any missed events, and routers that receive its changes agree with it.
    #[test]
    fn a_sync_repairs_everything(events in prop::collection::vec(any_event(), 0..30), snapshot in any_snapshot()) {
        let (mut table, mut received) = (Table::default(), Registrations::new());
        for event in events {
            table.apply(event).apply_to(&mut received);
        }
        // The rows of the snapshot are newer than the removals in the events.
        let newer = |tag: &RowVersion| RowVersion { epoch: tag.epoch.clone(), index: tag.index + 10 };
        let snapshot = Snapshot {
            desired: snapshot.desired.into_iter().map(|d| Desired { tag: newer(&d.tag), ..d }).collect(),
            actuals: snapshot.actuals.into_iter().map(|a| Actual { tag: newer(&a.tag), ..a }).collect(),
            ..snapshot
        };
        let marker = table.begin_sync();
        table.sync(marker, snapshot.clone()).apply_to(&mut received);
        prop_assert_eq!(all(&table), derived(&snapshot));
        prop_assert_eq!(received, all(&table));
    }
}

#[test]
fn a_process_is_starting_while_none_of_its_instances_runs() {
    let mut table = Table::default();
    table.apply(Event::DesiredSet(desired(
        "p",
        2,
        vec![route("a.x", 8080)],
        1,
    )));
    let claimed = |instance: u32| Actual {
        routable: false,
        starting: true,
        ..actual("p", instance, 1)
    };
    let starting = |table: &Table| table.starting().flatten().collect::<Vec<_>>();
    assert!(starting(&table).is_empty(), "wanted, but nowhere yet");
    assert!(
        table
            .apply(Event::ActualSet(claimed(7)))
            .starting
            .is_empty()
    );
    assert!(starting(&table).is_empty(), "surplus");
    let changes = table.apply(Event::ActualSet(claimed(1)));
    assert_eq!(changes.starting, ["a.x"]);
    assert_eq!(starting(&table), ["a.x"]);
    let routes = vec![route("a.x", 8080), route("b.x", 8080)];
    let changes = table.apply(Event::DesiredSet(desired("p", 2, routes, 2)));
    assert_eq!(
        changes.starting,
        ["a.x", "b.x"],
        "a route that comes meanwhile"
    );
    let changes = table.apply(Event::ActualSet(actual("p", 0, 1)));
    assert!(
        changes.starting.is_empty() && starting(&table).is_empty(),
        "another instance serves"
    );
}

#[test]
fn instances_wait_for_a_cell_until_one_claims_them() {
    let mut table = Table::default();
    let wanted = || Event::InstancesWanted {
        process_guid: "p".into(),
    };
    assert!(
        table.apply(wanted()).starting.is_empty(),
        "the process is unknown"
    );
    let routes = vec![route("a.x", 8080)];
    table.apply(Event::DesiredSet(desired("p", 2, routes, 1)));
    let changes = table.apply(wanted());
    assert_eq!(changes.starting, ["a.x"]);
    assert!(changes.is_empty());
    assert_eq!(table.starting().count(), 0, "not by itself");
    let asked = table.waiting();
    assert_eq!(asked.1, ["p"]);
    let still = HashSet::from(["p".to_owned(), "x".to_owned()]);
    let marker = table.begin_sync();
    let nothing_here = Snapshot {
        fresh_domains: HashSet::from(["cf-apps".to_owned()]),
        ..Snapshot::default()
    };
    table.sync(marker, nothing_here);
    assert_eq!(table.still_waiting(&asked, &still), [["a.x"]]);
    assert_eq!(table.waiting().1, ["p"]);
    assert!(table.still_waiting(&asked, &HashSet::new()).is_empty());
    assert!(table.waiting().1.is_empty(), "elsewhere, or cancelled");

    table.apply(wanted());
    table.apply(Event::ActualSet(actual("p", 0, 1)));
    assert!(table.waiting().1.is_empty(), "here");
    assert!(
        table.apply(wanted()).starting.is_empty(),
        "another instance serves"
    );
}

#[test]
fn a_process_whose_last_instance_leaves_may_wait_for_its_next_one() {
    let mut table = Table::default();
    table.apply(Event::DesiredSet(desired(
        "p",
        1,
        vec![route("a.x", 8080)],
        1,
    )));
    table.apply(Event::ActualSet(actual("p", 0, 1)));
    let removed = |table: &mut Table, version| {
        table.apply(Event::ActualRemoved {
            key: actual("p", 0, version).key(),
            tag: tag("a", version),
        })
    };
    let changes = removed(&mut table, 2);
    assert!(
        changes.wanted && changes.unregister.len() == 1,
        "{changes:?}"
    );
    let asked = table.waiting();
    assert_eq!(asked.1, ["p"]);
    let still: HashSet<String> = ["p".to_owned()].into();
    assert_eq!(table.still_waiting(&asked, &still), [["a.x"]]);
    assert_eq!(table.waiting().1, ["p"], "until the BBS reports otherwise");
    // The instance is back, and leaves for good: the process is no longer desired.
    table.apply(Event::ActualSet(actual("p", 0, 3)));
    assert!(table.waiting().1.is_empty());
    table.apply(Event::DesiredRemoved {
        process_guid: "p".into(),
        tag: tag("d", 2),
    });
    assert!(!removed(&mut table, 4).wanted);
    assert!(table.waiting().1.is_empty());
}

#[test]
fn no_route_to_a_components_host_is_emitted() {
    let components = crate::registry::ComponentHosts::new(["uaa.x", "*.uaa.x"]);
    let mut table = Table::without_components(components);
    let uris = ["UAA.x", "uaa.x/oauth", "a.uaa.x", "*.uaa.x", "b.x"];
    let routes = uris.map(|uri| route(uri, 8080)).to_vec();
    table.apply(Event::DesiredSet(desired("p", 2, routes, 1)));
    let changes = table.apply(Event::ActualSet(actual("p", 0, 1)));
    let registered: Vec<_> = changes
        .register
        .iter()
        .map(|r| r.route.uri.clone())
        .collect();
    assert_eq!(registered, ["b.x"]);
    assert_eq!(table.left_out().len(), 4);
    assert!(table.left_out().is_empty());
    // The components' hosts are not announced as starting either.
    let mut starting = actual("p", 1, 1);
    (starting.routable, starting.starting) = (false, true);
    table.apply(Event::ActualRemoved {
        key: actual("p", 0, 2).key(),
        tag: tag("a", 2),
    });
    assert_eq!(table.apply(Event::ActualSet(starting)).starting, ["b.x"]);
}

#[test]
fn an_instance_that_is_wanted_while_the_bbs_is_queried_still_waits() {
    let mut table = table(vec![Event::DesiredSet(desired(
        "p",
        2,
        vec![route("a.x", 8080)],
        1,
    ))]);
    let wanted = || Event::InstancesWanted {
        process_guid: "p".into(),
    };
    table.apply(wanted());
    let asked = table.waiting();
    table.apply(wanted());
    table.still_waiting(&asked, &HashSet::new());
    assert_eq!(table.waiting().1, ["p"]);
}

#[test]
fn a_name_for_containers_has_their_own_address_and_is_announced_to_no_router() {
    let internal = Arc::new(Route {
        audience: Audience::Containers,
        uri: "a.apps.internal".into(),
        ..Route::default()
    });
    let mut table = Table::default();
    let wanted = desired("p", 2, vec![route("a.x", 8080), internal], 1);
    table.apply(Event::DesiredSet(wanted));
    let waiting = table.apply(Event::InstancesWanted {
        process_guid: "p".into(),
    });
    assert_eq!(waiting.starting, ["a.x"]);
    let changes = table.apply(Event::ActualSet(actual("p", 0, 1)));
    let there: Vec<_> = changes
        .register
        .iter()
        .map(|r| {
            (
                r.route.uri.as_str(),
                r.endpoint.host.as_str(),
                r.endpoint.port,
            )
        })
        .collect();
    assert_eq!(
        there,
        [
            ("a.x", "10.0.0.1", 61001),
            ("a.apps.internal", "10.255.0.2", 0)
        ]
    );
    // An app without any port is reached by name, too.
    let mut bare = actual("p", 1, 1);
    bare.ports.clear();
    bare.instance_address = "10.255.0.3".into();
    assert_eq!(
        uris(&table.apply(Event::ActualSet(bare)).register),
        ["a.apps.internal"]
    );
    // An instance that is not ready must not be found.
    let mut ill = actual("p", 0, 2);
    ill.routable = false;
    assert_eq!(
        uris(&table.apply(Event::ActualSet(ill)).unregister),
        ["a.x", "a.apps.internal"]
    );
    let gone = table.apply(Event::DesiredSet(desired("p", 2, vec![], 2)));
    assert_eq!(uris(&gone.unregister), ["a.apps.internal"]);
}
