//! Building and running: threads that serve, tasks that keep the table, and an orderly end.

use crate::backend::{Connections, tls};
use crate::bus;
use crate::clock::{Clock, Timestamp};
use crate::config::{Config, PagesListener, Reserved, Settings, Status};
use crate::hold::Holds;
use crate::listen::{self, Front, Socket};
use crate::observe::access_log::AccessLog;
use crate::observe::metrics::Metrics;
use crate::observe::status::{self, Page};
use crate::route_service::Services;
use crate::side::buffers::Buffers;
use crate::side::drain::Drain;
use anyhow::{Context as _, Result};
use kit::CancellationToken;
use routing::registry::{self, Registry};
use rustls::ClientConfig;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

/// What all workers and tasks of one router share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) registry: Registry,
    pub(crate) settings: Settings,
    pub(crate) access_log: AccessLog,
    pub(crate) metrics: Metrics,
    /// For backends, by ALPN: `http/1.1`, and `h2` before it.
    pub(crate) tls_http1: Arc<ClientConfig>,
    pub(crate) tls_http2: Arc<ClientConfig>,
    pub(crate) route_services: Option<Services>,
    pub(crate) holds: Holds,
    /// `/health` says so: up, and not about to go.
    pub(crate) healthy: AtomicBool,
    /// `<index>-<uuid>`, as in `router.start`.
    pub(crate) id: String,
}

/// One serving thread: a current-thread runtime with backend connections of its own.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) connections: Connections,
    pub(crate) buffers: Buffers,
    /// Connections and tunnels that a drain waits for.
    pub(crate) tasks: TaskTracker,
    pub(crate) drain: Drain,
    clock: Mutex<Clock>,
    /// For a line in the making.
    pub(crate) scratch: Mutex<Vec<u8>>,
}

impl Worker {
    fn new(shared: Arc<Shared>) -> Self {
        Self {
            connections: Connections::new(&shared.settings),
            buffers: Buffers::new(shared.metrics.buffers_held.clone()),
            shared,
            tasks: TaskTracker::new(),
            drain: Drain::default(),
            clock: Mutex::default(),
            scratch: Mutex::default(),
        }
    }

    /// For a log line.
    pub(crate) fn timestamp(&self, at: SystemTime) -> Timestamp {
        self.clock().timestamp(at)
    }

    /// Now, for a `Date`.
    pub(crate) fn date(&self) -> [u8; 29] {
        self.clock().date(SystemTime::now())
    }

    fn clock(&self) -> MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A router with its sockets bound and nothing running.
#[derive(Debug)]
pub struct Router {
    shared: Arc<Shared>,
    fronts: Vec<(Socket, Option<Arc<rustls::ServerConfig>>)>,
    pages: Vec<PagesListener>,
    http_addr: SocketAddr,
    status: Status,
    status_addr: SocketAddr,
    nats: clients::nats::Config,
}

/// Looks into a running router.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Shared>);

impl Handle {
    /// Number of uris in the table.
    pub fn routes(&self) -> usize {
        self.0.registry.routes()
    }

    /// Whether the uri (`host` or `host/path`) has an endpoint.
    pub fn serves(&self, uri: &str) -> bool {
        let (host, path) = uri.split_once('/').unwrap_or((uri, ""));
        self.0
            .registry
            .lookup(host, path)
            .is_some_and(|pool| !pool.is_empty())
    }

    /// Requests that wait for a route whose instances are starting.
    pub fn held(&self) -> usize {
        self.0.holds.len()
    }

    /// Accepting requests, and not draining.
    pub fn healthy(&self) -> bool {
        self.0.healthy.load(Ordering::Relaxed)
    }

    pub fn metrics_text(&self) -> String {
        self.0.metrics.render(&self.0)
    }
}

impl Router {
    pub async fn build(config: Config) -> Result<Self> {
        Self::build_with(config, Vec::new(), Vec::new()).await
    }

    /// Some of the addresses may be reserved only: nobody can connect to them before the start delay is over. Parts of
    /// the operator's pages may stand on listeners of their own.
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
        let front_tls = if sockets.iter().any(|(_, tls)| *tls) {
            let Settings {
                front_tls, http2, ..
            } = &config.settings;
            Some(
                tls::server_config(&config.certificates, front_tls, *http2)
                    .context("HTTPS of the router")?,
            )
        } else {
            None
        };
        let fronts = sockets
            .into_iter()
            .map(|(socket, tls)| (socket, front_tls.clone().filter(|_| tls)))
            .collect();
        let settings = config.settings;
        let table = registry::Settings {
            stale_threshold: settings.stale_threshold.max(settings.start_delay),
            stale_tls_threshold: settings.stale_tls_threshold,
            empty_pool_timeout: settings.empty_pool_timeout,
            keep_unregistered: settings.keep_unregistered_routes,
            keep_balancing: settings.keep_route_options,
            seed: rand::random(),
            balancing: settings.balancing.clone(),
        };
        let shared = Arc::new(Shared {
            registry: Registry::new(table, Instant::now()),
            access_log: AccessLog::open(
                config.access_log.as_deref(),
                config.loggregator,
                &settings,
            )?,
            metrics: Metrics::default(),
            tls_http1: tls::backend_config(
                &config.backend_tls,
                settings.system_backend_cas,
                &["http/1.1"],
            )
            .context("TLS identity of the router towards backends")?,
            tls_http2: tls::backend_config(
                &config.backend_tls,
                settings.system_backend_cas,
                &["h2", "http/1.1"],
            )?,
            route_services: Services::build(&settings, &config.backend_tls.ca_pem)
                .context("route services")?,
            holds: Holds::default(),
            healthy: AtomicBool::new(false),
            id: format!("{}-{}", settings.index, uuid::Uuid::new_v4()),
            settings,
        });
        let status_addr = config
            .status
            .listener
            .local_addr()
            .context("address of the status listener")?;
        Ok(Self {
            shared,
            fronts,
            pages,
            http_addr,
            status: config.status,
            status_addr,
            nats: config.nats,
        })
    }

    /// The first HTTP listener (HTTPS when there is no other).
    pub fn addr(&self) -> SocketAddr {
        self.http_addr
    }

    pub fn status_addr(&self) -> SocketAddr {
        self.status_addr
    }

    pub fn handle(&self) -> Handle {
        Handle(self.shared.clone())
    }

    /// Serves until `shutdown`, then drains: for `drain_wait` only health checks fail, then no new connection is
    /// accepted and requests in flight have `drain_timeout` to finish.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let Self {
            shared,
            fronts,
            pages,
            status,
            nats,
            ..
        } = self;
        // Control-plane tasks outlive the drain, so that routes stay right until the last request.
        let end = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(bus::subscribe(shared.clone(), nats, end.clone()));
        for listener in pages {
            let page = Page::new(shared.clone(), &status);
            tasks.spawn(status::serve_pages(page, listener, end.clone()));
        }
        tasks.spawn(status::serve(shared.clone(), status, end.clone()));
        tasks.spawn(prune(shared.clone(), end.clone()));

        let stop_accepting = CancellationToken::new();
        let outcome = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            () = tokio::time::sleep(shared.settings.start_delay) => {
                let fronts = fronts.into_iter().map(Front::open).collect::<Result<Vec<_>>>()?;
                let mut workers = spawn_workers(&shared, fronts, &stop_accepting)?;
                shared.healthy.store(true, Ordering::Relaxed);
                tracing::info!(routes = shared.registry.routes(), "gorouter.started");
                let outcome = tokio::select! {
                    () = shutdown.cancelled() => Ok(()),
                    Some(ended) = tasks.join_next() => ended.map_err(anyhow::Error::from).and_then(|result| result).and(Err(anyhow::anyhow!("a task of the router ended unasked"))),
                    Some(ended) = workers.join_next() => ended.map_err(anyhow::Error::from).and_then(|result| result).and(Err(anyhow::anyhow!("a worker of the router ended unasked"))),
                };
                shared.healthy.store(false, Ordering::Relaxed);
                tracing::info!("gorouter.draining");
                tokio::time::sleep(shared.settings.drain_wait).await;
                stop_accepting.cancel();
                while workers.join_next().await.is_some() {}
                outcome
            }
        };
        end.cancel();
        while tasks.join_next().await.is_some() {}
        shared.access_log.flush();
        tracing::info!("gorouter.stopped");
        outcome
    }
}

/// For the last words of those who are still there when a drain's time is over.
const FAREWELL: Duration = Duration::from_secs(1);

/// A thread with a single-threaded runtime each; the returned tasks end with them.
fn spawn_workers(
    shared: &Arc<Shared>,
    fronts: Vec<Front>,
    stop: &CancellationToken,
) -> Result<JoinSet<Result<()>>> {
    let mut ended = JoinSet::new();
    for number in 0..shared.settings.workers {
        let fronts = fronts
            .iter()
            .map(Front::try_clone)
            .collect::<Result<Vec<_>>>()?;
        let (shared, stop) = (shared.clone(), stop.clone());
        let (done, result) = tokio::sync::oneshot::channel();
        std::thread::Builder::new()
            .name(format!("router-{number}"))
            .spawn(move || {
                let _ = done.send(run_worker(shared, fronts, stop));
            })
            .context("start a router thread")?;
        ended.spawn(async move {
            result
                .await
                .unwrap_or_else(|_| Err(anyhow::anyhow!("router thread {number} panicked")))
        });
    }
    Ok(ended)
}

fn run_worker(shared: Arc<Shared>, fronts: Vec<Front>, stop: CancellationToken) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("build a router thread's runtime")?;
    let drain = shared.settings.drain_timeout;
    let worker = Arc::new(Worker::new(shared));
    let result = runtime.block_on(async {
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
        if timeout(drain, worker.tasks.wait()).await.is_err() {
            tracing::warn!(left = worker.tasks.len(), "drain-timed-out");
            worker.drain.end();
            let _ = timeout(FAREWELL, worker.tasks.wait()).await;
        }
        sweeper.abort();
        worker.connections.close();
        result
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
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

async fn prune(shared: Arc<Shared>, end: CancellationToken) -> Result<()> {
    loop {
        tokio::select! {
            () = end.cancelled() => return Ok(()),
            () = tokio::time::sleep(shared.settings.prune_interval) => prune_once(&shared),
        }
    }
}

fn prune_once(shared: &Shared) {
    if shared.registry.pruning_suspended() {
        tracing::info!("prune-suspended");
    }
    for pruned in shared.registry.prune(Instant::now()) {
        shared.metrics.routes_pruned.add(1);
        let spec = pruned.endpoint.spec();
        tracing::info!(
            uri = pruned.uri,
            backend = pruned.endpoint.address(),
            application_id = spec.app_id,
            route_gone = pruned.route_gone,
            "pruned-route"
        );
    }
}
