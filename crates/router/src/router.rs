//! The parts of a router, and the threads that serve. [`crate::lifecycle`] starts, reloads and ends them.

use crate::backend::{Connections, tls};
use crate::clock::{Clock, Timestamp};
use crate::config::{
    Certificate, Config, Lasting, Pages, PagesListener, Reserved, Serving, Status,
};
use crate::front_tls::Handshakes;
use crate::hold::Holds;
use crate::lifecycle::ReloadRequest;
use crate::listen::{self, Front, Socket, Windows};
use crate::observe::access_log::AccessLog;
use crate::observe::envelopes::Envelopes;
use crate::observe::metrics::Metrics;
use crate::route_service::Services;
use crate::side::buffers::Buffers;
use crate::side::drain::Drain;
use crate::side::heads::Heads;
use crate::thread;
use anyhow::{Context as _, Result};
use clients::routing_api::RoutingApi;
use kit::CancellationToken;
use kit::tls::Identity;
use routing::registry::{self, Registry};
use rustls::{ClientConfig, ServerConfig};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

/// The state that all workers and tasks of one router share. A reload creates a new one with the same table, log and metrics.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) registry: Arc<Registry>,
    /// The settings of this generation of workers.
    pub(crate) settings: Serving,
    /// The settings that stay the same for the life of the process.
    pub(crate) lasting: Arc<Lasting>,
    pub(crate) access_log: Arc<AccessLog>,
    pub(crate) metrics: Arc<Metrics>,
    /// The sender of envelopes; `None`: nothing goes to metron.
    pub(crate) envelopes: Option<Arc<Envelopes>>,
    /// The TLS configurations for backends, by ALPN: `http/1.1` alone, and `h2` before `http/1.1`.
    pub(crate) tls_http1: Arc<ClientConfig>,
    pub(crate) tls_http2: Arc<ClientConfig>,
    pub(crate) route_services: Option<Services>,
    pub(crate) holds: Arc<Holds>,
    /// The health that `/health` reports: the router is up and is not about to stop.
    pub(crate) healthy: Arc<AtomicBool>,
    /// A token that is cancelled when the first connection may be accepted.
    pub(crate) started: CancellationToken,
    /// Whether another process accepts on our sockets.
    pub(crate) handed_over: AtomicBool,
    /// The router's id, `<index>-<uuid>`, as in `router.start`.
    pub(crate) id: String,
}

impl Shared {
    /// Returns the same router with another configuration.
    pub(crate) fn succeeded(&self, settings: Serving, backend_tls: &Identity) -> Result<Self> {
        let (tls_http1, tls_http2) = backend_configs(backend_tls, &settings)?;
        Ok(Self {
            registry: self.registry.clone(),
            access_log: self.access_log.clone(),
            metrics: self.metrics.clone(),
            envelopes: self.envelopes.clone(),
            tls_http1,
            tls_http2,
            route_services: Services::build(&settings, &backend_tls.ca_pem)
                .context("route services")?,
            holds: self.holds.clone(),
            healthy: self.healthy.clone(),
            started: self.started.clone(),
            handed_over: AtomicBool::new(false),
            id: self.id.clone(),
            lasting: self.lasting.clone(),
            settings,
        })
    }
}

/// Returns the TLS configurations for backends without and with HTTP/2.
fn backend_configs(
    identity: &Identity,
    settings: &Serving,
) -> Result<(Arc<ClientConfig>, Arc<ClientConfig>)> {
    let terms = &settings.backend_terms;
    let with =
        |alpn: &[&str]| tls::backend_config(identity, settings.system_backend_cas, terms, alpn);
    let both = || Ok((with(&["http/1.1"])?, with(&["h2", "http/1.1"])?));
    let both: Result<_> = both();
    both.context("TLS identity of the router towards backends")
}

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

/// A serving thread: a current-thread runtime with backend connections of its own.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) connections: Connections,
    pub(crate) buffers: Buffers,
    pub(crate) heads: Heads,
    /// The connections and tunnels that a drain waits for.
    pub(crate) tasks: TaskTracker,
    pub(crate) drain: Drain,
    /// The windows of clients that speak HTTP/2.
    pub(crate) windows: Windows,
    clock: Mutex<Clock>,
    /// A buffer in which log lines are built.
    pub(crate) scratch: Mutex<Vec<u8>>,
}

impl Worker {
    fn new(shared: Arc<Shared>) -> Self {
        Self {
            connections: Connections::new(&shared.settings),
            buffers: Buffers::new(shared.metrics.buffers_held.clone()),
            heads: Heads::default(),
            shared,
            tasks: TaskTracker::new(),
            drain: Drain::default(),
            windows: Windows::default(),
            clock: Mutex::default(),
            scratch: Mutex::default(),
        }
    }

    /// Returns the time as a log line has it.
    pub(crate) fn timestamp(&self, at: SystemTime) -> Timestamp {
        self.clock().timestamp(at)
    }

    /// Returns the current time as `Date` has it.
    pub(crate) fn date(&self) -> [u8; 29] {
        self.clock().date(SystemTime::now())
    }

    fn clock(&self) -> MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        self.shared.metrics.render(&self.shared)
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
        let shared = Arc::new(Shared {
            registry: Arc::new(Registry::new(table, Instant::now())),
            access_log: Arc::new(access_log),
            metrics: Arc::new(Metrics::new(&lasting, envelopes.clone())),
            envelopes,
            tls_http1,
            tls_http2,
            route_services: Services::build(&settings, &config.backend_tls.ca_pem)
                .context("route services")?,
            holds: Arc::default(),
            healthy: Arc::default(),
            started: CancellationToken::new(),
            handed_over: AtomicBool::new(false),
            id: format!("{}-{}", lasting.index, uuid::Uuid::new_v4()),
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

/// The time that the last bytes have, after a drain's own time is over, to reach the clients that are still connected.
const FAREWELL: Duration = Duration::from_secs(1);

impl PagesSocket {
    fn new(from: PagesListener) -> Result<Self> {
        Ok(Self {
            listener: from.listener.into_std().context("keep a page listener")?,
            pages: from.pages,
            tls: from.tls,
        })
    }
}

/// The threads that serve with one configuration.
#[derive(Debug)]
pub(crate) struct Workers {
    /// The threads' results, one for each thread.
    pub(crate) ended: JoinSet<Result<()>>,
    /// A token that makes the threads accept nothing any more and end when their connections are done.
    pub(crate) stop: CancellationToken,
    /// A token that makes the threads end without waiting for their connections.
    pub(crate) cut: CancellationToken,
}

/// Starts the workers: each is a thread with a single-threaded runtime.
pub(crate) fn spawn_workers(shared: &Arc<Shared>, fronts: Vec<Front>) -> Result<Workers> {
    let mut workers = Workers {
        ended: JoinSet::new(),
        stop: CancellationToken::new(),
        cut: CancellationToken::new(),
    };
    for number in 0..shared.settings.workers {
        let fronts = fronts
            .iter()
            .map(Front::try_clone)
            .collect::<Result<Vec<_>>>()?;
        let (shared, stop, cut) = (shared.clone(), workers.stop.clone(), workers.cut.clone());
        let ended = thread::spawn(format!("router-{number}"), move || {
            run_worker(shared, fronts, stop, cut)
        })?;
        workers.ended.spawn(ended);
    }
    Ok(workers)
}

async fn run_worker(
    shared: Arc<Shared>,
    fronts: Vec<Front>,
    stop: CancellationToken,
    cut: CancellationToken,
) -> Result<()> {
    let worker = Arc::new(Worker::new(shared));
    let sweeper = tokio::spawn(sweep(worker.clone()));
    let mut accepting = JoinSet::new();
    for front in fronts {
        accepting.spawn(listen::accept(worker.clone(), front, stop.clone()));
    }
    let mut result = Ok(());
    tokio::select! {
        () = stop.cancelled() => worker.drain.begin(),
        Some(ended) = accepting.join_next() => result = ended.map_err(anyhow::Error::from).and_then(|r| r),
    }
    while let Some(ended) = accepting.join_next().await {
        result = result.and(ended.map_err(anyhow::Error::from).and_then(|r| r));
    }
    worker.tasks.close();
    worker.drain.begin();
    tokio::select! {
        () = worker.tasks.wait() => {}
        () = cut.cancelled() => {
            tracing::warn!(left = worker.tasks.len(), "requests-cut-off");
            worker.drain.end();
            let _ = timeout(FAREWELL, worker.tasks.wait()).await;
        }
    }
    sweeper.abort();
    worker.connections.close();
    result
}

/// Closes backend connections that were idle for too long.
async fn sweep(worker: Arc<Worker>) {
    let period = (worker.shared.settings.backend_idle_timeout / 4).max(Duration::from_millis(100));
    loop {
        tokio::time::sleep(period).await;
        worker.connections.sweep(Instant::now());
    }
}
