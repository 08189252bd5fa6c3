//! The table over the real bus: repeated messages, bursts, starting routes, the start message.

use crate::backends::Backend;
use crate::world::{World, plain, wait_for};
use router::Settings;
use serde_json::json;
use std::time::{Duration, Instant};

fn refreshed(world: &World) -> u64 {
    let text = world.handle.metrics_text();
    let lines = text.lines();
    lines
        .filter(|line| line.starts_with("registry_message") && line.contains("\"refreshed\""))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_message_counts_again_after_an_unregistration() {
    let world = World::new().await;
    let backend = Backend::start("one").await;
    let message = plain("app.test", "app", 0, backend.addr);
    for round in 1..=3 {
        for _ in 0..3 {
            world.publish("router.register", message.clone()).await;
        }
        wait_for("the repetitions", async || refreshed(&world) == 2 * round).await;
        assert_eq!(world.get("app.test", "/").await.text(), "one");
        world.publish("router.unregister", message.clone()).await;
        wait_for("404", async || {
            world.get("app.test", "/").await.status == 404
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_registrations_loses_nothing() {
    const ROUTES: usize = 20_000;
    let world = World::new().await;
    let addr = "127.0.0.1:9".parse().unwrap();
    for round in 0..2 {
        for n in 0..ROUTES {
            let message = plain(&format!("app-{n}.test"), "app", 0, addr);
            let payload = message.to_string().into();
            world.bus.publish("router.register", payload).await.unwrap();
        }
        world.bus.flush().await.unwrap();
        wait_for("all routes", async || world.handle.routes() == ROUTES).await;
        wait_for("all repetitions", async || {
            refreshed(&world) == (round * ROUTES) as u64
        })
        .await;
    }
    let dropped = world.handle.metrics_text();
    assert!(dropped.contains("total_dropped_messages 0"), "{dropped}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_waits_for_a_route_that_is_starting() {
    let world = World::with(Settings {
        hold_timeout: Duration::from_secs(30),
        ..Settings::default()
    })
    .await;
    let backend = Backend::start("late").await;
    assert_eq!(world.get("app.test", "/").await.status, 404);
    world
        .publish("router.starting", json!({"uris": ["App.test/x"]}))
        .await;
    wait_for("the announcement", async || world.handle.routes() == 1).await;
    assert_eq!(
        world.get("app.test", "/other").await.status,
        404,
        "another route does not wait"
    );
    let began = Instant::now();
    let later = async {
        wait_for("the request to wait", async || world.handle.held() == 1).await;
        let message = plain("app.test/x", "app", 0, backend.addr);
        world.publish("router.register", message).await;
    };
    let (reply, ()) = tokio::join!(world.get("app.test", "/x/y"), later);
    assert_eq!((reply.status, reply.text().as_str()), (200, "late"));
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(world.handle.held(), 0);
}

/// In a restart the old instance leaves before the new one is announced.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_waits_from_the_moment_the_last_instance_is_taken_out() {
    // The router keeps the route for this long. A machine that stands still for longer repeats the round.
    const KEPT: Duration = Duration::from_secs(2);
    let world = World::with(Settings {
        hold_timeout: Duration::from_secs(30),
        ..Settings::default()
    })
    .await;
    let (old, new) = (Backend::start("old").await, Backend::start("new").await);
    let mut rounds = vec![false, true];
    while let Some(announced) = rounds.pop() {
        world.register("app.test", "app", 0, old.addr).await;
        let message = plain("app.test", "app", 0, old.addr);
        let began = Instant::now();
        world.unregister("app.test", "app", 0, old.addr).await;
        let later = async {
            wait_for("the request to wait", async || {
                world.handle.held() == 1 || began.elapsed() > KEPT
            })
            .await;
            if announced {
                world
                    .publish("router.starting", json!({"uris": ["app.test"]}))
                    .await;
                // Emitters repeat their unregistrations.
                world.publish("router.unregister", message).await;
                settle(&world).await;
                assert!(world.handle.held() == 1 || began.elapsed() > KEPT);
            }
            world
                .publish("router.register", plain("app.test", "app", 1, new.addr))
                .await;
        };
        let (reply, ()) = tokio::join!(world.get("app.test", "/"), later);
        if reply.status == 404 && began.elapsed() > KEPT {
            rounds.push(announced);
        } else {
            assert_eq!(
                (reply.status, reply.text().as_str()),
                (200, "new"),
                "{announced}"
            );
        }
        world.unregister("app.test", "app", 1, new.addr).await;
    }
    // No instance comes: the route ends soon, and as if it had never existed.
    let reply = world.get("app.test", "/").await;
    assert_eq!((reply.status, reply.router_error()), (404, "unknown_route"));
    wait_for("the route to be forgotten", async || {
        world.table().await.get("app.test").is_none()
    })
    .await;
    assert_eq!(world.handle.held(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_has_ended_gives_way_to_the_wildcard_behind_it() {
    let world = World::with(Settings {
        hold_timeout: Duration::from_secs(30),
        ..Settings::default()
    })
    .await;
    let (own, behind) = (Backend::start("own").await, Backend::start("behind").await);
    world.register("*.test", "behind", 0, behind.addr).await;
    world.register("app.test", "app", 0, own.addr).await;
    world.unregister("app.test", "app", 0, own.addr).await;
    assert_eq!(world.get("app.test", "/").await.text(), "behind");
}

/// Waits until everything that was published before is in the table.
async fn settle(world: &World) {
    let uri = format!("settled-{}.test", rand::random::<u64>());
    let message = plain(&uri, "settled", 0, "127.0.0.1:9".parse().unwrap());
    world.publish("router.register", message).await;
    wait_for("the bus", async || world.handle.serves(&uri)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_is_bounded_and_off_by_default() {
    for (limit, status) in [(0, 404), (200, 503)] {
        let hold_timeout = Duration::from_millis(limit);
        let world = World::with(Settings {
            hold_timeout,
            ..Settings::default()
        })
        .await;
        world
            .publish("router.starting", json!({"uris": ["app.test"]}))
            .await;
        let own = plain("other.test", "app", 0, "127.0.0.1:9".parse().unwrap());
        world.publish("router.register", own).await;
        wait_for("the announcement", async || {
            world.handle.serves("other.test")
        })
        .await;
        let began = Instant::now();
        assert_eq!(world.get("app.test", "/").await.status, status);
        assert!(began.elapsed() >= hold_timeout);
        assert!(began.elapsed() < Duration::from_secs(30));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_its_app_lost_answers_at_once() {
    let world = World::with(Settings {
        hold_timeout: Duration::from_secs(30),
        ..Settings::default()
    })
    .await;
    let mut message = plain("app.test", "app", 0, "127.0.0.1:9".parse().unwrap());
    message["withdrawn"] = json!(true);
    // Without the field the request would wait for two seconds. A machine that stands still repeats the round.
    wait_for("an answer at once", async || {
        world.publish("router.register", message.clone()).await;
        world.publish("router.unregister", message.clone()).await;
        settle(&world).await;
        let began = Instant::now();
        assert_eq!(world.get("app.test", "/").await.status, 404);
        began.elapsed() < Duration::from_secs(1)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_start_message_contains_the_interval_and_not_the_start_delay() {
    let world = World::with(Settings {
        register_interval: Duration::from_secs(7),
        start_delay: Duration::from_millis(10),
        ..Settings::default()
    })
    .await;
    let greeted = world
        .bus
        .request("router.greet", "{}".into())
        .await
        .unwrap();
    let start: serde_json::Value = serde_json::from_slice(&greeted.payload).unwrap();
    assert_eq!(start["minimumRegisterIntervalInSeconds"], 7);
    assert_eq!(start["pruneThresholdInSeconds"], 120);
    assert!(start["id"].as_str().unwrap().starts_with("0-"));
    assert_eq!(start["hosts"], json!(["127.0.0.1"]));
}
