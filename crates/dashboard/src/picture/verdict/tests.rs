//! Tests of the states of routes.

use super::*;
use crate::picture::Picture;
use crate::picture::example::{NOW, actual, desired, picture, row};
use serde_json::{Value, json};

fn state(picture: &Picture, uri: &str) -> (State, String) {
    let all = routes(&picture.model, NOW);
    let route = all.into_iter().find(|route| route.uri == uri).unwrap();
    (route.state, route.reason)
}

fn with_table(table: &Value) -> Picture {
    let mut picture = picture();
    picture.table("r1", "0-r1", "", table);
    picture
}

#[test]
fn a_route_whose_endpoints_are_those_that_run_is_live() {
    let picture = picture();
    let all = routes(&picture.model, NOW);
    let shown: Vec<_> = all.iter().map(|r| (r.uri.as_str(), r.state)).collect();
    assert_eq!(
        shown,
        [
            ("a.test", State::Live),
            ("api.test", State::External),
            ("b.test", State::Live)
        ]
    );
    assert_eq!(
        (all[0].wanted, all[0].running, all[0].generation),
        (2, 2, 7)
    );
    assert_eq!(all[0].apps[0].name, "a-name");
    assert_eq!(all[0].endpoints[1].routers, 1);
    assert_eq!(all[1].component, "api");
}

#[test]
fn each_difference_has_its_state() {
    let full = [row(61001, "a", "a-0"), row(61002, "a", "a-1")];
    for (endpoints, wanted, reason) in [
        (json!([full[0]]), State::Missing, "lacks 10.0.0.1:61002"),
        (
            json!([full[0], full[1], row(61009, "a", "a-7")]),
            State::Stale,
            "no instance of the app runs",
        ),
        (
            json!([full[0], row(61003, "a", "a-1")]),
            State::Misrouted,
            "belongs to instance b-0",
        ),
    ] {
        let picture = with_table(&json!({"a.test": endpoints}));
        let (state, text) = state(&picture, "a.test");
        assert_eq!(state, wanted);
        assert!(text.contains(reason) && state.is_fault(), "{text}");
    }
}

#[test]
fn a_difference_of_a_moment_ago_is_a_change() {
    let mut picture = with_table(&json!({}));
    picture.model.touch("a", NOW - 1_000_000);
    assert_eq!(state(&picture, "a.test").0, State::Changing);
    assert_eq!(state(&picture, "b.test").0, State::Missing);
    picture.model.touch("a", NOW - 3_000_000);
    assert_eq!(state(&picture, "a.test").0, State::Missing);
}

#[test]
fn a_route_without_a_running_instance_has_a_reason() {
    let mut picture = with_table(&json!({}));
    let mut crashed = actual("a", 0, "CRASHED", 0);
    crashed.crash_reason = "exit 7".to_owned();
    crashed.crash_count = 3;
    picture
        .model
        .replace(&[desired("a", 1, &["a.test"])], &[crashed]);
    let (is, reason) = state(&picture, "a.test");
    assert_eq!(is, State::Crashing);
    assert!(reason.contains("exit 7"), "{reason}");
    picture.model.replace(&[desired("a", 1, &["a.test"])], &[]);
    assert_eq!(state(&picture, "a.test").0, State::Starting);
    picture.model.replace(&[desired("a", 0, &["a.test"])], &[]);
    assert_eq!(state(&picture, "a.test").0, State::Stopped);
    picture.model.routers.clear();
    assert_eq!(state(&picture, "a.test").0, State::Unread);
}

#[test]
fn a_route_whose_requests_failed_a_moment_ago_is_failing() {
    let mut picture = picture();
    let failure = |host: &str, status, age| wire::router::FailureView {
        host: host.to_owned(),
        status,
        age,
        error: "endpoint_failure (dial tcp)".to_owned(),
        path: "/x".to_owned(),
        ..wire::router::FailureView::default()
    };
    let failures = [
        failure("a.test", 502, 4.0),
        failure("b.test", 502, 60.0),
        failure("b.test", 404, 1.0),
    ];
    picture.failures("r1", &failures, NOW);
    let (is, reason) = state(&picture, "a.test");
    assert_eq!(is, State::Failing);
    assert!(
        reason.contains("answered 502") && reason.contains("dial tcp"),
        "{reason}"
    );
    assert_eq!(
        state(&picture, "b.test").0,
        State::Live,
        "it is long ago, or the client's fault"
    );
}

#[test]
fn a_route_that_no_app_has_is_stale() {
    let mut picture = picture();
    picture.model.replace(&[], &[]);
    let (is, reason) = state(&picture, "b.test");
    assert_eq!(is, State::Stale);
    assert!(reason.contains("still sends requests"), "{reason}");
    assert_eq!(state(&picture, "api.test").0, State::External);
}

#[test]
fn the_worst_state_is_the_first_of_the_order() {
    assert!(State::Misrouted < State::Stale && State::Stale < State::Live);
    assert!(!State::Changing.is_fault() && !State::External.is_fault());
}
