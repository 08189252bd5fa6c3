//! Tests of what events, messages and changes make of the picture.

use super::*;
use crate::picture::example::{NOW, actual, desired, picture};
use serde_json::json;
use wire::bbs::{ActualLrpInfo, ActualLrpInstanceEvent, DesiredLrpChangedEvent, DesiredLrpEvent};

fn mapped(before: &[&str], after: &[&str]) -> Event {
    Event::DesiredLrpChanged(DesiredLrpChangedEvent {
        before: Some(desired("a", 2, before)),
        after: Some(desired("a", 2, after)),
        trace_id: "id-1, id-2".to_owned(),
    })
}

fn register(uri: &str, generation: bool) -> Vec<u8> {
    let mut message = json!({
        "host": "10.0.0.1", "port": 0, "tls_port": 61001, "uris": [uri], "app": "a", "private_instance_id": "a-0",
    });
    if generation {
        message["generation"] = json!(8);
        message["emitted_at_ns"] = json!((NOW + 2000) * 1000);
        message["emitter"] = json!("emitter-1");
    }
    message.to_string().into_bytes()
}

fn changed(kind: &str, uri: &str, port: u32) -> Change {
    serde_json::from_value(json!({
        "number": 1, "time": "2026-11-30T10:04:31.25Z", "kind": kind, "source": "router.register", "uri": uri,
        "endpoint": {"address": format!("10.0.0.1:{port}"), "tls": true, "application_id": "a", "instance_id": "a-0",
            "instance_index": "0", "server_cert_domain_san": "a-0", "component": "route-emitter"},
    }))
    .unwrap()
}

fn stations(picture: &Picture) -> Vec<Station> {
    let train = picture.trains.after(0).next().unwrap();
    train.steps.iter().filter_map(|step| step.station).collect()
}

#[test]
fn a_mapped_route_runs_through_its_stations() {
    let mut picture = picture();
    picture.message(
        subject::ROUTERS,
        br#"{"id":"0-r1","hosts":["10.0.0.1"],"minimumRegisterIntervalInSeconds":20,"pruneThresholdInSeconds":120}"#,
        NOW,
    );
    picture.event(&mapped(&["a.test"], &["a.test", "New.test"]), NOW);
    picture.message(subject::REGISTER, &register("new.test", true), NOW + 2500);
    picture.change("r1", &changed("registered", "new.test", 61001), NOW + 3000);
    let receipt = json!({"router": "0-r1", "routes": [{"uri": "new.test",
        "processes": [{"process": "a", "generation": 8, "endpoints": 1}],
        "change": {"generation": 8, "emitted_at_ns": 1, "applied_at_ns": 2}}]});
    picture.message(
        subject::RECEIPTS,
        receipt.to_string().as_bytes(),
        NOW + 4000,
    );
    assert_eq!(
        stations(&picture),
        [
            Station::Bbs,
            Station::RouteEmitter,
            Station::Nats,
            Station::Router
        ]
    );
    let train = picture.trains.after(0).next().unwrap();
    assert_eq!((train.kind, train.app_name.as_str()), (Kind::Map, "a-name"));
    assert_eq!(train.requests.len(), 2);
    let result = train.result.as_ref().unwrap();
    assert_eq!(result.text, "live on 1/1 routers after 4.0 ms");
    assert!(picture.model.routers["r1"].table.contains_key("new.test"));
    assert_eq!(picture.trains.after(0).count(), 1);
}

#[test]
fn a_repetition_is_no_step() {
    let mut picture = picture();
    picture.message(subject::REGISTER, &register("a.test", false), NOW);
    assert_eq!(picture.trains.after(0).count(), 0);
    assert_eq!(picture.model.bus.messages, 1);
    picture.message(subject::REGISTER, b"{emitted_at_ns", NOW);
    assert_eq!(picture.trains.after(0).count(), 0, "it cannot be read");
}

#[test]
fn a_start_has_a_step_for_each_state_of_its_instance() {
    let mut picture = Picture::default();
    let lrp = desired("c", 1, &["c.test"]);
    picture.event(
        &Event::DesiredLrpCreated(DesiredLrpEvent {
            desired_lrp: Some(lrp),
            trace_id: String::new(),
        }),
        NOW,
    );
    let waiting = ActualLrpInstanceEvent {
        actual_lrp: Some(actual("c", 0, state::UNCLAIMED, 0)),
        trace_id: String::new(),
    };
    picture.event(&Event::ActualLrpInstanceCreated(waiting), NOW + 1);
    let mut last = state::UNCLAIMED;
    for next in [state::CLAIMED, state::RUNNING] {
        let (before, after) = (actual("c", 0, last, 0), actual("c", 0, next, 61009));
        let info = |lrp: &wire::bbs::ActualLrp| ActualLrpInfo {
            net_info: lrp.net_info.clone(),
            state: lrp.state.clone(),
            ..ActualLrpInfo::default()
        };
        let event = ActualLrpInstanceChangedEvent {
            key: after.key.clone(),
            instance_key: after.instance_key.clone(),
            before: Some(info(&before)),
            after: Some(info(&after)),
            trace_id: String::new(),
        };
        picture.event(&Event::ActualLrpInstanceChanged(event), NOW + 2);
        last = next;
    }
    assert_eq!(
        stations(&picture),
        [
            Station::Bbs,
            Station::Auctioneer,
            Station::Cell,
            Station::Container,
            Station::Envoy,
            Station::Dnat
        ]
    );
    let train = picture.trains.after(0).next().unwrap();
    assert_eq!(train.kind, Kind::Start);
    assert_eq!(train.steps[5].text, "10.0.0.1:61009 → 10.255.0.3:61001");
    assert_eq!(picture.model.instances.len(), 1);
}

#[test]
fn the_end_of_a_stopped_app_still_has_its_app() {
    let mut picture = picture();
    let lrp = desired("b", 1, &["b.test"]);
    let event = DesiredLrpEvent {
        desired_lrp: Some(lrp),
        trace_id: String::new(),
    };
    picture.event(&Event::DesiredLrpRemoved(event), NOW);
    let gone = ActualLrpInstanceEvent {
        actual_lrp: Some(actual("b", 0, state::RUNNING, 61003)),
        trace_id: String::new(),
    };
    picture.event(&Event::ActualLrpInstanceRemoved(gone), NOW + 5);
    let mut change = changed("unregistered", "b.test", 61003);
    change.route = Some("gone".to_owned());
    picture.change("r1", &change, NOW + 6);
    let train = picture.trains.after(0).last().unwrap();
    assert_eq!((train.kind, train.app.as_str()), (Kind::Stop, "b"));
    assert_eq!(train.steps.len(), 2);
    assert!(!picture.model.routers["r1"].table.contains_key("b.test"));
}

#[test]
fn a_crash_is_a_fault() {
    let mut picture = picture();
    let event = ActualLrpCrashedEvent {
        key: actual("a", 1, "", 0).key,
        instance_key: actual("a", 1, "", 0).instance_key,
        crash_count: 2,
        crash_reason: "exit 1".to_owned(),
        since: 0,
    };
    picture.event(&Event::ActualLrpCrashed(event), NOW);
    let train = picture.trains.after(0).next().unwrap();
    assert_eq!(train.kind, Kind::Crash);
    assert!(train.steps[0].is_fault);
    assert_eq!(train.steps[0].values[0], ("reason", "exit 1".to_owned()));
}
