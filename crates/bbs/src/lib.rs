//! The BBS stores what should run (desired LRPs, tasks) and what runs (actual LRPs), and makes the second follow the first.
//! Locket runs in the same process: it knows who holds a lock and which cells are present.
//!
//! **Owns** the database `bbs` and the state in memory that is read from it when the BBS has its lock. **Woken by** calls of cloud-controller, reps
//! and the auctioneer (HTTP with protobuf bodies), by presences that come and go (gRPC), and by time. **Never** places an
//! instance (the auctioneer does), starts or stops a container (reps do), answers with or publishes anything that is not durable
//! yet, removes anything wanted by a domain that is not fresh, or logs the contents of a desired LRP or a task.
//!
//! ```text
//! api ─┐                                            ┌▶ hub ─▶ event streams
//!      ├▶ store (lock) ─▶ state ─▶ journal ─▶ writer ┤
//! convergence ┘         (core: lrp)        bbs.db ◀─┘└▶ effects ─▶ auctioneer, reps, task callbacks
//!      ▲
//! locket: presences
//! ```
//!
//! To add a call, define its message and path in `wire::bbs`, its decision in `lrp`, its effect in `state/`, and its route in
//! `api/`.

mod api;
mod census;
mod convergence;
mod convert;
mod db;
mod effects;
mod failure;
mod hub;
mod journal;
mod locket;
mod metrics;
mod ownership;
mod state;
mod store;
mod validate;

use anyhow::{Context as _, Result};
use convergence::Convergence;
use effects::Effects;
use hub::Hub;
use kit::CancellationToken;
use kit::db::{Database, Server};
use kit::metrics::{Level, Observed, Registry};
use kit::readiness::{Need, Readiness};
use kit::reconcile::LastPass;
use kit::tls::{ClientAuth, Identity, server_config};
use locket::Locket;
use metrics::{LocketMetrics, Metrics};
use ownership::Ownership;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use store::{Store, Writer};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use wire::locket::{Resource, TypeCode};

#[derive(Debug)]
pub struct Config {
    /// The listener of the BBS API (default port 8889).
    pub listener: TcpListener,
    /// The listener of Locket's gRPC API (default port 8891).
    pub locket_listener: TcpListener,
    /// The directory of `bbs.db`. It must exist.
    pub data_dir: PathBuf,
    /// The database server, whose schema `bbs` is used instead of the file. Several BBSs can wait on it to become the active one.
    pub database: Option<Server>,
    /// The certificate that is presented to clients, reps, the auctioneer and callback receivers alike.
    pub identity: Identity,
    /// The URL of the auctioneer, e.g. `https://127.0.0.1:9016`.
    pub auctioneer_url: String,
    /// The longest time between two passes of convergence ([`CONVERGENCE_INTERVAL`]).
    pub convergence_interval: Duration,
}

/// The default of [`Config::convergence_interval`]. Diego's BBS has the same.
pub const CONVERGENCE_INTERVAL: Duration = Duration::from_secs(30);

/// The time to live of the BBS's own lock. The next constant is the interval of its renewal.
const LOCK_TTL_SECONDS: i64 = 15;
const LOCK_RENEWAL: Duration = Duration::from_secs(5);

/// A BBS that is built but not running: the database is open, the listeners are bound.
#[derive(Debug)]
pub struct Bbs {
    config: Config,
    addr: SocketAddr,
    locket_addr: SocketAddr,
    database: Database,
    store: Arc<Store>,
    writer: Writer,
    hub: Arc<Hub>,
    effects: Effects,
    locket: Arc<Locket>,
    last_convergence: LastPass,
    metrics: Metrics,
    observed: Observed,
    lock_is_held: Need,
}

impl Bbs {
    /// Opens the database, and reads nothing of it. Must be called inside a tokio runtime.
    pub async fn build(config: Config) -> Result<Self> {
        let database = db::open(config.database.as_ref(), &config.data_dir).await?;
        let hub = Arc::new(Hub::default());
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let (store, writer) = store::open(database.clone(), hub.clone(), sender, metrics.clone());
        let locket = Locket::new(store.clone(), LocketMetrics::new(&mut registry));
        let locket = Arc::new(locket);
        census::read_store(&mut registry, &store);
        census::read_locket(&mut registry, &locket);
        let readiness = Readiness::default();
        let lock_is_held = readiness.need("the lock");
        let written = store.clone();
        readiness.check("the database", move || written.trouble());
        Ok(Self {
            metrics,
            observed: Observed {
                metrics: Arc::new(registry),
                readiness,
            },
            lock_is_held,
            addr: config
                .listener
                .local_addr()
                .context("address of the BBS listener")?,
            locket_addr: config
                .locket_listener
                .local_addr()
                .context("address of the locket listener")?,
            effects: Effects::build(receiver, &store, &config.identity, &config.auctioneer_url)?,
            locket,
            config,
            database,
            store,
            writer,
            hub,
            last_convergence: LastPass::default(),
        })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the metrics and the readiness of the BBS and of locket.
    pub fn observed(&self) -> Observed {
        self.observed.clone()
    }

    pub fn locket_addr(&self) -> SocketAddr {
        self.locket_addr
    }

    /// Returns the last pass of convergence: the `rows` that it wrote, and the `requests` that it sent to the auctioneer and to
    /// cells. It stays up to date while the BBS runs.
    pub fn last_convergence(&self) -> LastPass {
        self.last_convergence.clone()
    }

    /// Waits until no other BBS is active on the database, reads it, and serves until `shutdown`. It returns when requests in flight are answered and everything is on disk. It returns an error if
    /// something essential ended by itself; the process should then end.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let Self {
            config,
            database,
            store,
            writer,
            hub,
            effects,
            locket,
            last_convergence,
            metrics,
            lock_is_held,
            ..
        } = self;
        let bbs_tls = server_config(&config.identity, ClientAuth::Required, &["http/1.1"])?;
        let locket_tls = server_config(&config.identity, ClientAuth::Required, &["h2"])?;

        let listeners = [&config.listener, &config.locket_listener];
        let owned = ownership::wait(&database, listeners, &shutdown).await?;
        let Some(ownership) = owned.map(Arc::new) else {
            database.close().await;
            return Ok(());
        };
        let node_id = load(&database, &store, &locket).await?;
        // The writer outlives the servers, so that the last requests get their responses.
        let served = CancellationToken::new();
        let mut writer = tokio::spawn(writer.run(ownership.fence.clone(), served.clone()));
        hold_lock(&locket, &node_id).await?;
        metrics.master_elected.add(1);
        metrics.lock_held.set(1.0);
        lock_is_held.met();
        resume(&store).await?;

        let mut tasks = JoinSet::new();
        let api = api::routes(api::Bbs {
            store: store.clone(),
            hub: hub.clone(),
        });
        tasks.spawn(kit::http::serve(
            config.listener,
            Some(bbs_tls),
            metrics.requests.clone().count(api),
            shutdown.clone(),
        ));
        tasks.spawn(kit::http::serve(
            config.locket_listener,
            Some(locket_tls),
            locket::routes(locket.clone()),
            shutdown.clone(),
        ));
        tasks.spawn(done(effects.run(shutdown.clone())));
        let convergence = Convergence::new(last_convergence, metrics.clone());
        let convergence = Arc::new(convergence);
        tasks.spawn(done(convergence.clone().run(
            store.clone(),
            config.convergence_interval,
            shutdown.clone(),
        )));
        tasks.spawn({
            let (store, locket, shutdown) = (store.clone(), locket.clone(), shutdown.clone());
            async move { convergence.follow_cells(&store, &locket, shutdown).await }
        });
        tasks.spawn({
            let (locket, shutdown) = (locket.clone(), shutdown.clone());
            done(async move { locket.expire(shutdown).await })
        });
        tasks.spawn(renew_lock(
            ownership.clone(),
            locket.clone(),
            node_id.clone(),
            (metrics.lock_held, lock_is_held),
            shutdown.clone(),
        ));

        let ended = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            ended = tasks.join_next() => ended.map_or(Ok(()), |task| task.context("a BBS task panicked")?).and_then(|()| if shutdown.is_cancelled() { Ok(()) } else { anyhow::bail!("a BBS task ended early") }),
            written = &mut writer => written.context("the BBS writer panicked")?.and_then(|()| anyhow::bail!("the BBS writer ended early")),
        };
        shutdown.cancel();
        hub.close();
        while let Some(task) = tasks.join_next().await {
            task.context("a BBS task panicked")??;
        }
        if ended.is_ok() {
            let _ = locket.release(LOCK_KEY, &node_id).await;
            served.cancel();
            writer.await.context("the BBS writer panicked")??;
        }
        ownership.release().await;
        ended
    }
}

/// Reads the stored state into the store and into locket. Returns the name under which this BBS owns its lock in locket.
async fn load(database: &Database, store: &Store, locket: &Locket) -> Result<String> {
    let state = db::load(database).await?;
    let node_id = db::node_id(database).await?;
    let mut locks = db::load_locks(database).await?;
    // Whoever serves this database is the BBS, even under a new name.
    locks.retain(|(lock, _)| lock.key != LOCK_KEY || lock.owner == node_id);
    tracing::info!(
        desired_lrps = state.desired.len(),
        actual_lrps = state.slots().count(),
        tasks = state.tasks.len(),
        "bbs-loaded"
    );
    store.begin(state);
    locket.begin(locks);
    Ok(node_id)
}

const LOCK_KEY: &str = "bbs";

/// Acquires or renews the lock that names the active BBS.
async fn hold_lock(locket: &Locket, node_id: &str) -> Result<()> {
    let resource = Resource {
        key: LOCK_KEY.into(),
        owner: node_id.into(),
        value: String::new(),
        type_name: wire::locket::LOCK.into(),
        type_code: TypeCode::Lock as i32,
    };
    locket
        .lock(resource, LOCK_TTL_SECONDS)
        .await
        .map_err(|error| anyhow::anyhow!("acquire the lock {LOCK_KEY:?}: {error:?}"))
}

async fn renew_lock(
    ownership: Arc<Ownership>,
    locket: Arc<Locket>,
    node_id: String,
    (lock_held, need): (Level, Need),
    shutdown: CancellationToken,
) -> Result<()> {
    while shutdown
        .run_until_cancelled(tokio::time::sleep(LOCK_RENEWAL))
        .await
        .is_some()
    {
        ownership.renew().await?;
        // No other process can take the lock while this one serves locket.
        let held = hold_lock(&locket, &node_id).await;
        need.attempted(&held);
        lock_held.set(f64::from(held.is_ok()));
        if let Err(error) = held {
            tracing::warn!(error = format!("{error:#}"), "bbs-lock-not-renewed");
        }
    }
    Ok(())
}

/// Issues again the effects that were lost with the last process: auctions, and results that were not delivered.
async fn resume(store: &Store) -> Result<()> {
    let resumed = store.write("", |state, journal| {
        state.resume(journal);
        Ok(())
    });
    resumed
        .await
        .map_err(|failure: failure::Failure| anyhow::anyhow!(failure.message))
}

async fn done(task: impl Future<Output = ()>) -> Result<()> {
    task.await;
    Ok(())
}
