//! The state that serving needs: that of one thread, and that of all threads together. It is built by [`crate::life::router`] and
//! [`crate::life::workers`], and it starts nothing itself.

use crate::backend::{Connections, tls};
use crate::clock::{Clock, Timestamp};
use crate::config::{Lasting, Serving};
use crate::listen::window::Windows;
use crate::observe::access_log::AccessLog;
use crate::observe::envelopes::Envelopes;
use crate::observe::failures::Failures;
use crate::observe::feed::Feed;
use crate::observe::metrics::Metrics;
use crate::observe::trace::Tracer;
use crate::path::hold::Holds;
use crate::path::route_service::services::Services;
use anyhow::{Context as _, Result};
use http_sides::Http1;
use http_sides::buffers::Buffers;
use http_sides::drain::Drain;
use http_sides::heads::Heads;
use http_sides::stream::Stream;
use kit::CancellationToken;
use kit::readiness::{Need, Readiness};
use kit::tls::Identity;
use route_table::registry::Registry;
use rustls::ClientConfig;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use tokio_util::task::TaskTracker;

/// The state that all workers and tasks of one router share. A reload creates a new one with the same table, log and metrics.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) registry: Arc<Registry>,
    /// The changes of the table.
    pub(crate) feed: Arc<Feed>,
    /// The last requests that the router itself answered with an error.
    pub(crate) failures: Arc<Failures>,
    /// The settings of this generation of workers.
    pub(crate) settings: Serving,
    /// The settings that stay the same for the life of the process.
    pub(crate) lasting: Arc<Lasting>,
    pub(crate) access_log: Arc<AccessLog>,
    pub(crate) metrics: Arc<Metrics>,
    /// The traces of single requests, for those who ask for them.
    pub(crate) tracer: Arc<Tracer>,
    /// The sender of envelopes; `None`: nothing goes to metron.
    pub(crate) envelopes: Option<Arc<Envelopes>>,
    /// The TLS configurations for backends, by ALPN: `http/1.1` alone, and `h2` before `http/1.1`.
    pub(crate) tls_http1: Arc<ClientConfig>,
    pub(crate) tls_http2: Arc<ClientConfig>,
    pub(crate) route_services: Option<Services>,
    pub(crate) holds: Arc<Holds>,
    /// The health that `/health` reports: the router is up and is not about to stop.
    pub(crate) healthy: Arc<AtomicBool>,
    /// The needs of the router: its listeners and the bus.
    pub(crate) readiness: Readiness,
    pub(crate) bus_is_connected: Need,
    /// A token that is cancelled when the first connection may be accepted.
    pub(crate) started: CancellationToken,
    /// Whether another process accepts on our sockets.
    pub(crate) handed_over: AtomicBool,
    /// The router's id, `<index>-<uuid>`, as in `router.start`.
    pub(crate) id: String,
    pub(crate) reached: Reached,
}

/// The addresses at which others reach the listeners for requests; `None`: there is no such listener.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reached {
    pub(crate) http: Option<SocketAddr>,
    pub(crate) https: Option<SocketAddr>,
}

impl Shared {
    /// Returns the same router with another configuration.
    pub(crate) fn succeeded(&self, settings: Serving, backend_tls: &Identity) -> Result<Self> {
        let (tls_http1, tls_http2) = backend_configs(backend_tls, &settings)?;
        Ok(Self {
            registry: self.registry.clone(),
            feed: self.feed.clone(),
            failures: self.failures.clone(),
            access_log: self.access_log.clone(),
            metrics: self.metrics.clone(),
            tracer: self.tracer.clone(),
            envelopes: self.envelopes.clone(),
            tls_http1,
            tls_http2,
            route_services: Services::build(&settings, &backend_tls.ca_pem)
                .context("route services")?,
            holds: self.holds.clone(),
            healthy: self.healthy.clone(),
            readiness: self.readiness.clone(),
            bus_is_connected: self.bus_is_connected.clone(),
            started: self.started.clone(),
            handed_over: AtomicBool::new(false),
            id: self.id.clone(),
            reached: self.reached,
            lasting: self.lasting.clone(),
            settings,
        })
    }
}

/// Returns the TLS configurations for backends without and with HTTP/2.
pub(crate) fn backend_configs(
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

/// A serving thread: a current-thread runtime with backend connections of its own.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) connections: Connections,
    buffers: Arc<Buffers>,
    pub(crate) heads: Heads,
    /// The connections and tunnels that a drain waits for.
    pub(crate) tasks: TaskTracker,
    pub(crate) drain: Arc<Drain>,
    /// The windows of clients that speak HTTP/2.
    pub(crate) windows: Windows,
    clock: Mutex<Clock>,
    /// A buffer in which log lines are built.
    pub(crate) scratch: Mutex<Vec<u8>>,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            connections: Connections::new(&shared.settings),
            buffers: Arc::new(Buffers::new(shared.metrics.buffers_held.clone())),
            heads: Heads::default(),
            shared,
            tasks: TaskTracker::new(),
            drain: Arc::default(),
            windows: Windows::default(),
            clock: Mutex::default(),
            scratch: Mutex::default(),
        }
    }

    /// Returns the side of a connection that speaks HTTP/1, to a client or to a backend.
    pub(crate) fn http1(&self, stream: Stream) -> Http1 {
        let canonical = self.shared.lasting.compat_gorouter;
        Http1::new(self.buffers.clone(), stream, canonical)
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
