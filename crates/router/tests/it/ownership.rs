//! Components' hosts over the real bus: whatever apps register, they get no part of them.

use crate::backends::Backend;
use crate::client::request;
use crate::world::{World, plain, wait_for};
use router::{ComponentHosts, Settings, Sharding};
use serde_json::{Value, json};
use std::net::SocketAddr;

fn protected() -> Settings {
    Settings {
        component_hosts: Some(ComponentHosts::new(["uaa.sys.test", "*.uaa.sys.test"])),
        ..Settings::default()
    }
}

/// Returns a registration as the components' registrar writes it.
fn component(uri: &str, name: &str, addr: SocketAddr) -> Value {
    json!({"uris": [uri], "host": addr.ip(), "port": addr.port(), "tags": {"component": name}})
}

async fn settled(world: &World, number: u32) {
    let uri = format!("settled-{number}.test");
    world
        .publish(
            "router.register",
            plain(&uri, "app", 0, "127.0.0.1:9".parse().unwrap()),
        )
        .await;
    wait_for("the bus", async || world.handle.serves(&uri)).await;
}

async fn answers(world: &World, host: &str, path: &str) -> String {
    let reply = request(world.addr, "POST", host, path, &[], "grant_type=password").await;
    if reply.status == 200 {
        reply.text()
    } else {
        reply.status.to_string()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_gets_no_login_whatever_it_registers_and_whenever() {
    let world = World::with(protected()).await;
    let (uaa, evil) = (Backend::start("uaa").await, Backend::start("evil").await);
    let uris = [
        "uaa.sys.test",
        "UAA.SYS.TEST",
        "uaa.sys.test/oauth",
        "uaa.sys.test/oauth/token",
        "*.uaa.sys.test",
        "zone.uaa.sys.test",
        "*.sys.test",
    ];
    let paths = ["/", "/oauth", "/oauth/token", "/login"];
    let mut number = 0;
    for moment in ["before", "with", "after"] {
        if moment == "with" {
            world
                .publish(
                    "router.register",
                    component("uaa.sys.test", "uaa", uaa.addr),
                )
                .await;
        }
        for uri in uris {
            let mut message = plain(uri, "evil-app", 0, evil.addr);
            world.publish("router.register", message.clone()).await;
            if uri == "*.sys.test" {
                // This wildcard is the app's own.
                continue;
            }
            message["route_service_url"] = json!("https://evil.test");
            message["options"] = json!({"loadbalancing": "hash", "hash_header": "x"});
            message["isolation_segment"] = json!("shared");
            world.publish("router.register", message).await;
            world
                .publish("router.starting", json!({"uris": [uri]}))
                .await;
        }
        number += 1;
        settled(&world, number).await;
        for path in paths {
            let expected = if moment == "with" { "uaa" } else { "404" };
            for host in ["uaa.sys.test", "Uaa.Sys.Test:443"] {
                assert_eq!(
                    answers(&world, host, path).await,
                    expected,
                    "{moment} {host}{path}"
                );
            }
            assert_eq!(
                answers(&world, "zone.uaa.sys.test", path).await,
                "404",
                "{moment} {path}"
            );
        }
        assert_eq!(answers(&world, "www.sys.test", "/").await, "evil");
        if moment == "with" {
            world
                .publish(
                    "router.unregister",
                    component("uaa.sys.test", "uaa", uaa.addr),
                )
                .await;
        }
    }
    let refused = world.handle.metrics_text();
    let count: u64 = refused
        .lines()
        .find_map(|line| line.strip_prefix("component_routes_refused "))
        .unwrap()
        .parse()
        .unwrap();
    assert!(count >= 36, "{count}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_cannot_unregister_a_component_or_set_its_options() {
    let world = World::with(protected()).await;
    let uaa = Backend::start("uaa").await;
    // The rule holds for a listed host and for another one.
    for host in ["uaa.sys.test", "shop.sys.test"] {
        world
            .publish("router.register", component(host, "own", uaa.addr))
            .await;
        wait_for("the component", async || world.handle.serves(host)).await;
        let mut evil = plain(host, "evil-app", 0, uaa.addr);
        evil["route_service_url"] = json!("https://evil.test");
        world.publish("router.register", evil.clone()).await;
        world.publish("router.unregister", evil).await;
        let bare = json!({"uris": [host], "host": uaa.addr.ip(), "port": uaa.addr.port()});
        world.publish("router.unregister", bare).await;
        settled(&world, 1).await;
        assert_eq!(answers(&world, host, "/").await, "uaa", "{host}");
        let rows = &world.table().await[host];
        assert_eq!(rows.as_array().unwrap().len(), 1, "{rows}");
        assert_eq!(rows[0]["tags"]["component"], "own", "{rows}");
        assert!(rows[0].get("route_service_url").is_none(), "{rows}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_registers_later_replaces_an_app_at_its_host() {
    let world = World::with(protected()).await;
    let (own, evil) = (Backend::start("own").await, Backend::start("evil").await);
    for uri in ["shop.sys.test", "shop.sys.test/cart"] {
        world.register(uri, "evil-app", 0, evil.addr).await;
    }
    world
        .publish(
            "router.register",
            component("shop.sys.test", "shop", own.addr),
        )
        .await;
    wait_for("the component alone", async || {
        answers(&world, "shop.sys.test", "/cart").await == "own"
    })
    .await;
    // The app's emitter repeats its message, byte for byte.
    for number in 0..5 {
        world
            .publish(
                "router.register",
                plain("shop.sys.test/cart", "evil-app", 0, evil.addr),
            )
            .await;
        settled(&world, number).await;
        assert_eq!(answers(&world, "shop.sys.test", "/cart").await, "own");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_of_another_segment_serves_the_host_to_no_app() {
    let world = World::with(Settings {
        sharding: Sharding::Segments(vec!["far".into()]),
        ..protected()
    })
    .await;
    let evil = Backend::start("evil").await;
    let mut message = plain("uaa.sys.test", "evil-app", 0, evil.addr);
    message["isolation_segment"] = json!("far");
    world.publish("router.register", message.clone()).await;
    message["uris"] = json!(["www.sys.test"]);
    world.publish("router.register", message).await;
    wait_for("the bus", async || world.handle.serves("www.sys.test")).await;
    assert_eq!(answers(&world, "uaa.sys.test", "/").await, "404");
}

/// An original gorouter mixes them; a router in its place does the same until its file lists the hosts.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_list_nothing_changes() {
    let world = World::new().await;
    let (own, evil) = (Backend::start("own").await, Backend::start("evil").await);
    world
        .publish(
            "router.register",
            component("uaa.sys.test", "uaa", own.addr),
        )
        .await;
    world.register("uaa.sys.test", "app", 0, evil.addr).await;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..20 {
        seen.insert(answers(&world, "uaa.sys.test", "/").await);
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
}
