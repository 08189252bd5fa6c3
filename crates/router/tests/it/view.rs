//! The page `/route` over the real bus: it shows what a request to one URL would meet.

use crate::backends::Backend;
use crate::client::{Reply, request};
use crate::world::{PATIENCE, World, plain, unused_address, wait_for};
use serde_json::{Value, json};
use wire::router::{RouteView, subject};

const LOGIN: [(&str, &str); 1] = [("authorization", "Basic c3RhdHVzOnNlY3JldA==")];

async fn get(world: &World, path: &str, headers: &[(&str, &str)]) -> Reply {
    request(world.status, "GET", "router", path, headers, "").await
}

async fn view(world: &World, url: &str) -> Value {
    let reply = get(world, &format!("/route?url={url}"), &LOGIN).await;
    assert_eq!(reply.status, 200);
    serde_json::from_slice(&reply.body).unwrap()
}

async fn failures(world: &World, after: u64) -> Value {
    let reply = get(world, &format!("/failures?after={after}"), &LOGIN).await;
    assert_eq!(reply.status, 200);
    serde_json::from_slice(&reply.body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_shows_its_route_with_ages() {
    let world = World::new().await;
    let backend = Backend::start("x").await;
    world.register("app.test", "app", 0, backend.addr).await;
    let shown = view(&world, "http://APP.test:80/some/path").await;
    assert_eq!(shown["route"], "app.test");
    assert_eq!(shown["bus_is_connected"], true);
    let endpoint = &shown["endpoints"][0];
    assert_eq!(endpoint["address"], backend.addr.to_string());
    assert!(endpoint["message_age"].as_f64().unwrap() < 60.0);
    assert_eq!(endpoint["in_flight"], 0);
    assert_eq!(view(&world, "nobody.test").await["route"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_on_the_bus_has_the_same_answer() {
    let world = World::new().await;
    let backend = Backend::start("x").await;
    let mut message = plain("app.test", "app", 0, backend.addr);
    message["generation"] = json!(17);
    world.publish("router.register", message).await;
    wait_for("the route", async || world.handle.serves("app.test")).await;
    // The router does not answer a question that it cannot read, and answers the next one.
    world.publish(subject::ASK_VIEW, json!([1])).await;
    let question = json!({"url": "https://app.test/path"}).to_string();
    let asked = world.bus.request(subject::ASK_VIEW, question.into());
    let answer = tokio::time::timeout(PATIENCE, asked).await;
    let answer = answer.expect("an answer in time").unwrap();
    let shown: RouteView = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!(shown.route.as_deref(), Some("app.test"));
    assert_eq!(shown.http_address, world.addr.to_string());
    assert_eq!(shown.https_address, world.https.to_string());
    assert_eq!(shown.endpoints[0].generation, 17);
    assert_eq!(shown.endpoints[0].component, "route-emitter");
    let page = view(&world, "app.test").await;
    assert_eq!(page["router"], shown.router);
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_requests_are_shown_for_their_host() {
    let world = World::new().await;
    world
        .register("dead.test", "app", 0, unused_address())
        .await;
    world.get("dead.test", "/a?secret=1").await;
    world.get("nobody.test", "/").await;
    wait_for("a failing request", async || {
        view(&world, "dead.test").await["failures"][0]["status"] == 502
    })
    .await;
    let shown = view(&world, "dead.test").await;
    let failure = &shown["failures"][0];
    assert_eq!(failure["path"], "/a");
    let error = failure["error"].as_str().unwrap();
    assert!(error.starts_with("endpoint_failure (dial tcp"), "{error}");
    assert!(!failure["request_id"].as_str().unwrap().is_empty());
    assert_eq!(shown["failures"].as_array().unwrap().len(), 1);
    wait_for("the other failing request", async || {
        view(&world, "nobody.test").await["failures"][0]["error"] == "unknown_route"
    })
    .await;
    let all = failures(&world, 0).await;
    assert_eq!((&all["last"], &all["missed"]), (&json!(2), &json!(0)));
    let mut hosts: Vec<&str> = all["failures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["host"].as_str().unwrap())
        .collect();
    hosts.sort_unstable();
    assert_eq!(hosts, ["dead.test", "nobody.test"]);
    assert_eq!(
        failures(&world, 1).await["failures"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(failures(&world, 2).await["failures"], json!([]));
    assert_eq!(
        failures(&world, 9).await["failures"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_needs_the_password_and_a_url() {
    let world = World::new().await;
    assert_eq!(get(&world, "/route?url=a.test", &[]).await.status, 401);
    assert_eq!(get(&world, "/route", &LOGIN).await.status, 400);
    assert_eq!(get(&world, "/failures", &[]).await.status, 401);
    assert_eq!(get(&world, "/failures?after=x", &LOGIN).await.status, 400);
}
