//! Tests of lines on their way from emitters and routers to those who may read them.

use crate::fixture::Stage;
use clients::loggregator::{Emitter, Source, Stream};
use kit::tls::Identity;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use testkit::certs::identity;
use tokio::net::UdpSocket;
use wire::dropsonde::{Event, LogMessage, MessageType};

const SOON: Duration = Duration::from_secs(30);

fn source(id: &str) -> Source {
    Source {
        source_id: id.into(),
        instance_id: "0".into(),
        source_type: "APP/PROC/WEB".into(),
        tags: Arc::new([("process_id".to_owned(), "p".to_owned())].into()),
    }
}

#[tokio::test]
async fn lines_travel_from_the_emitter_to_the_reader_in_order() {
    let stage = Stage::start().await;
    let (emitter, admin) = (stage.emitter(), stage.admin().await);
    for n in 0..500 {
        emitter.log(
            &source("mine"),
            if n % 2 == 0 { Stream::Out } else { Stream::Err },
            format!("line {n}"),
        );
    }
    emitter.flush(SOON).await;
    let batch = stage.read("mine", 500, &admin).await;
    use base64::Engine as _;
    let text = |envelope: &Value| {
        String::from_utf8(
            base64::engine::general_purpose::STANDARD
                .decode(envelope["log"]["payload"].as_str().unwrap())
                .unwrap(),
        )
        .unwrap()
    };
    assert!(
        batch
            .iter()
            .enumerate()
            .all(|(n, envelope)| text(envelope) == format!("line {n}"))
    );
    assert_eq!(
        (
            &batch[1]["log"]["type"],
            &batch[1]["tags"]["source_type"],
            &batch[1]["tags"]["process_id"]
        ),
        (&"ERR".into(), &"APP/PROC/WEB".into(), &"p".into())
    );
    let (_, newest) = stage
        .get(
            "/v1/read/mine?descending=true&limit=1&start_time=-6795364578871345152",
            &admin,
        )
        .await;
    assert_eq!(text(&newest["envelopes"]["batch"][0]), "line 499");
    assert_eq!(
        stage.get("/api/v1/read/mine?limit=5000", &admin).await.0,
        400
    );
    assert_eq!(stage.get("/api/v1/info", "").await.1["version"], "2.11.4");
    assert_eq!(
        stage.get("/api/v1/meta", &admin).await.1["meta"]["mine"]["count"],
        "500"
    );
}

#[tokio::test]
async fn lines_of_a_router_come_by_udp() {
    let stage = Stage::start().await;
    let admin = stage.admin().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(b"nonsense", &stage.dropsonde).await.unwrap();
    let router = clients::metron::Emitter::start(&stage.dropsonde, "gorouter").unwrap();
    router.emit(Event::LogMessage(LogMessage {
        message: b"app.test - [now]".to_vec(),
        message_type: MessageType::Out as i32,
        timestamp: 1,
        app_id: Some("mine".into()),
        source_type: Some("RTR".into()),
        source_instance: Some("4".into()),
    }));
    let line = &stage.read("mine", 1, &admin).await[0];
    assert_eq!(line["instance_id"], "4");
    assert_eq!(line["tags"]["source_type"], "RTR");
    // This is the text of the line.
    assert_eq!(line["log"]["payload"], "YXBwLnRlc3QgLSBbbm93XQ==");
}

/// The router's emitter sends all lines of one length by one call, and the kernel delivers them together.
#[tokio::test]
async fn lines_that_were_sent_together_are_read_one_by_one() {
    let stage = Stage::start().await;
    let admin = stage.admin().await;
    let router = clients::metron::Emitter::start(&stage.dropsonde, "gorouter").unwrap();
    let line = |n: u32| {
        Event::LogMessage(LogMessage {
            message: format!("{n:03}{}", "x".repeat(n as usize % 3)).into_bytes(),
            message_type: MessageType::Out as i32,
            timestamp: 1,
            app_id: Some("mine".into()),
            source_type: Some("RTR".into()),
            source_instance: None,
        })
    };
    (0..300).for_each(|n| router.emit(line(n)));
    let lines = stage.read("mine", 300, &admin).await;
    let payloads = lines.iter().map(|line| line["log"]["payload"].to_string());
    let different: std::collections::HashSet<_> = payloads.collect();
    assert_eq!(different.len(), 300);
    assert_eq!(router.dropped(), 0);
}

#[tokio::test]
async fn only_users_who_may_see_the_app_may_read_its_logs() {
    let stage = Stage::start().await;
    let (emitter, admin) = (stage.emitter(), stage.admin().await);
    emitter.log(&source("mine"), Stream::Out, "x");
    emitter.log(&source("foreign"), Stream::Out, "x");
    stage.read("foreign", 1, &admin).await;
    let user = stage.uaa.client_token("reader", "secret").await;
    assert_eq!(stage.read("mine", 1, &user).await.len(), 1);
    for (path, token) in [
        ("foreign", user.as_str()),
        ("..%2F..%2Fv3%2Finfo", &user),
        ("mine", ""),
        ("mine", "bearer x.y.z"),
    ] {
        let response = stage
            .http
            .get(format!("{}/api/v1/read/{path}", stage.url))
            .header("authorization", token)
            .send()
            .await
            .unwrap();
        assert_eq!(
            (
                response.status().as_u16(),
                response.text().await.unwrap().as_str()
            ),
            (404, ""),
            "{path}"
        );
    }
    let (_, meta) = stage.get("/api/v1/meta", &user).await;
    assert_eq!(
        meta["meta"].as_object().unwrap().keys().collect::<Vec<_>>(),
        ["mine"]
    );
}

#[tokio::test]
async fn the_emitter_finds_a_restarted_log_cache_and_a_stop_is_prompt() {
    let mut stage = Stage::start().await;
    let (emitter, admin) = (stage.emitter(), stage.admin().await);
    emitter.log(&source("mine"), Stream::Out, "before");
    stage.read("mine", 1, &admin).await;
    let port = stage.grpc_port;
    stage.log_cache.cancel();
    let gone = async {
        while tokio::net::TcpStream::connect(("127.0.0.1", port))
            .await
            .is_ok()
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    // The servers wait for five seconds for a call that does not end.
    tokio::time::timeout(Duration::from_millis(4500), gone)
        .await
        .expect("an open call must not hold up the stop");
    emitter.log(&source("mine"), Stream::Out, "meanwhile");
    stage.start_log_cache().await;
    emitter.log(&source("mine"), Stream::Out, "after");
    let batch = stage.read("mine", 1, &admin).await;
    assert!(!batch.is_empty());
    assert_eq!(emitter.dropped(), 0);
}

#[tokio::test]
async fn strangers_cannot_write() {
    let stage = Stage::start().await;
    let stranger = Identity {
        ca_pem: stage.identity.ca_pem.clone(),
        ..identity()
    };
    let emitter =
        Emitter::connect(&format!("https://127.0.0.1:{}", stage.grpc_port), &stranger).unwrap();
    emitter.log(&source("mine"), Stream::Out, "forged");
    let (honest, admin) = (stage.emitter(), stage.admin().await);
    honest.log(&source("mine"), Stream::Out, "true");
    emitter.flush(Duration::from_millis(500)).await;
    assert_eq!(stage.read("mine", 1, &admin).await.len(), 1);
}
