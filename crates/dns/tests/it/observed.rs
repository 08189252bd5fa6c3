//! Tests of what operators see of a name server.

use crate::fixture::{Stage, resolver};
use hickory_proto::rr::RecordType;
use testkit::metrics::value;
use testkit::nats::NatsServer;
use testkit::net::free_port;
use testkit::wait::until;

#[tokio::test]
async fn queries_are_counted_by_who_answers() {
    let stage = Stage::start(&[resolver().await], vec![]).await;
    let metric = |name: &str| value(&stage.observed.metrics.text(), name);
    assert!(stage.observed.readiness.unmet().is_empty(), "it has no bus");
    stage.query("api.cupola.test.", RecordType::A).await;
    stage.query("example.com.", RecordType::A).await;
    until("both queries", || {
        metric("dns_queries_answered_total") == Some(1.0)
            && metric("dns_queries_forwarded_total") == Some(1.0)
    })
    .await;
    assert_eq!(metric("dns_forward_failures_total"), Some(0.0));
    assert_eq!(metric("dns_names"), Some(0.0));
}

#[tokio::test]
async fn a_server_without_its_bus_is_not_ready() {
    let port = free_port();
    let stage = Stage::start(&[], vec![format!("127.0.0.1:{port}")]).await;
    let unmet = || stage.observed.readiness.unmet();
    assert!(unmet()[0].starts_with("the message bus: "), "{:?}", unmet());
    let nats = NatsServer::open(port);
    until("readiness", || unmet().is_empty()).await;
    drop(nats);
    until("the loss of the bus", || !unmet().is_empty()).await;
}
