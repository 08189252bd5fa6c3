//! The page `/changes` over the real bus: it shows every change of the table once, and with its source.

use crate::client::{Reply, request};
use crate::world::{World, plain, unused_address, wait_for};
use router::{ComponentHosts, Settings};
use serde_json::{Value, json};

const LOGIN: [(&str, &str); 1] = [("authorization", "Basic c3RhdHVzOnNlY3JldA==")];

async fn get(world: &World, path: &str, headers: &[(&str, &str)]) -> Reply {
    request(world.status, "GET", "router", path, headers, "").await
}

async fn changes(world: &World, after: u64) -> Value {
    let reply = get(world, &format!("/changes?after={after}"), &LOGIN).await;
    assert_eq!(reply.status, 200);
    serde_json::from_slice(&reply.body).unwrap()
}

/// Returns number, kind, source and effect on the route of each change.
fn rows(page: &Value) -> Vec<Value> {
    let rows = page["changes"].as_array().unwrap().iter();
    let short = |row: &Value| json!([row["number"], row["kind"], row["source"], row["route"]]);
    rows.map(short).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_has_a_number_a_time_and_its_message() {
    let world = World::new().await;
    let addr = unused_address();
    let (first, second) = (
        plain("app.test", "app", 0, addr),
        plain("app.test", "other", 0, addr),
    );
    // The second message and the third repeat the first: they change nothing.
    for _ in 0..3 {
        world.publish("router.register", first.clone()).await;
    }
    world.publish("router.register", second.clone()).await;
    world.publish("router.unregister", second.clone()).await;
    world.publish("router.unregister", second).await;
    wait_for("three changes", async || {
        changes(&world, 0).await["last"] == 3
    })
    .await;
    let page = changes(&world, 0).await;
    assert_eq!(
        rows(&page),
        [
            json!([1, "registered", "router.register", "new"]),
            json!([2, "changed", "router.register", null]),
            json!([3, "unregistered", "router.unregister", "gone"]),
        ]
    );
    assert_eq!(page["missed"], 0);
    let changed = &page["changes"][1];
    assert_eq!(changed["uri"], "app.test");
    assert_eq!(changed["endpoint"]["address"], addr.to_string());
    assert_eq!(changed["endpoint"]["application_id"], "other");
    assert!(changed["time"].as_str().unwrap().ends_with('Z'));
    let rest = changes(&world, 2).await;
    assert_eq!(rows(&rest), [rows(&page)[2].clone()]);
    assert_eq!(rest["router"], page["router"]);
    assert!(rows(&changes(&world, 3).await).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_messages_are_changes_too() {
    let world = World::with(Settings {
        component_hosts: Some(ComponentHosts::new(["uaa.sys.test"])),
        ..Settings::default()
    })
    .await;
    let evil = plain("uaa.sys.test", "evil", 0, unused_address());
    world.publish("router.register", evil).await;
    wait_for("the refusal", async || {
        changes(&world, 0).await["last"] == 1
    })
    .await;
    let page = changes(&world, 0).await;
    let refused = json!([1, "refused", "router.register", null]);
    assert_eq!(rows(&page), [refused]);
    assert_eq!(page["changes"][0]["refused"], "registration");
    assert_eq!(page["changes"][0]["endpoint"]["application_id"], "evil");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_needs_the_password_and_a_number() {
    let world = World::new().await;
    for path in ["/changes", "/changes?after=0", "/changes?after=x"] {
        assert_eq!(get(&world, path, &[]).await.status, 401, "{path}");
    }
    assert_eq!(get(&world, "/changes", &LOGIN).await.status, 200);
    let reply = get(&world, "/changes?after=x", &LOGIN).await;
    assert_eq!(reply.status, 400);
    assert!(reply.text().contains("after"), "{}", reply.text());
}
