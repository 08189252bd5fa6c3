//! Tests of numbers, digests and differences: what a router needs to notice a lost message.

use crate::fixture::{SOON, Stage, actual, desired, map};
use futures::StreamExt as _;
use wire::router::RegistryMessage;
use wire::router::digests::{DifferenceMessage, DifferenceQuestion, DigestMessage};
use wire::router::subject;

async fn next(messages: &mut async_nats::Subscriber) -> Vec<u8> {
    let message = tokio::time::timeout(SOON, messages.next()).await;
    let message = message.expect("a message in time").expect("an open bus");
    message.payload.to_vec()
}

async fn next_difference(messages: &mut async_nats::Subscriber) -> DifferenceMessage {
    serde_json::from_slice(&next(messages).await).unwrap()
}

/// Returns the next digest after this number.
async fn digest_after(digests: &mut async_nats::Subscriber, sequence: u64) -> DigestMessage {
    loop {
        let digest: DigestMessage = serde_json::from_slice(&next(digests).await).unwrap();
        if digest.sequence > sequence {
            return digest;
        }
    }
}

fn parsed(payloads: &[String]) -> Vec<(String, Option<u64>)> {
    let message = |text: &String| {
        let mut message: RegistryMessage = serde_json::from_str(text).unwrap();
        (message.uris.remove(0), message.sequence)
    };
    payloads.iter().map(message).collect()
}

#[tokio::test]
async fn a_router_that_missed_messages_gets_the_difference() {
    let mut stage = Stage::start(vec![desired(&["a.x"], 1)], vec![actual(1)], |_| {}).await;
    let mut digests = stage.bus.subscribe(subject::DIGEST).await.unwrap();
    let mut differences = stage.bus.subscribe(subject::DIFFERENCE).await.unwrap();
    stage.bus.flush().await.unwrap();
    let first = stage.expect("register", "a.x").await;
    assert_eq!(first.sequence, Some(1));
    stage.bbs.event(map(&["a.x"], &["b.x"], 2));
    let registered = stage.expect("register", "b.x").await;
    let removed = stage.expect("unregister", "a.x").await;
    assert_eq!((registered.sequence, removed.sequence), (Some(2), Some(3)));
    let digest = digest_after(&mut digests, 2).await;
    assert_eq!((digest.sequence, digest.registrations), (3, 1));
    assert_eq!(Some(&digest.emitter), first.emitter.as_ref());

    let ask = async |emitter: &str, after| {
        let question = DifferenceQuestion {
            emitter: emitter.to_owned(),
            router: "0-r".to_owned(),
            after,
        };
        let question = serde_json::to_vec(&question).unwrap();
        let published = stage.bus.publish(subject::ASK_DIFFERENCE, question.into());
        published.await.unwrap();
        stage.bus.flush().await.unwrap();
    };
    // Questions to other emitters are not answered.
    ask("cell-2:1", 0).await;
    ask(&digest.emitter, 1).await;
    let difference = next_difference(&mut differences).await;
    assert_eq!(
        (
            difference.router.as_str(),
            difference.after,
            difference.upto
        ),
        ("0-r", 1, 3)
    );
    assert_eq!(parsed(&difference.register), [("b.x".to_owned(), Some(2))]);
    assert_eq!(
        parsed(&difference.unregister),
        [("a.x".to_owned(), Some(3))]
    );
    ask(&digest.emitter, 3).await;
    let difference = next_difference(&mut differences).await;
    assert!(difference.register.is_empty() && difference.unregister.is_empty());
}
