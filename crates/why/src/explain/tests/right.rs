//! The facts of a route where nothing is wrong, and what a fault changes in them.

use crate::facts::{Actual, Desired, DesiredRoute, Facts, Port, Probe, Router};
use wire::cc::{PropagationRouter, RoutePropagation, StoredDestination, StoredRoute};
use wire::rep::{
    InspectedCertificate, InspectedContainer, InspectedMachine, InspectedPort, InspectedProcess,
    InspectedRule, Inspection, Read,
};
use wire::router::{EndpointView, RouteView};

pub(super) const NOW: i64 = 1_700_000_000;

/// The time of the route's last change, in Unix nanoseconds, and the number of that change.
const STORED_NS: u64 = 1_699_999_000_000_000_000;
pub(super) const CHANGE: u64 = 17;

/// Returns the facts of a route with two instances on two cells and two routers, where nothing is wrong.
pub(super) fn right() -> Facts {
    Facts {
        url: "https://Shop.example.test:8443/cart?x=1".to_owned(),
        now: NOW,
        route: Ok(Some(StoredRoute {
            guid: "r1".to_owned(),
            url: "shop.example.test".to_owned(),
            space_guid: "s1".to_owned(),
            is_internal: false,
            destinations: vec![StoredDestination {
                app_guid: "a1".to_owned(),
                app_name: "shop".to_owned(),
                is_started: true,
                lacks_droplet: false,
                process_type: "web".to_owned(),
                process_guids: vec!["p1".to_owned()],
                instances: 2,
                port: 8080,
                generation: CHANGE,
            }],
            propagation: Some(RoutePropagation {
                generation: CHANGE,
                stored_at_ns: Some(STORED_NS),
                desired_at_ns: Some(STORED_NS + 1_500_000),
                routers: ["router-a", "router-b"].map(receipt).into(),
            }),
        })),
        desired: Ok(vec![
            Desired {
                process_guid: "p1-v1".to_owned(),
                instances: 2,
                routes: vec![DesiredRoute {
                    url: "shop.example.test".to_owned(),
                    port: 8080,
                    isolation_segment: String::new(),
                    generation: CHANGE,
                }],
            },
            Desired::default(),
        ]),
        actual: Ok(vec![actual(0), actual(1)]),
        cells: Ok(vec!["cell-0".to_owned(), "cell-1".to_owned()]),
        inspections: (0..2)
            .map(|index| (format!("i{index}"), Ok(inspection(index))))
            .collect(),
        bus: Some(Ok("127.0.0.1:4222".to_owned())),
        name: None,
        routers: vec![router("router-a"), router("router-b")],
    }
}

fn receipt(router: &str) -> PropagationRouter {
    PropagationRouter {
        id: router.to_owned(),
        state: "live".to_owned(),
        emitted_at_ns: Some(STORED_NS + 2_000_000),
        applied_at_ns: Some(STORED_NS + 2_250_000),
        confirmed_at_ns: Some(STORED_NS + 3_000_000),
        ..PropagationRouter::default()
    }
}

fn actual(index: u16) -> Actual {
    Actual {
        process_guid: "p1-v1".to_owned(),
        index: i32::from(index),
        instance_guid: format!("i{index}"),
        cell_id: format!("cell-{index}"),
        state: "RUNNING".to_owned(),
        routable: Some(true),
        since: NOW - 600,
        address: format!("10.0.0.{index}"),
        ports: vec![Port {
            app: 8080,
            host: 0,
            proxy: 61001,
            host_proxy: 61010 + index,
        }],
        ..Actual::default()
    }
}

fn inspection(index: u16) -> Inspection {
    let container = format!("10.255.{index}.2");
    let rule = |table: &str, rule: String| InspectedRule {
        table: table.to_owned(),
        rule,
        packets: 7,
    };
    Inspection {
        instance_guid: format!("i{index}"),
        cell_id: format!("cell-{index}"),
        now: NOW + 1,
        cell_is_healthy: true,
        machine: InspectedMachine::default(),
        state: "running".to_owned(),
        is_routable: true,
        is_stopping: false,
        container: Some(InspectedContainer {
            address: container.clone(),
            cell_address: format!("10.0.0.{index}"),
            ports: vec![InspectedPort {
                host_port: 61010 + index,
                container_port: 61001,
            }],
            listeners: ["0.0.0.0:61001", "[::]:8080", "127.0.0.1:61003"].map(String::from).into(),
            processes: vec![InspectedProcess {
                id: "envoy".to_owned(),
                exit_status: None,
            }],
            refused_packets: 0,
        }),
        firewall: Ok(vec![
            rule("nat", "-A PREROUTING -j netin--x".to_owned()),
            rule("nat", "-A OUTPUT -j netin--x".to_owned()),
            rule("nat", format!("-A netin--x -d 10.0.0.{index}/32 -p tcp -m tcp --dport {} -j DNAT --to-destination {container}:61001", 61010 + index)),
            rule("filter", "-A FORWARD -d 10.255.0.0/24 -j overlay--t".to_owned()),
            rule("filter", "-A FORWARD -d 192.0.2.1/32 -j DROP".to_owned()),
        ])
        .into(),
        envoy: Some(Read::from(Ok(InspectedCertificate {
            names: vec![format!("i{index}"), container],
            not_before: NOW - 1000,
            not_after: NOW + 80_000,
        }))),
    }
}

fn router(name: &str) -> Router {
    let endpoint = |index: u16| EndpointView {
        address: format!("10.0.0.{index}:{}", 61010 + index),
        tls: true,
        server_cert_domain_san: format!("i{index}"),
        instance_guid: format!("i{index}"),
        component: "route-emitter".to_owned(),
        generation: CHANGE,
        message_age: Some(4.5),
        ..EndpointView::default()
    };
    Router {
        name: name.to_owned(),
        view: Ok(RouteView {
            router: name.to_owned(),
            now: NOW,
            is_healthy: Some(true),
            bus_is_connected: Some(true),
            last_message_age: Some(0.4),
            max_connections: 500,
            route: Some("shop.example.test".to_owned()),
            endpoints: vec![endpoint(0), endpoint(1)],
            ..RouteView::default()
        }),
        probe: Some(Ok(Probe {
            status: 200,
            milliseconds: 3,
            ..Probe::default()
        })),
        front: None,
    }
}

pub(super) fn route(facts: &mut Facts) -> &mut StoredRoute {
    facts.route.as_mut().unwrap().as_mut().unwrap()
}

pub(super) fn instance(facts: &mut Facts) -> &mut Actual {
    &mut facts.actual.as_mut().unwrap()[1]
}

pub(super) fn cell(facts: &mut Facts) -> &mut Inspection {
    facts.inspections.get_mut("i1").unwrap().as_mut().unwrap()
}

pub(super) fn container(facts: &mut Facts) -> &mut InspectedContainer {
    cell(facts).container.as_mut().unwrap()
}

pub(super) fn rules(facts: &mut Facts) -> &mut Vec<InspectedRule> {
    cell(facts).firewall.value.as_mut().unwrap()
}

pub(super) fn certificate(facts: &mut Facts) -> &mut InspectedCertificate {
    let envoy = cell(facts).envoy.as_mut().unwrap();
    envoy.value.as_mut().unwrap()
}

pub(super) fn view(facts: &mut Facts) -> &mut RouteView {
    facts.routers[1].view.as_mut().unwrap()
}

pub(super) fn views(facts: &mut Facts, change: impl Fn(&mut RouteView)) {
    for router in &mut facts.routers {
        change(router.view.as_mut().unwrap());
    }
}

pub(super) fn probes(facts: &mut Facts, status: u16, error: &str) {
    for router in &mut facts.routers {
        router.probe = Some(Ok(Probe {
            status,
            router_error: error.to_owned(),
            ..Probe::default()
        }));
    }
}
