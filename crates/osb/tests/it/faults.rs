//! The faults of brokers: each becomes an error of the right kind, in time, and says whether an orphan may be left.

use crate::fixture::{access, access_at, alice, client, ids};
use osb::{ErrorKind, Provision};
use serde_json::json;
use std::time::Instant;
use testkit::broker::{Broker, Call, Fault};

fn wish() -> Provision {
    Provision {
        instance_guid: "i".to_owned(),
        ids: ids(),
        ..Provision::default()
    }
}

#[tokio::test]
async fn every_fault_is_sorted_and_tells_whether_an_orphan_may_be_left() {
    let broker = Broker::start("db").await;
    let other = Broker::start("other").await;
    let (client, access, caller) = (client(), access(&broker), alice());
    let calls = client.at(&access, &caller);
    let faults = [
        (Fault::Answer(500, json!({})), ErrorKind::BadResponse, true),
        (
            Fault::ActAndAnswer(500, json!({})),
            ErrorKind::BadResponse,
            true,
        ),
        (
            Fault::ActAndAnswer(204, json!({})),
            ErrorKind::BadResponse,
            true,
        ),
        (
            Fault::ActAndText(201, "oh".to_owned()),
            ErrorKind::Malformed,
            true,
        ),
        (
            Fault::Text(200, "oh".to_owned()),
            ErrorKind::Malformed,
            false,
        ),
        (Fault::Answer(400, json!({})), ErrorKind::Rejected, false),
        (
            Fault::Answer(401, json!({})),
            ErrorKind::Unauthorized,
            false,
        ),
        (
            Fault::Answer(408, json!({})),
            ErrorKind::BrokerTimeout,
            false,
        ),
        (Fault::Answer(409, json!({})), ErrorKind::Conflict, false),
        (
            Fault::Answer(422, json!({ "error": "ConcurrencyError" })),
            ErrorKind::Concurrency,
            false,
        ),
        (
            Fault::Redirect(format!("{}/v2/service_instances/i", other.url)),
            ErrorKind::BadResponse,
            false,
        ),
        (Fault::ActAndLarge(201, 10 << 20), ErrorKind::TooLarge, true),
        (Fault::ActAndBreak, ErrorKind::Unreachable, true),
        (Fault::ActAndHang, ErrorKind::Timeout, true),
        (Fault::Drip, ErrorKind::Timeout, true),
    ];
    for (fault, kind, orphan) in faults {
        let name = format!("{fault:?}");
        broker.next(Call::Provision, fault);
        let begun = Instant::now();
        let error = calls.provision(&wish()).await.unwrap_err();
        assert_eq!(
            (error.kind, error.leaves_orphan()),
            (kind, orphan),
            "{name}: {error}"
        );
        // The bound is far above the time of a call; it only shows that the call does end.
        assert!(begun.elapsed().as_secs() < 20, "{name}");
        assert!(error.message.len() < 20_000, "{name}");
        if !broker.instances().is_empty() {
            assert!(orphan, "{name} has left an orphan");
            let removal = osb::Deprovision {
                instance_guid: "i".to_owned(),
                ids: ids(),
                ..osb::Deprovision::default()
            };
            calls.deprovision(&removal).await.unwrap();
        }
    }
    assert!(other.requests().is_empty(), "a redirect is not followed");
    assert!(broker.instances().is_empty());
}

#[tokio::test]
async fn a_broker_that_is_not_there_leaves_nothing() {
    let (client, caller) = (client(), alice());
    let free = testkit::net::unused_address();
    for (url, kind) in [
        (format!("http://{free}"), ErrorKind::Unreachable),
        ("ftp://127.0.0.1".to_owned(), ErrorKind::Forbidden),
        ("http://u:p@127.0.0.1".to_owned(), ErrorKind::Forbidden),
        ("not a url".to_owned(), ErrorKind::Forbidden),
    ] {
        let access = access_at(&url);
        let error = client.at(&access, &caller).provision(&wish()).await;
        let error = error.unwrap_err();
        assert_eq!(error.kind, kind, "{url}: {error}");
        assert!(!error.leaves_orphan(), "{url}");
        let text = format!("{error} {access:?}");
        assert!(!text.contains(testkit::broker::PASSWORD), "{text}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_refused() {
    let broker = Broker::start("db").await;
    let (client, mut access, caller) = (client(), access(&broker), alice());
    access.password = "wrong".to_owned();
    let error = client.at(&access, &caller).catalog().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthorized);
    assert!(
        error
            .message
            .starts_with("Authentication with the service broker failed")
    );
}
