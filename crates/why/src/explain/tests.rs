mod faults;
mod router_faults;

use super::*;
use crate::facts::{Actual, Desired, DesiredRoute, Port, Probe, Router};
use faults::{CELL, CONTROL, Fault};
use router_faults::ROUTERS;
use std::collections::BTreeSet;
use wire::cc::{StoredDestination, StoredRoute};
use wire::rep::{
    InspectedCertificate, InspectedContainer, InspectedPort, InspectedProcess, InspectedRule,
    Inspection, Read,
};
use wire::router::{EndpointView, FailureView, RouteView};

const NOW: i64 = 1_700_000_000;

/// Returns the facts of a route with two instances on two cells and two routers, where nothing is wrong.
fn right() -> Facts {
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
                process_type: "web".to_owned(),
                process_guids: vec!["p1".to_owned()],
                instances: 2,
                port: 8080,
            }],
        })),
        desired: Ok(vec![
            Desired {
                process_guid: "p1-v1".to_owned(),
                instances: 2,
                routes: vec![DesiredRoute {
                    url: "shop.example.test".to_owned(),
                    port: 8080,
                    isolation_segment: String::new(),
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
        routers: vec![router("router-a"), router("router-b")],
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
        message_age: Some(4.5),
        ..EndpointView::default()
    };
    Router {
        name: name.to_owned(),
        view: Ok(RouteView {
            router: name.to_owned(),
            now: NOW,
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
    }
}

fn route(facts: &mut Facts) -> &mut StoredRoute {
    facts.route.as_mut().unwrap().as_mut().unwrap()
}

fn instance(facts: &mut Facts) -> &mut Actual {
    &mut facts.actual.as_mut().unwrap()[1]
}

fn cell(facts: &mut Facts) -> &mut Inspection {
    facts.inspections.get_mut("i1").unwrap().as_mut().unwrap()
}

fn container(facts: &mut Facts) -> &mut InspectedContainer {
    cell(facts).container.as_mut().unwrap()
}

fn rules(facts: &mut Facts) -> &mut Vec<InspectedRule> {
    cell(facts).firewall.value.as_mut().unwrap()
}

fn certificate(facts: &mut Facts) -> &mut InspectedCertificate {
    let envoy = cell(facts).envoy.as_mut().unwrap();
    envoy.value.as_mut().unwrap()
}

fn view(facts: &mut Facts) -> &mut RouteView {
    facts.routers[1].view.as_mut().unwrap()
}

fn views(facts: &mut Facts, change: impl Fn(&mut RouteView)) {
    for router in &mut facts.routers {
        change(router.view.as_mut().unwrap());
    }
}

fn probes(facts: &mut Facts, status: u16, error: &str) {
    for router in &mut facts.routers {
        router.probe = Some(Ok(Probe {
            status,
            router_error: error.to_owned(),
            ..Probe::default()
        }));
    }
}

#[track_caller]
fn check((name, change, (component, part, subject), reason): &Fault) {
    let mut facts = right();
    change(&mut facts);
    let explanation = explain(&facts);
    let hop = explanation
        .guilty_hop()
        .unwrap_or_else(|| panic!("{name}: no hop is guilty"));
    let found = (hop.component, hop.part, hop.subject.as_str());
    assert_eq!(found, (*component, *part, *subject), "{name}: {hop:#?}");
    let advice = hop.verdict.advice().unwrap();
    assert!(advice.reason.contains(reason), "{name}: {advice:?}");
    for sentence in [&advice.reason, &advice.remedy] {
        assert!(
            sentence.ends_with('.') && sentence.len() > 15,
            "{name}: {sentence}"
        );
    }
    assert!(!explanation.is_right, "{name}");
}

#[test]
fn every_fault_has_its_guilty_hop() {
    let faults: Vec<&Fault> = [CONTROL, CELL, ROUTERS].into_iter().flatten().collect();
    let names: BTreeSet<&str> = faults.iter().map(|fault| fault.0).collect();
    assert_eq!(names.len(), faults.len());
    for fault in faults {
        check(fault);
    }
}

#[test]
fn a_right_route_has_right_hops_only() {
    let explanation = explain(&right());
    assert_eq!(explanation.guilty_hop(), None);
    assert!(explanation.is_right);
    let rows: Vec<String> = explanation
        .hops
        .iter()
        .map(|hop| format!("{} {} {}", hop.component, hop.part, hop.subject))
        .collect();
    assert_eq!(
        rows,
        [
            "cloud-controller route ",
            "cloud-controller destination shop",
            "bbs desired LRP shop",
            "bbs actual LRP shop/0",
            "bbs actual LRP shop/1",
            "rep cell shop/0",
            "garden container shop/0",
            "app port shop/0",
            "envoy listener shop/0",
            "envoy certificate shop/0",
            "iptables DNAT shop/0",
            "rep cell shop/1",
            "garden container shop/1",
            "app port shop/1",
            "envoy listener shop/1",
            "envoy certificate shop/1",
            "iptables DNAT shop/1",
            "NATS bus ",
            "route-emitter router.register shop/0",
            "route-emitter router.register shop/1",
            "router table router-a for shop/0",
            "router table router-a for shop/1",
            "client answer router-a",
            "router table router-b for shop/0",
            "router table router-b for shop/1",
            "client answer router-b",
        ]
    );
}

#[test]
fn an_answer_of_the_app_is_right_whatever_its_status() {
    let mut facts = right();
    probes(&mut facts, 500, "");
    assert!(explain(&facts).is_right);
}

#[test]
fn a_wrong_hop_is_found_while_the_cloud_controller_is_away() {
    let mut facts = right();
    facts.route = Err("connection refused".to_owned());
    rules(&mut facts).clear();
    let explanation = explain(&facts);
    let hop = explanation.guilty_hop().unwrap();
    assert_eq!(
        (hop.component, hop.subject.as_str()),
        (Component::Iptables, "p1-v1/1")
    );
}

#[test]
fn an_instance_without_a_proxy_is_reached_at_its_own_port() {
    let mut facts = right();
    for actual in facts.actual.as_mut().unwrap() {
        actual.ports[0].host = actual.ports[0].host_proxy;
        (actual.ports[0].proxy, actual.ports[0].host_proxy) = (0, 0);
    }
    for inspection in facts.inspections.values_mut() {
        let inspection = inspection.as_mut().unwrap();
        inspection.envoy = None;
        for rule in inspection.firewall.value.as_mut().unwrap() {
            rule.rule = rule.rule.replace(":61001", ":8080");
        }
    }
    views(&mut facts, |view| {
        for endpoint in &mut view.endpoints {
            endpoint.tls = false;
            endpoint.server_cert_domain_san.clear();
        }
    });
    let explanation = explain(&facts);
    assert_eq!(explanation.guilty_hop(), None);
}

#[test]
fn routers_that_show_only_their_table_are_compared_too() {
    let mut facts = right();
    views(&mut facts, |view| {
        view.bus_is_connected = None;
        view.last_message_age = None;
        view.endpoints
            .iter_mut()
            .for_each(|endpoint| endpoint.message_age = None);
    });
    assert!(explain(&facts).is_right);
    drop(view(&mut facts).endpoints.remove(0));
    let explanation = explain(&facts);
    assert_eq!(explanation.guilty_hop().unwrap().part, "table");
}

#[test]
fn failing_requests_have_a_reason_newest_first() {
    let mut facts = right();
    let failure = |age, status, error: &str| FailureView {
        age,
        status,
        error: error.to_owned(),
        request_id: format!("request-{age}"),
        ..FailureView::default()
    };
    view(&mut facts).failures = vec![
        failure(9.0, 404, "unknown_route"),
        failure(
            3.0,
            526,
            "endpoint_failure (tls: failed to verify certificate: expired)",
        ),
    ];
    facts.routers[0].view.as_mut().unwrap().failures = vec![
        failure(5.0, 503, "no_endpoints"),
        failure(1.0, 499, "endpoint_failure (context canceled)"),
    ];
    let rows: Vec<(u16, Component)> = explain(&facts)
        .failures
        .iter()
        .map(|failure| (failure.status, failure.component))
        .collect();
    assert_eq!(
        rows,
        [
            (499, Component::Client),
            (526, Component::Envoy),
            (503, Component::Router),
            (404, Component::Router),
        ]
    );
}

#[test]
fn an_explanation_is_data() {
    let mut facts = right();
    rules(&mut facts).clear();
    let json = serde_json::to_value(explain(&facts)).unwrap();
    let guilty = usize::try_from(json["guilty"].as_u64().unwrap()).unwrap();
    let hop = &json["hops"][guilty];
    assert_eq!(json["is_right"], false);
    assert_eq!(hop["component"], "iptables");
    assert_eq!(hop["verdict"], "wrong");
    assert_eq!(hop["subject"], "shop/1");
    assert!(hop["reason"].as_str().unwrap().starts_with("No DNAT rule"));
    assert_eq!(json["hops"][0]["verdict"], "right");
}

#[test]
fn urls_are_compared_as_routes_are() {
    assert_eq!(
        normal("https://Shop.Example.test:8443/Cart/?x#y"),
        "shop.example.test/Cart"
    );
    for (route, url, expected) in [
        ("a.test", "http://a.test/x", true),
        ("a.test/x", "a.test/x/y", true),
        ("a.test/x", "a.test/xy", false),
        ("*.a.test", "b.a.test", true),
        ("*.a.test", "a.test", false),
        ("a.test", "b.test", false),
    ] {
        assert_eq!(serves(route, url), expected, "{route} {url}");
    }
}

#[test]
fn a_router_that_announces_a_long_interval_may_be_silent_for_longer() {
    let mut facts = right();
    views(&mut facts, |view| {
        view.register_interval = 60.0;
        view.last_message_age = Some(100.0);
        view.endpoints[0].message_age = Some(100.0);
    });
    assert!(explain(&facts).is_right);
    views(&mut facts, |view| view.register_interval = 20.0);
    assert_eq!(explain(&facts).guilty_hop().unwrap().part, "bus");
}
