//! A log-cache with its peers.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use clients::loggregator::Emitter;
use kit::CancellationToken;
use kit::metrics::Observed;
use kit::tls::Identity;
use log_cache::{Config, Limits, LogCache};
use serde_json::Value;
use testkit::certs::identity;
use testkit::components::Uaa;
use testkit::http::{answer, serve};
use testkit::net::{free_port, listener};
use testkit::wait::wait_for;
use tokio::net::{TcpListener, UdpSocket};

fn url(listener: &TcpListener) -> String {
    format!("http://{}", listener.local_addr().unwrap())
}

pub(crate) struct Stage {
    pub(crate) identity: Identity,
    pub(crate) url: String,
    pub(crate) grpc_port: u16,
    /// The address to which Cloud Foundry's components send.
    pub(crate) dropsonde: String,
    pub(crate) uaa: Uaa,
    cc_url: String,
    drains: Option<drains::Config>,
    pub(crate) http: reqwest::Client,
    shutdown: CancellationToken,
    pub(crate) log_cache: CancellationToken,
    pub(crate) observed: Option<Observed>,
    _dir: tempfile::TempDir,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Stage {
    pub(crate) async fn start() -> Self {
        Self::start_as(None).await
    }

    /// Starts a log-cache with log drains.
    pub(crate) async fn start_draining(drains: drains::Config) -> Self {
        Self::start_as(Some(drains)).await
    }

    async fn start_as(drains: Option<drains::Config>) -> Self {
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
            grpc_port: free_port(),
            dropsonde: String::new(),
            uaa,
            cc_url: cc.url,
            drains,
            http: testkit::http::client(),
            log_cache: shutdown.child_token(),
            observed: None,
            shutdown,
            _dir: dir,
        };
        stage.start_log_cache().await;
        stage
    }

    pub(crate) async fn start_log_cache(&mut self) {
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
            drains: self.drains.clone(),
        };
        self.log_cache = self.shutdown.child_token();
        let log_cache = LogCache::build(config).unwrap();
        self.observed = Some(log_cache.observed());
        tokio::spawn(log_cache.run(self.log_cache.clone()));
    }

    pub(crate) fn emitter(&self) -> Emitter {
        Emitter::connect(
            &format!("https://127.0.0.1:{}", self.grpc_port),
            &self.identity,
        )
        .unwrap()
    }

    pub(crate) async fn admin(&self) -> String {
        self.uaa.token("admin", "sesame").await
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> (u16, Value) {
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
    pub(crate) async fn read(&self, source: &str, count: usize, token: &str) -> Vec<Value> {
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
