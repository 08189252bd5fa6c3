//! Tests of messages on their way to servers that are there.

use crate::fixture::{APP, Stage, drain, drain_of, gauge, text, trusting};
use crate::peers::{Https, Syslog};
use kit::CancellationToken;
use kit::reach::Reach;
use kit::tls::ClientAuth;
use std::sync::atomic::Ordering;
use testkit::certs::{Ca, identity};
use testkit::wait::until;
use wire::cc::DrainCredentials;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_arrive_in_order_behind_their_lengths() {
    let (stage, server) = (Stage::start().await, Syslog::start().await);
    let url = format!("syslog://{}", server.address);
    stage.set(vec![drain(&url)], 1).await;
    // A portion is not larger than the buffer, and the next one follows when it has arrived.
    for portion in 0..5 {
        for n in 0..5_000 {
            stage.log(&format!("line {}", portion * 5_000 + n));
        }
        server.received((portion + 1) * 5_000).await;
    }
    let messages = server.received(25_000).await;
    assert_eq!(
        messages[0],
        "<14>1 2020-09-13T12:26:40+00:00 org.space.app app-guid [APP/PROC/WEB/0] - [tags@47450 source_type=\"APP/PROC/WEB\"] line 0\n"
    );
    for (n, message) in messages.iter().enumerate() {
        assert_eq!(text(message), format!("line {n}"));
    }
    assert_eq!(stage.metric("syslog_agent_dropped_total"), Some(0.0));
    assert_eq!(stage.metric("syslog_agent_ingress_total"), Some(25_000.0));
    until("the count of delivered messages", || {
        stage.metric("syslog_agent_egress_total") == Some(25_000.0)
    })
    .await;
    assert_eq!(stage.metric("syslog_agent_active_drains"), Some(1.0));
    assert_eq!(server.connections.load(Ordering::Relaxed), 1);
    assert!(stage.reports(APP).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_apps_of_a_drain_and_the_wanted_envelopes_are_sent() {
    let stage = Stage::start().await;
    let (logs, metrics, other) = (
        Syslog::start().await,
        Syslog::start().await,
        Syslog::start().await,
    );
    let drains = vec![
        drain(&format!("syslog://{}?disable-metadata=true", logs.address)),
        drain(&format!("syslog://{}?drain-type=metrics", metrics.address)),
        drain_of(
            &format!("syslog://{}?drain-data=all", other.address),
            &["another"],
            DrainCredentials::default(),
        ),
    ];
    stage.set(drains, 3).await;
    stage.log("one");
    stage.intake.offer(&gauge());
    stage.log("two");
    let lines = logs.received(2).await;
    assert!(
        lines[1].ends_with("[APP/PROC/WEB/0] - - two\n"),
        "{lines:?}"
    );
    let gauges = metrics.received(1).await;
    let data = "[0] - [gauge@47450 name=\"cpu\" value=\"0.5\" unit=\"percentage\"][tags@47450 source_type=\"APP/PROC/WEB\"] \n";
    assert!(gauges[0].ends_with(data), "{gauges:?}");
    assert_eq!((lines.len(), gauges.len()), (2, 1));
    assert!(other.messages.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_verified_and_a_certificate_is_presented() {
    let stage = Stage::start().await;
    let (server_ca, client_ca) = (Ca::new(), Ca::new());
    let mut own = server_ca.issue(&["localhost", "127.0.0.1"]);
    own.ca_pem = client_ca.pem.clone();
    let server = Syslog::start_tls(&own, ClientAuth::Required).await;
    let client = client_ca.issue(&["client"]);
    let credentials = DrainCredentials {
        cert: client.cert_pem,
        key: client.key_pem,
        ca: server_ca.pem.clone(),
        apps: vec![],
    };
    let url = format!("syslog-tls://localhost:{}", server.address.port());
    stage
        .set(vec![drain_of(&url, &[APP], credentials)], 1)
        .await;
    stage.log("secret");
    assert_eq!(text(&server.received(1).await[0]), "secret");

    // Another authority, another name and no certificate are refused, each by the side that checks it.
    let nameless = server_ca.issue(&["127.0.0.1"]);
    let open = Syslog::start_tls(&nameless, ClientAuth::None).await;
    let stranger = identity();
    for (url, ca) in [
        (format!("syslog-tls://{}", open.address), &stranger.ca_pem),
        (
            format!("syslog-tls://localhost:{}", open.address.port()),
            &server_ca.pem,
        ),
        (url, &server_ca.pem),
    ] {
        let app = format!("to {url}");
        stage
            .set(vec![drain_of(&url, &[&app], trusting(ca))], 1)
            .await;
        let mut line = crate::fixture::line("leak");
        line.source_id.clone_from(&app);
        let reported = until(&format!("a report about {url}"), || {
            stage.intake.offer(&line);
            stage.reports(&app).first().cloned()
        })
        .await;
        assert!(reported.starts_with("Failed to "), "{reported}");
    }
    assert!(open.messages.lock().unwrap().is_empty());
    assert_eq!(server.messages.lock().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn https_posts_each_message_and_batches_those_of_a_second() {
    let (stage, stop) = (Stage::start().await, CancellationToken::new());
    let own = Ca::new().issue(&["127.0.0.1"]);
    let (server, address) = Https::start(&own, stop.clone()).await;
    server.refusals.store(3, Ordering::Relaxed);
    let url = format!("https://us%40r:pass@{address}/one?token=t");
    let drains = vec![drain_of(&url, &[APP], trusting(&own.ca_pem))];
    stage.set(drains, 1).await;
    for n in 0..3 {
        stage.log(&format!("line {n}"));
    }
    let requests = server.received(3).await;
    assert_eq!(
        requests.len(),
        3,
        "a message that was refused is sent again once"
    );
    for (n, request) in requests.iter().enumerate() {
        assert_eq!(request.uri, "/one?token=t");
        assert_eq!(text(&request.body), format!("line {n}"));
        let header = |name: &str| request.headers[name].to_str().unwrap().to_owned();
        assert_eq!(header("content-type"), "text/plain");
        assert_eq!(header("authorization"), "Basic dXNAcjpwYXNz");
        assert_eq!(header("host"), address.to_string());
    }
    stage
        .reported("Failed to write to https://127.0.0.1:")
        .await;
    let reports = stage.reports(APP).concat();
    assert!(
        !reports.contains("pass") && !reports.contains("token"),
        "{reports}"
    );

    server.requests.lock().unwrap().clear();
    let url = format!("https-batch://{address}/many");
    let drains = vec![drain_of(&url, &[APP], trusting(&own.ca_pem))];
    stage.set(drains, 1).await;
    // The first drain is gone when only the second one has the path.
    let batched = until("a batch with many messages", || {
        for n in 0..50 {
            stage.log(&format!("line {n}"));
        }
        let requests = server.requests.lock().unwrap();
        let many = |request: &&crate::peers::Posted| {
            request.uri == "/many" && request.body.lines().count() >= 50
        };
        requests.iter().find(many).cloned()
    })
    .await;
    for message in batched.body.lines() {
        assert!(text(message).starts_with("line "), "{message}");
    }
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apps_of_the_foundation_are_reached_through_its_router() {
    let stop = CancellationToken::new();
    let own = Ca::new().issue(&["sink.cupola.test"]);
    let (server, address) = Https::start(&own, stop.clone()).await;
    let stage = Stage::start_with(|config| {
        config.reach = Reach::default();
        config.authorities.clone_from(&own.ca_pem);
        config.router = Some(drains::Router {
            domain: "cupola.test".to_owned(),
            host: "127.0.0.1".to_owned(),
            https_port: address.port(),
        });
    })
    .await;
    stage
        .set(vec![drain("https://sink.cupola.test/logs")], 1)
        .await;
    stage.log("to an app");
    let request = &server.received(1).await[0];
    assert_eq!(text(&request.body), "to an app");
    assert_eq!(request.headers["host"], "sink.cupola.test");
    stop.cancel();
}
