use super::*;
use crate::hop::Outcome::NotCompared;
use serde_json::json;
use wire::bbs::ActualLrpKey;
use wire::router::RegistryMessage;

const ROUTE: &str = "proxy.example.test";
const RULE: &str = "-A netin--i1 -d 10.255.0.1/32 -p tcp -m tcp --dport 61004 -j DNAT --to-destination 10.255.0.3:61001";

fn agreeing() -> Observations {
    Observations {
        route: ROUTE.to_owned(),
        routes: Ok(json!({"resources": [
            {"guid": "r1", "destinations": [{"app": {"guid": "a1"}}]},
        ]})),
        actual_lrps: Ok(vec![
            lrp("other-v1", "i0"),
            ActualLrp::default(),
            lrp("a1-v1", "i1"),
        ]),
        envoy_config: Ok("\"port_value\": 61001, \"address\": \"10.255.0.3\"".to_owned()),
        certificate: Ok(
            "X509v3 Subject Alternative Name:\n    DNS:i1, IP Address:10.255.0.3\n".to_owned(),
        ),
        nat_rules: Ok(format!("-P PREROUTING ACCEPT\n{RULE}\n")),
        registration: Ok(Some(RegistryMessage {
            host: "10.255.0.1".to_owned(),
            tls_port: Some(61004),
            uris: vec![ROUTE.to_owned()],
            server_cert_domain_san: Some("i1".to_owned()),
            ..RegistryMessage::default()
        })),
        table: Ok(json!({ROUTE: [
            {"address": "10.255.0.1:61000", "tls": true},
            {"address": "10.255.0.1:61004", "tls": true},
        ]})),
        answer: Ok(200),
    }
}

fn lrp(process_guid: &str, instance_guid: &str) -> ActualLrp {
    ActualLrp {
        key: Some(ActualLrpKey {
            process_guid: process_guid.to_owned(),
            ..ActualLrpKey::default()
        }),
        instance_key: Some(ActualLrpInstanceKey {
            instance_guid: instance_guid.to_owned(),
            cell_id: "cell-1".to_owned(),
        }),
        net_info: Some(ActualLrpNetInfo {
            address: "10.255.0.1".to_owned(),
            instance_address: "10.255.0.3".to_owned(),
            ports: vec![PortMapping {
                container_port: 8080,
                container_tls_proxy_port: ENVOY_PORT,
                host_tls_proxy_port: 61004,
                ..PortMapping::default()
            }],
            ..ActualLrpNetInfo::default()
        }),
        state: state::RUNNING.to_owned(),
        ..ActualLrp::default()
    }
}

fn first_lrp(seen: &mut Observations) -> &mut ActualLrp {
    &mut seen.actual_lrps.as_mut().unwrap()[2]
}

fn message(seen: &mut Observations) -> &mut RegistryMessage {
    seen.registration.as_mut().unwrap().as_mut().unwrap()
}

/// Checks the first problem after a change of one observation, and the number of hops that agree nevertheless.
#[track_caller]
fn check(change: impl FnOnce(&mut Observations), problem: &str, agreeing_hops: usize) {
    let mut seen = agreeing();
    change(&mut seen);
    let walk = walk(&seen);
    assert_eq!(walk.problem(), Some(problem));
    assert_eq!(walk.hops.len(), 12);
    let agreeing = walk.hops.iter().filter(|hop| hop.outcome.agrees());
    assert_eq!(agreeing.count(), agreeing_hops, "{walk:#?}");
}

#[test]
fn every_hop_shows_its_value() {
    let walk = walk(&agreeing());
    assert_eq!(walk.problem(), None);
    let rows: Vec<String> = walk
        .hops
        .iter()
        .map(|hop| {
            let found = hop.outcome.found().unwrap_or_default();
            format!("{}|{}|{found}", hop.component, hop.part)
        })
        .collect();
    assert_eq!(
        rows,
        [
            "cloud-controller|route|proxy.example.test (r1)",
            "cloud-controller|app|a1",
            "bbs|process guid|a1-v1",
            "bbs|instance guid|i1",
            "rep|cell|cell-1 at 10.255.0.1",
            "garden|container|overlay IP 10.255.0.3",
            "envoy|listener|0.0.0.0:61001 → 10.255.0.3:8080",
            "envoy|certificate|DNS:i1, IP Address:10.255.0.3",
            &format!("iptables|DNAT|{RULE}"),
            r#"NATS|router.register|host "10.255.0.1" tls_port 61004 uris ["proxy.example.test"] server_cert_domain_san "i1""#,
            "router|table|proxy.example.test → 10.255.0.1:61004 tls=true",
            "client|answer|200 through 10.255.0.1:61004",
        ]
    );
}

#[test]
fn a_value_that_differs_is_the_problem_of_its_hop() {
    check(
        |seen| message(seen).tls_port = Some(61005),
        r#"the router.register message names "10.255.0.1":61005"#,
        11,
    );
    check(
        |seen| message(seen).server_cert_domain_san = None,
        r#"the router.register message names the certificate """#,
        11,
    );
    check(
        |seen| seen.registration = Ok(None),
        "no router.register with proxy.example.test was seen on NATS",
        11,
    );
    check(
        |seen| seen.certificate = Ok("DNS:i2".to_owned()),
        r#"the certificate's names "DNS:i2" lack the instance guid i1"#,
        11,
    );
    check(
        |seen| seen.nat_rules = Ok(String::new()),
        "no DNAT rule --dport 61004 -j DNAT --to-destination 10.255.0.3:61001",
        11,
    );
    check(
        |seen| seen.envoy_config = Ok("\"port_value\": 61001".to_owned()),
        "Envoy's cluster does not name 10.255.0.3",
        11,
    );
    check(
        |seen| seen.envoy_config = Ok(String::new()),
        "Envoy has no listener on 0.0.0.0:61001",
        11,
    );
    check(
        |seen| seen.table = Ok(json!({})),
        "the router's table has no 10.255.0.1:61004 under proxy.example.test",
        11,
    );
    check(
        |seen| seen.table = Ok(json!({ROUTE: [{"address": "10.255.0.1:61004", "tls": false}]})),
        "the router's endpoint is not TLS",
        11,
    );
    check(|seen| seen.answer = Ok(503), "the route answered 503", 11);
}

#[test]
fn hops_behind_a_missing_value_are_not_compared() {
    check(
        |seen| seen.routes = Ok(json!({"resources": []})),
        "the Cloud Controller returned no route guid",
        0,
    );
    check(
        |seen| seen.routes = Ok(json!({"resources": [{"guid": "r1", "destinations": []}]})),
        "the Cloud Controller returned no app guid of the destination",
        1,
    );
    check(
        |seen| seen.actual_lrps = Ok(vec![lrp("other-v1", "i0")]),
        "no actual LRP whose process guid begins with a1",
        2,
    );
    check(
        |seen| first_lrp(seen).state = state::CLAIMED.to_owned(),
        "the actual LRP is CLAIMED",
        3,
    );
    // The certificate is compared all the same, because it needs no port.
    check(
        |seen| first_lrp(seen).net_info.as_mut().unwrap().ports.clear(),
        "no port mapping to 61001",
        6,
    );
}

#[test]
fn a_component_that_cannot_be_read_does_not_hide_the_others() {
    check(
        |seen| seen.envoy_config = Err("no curl".to_owned()),
        "no curl",
        11,
    );
    check(|seen| seen.routes = Err("no API".to_owned()), "no API", 0);
    let mut seen = agreeing();
    seen.actual_lrps = Err("no BBS".to_owned());
    let walk = walk(&seen);
    assert_eq!(walk.problem(), Some("no BBS"));
    assert_eq!(walk.hops[6].outcome, NotCompared);
    assert_eq!(walk.hops[6].sought, None);
}

#[test]
fn hops_are_data() {
    let mut seen = agreeing();
    seen.answer = Ok(503);
    let hops = serde_json::to_value(walk(&seen)).unwrap()["hops"].take();
    assert_eq!(
        hops[3],
        json!({
            "component": "bbs",
            "part": "instance guid",
            "source": "actual-lrps",
            "sought": "a running instance of a1-v1",
            "outcome": "agrees",
            "found": "i1",
        })
    );
    assert_eq!(
        hops[11],
        json!({
            "component": "client",
            "part": "answer",
            "source": "request",
            "sought": "200 through 10.255.0.1:61004",
            "outcome": "differs",
            "found": "503 through 10.255.0.1:61004",
            "problem": "the route answered 503",
        })
    );
}
