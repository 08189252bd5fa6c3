//! Builds and runs a rep.

use crate::cell::adopt;
use crate::cell::bulk;
use crate::cell::guard;
use crate::cell::inspection::Inspector;
use crate::cell::levels;
use crate::cell::policies;
use crate::cell::presence;
use crate::cell::server;
use crate::cell::{Cell, Parts, Settings};
use crate::config::Config;
use crate::files::set_mode;
use crate::handle::Handle;
use crate::identity::InstanceIssuer;
use crate::instance::record::containers_dir;
use crate::metrics::Metrics;
use crate::supply::assets::Assets;
use crate::supply::cache::Cache;
use crate::supply::transfer::Transfers;
use anyhow::{Context as _, Result};
use clients::locket;
use kit::CancellationToken;
use kit::backoff::Backoff;
use kit::metrics::{Observed, Registry};
use kit::readiness::{Need, Readiness};
use kit::tls::{ClientAuth, Identity};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::TcpListener;

/// How long shutdown waits for work that must not be interrupted half way.
const DETACH_LIMIT: Duration = Duration::from_secs(10);

/// A built rep: the work directory and programs are in place, and nothing runs.
#[derive(Debug)]
pub struct Rep {
    listener: TcpListener,
    addr: SocketAddr,
    identity: Identity,
    locket_url: String,
    policies_url: Option<String>,
    cell: Arc<Cell>,
    observed: Observed,
    needs: Needs,
}

/// The needs of a rep.
#[derive(Debug)]
struct Needs {
    /// The containers of an earlier rep are adopted.
    adopted: Need,
    /// The containers can be compared with the BBS.
    compared: Need,
    /// The BBS and the auctioneer find the cell.
    present: Need,
}

/// Returns the needs of a cell, and the readiness that consists of them.
fn needs(cell: &Arc<Cell>) -> (Needs, Readiness) {
    let readiness = Readiness::default();
    let needs = Needs {
        adopted: readiness.need("the containers of an earlier rep"),
        compared: readiness.need("garden and the BBS"),
        present: readiness.need("the presence at locket"),
    };
    let cell = cell.clone();
    readiness.check("the cell", move || {
        let why = "it is being emptied and accepts no work";
        cell.is_closed().then(|| why.to_owned())
    });
    (needs, readiness)
}

impl Rep {
    pub fn build(config: Config) -> Result<Self> {
        let dirs = containers_dir(&config.work_dir);
        std::fs::create_dir_all(&dirs)
            .with_context(|| format!("make directory {}", dirs.display()))?;
        // The directory holds private keys that containers must be able to read.
        set_mode(&config.work_dir, 0o700)?;
        let mut trusted = vec![config.instance_ca.cert_pem.as_str()];
        trusted.extend(config.trusted_ca_pems.iter().map(String::as_str));
        let assets = Assets::make(
            &config.work_dir,
            &config.inside,
            config.envoy.as_deref(),
            &trusted,
        )?;
        let transfers = Transfers::new(
            &config.identity,
            config.timing.transfer,
            config.work_dir.join("tmp"),
        )?;
        let mut registry = Registry::default();
        let cell = Cell::new(Parts {
            metrics: Metrics::new(&mut registry),
            bbs: clients::bbs::Client::new(config.bbs_url, &config.identity)?,
            garden: config.garden,
            loggregator: config.loggregator,
            issuer: InstanceIssuer::new(&config.instance_ca, config.instance_validity)?,
            inspector: Inspector::new(&config.identity)?,
            assets,
            cache: Cache::new(
                transfers,
                config.work_dir.join("cache"),
                dirs,
                config.cache_bytes,
            )?,
            settings: Settings {
                cell_id: config.cell_id,
                zone: config.zone,
                rep_url: config.rep_url,
                stacks: config.stacks,
                placement_tags: config.placement_tags,
                optional_placement_tags: config.optional_placement_tags,
                work_dir: config.work_dir,
                proxy: config.envoy.is_some(),
                router_ca_pem: config.router_ca_pem,
                route_integrity: config.route_integrity,
                timing: config.timing,
            },
        });
        let addr = config
            .listener
            .local_addr()
            .context("read the rep's address")?;
        let cell = Arc::new(cell);
        levels::add(&mut registry, &cell);
        let (needs, readiness) = needs(&cell);
        Ok(Self {
            observed: Observed {
                metrics: Arc::new(registry),
                readiness,
            },
            needs,
            listener: config.listener,
            addr,
            identity: config.identity,
            locket_url: config.locket_url,
            policies_url: config.policies_url,
            cell,
        })
    }

    /// Returns the metrics and the readiness of the cell.
    pub fn observed(&self) -> Observed {
        self.observed.clone()
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn handle(&self) -> Handle {
        Handle {
            cell: self.cell.clone(),
        }
    }

    /// Adopts existing containers, registers the cell's presence and accepts work. Returns after shutdown (containers keep
    /// running) or when an evacuation is done.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let Self {
            listener,
            identity,
            locket_url,
            policies_url,
            cell,
            needs,
            ..
        } = self;
        let tls = kit::tls::server_config(&identity, ClientAuth::Required, &["h2", "http/1.1"])?;
        let locket = locket::Client::new(locket_url, &identity)?;
        if !adopt_all(&cell, &shutdown).await {
            return Ok(());
        }
        needs.adopted.met();
        let ending = shutdown.child_token();
        let server = tokio::spawn(kit::http::serve(
            listener,
            Some(tls),
            cell.metrics
                .requests
                .clone()
                .count(server::router(cell.clone())),
            ending.clone(),
        ));
        let bulk = tokio::spawn(bulk::run(cell.clone(), needs.compared, ending.clone()));
        let repair = tokio::spawn(guard::repair(cell.clone(), ending.clone()));
        let refresh = tokio::spawn(guard::refresh(cell.clone(), ending.clone()));
        let following = policies_url.map(|url| {
            let (cell, identity) = (cell.clone(), identity.clone());
            tokio::spawn(policies::follow(cell, identity, url, ending.clone()))
        });
        let leave = CancellationToken::new();
        let presence = locket::Presence::cell(locket, &presence::cell_presence(&cell));
        let presence = tokio::spawn(presence.observed(needs.present).run(leave.clone()));
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = cell.evacuated.cancelled() => ending.cancel(),
        }
        cell.detach.cancel();
        if cell.closed.load(Ordering::SeqCst) {
            // The cell is empty, so others need not wait for its presence to expire.
            leave.cancel();
            let _ = presence.await;
        } else {
            // The instances keep running. The presence lives until its TTL ends; in this time a new rep may adopt them.
            presence.abort();
        }
        for watcher in [bulk, repair, refresh] {
            let _ = watcher.await;
        }
        if let Some(following) = following {
            following.abort();
        }
        cell.tasks.close();
        if tokio::time::timeout(DETACH_LIMIT, cell.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("garden-calls-unfinished-at-shutdown");
        }
        server.await.context("rep server task")?
    }
}

/// Adopts containers, and retries until garden answers. Returns `false` if shutdown came first.
async fn adopt_all(cell: &Arc<Cell>, shutdown: &CancellationToken) -> bool {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    loop {
        match adopt::adopt(cell).await {
            Ok(()) => return true,
            Err(error) => tracing::warn!(error = format!("{error:#}"), "containers-not-adopted"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return false,
            () = tokio::time::sleep(backoff.next_delay()) => {}
        }
    }
}
