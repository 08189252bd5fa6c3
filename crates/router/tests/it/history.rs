//! The page `/routes?at=` over the real bus: it shows the table as it was at an earlier time.

use crate::client::{Reply, request};
use crate::world::{World, plain, unused_address, wait_for};
use serde_json::Value;
use std::net::SocketAddr;

const LOGIN: [(&str, &str); 1] = [("authorization", "Basic c3RhdHVzOnNlY3JldA==")];

async fn get(world: &World, path: &str) -> Reply {
    request(world.status, "GET", "router", path, &LOGIN, "").await
}

async fn json(world: &World, path: &str) -> Value {
    let reply = get(world, path).await;
    assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    serde_json::from_slice(&reply.body).unwrap()
}

/// Waits until the router has made so many changes, and returns the time of the last one.
async fn time_of_change(world: &World, number: u64) -> String {
    wait_for("the change", async || {
        json(world, "/changes").await["last"].as_u64() >= Some(number)
    })
    .await;
    let page = json(world, &format!("/changes?after={}", number - 1)).await;
    page["changes"][0]["time"].as_str().unwrap().to_owned()
}

/// Returns the addresses and apps of a route at a time, or `None` if there was no such route.
async fn endpoints(world: &World, time: &str, route: &str) -> Option<Vec<(String, String)>> {
    let table = json(world, &format!("/routes?at={time}")).await;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let rows = table[route].as_array()?.iter();
    let short = |row: &Value| (text(&row["address"]), text(&row["private_instance_id"]));
    Some(rows.map(short).collect())
}

fn of(addr: SocketAddr, message: &Value) -> (String, String) {
    let id = message["private_instance_id"].as_str().unwrap_or_default();
    (addr.to_string(), id.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_of_every_earlier_change_can_be_read() {
    let world = World::new().await;
    let (one, two) = (unused_address(), unused_address());
    let old = plain("app.test", "old", 0, one);
    let new = plain("app.test", "new", 0, one);
    let second = plain("app.test", "old", 1, two);
    let mut times = Vec::new();
    for (subject, message) in [
        ("router.register", &old),
        ("router.register", &second),
        ("router.register", &new),
        ("router.unregister", &second),
        ("router.unregister", &new),
    ] {
        world.publish(subject, message.clone()).await;
        times.push(time_of_change(&world, times.len() as u64 + 1).await);
    }
    let at = async |change: usize| {
        let mut found = endpoints(&world, &times[change - 1], "app.test").await;
        found.iter_mut().for_each(|list| list.sort());
        found
    };
    let sorted = |mut list: Vec<(String, String)>| {
        list.sort();
        Some(list)
    };
    assert_eq!(at(1).await, sorted(vec![of(one, &old)]));
    assert_eq!(at(2).await, sorted(vec![of(one, &old), of(two, &second)]));
    assert_eq!(at(3).await, sorted(vec![of(one, &new), of(two, &second)]));
    assert_eq!(at(4).await, sorted(vec![of(one, &new)]));
    let since = json(&world, "/changes").await["since"].clone();
    let since = since.as_str().unwrap().to_owned();
    assert_eq!(endpoints(&world, &since, "app.test").await, None);
    let page = json(&world, "/changes?after=2").await;
    let changed = &page["changes"][0];
    assert_eq!(changed["kind"], "changed");
    assert_eq!(changed["replaced"]["application_id"], "old");
    assert_eq!(changed["endpoint"]["application_id"], "new");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_is_not_known_is_refused_with_the_time_from_which_on_it_is() {
    let world = World::new().await;
    let since = json(&world, "/changes").await["since"].clone();
    for (query, status, text) in [
        ("at=10:04", 400, "is not a time"),
        ("at=2999-01-01T00:00:00Z", 400, "is in the future"),
        ("at=2020-01-01T00:00:00Z", 410, since.as_str().unwrap()),
        ("at=a&at=b", 400, "one time"),
    ] {
        let reply = get(&world, &format!("/routes?{query}")).await;
        assert_eq!(reply.status, status, "{query}");
        assert!(reply.text().contains(text), "{query}: {}", reply.text());
    }
    let path = "/routes?at=2020-01-01T00:00:00Z";
    let reply = request(world.status, "GET", "router", path, &[], "").await;
    assert_eq!(reply.status, 401);
}
