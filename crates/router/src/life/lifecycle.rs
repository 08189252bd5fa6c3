//! A router's life: it gathers routes, opens its listeners, accepts new configurations, and drains at its end.
//!
//! ```text
//!  run ── start delay ──▶ workers ──reload──▶ new workers beside the old, which finish their requests
//!                            │
//!          shutdown: drain ──┤── health 503, drain_wait, listeners close, requests have drain_timeout
//!                hand over ──┘── another process accepts on the same sockets: listeners close at once, health stays
//! ```
//!
//! A reload never affects a request. Each set of workers has the settings, certificates and backend connections that it was
//! started with, so a connection that was made with an old identity is never used with a new one.

use crate::bus;
use crate::config::{Reload, Serving};
use crate::life::router::{Handle, PagesSocket, Router, front_tls};
use crate::life::thread;
use crate::life::workers::{Workers, spawn_workers};
use crate::listen::Front;
use crate::observe::feed::Source;
use crate::observe::pulse::pulse;
use crate::observe::registrations;
use crate::observe::status::{self, Page};
use crate::route_fetcher;
use crate::worker::Shared;
use anyhow::{Context as _, Result};
use kit::CancellationToken;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

impl Handle {
    /// Applies a new configuration; on failure the old one stays. Connections continue: requests in flight end as they began, and
    /// new connections get the new certificates and limits.
    pub async fn reload(&self, reload: Reload) -> Result<()> {
        let (done, outcome) = oneshot::channel();
        self.reloads
            .send((reload, done))
            .await
            .context("the router is about to end")?;
        outcome.await.context("the router is about to end")?
    }

    /// Waits until the router accepts connections.
    pub async fn started(&self) {
        self.shared.started.cancelled().await;
    }

    /// Records that another process accepts connections on the same sockets, so that the shutdown that follows waits for nothing
    /// but the requests in flight.
    pub fn hand_over(&self) {
        self.shared.handed_over.store(true, Ordering::Relaxed);
    }

    /// Opens the access log's file again, because it was renamed. No line is lost.
    pub fn reopen_access_log(&self) {
        self.shared.access_log.reopen();
    }

    /// Waits, for a second at most, until the access log is written.
    pub fn flush(&self) {
        self.shared.access_log.flush();
    }
}

impl Router {
    /// Serves until `shutdown`, then drains: during `drain_wait` only health checks fail; then no new connection is accepted, and
    /// requests in flight have `drain_timeout` to finish.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let delay = self.shared.lasting.start_delay;
        self.run_when(
            async move {
                tokio::time::sleep(delay).await;
                Ok(())
            },
            shutdown,
        )
        .await
    }

    /// Runs as [`Router::run`] does, but serves clients and load balancers from the moment that `open` is done instead of after
    /// the start delay. Nothing is accepted before that, also on sockets that another process listens on.
    pub async fn run_when(
        self,
        open: impl Future<Output = Result<()>>,
        shutdown: CancellationToken,
    ) -> Result<()> {
        let Self {
            shared,
            fronts,
            pages,
            status,
            nats,
            routing_api,
            exporter,
            mut reloads,
            inherited,
            ..
        } = self;
        // Control-plane tasks outlive the drain, so that routes stay right until the last request.
        let end = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let (own, until) = (shared.clone(), end.clone());
        let bus = thread::spawn("router-bus".into(), || bus::subscribe(own, nats, until))?;
        tasks.spawn(bus);
        if let Some(api) = routing_api {
            tasks.spawn(route_fetcher::run(shared.clone(), api, end.clone()));
        }
        if let Some(exporter) = exporter {
            tasks.spawn(exporter.run(end.clone()));
        }
        tasks.spawn(prune(shared.clone(), end.clone()));
        tasks.spawn(pulse(shared.clone(), end.clone()));
        let mut pages = PageServers::new(shared.clone(), status, pages)?;
        if !inherited {
            pages.start()?;
        }
        let mut generation = Generation::default();
        let outcome = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            opened = open => async {
                opened?;
                let sockets = fronts.into_iter().map(Front::open).collect::<Result<Vec<_>>>()?;
                generation.start(&shared, &sockets)?;
                pages.start()?;
                shared.healthy.store(true, Ordering::Relaxed);
                shared.started.cancel();
                tracing::info!(routes = shared.registry.routes(), "gorouter.started");
                loop {
                    tokio::select! {
                        () = shutdown.cancelled() => return Ok(()),
                        Some(ended) = tasks.join_next() => return unasked("a task of the router", ended),
                        ended = generation.ended() => return unasked("a worker of the router", ended),
                        Some((reload, done)) = reloads.recv() => {
                            let _ = done.send(reloaded(&mut generation, &mut pages, &sockets, reload));
                        }
                    }
                }
            }.await,
        };
        if shared.handed_over.load(Ordering::Relaxed) {
            tracing::info!("gorouter.handed-over");
            pages.end.cancel();
        } else {
            shared.healthy.store(false, Ordering::Relaxed);
            tracing::info!("gorouter.draining");
            if generation.is_running() {
                tokio::time::sleep(generation.settings(&shared).drain_wait).await;
            }
        }
        generation.finish(&shared).await;
        end.cancel();
        pages.stop().await;
        while tasks.join_next().await.is_some() {}
        shared.access_log.flush();
        if let Some(envelopes) = &shared.envelopes {
            envelopes.flush();
        }
        tracing::info!("gorouter.stopped");
        tracing::info!("gorouter.exited");
        outcome
    }
}

fn unasked(what: &str, ended: Result<Result<()>, tokio::task::JoinError>) -> Result<()> {
    let ended = ended.map_err(anyhow::Error::from).and_then(|result| result);
    ended.with_context(|| format!("{what} failed"))?;
    anyhow::bail!("{what} ended unasked")
}

/// The interval at which the table is searched for routes that were kept for their next endpoint.
const LEFT: Duration = Duration::from_secs(1);

/// The workers that accept, and those of earlier configurations that still have requests.
#[derive(Default)]
struct Generation {
    current: Option<(Arc<Shared>, Workers)>,
    retired: Vec<Workers>,
}

impl Generation {
    fn start(&mut self, shared: &Arc<Shared>, fronts: &[Front]) -> Result<()> {
        let fronts = fronts.iter().map(Front::try_clone).collect::<Result<_>>()?;
        let workers = spawn_workers(shared, fronts)?;
        if let Some((_, old)) = self.current.replace((shared.clone(), workers)) {
            old.stop.cancel();
            self.retired.push(old);
        }
        for workers in &mut self.retired {
            while workers.ended.try_join_next().is_some() {}
        }
        self.retired.retain(|workers| !workers.ended.is_empty());
        Ok(())
    }

    fn is_running(&self) -> bool {
        self.current.is_some()
    }

    /// Returns the newest settings.
    fn settings<'a>(&'a self, first: &'a Arc<Shared>) -> &'a Serving {
        let shared = self.current.as_ref().map_or(first, |(shared, _)| shared);
        &shared.settings
    }

    /// Returns when one of the workers that accept has ended.
    async fn ended(&mut self) -> Result<Result<()>, tokio::task::JoinError> {
        let Some((_, workers)) = &mut self.current else {
            return std::future::pending().await;
        };
        match workers.ended.join_next().await {
            Some(ended) => ended,
            None => std::future::pending().await,
        }
    }

    /// Stops accepting; requests that are left are cut off after `drain_timeout`.
    async fn finish(self, first: &Arc<Shared>) {
        let patience = self.settings(first).drain_timeout;
        let current = self.current.map(|(_, workers)| workers);
        let mut all: Vec<Workers> = self.retired.into_iter().chain(current).collect();
        for workers in &all {
            workers.stop.cancel();
        }
        let cut: Vec<CancellationToken> = all.iter().map(|w| w.cut.clone()).collect();
        let wait = async {
            for workers in &mut all {
                while workers.ended.join_next().await.is_some() {}
            }
        };
        tokio::pin!(wait);
        if tokio::time::timeout(patience, wait.as_mut()).await.is_err() {
            tracing::warn!("drain-timed-out");
            cut.iter().for_each(CancellationToken::cancel);
            wait.await;
        }
    }
}

/// The servers of the operator's pages. They can begin late, end early, and begin again with another certificate.
struct PageServers {
    shared: Arc<Shared>,
    status: (TcpListener, String, String),
    listeners: Vec<PagesSocket>,
    running: JoinSet<Result<()>>,
    end: CancellationToken,
}

impl PageServers {
    fn new(
        shared: Arc<Shared>,
        status: crate::config::Status,
        listeners: Vec<PagesSocket>,
    ) -> Result<Self> {
        let listener = status.listener.into_std();
        let listener = listener.context("keep the status listener")?;
        Ok(Self {
            shared,
            status: (listener, status.user, status.password),
            listeners,
            running: JoinSet::new(),
            end: CancellationToken::new(),
        })
    }

    /// Starts the servers, unless they run already.
    fn start(&mut self) -> Result<()> {
        if !self.running.is_empty() {
            return Ok(());
        }
        let (listener, user, password) = &self.status;
        let end = CancellationToken::new();
        let page = Page::new(self.shared.clone(), user, password, end.clone());
        let main = again(listener)?;
        self.running
            .spawn(status::serve(page.clone(), main, end.clone()));
        for PagesSocket {
            listener,
            pages,
            tls,
        } in &self.listeners
        {
            let served = status::serve_pages(
                page.clone(),
                again(listener)?,
                *pages,
                tls.clone(),
                end.clone(),
            );
            self.running.spawn(served);
        }
        self.end = end;
        Ok(())
    }

    async fn stop(&mut self) {
        self.end.cancel();
        while self.running.join_next().await.is_some() {}
    }

    /// Starts new servers. The running ones end by themselves; nothing waits for their connections.
    fn restart(&mut self) -> Result<()> {
        self.end.cancel();
        self.running.detach_all();
        self.start()
    }
}

fn again(listener: &TcpListener) -> Result<tokio::net::TcpListener> {
    let copy = listener.try_clone().context("share a page listener")?;
    tokio::net::TcpListener::from_std(copy).context("serve a page listener")
}

/// Applies a reload. Everything is built before anything changes.
fn reloaded(
    generation: &mut Generation,
    pages: &mut PageServers,
    fronts: &[Front],
    reload: Reload,
) -> Result<()> {
    let Some((old, _)) = &generation.current else {
        anyhow::bail!("the router does not serve yet: try again after its start delay");
    };
    let https = fronts.iter().any(|front| front.tls.is_some());
    let (_, settings) = reload.settings.split();
    let tls = front_tls(https, &reload.certificates, &settings, &old.lasting)?;
    let shared = Arc::new(old.succeeded(settings, &reload.backend_tls)?);
    let fronts = fronts
        .iter()
        .map(|front| front.try_clone_with(tls.clone()))
        .collect::<Result<Vec<_>>>()?;
    generation.start(&shared, &fronts)?;
    if reload.pages_tls.is_some() || reload.login.is_some() {
        if let Some(tls) = reload.pages_tls {
            for page in pages.listeners.iter_mut().filter(|page| page.tls.is_some()) {
                page.tls = tls.get(&page.pages).cloned().or(page.tls.take());
            }
        }
        if let Some((user, password)) = reload.login {
            (pages.status.1, pages.status.2) = (user, password);
        }
        pages.restart()?;
    }
    Ok(())
}

async fn prune(shared: Arc<Shared>, end: CancellationToken) -> Result<()> {
    let mut due = Instant::now() + shared.lasting.prune_interval;
    loop {
        let pause = due.saturating_duration_since(Instant::now());
        tokio::select! {
            () = end.cancelled() => return Ok(()),
            () = tokio::time::sleep(pause.min(LEFT)) => {}
        }
        let now = Instant::now();
        for uri in shared.registry.forget_left(now) {
            registrations::forgotten(&shared, Source::Pruner, &uri);
        }
        if now >= due {
            prune_once(&shared);
            due = now + shared.lasting.prune_interval;
        }
    }
}

fn prune_once(shared: &Shared) {
    if shared.registry.pruning_suspended() {
        tracing::info!("prune-suspended");
    }
    for pruned in shared.registry.prune(Instant::now()) {
        registrations::pruned(shared, pruned);
    }
}
