//! One router with its own nats-server, and the operations of the tests on it.

use crate::certs::Ca;
use crate::client::{Reply, exchange, request};
use clients::loggregator::Emitter;
use kit::CancellationToken;
use kit::tls::Identity;
use router::{Certificate, Config, Handle, Router, Settings, Status};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
pub(crate) use testkit::nats::NatsServer as Nats;
pub(crate) use testkit::net::{free_port, unused_address};
pub(crate) use testkit::wait::{BOUND as PATIENCE, wait_for};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub(crate) struct World {
    pub(crate) nats: Option<Nats>,
    pub(crate) nats_port: u16,
    pub(crate) bus: async_nats::Client,
    pub(crate) addr: SocketAddr,
    pub(crate) https: SocketAddr,
    pub(crate) status: SocketAddr,
    pub(crate) handle: Handle,
    pub(crate) ca: Ca,
    pub(crate) shutdown: CancellationToken,
    pub(crate) running: JoinHandle<anyhow::Result<()>>,
    folder: tempfile::TempDir,
}

/// Returns the settings that a gorouter has by default, as far as they matter to tests of its sources of routes.
pub(crate) fn as_gorouter() -> Settings {
    Settings {
        compat_gorouter: true,
        keep_silent_tls_endpoints: true,
        keep_unregistered_routes: true,
        empty_pool_timeout: Duration::ZERO,
        empty_pool_503: false,
        suspend_pruning_if_nats_unavailable: false,
        max_attempts: 1,
        max_conns_per_endpoint: 0,
        max_idle_per_endpoint: 0,
        ..Settings::default()
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    pub(crate) async fn with(settings: Settings) -> Self {
        Self::streaming_to(Emitter::discard(), Ca::new(), settings).await
    }

    /// Starts a router that sends its `RTR` lines to `loggregator`.
    pub(crate) async fn streaming_to(loggregator: Emitter, ca: Ca, settings: Settings) -> Self {
        let port = free_port();
        let nats = Nats::start(port);
        Self::build(nats, Nats::config(port), loggregator, ca, settings).await
    }

    /// Starts a router on a bus of the test's own.
    pub(crate) async fn on(nats: Nats, bus: clients::nats::Config, settings: Settings) -> Self {
        Self::build(nats, bus, Emitter::discard(), Ca::new(), settings).await
    }

    /// Starts a router that also uses a Routing API.
    pub(crate) async fn with_routing_api(
        api: clients::routing_api::Config,
        settings: Settings,
    ) -> Self {
        let port = free_port();
        let (nats, bus) = (Nats::start(port), Nats::config(port));
        let sources = (bus, Some(api));
        Self::of(nats, sources, Emitter::discard(), Ca::new(), settings).await
    }

    async fn build(
        nats: Nats,
        bus: clients::nats::Config,
        loggregator: Emitter,
        ca: Ca,
        settings: Settings,
    ) -> Self {
        Self::of(nats, (bus, None), loggregator, ca, settings).await
    }

    async fn of(
        nats: Nats,
        (bus, routing_api): (clients::nats::Config, Option<clients::routing_api::Config>),
        loggregator: Emitter,
        ca: Ca,
        settings: Settings,
    ) -> Self {
        let nats_port = nats.port();
        let folder = tempfile::tempdir().unwrap();
        let bind = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
        let https = bind().await;
        let https_addr = https.local_addr().unwrap();
        let front = ca.issue(&["*.apps.test", "*.apps.identity"]);
        let config = Config {
            http: vec![bind().await],
            https: vec![https],
            certificates: vec![Certificate {
                cert_pem: front.cert_pem,
                key_pem: front.key_pem,
            }],
            status: Status {
                listener: bind().await,
                user: "status".into(),
                password: "secret".into(),
            },
            nats: bus.clone(),
            routing_api,
            backend_tls: ca.issue(&["router"]),
            access_log: Some(folder.path().join("access.log")),
            loggregator,
            settings: Settings {
                workers: 2,
                ..settings
            },
        };
        let router = Router::build(config).await.unwrap();
        let (addr, status, handle) = (router.addr(), router.status_addr(), router.handle());
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(router.run(shutdown.clone()));
        let bus = clients::nats::connect(&bus, "test", |_| std::future::ready(()))
            .await
            .unwrap();
        let world = Self {
            nats: Some(nats),
            nats_port,
            bus,
            addr,
            https: https_addr,
            status,
            handle,
            ca,
            shutdown,
            running,
            folder,
        };
        // The router answers greetings as soon as it receives registrations.
        wait_for("an answer to router.greet", async || {
            tokio::time::timeout(
                Duration::from_millis(200),
                world.bus.request("router.greet", "".into()),
            )
            .await
            .is_ok_and(|answer| answer.is_ok())
        })
        .await;
        wait_for("the router to be healthy", async || world.handle.healthy()).await;
        world
    }

    pub(crate) async fn publish(&self, subject: &'static str, message: serde_json::Value) {
        self.bus
            .publish(subject, message.to_string().into())
            .await
            .unwrap();
        self.bus.flush().await.unwrap();
    }

    /// Registers a plain endpoint of `app` and waits until the router has it.
    pub(crate) async fn register(&self, uri: &str, app: &str, index: u32, addr: SocketAddr) {
        self.publish("router.register", plain(uri, app, index, addr))
            .await;
        self.wait_for_endpoint(uri, addr).await;
    }

    pub(crate) async fn register_tls(&self, uri: &str, app: &str, san: &str, addr: SocketAddr) {
        self.publish("router.register", tls(uri, app, san, addr))
            .await;
        self.wait_for_endpoint(uri, addr).await;
    }

    /// Publishes a registration and waits until the router has counted it. The endpoint may already be pruned by then.
    pub(crate) async fn register_for_a_moment(&self, message: serde_json::Value) {
        let before = self.added();
        self.publish("router.register", message).await;
        wait_for("the registration", async || self.added() > before).await;
    }

    /// Returns the number of endpoints that were ever added.
    fn added(&self) -> u64 {
        let text = self.handle.metrics_text();
        let added = text
            .lines()
            .filter(|line| line.starts_with("registry_message{") && line.contains("\"added\""));
        added
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    }

    /// Unregisters a plain endpoint of `app` and waits until the router no longer picks it.
    pub(crate) async fn unregister(&self, uri: &str, app: &str, index: u32, addr: SocketAddr) {
        self.publish("router.unregister", plain(uri, app, index, addr))
            .await;
        wait_for("the endpoint to leave", async || {
            !self.has_endpoint(uri, addr).await
        })
        .await;
    }

    async fn has_endpoint(&self, uri: &str, addr: SocketAddr) -> bool {
        self.table().await[uri]
            .as_array()
            .is_some_and(|rows| rows.iter().any(|row| row["address"] == addr.to_string()))
    }

    async fn wait_for_endpoint(&self, uri: &str, addr: SocketAddr) {
        wait_for("the endpoint to be registered", async || {
            self.has_endpoint(uri, addr).await
        })
        .await;
    }

    pub(crate) async fn table(&self) -> serde_json::Value {
        // The credentials are status:secret.
        let reply = request(
            self.status,
            "GET",
            "router",
            "/routes",
            &[("authorization", "Basic c3RhdHVzOnNlY3JldA==")],
            "",
        )
        .await;
        assert_eq!(reply.status, 200);
        serde_json::from_slice(&reply.body).unwrap()
    }

    pub(crate) async fn get(&self, host: &str, path: &str) -> Reply {
        request(self.addr, "GET", host, path, &[], "").await
    }

    /// Returns what the backend saw of a request over TLS, with or without the identity's certificate. `names` are the name in
    /// the handshake and the one in the head.
    pub(crate) async fn dump_by_tls(
        &self,
        identity: Option<&Identity>,
        (sni, host): (&str, &str),
        xfcc: &str,
    ) -> std::io::Result<Reply> {
        let builder = kit::tls::trusting(kit::tls::Authorities::from_pem(&self.ca.pem).unwrap());
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder
                .with_client_auth_cert(
                    kit::tls::certs(&identity.cert_pem).unwrap(),
                    kit::tls::key(&identity.key_pem).unwrap(),
                )
                .unwrap(),
        };
        let stream = TcpStream::connect(self.https).await?;
        let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(sni.to_owned().try_into().unwrap(), stream)
            .await?;
        let headers = [("x-forwarded-client-cert", xfcc)];
        let answer = exchange(stream, "GET", host, "/dump", &headers, "").await;
        answer.map_err(std::io::Error::other)
    }

    /// Returns the lines of the access log once it holds `count`.
    pub(crate) async fn log_lines(&self, count: usize) -> Vec<String> {
        let path: PathBuf = self.folder.path().join("access.log");
        let read = || {
            std::fs::read_to_string(&path)
                .unwrap_or_default()
                .lines()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        wait_for("the access log", async || read().len() >= count).await;
        read()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

pub(crate) fn plain(uri: &str, app: &str, index: u32, addr: SocketAddr) -> serde_json::Value {
    serde_json::json!({
        "uris": [uri], "host": addr.ip(), "port": addr.port(), "app": app, "private_instance_id": format!("{app}-instance-{index}"),
        "private_instance_index": index.to_string(), "tags": {"component": "route-emitter", "process_id": app},
    })
}

pub(crate) fn tls(uri: &str, app: &str, san: &str, addr: SocketAddr) -> serde_json::Value {
    serde_json::json!({
        "uris": [uri], "host": addr.ip(), "port": 0, "tls_port": addr.port(), "app": app, "private_instance_id": san,
        "private_instance_index": "0", "server_cert_domain_san": san, "tags": {"component": "route-emitter"},
    })
}
