//! Following a request through the router, with the lines that the router logged about it.

use crate::fixture::{Stage, host};
use serde_json::{Value, json};
use testkit::http::answer;

const LINE: &str = r#"HOST - [2026-11-30T10:04:31.25Z] "GET /x HTTP/1.1" 200 12 34 "-" "cf" "127.0.0.1:1" "10.0.0.1:61001" x_forwarded_for:"127.0.0.1" x_forwarded_proto:"http" vcap_request_id:"the-id" response_time:0.003100 gorouter_time:0.000100 app_id:"a" app_index:"0" instance_id:"i-0" x_cf_routererror:"-""#;
const ATTEMPT: &str = r#"HOST "GET /x" attempt 1 failed after 0.4 ms at 10.0.0.1:61009 (instance i-9, index 1): refused; another instance is tried if there is one vcap_request_id:"the-id""#;

async fn tap(stage: &Stage, token: &str, url: &str) -> (u16, Value) {
    let request = stage.http.post(format!("{}/api/v1/taps", stage.url));
    let request = request
        .header("authorization", token)
        .json(&json!({"url": url}));
    answer(request.send().await.unwrap()).await
}

#[tokio::test]
async fn a_request_is_followed_with_its_times_and_attempts() {
    let stage = Stage::start().await;
    let space = stage.first("/v3/spaces?names=dev").await;
    let app = stage.app("shop", &space).await;
    let uri = host("shop");
    stage.run(&app, "shop", &uri, 61001).await;
    stage.pages.change(
        "registered",
        &uri,
        "10.0.0.1:61001",
        &app,
        &format!("instance-{app}"),
    );
    stage.route(&uri, "live").await;
    stage.pages.log(&ATTEMPT.replace("HOST", &uri));
    stage.pages.log(&LINE.replace("HOST", &uri));
    let (status, answer) = tap(&stage, &stage.admin, &format!("https://{uri}/x?y=z")).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(stage.pages.requests(), [format!("{uri}/x?y=z")]);
    let tap = &answer["taps"][0];
    assert_eq!(
        (
            &tap["router"],
            &tap["status"],
            &tap["endpoint"],
            &tap["instance_guid"]
        ),
        (
            &json!("r1"),
            &json!(200),
            &json!("10.0.0.1:61001"),
            &json!("i-0")
        )
    );
    assert!(tap["router_ms"].as_f64().unwrap() < tap["backend_ms"].as_f64().unwrap());
    assert!(
        tap["attempts"][0]
            .as_str()
            .unwrap()
            .contains("attempt 1 failed after 0.4 ms")
    );
}

#[tokio::test]
async fn a_router_with_taps_returns_the_trace_of_this_request_alone() {
    let stage = Stage::start().await;
    let space = stage.first("/v3/spaces?names=dev").await;
    let app = stage.app("shop", &space).await;
    stage.run(&app, "shop", &host("shop"), 61001).await;
    stage.route(&host("shop"), "missing").await;
    stage.pages.trace(json!({
        "request_id": "the-id", "host": host("shop"), "status": 200, "total_ms": 3.5, "router_ms": 0.1, "held_ms": 0.0, "attempts": [
            {"address": "10.0.0.1:61009", "instance_id": "i-9", "fault": "refused", "is_retried": true},
            {"address": "10.0.0.1:61001", "instance_id": "i-0", "instance_index": "0", "connect_ms": 0.2, "tls_ms": 1.4, "answer_ms": 1.7},
        ], "body_ms": 0.1,
    }));
    let (status, answer) = tap(&stage, &stage.admin, &host("shop")).await;
    assert_eq!(status, 200, "{answer}");
    let shown = &answer["taps"][0];
    assert_eq!(shown["trace"]["request_id"], "the-id");
    assert_eq!(
        (&shown["endpoint"], &shown["instance_guid"]),
        (&json!("10.0.0.1:61001"), &json!("i-0"))
    );
    assert!(
        shown["attempts"][0]
            .as_str()
            .unwrap()
            .contains("10.0.0.1:61009 failed: refused")
    );
    assert!(!answer.to_string().contains("of-somebody-else"), "{answer}");
    let ann = stage.developer("ann", &space).await;
    let (status, answer) = tap(&stage, &ann, &host("shop")).await;
    assert_eq!(status, 200, "{answer}");
    assert!(!answer.to_string().contains("61009"), "{answer}");
}

#[tokio::test]
async fn a_refused_request_shows_the_routers_reason() {
    let stage = Stage::start().await;
    let space = stage.first("/v3/spaces?names=dev").await;
    let app = stage.app("shop", &space).await;
    stage.run(&app, "shop", &host("shop"), 61001).await;
    stage.route(&host("shop"), "missing").await;
    stage.pages.answer(404, "unknown_route");
    let (status, answer) = tap(&stage, &stage.admin, &host("shop")).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        (
            &answer["taps"][0]["status"],
            &answer["taps"][0]["router_error"]
        ),
        (&json!(404), &json!("unknown_route"))
    );
}

#[tokio::test]
async fn only_routes_that_the_user_sees_are_requested() {
    let stage = Stage::start().await;
    let space = stage.first("/v3/spaces?names=dev").await;
    let organization = stage.first("/v3/organizations?names=demo").await;
    let other = json!({"name": "other", "relationships": {"organization": {"data": {"guid": organization}}}});
    let other = stage.post("/v3/spaces", other).await;
    let app = stage.app("shop", &space).await;
    stage.run(&app, "shop", &host("shop"), 61001).await;
    stage.route(&host("shop"), "missing").await;
    let bob = stage
        .developer("bob", other["guid"].as_str().unwrap())
        .await;
    for (token, url, wanted) in [
        (&bob, host("shop"), 404),
        (&stage.admin, host("none"), 404),
        (&stage.admin, "nodot".to_owned(), 400),
        (&stage.admin, "http://127.0.0.1:22/".to_owned(), 404),
    ] {
        let (status, body) = tap(&stage, token, &url).await;
        assert_eq!(status, wanted, "{url}: {body}");
    }
    assert!(stage.pages.requests().is_empty());
    let request = stage.http.post(format!("{}/api/v1/taps", stage.url));
    let request = request
        .header("cookie", "__Host-dashboard=x")
        .json(&json!({"url": host("shop")}));
    assert_eq!(
        request.send().await.unwrap().status(),
        403,
        "another page sends it"
    );
}
