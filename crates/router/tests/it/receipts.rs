//! Tests of receipts: what the router confirms of changes, and what it answers about its table.

use crate::world::{PATIENCE, World, plain};
use futures::{FutureExt as _, StreamExt as _};
use router::{Settings, Sharding};
use serde_json::{Value, json};
use std::net::SocketAddr;
use wire::router::receipts::{AppliedChange, Question, Receipt, Receipts, ServedProcess};
use wire::router::subject;

fn addr(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// Returns a message about a change, as an emitter of ours publishes it.
fn change(uri: &str, app: &str, port: u16, generation: u64) -> Value {
    let mut message = plain(uri, app, 0, addr(port));
    message["generation"] = json!(generation);
    message["emitted_at_ns"] = json!(5);
    message
}

fn served(process: &str, generation: u64, endpoints: u32) -> ServedProcess {
    ServedProcess {
        process: process.to_owned(),
        generation,
        endpoints,
    }
}

async fn listen(world: &World) -> async_nats::Subscriber {
    let receipts = world.bus.subscribe(subject::RECEIPTS).await.unwrap();
    world.bus.flush().await.unwrap();
    receipts
}

/// Returns the routes of the next message, which must be the only ones in it.
async fn next(receipts: &mut async_nats::Subscriber) -> (String, Vec<Receipt>) {
    let message = tokio::time::timeout(PATIENCE, receipts.next()).await;
    let message = message.expect("a receipt in time").expect("an open bus");
    let receipts: Receipts = serde_json::from_slice(&message.payload).unwrap();
    (receipts.router, receipts.routes)
}

async fn only(receipts: &mut async_nats::Subscriber) -> Receipt {
    let (router, mut routes) = next(receipts).await;
    assert!(router.starts_with("0-"), "{router}");
    assert_eq!(routes.len(), 1, "{routes:?}");
    routes.remove(0)
}

async fn ask(world: &World, uris: &[&str]) {
    let uris = uris.iter().map(|uri| (*uri).to_owned()).collect();
    let question = serde_json::to_value(Question { uris }).unwrap();
    world.publish(subject::ASK_RECEIPTS, question).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_confirmed_with_what_the_table_serves() {
    let world = World::new().await;
    let mut receipts = listen(&world).await;
    world
        .publish("router.register", change("App.test/V1", "one", 1001, 17))
        .await;
    let receipt = only(&mut receipts).await;
    assert_eq!(receipt.uri, "app.test/v1");
    assert_eq!(receipt.processes, [served("one", 17, 1)]);
    let confirmed = receipt.change.unwrap();
    assert_eq!((confirmed.generation, confirmed.emitted_at_ns), (17, 5));
    assert!(confirmed.applied_at_ns > 1_600_000_000_000_000_000);

    // The oldest endpoint of a process decides: one cell still publishes the generation before.
    world
        .publish("router.register", change("app.test/v1", "one", 1002, 9))
        .await;
    assert_eq!(only(&mut receipts).await.processes, [served("one", 9, 2)]);
    world
        .publish("router.register", change("app.test/v1", "two", 1003, 20))
        .await;
    let both = [served("one", 9, 2), served("two", 20, 1)];
    assert_eq!(only(&mut receipts).await.processes, both);

    for (app, port, left) in [
        ("one", 1001, vec![served("one", 9, 1), served("two", 20, 1)]),
        ("one", 1002, vec![served("two", 20, 1)]),
        ("two", 1003, vec![]),
        // An endpoint that is not there is confirmed as well: it is gone.
        ("two", 1003, vec![]),
    ] {
        let message = change("app.test/v1", app, port, 21);
        world.publish("router.unregister", message).await;
        assert_eq!(only(&mut receipts).await.processes, left);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_changes_with_a_generation_are_confirmed() {
    let world = World::new().await;
    let mut receipts = listen(&world).await;
    // An original emitter sends neither field; a repetition of ours has no time.
    world.register("original.test", "app", 0, addr(1001)).await;
    let mut repeated = change("repeated.test", "app", 1002, 17);
    repeated.as_object_mut().unwrap().remove("emitted_at_ns");
    world.publish("router.register", repeated).await;
    let mut unnumbered = change("unnumbered.test", "app", 1003, 0);
    unnumbered["generation"] = Value::Null;
    world.publish("router.register", unnumbered).await;
    world
        .publish("router.register", change("last.test", "app", 1004, 18))
        .await;
    assert_eq!(only(&mut receipts).await.uri, "last.test");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_answers_what_it_serves() {
    let world = World::new().await;
    let mut receipts = listen(&world).await;
    world.register("a.test", "app", 0, addr(1001)).await;
    world.register("*.wild.test", "app", 0, addr(1002)).await;
    ask(&world, &["A.test/", "b.wild.test", "*.wild.test"]).await;
    let (_, routes) = next(&mut receipts).await;
    let receipt = |uri: &str, processes: Vec<ServedProcess>| Receipt {
        uri: uri.to_owned(),
        processes,
        change: None::<AppliedChange>,
    };
    assert_eq!(
        routes,
        [
            receipt("a.test", vec![served("app", 0, 1)]),
            receipt("b.wild.test", vec![]),
            receipt("*.wild.test", vec![served("app", 0, 1)]),
        ]
    );
    // A question without routes asks who is there, and one that cannot be read disturbs nothing.
    world.publish(subject::ASK_RECEIPTS, json!([1])).await;
    ask(&world, &[]).await;
    assert!(next(&mut receipts).await.1.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_is_confirmed_in_few_messages() {
    let world = World::new().await;
    let mut receipts = listen(&world).await;
    for n in 0..200_u16 {
        let message = change(&format!("{n}.test"), "app", 1000 + n, 17);
        let message = message.to_string();
        world
            .bus
            .publish("router.register", message.into())
            .await
            .unwrap();
    }
    world.bus.flush().await.unwrap();
    let (mut confirmed, mut messages) = (0, 0);
    while confirmed < 200 {
        confirmed += next(&mut receipts).await.1.len();
        messages += 1;
    }
    assert_eq!(confirmed, 200);
    assert!(messages < 200, "{messages} messages");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_of_segments_alone_confirms_nothing() {
    let world = World::with(Settings {
        sharding: Sharding::Segments(vec!["mine".to_owned()]),
        ..Settings::default()
    })
    .await;
    let mut receipts = listen(&world).await;
    let mut message = change("mine.test", "app", 1001, 17);
    message["isolation_segment"] = json!("mine");
    world.publish("router.register", message).await;
    ask(&world, &["mine.test"]).await;
    // Its answer to a greeting follows whatever it had to send before.
    let greeting = world.bus.request("router.greet", "{}".into());
    let answer = tokio::time::timeout(PATIENCE, greeting).await;
    answer.expect("an answer in time").unwrap();
    assert!(world.table().await["mine.test"].is_array());
    assert!(receipts.next().now_or_never().is_none());
}
