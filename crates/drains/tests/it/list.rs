//! Tests of drains that begin and end with the list.

use crate::fixture::{APP, Stage, drain, drain_of, gauge, line, text};
use crate::peers::Syslog;
use std::sync::atomic::Ordering;
use testkit::wait::until;
use wire::cc::DrainCredentials;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drains_follow_the_list_over_several_pages() {
    let stage = Stage::start().await;
    let mut servers = Vec::new();
    for _ in 0..5 {
        servers.push(Syslog::start().await);
    }
    let all = servers
        .iter()
        .map(|server| drain(&format!("syslog://{}", server.address)));
    stage.set(all.collect(), 5).await;
    stage.log("to all");
    for server in &servers {
        assert_eq!(text(&server.received(1).await[0]), "to all");
    }
    let first = drain(&format!("syslog://{}", servers[0].address));
    stage.set(vec![first.clone()], 1).await;
    stage.log("to one");
    assert_eq!(text(&servers[0].received(2).await[1]), "to one");
    for server in &servers[1..] {
        assert_eq!(server.messages.lock().unwrap().len(), 1);
    }
    // A drain that stays keeps its connection.
    assert_eq!(servers[0].connections.load(Ordering::Relaxed), 1);

    // Without the Cloud Controller the drains go on.
    stage.fail();
    until("a failed request", || {
        stage.metric("syslog_agent_binding_refresh_errors_total") > Some(0.0)
    })
    .await;
    stage.log("still");
    assert_eq!(text(&servers[0].received(3).await[2]), "still");
    stage.set(vec![], 0).await;
    stage.log("to none");
    stage.set(vec![first], 1).await;
    stage.log("again");
    assert_eq!(text(&servers[0].received(4).await[3]), "again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_is_delivered_when_a_drain_or_all_of_them_end() {
    let (mut stage, server) = (Stage::start().await, Syslog::start().await);
    let url = format!("syslog://{}", server.address);
    stage.set(vec![drain(&url)], 1).await;
    for n in 0..1000 {
        stage.log(&n.to_string());
    }
    stage.set(vec![], 0).await;
    server.received(1000).await;
    stage.set(vec![drain(&url)], 1).await;
    for n in 0..1000 {
        stage.log(&n.to_string());
    }
    stage.stop().await;
    server.received(2000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_drains_are_reported_in_the_log_of_the_app() {
    let stage = Stage::start_with(|config| config.per_app = 2).await;
    let broken = DrainCredentials {
        cert: "no certificate".to_owned(),
        key: "no key".to_owned(),
        ..DrainCredentials::default()
    };
    let server = Syslog::start().await;
    let good = format!("syslog://{}", server.address);
    let drains = vec![
        drain("ftp://user:pass@files.test/x"),
        drain_of("syslog-tls://a.test:1", &[APP], broken),
        drain(&good),
        drain("syslog://z.test:1"),
    ];
    stage.set(drains, 1).await;
    for text in [
        "Invalid Scheme ftp for syslog drain url ftp://files.test/x",
        "failed to load certificate for syslog-tls://a.test:1",
        "an app has at most 2 syslog drains",
    ] {
        stage.reported(text).await;
    }
    assert_eq!(stage.metric("syslog_agent_invalid_drains"), Some(3.0));
    let before = stage.metric("syslog_agent_binding_refresh_total");
    until("two more readings of the list", || {
        stage.metric("syslog_agent_binding_refresh_total") > before.map(|count| count + 2.0)
    })
    .await;
    assert_eq!(stage.reports(APP).len(), 3, "each is reported once");
    stage.log("good");
    assert_eq!(text(&server.received(1).await[0]), "good");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operators_drain_gets_the_envelopes_of_all_sources() {
    let server = Syslog::start().await;
    let url = format!("syslog://{}?drain-data=all", server.address);
    // The operator may name addresses that users may not.
    let stage = Stage::start_with(|config| {
        config.aggregate = vec![drains::Aggregate {
            url,
            credentials: drains::Credentials::default(),
        }];
        config.reach.deny = config.reach.allow.drain(..).collect();
    })
    .await;
    stage.set(vec![], 1).await;
    stage.log("of an app");
    let mut other = line("of a component");
    other.source_id = "uaa".to_owned();
    stage.intake.offer(&other);
    stage.intake.offer(&gauge());
    let messages = server.received(3).await;
    assert_eq!(text(&messages[0]), "of an app");
    assert!(
        messages[1].contains(" - uaa [APP/PROC/WEB/0] - "),
        "{messages:?}"
    );
    assert!(messages[2].contains("[gauge@47450 "), "{messages:?}");

    // Those of apps come and go beside it.
    let own = Syslog::start().await;
    stage
        .set(vec![drain(&format!("syslog://{}", own.address))], 2)
        .await;
    stage.log("to one");
    assert_eq!(text(&server.received(4).await[3]), "to one");
    stage.reported("is blacklisted").await;
    assert!(own.messages.lock().unwrap().is_empty());
    assert_eq!(server.connections.load(Ordering::Relaxed), 1);
}
