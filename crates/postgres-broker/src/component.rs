//! The component: what it is built of, and what runs.

use crate::address::Address;
use crate::api;
use crate::broker::Broker;
use crate::catalog::USER;
use crate::config::{Config, Registration, Server as Source};
use crate::dumps::Dumper;
use crate::metrics::Metrics;
use crate::programs::Programs;
use crate::register;
use crate::restore;
use crate::secrets::Secrets;
use crate::server::{self, Server};
use crate::storage;
use anyhow::{Context as _, Result};
use kit::CancellationToken;
use kit::backoff::Backoff;
use kit::metrics::{Observed, Registry};
use kit::readiness::Readiness;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// The time for which a request of the platform waits for a server that starts. The platform waits for a minute.
const PATIENCE: Duration = Duration::from_secs(15);

/// The broker, built: its socket is bound, and nothing runs.
#[derive(Debug)]
pub struct PostgresBroker {
    listener: TcpListener,
    addr: SocketAddr,
    url: String,
    broker: Broker,
    /// The server, if the broker runs one.
    server: Option<Server>,
    /// `None`: no program of PostgreSQL is installed, so no dumps are made.
    dumper: Option<Dumper>,
    registration: Option<Registration>,
    observed: Observed,
}

impl PostgresBroker {
    pub async fn build(config: Config) -> Result<Self> {
        let addr = config.listener.local_addr().context("read the address")?;
        let settings = config.settings;
        let secrets = Secrets::open(&settings.data_dir)?;
        let (mut registry, readiness) = (Registry::default(), Readiness::default());
        let metrics = Metrics::new(&mut registry, &readiness);
        let server = match &settings.server {
            Source::Own(own) => Some(Server::build(own, &secrets, metrics.clone())?),
            Source::Given(_) => None,
        };
        let admin = admin(&settings.server, &secrets);
        let broker = Broker::new(settings, admin, secrets, metrics, PATIENCE);
        let programs = match &server {
            Some(server) => Some(server.programs().clone()),
            None => Programs::find(None).ok().map(Programs::for_this_user),
        };
        if programs.is_none() {
            tracing::warn!(
                "no-dumps: the programs of PostgreSQL are not installed; `apt-get install postgresql-client` installs them"
            );
        }
        let dumper = programs.map(|programs| Dumper::new(broker.clone(), programs));
        Ok(Self {
            listener: config.listener,
            addr,
            url: config.url,
            dumper: dumper.transpose()?,
            broker,
            server,
            registration: config.registration,
            observed: Observed {
                metrics: Arc::new(registry),
                readiness,
            },
        })
    }

    /// Returns the metrics, and the readiness: PostgreSQL answers.
    pub fn observed(&self) -> Observed {
        self.observed.clone()
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the user and the password with which the platform calls the broker.
    pub fn credentials(&self) -> (String, String) {
        let password = self.broker.secrets().broker_password.clone();
        (USER.to_owned(), password)
    }

    /// Serves until `shutdown`. The server ends last.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let Self {
            listener,
            url,
            broker,
            server,
            dumper,
            registration,
            ..
        } = self;
        let served = kit::http::serve(
            listener,
            None,
            api::router(broker.clone()),
            shutdown.clone(),
        );
        let served = async {
            let ended = served.await;
            if ended.is_err() {
                shutdown.cancel();
            }
            ended
        };
        let server = async {
            let Some(server) = server else {
                watch_given(&broker, &shutdown).await;
                return Ok(());
            };
            let ended = server.run(shutdown.clone()).await;
            if ended.is_err() {
                shutdown.cancel();
            }
            ended
        };
        let upkeep = async {
            if !tidied(&broker, &shutdown).await {
                return;
            }
            tokio::join!(storage::run(&broker, &shutdown), async {
                if let Some(dumper) = &dumper {
                    dumper.run(&shutdown).await;
                }
            });
        };
        let registered = async {
            if let Some(registration) = &registration {
                register::run(&broker, &url, registration, &shutdown).await;
            }
        };
        let (served, server, (), ()) = tokio::join!(served, server, upkeep, registered);
        served.and(server)
    }
}

/// Returns how the administrator connects.
pub(crate) fn admin(source: &Source, secrets: &Secrets) -> Address {
    match source {
        Source::Own(own) => server::admin(own, secrets),
        Source::Given(address) => address.clone(),
    }
}

/// Removes what killed processes have left, as soon as the server answers. Returns whether that was before the shutdown.
async fn tidied(broker: &Broker, shutdown: &CancellationToken) -> bool {
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
    loop {
        match shutdown.run_until_cancelled(restore::tidy(broker)).await {
            None => return false,
            Some(Ok(())) => return true,
            Some(Err(error)) => tracing::debug!(%error, "not-tidied-yet"),
        }
        let pause = tokio::time::sleep(backoff.next_delay());
        if shutdown.run_until_cancelled(pause).await.is_none() {
            return false;
        }
    }
}

/// The interval at which a server that others run is asked whether it answers.
const PROBE: Duration = Duration::from_secs(10);

/// Reports whether a server that others run answers, until shutdown.
async fn watch_given(broker: &Broker, shutdown: &CancellationToken) {
    loop {
        let probed = async {
            let connected = broker.admin().connect_to_maintenance().await;
            broker.metrics().server.attempted(&connected);
            tokio::time::sleep(PROBE).await;
        };
        if shutdown.run_until_cancelled(probed).await.is_none() {
            return;
        }
    }
}
