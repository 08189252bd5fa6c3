//! Changes run through the picture: from the BBS, the bus and the router's pages, as lists and as a stream.

use crate::fixture::{Stage, host, process};
use futures::StreamExt as _;
use serde_json::{Value, json};
use testkit::wait::{wait_for, within};
use wire::bbs as m;

/// Reads a stream until an event fulfils a condition, and returns its data.
async fn event(stage: &Stage, name: &str, is: impl Fn(&Value) -> bool) -> Value {
    let request = stage
        .http
        .get(format!("{}/api/v1/stream?after=0", stage.url));
    let request = request.header("authorization", &stage.admin);
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut chunks = response.bytes_stream();
    let mut text = String::new();
    loop {
        let chunk = within("an event", chunks.next()).await.unwrap().unwrap();
        text.push_str(&String::from_utf8_lossy(&chunk));
        while let Some((one, rest)) = text.split_once("\n\n") {
            let field = |key: &str| {
                let line = one.lines().find_map(|line| line.strip_prefix(key));
                line.unwrap_or_default().trim().to_owned()
            };
            let (kind, data) = (field("event:"), field("data:"));
            text = rest.to_owned();
            if kind == name {
                let data: Value = serde_json::from_str(&data).unwrap();
                if is(&data) {
                    return data;
                }
            }
        }
    }
}

fn stations(change: &Value) -> Vec<String> {
    let steps = change["steps"].as_array().unwrap().iter();
    let stations = steps.map(|step| step["station"].as_str().unwrap_or_default().to_owned());
    stations.collect()
}

#[tokio::test]
async fn a_start_is_seen_travelling_to_its_receipt() {
    let stage = Stage::start().await;
    let space = stage.first("/v3/spaces?names=dev").await;
    let app = stage.app("shop", &space).await;
    let uri = host("shop");
    let bus = clients::nats::connect(
        &testkit::nats::NatsServer::config(stage.nats.port()),
        "test",
        |_| std::future::ready(()),
    )
    .await
    .unwrap();
    stage.run(&app, "shop", &uri, 61001).await;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let register = json!({
        "host": "10.0.0.1", "port": 0, "tls_port": 61001, "uris": [uri], "app": app, "private_instance_id": format!("instance-{app}"),
        "generation": 3, "emitter": "cell-1", "sequence": 1, "emitted_at_ns": u64::try_from(now.as_nanos()).unwrap(),
    });
    let publish = async |subject: &'static str, message: &Value| {
        bus.publish(subject, message.to_string().into())
            .await
            .unwrap();
        bus.flush().await.unwrap();
    };
    publish(
        "route-receipts.routers",
        &json!({"id": "0-r1", "hosts": ["10.0.0.1"], "minimumRegisterIntervalInSeconds": 20, "pruneThresholdInSeconds": 120}),
    )
    .await;
    publish("router.register", &register).await;
    stage.pages.change(
        "registered",
        &uri,
        "10.0.0.1:61001",
        &app,
        &format!("instance-{app}"),
    );
    stage.route(&uri, "live").await;
    // A receipt of a change that no router published yet would come too early.
    let receipt = json!({"router": "0-r1", "routes": [{"uri": uri, "processes": [{"process": app, "generation": 3, "endpoints": 1}],
        "change": {"generation": 3, "emitted_at_ns": 1, "applied_at_ns": 2}}]});
    publish("route-receipts.served", &receipt).await;

    let change = event(&stage, "change", |change| {
        change["app"] == app.as_str() && change["result"]["state"] == "live"
    })
    .await;
    assert_eq!(
        (&change["kind"], &change["app_name"]),
        (&json!("start"), &json!("shop"))
    );
    let passed = stations(&change);
    for station in [
        "bbs",
        "auctioneer",
        "cell",
        "container",
        "envoy",
        "dnat",
        "route-emitter",
        "nats",
    ] {
        assert!(
            passed.iter().any(|own| own == station),
            "{station}: {change}"
        );
    }
    assert!(
        change["result"]["text"]
            .as_str()
            .unwrap()
            .starts_with("live on 1/1 routers after ")
    );
    let listed = stage.get("/api/v1/changes?limit=5").await;
    assert!(
        listed["rows"]
            .as_array()
            .unwrap()
            .iter()
            .any(|row| row["id"] == change["id"])
    );
    let one = stage
        .get(&format!("/api/v1/changes/{}", change["id"]))
        .await;
    assert_eq!(one["uris"], json!([uri]));
}

#[tokio::test]
async fn a_crash_is_a_fault_in_the_stream_and_in_the_sentence() {
    let stage = Stage::start().await;
    let space = stage.first("/v3/spaces?names=dev").await;
    let app = stage.app("shop", &space).await;
    stage.run(&app, "shop", &host("shop"), 61001).await;
    let running = m::ActualLrpsRequest {
        process_guid: process(&app),
        ..m::ActualLrpsRequest::default()
    };
    let lrp = stage.bbs.actual_lrps(&running).await.unwrap().remove(0);
    let crash = m::CrashActualLrpRequest {
        key: lrp.key,
        instance_key: lrp.instance_key,
        error_message: "exit status 7".to_owned(),
    };
    stage.bbs.crash(&crash).await.unwrap();
    let change = event(&stage, "change", |change| {
        change["steps"]
            .as_array()
            .unwrap()
            .iter()
            .any(|step| step["fault"] == true)
    })
    .await;
    let text = change.to_string();
    assert!(
        text.contains("exit status 7") && text.contains("crashed"),
        "{text}"
    );
}

#[tokio::test]
async fn a_stale_endpoint_stands_out() {
    let stage = Stage::start().await;
    let space = stage.first("/v3/spaces?names=dev").await;
    let app = stage.app("shop", &space).await;
    let uri = host("shop");
    stage.run(&app, "shop", &uri, 61001).await;
    stage.route(&uri, "missing").await;
    stage.pages.change(
        "registered",
        &uri,
        "10.0.0.1:61001",
        &app,
        &format!("instance-{app}"),
    );
    stage.route(&uri, "live").await;
    stage
        .pages
        .change("registered", &uri, "10.0.0.1:61009", &app, "instance-gone");
    let route = stage.route(&uri, "stale").await;
    assert!(
        route["reason"].as_str().unwrap().contains("10.0.0.1:61009"),
        "{route}"
    );
    wait_for("the sentence", async || {
        let picture = stage.get("/api/v1/picture").await;
        let sentence = picture["health"]["sentence"].as_str().unwrap().to_owned();
        match sentence.contains("1 route is stale") && picture["health"]["state"] == "fault" {
            true => Ok(()),
            false => Err(sentence),
        }
    })
    .await;
    let faults = stage.get("/api/v1/routes?state=fault").await;
    assert_eq!(faults["total"], 1);
}
