//! Tests of routes of running instances: `router.register` and `router.unregister`.

use crate::fixture::{SOON, Stage, actual, desired, map};
use futures::StreamExt as _;
use std::time::{Duration, Instant};
use testkit::nats::NatsServer;
use wire::bbs as m;
use wire::router::StartMessage;

#[tokio::test]
async fn running_instances_are_registered_and_events_change_them() {
    let mut stage = Stage::start(vec![desired(&["a.x"], 1)], vec![actual(1)], |_| {}).await;
    let message = stage.expect("register", "a.x").await;
    let mut json = serde_json::to_value(&message).unwrap();
    let emitter = json.as_object_mut().unwrap().remove("emitter").unwrap();
    assert!(
        emitter.as_str().unwrap().starts_with("cell-1:"),
        "{emitter}"
    );
    assert_eq!(
        json,
        serde_json::json!({
            "host": "10.9.8.7", "port": 61000, "tls_port": 61002, "uris": ["a.x"], "app": "app-1", "private_instance_id": "instance-1",
            "private_instance_index": "0", "server_cert_domain_san": "instance-1", "availability_zone": "z1",
            "tags": { "component": "route-emitter", "source_id": "app-1" }, "sequence": 1,
        })
    );
    stage.bbs.event(map(&["a.x"], &["b.x"], 2));
    stage.expect("register", "b.x").await;
    stage.expect("unregister", "a.x").await;
    stage.bbs.event(m::Event::ActualLrpInstanceRemoved(
        m::ActualLrpInstanceEvent {
            actual_lrp: Some(actual(1)),
            trace_id: String::new(),
        },
    ));
    stage.expect("unregister", "b.x").await;
}

#[tokio::test]
async fn the_generation_of_a_route_travels_with_its_messages() {
    let with = |generation: u64, index| {
        let routes =
            serde_json::json!([{ "hostnames": ["a.x"], "port": 8080, "generation": generation }]);
        m::DesiredLrp {
            routes: Some(m::ProtoRoutes {
                routes: [("cf-router".to_owned(), routes.to_string().into_bytes())].into(),
            }),
            ..desired(&[], index)
        }
    };
    let mut stage = Stage::start(vec![with(7, 1)], vec![actual(1)], |_| {}).await;
    assert_eq!(stage.expect("register", "a.x").await.generation, Some(7));
    // A new number alone is a change, which the routers can confirm.
    stage
        .bbs
        .event(m::Event::DesiredLrpChanged(m::DesiredLrpChangedEvent {
            before: Some(with(7, 1)),
            after: Some(with(9, 2)),
            trace_id: String::new(),
        }));
    assert_eq!(stage.expect("register", "a.x").await.generation, Some(9));
    stage.bbs.event(m::Event::ActualLrpInstanceRemoved(
        m::ActualLrpInstanceEvent {
            actual_lrp: Some(actual(1)),
            trace_id: String::new(),
        },
    ));
    assert_eq!(stage.expect("unregister", "a.x").await.generation, Some(9));
}

#[tokio::test]
async fn an_instance_of_an_unknown_process_makes_the_emitter_fetch_its_routes() {
    let mut stage = Stage::start(vec![desired(&["a.x"], 1)], vec![], |_| {}).await;
    stage.subscribed().await;
    let claimed = m::ActualLrp {
        state: m::state::CLAIMED.into(),
        net_info: None,
        ..actual(0)
    };
    stage.bbs.event(m::Event::ActualLrpInstanceCreated(
        m::ActualLrpInstanceEvent {
            actual_lrp: Some(claimed),
            trace_id: String::new(),
        },
    ));
    let info = |lrp: m::ActualLrp| m::ActualLrpInfo {
        net_info: lrp.net_info,
        state: lrp.state,
        since: lrp.since,
        modification_tag: lrp.modification_tag,
        routable: lrp.routable,
        availability_zone: lrp.availability_zone,
        ..m::ActualLrpInfo::default()
    };
    let running = actual(1);
    stage.bbs.event(m::Event::ActualLrpInstanceChanged(
        m::ActualLrpInstanceChangedEvent {
            key: running.key.clone(),
            instance_key: running.instance_key.clone(),
            before: None,
            after: Some(info(running)),
            trace_id: String::new(),
        },
    ));
    stage.expect("register", "a.x").await;
}

#[tokio::test]
async fn a_broken_stream_means_resubscribe_and_sync_at_once() {
    let mut stage = Stage::start(vec![desired(&["a.x"], 1)], vec![actual(1)], |_| {}).await;
    stage.expect("register", "a.x").await;
    stage.subscribed().await;
    stage.bbs.set(vec![desired(&["c.x"], 2)], vec![actual(1)]);
    stage.bbs.break_streams();
    stage.expect("register", "c.x").await;
    stage.expect("unregister", "a.x").await;
}

#[tokio::test]
async fn a_stream_that_is_continued_needs_no_sync() {
    let mut stage = Stage::start(vec![desired(&["a.x"], 1)], vec![actual(1)], |_| {}).await;
    stage.expect("register", "a.x").await;
    stage.subscribed().await;
    stage.bbs.event(map(&["a.x"], &["b.x"], 2));
    stage.expect("register", "b.x").await;
    stage.expect("unregister", "a.x").await;
    stage.bbs.continue_with(vec![map(&["b.x"], &["c.x"], 3)]);
    stage.bbs.break_streams();
    stage.expect("register", "c.x").await;
    stage.expect("unregister", "b.x").await;
    assert_eq!(stage.bbs.syncs(), 1, "the state was read at the start only");
}

#[tokio::test]
async fn the_last_sync_can_be_read() {
    let mut stage = Stage::start(vec![desired(&["a.x"], 1)], vec![actual(1)], |_| {}).await;
    stage.expect("register", "a.x").await;
    let sync = stage.last_sync.read().unwrap();
    assert_eq!(sync.error, None);
    assert_eq!(sync.changed.get("registered"), Some(&1));
    assert_eq!(sync.changed.len(), 1);
}

#[tokio::test]
async fn routers_are_greeted_and_answered_with_everything() {
    let mut stage = Stage::start(vec![desired(&["a.x"], 1)], vec![actual(1)], |_| {}).await;
    let start = serde_json::to_vec(&StartMessage {
        id: "0-r".into(),
        hosts: vec![],
        minimum_register_interval_in_seconds: 1,
        prune_threshold_in_seconds: 120,
    })
    .unwrap();
    stage.expect("register", "a.x").await;
    let mut greetings = stage.bus.subscribe("router.greet").await.unwrap();
    let greeting = tokio::time::timeout(SOON, greetings.next())
        .await
        .unwrap()
        .unwrap();
    // The time runs from before the answer: a busy machine may hand all messages over at once.
    let answered = Instant::now();
    stage
        .bus
        .publish(greeting.reply.unwrap(), start.clone().into())
        .await
        .unwrap();
    // The first of these may be older than the answer.
    for _ in 0..3 {
        stage.expect("register", "a.x").await;
    }
    assert!(
        answered.elapsed() > Duration::from_millis(500),
        "at the announced interval of a second"
    );
    stage
        .bus
        .publish("router.start", start.into())
        .await
        .unwrap();
    stage.expect("register", "a.x").await;
}

#[tokio::test]
async fn unregistrations_are_repeated() {
    let mut stage = Stage::start(vec![desired(&["a.x"], 1)], vec![actual(1)], |config| {
        config.unregistration_interval = Duration::from_millis(100);
        config.unregistration_send_count = 2;
    })
    .await;
    stage.expect("register", "a.x").await;
    stage.subscribed().await;
    stage
        .bbs
        .event(m::Event::DesiredLrpRemoved(m::DesiredLrpEvent {
            desired_lrp: Some(desired(&["a.x"], 1)),
            trace_id: String::new(),
        }));
    for _ in 0..3 {
        stage.expect("unregister", "a.x").await;
    }
}

#[tokio::test]
async fn when_the_bus_is_back_everything_is_sent_again() {
    let mut stage = Stage::start(vec![desired(&["a.x"], 1)], vec![actual(1)], |_| {}).await;
    stage.expect("register", "a.x").await;
    stage.subscribed().await;
    stage.nats.kill();
    stage.bbs.event(map(&["a.x"], &["a.x", "b.x"], 2));
    stage.nats = NatsServer::start(stage.nats.port());
    stage.nats.ready().await;
    let mut uris = Vec::new();
    while !(uris.contains(&"a.x".to_owned()) && uris.contains(&"b.x".to_owned())) {
        uris.extend(stage.next().await.1.uris);
    }
}

#[tokio::test]
async fn from_event_to_message_in_a_millisecond() {
    let mut stage = Stage::start(vec![desired(&["a.x"], 1)], vec![actual(1)], |_| {}).await;
    stage.expect("register", "a.x").await;
    stage.subscribed().await;
    let mut took = Vec::new();
    for round in 0..100 {
        let (before, after) = if round % 2 == 0 {
            (vec!["a.x"], vec!["a.x", "b.x"])
        } else {
            (vec!["a.x", "b.x"], vec!["a.x"])
        };
        let sent = Instant::now();
        stage.bbs.event(map(&before, &after, 2 + round));
        stage
            .expect(
                if round % 2 == 0 {
                    "register"
                } else {
                    "unregister"
                },
                "b.x",
            )
            .await;
        took.push(sent.elapsed());
    }
    took.sort();
    eprintln!(
        "BBS event → message at a subscriber: p50 {:?}, p99 {:?}",
        took[50], took[98]
    );
    // This is the whole way through two servers. The bound is generous, because test machines are busy.
    assert!(took[50] < Duration::from_secs(1), "p50 {:?}", took[50]);
}
