//! Tests of `X-Vcap-Request-Id`: the BBS gets the id of a request with the request's consequences.

use crate::fixture::*;
use reqwest::Method;
use serde_json::json;
use testkit::wait::within;
use wire::REQUEST_ID;
use wire::bbs::Event;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_the_bbs_name_the_request_that_caused_them() {
    let f = Foundation::start().await;
    let app = f.stopped_app("app").await;
    let mut events = f.bbs.instance_events("").await.unwrap();
    let started = f
        .http
        .post(format!("{}/v3/apps/{app}/actions/start", f.url))
        .header("authorization", format!("bearer {}", f.admin))
        .header(REQUEST_ID, "request-1")
        .json(&json!({}))
        .send()
        .await
        .unwrap();
    assert_eq!(started.status(), 200);
    let created = loop {
        let event = within("an event", events.next()).await.unwrap();
        if let Event::DesiredLrpCreated(created) = event {
            break created;
        }
    };
    assert_eq!(created.trace_id, "request-1");

    // A request that brings no id gets a new one.
    let stop = format!("/v3/apps/{app}/actions/stop");
    f.send(Method::POST, &stop, json!({})).await;
    let removed = loop {
        let event = within("an event", events.next()).await.unwrap();
        if let Event::DesiredLrpRemoved(removed) = event {
            break removed;
        }
    };
    assert!(!["", "request-1"].contains(&removed.trace_id.as_str()));
    f.finish().await;
}
