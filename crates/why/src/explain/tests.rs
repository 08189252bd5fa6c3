mod cell_faults;
mod faults;
mod request_faults;
mod right;
mod router_faults;

use super::*;
use cell_faults::{CELL, FIREWALL};
use faults::{CONTROL, Fault};
use request_faults::REQUESTS;
use right::{
    CHANGE, NOW, cell, certificate, container, instance, probes, right, route, rules, view, views,
};
use router_faults::ROUTERS;
use std::collections::{BTreeMap, BTreeSet};
use wire::router::FailureView;

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
    let all = [CONTROL, CELL, FIREWALL, ROUTERS, REQUESTS];
    let faults: Vec<&Fault> = all.into_iter().flatten().collect();
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
fn hops_show_the_change_and_when_they_had_it() {
    let explanation = explain(&right());
    let rows: Vec<_> = explanation
        .hops
        .iter()
        .filter(|hop| hop.generation.is_some())
        .map(|hop| (hop.component, hop.subject.as_str(), hop.after_ms))
        .collect();
    assert_eq!(
        rows,
        [
            (Component::CloudController, "", None),
            (Component::Bbs, "shop", Some(1.5)),
            (Component::RouteEmitter, "shop/0", Some(2.0)),
            (Component::RouteEmitter, "shop/1", Some(2.0)),
            (Component::Router, "router-a for shop/0", Some(2.25)),
            (Component::Router, "router-a for shop/1", Some(2.25)),
            (Component::Router, "router-b for shop/0", Some(2.25)),
            (Component::Router, "router-b for shop/1", Some(2.25)),
        ]
    );
    assert!(
        explanation
            .hops
            .iter()
            .all(|hop| hop.generation.is_none_or(|g| g == CHANGE))
    );
}

#[test]
fn a_change_that_was_just_made_is_on_its_way() {
    let mut facts = right();
    let stored = u64::try_from(NOW - 1).unwrap() * 1_000_000_000;
    let propagation = route(&mut facts).propagation.as_mut().unwrap();
    propagation.stored_at_ns = Some(stored);
    view(&mut facts).endpoints[1].generation = CHANGE - 1;
    let explanation = explain(&facts);
    let hop = explanation.guilty_hop().unwrap();
    assert!(matches!(hop.verdict, Verdict::Waits(_)), "{hop:?}");
    facts.desired.as_mut().unwrap()[0].routes[0].generation = CHANGE - 1;
    let explanation = explain(&facts);
    assert_eq!(explanation.guilty_hop().unwrap().part, "desired LRP");
}

#[test]
fn a_stopped_app_beside_one_that_runs_is_no_fault() {
    let mut facts = right();
    let mut old = route(&mut facts).destinations[0].clone();
    old.app_name = "shop-old".to_owned();
    old.process_guids = vec!["p0".to_owned()];
    old.is_started = false;
    route(&mut facts).destinations.push(old);
    assert_eq!(explain(&facts).guilty_hop(), None);
}

#[test]
fn a_router_of_another_isolation_segment_is_not_asked() {
    let mut facts = right();
    view(&mut facts).segments = Some(vec!["iso".to_owned()]);
    view(&mut facts).route = None;
    view(&mut facts).endpoints.clear();
    facts.routers[1].probe = Some(Ok(crate::facts::Probe {
        status: 404,
        router_error: "unknown_route".to_owned(),
        ..crate::facts::Probe::default()
    }));
    assert_eq!(explain(&facts).guilty_hop(), None);
}

#[test]
fn a_route_of_a_component_is_right() {
    let mut facts = right();
    (facts.route, facts.desired) = (Ok(None), Ok(Vec::new()));
    (facts.actual, facts.inspections) = (Ok(Vec::new()), BTreeMap::new());
    views(&mut facts, |view| {
        view.endpoints.truncate(1);
        view.endpoints[0].component = "uaa".to_owned();
    });
    let explanation = explain(&facts);
    assert_eq!(explanation.guilty_hop(), None);
    assert!(explanation.hops[0].found.contains("own route uaa"));
}

#[test]
fn rules_of_others_that_concern_no_packet_of_the_container_are_no_fault() {
    for rule in [
        "-A FORWARD -d 10.255.1.3/32 -j DROP",
        "-A FORWARD -d 10.255.2.0/24 -j REJECT --reject-with icmp-port-unreachable",
        "-A FORWARD -p udp -j DROP",
        "-A INPUT -p tcp -m tcp --dport 22 -j DROP",
        "-A INPUT -m conntrack --ctstate INVALID -j DROP",
        "-A OUTPUT -o lo -j DROP",
        "-A FORWARD ! -d 10.255.0.0/16 -j DROP",
        "-A FORWARD -m limit --limit 5/min -j DROP",
        "-A FORWARD -m comment --comment \"to the other one\" -d 10.255.1.3/32 -j DROP",
        "-A FORWARD -j LOG",
    ] {
        let mut facts = right();
        cell_faults::add_rule(&mut facts, "filter", rule);
        assert_eq!(explain(&facts).guilty_hop(), None, "{rule}");
    }
    // Answers pass before the rule that refuses everything else.
    let mut facts = right();
    let accepts = "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT";
    cell_faults::add_rule(&mut facts, "filter", accepts);
    cell_faults::add_rule(&mut facts, "filter", "-A INPUT -j DROP");
    assert_eq!(explain(&facts).guilty_hop(), None);
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
