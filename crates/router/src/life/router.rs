//! The parts of a router, before anything runs. [`crate::life::lifecycle`] starts, reloads and ends them.

use crate::config::{
    Certificate, Config, Lasting, Pages, PagesListener, Reload, Reserved, Serving, Status,
};
use crate::listen::Socket;
use crate::listen::front_tls::Handshakes;
use crate::observe::access_log::AccessLog;
use crate::observe::envelopes::Envelopes;
use crate::observe::feed::Feed;
use crate::observe::metrics::{Metrics, text};
use crate::observe::trace::Tracer;
use crate::observe::trace::exporter::Exporter;
use crate::path::route_service::services::Services;
use crate::worker::{Reached, Shared, backend_configs};
use anyhow::{Context as _, Result};
use clients::routing_api::RoutingApi;
use kit::CancellationToken;
use kit::metrics::{Observed, Page};
use kit::readiness::{Need, Readiness};
use route_table::registry::{self, Registry};
use rustls::ServerConfig;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{mpsc, oneshot};

/// Returns the TLS configuration of the HTTPS listeners; `None`: there is no HTTPS listener.
pub(crate) fn front_tls(
    https: bool,
    certificates: &[Certificate],
    settings: &Serving,
    lasting: &Lasting,
) -> Result<Option<Arc<Handshakes>>> {
    https
        .then(|| Handshakes::build(certificates, &settings.front_tls, lasting.http2))
        .transpose()
        .context("HTTPS of the router")
}

/// Returns the settings of the routing table.
fn table(lasting: &Lasting) -> registry::Settings {
    let stale_threshold = lasting.stale_threshold.max(lasting.start_delay);
    registry::Settings {
        stale_threshold,
        stale_tls_threshold: (!lasting.keep_silent_tls_endpoints).then_some(stale_threshold),
        empty_pool_timeout: lasting.empty_pool_timeout,
        keep_unregistered: lasting.keep_unregistered_routes,
        seed: rand::random(),
        balancing: lasting.balancing.clone(),
        components: lasting.component_hosts.clone(),
        expect_successor: if lasting.hold_timeout.is_zero() {
            Duration::ZERO
        } else {
            SUCCESSOR
        },
    }
}

/// A router whose sockets are bound and of which nothing runs yet.
#[derive(Debug)]
pub struct Router {
    pub(crate) shared: Arc<Shared>,
    pub(crate) fronts: Vec<(Socket, Option<Arc<Handshakes>>)>,
    pub(crate) pages: Vec<PagesSocket>,
    http_addr: SocketAddr,
    pub(crate) status: Status,
    status_addr: SocketAddr,
    pub(crate) nats: clients::nats::Config,
    /// A second source of routes; `None`: routes come from NATS alone.
    pub(crate) routing_api: Option<RoutingApi>,
    /// The sender of traces; `None`: no receiver is configured.
    pub(crate) exporter: Option<Exporter>,
    pub(crate) reloads: mpsc::Receiver<ReloadRequest>,
    reload: mpsc::Sender<ReloadRequest>,
    /// Whether the sockets also belong to another process, which serves the pages until this one is ready.
    pub(crate) inherited: bool,
}

/// A listener for some of the operator's pages. It can be cloned, so that the pages can be served again.
#[derive(Debug)]
pub(crate) struct PagesSocket {
    pub(crate) listener: std::net::TcpListener,
    pub(crate) pages: Pages,
    pub(crate) tls: Option<Arc<ServerConfig>>,
}

/// A new configuration, and the channel for the result.
pub(crate) type ReloadRequest = (Reload, oneshot::Sender<Result<()>>);

/// A handle that inspects a running router and reloads it.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) reloads: mpsc::Sender<ReloadRequest>,
}

impl Handle {
    /// Returns the number of uris in the table.
    pub fn routes(&self) -> usize {
        self.shared.registry.routes()
    }

    /// Returns whether the uri (`host` or `host/path`) has an endpoint.
    pub fn serves(&self, uri: &str) -> bool {
        let (host, path) = uri.split_once('/').unwrap_or((uri, ""));
        self.shared
            .registry
            .lookup(host, path)
            .is_some_and(|pool| !pool.is_empty())
    }

    /// Returns the number of requests that wait for a route whose instances are starting.
    pub fn held(&self) -> usize {
        self.shared.holds.len()
    }

    /// Returns whether the router accepts requests and does not drain.
    pub fn healthy(&self) -> bool {
        self.shared.healthy.load(Ordering::Relaxed)
    }

    pub fn metrics_text(&self) -> String {
        text::render(&self.shared)
    }

    /// Returns the metrics, and the readiness: the router accepts requests, and the bus keeps its table up to date.
    pub fn observed(&self) -> Observed {
        Observed {
            metrics: Arc::new(self.clone()),
            readiness: self.shared.readiness.clone(),
        }
    }
}

/// The page has the text of the router's own listener.
impl Page for Handle {
    fn text(&self) -> String {
        self.metrics_text()
    }
}

/// Returns the needs of a router, and that of the bus.
fn needs(healthy: Arc<AtomicBool>) -> (Readiness, Need) {
    let readiness = Readiness::default();
    readiness.check("the listeners", move || {
        let why = "they accept no new requests: the router is starting or draining";
        (!healthy.load(Ordering::Relaxed)).then(|| why.to_owned())
    });
    let bus = readiness.need("the message bus");
    (readiness, bus)
}

/// Returns the address at which others reach the listeners with or without TLS: the announced one, if a listener has it.
fn reached(sockets: &[(Socket, bool)], tls: bool, ip: IpAddr) -> Option<SocketAddr> {
    let alike = sockets.iter().filter(|(_, kind)| *kind == tls);
    let addresses: Vec<SocketAddr> = alike.filter_map(|(socket, _)| socket.addr().ok()).collect();
    let is_announced = |at: &&SocketAddr| at.ip() == ip || at.ip().is_unspecified();
    match addresses.iter().find(is_announced) {
        Some(at) => Some(SocketAddr::new(ip, at.port())),
        None => addresses.first().copied(),
    }
}

impl Router {
    pub async fn build(config: Config) -> Result<Self> {
        Self::build_with(config, Vec::new(), Vec::new()).await
    }

    /// Builds a router, some of whose addresses may be reserved only: nobody can connect to those before the start delay is over.
    /// Parts of the operator's pages may have listeners of their own.
    pub async fn build_with(
        config: Config,
        reserved: Vec<Reserved>,
        pages: Vec<PagesListener>,
    ) -> Result<Self> {
        anyhow::ensure!(
            !config.http.is_empty() || !config.https.is_empty() || !reserved.is_empty(),
            "the router has no listener: give it at least one HTTP or HTTPS address"
        );
        anyhow::ensure!(
            config.settings.workers > 0,
            "the router has 0 workers: give it at least 1"
        );
        let mut sockets = Vec::new();
        for (listeners, tls) in [(config.http, false), (config.https, true)] {
            for listener in listeners {
                let listener = listener
                    .into_std()
                    .context("hand a listener to the workers")?;
                sockets.push((Socket::Listening(listener), tls));
            }
        }
        sockets.extend(
            reserved
                .into_iter()
                .map(|r| (Socket::Bound(r.socket), r.tls)),
        );
        let http_addr = sockets[0]
            .0
            .addr()
            .context("address of the router's listener")?;
        let https = sockets.iter().any(|(_, tls)| *tls);
        let (lasting, settings) = config.settings.split();
        let reached = Reached {
            http: reached(&sockets, false, lasting.ip),
            https: reached(&sockets, true, lasting.ip),
        };
        let front_tls = front_tls(https, &config.certificates, &settings, &lasting)?;
        let fronts = sockets
            .into_iter()
            .map(|(socket, tls)| (socket, front_tls.clone().filter(|_| tls)))
            .collect();
        let table = table(&lasting);
        let (tls_http1, tls_http2) = backend_configs(&config.backend_tls, &settings)?;
        let envelopes = Envelopes::open(&lasting)?;
        let access_log = AccessLog::open(
            config.access_log.as_deref(),
            config.loggregator,
            envelopes.clone(),
            &lasting,
        )?;
        let id = format!("{}-{}", lasting.index, uuid::Uuid::new_v4());
        let exporting = lasting.otlp.as_ref().map(|otlp| Exporter::new(otlp, &id));
        let (queue, exporter) = exporting.transpose()?.unzip();
        let tracer = Tracer::new(&lasting, queue, access_log.has_app_streams());
        let healthy: Arc<AtomicBool> = Arc::default();
        let (readiness, bus_is_connected) = needs(healthy.clone());
        let shared = Arc::new(Shared {
            readiness,
            bus_is_connected,
            registry: Arc::new(Registry::new(table, Instant::now())),
            feed: Arc::new(Feed::new(SystemTime::now())),
            failures: Arc::default(),
            access_log: Arc::new(access_log),
            metrics: Arc::new(Metrics::new(&lasting, envelopes.clone())),
            tracer: Arc::new(tracer),
            envelopes,
            tls_http1,
            tls_http2,
            route_services: Services::build(&settings, &config.backend_tls.ca_pem)
                .context("route services")?,
            holds: Arc::default(),
            healthy,
            started: CancellationToken::new(),
            handed_over: AtomicBool::new(false),
            id,
            reached,
            lasting: Arc::new(lasting),
            settings,
        });
        let status_addr = config
            .status
            .listener
            .local_addr()
            .context("address of the status listener")?;
        let pages = pages
            .into_iter()
            .map(PagesSocket::new)
            .collect::<Result<_>>()?;
        let routing_api = config.routing_api.as_ref().map(RoutingApi::new);
        let (reload, reloads) = mpsc::channel(1);
        Ok(Self {
            shared,
            fronts,
            pages,
            http_addr,
            status: config.status,
            status_addr,
            nats: config.nats,
            routing_api: routing_api.transpose()?,
            exporter,
            reloads,
            reload,
            inherited: false,
        })
    }

    /// Marks the sockets as inherited from a process that serves on them until this router is ready. Before that, this router
    /// accepts nothing, not even on the listeners of the operator's pages.
    pub fn inheriting(mut self) -> Self {
        self.inherited = true;
        self
    }

    /// Returns the address of the first HTTP listener (of the first HTTPS listener when there is no other).
    pub fn addr(&self) -> SocketAddr {
        self.http_addr
    }

    pub fn status_addr(&self) -> SocketAddr {
        self.status_addr
    }

    pub fn handle(&self) -> Handle {
        Handle {
            shared: self.shared.clone(),
            reloads: self.reload.clone(),
        }
    }
}

/// The time for which requests wait for a route's next endpoint after its last one was unregistered, if they may wait at all. An
/// app that is restarted is away for less.
const SUCCESSOR: Duration = Duration::from_secs(2);

impl PagesSocket {
    fn new(from: PagesListener) -> Result<Self> {
        Ok(Self {
            listener: from.listener.into_std().context("keep a page listener")?,
            pages: from.pages,
            tls: from.tls,
        })
    }
}
