//! Tests of lost and overtaken messages of an emitter that numbers them.

use crate::world::{PATIENCE, World, plain, wait_for};
use futures::StreamExt as _;
use route_table::emission::{Changes, EmittedEndpoint, Registration, Route};
use route_table::numbering::{Numbered, Outgoing};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use wire::router::digests::{DifferenceMessage, DifferenceQuestion, DigestMessage};
use wire::router::subject;

const EMITTER: &str = "cell-1:test";

/// An emitter that publishes only what a test wants.
struct Emitter {
    numbers: Outgoing,
    address: SocketAddr,
}

impl Emitter {
    fn new() -> Self {
        Self {
            numbers: Outgoing::default(),
            address: ([127, 0, 0, 1], 1001).into(),
        }
    }

    fn registration(&self, uri: &str) -> Registration {
        Registration {
            route: Arc::new(Route {
                uri: uri.to_owned(),
                ..Route::default()
            }),
            endpoint: Arc::new(EmittedEndpoint {
                host: self.address.ip().to_string(),
                port: self.address.port(),
                tls_port: None,
                app: "app".to_owned(),
                instance_guid: "i".to_owned(),
                index: 0,
                tags: [].into(),
                availability_zone: String::new(),
            }),
            since_ns: 0,
        }
    }

    /// Registers a route, and returns the message.
    fn register(&mut self, uri: &str) -> Value {
        self.numbers.record(&Changes {
            register: vec![self.registration(uri)],
            ..Changes::default()
        });
        self.message(uri, self.numbers.digest().sequence)
    }

    /// Unregisters a route, and returns the message.
    fn unregister(&mut self, uri: &str) -> Value {
        self.numbers.record(&Changes {
            unregister: vec![self.registration(uri)],
            ..Changes::default()
        });
        self.message(uri, self.numbers.digest().sequence)
    }

    fn message(&self, uri: &str, sequence: u64) -> Value {
        let mut message = plain(uri, "app", 0, self.address);
        message["emitter"] = json!(EMITTER);
        message["sequence"] = json!(sequence);
        message
    }

    async fn publish_digest(&self, world: &World) {
        let digest = self.numbers.digest();
        let message = DigestMessage {
            emitter: EMITTER.to_owned(),
            sequence: digest.sequence,
            registrations: digest.registrations,
            sum: digest.sum,
        };
        let message = serde_json::to_value(message).unwrap();
        world.publish(subject::DIGEST, message).await;
    }

    /// Answers the next question of the router.
    async fn answer(&self, world: &World, questions: &mut async_nats::Subscriber) {
        let asked = tokio::time::timeout(PATIENCE, questions.next()).await;
        let asked = asked.expect("a question in time").expect("an open bus");
        let question: DifferenceQuestion = serde_json::from_slice(&asked.payload).unwrap();
        assert_eq!(question.emitter, EMITTER);
        let difference = self.numbers.after(question.after, 200);
        let mut message = DifferenceMessage {
            emitter: question.emitter,
            router: question.router,
            after: question.after,
            upto: difference.upto,
            ..DifferenceMessage::default()
        };
        for (sequence, numbered) in &difference.changes {
            let text = self.message(&numbered.registration().route.uri, *sequence);
            let texts = match numbered {
                Numbered::Present(_) => &mut message.register,
                Numbered::Removed(_) => &mut message.unregister,
            };
            texts.push(text.to_string());
        }
        let message = serde_json::to_value(message).unwrap();
        world.publish(subject::DIFFERENCE, message).await;
    }
}

async fn has(world: &World, uri: &str) -> bool {
    world.table().await[uri].is_array()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_registration_and_a_lost_unregistration_are_requested() {
    let world = World::new().await;
    let mut questions = world.bus.subscribe(subject::ASK_DIFFERENCE).await.unwrap();
    world.bus.flush().await.unwrap();
    let mut emitter = Emitter::new();
    let first = emitter.register("first.test");
    world.publish("router.register", first).await;
    emitter.publish_digest(&world).await;
    wait_for("the first route", async || has(&world, "first.test").await).await;
    // Both of these are lost.
    emitter.register("second.test");
    emitter.unregister("first.test");
    emitter.publish_digest(&world).await;
    emitter.answer(&world, &mut questions).await;
    wait_for("the difference", async || {
        has(&world, "second.test").await && !has(&world, "first.test").await
    })
    .await;
    let text = world.handle.metrics_text();
    let mut lines = text.lines();
    let requested = lines.find_map(|line| line.strip_prefix("route_differences_requested "));
    assert!(requested.unwrap().parse::<u64>().unwrap() > 0, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overtaken_message_changes_nothing() {
    let world = World::new().await;
    let mut emitter = Emitter::new();
    let (registered, removed) = (
        emitter.register("gone.test"),
        emitter.unregister("gone.test"),
    );
    world.publish("router.unregister", removed).await;
    world.publish("router.register", registered).await;
    let (registered, removed, again) = (
        emitter.register("there.test"),
        emitter.unregister("there.test"),
        emitter.register("there.test"),
    );
    for message in [again, registered] {
        world.publish("router.register", message).await;
    }
    world.publish("router.unregister", removed).await;
    let last = emitter.register("last.test");
    world.publish("router.register", last).await;
    wait_for("the last route", async || has(&world, "last.test").await).await;
    assert!(!has(&world, "gone.test").await && has(&world, "there.test").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn differences_for_other_routers_and_nonsense_are_ignored() {
    let world = World::new().await;
    let emitter = Emitter::new();
    let message = DifferenceMessage {
        emitter: EMITTER.to_owned(),
        router: "9-other".to_owned(),
        register: vec![emitter.message("other.test", 1).to_string()],
        ..DifferenceMessage::default()
    };
    let message = serde_json::to_value(message).unwrap();
    world.publish(subject::DIFFERENCE, message).await;
    for subject in [subject::DIFFERENCE, subject::DIGEST] {
        for nonsense in [json!([]), json!({"emitter": 1}), Value::Null] {
            world.publish(subject, nonsense).await;
        }
    }
    world.register("last.test", "app", 0, emitter.address).await;
    assert!(!has(&world, "other.test").await);
}
