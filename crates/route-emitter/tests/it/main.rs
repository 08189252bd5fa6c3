//! Tests the route-emitter between a BBS over mTLS and a real nats-server.

#![expect(clippy::unwrap_used, reason = "a test may end here")]

mod fake_bbs;
mod starting;

use fake_bbs::FakeBbs;
use futures::StreamExt as _;
use kit::CancellationToken;
use route_emitter::{Config, RouteEmitter};
use std::time::{Duration, Instant};
use testkit::certs::identity;
use testkit::nats::NatsServer;
use testkit::net::free_port;
use testkit::wait::until;
use wire::bbs as m;
use wire::router::{RegistryMessage, StartMessage};

/// The longest wait for a message. It is shorter than the interval of 20 s at which everything is sent in any case.
const SOON: Duration = Duration::from_secs(15);

/// All parts of a test, with a subscription to the messages that a router receives.
struct Stage {
    bbs: FakeBbs,
    nats: NatsServer,
    bus: async_nats::Client,
    messages: async_nats::Subscriber,
    shutdown: CancellationToken,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Stage {
    async fn start(
        desired: Vec<m::DesiredLrp>,
        actuals: Vec<m::ActualLrp>,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let identity = identity();
        let (bbs, port) = (FakeBbs::start(&identity).await, free_port());
        bbs.set(desired, actuals);
        let nats = NatsServer::start(port);
        nats.ready().await;
        let bus_config = NatsServer::config(port);
        let bus = clients::nats::connect(&bus_config, "test", |_| std::future::ready(()))
            .await
            .unwrap();
        let messages = bus.subscribe("router.>").await.unwrap();
        bus.flush().await.unwrap();
        let mut config = Config::new("cell-1", bbs.url.clone(), identity, bus_config);
        change(&mut config);
        let shutdown = CancellationToken::new();
        tokio::spawn(RouteEmitter::build(config).unwrap().run(shutdown.clone()));
        Self {
            bbs,
            nats,
            bus,
            messages,
            shutdown,
        }
    }

    /// Returns the next register or unregister: the last part of its subject, and the message.
    async fn next(&mut self) -> (String, RegistryMessage) {
        let next = async {
            loop {
                let message = self.messages.next().await.expect("the bus is open");
                let kind = message
                    .subject
                    .as_str()
                    .trim_start_matches("router.")
                    .to_owned();
                if kind.ends_with("register") {
                    return (kind, serde_json::from_slice(&message.payload).unwrap());
                }
            }
        };
        tokio::time::timeout(SOON, next)
            .await
            .expect("no message came")
    }

    async fn expect(&mut self, kind: &str, uri: &str) -> RegistryMessage {
        let (got, message) = self.next().await;
        assert_eq!(
            (got.as_str(), message.uris.as_slice()),
            (kind, [uri.to_owned()].as_slice()),
            "{message:?}"
        );
        message
    }

    async fn subscribed(&self) {
        until("the emitter's subscription to the BBS", || {
            self.bbs.subscribers() > 0
        })
        .await;
    }
}

fn desired(hosts: &[&str], index: u32) -> m::DesiredLrp {
    let routes = serde_json::json!([{ "hostnames": hosts, "port": 8080 }])
        .to_string()
        .into_bytes();
    m::DesiredLrp {
        process_guid: "p".into(),
        domain: "cf-apps".into(),
        log_guid: "app-1".into(),
        instances: 1,
        routes: Some(m::ProtoRoutes {
            routes: [("cf-router".to_owned(), routes)].into(),
        }),
        modification_tag: Some(m::ModificationTag {
            epoch: "d".into(),
            index,
        }),
        metric_tags: [(
            "source_id".to_owned(),
            m::MetricTagValue {
                static_value: "app-1".into(),
                dynamic: 0,
            },
        )]
        .into(),
        ..m::DesiredLrp::default()
    }
}

fn actual(index: u32) -> m::ActualLrp {
    let mapping = |container, host, ctls, htls| m::PortMapping {
        container_port: container,
        host_port: host,
        container_tls_proxy_port: ctls,
        host_tls_proxy_port: htls,
    };
    m::ActualLrp {
        key: Some(m::ActualLrpKey {
            process_guid: "p".into(),
            index: 0,
            domain: "cf-apps".into(),
        }),
        instance_key: Some(m::ActualLrpInstanceKey {
            instance_guid: "instance-1".into(),
            cell_id: "cell-1".into(),
        }),
        net_info: Some(m::ActualLrpNetInfo {
            address: "10.9.8.7".into(),
            ports: vec![
                mapping(8080, 61000, 61001, 61002),
                mapping(8080, 0, 61443, 0),
            ],
            instance_address: "10.255.0.2".into(),
            ..m::ActualLrpNetInfo::default()
        }),
        state: m::state::RUNNING.into(),
        since: 42,
        modification_tag: Some(m::ModificationTag {
            epoch: "a".into(),
            index,
        }),
        routable: Some(true),
        availability_zone: "z1".into(),
        ..m::ActualLrp::default()
    }
}

fn map(before: &[&str], after: &[&str], index: u32) -> m::Event {
    m::Event::DesiredLrpChanged(m::DesiredLrpChangedEvent {
        before: Some(desired(before, index - 1)),
        after: Some(desired(after, index)),
        trace_id: String::new(),
    })
}

#[tokio::test]
async fn running_instances_are_registered_and_events_change_them() {
    let mut stage = Stage::start(vec![desired(&["a.x"], 1)], vec![actual(1)], |_| {}).await;
    let message = stage.expect("register", "a.x").await;
    let json = serde_json::to_value(&message).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "host": "10.9.8.7", "port": 61000, "tls_port": 61002, "uris": ["a.x"], "app": "app-1", "private_instance_id": "instance-1",
            "private_instance_index": "0", "server_cert_domain_san": "instance-1", "availability_zone": "z1",
            "tags": { "component": "route-emitter", "source_id": "app-1" },
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
