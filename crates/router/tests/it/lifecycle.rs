//! Tests of a bus that goes and returns, of the registrar, and of draining.

use crate::backends::Backend;
use crate::world::{Nats, PATIENCE, World, wait_for};
use futures::StreamExt as _;
use kit::CancellationToken;
use route_registrar::{HttpRoute, Registrar};
use router::Settings;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn routes_outlive_the_bus_and_a_start_is_published_when_it_is_back() {
    let mut world = World::with(Settings {
        prune_interval: Duration::from_millis(20),
        stale_threshold: Duration::from_secs(5),
        ..Settings::default()
    })
    .await;
    let backend = Backend::start("x").await;
    world.register("app.test", "app", 0, backend.addr).await;
    drop(world.nats.take());
    wait_for("the client to notice", async || {
        world.bus.connection_state() != async_nats::connection::State::Connected
    })
    .await;
    let gone = std::time::Instant::now();
    wait_for("more than the stale threshold to pass", async || {
        gone.elapsed() > Duration::from_secs(6)
    })
    .await;
    assert_eq!(
        world.get("app.test", "/").await.status,
        200,
        "nothing is pruned while the bus is away"
    );

    let mut starts = world.bus.subscribe("router.start").await.unwrap();
    world.nats = Some(Nats::start(world.nats_port));
    // The router or the test may be back first: if the router was, the test greets it.
    let start = tokio::time::timeout(PATIENCE, async {
        tokio::select! {
            start = starts.next() => start.unwrap(),
            answer = async { loop { if let Ok(answer) = world.bus.request("router.greet", "".into()).await { break answer; } } } => answer,
        }
    })
    .await
    .unwrap();
    let start: serde_json::Value = serde_json::from_slice(&start.payload).unwrap();
    assert_eq!(
        (
            &start["minimumRegisterIntervalInSeconds"],
            &start["pruneThresholdInSeconds"]
        ),
        (&20.into(), &5.into())
    );
    assert!(start["id"].as_str().unwrap().starts_with("0-"));
    assert_eq!(start["hosts"], serde_json::json!(["127.0.0.1"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registrar_registers_answers_starts_and_unregisters() {
    let world = World::new().await;
    let backend = Backend::start("api").await;
    let nats = clients::nats::connect(&Nats::config(world.nats_port), "registrar", |_| {
        std::future::ready(())
    })
    .await
    .unwrap();
    let route = HttpRoute {
        uris: vec!["api.sys.test".into(), "uaa.sys.test".into()],
        host: "127.0.0.1".into(),
        port: backend.addr.port(),
        ..HttpRoute::default()
    };
    let stop = CancellationToken::new();
    let mut seen = world.bus.subscribe("router.register").await.unwrap();
    let registrar = tokio::spawn(
        Registrar::new(nats, &[route], Duration::from_secs(3600))
            .unwrap()
            .run(stop.clone()),
    );
    wait_for("both uris", async || {
        world.handle.serves("api.sys.test") && world.handle.serves("uaa.sys.test")
    })
    .await;
    assert_eq!(world.get("api.sys.test", "/").await.text(), "api");
    seen.next().await.unwrap();
    world.publish("router.start", serde_json::json!({})).await;
    tokio::time::timeout(PATIENCE, seen.next())
        .await
        .unwrap()
        .unwrap();
    stop.cancel();
    registrar.await.unwrap().unwrap();
    wait_for("no routes", async || world.handle.routes() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_lets_requests_finish() {
    let world = World::new().await;
    let backend = Backend::start("done").await;
    world.register("app.test", "app", 0, backend.addr).await;
    let addr = world.addr;
    let request = tokio::spawn(async move {
        crate::client::request(addr, "GET", "app.test", "/slow", &[], "").await
    });
    backend.waiting.notified().await;
    world.shutdown.cancel();
    wait_for("the listener to close", async || {
        tokio::net::TcpStream::connect(addr).await.is_err()
    })
    .await;
    backend.go.notify_one();
    assert_eq!(request.await.unwrap().text(), "done");
    wait_for("the router to end", async || world.running.is_finished()).await;
}
