//! Tests of servers that are absent, slow or forbidden.

use crate::fixture::{APP, Stage, drain, text};
use crate::peers::Syslog;
use kit::reach::Reach;
use std::net::SocketAddr;
use testkit::net::{listener, unused_address};
use testkit::wait::until;
use tokio::net::TcpListener;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_absent_server_costs_its_own_oldest_messages_and_delays_nobody() {
    let (stage, server) = (Stage::start().await, Syslog::start().await);
    let absent = unused_address();
    // This one accepts connections and never reads.
    let silent = listener().await;
    let drains = vec![
        drain(&format!("syslog://{}", server.address)),
        drain(&format!("syslog://user:pass@{absent}")),
        drain(&format!("syslog://{}", silent.local_addr().unwrap())),
    ];
    stage.set(drains, 3).await;
    let long = "x".repeat(500);
    for portion in 0..10 {
        for n in 0..4_000 {
            stage.log(&format!("{} {long}", portion * 4_000 + n));
        }
        server.received((portion + 1) * 4_000).await;
    }
    stage
        .reported(&format!("Failed to connect to syslog://{absent}: "))
        .await;
    let lost = format!(
        "messages lost for application {APP} in user provided syslog drain with url syslog://{absent}"
    );
    stage.reported(&lost).await;
    assert!(stage.metric("syslog_agent_dropped_total") >= Some(20_000.0));
    let reports = stage.reports(APP).concat();
    assert!(!reports.contains("pass"), "{reports}");

    // When it comes back it gets the newest messages.
    let back = Syslog::start_on(bind(absent).await, None);
    stage.log("newest");
    until("the newest message", || {
        let messages = back.messages.lock().unwrap();
        messages.iter().any(|message| text(message) == "newest")
    })
    .await;
    let messages = back.messages.lock().unwrap().clone();
    assert!(messages.len() > 1000, "{}", messages.len());
    assert!(text(&messages[messages.len() - 2]).starts_with("39999 "));
}

async fn bind(address: SocketAddr) -> TcpListener {
    TcpListener::bind(address).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_between_two_connections() {
    let (stage, server) = (Stage::start().await, Syslog::start().await);
    let address = server.address;
    stage
        .set(vec![drain(&format!("syslog://{address}"))], 1)
        .await;
    stage.log("first");
    server.received(1).await;
    drop(server);
    until("the end of the connection", || {
        stage.metric("syslog_agent_active_drains") == Some(0.0)
    })
    .await;
    for n in 0..1000 {
        stage.log(&n.to_string());
    }
    let next = Syslog::start_on(bind(address).await, None);
    let messages = next.received(1000).await;
    for (n, message) in messages.iter().enumerate() {
        assert_eq!(text(message), n.to_string());
    }
    assert_eq!(stage.metric("syslog_agent_dropped_total"), Some(0.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_machine_itself_is_not_reached_unless_the_operator_allows_it() {
    let stage = Stage::start_with(|config| config.reach = Reach::default()).await;
    let server = Syslog::start().await;
    let port = server.address.port();
    // No resolver accepts such a name.
    let nowhere = format!("{}.test", "a".repeat(64));
    let drains = vec![
        drain(&format!("syslog://127.0.0.1:{port}")),
        drain(&format!("syslog-tls://localhost:{port}")),
        drain(&format!("https://[::1]:{port}/")),
        drain("syslog://169.254.169.254:80"),
        drain(&format!("syslog://{nowhere}:514")),
    ];
    stage.set(drains, 5).await;
    stage.log("leak");
    for host in [
        format!("syslog://127.0.0.1:{port}"),
        format!("syslog-tls://localhost:{port}"),
        format!("https://[::1]:{port}/"),
        "syslog://169.254.169.254:80".to_owned(),
    ] {
        let text = format!("Resolved ip address for syslog drain with url {host} is blacklisted");
        stage.reported(&text).await;
    }
    let unresolved =
        format!("Cannot resolve ip address for syslog drain with url syslog://{nowhere}:514");
    stage.reported(&unresolved).await;
    until("the states of the drains", || {
        let blacklisted = stage.metric("syslog_agent_blacklisted_drains");
        let invalid = stage.metric("syslog_agent_invalid_drains");
        match (blacklisted, invalid) == (Some(4.0), Some(1.0)) {
            true => Ok(()),
            false => Err(format!("{blacklisted:?} {invalid:?}")),
        }
    })
    .await;
    assert!(server.messages.lock().unwrap().is_empty());
}
