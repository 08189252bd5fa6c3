//! The component. It is built with its sockets bound and its schema migrated, and then it runs until shutdown.

use crate::bits::lifecycle::Bundle;
use crate::bits::store::{S3, Store};
use crate::change::Changes;
use crate::config::Config;
use crate::controller::{Cc, Settings, Shared};
use crate::db::Db;
use crate::diego::driver::{Driver, Platform};
use crate::diego::troubles::Troubles;
use crate::diego::usage::Usage;
use crate::metrics::Metrics;
use crate::receipts::Receipts;
use crate::sealing::Keyring;
use crate::seed::Seed;
use crate::turns::Turns;
use crate::{api, census, cleanup, diego, internal, jobs, secrets, seed};
use anyhow::{Context as _, Result};
use cc_rules::names::PlatformNames;
use clients::nats::Subscription;
use clients::uaa::{ResourceServer, TokenVerifier, VerifierConfig};
use kit::CancellationToken;
use kit::db::Location;
use kit::metrics::{Observed, Registry};
use kit::readiness::{Need, Readiness};
use kit::reconcile::{LastPass, Nudge};
use kit::tls::{ClientAuth, Identity};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

#[derive(Debug)]
pub struct CloudController {
    cc: Cc,
    addr: SocketAddr,
    internal_addr: SocketAddr,
    listener: TcpListener,
    internal_listener: TcpListener,
    identity: Identity,
    /// The subscription to the routers' receipts, if there is a bus.
    bus: Option<Subscription>,
    /// The rows that could not be created at the start because the disk had no room.
    unseeded: Option<Seed>,
    observed: Observed,
}

/// Opens the folder or the bucket of the blobs.
async fn open_blobs(data_dir: PathBuf, reserve: Option<u64>, bucket: Option<S3>) -> Result<Store> {
    let open = move || match bucket {
        Some(s3) => Store::in_bucket(&data_dir, reserve, &s3),
        None => Store::open(&data_dir, reserve),
    };
    tokio::task::spawn_blocking(open)
        .await
        .context("open the blob store")?
}

/// Returns the needs of the component, and that of the sync.
fn needs(db: &Db, blobs: &Store) -> (Readiness, Need) {
    let readiness = Readiness::default();
    let written = db.clone();
    readiness.check("the database", move || written.trouble());
    let stored = blobs.clone();
    readiness.check("the blob store", move || stored.trouble());
    let synced = readiness.need("the BBS");
    (readiness, synced)
}

impl CloudController {
    pub async fn build(config: Config) -> Result<Self> {
        let addr = config.listener.local_addr().context("read API address")?;
        let internal_addr = config
            .internal_listener
            .local_addr()
            .context("read internal API address")?;
        std::fs::create_dir_all(&config.data_dir)
            .with_context(|| format!("create data directory {}", config.data_dir.display()))?;
        let lifecycle = Arc::new(Bundle::build(&config.inside_binary)?);
        let file = config.data_dir.join("cloud-controller.db");
        let location = Location::new(config.database.as_ref(), "cloud_controller", file);
        let (db, writer) = Db::open(
            &location,
            Duration::from_secs(config.limits.read_seconds.into()),
        )
        .await?;
        let key_file = config
            .key_file
            .clone()
            .unwrap_or_else(|| config.data_dir.join(secrets::KEY_FILE));
        let keys = Keyring::load(&key_file)?;
        secrets::check(&db, &keys).await?;
        secrets::seal_clear(&db, &keys)
            .await
            .context("seal the variables of apps")?;
        let names = Arc::new(PlatformNames::new(
            &config.system_domain,
            &config.reserved_hosts,
        ));
        anyhow::ensure!(
            names.domain(&config.apps_domain, true).is_ok(),
            "the domain of apps, '{}', is a name of the platform; choose another",
            config.apps_domain
        );
        let seed = Seed::from(&config);
        let is_unseeded = seed::apply_or_postpone(&db, &seed)
            .await
            .context("seed the database")?;
        let blobs = open_blobs(config.data_dir.clone(), config.disk_reserve, config.bucket).await?;
        let bbs = clients::bbs::Client::new(&config.bbs_url, &config.identity)?;
        kit::tls::install_crypto();
        let platform = Platform {
            internal_url: trimmed(config.internal_url.clone()),
            api_url: trimmed(config.api_url.clone()),
            names: names.clone(),
            permits_ssh: config.app_ssh.is_some(),
            bound_egress: config.bound_egress,
        };
        let driver = Driver::new(db.clone(), bbs.clone(), platform, &lifecycle, keys.clone());
        let (cleanup, jobs) = (Nudge::default(), Nudge::default());
        let (receipts, bus) = Receipts::new(config.nats.as_ref())?;
        let emitter = config.loggregator;
        let mut registry = Registry::default();
        let (readiness, bbs_is_synced) = needs(&db, &blobs);
        let shared = Shared {
            metrics: Metrics::new(&mut registry),
            bbs_is_synced,
            changes: Changes::new(
                writer,
                driver.clone(),
                receipts.clone(),
                cleanup.clone(),
                jobs.clone(),
                emitter.clone(),
            ),
            driver,
            receipts,
            blobs,
            verifier: TokenVerifier::new(VerifierConfig {
                url: config.uaa_internal_url.clone(),
                audiences: &["cloud_controller", "cloud_controller_service_permissions"],
                resource_server: config.uaa_client.as_ref().map(|client| ResourceServer {
                    client_id: client.id.clone(),
                    secret: client.secret.clone(),
                }),
            })?,
            emitter,
            http: reqwest::Client::builder()
                .no_proxy()
                .timeout(Duration::from_secs(5))
                .build()
                .context("build HTTP client")?,
            brokers: osb::Client::new(config.brokers)
                .context("make the client of service brokers")?,
            seen_users: Mutex::default(),
            turns: Turns::default(),
            usage: Usage::default(),
            troubles: Troubles::default(),
            cleanup,
            jobs,
            ended_jobs: watch::Sender::new(0),
            last_sync: LastPass::default(),
            lifecycle,
            db,
            survey: survey::Survey {
                diego: survey::Diego::new(bbs.clone(), &config.identity)?,
                routers: config.routers,
                bus: config.nats.clone(),
                name_port: None,
            },
            bbs,
            settings: Settings {
                keys,
                api_url: trimmed(config.api_url),
                login_url: trimmed(config.login_url),
                uaa_url: trimmed(config.uaa_url),
                log_cache_url: trimmed(config.log_cache_url),
                uaa_internal_url: trimmed(config.uaa_internal_url),
                log_cache_internal_url: config.log_cache_internal_url.map(trimmed),
                uaa_client: config.uaa_client,
                dashboards: config.dashboards,
                app_ssh: config.app_ssh,
                internal_url: trimmed(config.internal_url),
                names,
                reserved_private_domains: config.reserved_private_domains,
                private_hosts_in_one_space: config.private_hosts_in_one_space,
                limits: config.limits,
                default_memory_mb: config.default_memory_mb.into(),
                default_disk_mb: config.default_disk_mb.into(),
                staging_memory_mb: config.staging_memory_mb.into(),
                staging_disk_mb: config.staging_disk_mb.into(),
                staging_timeout: config.staging_timeout,
                sync_interval: config.sync_interval,
                max_package_bytes: config.max_package_bytes,
                retention: config.retention,
            },
        };
        Ok(Self {
            cc: shared.into(),
            addr,
            internal_addr,
            listener: config.listener,
            internal_listener: config.internal_listener,
            identity: config.identity,
            unseeded: is_unseeded.then_some(seed),
            bus,
            observed: Observed {
                metrics: Arc::new(registry),
                readiness,
            },
        })
    }

    /// Returns the metrics, and the readiness: the component needs a database that accepts changes, and the BBS.
    pub fn observed(&self) -> Observed {
        self.observed.clone()
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn internal_addr(&self) -> SocketAddr {
        self.internal_addr
    }

    /// Returns the last sync with Diego: the processes that it `converged`, the LRPs that it `removed`, and the rows that it
    /// `skipped`. It stays up to date while the Cloud Controller runs.
    pub fn last_sync(&self) -> LastPass {
        self.cc.last_sync.clone()
    }

    /// Serves until `shutdown`, and then drains.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let tls =
            kit::tls::server_config(&self.identity, ClientAuth::Required, &["h2", "http/1.1"])?;
        let requests = self.cc.metrics.requests.clone();
        let public = kit::http::serve(
            self.listener,
            None,
            requests.count(api::router(self.cc.clone())),
            shutdown.clone(),
        );
        let internal = kit::http::serve(
            self.internal_listener,
            Some(tls),
            internal::router(self.cc.clone()),
            shutdown.clone(),
        );
        let seeded = async {
            if let Some(seed) = &self.unseeded {
                seed::keep_trying(&self.cc.db, seed, &shutdown).await;
            }
        };
        let receipts = async {
            if let Some(bus) = self.bus {
                self.cc.receipts.run(bus, &shutdown).await;
            }
        };
        let (public, internal, (), (), (), (), (), (), ()) = tokio::join!(
            public,
            internal,
            seeded,
            cleanup::run(&self.cc, &shutdown),
            jobs::run(&self.cc, &shutdown),
            secrets::run(&self.cc, &shutdown),
            census::run(&self.cc, &shutdown),
            receipts,
            diego::run(self.cc.clone(), shutdown.clone())
        );
        self.cc.db.close().await;
        public.and(internal)
    }
}

fn trimmed(url: String) -> String {
    url.trim_end_matches('/').to_owned()
}
