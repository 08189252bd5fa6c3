//! Tests of log-cache between the real log emitter, a real UAA and a minimal Cloud Controller.

#![expect(clippy::unwrap_used, reason = "a test may end here")]

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use clients::loggregator::{Emitter, Source, Stream};
use kit::CancellationToken;
use kit::tls::Identity;
use log_cache::{Config, Limits, LogCache};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use testkit::certs::identity;
use testkit::components::Uaa;
use testkit::http::{answer, serve};
use testkit::net::{free_port, listener};
use testkit::wait::wait_for;
use tokio::net::{TcpListener, UdpSocket};
use wire::dropsonde::{Event, LogMessage, MessageType};

const SOON: Duration = Duration::from_secs(30);

fn url(listener: &TcpListener) -> String {
    format!("http://{}", listener.local_addr().unwrap())
}

struct Stage {
    identity: Identity,
    url: String,
    grpc_port: u16,
    /// The address to which Cloud Foundry's components send.
    dropsonde: String,
    uaa: Uaa,
    cc_url: String,
    http: reqwest::Client,
    shutdown: CancellationToken,
    log_cache: CancellationToken,
    _dir: tempfile::TempDir,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Stage {
    async fn start() -> Self {
        let (identity, shutdown, dir) = (
            identity(),
            CancellationToken::new(),
            tempfile::tempdir().unwrap(),
        );
        let reader = uaa::Client::component("reader", "secret", &["cloud_controller.read"]);
        let uaa = Uaa::start(dir.path(), |config| config.clients = vec![reader]).await;
        let list = r#"{"pagination":{"next":null},"resources":[{"guid":"mine"}]}"#;
        let app = Router::new()
            .route("/v3/apps/mine", get(|| async { "{}" }))
            .route("/v3/apps", get(move || async move { list }))
            .fallback(|| async { StatusCode::NOT_FOUND });
        let cc = serve(app, None, shutdown.clone()).await;
        let mut stage = Self {
            identity,
            url: String::new(),
            // The kernel gives this port to no other program while log-cache restarts.
            grpc_port: kit::net::free_port().unwrap(),
            dropsonde: String::new(),
            uaa,
            cc_url: cc.url,
            http: testkit::http::client(),
            log_cache: shutdown.child_token(),
            shutdown,
            _dir: dir,
        };
        stage.start_log_cache().await;
        stage
    }

    async fn start_log_cache(&mut self) {
        let (listener, grpc_listener) = (
            listener().await,
            TcpListener::bind(("127.0.0.1", self.grpc_port))
                .await
                .unwrap(),
        );
        let dropsonde = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        self.dropsonde = dropsonde.local_addr().unwrap().to_string();
        (self.url, self.grpc_port) = (url(&listener), grpc_listener.local_addr().unwrap().port());
        let config = Config {
            listener,
            grpc_listener,
            dropsonde: Some(dropsonde),
            identity: self.identity.clone(),
            uaa_url: self.uaa.url.clone(),
            uaa_client: None,
            cc_url: self.cc_url.clone(),
            limits: Limits::default(),
        };
        self.log_cache = self.shutdown.child_token();
        tokio::spawn(LogCache::build(config).unwrap().run(self.log_cache.clone()));
    }

    fn emitter(&self) -> Emitter {
        Emitter::connect(
            &format!("https://127.0.0.1:{}", self.grpc_port),
            &self.identity,
        )
        .unwrap()
    }

    async fn admin(&self) -> String {
        self.uaa.token("admin", "sesame").await
    }

    async fn get(&self, path: &str, token: &str) -> (u16, Value) {
        let response = self
            .http
            .get(format!("{}{path}", self.url))
            .header("authorization", token)
            .send()
            .await
            .unwrap();
        answer(response).await
    }

    /// Waits until the source has `count` envelopes.
    async fn read(&self, source: &str, count: usize, token: &str) -> Vec<Value> {
        let path = format!("/api/v1/read/{source}?limit=1000");
        wait_for(&format!("{count} envelopes of {source}"), async || {
            let (status, body) = self.get(&path, token).await;
            assert_eq!(status, 200, "{body}");
            let batch = body["envelopes"]["batch"].as_array().unwrap().clone();
            (batch.len() >= count).then_some(batch)
        })
        .await
    }
}

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
